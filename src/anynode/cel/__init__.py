"""CEL as Kubernetes speaks it: parsed, checked, priced and evaluated. No I/O, no clock; nothing is mutated."""
