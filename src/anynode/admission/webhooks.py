"""Mutating and validating webhooks: who is asked about a write, in which order, and what becomes of the answers.

Configurations come in as they are stored (``Webhooks.put``, ``remove``) and hold from then on. Without any, a write
pays for one look at an empty tuple. Source: apiserver ``pkg/admission/plugin/webhook/{generic,mutating,validating}``,
``pkg/admission/configuration``, 1.36.
"""

from __future__ import annotations

import asyncio
import logging
import random
import uuid
from collections.abc import Mapping, Sequence
from typing import Any

import orjson

from anynode.admission.chain import Attributes, Lookup, Plugin
from anynode.admission.expressions import Conditions, Evaluator
from anynode.admission.matching import ALL_KINDS, Criteria, Index, Shapes
from anynode.admission.webhooks_client import Caller, CallFailed, ClientConfig
from anynode.admission.webhooks_review import Answer, BadAnswer, answer_of, refusal, request_of, review, version_of
from anynode.api import errors, objects, patches
from anynode.api.objects import Object, name_of
from anynode.api.resources import Resource
from anynode.schema import decode, metadata
from anynode.schema.fields import FieldPath
from anynode.schema.kinds.admissionregistration_webhooks import DEFAULT_TIMEOUT_SECONDS

logger = logging.getLogger(__name__)

HARMLESS = ("None", "NoneOnDryRun")
_OWNERS = FieldPath(".metadata.managedFields")


class WebhookFailed(Exception):
    """A webhook gave no verdict; its failure policy says what that means."""


class Webhook:
    """One webhook of a configuration, ready to be asked."""

    def __init__(self, configuration: str, position: int, wire: Object) -> None:
        self.configuration = configuration
        self.name = str(wire.get("name") or "")
        self.uid = f"{configuration}/{self.name}/{position}"
        self.criteria = Criteria(wire, rules="rules")
        self.client = ClientConfig.of(wire.get("clientConfig") or {})
        self.ignores_failure = wire.get("failurePolicy") == "Ignore"
        self.harmless = wire.get("sideEffects") in HARMLESS
        self.timeout_seconds = int(wire.get("timeoutSeconds") or DEFAULT_TIMEOUT_SECONDS)
        self.reinvocable = wire.get("reinvocationPolicy") == "IfNeeded"
        self.version = version_of(wire)
        conditions = wire.get("matchConditions") or ()
        self.conditions = (
            Conditions(conditions, ignores_failure=self.ignores_failure, params=False) if conditions else None
        )


class Webhooks:
    """All webhooks of one kind of configuration, in the order of their configurations' names."""

    def __init__(self, shapes: Shapes) -> None:
        self.index: Index[Webhook] = Index(shapes, ALL_KINDS)
        self._configurations: dict[str, Sequence[Webhook]] = {}

    def put(self, configuration: Object) -> None:
        """Take a configuration, new or changed."""
        name = name_of(configuration)
        hooks = configuration.get("webhooks") or ()
        self._configurations[name] = [Webhook(name, at, wire) for at, wire in enumerate(hooks)]
        self._arrange()

    def remove(self, configuration: Object) -> None:
        self._configurations.pop(name_of(configuration), None)
        self._arrange()

    def _arrange(self) -> None:
        ordered = sorted(self._configurations)
        self.index.replace(hook for name in ordered for hook in self._configurations[name])


class _Dispatcher(Plugin):
    """What both plugins have in common."""

    operations = frozenset({"CREATE", "UPDATE", "DELETE", "CONNECT"})

    def __init__(
        self,
        webhooks: Webhooks,
        *,
        caller: Caller,
        lookup: Lookup,
        shapes: Shapes,
        evaluator: Evaluator,
        chance: random.Random,
    ) -> None:
        self._webhooks = webhooks
        self._caller = caller
        self._lookup = lookup
        self._shapes = shapes
        self._evaluator = evaluator
        self._chance = chance

    async def _meant(self, hook: Webhook, resource: Resource, attributes: Attributes) -> bool:
        """Whether the webhook's own conditions let it be asked; raises ``Forbidden`` when they fail."""
        if hook.conditions is None:
            return True
        obj, old = await self._objects(attributes, resource)
        inputs = self._evaluator.inputs(attributes, resource, obj, old)
        met = hook.conditions.met(inputs)
        if met.error:
            raise errors.forbidden(attributes.resource, attributes.request_name, met.error)
        return met.matches

    async def _objects(self, attributes: Attributes, resource: Resource) -> tuple[Object | None, Object | None]:
        """The new and the old object as clients of ``resource`` see them."""
        if attributes.kind != (attributes.resource.group, attributes.resource.version, attributes.resource.kind):
            return attributes.obj, attributes.old
        have = attributes.resource
        obj, old = attributes.obj, attributes.old
        return (
            None if obj is None else await self._shapes.shown(obj, have, resource),
            None if old is None else await self._shapes.shown(old, have, resource),
        )

    async def _asked(self, hook: Webhook, resource: Resource, attributes: Attributes, *, mutating: bool) -> Answer:
        """The webhook's verdict. Raises ``WebhookFailed``, or ``ApiError`` for what no failure policy covers."""
        if attributes.dry_run and not hook.harmless:
            raise errors.BadRequest(f'admission webhook "{hook.name}" does not support dry run')
        if not hook.version:
            why = "webhook does not accept known AdmissionReview versions (v1, v1beta1)"
            raise WebhookFailed(f"could not create admission objects: {why}")
        uid = str(uuid.UUID(int=self._chance.getrandbits(128), version=4))
        obj, old = await self._objects(attributes, resource)
        body = review(hook.version, uid, request_of(attributes, resource), obj, old)
        try:
            answered = await self._caller.post_json(hook.client, body, hook.timeout_seconds)
        except CallFailed as error:
            raise WebhookFailed(f"failed to call webhook: {error}") from error
        try:
            answer = answer_of(answered, hook.version, uid, mutating=mutating)
        except BadAnswer as error:
            what = "failed to call webhook" if error.undecodable else "received invalid webhook response"
            raise WebhookFailed(f"{what}: {error}") from error
        for key, value in answer.audit.items():
            attributes.audit[f"{hook.name}/{key}"] = value
        attributes.warnings.extend(answer.warnings)
        return answer


class MutatingWebhooks(_Dispatcher):
    """Asks one after the other; each sees what those before it made of the object."""

    name = "MutatingAdmissionWebhook"

    async def admit(self, attributes: Attributes) -> Object | None:
        concerned = self._webhooks.index.concerned(attributes)
        if not concerned:
            return attributes.obj
        memory = attributes.memory.setdefault(self.name, _Memory())
        assert isinstance(memory, _Memory)
        if attributes.reinvoked and memory.last != attributes.obj:
            memory.require_reinvocation()
        for position, (hook, targets) in enumerate(concerned):
            resource = hook.criteria.chosen(targets, attributes, self._lookup)
            if resource is None or not await self._meant(hook, resource, attributes):
                continue
            if attributes.reinvoked and hook.uid not in memory.again:
                continue
            await self._call(hook, resource, attributes, memory, position)
        memory.last = attributes.obj
        return attributes.obj

    async def _call(
        self, hook: Webhook, resource: Resource, attributes: Attributes, memory: _Memory, position: int
    ) -> None:
        before, failure = attributes.obj, None
        try:
            await self._mutate(hook, resource, attributes)
        except WebhookFailed as error:
            failure = error
        changed = attributes.obj != before
        _note_mutation(attributes, hook, position, changed=changed)
        if changed:
            memory.require_reinvocation()
            attributes.wants_reinvocation = attributes.wants_reinvocation or not attributes.reinvoked
        if hook.reinvocable:
            memory.invoked[hook.uid] = None
        if failure is not None:
            _bear(hook, failure, attributes, _mutation_note(attributes, position))

    async def _mutate(self, hook: Webhook, resource: Resource, attributes: Attributes) -> None:
        answer = await self._asked(hook, resource, attributes, mutating=True)
        if not answer.allowed:
            raise refusal(hook.name, answer.result)
        operations = _operations(answer)
        if not operations:
            return
        if attributes.obj is None:
            said = "attempted to modify the object, which is not supported for this operation"
            raise internal(f'admission webhook "{hook.name}" {said}')
        if answer.patch_type != "JSONPatch":
            raise WebhookFailed(f'unsupported patch type "{answer.patch_type}"')
        obj, _ = await self._objects(attributes, resource)
        assert obj is not None
        try:
            patched = patches.json_patch(obj, operations)
        except patches.PatchError as error:
            raise internal(str(error)) from error
        attributes.obj = await taken(self._shapes, patched, resource, attributes)


class ValidatingWebhooks(_Dispatcher):
    """Asks all at once; the first refusal in the order of configurations is the answer."""

    name = "ValidatingAdmissionWebhook"

    async def validate(self, attributes: Attributes) -> None:
        concerned = self._webhooks.index.concerned(attributes)
        if not concerned:
            return
        meant = []
        for hook, targets in concerned:
            resource = hook.criteria.chosen(targets, attributes, self._lookup)
            if resource is not None and await self._meant(hook, resource, attributes):
                meant.append((hook, resource))
        if len(meant) == 1:
            await self._judge(*meant[0], attributes, 0)
        elif meant:
            await self._judge_all(meant, attributes)

    async def _judge_all(self, meant: Sequence[tuple[Webhook, Resource]], attributes: Attributes) -> None:
        refusals: dict[int, errors.ApiError] = {}

        async def ask(position: int, hook: Webhook, resource: Resource) -> None:
            try:
                await self._judge(hook, resource, attributes, position)
            except errors.ApiError as error:
                refusals[position] = error

        async with asyncio.TaskGroup() as group:
            for position, (hook, resource) in enumerate(meant):
                group.create_task(ask(position, hook, resource))
        if refusals:
            raise refusals[min(refusals)]

    async def _judge(self, hook: Webhook, resource: Resource, attributes: Attributes, position: int) -> None:
        try:
            answer = await self._asked(hook, resource, attributes, mutating=False)
        except WebhookFailed as error:
            _bear(hook, error, attributes, f"validating.webhook.admission.k8s.io/round_0_index_{position}")
            return
        if not answer.allowed:
            raise refusal(hook.name, answer.result)


class _Memory:
    """What is kept between the two rounds of mutating webhooks."""

    def __init__(self) -> None:
        self.last: Object | None = None
        self.invoked: dict[str, None] = {}
        self.again: set[str] = set()

    def require_reinvocation(self) -> None:
        """Those who asked for it are to see what has changed since they were asked."""
        self.again.update(self.invoked)
        self.invoked.clear()


async def taken(
    shapes: Shapes, made: Any, resource: Resource, attributes: Attributes, *, strict: bool = False
) -> Object:
    """What a webhook or policy made, as the next one sees it. Raises ``InternalError``."""
    group, version, kind = attributes.kind
    own = (attributes.resource.group, attributes.resource.version, attributes.resource.kind)
    have = resource if attributes.kind == own else attributes.resource
    if attributes.kind == own:
        group, version, kind = have.group, have.version, have.kind
    try:
        found = await shapes.taken(made, have, attributes.resource, (group, version, kind), strict=strict)
    except ValueError as error:
        raise internal(str(error)) from error
    return _with_readable_owners(found, attributes)


def _with_readable_owners(found: Object, attributes: Attributes) -> Object:
    """``found``, its ``managedFields`` put back as they were before if nobody can read them now."""
    after = objects.meta(found).get("managedFields")
    before = objects.meta(attributes.obj or {}).get("managedFields")
    if after == before:
        return found
    wrong = metadata.validate_managed_fields(after or (), _OWNERS)
    if not wrong:
        return found
    attributes.warnings.append(
        ".metadata.managedFields was in an invalid state after admission; this could be caused by an outdated mutating "
        f"admission controller; please fix your requests: {wrong[0].field}: {wrong[0].message}"
    )
    return objects.with_meta(found, managedFields=before)


def internal(why: str) -> errors.InternalError:
    """Upstream's answer to what should not have happened."""
    return errors.InternalError(f"Internal error occurred: {why}", details={"causes": [{"message": why}]})


def _bear(hook: Webhook, failure: WebhookFailed, attributes: Attributes, note: str) -> None:
    """Go on without the webhook's verdict, or raise ``InternalError``, as its failure policy says."""
    said = f'failed calling webhook "{hook.name}": {failure}'
    if not hook.ignores_failure:
        raise internal(said) from failure
    logger.warning("webhook gave no verdict and is ignored", extra={"webhook": hook.name, "why": str(failure)})
    attributes.audit[f"failed-open.{note}"] = hook.name


def _mutation_note(attributes: Attributes, position: int) -> str:
    return f"mutation.webhook.admission.k8s.io/round_{int(attributes.reinvoked)}_index_{position}"


def _note_mutation(attributes: Attributes, hook: Webhook, position: int, *, changed: bool) -> None:
    said: Mapping[str, object] = {
        "configuration": hook.configuration,
        "webhook": hook.name,
        "mutated": changed,
    }
    attributes.audit[_mutation_note(attributes, position)] = orjson.dumps(said).decode()


def _operations(answer: Answer) -> Sequence[Object]:
    """The patch's operations; raises ``WebhookFailed``."""
    if not answer.patch:
        return ()
    try:
        operations, _ = decode.decode_json_patch(answer.patch)
    except decode.DecodeError as error:
        why = str(error).removeprefix("error decoding patch: ").replace("handlers.jsonPatchOp", "jsonpatch.Operation")
        why = why.replace("[]jsonpatch.Operation", "jsonpatch.Patch")
        raise WebhookFailed(f"received undecodable patch in webhook response: {why}") from error
    return operations
