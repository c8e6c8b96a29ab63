"""Revisioned key-value storage with watch: the protocol and its engines.

Belongs here: keys, bytes, revisions. Does not belong here: what the bytes mean.
"""
