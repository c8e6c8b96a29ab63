"""CustomResourceDefinitions: a deleted one waits for its objects to go.

Source: apiextensions-apiserver ``pkg/registry/customresourcedefinition/etcd.go``, 1.36.
"""

from __future__ import annotations

from anynode.api.objects import Object, meta
from anynode.registry import definitions, deletion
from anynode.registry.store import ResourceStore

_MESSAGE = "CustomResourceDefinition marked for deletion; CustomResource deletion will begin soon"


class DefinitionStore(ResourceStore):
    """Marks a definition for deletion before anything else is decided of it."""

    def verdict(self, old: Object, options: deletion.DeleteOptions) -> deletion.Verdict:
        metadata = meta(old)
        if metadata.get("deletionTimestamp") is not None:
            return super().verdict(old, options)
        now = deletion.timestamp(self._clock.now())
        finalizers = list(metadata.get("finalizers") or ())
        if definitions.FINALIZER not in finalizers:
            finalizers.append(definitions.FINALIZER)
        marked = {**old, "metadata": {**metadata, "deletionTimestamp": now, "finalizers": finalizers}}
        said = definitions.with_condition(
            marked, definitions.TERMINATING, "True", "InstanceDeletionPending", _MESSAGE, now
        )
        return deletion.Marked(said, then_remove=False)
