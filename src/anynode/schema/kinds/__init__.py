"""The rules of every built-in kind: defaults, what a client may set, what is valid, what may change.

Belongs here: what ``pkg/apis/<group>`` and ``pkg/registry/<group>/<kind>/strategy.go`` say of one kind, found through
``catalogue.rules_of``. Does not belong here: rules of all kinds alike (``schema.metadata``), rules that need other
objects (``registry``, ``admission``), JSON types and unknown fields (``schema.decode``).
"""
