"""Exec, attach and port-forward protocols: WebSocket channels and SPDY/3.1, sans-I/O inside, sessions outside."""
