"""Custom resources: what a definition's schema says of its objects, and what may stand in a definition."""
