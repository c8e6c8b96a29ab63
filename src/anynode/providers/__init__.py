"""What really runs pods, found by the entry point group anynode.providers."""
