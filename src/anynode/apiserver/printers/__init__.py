"""Tables as ``kubectl get`` shows them: ``columns``, ``cells`` and ``conditions`` of every built-in kind, pure.

Objects and ``now`` come in, cells go out in upstream's words and order. Source: kubernetes
``pkg/printers/internalversion/printers.go``, 1.36.
"""

from anynode.apiserver.printers.table import cells, columns, conditions, no_rows

__all__ = ["cells", "columns", "conditions", "no_rows"]
