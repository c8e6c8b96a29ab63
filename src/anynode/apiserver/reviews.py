"""Reviews: who am I, may I, may they, what is this token. Answered at once, never stored.

Source: kubernetes ``pkg/registry/authorization``, ``pkg/registry/authentication``, 1.36.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping, Sequence
from typing import Any

from anynode.aio.clock import Clock
from anynode.api import errors, selectors
from anynode.api.objects import Object
from anynode.api.resources import Catalogue, Resource
from anynode.api.wire import ApiRequest, ApiResponse, User
from anynode.apiserver import negotiation
from anynode.apiserver.authorization import Authorizer
from anynode.apiserver.bodies import Bodies, field_validation
from anynode.apiserver.requestinfo import RequestInfo
from anynode.apiserver.server import Handler
from anynode.apiserver.write import manager_of
from anynode.registry.deletion import timestamp
from anynode.schema import fields
from anynode.security import rbac
from anynode.security.node_authorizer import node_of
from anynode.security.rbac import Attributes

ReviewToken = Callable[[str, Sequence[str]], Awaitable[tuple[User | None, Sequence[str], str]]]
"""(token, audiences) -> its user or None, the audiences it is good for, and what is wrong with it."""
_SPEC = fields.FieldPath("spec")
NODE_RULES = "node authorizer does not support user rule resolution"


class Reviews:
    """The review resources' handlers."""

    def __init__(self, bodies: Bodies, authorizer: Authorizer, review_token: ReviewToken, clock: Clock) -> None:
        self._bodies = bodies
        self._authorizer = authorizer
        self._review_token = review_token
        self._clock = clock

    def handlers(self, catalogue: Catalogue) -> Mapping[tuple[str, str, str], tuple[Resource, Handler]]:
        """(group, version, plural) -> resource and handler."""
        known: Mapping[tuple[str, str], Handler] = {
            ("authentication.k8s.io", "selfsubjectreviews"): self._who_am_i,
            ("authentication.k8s.io", "tokenreviews"): self._token,
            ("authorization.k8s.io", "localsubjectaccessreviews"): self._access,
            ("authorization.k8s.io", "selfsubjectaccessreviews"): self._access,
            ("authorization.k8s.io", "selfsubjectrulesreviews"): self._rules,
            ("authorization.k8s.io", "subjectaccessreviews"): self._access,
        }
        return {
            (each.group, each.version, each.plural): (each, known[each.group, each.plural])
            for each in catalogue
            if (each.group, each.plural) in known
        }

    def _body(self, request: ApiRequest, info: RequestInfo, api_version: str, kind: str) -> Object:
        accepted = negotiation.accepted(request.headers.get("accept", ""))
        if accepted.target:
            raise errors.NotAcceptable(
                "only the following media types are accepted: application/json, application/yaml, "
                "application/vnd.kubernetes.protobuf"
            )
        validation = field_validation(request, "CreateOptions")
        obj = self._bodies.typed(request, api_version, kind, validation=validation, warnings=[])
        said = obj.get("metadata") or {}
        obj = self._bodies.owned(obj, manager_of(request), "", timestamp(self._clock.now()))
        if (
            said
            and api_version.startswith("authorization")
            and (kind != "LocalSubjectAccessReview" or said != {"namespace": info.namespace})
        ):
            path = fields.FieldPath("metadata")
            found = fields.invalid(path, obj["metadata"], "must be empty")
            raise errors.invalid("", "authorization.k8s.io", "", [found.cause()])
        return obj

    async def _who_am_i(self, request: ApiRequest, info: RequestInfo, user: User) -> ApiResponse:
        obj = self._body(request, info, "authentication.k8s.io/v1", "SelfSubjectReview")
        metadata = {**(obj.get("metadata") or {}), "creationTimestamp": timestamp(self._clock.now())}
        status = {"userInfo": user_wire(user)}
        return ApiResponse(status=201, obj={**obj, "metadata": metadata, "status": status})

    async def _token(self, request: ApiRequest, info: RequestInfo, user: User) -> ApiResponse:
        obj = self._body(request, info, "authentication.k8s.io/v1", "TokenReview")
        spec = obj.get("spec") or {}
        if not spec.get("token"):
            raise errors.BadRequest("token is required for TokenReview in authentication")
        found, audiences, wrong = await self._review_token(spec["token"], spec.get("audiences") or ())
        status: Object = {"user": user_wire(found) if found is not None else {}}
        if found is not None:
            status = {"authenticated": True, **status, "audiences": list(audiences)}
        elif wrong:
            status["error"] = wrong
        return ApiResponse(status=201, obj={**obj, "metadata": obj.get("metadata") or {}, "status": status})

    async def _access(self, request: ApiRequest, info: RequestInfo, user: User) -> ApiResponse:
        kind = {
            "localsubjectaccessreviews": "LocalSubjectAccessReview",
            "selfsubjectaccessreviews": "SelfSubjectAccessReview",
        }.get(info.plural, "SubjectAccessReview")
        obj = self._body(request, info, "authorization.k8s.io/v1", kind)
        spec = obj.get("spec") or {}
        found = list(_access_errors(spec, needs_user=kind != "SelfSubjectAccessReview"))
        if found:
            raise errors.invalid("", "authorization.k8s.io", "", fields.causes(found))
        asked = spec.get("resourceAttributes") or {}
        if kind == "LocalSubjectAccessReview" and asked.get("namespace", "") != info.namespace:
            raise errors.BadRequest(f"spec.resourceAttributes.namespace must match namespace: {info.namespace}")
        about = user if kind == "SelfSubjectAccessReview" else _user_of(spec)
        decision = self._authorizer.decision(about, _attributes(spec))
        status: Object = {"allowed": decision.allowed}
        if decision.reason:
            status["reason"] = decision.reason
        return ApiResponse(status=201, obj={**obj, "metadata": obj.get("metadata") or {}, "status": status})

    async def _rules(self, request: ApiRequest, info: RequestInfo, user: User) -> ApiResponse:
        obj = self._body(request, info, "authorization.k8s.io/v1", "SelfSubjectRulesReview")
        namespace = (obj.get("spec") or {}).get("namespace") or ""
        if not namespace:
            raise errors.BadRequest("no namespace on request")
        rules, wrong = rbac.rules_for(user, namespace, self._authorizer.policy)
        node = node_of(user) is not None
        if rbac.MASTERS in user.groups:
            everything = [
                {"verbs": ["*"], "apiGroups": ["*"], "resources": ["*"]},
                {"verbs": ["*"], "nonResourceURLs": ["*"]},
            ]
            rules = [*everything, *rules]
        status: Object = {
            "resourceRules": [rule for rule in rules if "resources" in rule],
            "nonResourceRules": [rule for rule in rules if "nonResourceURLs" in rule],
            "incomplete": node,
        }
        found = [*((NODE_RULES,) if node else ()), *((wrong,) if wrong else ())]
        if found:
            status["evaluationError"] = found[0] if len(found) == 1 else f"[{', '.join(found)}]"
        head = {"kind": obj["kind"], "apiVersion": obj["apiVersion"]}
        return ApiResponse(status=201, obj={**head, "metadata": {}, "spec": {}, "status": status})


def _access_errors(spec: Mapping[str, Any], *, needs_user: bool) -> Sequence[fields.FieldError]:
    found: list[fields.FieldError] = []
    asked, path = spec.get("resourceAttributes"), spec.get("nonResourceAttributes")
    if asked is not None and path is not None:
        shown = {"Path": path.get("path", ""), "Verb": path.get("verb", "")}
        why = "cannot be specified in combination with resourceAttributes"
        found.append(fields.invalid(_SPEC.child("nonResourceAttributes"), shown, why))
    if asked is not None:
        found.extend(_selector_errors(asked))
    if asked is None and path is None:
        why = "exactly one of nonResourceAttributes or resourceAttributes must be specified"
        found.append(fields.invalid(_SPEC.child("resourceAttributes"), None, why))
    if needs_user and not spec.get("user") and not spec.get("groups"):
        why = "at least one of user or group must be specified"
        found.append(fields.invalid(_SPEC.child("user"), "", why))
    return found


def _selector_errors(asked: Mapping[str, Any]) -> Sequence[fields.FieldError]:
    """Complaints about the selectors of an access review: raw or taken apart, not both, and whole."""
    found: list[fields.FieldError] = []
    for name in ("fieldSelector", "labelSelector"):
        selector = asked.get(name)
        if selector is None:
            continue
        path = _SPEC.child("resourceAttributes", name)
        raw, requirements = selector.get("rawSelector"), selector.get("requirements") or ()
        if raw and requirements:
            found.append(
                fields.invalid(path.child("rawSelector"), raw, "may not specified at the same time as requirements")
            )
            continue
        if not raw and not requirements:
            found.append(
                fields.required(
                    path.child("requirements"), f"when {path} is specified, requirements or rawSelector is required"
                )
            )
        for index, each in enumerate(requirements):
            found.extend(_requirement_errors(each, path.child("requirements").index(index)))
    return found


def _requirement_errors(requirement: Mapping[str, Any], path: fields.FieldPath) -> Sequence[fields.FieldError]:
    found: list[fields.FieldError] = []
    if not requirement.get("key"):
        found.append(fields.required(path.child("key"), "must be specified"))
    operator, values = requirement.get("operator") or "", requirement.get("values") or ()
    if operator in ("In", "NotIn") and not values:
        found.append(fields.required(path.child("values"), "must be specified when `operator` is 'In' or 'NotIn'"))
    elif operator in ("Exists", "DoesNotExist") and values:
        found.append(
            fields.forbidden(path.child("values"), "may not be specified when `operator` is 'Exists' or 'DoesNotExist'")
        )
    return found


def _attributes(spec: Mapping[str, Any]) -> Attributes:
    asked = spec.get("resourceAttributes")
    if asked is None:
        path = spec["nonResourceAttributes"]
        return Attributes(verb=path.get("verb", ""), path=path.get("path", ""))
    return Attributes(
        verb=asked.get("verb", ""),
        group=asked.get("group", ""),
        version=asked.get("version", ""),
        resource=asked.get("resource", ""),
        subresource=asked.get("subresource", ""),
        namespace=asked.get("namespace", ""),
        name=asked.get("name", ""),
        fields=_pinned_fields(asked.get("fieldSelector") or {}),
    )


def _pinned_fields(selector: Mapping[str, Any]) -> tuple[tuple[str, str], ...]:
    """What a field selector requires to have one value. What cannot be read is left out, as upstream does: that only
    asks for more."""
    if selector.get("rawSelector"):
        try:
            terms = selectors.parse_fields(selector["rawSelector"]).terms
        except selectors.SelectorError:
            return ()
        return tuple((term.field, term.value) for term in terms if term.equal)
    return tuple(
        (each["key"], each["values"][0])
        for each in selector.get("requirements") or ()
        if each.get("operator") == "In" and len(each.get("values") or ()) == 1
    )


def _user_of(spec: Mapping[str, Any]) -> User:
    return User(name=spec.get("user", ""), groups=tuple(spec.get("groups") or ()), uid=spec.get("uid", ""))


def user_wire(user: User) -> Object:
    """``UserInfo`` as the API prints it."""
    wire: Object = {"username": user.name}
    if user.uid:
        wire["uid"] = user.uid
    if user.groups:
        wire["groups"] = list(user.groups)
    if user.extra:
        wire["extra"] = {key: list(values) for key, values in user.extra.items()}
    return wire
