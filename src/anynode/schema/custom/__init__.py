"""Custom resources: what a CustomResourceDefinition's schema says of its objects, and what may stand in a definition."""
