"""Expressions compiled, priced and run, compared with what cel-go v0.26 and Kubernetes 1.36 answered.

``recorded.jsonl`` holds expressions with the complaint, value, error, cost and estimate cel-go gave in the 1.36
base environment, with ``self`` typed by ``schema.json``, ``object`` dynamic, both bound to ``object.json``.
"""

from __future__ import annotations

import contextlib
import json
import pathlib
import time
from typing import Any

import pytest

from anynode.cel import types, values
from anynode.cel.authorizer import Authorizer, CheckAttributes
from anynode.cel.environment import Budget, Environment, Program, sizes_of
from anynode.cel.errors import (
    CelError,
    CelEvaluationError,
    CelProgramError,
    CelResultError,
    CelSyntaxError,
    CelTypeError,
    CostExceeded,
)
from anynode.cel.escaping import escape
from anynode.cel.operators import double_text
from anynode.cel.times import Duration, Timestamp
from anynode.cel.types import ObjectType, Type

HERE = pathlib.Path(__file__).parent
MOST_BYTES = 3 * 1024 * 1024
RECORDED = [json.loads(line) for line in (HERE / "recorded.jsonl").read_text().splitlines()]
BOUND = json.loads((HERE / "object.json").read_text())


def declared(schema: dict[str, Any], name: str) -> Type | None:
    """The type a structural schema declares, as CRD validation has it."""
    if schema.get("x-kubernetes-int-or-string"):
        return types.DYN.sized(MOST_BYTES - 2, min_serialized_size=1)
    kind = schema.get("type")
    if kind == "array":
        item = declared(schema["items"], f"{name}.@idx")
        assert item is not None
        return types.list_of(
            item,
            schema.get("maxItems", (MOST_BYTES - 2) // (item.min_serialized_size + 1)),
            list_type=schema.get("x-kubernetes-list-type", ""),
            list_map_keys=schema.get("x-kubernetes-list-map-keys", ()),
        )
    if kind == "object" and "additionalProperties" in schema:
        value = declared(schema["additionalProperties"], f"{name}.@elem")
        assert value is not None
        most = schema.get("maxProperties", (MOST_BYTES - 2) // (value.min_serialized_size + 6))
        return types.map_of(types.STRING, value, most)
    if kind == "object":
        return declared_object(schema, name)
    if kind == "string":
        return declared_string(schema)
    return {"boolean": types.BOOL, "number": types.DOUBLE, "integer": types.INT}.get(str(kind))


def declared_object(schema: dict[str, Any], name: str) -> ObjectType:
    fields = {}
    smallest = 2
    for key, each in schema.get("properties", {}).items():
        field, escaped = declared(each, f"{name}.{key}"), escape(key)
        if field is not None and escaped is not None:
            fields[escaped] = field
            if key in schema.get("required", ()):
                smallest += len(key) + field.min_serialized_size + 4
    return ObjectType(name, fields, min_serialized_size=smallest)


def declared_string(schema: dict[str, Any]) -> Type:
    sized = {
        "byte": types.BYTES.sized(MOST_BYTES - 2),
        "duration": types.DURATION.sized(32),
        "date": types.TIMESTAMP.sized(12),
        "date-time": types.TIMESTAMP.sized(32, min_serialized_size=21),
    }.get(schema.get("format", ""))
    if sized is not None:
        return sized
    if "maxLength" in schema:
        return types.STRING.sized(schema["maxLength"] * 4)
    return types.STRING.sized(max(map(len, schema["enum"])) if "enum" in schema else MOST_BYTES - 2)


def rendered(value: Any) -> str:
    """A value as the recording writes it."""
    kind = values.kind_name(value)
    if isinstance(value, values.Optional):
        return f"optional({rendered(value.value)})" if value.has_value else "optional.none()"
    if kind == "list":
        return f"[{', '.join(map(rendered, value))}]"
    if kind == "map":
        pairs = sorted(f"{rendered(key)}={rendered(values.find(value, key))}" for key in value)
        return f"{{{', '.join(pairs)}}}"
    if kind == "type":
        names = {"timestamp": "google.protobuf.Timestamp", "duration": "google.protobuf.Duration", "null": "null_type"}
        return f"type:{names.get(value.name, value.name)}"
    simple = {
        "null_type": lambda: "null_type:NULL_VALUE",
        "bool": lambda: f"bool:{str(value).lower()}",
        "double": lambda: f"double:{double_text(value)}",
        "string": lambda: f"string:{json.dumps(value, ensure_ascii=False)}",
        "bytes": lambda: f"bytes:{value.hex()}",
        "google.protobuf.Timestamp": lambda: f"timestamp:{Timestamp(value.nanos)}",
        "google.protobuf.Duration": lambda: f"duration:{value.nanos}",
    }.get(kind)
    return simple() if simple is not None else f"{kind}:{value}"


@pytest.fixture(scope="module")
def root() -> Type:
    schema = json.loads((HERE / "schema.json").read_text())
    schema["properties"]["metadata"]["properties"]["generateName"] = {"type": "string"}
    found = declared(schema, "selfType")
    assert found is not None
    return found


@pytest.fixture(scope="module")
def environment(root: Type) -> Environment:
    return Environment.kubernetes({"self": root, "oldSelf": root, "object": types.DYN, "authorizer": types.AUTHORIZER})


def answer(environment: Environment, root: Type, text: str) -> dict[str, Any]:
    found: dict[str, Any] = {"expr": text}
    try:
        program = environment.compile(text)
    except CelProgramError as error:
        return {**found, "program": str(error)}
    except CelError as error:
        return {**found, "compile": str(error)}
    estimate = program.estimate(sizes_of(root))
    found["estimate"] = [estimate.min, estimate.max]
    try:
        value, cost = program.evaluate_costed({"self": BOUND, "oldSelf": BOUND, "object": BOUND})
    except CelError as error:
        return {**found, "error": str(error)}
    return {**found, "value": rendered(value), "cost": cost}


@pytest.mark.parametrize("start", range(0, len(RECORDED), 50))
def test_answers_what_cel_go_answered(environment: Environment, root: Type, start: int) -> None:
    recorded = RECORDED[start : start + 50]
    assert [answer(environment, root, each["expr"]) for each in recorded] == recorded


def run(text: str, variables: dict[str, Type], **bound: Any) -> Any:
    return Environment.kubernetes(variables).compile(text).evaluate(bound)


def test_a_recursive_type_is_only_built_as_far_as_it_is_asked_for() -> None:
    asked: list[str] = []

    def field(name: str) -> Type | None:
        asked.append(name)
        return node if name == "next" else types.INT if name == "value" else None

    node = ObjectType("Node", field)
    program = Environment.kubernetes({"node": node}).compile("node.next.next.value == 3")
    assert program.evaluate({"node": {"next": {"next": {"value": 3}}}}) is True
    assert sorted(set(asked)) == ["next", "value"]
    with pytest.raises(CelTypeError, match="undefined field 'other'"):
        Environment.kubernetes({"node": node}).compile("node.next.other")


def test_an_absent_optional_field_is_no_such_key() -> None:
    of = ObjectType("T", {"a": types.STRING})
    with pytest.raises(CelEvaluationError, match=r"^no such key: a$"):
        run("self.a == 'x'", {"self": of}, self={})
    assert run("has(self.a)", {"self": of}, self={"a": None}) is False


def test_bound_objects_come_back_as_they_went_in() -> None:
    bound = {"spec": {"at": "2024-01-01T00:00:00Z", "items": [{"n": 1}]}}
    item = ObjectType("Item", {"n": types.INT})
    spec = ObjectType("Spec", {"at": types.TIMESTAMP, "items": types.list_of(item)})
    variables: dict[str, Type] = {"self": ObjectType("T", {"spec": spec})}
    assert run("self.spec", variables, self=bound) is bound["spec"]
    assert run("self.spec.items.filter(i, i.n == 1)", variables, self=bound) == [{"n": 1}]
    assert run("self.spec.at", variables, self=bound) == Timestamp(1704067200 * 10**9)


def test_the_result_must_be_what_is_asked_for() -> None:
    environment = Environment.kubernetes({})
    assert environment.compile("1 == 1", returns=[types.BOOL]).result_type == types.BOOL
    with pytest.raises(CelResultError, match=r"^must evaluate to bool$"):
        environment.compile("1", returns=[types.BOOL])


def test_a_program_names_the_variables_it_uses(environment: Environment) -> None:
    assert environment.compile("self.spec.replicas > oldSelf.spec.replicas").variables_used == {"self", "oldSelf"}
    assert environment.compile("[1].all(self, self > 0)").variables_used == frozenset()


def test_evaluation_stops_at_the_limit() -> None:
    program = Environment.kubernetes({}).compile("lists.range(2000).all(x, lists.range(2000).all(y, x + y >= 0))")
    before = time.process_time()
    with pytest.raises(CostExceeded, match="operation cancelled: actual cost limit exceeded"):
        program.evaluate({})
    assert time.process_time() - before < 5


def test_a_budget_is_shared_by_evaluations() -> None:
    program = Environment.kubernetes({"x": types.INT}).compile("x + 1")
    budget = Budget(5)
    assert program.evaluate({"x": 1}, budget=budget) == 2
    assert budget.remaining == 3
    program.evaluate({"x": 1}, budget=budget)
    with pytest.raises(CostExceeded):
        program.evaluate({"x": 1}, budget=budget)
    assert budget.remaining == 0


def test_an_error_still_costs() -> None:
    budget = Budget(10)
    program = Environment.kubernetes({"x": types.DYN}).compile("x.a.b")
    with pytest.raises(CelEvaluationError, match="no such key: a"):
        program.evaluate({"x": {}}, budget=budget)
    assert budget.remaining < 10


def test_policy_variables_are_made_when_asked_for_and_once() -> None:
    made: list[str] = []

    def replicas() -> int:
        made.append("replicas")
        return 3

    def failing() -> Any:
        raise CelEvaluationError("no such key: x")

    of = ObjectType("kubernetes.variables", {"replicas": types.INT, "bad": types.DYN}, open_fields=True)
    environment = Environment.kubernetes({"variables": of})
    fields = values.Fields({"replicas": replicas, "bad": failing})
    assert environment.compile("variables.replicas + variables.replicas").evaluate({"variables": fields}) == 6
    assert made == ["replicas"]
    with pytest.raises(CelEvaluationError, match="no such key: x"):
        environment.compile("variables.bad").evaluate({"variables": fields})
    with pytest.raises(CelTypeError, match="undefined field 'other'"):
        environment.compile("variables.other")


def test_the_authorizer_is_asked() -> None:
    asked: list[CheckAttributes] = []

    def decide(attributes: CheckAttributes) -> tuple[bool, str, str | None]:
        asked.append(attributes)
        return attributes.verb == "get", "because", None

    text = (
        "authorizer.serviceAccount('ns', 'sa').group('apps').resource('deployments').subresource('scale')"
        ".namespace('default').name('web').fieldSelector('a=b').labelSelector('c=d').check('get').allowed()"
        " && !authorizer.path('/healthz').check('post').allowed()"
        " && authorizer.group('').resource('pods').check('x').reason() == 'because'"
    )
    program = Environment.kubernetes({"authorizer": types.AUTHORIZER}).compile(text)
    with pytest.raises(CostExceeded):
        program.evaluate({"authorizer": Authorizer(decide)})
    assert program.evaluate_costed({"authorizer": Authorizer(decide)}, limit=2_000_000) == (True, 1_050_239)
    assert asked[-3] == CheckAttributes(
        verb="get",
        group="apps",
        resource="deployments",
        subresource="scale",
        namespace="default",
        name="web",
        field_selector="a=b",
        label_selector="c=d",
        service_account=("ns", "sa"),
    )
    assert (asked[-2].path, asked[-2].verb) == ("/healthz", "post")


def test_the_authorizer_refuses_empty_names() -> None:
    environment = Environment.kubernetes({"authorizer": types.AUTHORIZER})
    for text, message in {
        "authorizer.path('')": "path must not be empty",
        "authorizer.group('').resource(' ')": "resource must not be empty",
        "authorizer.serviceAccount('x', 'A')": "Invalid service account name",
        "authorizer.serviceAccount('A', 'x')": "Invalid service account namespace",
    }.items():
        with pytest.raises(CelEvaluationError, match=message):
            environment.compile(text).evaluate({"authorizer": Authorizer(lambda _asked: (True, "", None))})


@pytest.fixture(scope="module")
def mutating() -> Environment:
    return Environment.kubernetes({"object": types.DYN}).extended({}, mutation=True)


def test_mutations_build_objects(mutating: Environment) -> None:
    program = mutating.compile("Object{spec: Object.spec{replicas: object.spec.replicas + 1}}")
    value = program.evaluate({"object": {"spec": {"replicas": 1}}})
    assert isinstance(value, values.StructValue)
    assert (value.name, value.fields["spec"].name, value.fields["spec"].fields) == (
        "Object",
        "Object.spec",
        {"replicas": 2},
    )


def test_mutations_build_patches(mutating: Environment) -> None:
    text = "[JSONPatch{op: 'add', path: '/metadata/labels/' + jsonpatch.escapeKey('a/b~c'), value: 1}]"
    patch = mutating.compile(text).evaluate({"object": {}})[0]
    assert patch.name == "JSONPatch"
    assert patch.fields == {"op": "add", "path": "/metadata/labels/a~1b~0c", "value": 1}
    with pytest.raises(CelTypeError, match="expected type of field 'op' is 'string' but provided type is 'int'"):
        mutating.compile("JSONPatch{op: 1}")


def test_bindings_are_for_those_who_have_them() -> None:
    environment = Environment.kubernetes({})
    with pytest.raises(CelTypeError, match="undeclared reference to 'bind'"):
        environment.compile("cel.bind(x, 1, x + x)")
    program: Program = environment.extended({}, bindings=True).compile("cel.bind(x, 1 + 1, x + x)")
    assert program.evaluate({}) == 4


def test_deep_nesting_is_refused_and_does_not_overflow() -> None:
    environment = Environment.kubernetes({})
    with pytest.raises(CelSyntaxError, match="expression recursion limit exceeded: 250"):
        environment.compile("(" * 5000 + "1" + ")" * 5000)
    with pytest.raises(CelSyntaxError, match="expression code point size exceeds limit: size: 100001, limit 100000"):
        environment.compile("1" * 100_001)


def test_results_keep_their_kinds() -> None:
    assert run("duration('1h') + duration('1s')", {}) == Duration(3601 * 10**9)
    assert run("{'a': optional.of(5u)}", {}) == {"a": values.Optional(values.Uint(5))}


@pytest.mark.parametrize(
    "text",
    ["s.replace('', s)", "'%s'.format([s]).replace('a', s)", "[s].map(x, lists.range(99).map(i, x)).map(l, l.join(s))"],
)
def test_no_expression_makes_texts_without_end(text: str) -> None:
    with pytest.raises(CostExceeded):
        run(text, {"s": types.STRING}, s="a" * 1_000_000)


def test_data_of_another_type_than_declared_is_an_error_and_no_crash() -> None:
    item = ObjectType("Item", {"n": types.INT})
    of = ObjectType("T", {"items": types.list_of(item), "count": types.INT, "map": types.map_of(types.STRING, item)})
    for text in ("self.items.all(i, i.n > 0)", "self.count < 3", "self.map['a'].n == 1", "size(self.items) > 1"):
        for wrong in (5, "x", True, [1], {"a": 1}, [None], 1.5):
            with contextlib.suppress(CelError):
                run(text, {"self": of}, self={"items": wrong, "count": wrong, "map": wrong})
    with pytest.raises(CelEvaluationError, match="no such overload"):
        run("self.count < 3", {"self": of}, self={"count": "x"})


def test_nesting_goes_as_deep_as_upstream_reads() -> None:
    assert run("(" * 240 + "1" + ")" * 240, {}) == 1
    assert run("+".join(["1"] * 250), {}) == 250
    with pytest.raises(CelSyntaxError, match="max recursion depth exceeded"):
        run("+".join(["1"] * 252), {})
