"""Pod to node: snapshot, plugins as array arithmetic, queue, binding."""
