"""What a valid object is: types, decoding, defaults, validation, merge rules. Pure: no I/O, clock or chance.

Belongs here: every rule that can be said of an object (or of an old and a new one) alone. Does not belong here: what
needs other objects or storage (``registry``, ``admission``).
"""
