"""The objects a new cluster begins with: roles and bindings, flow control, priority classes.

Source: ``data/bootstrap-objects.json``, read from a real kube-apiserver 1.36 right after its start.
"""

from __future__ import annotations

import functools
import importlib.resources
from collections.abc import Sequence
from typing import NamedTuple

import orjson

from anynode.api import resources
from anynode.api.objects import Object
from anynode.api.resources import Resource


class BootstrapObject(NamedTuple):
    """An object to create if it is missing, and the resource it belongs to."""

    resource: Resource
    obj: Object


@functools.cache
def objects() -> Sequence[BootstrapObject]:
    """Every bootstrap object, ``apiVersion`` and ``kind`` included, in the order to create them; shared."""
    text = importlib.resources.files("anynode.security").joinpath("data/bootstrap-objects.json").read_bytes()
    found = []
    for path, bodies in orjson.loads(text).items():
        _, _, group, version, plural = path.split("/")
        resource = resources.known(plural, group, version)
        head = {"kind": resource.kind, "apiVersion": resource.api_version}
        found += [BootstrapObject(resource, {**head, **body}) for body in bodies]
    return tuple(found)


def rules_of_role(name: str) -> Sequence[Object]:
    """The rules of a ClusterRole among the bootstrap objects."""
    return next(
        each.obj.get("rules") or ()
        for each in objects()
        if each.resource.plural == "clusterroles" and each.obj["metadata"]["name"] == name
    )
