"""integrations/make: what comes out of the app's modules, by the event classes and the schema.

A module's interface follows from what it asks the API for; that of the trigger, from the bodies of
all events together, for one trigger serves them all.
"""

import json
from collections.abc import Iterator, Mapping
from typing import Any

from graphql import (
    FieldNode,
    GraphQLObjectType,
    OperationDefinitionNode,
    get_named_type,
    get_nullable_type,
    is_enum_type,
    is_list_type,
    parse,
)

from docs.generate.json_schema import schema_of
from docs.generate.shared import FOLDER, the_graphql
from events import event_types
from models import Vocabulary

APP = FOLDER.parent / "integrations" / "make" / "app"
_EVENTS = "webhooks/events/events.params.iml.json"
_TRIGGER = "modules/watchEvents/watchEvents"
_SHOWN = "voucher_redeemed"
"""The event that the trigger shows as its sample: it has the most to show."""
_TYPES = {"Int": "integer", "Float": "number", "Boolean": "boolean", "DateTime": "date"}
_JSON_TYPES = {"integer": "integer", "number": "number", "boolean": "boolean"}
_CAPITALS = {"id": "ID", "url": "URL", "api": "API"}
_REF = "#/$defs/"

Field = dict[str, Any]


def the_files_for_make() -> Mapping[str, str]:
    """The files of the app that follow from the code; its other files are written by hand."""
    return {name: f"{json.dumps(told, indent=4)}\n" for name, told in _files()}


def _files() -> Iterator[tuple[str, Any]]:
    offered = json.loads((APP / _EVENTS).read_text(encoding="utf-8"))
    offered[0]["options"] = [
        {"label": _label(name), "value": name.upper()} for name in event_types()
    ]
    yield _EVENTS, offered
    bodies = [schema_of(kind, Vocabulary.EN) for kind in event_types().values()]
    yield f"{_TRIGGER}.interface.iml.json", _merged([_fields_of(body, body) for body in bodies])
    sample = schema_of(event_types()[_SHOWN], Vocabulary.EN)["examples"][0]
    yield f"{_TRIGGER}.samples.iml.json", sample
    for path in sorted(APP.glob("modules/*/*.communication.iml.json")):
        asked = json.loads(path.read_text(encoding="utf-8"))
        name = str(path.relative_to(APP)).replace(".communication.", ".interface.")
        yield name, _interface_of(asked)


def _fields_of(schema: Mapping[str, Any], whole: Mapping[str, Any]) -> list[Field]:
    """The properties of a JSON Schema as Make has them."""
    return [_field(name, told, whole) for name, told in schema["properties"].items()]


def _field(name: str, told: Mapping[str, Any], whole: Mapping[str, Any]) -> Field:
    told = next((one for one in told.get("anyOf", ()) if one.get("type") != "null"), told)
    if "$ref" in told:
        told = whole["$defs"][told["$ref"].removeprefix(_REF)]
    if "properties" in told:
        return {**_named(name, "collection"), "spec": _fields_of(told, whole)}
    if told.get("type") == "array":
        item = _field(name, told["items"], whole)
        spec = item.get("spec") or {"type": item["type"]}
        return {**_named(name, "array"), "spec": spec}
    if told.get("format") == "date-time":
        return _named(name, "date")
    return _named(name, _JSON_TYPES.get(told.get("type", "string"), _text(name)))


def _merged(many: list[list[Field]]) -> list[Field]:
    """All fields of several lists, each once; what is told differently in two of them is a text."""
    found: dict[str, Field] = {}
    for field in (field for fields in many for field in fields):
        name = field["name"]
        known = found.get(name, field)
        if known["type"] != field["type"]:
            known = _named(name, "text")
        elif known["type"] == "collection":
            known = {**known, "spec": _merged([known["spec"], field["spec"]])}
        found[name] = known
    return list(found.values())


def _interface_of(asked: Mapping[str, Any]) -> list[Field]:
    """What a request gives, by its document and where its output stands in the answer."""
    [operation] = parse(asked["body"]["query"]).definitions
    if not isinstance(operation, OperationDefinitionNode):
        raise TypeError(operation)
    schema, _ = the_graphql()
    kind: Any = schema.get_root_type(operation.operation)
    response = asked["response"]
    selection: Any = operation.selection_set
    path = response.get("iterate") or response["output"]
    for step in path.strip("{}").split(".")[2:]:
        [node] = [one for one in _nodes(selection) if one.name.value == step]
        kind, selection = get_named_type(kind.fields[step].type), node.selection_set
    return _selected(selection, kind)


def _selected(selection: Any, kind: GraphQLObjectType) -> list[Field]:
    """What is asked for of a type; not its refusals, for they never come out of a module."""
    return [
        _output(node, kind.fields[node.name.value].type)
        for node in _nodes(selection)
        if node.name.value != "userErrors"
    ]


def _output(node: FieldNode, told: Any) -> Field:
    name, kind = node.name.value, get_named_type(told)
    if node.selection_set is not None:
        is_list = is_list_type(get_nullable_type(told))
        spec = _selected(node.selection_set, kind)
        return {**_named(name, "array" if is_list else "collection"), "spec": spec}
    if is_enum_type(kind):
        return _named(name, "text")
    return _named(name, _TYPES.get(kind.name, _text(name)))


def _nodes(selection: Any) -> list[FieldNode]:
    return [node for node in selection.selections if isinstance(node, FieldNode)]


def _named(name: str, kind: str) -> Field:
    return {"name": name, "type": kind, "label": _label(name)}


def _text(name: str) -> str:
    """Which kind of text a field holds, which is told by its name."""
    words = _words(name)
    return "email" if words[-1] == "email" else "url" if words[-1] == "url" else "text"


def _label(name: str) -> str:
    return " ".join(_CAPITALS.get(word, word.title()) for word in _words(name))


def _words(name: str) -> list[str]:
    """The words of `snake_case` or `camelCase`, in small letters."""
    apart = "".join(f"_{char.lower()}" if char.isupper() else char for char in name)
    return apart.split("_")
