"""Benchmarks: one per row of the speed table, each against ``anynode up`` in its own process with TLS."""
