"""One controller per file: desired state to actual state through the API alone."""
