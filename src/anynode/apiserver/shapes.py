"""The versions in which objects are served, for admission: which there are, and the way from one to the other.

Built-in kinds are kept in one stored shape; custom resources go through their definition's storage version. Source:
apiserver ``pkg/admission/conversion.go``, apimachinery ``pkg/runtime/mapper.go``, 1.36.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence

from anynode.api.objects import Object, ObjectKey
from anynode.api.resources import Resource, known
from anynode.apiserver.bodies import Bodies
from anynode.apiserver.served import Served
from anynode.registry import definitions
from anynode.registry.custom_store import CustomStore
from anynode.schema import applying, decode
from anynode.schema.shapes import LIST, LIST_MAP, SET, STRUCT, Shape, shapes

Find = Callable[[str, str, str], Served | None]
Lookup = Callable[[Resource, ObjectKey], Object | None]


class ServedShapes:
    """What admission knows as ``Shapes``."""

    def __init__(self, find: Find, everything: Callable[[], Iterable[Served]], bodies: Bodies, lookup: Lookup) -> None:
        """``everything``: the built-in resources served."""
        self._find = find
        self._everything = everything
        self._bodies = bodies
        self._lookup = lookup
        self._definitions = known("customresourcedefinitions", "apiextensions.k8s.io")

    def equivalents(self, resource: Resource, subresource: str) -> Sequence[Resource]:
        served = self._served(resource)
        if served is None:
            return ()
        if isinstance(served.store, CustomStore):
            others = self._versions(resource)
        else:
            prefix = served.kind.prefix
            others = [each.resource for each in self._everything() if each.kind.prefix == prefix]
        return [
            each
            for each in others
            if (each.group, each.version) != (resource.group, resource.version)
            and (not subresource or each.subresource(subresource) is not None)
        ]

    def _versions(self, resource: Resource) -> Sequence[Resource]:
        crd = self._lookup(self._definitions, ObjectKey("", resource.qualified))
        if crd is None:
            return ()
        found = (self._find(resource.group, each, resource.plural) for each in definitions.served_versions(crd))
        return [each.resource for each in found if each is not None]

    def _served(self, resource: Resource) -> Served | None:
        return self._find(resource.group, resource.version, resource.plural)

    async def shown(self, obj: Object, have: Resource, want: Resource) -> Object:
        served, wanted = self._served(have), self._served(want)
        if served is None or wanted is None:
            return obj
        if isinstance(served.store, CustomStore):
            return await _converted(obj, served.store, wanted.store)
        conversion = wanted.view.conversion
        return obj if conversion is None else conversion.to_served(obj)

    async def taken(
        self, obj: Object, have: Resource, want: Resource, kind: tuple[str, str, str], *, strict: bool = False
    ) -> Object:
        group, version, name = kind
        api_version = f"{group}/{version}" if group else version
        if not isinstance(obj, dict):
            raise ValueError("expected an object")
        said = (obj.get("apiVersion"), obj.get("kind"))
        if said != (api_version, name):
            raise ValueError(f"unable to decode {said[0]}, Kind={said[1]} into {api_version}, Kind={name}")
        custom = self._bodies.custom.get((api_version, name))
        try:
            made, unknown = self._bodies.try_checked(obj, api_version, name) if custom is None else custom.checked(obj)
        except decode.DecodeError as error:
            raise ValueError(str(error)) from error
        if strict and unknown:
            raise ValueError(f"strict decoding error: {', '.join(unknown)}")
        served, wanted = self._served(have), self._served(want)
        if served is None or wanted is None or kind != (have.group, have.version, have.kind):
            return made
        if isinstance(served.store, CustomStore):
            return await _converted(served.kind.rules.default(made), served.store, wanted.store)
        conversion = served.view.conversion
        return served.kind.rules.default(made if conversion is None else conversion.to_stored(made))

    def merged(self, live: Object, config: Object, kind: tuple[str, str, str]) -> Object:
        shape = self._shape(kind)
        if shape is None:
            raise ValueError(f"Resource kind {kind[0]}/{kind[1]}, Kind={kind[2]} not found.")
        wrong = applying.validate(shape, config)
        if wrong:
            said = wrong[0] if len(wrong) == 1 else "\n  ".join(("errors:", *wrong))
            raise ValueError(f"failed to convert patch object to typed object: {said}")
        atomic = whole_parts(shape, config, "")
        if atomic:
            why = f"may not mutate atomic arrays, maps or structs: {', '.join(atomic)}"
            raise ValueError(f"invalid ApplyConfiguration: {why}")
        made: Object = applying.merge(shape, live, config)
        return made

    def _shape(self, kind: tuple[str, str, str]) -> Shape | None:
        group, version, name = kind
        api_version = f"{group}/{version}" if group else version
        custom = self._bodies.custom.get((api_version, name))
        if custom is not None:
            return custom.owned_type.plain
        types = self._bodies.types
        type_name = types.of_kind(api_version, name)
        return shapes(types).of(type_name) if type_name else None


async def _converted(obj: Object, have: object, want: object) -> Object:
    """An object of one version of a custom resource in another."""
    if have is want or not isinstance(have, CustomStore) or not isinstance(want, CustomStore):
        return obj
    stored = await have.codec.to_storage(obj)
    return (await want.codec.converted([stored]))[0]


def whole_parts(shape: Shape, value: object, path: str) -> list[str]:
    """Where a config touches what is only ever replaced as a whole."""
    found: list[str] = []
    if isinstance(value, dict):
        if shape.whole:
            found.append(path)
        if shape.kind == STRUCT:
            for name, item in value.items():
                if name in shape.fields:
                    found += whole_parts(shape.fields[name][1], item, f"{path}.{name}")
    elif isinstance(value, list) and shape.kind in (LIST, LIST_MAP, SET):
        if shape.whole or shape.kind == LIST:
            found.append(path)
        for at, item in enumerate(value):
            if shape.element is not None:
                found += whole_parts(shape.element, item, f"{path}[{at}]")
    return found
