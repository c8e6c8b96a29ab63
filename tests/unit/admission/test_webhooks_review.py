"""What webhooks are told, and what their answers come to."""

from __future__ import annotations

import base64
from typing import Any

import orjson
import pytest

from anynode.admission.chain import Attributes
from anynode.admission.webhooks_review import BadAnswer, answer_of, refusal, request_of, review, version_of
from anynode.api import resources
from anynode.api.objects import Object
from anynode.api.wire import User

DEPLOYMENTS = resources.known("deployments", "apps")


def answer(*, version: str = "v1", mutating: bool = False, **response: Any) -> Any:
    body = {
        "kind": "AdmissionReview",
        "apiVersion": f"admission.k8s.io/{version}",
        "response": {"uid": "u", **response},
    }
    return answer_of(orjson.dumps(body), version, "u", mutating=mutating)


def test_a_request_tells_who_what_and_as_what() -> None:
    write = Attributes(
        operation="UPDATE",
        resource=DEPLOYMENTS,
        subresource="scale",
        namespace="ns",
        name="d",
        user=User(name="ann", groups=("g",), uid="1", extra={"k": ("v",)}),
    )
    assert request_of(write, DEPLOYMENTS) == {
        "kind": {"group": "autoscaling", "version": "v1", "kind": "Scale"},
        "resource": {"group": "apps", "version": "v1", "resource": "deployments"},
        "requestKind": {"group": "autoscaling", "version": "v1", "kind": "Scale"},
        "requestResource": {"group": "apps", "version": "v1", "resource": "deployments"},
        "operation": "UPDATE",
        "userInfo": {"username": "ann", "uid": "1", "groups": ["g"], "extra": {"k": ["v"]}},
        "dryRun": False,
        "subResource": "scale",
        "requestSubResource": "scale",
        "name": "d",
        "namespace": "ns",
    }


def test_a_review_has_all_three_objects() -> None:
    body = orjson.loads(review("v1beta1", "u", {"name": "x"}, {"a": 1}, None))
    assert body["apiVersion"] == "admission.k8s.io/v1beta1"
    assert body["request"] == {"uid": "u", "name": "x", "object": {"a": 1}, "oldObject": None, "options": None}


def test_the_first_version_both_know_is_spoken() -> None:
    assert version_of({"admissionReviewVersions": ["v9", "v1beta1", "v1"]}) == "v1beta1"
    assert version_of({"admissionReviewVersions": ["v9"]}) == ""


def test_a_patch_is_decoded() -> None:
    patch = base64.b64encode(b"[]").decode()
    found = answer(mutating=True, allowed=True, patch=patch, patchType="JSONPatch", warnings=["w"])
    assert (found.allowed, found.patch, found.patch_type, found.warnings) == (True, b"[]", "JSONPatch", ["w"])


def test_the_older_version_is_taken_less_strictly() -> None:
    patch = base64.b64encode(b"[]").decode()
    assert answer(version="v1beta1", mutating=True, patch=patch, uid="other").patch_type == "JSONPatch"
    assert answer(version="v1beta1", mutating=False, patch=patch).patch == b""


@pytest.mark.parametrize(
    ("mutating", "response", "said"),
    [
        (True, {"patch": "W10="}, "webhook returned response.patch but not response.patchType"),
        (True, {"patchType": "JSONPatch"}, "webhook returned response.patchType but not response.patch"),
        (True, {"patch": "W10=", "patchType": ""}, 'webhook returned invalid response.patchType of ""'),
        (False, {"patch": "W10="}, "validating webhook may not return response.patch"),
        (False, {"uid": "x"}, 'expected response.uid="u", got "x"'),
        (False, {"warnings": [1]}, "json: cannot unmarshal number into"),
        (False, {"status": "x"}, "json: cannot unmarshal string into"),
    ],
)
def test_answers_that_break_the_contract(mutating: bool, response: Object, said: str) -> None:
    with pytest.raises(BadAnswer, match=said.replace("?", "[?]")):
        answer(mutating=mutating, **response)


@pytest.mark.parametrize(
    ("body", "said"),
    [
        (b"", "unexpected end of JSON input"),
        (b"pardon", "invalid character 'p' looking for beginning of value"),
        (b"[1]", "cannot unmarshal array into Go value"),
        (b"{}", "webhook response was absent"),
        (b'{"response": {"uid": "u"}}', "v1, Kind=AdmissionReview, got /, Kind="),
        (b'{"kind": "Pod", "apiVersion": "v1"}', 'no kind "Pod" is registered'),
        (b'{"kind": "AdmissionReview", "apiVersion": 5}', "cannot unmarshal number into Go struct field .apiVersion"),
    ],
)  # fmt: skip
def test_bodies_that_are_no_review(body: bytes, said: str) -> None:
    with pytest.raises(BadAnswer) as failed:
        answer_of(body, "v1", "u", mutating=False)
    assert said in str(failed.value)


@pytest.mark.parametrize(
    ("status", "message", "code"),
    [
        (None, 'admission webhook "h" denied the request without explanation', 400),
        ({"reason": "R"}, 'admission webhook "h" denied the request: R', 400),
        ({"message": "m", "code": 200}, 'admission webhook "h" denied the request: m', 400),
        ({"message": "m", "reason": "R", "code": 451}, 'admission webhook "h" denied the request: m', 451),
    ],
)
def test_refusals(status: Object | None, message: str, code: int) -> None:
    error = refusal("h", status)
    assert (error.message, error.status_code) == (message, code)


@pytest.mark.parametrize(
    ("status", "said"),
    [
        ({"details": [1]}, "cannot unmarshal array into Go struct field Status.response.status.details"),
        ({"metadata": "x"}, "cannot unmarshal string into Go struct field Status.response.status.metadata"),
        ({"reason": {}}, "Status.response.status.reason of type v1.StatusReason"),
        ({"code": True}, "Status.response.status.code of type int32"),
        ({"code": 2**31}, "Status.response.status.code of type int32"),
        ({"details": {"causes": 5}}, "status.details.causes of type []v1.StatusCause"),
        ({"details": {"causes": [5]}}, "status.details.causes of type v1.StatusCause"),
        ({"details": {"retryAfterSeconds": "1"}}, "status.details.retryAfterSeconds of type int32"),
    ],
)  # fmt: skip
def test_statuses_no_typed_client_could_read(status: Any, said: str) -> None:
    with pytest.raises(BadAnswer) as failed:
        answer(allowed=False, status=status)
    assert said in str(failed.value)


def test_a_code_that_fits_no_status_line_becomes_500() -> None:
    assert refusal("h", {"code": 99_999}).status_code == 500
    assert refusal("h", {"code": 999}).status_code == 999
