"""Service proxy: routing table (pure) and the TCP proxy that serves it."""
