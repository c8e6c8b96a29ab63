"""Speaking to any Kubernetes API server.

Belongs here: transports, credentials, typed calls. Does not belong here: caches (``informers``).
"""
