"""Who may change or refuse a write on its way: mutating, then validating steps."""
