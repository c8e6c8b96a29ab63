"""Bodies read as upstream reads them; texts are those a kube-apiserver 1.36 gave."""

# ruff: noqa: E501

from __future__ import annotations

import json
from typing import Any

import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st

from anynode.schema import decode, json_syntax, types
from anynode.schema.decode import (
    DecodeError,
    UnreadableError,
    check_fields,
    decode_json,
    decode_yaml,
    in_document_order,
)

TYPES = types.builtin()
POD = "io.k8s.api.core.v1.Pod"
CONFIG_MAP = "io.k8s.api.core.v1.ConfigMap"


def check(kind: str, text: str) -> tuple[Any, list[str]]:
    body = text.encode()
    obj, complaints = decode_json(body)
    found, unknown = check_fields(obj, TYPES.of_kind(kind.partition(" ")[0], kind.partition(" ")[2]), TYPES, body)
    return found, [*complaints, *unknown]


def test_unknown_fields_are_named_in_the_order_they_stand() -> None:
    found, complaints = check(
        "v1 Pod",
        '{"metadata":{"name":"p","nosuch":1},"spec":{"schedulerName":"none","bad":"x","containers":[{"name":"c",'
        '"image":"i","nope":1,"env":[{"name":"A","valeu":"1"}]}]},"extra":{}}',
    )
    assert complaints == [
        'unknown field "metadata.nosuch"',
        'unknown field "spec.bad"',
        'unknown field "spec.containers[0].nope"',
        'unknown field "spec.containers[0].env[0].valeu"',
        'unknown field "extra"',
    ]
    assert found["spec"]["containers"] == [{"name": "c", "image": "i", "env": [{"name": "A"}], "resources": {}}]


def test_names_of_fields_are_told_apart_by_case() -> None:
    _, complaints = check(
        "v1 ConfigMap", '{"metadata":{"name":"a","Labels":{"x":"y"}},"Data":{"k":"v"},"immutAble":true}'
    )
    assert complaints == ['unknown field "metadata.Labels"', 'unknown field "Data"', 'unknown field "immutAble"']


def test_duplicate_keys_of_json() -> None:
    body = b'{"metadata":{"name":"a","labels":{"x":"1","x":"2"}},"data":{"k":"1","k":"2"},"data":{"l":"3"}}'
    obj, complaints = decode_json(body)
    assert obj["data"] == {"k": "2", "l": "3"}  # Go reads the second map into the first
    assert complaints == ['duplicate field "metadata.labels.x"', 'duplicate field "data.k"', 'duplicate field "data"']
    assert decode_json(b'{"a": {"b": 1}}\n')[1] == ()


def test_complaints_come_in_the_order_of_the_body() -> None:
    body = b'{"spec":{"odd":1,"replicas":1,"replicas":2,"even":[{"x":1}]},"metadata":{"name":"a","name":"b"},"odd":1}'
    said = ['duplicate field "spec.replicas"', 'duplicate field "metadata.name"', 'unknown field "spec.odd"']
    assert in_document_order(body, said) == [said[2], said[0], said[1]]
    assert in_document_order(b"spec: {odd: 1}", said) == said  # no JSON: as they were found
    assert in_document_order(b"", said[:1]) == said[:1]


def test_duplicate_keys_of_yaml() -> None:
    text = b"apiVersion: v1\nkind: ConfigMap\nmetadata:\n  name: a\n  name: b\ndata:\n  k: '1'\n  k: '2'\n"
    obj, complaints = decode_yaml(text)
    assert complaints == ['line 5: key "name" already set in map', 'line 8: key "k" already set in map']
    assert obj["metadata"] == {"name": "b"}
    assert list(obj) == ["apiVersion", "data", "kind", "metadata"]
    assert decode.strict_text(complaints) == (
        'yaml: unmarshal errors:\n  line 5: key "name" already set in map\n  line 8: key "k" already set in map'
    )


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("a: y", True), ("a: 'y'", "y"), ("a: off", False), ("a: 0777", 511), ("a: 0x1f", 31), ("a: 12:30", "12:30"),
        ("a: 2026-01-02", "2026-01-02"), ("a: 1e3", 1000), ("a: 1.5", 1.5), ("a: ~", None), ("a: !!str 5", "5"),
        ("a: |\n  x\n", "x\n"), ("b: &x {c: 1}\na: *x", {"c": 1}), ("a: {<<: {b: 1}, c: 2}", {"b": 1, "c": 2}),
    ],
)  # fmt: skip
def test_yaml_scalars_are_read_as_go_reads_them(text: str, value: Any) -> None:
    assert decode_yaml(text.encode())[0]["a"] == value


def test_yaml_that_is_none() -> None:
    with pytest.raises(UnreadableError) as caught:
        decode_yaml(b"a: b: c")
    assert str(caught.value) == "yaml: mapping values are not allowed in this context"
    with pytest.raises(UnreadableError, match="cannot unmarshal array into Go value of type struct"):
        decode_yaml(b"- a")


def test_aliases_may_neither_explode_nor_hold_themselves() -> None:
    bomb = "a0: &a0 [x, x, x, x, x, x, x, x, x, x]\n" + "".join(
        f"a{n}: &a{n} [{', '.join([f'*a{n - 1}'] * 10)}]\n" for n in range(1, 12)
    )
    with pytest.raises(UnreadableError, match="excessive aliasing"):
        decode_yaml(bomb.encode())
    with pytest.raises(UnreadableError, match="contains itself"):
        decode_yaml(b"a: &x [*x]")
    assert decode_yaml(b"a: &x {c: 1}\nb: [*x, *x]")[0] == {"a": {"c": 1}, "b": [{"c": 1}, {"c": 1}]}


def test_keys_of_yaml_become_text() -> None:
    assert decode_yaml(b"data: {1: a, yes: b, 1.5: c}")[0]["data"] == {"1": "a", "true": "b", "1.5": "c"}


@pytest.mark.parametrize(
    ("body", "message"),
    [
        (b"", "unexpected end of JSON input"),
        (b"   ", "unexpected end of JSON input"),
        (b"{", "unexpected end of JSON input"),
        (b"nope", "invalid character 'o' in literal null (expecting 'u')"),
        (b"{a", "invalid character 'a' looking for beginning of object key string"),
        (b'{"a" 1}', "invalid character '1' after object key"),
        (b'{"a":1 "b"}', "invalid character '\"' after object key:value pair"),
        (b"[1 2]", "invalid character '2' after array element"),
        (b"{} x", "invalid character 'x' after top-level value"),
        (b'{"a":01}', "invalid character '1' after object key:value pair"),
        (b'{"a":"\n"}', "invalid character '\\n' in string literal"),
        (b'{"a":"\\q"}', "invalid character 'q' in string escape code"),
        (b"{'a':1}", "invalid character '\\'' looking for beginning of object key string"),
        (b'{"a":}', "invalid character '}' looking for beginning of value"),
        (b'{"a":1,}', "invalid character '}' looking for beginning of object key string"),
        (b"1.x", "invalid character 'x' after decimal point in numeric literal"),
        (b"-", "unexpected end of JSON input"),
    ],
)
def test_syntax_errors_are_worded_as_go_words_them(body: bytes, message: str) -> None:
    with pytest.raises(UnreadableError) as caught:
        decode_json(body)
    assert str(caught.value) == f"couldn't get version/kind; json parse error: {message}"


def test_bodies_that_are_no_object() -> None:
    with pytest.raises(UnreadableError, match=r"cannot unmarshal string into Go value of type struct \{ APIVersion"):
        decode_json(b'"x"')
    assert decode_json(b"null") == ({}, ())
    text = decode.refusal(UnreadableError("x"), kind="ConfigMap", version="v1", body=b"   ")
    assert text == "the object provided is unrecognized (must be of type ConfigMap): x (202020)"


def test_text_that_is_no_utf8_and_half_surrogates_are_replaced() -> None:
    assert decode_json(b'{"a":"\\ud800"}')[0] == {"a": "\ufffd"}
    assert decode_json(b'{"a":"\xff"}')[0] == {"a": "\ufffd"}


@given(st.text(alphabet='{}[]",:1a\\ntrue-.e ', max_size=12))
def test_the_scanner_and_the_decoder_agree_on_what_is_json(text: str) -> None:
    body = text.encode()
    try:
        orjson.loads(body)
        good = True
    except orjson.JSONDecodeError:
        good = False
    assert (json_syntax.complaint(body) == "") is good or "\\" in text


@pytest.mark.parametrize(
    ("kind", "text", "message"),
    [
        ("v1 Pod", '{"spec":{"terminationGracePeriodSeconds":1e1}}',
         "json: cannot unmarshal number 1e1 into Go struct field PodSpec.spec.terminationGracePeriodSeconds of type int64"),
        ("v1 Pod", '{"spec":{"terminationGracePeriodSeconds":10.0}}',
         "json: cannot unmarshal number 10.0 into Go struct field PodSpec.spec.terminationGracePeriodSeconds of type int64"),
        ("v1 Pod", '{"spec":{"hostNetwork":"true"}}',
         "json: cannot unmarshal string into Go struct field PodSpec.spec.hostNetwork of type bool"),
        ("v1 Pod", '{"spec":{"containers":[{"ports":"x"}]}}',
         "json: cannot unmarshal string into Go struct field Container.spec.containers.ports of type []v1.ContainerPort"),
        ("v1 Pod", '{"metadata":{"labels":{"a":1}}}',
         "json: cannot unmarshal number into Go struct field ObjectMeta.metadata.labels of type string"),
        ("v1 Pod", '{"spec":{"volumes":[{"name":"a","emptyDir":"x"}]}}',
         "json: cannot unmarshal string into Go struct field Volume.spec.volumes.VolumeSource.emptyDir"
         " of type v1.EmptyDirVolumeSource"),
        ("v1 Pod", '{"spec":{"containers":[{"livenessProbe":{"httpGet":{"port":1.5}}}]}}',
         "json: cannot unmarshal number 1.5 into Go struct field"
         " HTTPGetAction.spec.containers.livenessProbe.ProbeHandler.httpGet.port of type int32"),
        ("v1 Service", '{"spec":{"ports":[{"targetPort":true}]}}',
         "json: cannot unmarshal bool into Go struct field ServicePort.spec.ports.targetPort of type int32"),
        ("v1 DeleteOptions", '{"gracePeriodSeconds":"x"}',
         "json: cannot unmarshal string into Go struct field DeleteOptions.gracePeriodSeconds of type int64"),
        ("apiextensions.k8s.io/v1 CustomResourceDefinition", '{"spec":[]}',
         "json: cannot unmarshal array into Go struct field CustomResourceDefinition.spec of type v1.CustomResourceDefinitionSpec"),
        ("v1 Pod", '{"spec":{"containers":[{"resources":{"limits":{"cpu":"x"}}}]}}',
         "quantities must match the regular expression '^([+-]?[0-9.]+)([eEinumkKMGTP]*[-+]?[0-9]*)$'"),
        ("v1 Secret", '{"data":{"a":"%%"}}', "illegal base64 data at input byte 0"),
        ("v1 Pod", '{"metadata":{"creationTimestamp":"x"}}',
         'parsing time "x" as "2006-01-02T15:04:05Z07:00": cannot parse "x" as "2006"'),
    ],
)  # fmt: skip
def test_wrong_types(kind: str, text: str, message: str) -> None:
    with pytest.raises(DecodeError) as caught:
        check(kind, text)
    assert str(caught.value) == message


def test_what_a_round_trip_through_go_does() -> None:
    found, _ = check(
        "v1 Pod",
        '{"metadata":{"name":"p","labels":{},"annotations":null,"generation":0,"creationTimestamp":null},'
        '"spec":{"hostNetwork":false,"nodeName":"","terminationGracePeriodSeconds":0,"volumes":[],"containers":[{'
        '"name":"","resources":{"limits":{"cpu":1,"memory":"1024Ki"}},"args":["a",null]}]}}',
    )
    assert found == {
        "metadata": {"name": "p"},
        "spec": {
            "terminationGracePeriodSeconds": 0,
            "containers": [{"name": "", "resources": {"limits": {"cpu": "1", "memory": "1Mi"}}, "args": ["a", ""]}],
        },
        "status": {},
    }


def test_absent_fields_that_go_always_writes() -> None:
    assert check("rbac.authorization.k8s.io/v1 Role", "{}")[0] == {"metadata": {}, "rules": None}
    event = check("v1 Event", '{"involvedObject":{}}')[0]
    assert event["firstTimestamp"] is None
    assert event["eventTime"] is None
    assert check("v1 Service", "{}")[0]["status"] == {"loadBalancer": {}}


def test_an_object_already_in_shape_is_handed_back_itself() -> None:
    body = {"metadata": {"name": "a"}, "data": {"k": "v"}}
    found, complaints = check_fields(body, CONFIG_MAP, TYPES)
    assert found is body
    assert list(complaints) == []


def test_free_form_content_keeps_its_nulls_and_unknown_fields() -> None:
    found, complaints = check("apps/v1 ControllerRevision", '{"data":{"spec":{"x":[null],"y":null}},"revision":1}')
    assert found["data"] == {"spec": {"x": [None], "y": None}}
    assert complaints == []


def test_json_patch_bodies() -> None:
    operations, complaints = decode.decode_json_patch(b'[{"op":"add","path":"/data","value":{},"bogus":1}]')
    assert operations[0]["op"] == "add"
    assert complaints == ['json patch unknown field "[0].bogus"']
    for body, message in (
        (b"{}", "json: cannot unmarshal object into Go value of type []handlers.jsonPatchOp"),
        (b"[1]", "json: cannot unmarshal number into Go value of type handlers.jsonPatchOp"),
        (b"nope", "invalid character 'o' in literal null (expecting 'u')"),
    ):
        with pytest.raises(DecodeError) as caught:
            decode.decode_json_patch(body)
        assert str(caught.value) == f"error decoding patch: {message}"


def test_merge_patch_bodies() -> None:
    assert decode.decode_patch_document(b'{"a":1,"a":2}', strategic=False) == ({"a": 2}, ['duplicate field "a"'])
    with pytest.raises(DecodeError) as caught:
        decode.decode_patch_document(b"[]", strategic=False)
    assert str(caught.value) == (
        "error decoding patch: json: cannot unmarshal array into Go value of type map[string]interface {}"
    )


JSON = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**63), 2**63 - 1) | st.floats(allow_nan=False, allow_infinity=False) | st.text(max_size=4),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from(["metadata", "spec", "name", "containers", "env", "labels", "resources", "limits", "x"]), inner, max_size=3),
    max_leaves=15,
)  # fmt: skip


@given(st.dictionaries(st.sampled_from(["metadata", "spec", "status", "x"]), JSON, max_size=3))
def test_any_object_is_taken_or_refused_and_never_changed(obj: dict[str, Any]) -> None:
    before = json.dumps(obj)
    try:
        found, _ = check_fields(obj, POD, TYPES)
    except DecodeError:
        assert json.dumps(obj) == before
        return
    assert json.dumps(obj) == before
    assert check_fields(found, POD, TYPES) == (found, ())


@pytest.mark.parametrize(
    "body",
    [b"[" * 300_000, b"a: " + b"{b: " * 300_000, b"- " * 300_000, b"[" * 900 + b"]" * 900, b"[" * 5_000 + b"]" * 5_000],
    ids=["open", "mappings", "blocks", "closed", "deeper"],
)
def test_yaml_of_endless_depth_is_refused_and_ends_nothing(body: bytes) -> None:
    with pytest.raises(UnreadableError, match="exceeded max depth"):
        decode_yaml(body)


def test_yaml_that_only_looks_deep_is_read() -> None:
    assert decode_yaml(b"a: [" + b"[],\n" * 2_000 + b"]")[0] == {"a": [[]] * 2_000}


def spec_of(value: dict[str, Any]) -> Any:
    return check_fields({"metadata": {"name": "p"}, "spec": value}, POD, TYPES)[0]["spec"]


def test_equal_specs_become_one_object() -> None:
    one, other = ({"containers": [{"name": "c", "image": "i"}], "nodeName": "n"} for _ in range(2))
    assert spec_of(one) is spec_of(other)
    assert spec_of({**one, "nodeName": "m"})["nodeName"] == "m"


def test_a_spec_that_is_wrong_is_wrong_again() -> None:
    wrong = {"containers": [{"name": "c"}], "priority": "high"}
    for _ in range(2):
        with pytest.raises(DecodeError, match="cannot unmarshal string"):
            spec_of(wrong)
    for _ in range(2):
        _, complaints = check_fields({"spec": {"nodeNam": "n"}}, POD, TYPES)
        assert complaints == ['unknown field "spec.nodeNam"']


def test_a_number_that_is_none_is_not_taken_for_null() -> None:
    assert spec_of({"priority": None}) == spec_of({})
    with pytest.raises(DecodeError):
        spec_of({"priority": float("inf")})
