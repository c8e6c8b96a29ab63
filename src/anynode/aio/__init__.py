"""Asyncio parts that know nothing of Kubernetes: clock, tasks, channels, back-off, HTTP/1.1 and TLS plumbing."""
