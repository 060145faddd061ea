"""Schemas: from a class or a dict to what providers enforce, and from an answer to an object."""

from __future__ import annotations

import dataclasses
import datetime as dt
import json
import pickle
import subprocess
import sys
import typing
from typing import Any, Literal, TypedDict

import jsonschema
import pydantic
import pytest
import typing_extensions

from ipyrouter.errors import UsageError
from ipyrouter.schemas import Mismatch, schema_of
from ipyrouter.text.json_schema import strict

HERE = {"$ref": "#/properties/a"}


class Review(pydantic.BaseModel):
    sentiment: Literal["positive", "negative"]
    score: float = pydantic.Field(ge=0, le=1, description="how sure")
    day: dt.date | None = None
    stars: int = 3
    tags: list[str] = []


class Node(pydantic.BaseModel):
    name: str
    children: list[Node] = []


class Careful(pydantic.BaseModel):
    number: int

    @pydantic.field_validator("number")
    @classmethod
    def positive(cls, number: int) -> int:
        if number == 13:
            raise KeyError("a bug of the user's")
        if number < 0:
            raise ValueError("must be positive")
        return number


@dataclasses.dataclass
class City:
    name: str
    people: int = 0


class Row(TypedDict):
    label: str
    note: typing.NotRequired[str]


class Late(typing_extensions.TypedDict):
    label: str


class Rows(TypedDict):
    rows: list[Row]
    first: Row | None


@pytest.mark.parametrize(
    ("kind", "text", "data"),
    [
        (Review, '{"sentiment": "positive", "score": 0.5}', Review(sentiment="positive", score=0.5)),
        (City, '```json\n{"name": "Rome"}\n```', City("Rome")),
        (Row, 'Here it is: {"label": "a"}', {"label": "a"}),
        (Late, '{"label": "a"}', {"label": "a"}),
        (
            Rows,
            '{"rows": [{"label": "a", "note": "b"}], "first": null}',
            {"rows": [{"label": "a", "note": "b"}], "first": None},
        ),
        (list[City], '{"value": [{"name": "Rome", "people": 3}]}', [City("Rome", 3)]),
        (list[City], '[{"name": "Rome"}]', [City("Rome")]),
        (dict[str, int], '{"a": 1}', {"a": 1}),
        (Literal["a", "b"], '{"value": "b"}', "b"),
        (int, '{"value": 4}', 4),
        (Node, '{"name": "a", "children": [{"name": "b"}]}', Node(name="a", children=[Node(name="b")])),
        ({"label": ["a", "b"], "score": float}, '{"label": "a", "score": 1}', {"label": "a", "score": 1.0}),
        ({"tags": [str], "of": {"name": str | None}}, '{"tags": ["x"], "of": {"name": null}}',
         {"tags": ["x"], "of": {"name": None}}),
        ({"type": ["a", "b"], "score": float}, '{"type": "a", "score": 1}', {"type": "a", "score": 1.0}),
        ({"type": "object", "properties": {"a": {"type": "integer"}}}, '{"a": 3}', {"a": 3}),
        ({"type": "array", "items": {"type": "integer"}}, '{"value": [1, 2]}', [1, 2]),
    ],
)  # fmt: skip
def test_an_answer_becomes_an_object(kind: Any, text: str, data: Any) -> None:
    assert schema_of(kind).read(text) == data


@pytest.mark.parametrize(
    ("kind", "text", "words"),
    [
        (Review, "It is good.", "it holds no JSON"),
        (Review, '{"sentiment": "good", "score": 7}',
         "sentiment: input should be 'positive' or 'negative'; score: input should be less than or equal to 1"),
        (Review, '{"score": 0.5}', "sentiment: field required"),
        (list[City], '[{"people": 3}]', "[0].name: field required"),
        (Careful, '{"number": -1}', "number: value error, must be positive"),
        ({"label": ["a"], "score": float}, '{"label": "a", "score": 1, "x": 2}', "x: extra inputs are not permitted"),
        ({"type": "object", "properties": {"a": {"minimum": 3}, "b": {"type": "string"}}, "required": ["a", "b"]},
         '{"a": 2}', 'a: does not fit "minimum": 3; the answer: \'b\' is a required property'),
        ({"type": "array", "items": {"type": "string"}, "maxItems": 1}, '["a", "b"]',
         'the answer: does not fit "maxItems": 1'),
        ({"enum": ["a", "b"]}, '{"value": "c"}', 'the answer: does not fit "enum": ["a", "b"]'),
        ({"properties": {"a": False}, "type": "object"}, '{"a": 1}', "holds what the schema forbids"),
        ({"type": "object", "if": {"required": ["a"]}, "then": {"required": ["b"]}}, '{"a": 1}',
         "the answer: 'b' is a required property"),
    ],
)  # fmt: skip
def test_what_is_wrong_is_said_in_words(kind: Any, text: str, words: str) -> None:
    with pytest.raises(Mismatch) as wrong:
        schema_of(kind).read(text)
    assert words in str(wrong.value)


@pytest.mark.usefixtures("collector_rests")
@pytest.mark.parametrize(
    "kind",
    [Node, {"$ref": "#/$defs/n", "$defs": {"n": {"type": "object", "properties": {"n": {"$ref": "#/$defs/n"}}}}}],
)
def test_an_answer_that_is_nested_too_deeply_does_not_fit(kind: Any) -> None:
    key = "children" if kind is Node else "n"
    deep = f'{{"name": "a", "{key}": ' * 400 + "0" + "}" * 400
    with pytest.raises(Mismatch):
        schema_of(kind).read(deep)


def test_a_bug_in_the_users_own_class_is_not_the_models() -> None:
    with pytest.raises(UsageError, match="The schema Careful itself failed on an answer: KeyError"):
        schema_of(Careful).read('{"number": 13}')


@pytest.mark.parametrize(
    ("kind", "words"),
    [
        (Review(sentiment="positive", score=1), "an instance of Review"),
        ("Review", "schema must be a class or a dict, not 'Review'"),
        (["a", "b"], "schema must be a class or a dict"),
        ({}, "The schema is empty"),
        ({"a": "string"}, "field 'a' has 'string' for a type"),
        ({"a": {"b": [1.5, 2.5]}}, "field 'a.b' has [1.5, 2.5]"),
        ({3: str}, "field 3 is not a string"),
        ({"type": "object", "if": 3}, "3 is not of type 'object', 'boolean' at $.if"),
        ({"type": "object", "properties": {"a": {"pattern": "["}}}, "'[' is not a 'regex' at $.properties.a.pattern"),
        ({"$ref": "#/$defs/none"}, "which leads nowhere"),
        ({"$ref": "#"}, "contains itself without an end"),
        (
            {"$ref": "#/$defs/a", "$defs": {"a": {"anyOf": [{"$ref": "#/$defs/b"}]}, "b": {"$ref": "#/$defs/b"}}},
            "contains itself without an end",
        ),
        ({"$ref": "https://example.org/schema.json"}, "which leads nowhere"),
        ({"type": "object", "properties": {"a": {"$dynamicRef": "#none"}}}, "'#none', which leads nowhere"),
        ({"type": "object", "$ref": "#/x", "x": {"anyOf": 3}}, "3 is not of type 'array' at $.anyOf"),
        ({"type": "object", "$ref": "#/x", "x": [1]}, "[1] is not of type 'object', 'boolean' at $"),
        ({"anyOf": [{"$ref": "#"}]}, "contains itself without an end"),
        ({"type": "object", "$dynamicAnchor": "a", "allOf": [{"$dynamicRef": "#a"}]}, "contains itself without an end"),
        ({"enum": []}, "an enum without values"),
        ({"type": "object", "properties": {"a": {"enum": []}}}, "an enum without values"),
        ({"type": "string", "minLength": "3"}, "'3' is not of type 'integer' at $.minLength"),
        ({"type": "object", "properties": {"a": {"type": "text"}}}, "'text' is not valid under any of the given"),
        ({"type": "object", "default": object()}, "is not valid JSON"),
        ({"type": "object", "properties": {"a": {"maximum": float("nan")}}}, "is not valid JSON"),
        (type("Plain", (), {}), "Plain cannot be a schema"),
    ],
)
def test_what_can_be_no_schema_is_an_error_in_one_line(kind: Any, words: str) -> None:
    with pytest.raises(UsageError) as wrong:
        schema_of(kind)
    assert words in str(wrong.value)
    assert "\n" not in str(wrong.value)


@pytest.mark.parametrize(
    "part", [{"anyOf": [HERE]}, {"oneOf": [True, HERE]}, {"allOf": [HERE]}, {"not": HERE}, {"if": HERE}, {"then": HERE},
             {"else": HERE}, {"dependentSchemas": {"b": HERE}}]
)  # fmt: skip
def test_a_part_whose_check_would_never_end_is_refused_wherever_it_stands(part: Any) -> None:
    with pytest.raises(UsageError, match="contains itself without an end"):
        schema_of({"type": "object", "properties": {"a": part}})


@pytest.mark.parametrize(
    ("schema", "wrong"),
    [
        ({"properties": {"a": {"$ref": "#"}}}, '{"a": 3}'),
        ({"properties": {"a": {"$ref": "#n"}}, "$anchor": "n"}, '{"a": 3}'),
        ({"properties": {"a": {"$dynamicRef": "#n"}}, "$dynamicAnchor": "n"}, '{"a": 3}'),
        ({"additionalProperties": {"anyOf": [{"$ref": "#"}]}}, '{"a": 3}'),
        ({"properties": {"a": {"$ref": "#/allOf/1"}}, "allOf": [{}, {"maxProperties": 1}]}, '{"a": {"b": 1, "c": 2}}'),
    ],
)
def test_references_lead_to_what_an_answer_is_checked_by(schema: Any, wrong: str) -> None:
    form = schema_of({"type": "object", **schema})
    assert form.read('{"a": {"a": {}}}') == {"a": {"a": {}}}
    with pytest.raises(Mismatch):
        form.read(wrong)


# --- what providers enforce ---


INNER = {"type": "object", "properties": {"c": {"type": "string"}}}


@pytest.mark.parametrize(
    ("properties", "definitions"),
    [
        ({"a": {"oneOf": [{"type": "string"}, {"type": "null"}]}, "b": {"$ref": "#/properties/a/oneOf/0"}}, {}),
        ({"a": {"allOf": [{"type": "string"}]}, "b": {"$ref": "#/properties/a/allOf/0"}}, {}),
        ({"a": INNER, "b": {"$ref": "#/properties/a/properties/c"}}, {}),
        ({"b": {"$ref": "#/$defs/x/$defs/y"}}, {"x": {"type": "string", "$defs": {"y": {"type": "string"}}}}),
    ],
)
def test_what_the_subset_says_otherwise_cannot_be_referred_to(properties: Any, definitions: Any) -> None:
    schema = {"type": "object", "properties": properties, "required": ["b"], "$defs": definitions}
    assert strict(schema, recursive=True) is None


def test_a_property_can_be_referred_to() -> None:
    properties = {"a": {"type": "string"}, "b": {"$ref": "#/properties/a"}}
    sent = strict({"type": "object", "properties": properties, "required": ["a", "b"]}, recursive=True)
    assert sent is not None
    assert sent["properties"] == properties


def test_what_is_wrapped_may_refer_to_itself() -> None:
    row = {"type": "object", "properties": {"a": {"type": "string"}, "b": {"$ref": "#/items/properties/a"}}}
    schema = schema_of({"type": "array", "items": row})
    assert schema.wraps
    assert strict(schema.json, recursive=True) is None
    assert schema.read('[{"a": "x", "b": "y"}]') == [{"a": "x", "b": "y"}]


def closed(node: Any) -> None:
    """Assert what OpenAI's strict mode asks for, wherever it holds."""
    if isinstance(node, list):
        for item in node:
            closed(item)
    if not isinstance(node, dict):
        return
    if node.get("type") == "object":
        assert node["additionalProperties"] is False
        assert node["required"] == list(node["properties"])
    allowed = {"type", "properties", "required", "additionalProperties", "items", "enum", "anyOf", "$ref", "$defs",
               "description", "format"}  # fmt: skip
    assert set(node) <= allowed
    assert "$ref" not in node or set(node) == {"$ref"}
    for table in ("properties", "$defs"):
        for held in node.get(table, {}).values():
            closed(held)
    closed(node.get("items"))
    closed(node.get("anyOf"))


@pytest.mark.parametrize("kind", [Review, City, Row, Rows, list[City], Literal["a"], {"a": {"b": [str]}}, Node])
def test_what_is_sent_is_in_the_strict_subset(kind: Any) -> None:
    made = strict(schema_of(kind).json, recursive=True)
    assert made is not None
    closed(made)
    assert made["type"] == "object"
    jsonschema.Draft202012Validator.check_schema(made)


def test_bounds_are_said_in_words_and_optional_fields_may_be_null() -> None:
    made = strict(schema_of(Review).json, recursive=False)
    assert made is not None
    assert made["properties"]["score"] == {"type": "number", "description": "how sure (minimum: 0, maximum: 1)"}
    assert made["properties"]["stars"] == {"anyOf": [{"type": "integer"}, {"type": "null"}]}
    assert made["properties"]["day"]["anyOf"] == [{"type": "string", "format": "date"}, {"type": "null"}]
    full = {"sentiment": "negative", "score": 0, "day": None, "stars": None, "tags": None}
    assert schema_of(Review).read(json.dumps(full)) == Review(sentiment="negative", score=0)


@pytest.mark.parametrize(
    "kind", [dict[str, int], tuple[int, str], {"a": Any}, {"type": "object"}, {"type": "object", "properties": {},
             "additionalProperties": {"type": "string"}}]
)  # fmt: skip
def test_what_the_subset_cannot_say_is_not_forced_into_it(kind: Any) -> None:
    assert strict(schema_of(kind).json, recursive=True) is None


def test_a_schema_that_contains_itself_goes_only_where_it_is_taken() -> None:
    assert strict(schema_of(Node).json, recursive=True) is not None
    assert strict(schema_of(Node).json, recursive=False) is None


@pytest.mark.parametrize("kind", [Review, City, {"label": ["a", "b"]}, {"type": "array", "items": {"type": "integer"}}])
def test_a_schema_can_be_pickled(kind: Any) -> None:
    schema = schema_of(kind)
    again = pickle.loads(pickle.dumps(schema))
    assert again == schema
    with pytest.raises(Mismatch):
        again.read('{"value": "x"}')


@pytest.mark.kernel
def test_pydantic_is_imported_for_a_schema_alone() -> None:
    code = "import sys, ipyrouter; ipyrouter.Router(); assert 'pydantic' not in sys.modules"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr


def test_a_pattern_takes_no_longer_than_its_text_is_long() -> None:
    text = {"type": "string", "pattern": "^(a+)+$"}
    schema = schema_of({"type": "object", "properties": {"a": text}, "required": ["a"]})
    with pytest.raises(Mismatch, match="a: does not fit"):
        schema.read(json.dumps({"a": "a" * 1000 + "!"}))  # Python's own patterns never come to an end of it
    assert schema.read('{"a": "aa"}') == {"a": "aa"}


def test_patterns_of_names() -> None:
    integers = {"^x(a+)+$": {"type": "integer"}}
    schema = schema_of({"type": "object", "patternProperties": integers, "additionalProperties": False})
    assert schema.read('{"xa": 1}') == {"xa": 1}
    for wrong, words in [('{"xa": "1"}', 'xa: does not fit "type"'), ('{"y": 1}', '"additionalProperties": false')]:
        with pytest.raises(Mismatch, match=words):
            schema.read(wrong)
    with pytest.raises(Mismatch, match="additionalProperties"):
        schema.read(json.dumps({"x" + "a" * 1000 + "!": 1}))
    others = schema_of({"type": "object", "patternProperties": integers, "additionalProperties": {"type": "string"}})
    assert others.read('{"xa": 1, "y": "z"}') == {"xa": 1, "y": "z"}
    with pytest.raises(Mismatch, match="y: does not fit"):
        others.read('{"y": 1}')


@pytest.mark.parametrize("pattern", ["(?=a)b", r"(a)\1"])
def test_a_pattern_that_may_take_for_ever_is_refused(pattern: str) -> None:
    with pytest.raises(UsageError, match="look-around, a back-reference or a fault"):
        schema_of({"type": "object", "properties": {"a": {"type": "string", "pattern": pattern}}})


@pytest.mark.usefixtures("collector_rests")
@pytest.mark.parametrize("depth", [150, 5000])
def test_a_schema_that_is_nested_too_deeply(depth: int) -> None:
    node: dict[str, Any] = {"type": "object"}
    for _ in range(depth):
        node = {"type": "object", "properties": {"a": node}}
    with pytest.raises(UsageError, match="nested too deeply"):
        schema_of(node)


def test_what_is_wrong_stands_in_one_line() -> None:
    class Odd(pydantic.BaseModel):
        a: int = pydantic.Field(alias="a\nb")

    for kind in (Odd, {"type": "object", "properties": {"a\nb": {"type": "integer"}}}):
        with pytest.raises(Mismatch, match=r"^a b: [^\n]+$"):
            schema_of(kind).read('{"a\\nb": "x"}')
