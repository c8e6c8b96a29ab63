"""What one write means for one resource: the only writer, watch cache, per-resource behaviour."""
