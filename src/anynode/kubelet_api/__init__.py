"""What the API server calls on a node: logs, exec, attach, port-forward, pods, stats."""
