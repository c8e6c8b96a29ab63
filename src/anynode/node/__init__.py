"""What makes a process a node: registration, lease, and the life of its pods."""
