"""One file per controller: what is wished for in, writes through the API out.

Each has a pure ``plan_...`` part (objects and ``now`` in, decisions out) and a thin reconcile around it. They speak to
any Kubernetes API server through ``client`` and ``informers``, and never to each other.
"""
