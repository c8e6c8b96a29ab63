"""From bytes to a decision and back: pipeline, reads, writes, discovery, connect, HTTP and loopback listeners."""
