"""Custom resources converted by a webhook: one ``ConversionReview`` for any number of objects, and what it must say.

In: objects in other versions. Out: the same objects in the version asked for, their metadata as it was but for labels
and annotations. Every failure is an ``ApiError`` in upstream's words. Source: apiextensions-apiserver
``pkg/apiserver/conversion/webhook_converter.go``, 1.36.
"""

from __future__ import annotations

import random
import uuid
from collections.abc import Sequence
from typing import Any

import orjson

from anynode.admission.webhooks_client import CallFailed, ClientConfig
from anynode.api.go_text import go_type
from anynode.api.objects import Object, meta
from anynode.api.resources import GroupVersion
from anynode.apiserver.outbound import Outbound
from anynode.registry.custom_codecs import failed
from anynode.schema import fields, metadata

TIMEOUT_SECONDS = 30.0
GROUP = "apiextensions.k8s.io"


class WebhookConverter:
    """The webhook one definition names."""

    def __init__(self, conversion: Object, outbound: Outbound, chance: random.Random) -> None:
        """``conversion``: the definition's ``spec.conversion``."""
        webhook = conversion.get("webhook") or {}
        self._config = ClientConfig.of(webhook.get("clientConfig") or {})
        self._versions: Sequence[str] = webhook.get("conversionReviewVersions") or ()
        self._outbound = outbound
        self._random = chance

    async def convert(self, objects: Sequence[Object], api_version: str, said: str) -> Sequence[Object]:
        """``objects`` in ``api_version``; ``said`` names them in a failure. Raises ``ApiError``."""
        version = next((each for each in self._versions if each in ("v1", "v1beta1")), None)
        if version is None:
            raise failed("no supported conversion review versions")
        uid = str(uuid.UUID(int=self._random.getrandbits(128), version=4))
        review = {
            "kind": "ConversionReview",
            "apiVersion": f"{GROUP}/{version}",
            "request": {"uid": uid, "desiredAPIVersion": api_version, "objects": list(objects)},
        }
        try:
            answer = await self._outbound.post_json(self._config, orjson.dumps(review), TIMEOUT_SECONDS)
            found = _objects_of(answer, version, uid)
        except (CallFailed, _Refused) as error:
            raise failed(f"conversion webhook for {said} failed: {error}") from error
        if len(found) != len(objects):
            raise failed(f"conversion webhook for {said} returned {len(found)} objects, expected {len(objects)}")
        return [self._checked(old, new, api_version, said) for old, new in zip(objects, found, strict=True)]

    def _checked(self, old: Object, new: Any, api_version: str, said: str) -> Object:
        """A converted object with the metadata it had; raises ``ApiError`` for one that is not what was asked for."""
        invalid = f"conversion webhook for {said} returned invalid object"
        if not isinstance(new, dict):
            raise failed(f"{invalid} at index 0: invalid type")
        wanted, got = GroupVersion.parse(api_version), GroupVersion.parse(str(new.get("apiVersion") or ""))
        if wanted != got:
            raise failed(f"{invalid} at index 0: invalid groupVersion (expected {wanted}, received {got})")
        if old["kind"] != new.get("kind"):
            kinds = f"(expected {old['kind']}, received {new.get('kind') or ''})"
            raise failed(f"{invalid} at index 0: invalid kind {kinds}")
        given = new.get("metadata")
        for field, word in (("name", "name"), ("namespace", "namespace"), ("uid", "UID")):
            before, after = meta(old).get(field) or "", (given if isinstance(given, dict) else {}).get(field) or ""
            if before != after:
                raise failed(f"{invalid}: must have the same {word}: {before} != {after}")
        try:
            return {**new, "metadata": _restored(meta(old), new)}
        except _Refused as error:
            raise failed(f"conversion webhook for {said} returned invalid metadata: {error}") from error


class _Refused(Exception):
    """What a webhook said cannot be used."""


def _objects_of(answer: bytes, version: str, uid: str) -> Sequence[Any]:
    """The converted objects of an answer; raises ``_Refused``."""
    try:
        review = orjson.loads(answer)
    except orjson.JSONDecodeError as error:
        raise _Refused(f"couldn't get version/kind; json parse error: {error}") from error
    if not isinstance(review, dict):
        raise _Refused("couldn't get version/kind; json parse error")
    if version == "v1":
        wanted = f"{GROUP}/v1, Kind=ConversionReview"
        got = f"{review.get('apiVersion') or ''}, Kind={review.get('kind') or ''}"
        if wanted != got:
            raise _Refused(f"expected webhook response of {wanted}, got {got}")
    response = review.get("response")
    if not isinstance(response, dict):
        raise _Refused("no response provided")
    if version == "v1" and response.get("uid") != uid:
        raise _Refused(f'expected response.uid="{uid}", got "{response.get("uid") or ""}"')
    result = response.get("result")
    result = result if isinstance(result, dict) else {}
    if result.get("status") != "Success":
        said = f"response.result.status was '{result.get('status') or ''}', not 'Success'"
        raise _Refused(str(result.get("message") or said))
    objects = response.get("convertedObjects")
    return objects if isinstance(objects, list) else ()


def _restored(before: Object, converted: Object) -> Object:
    """The metadata there was with the labels and annotations the webhook gave; raises ``_Refused``."""
    if "metadata" not in converted:
        raise _Refused("missing metadata in converted object")
    given = converted["metadata"]
    if not isinstance(given, dict):
        raise _Refused(f"invalid metadata of type {go_type(given)} in converted object")
    kept = {field: value for field, value in before.items() if field not in ("labels", "annotations")}
    for field in ("labels", "annotations"):
        values = given.get(field)
        if values is None:
            continue
        if not isinstance(values, dict):
            raise _Refused(f"invalid metadata.{field} of type {go_type(values)} in converted object")
        for key, value in values.items():
            if not isinstance(value, str):
                said = f"metadata.{field}[{key}] must be a string, but is {go_type(value)} in converted object"
                raise _Refused(said)
        if values != (before.get(field) or {}):
            found = _wrong(field, values)
            if found:
                raise _Refused(found)
        kept[field] = values
    return kept


def _wrong(field: str, values: Object) -> str:
    path = fields.FieldPath("metadata.labels" if field == "labels" else "metadata.annotation")
    rule = metadata.validate_labels if field == "labels" else metadata.validate_annotations
    found = [f"{error.field}: {error.message}" for error in rule(values, path)]
    return found[0] if len(found) == 1 else f"[{', '.join(found)}]" if found else ""
