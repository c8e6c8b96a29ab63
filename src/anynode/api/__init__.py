"""Kubernetes API machinery: pure, no asyncio, sockets, files at run time, clock or chance.

Belongs here: what parses or prints a Kubernetes format (objects, quantities, timestamps, selectors, patches, errors,
requests). Does not belong here: what is valid (``schema``), what a write means (``registry``), anything that waits.
"""
