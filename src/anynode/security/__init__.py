"""Keys, tokens, rules: certificate authority, service-account tokens, RBAC evaluation."""
