"""What an assistant may call: tools made from the schema that a server tells of itself.

Each query and each mutation is one tool; its arguments are those of the field, as JSON Schema, and
its document selects what a person would want to read of the answer.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Any

from graphql import (
    GraphQLArgument,
    GraphQLEnumType,
    GraphQLField,
    GraphQLInputField,
    GraphQLInputObjectType,
    GraphQLInputType,
    GraphQLInterfaceType,
    GraphQLList,
    GraphQLNonNull,
    GraphQLObjectType,
    GraphQLOutputType,
    GraphQLSchema,
    get_named_type,
    is_leaf_type,
    print_ast,
    value_from_ast_untyped,
)

_DEPTH = 3
"""How many objects within one another an answer shows."""
_ADDITIVE = ("add", "claim", "create", "import", "issue", "report")
"""How mutations begin that take nothing away and change nothing that was there."""
_SECRETS = {"secret", "signingSecret", "apiKeySecret", "password", "newPassword"}
"""Fields that a language model is neither to be told nor to be asked for."""
_JSON_TYPES = {"Int": "integer", "Float": "number", "Boolean": "boolean", "JSON": None}
_PREVIEWS = {
    "addStamps": "previewStamps",
    "redeemVoucher": "canRedeem",
    "createCampaign": "campaignDryRun",
}
"""Mutations for which the server has a query that tells what they would do."""
DRY_RUN = "dryRun"


@dataclass(frozen=True)
class Tool:
    """A field of the API that can be called."""

    name: str
    field: GraphQLField
    writes: bool
    schema: GraphQLSchema

    @property
    def description(self) -> str:
        """What the API says of it."""
        return self.field.description or self.name

    @property
    def destroys(self) -> bool:
        """Whether it may change or take away what was there."""
        return self.writes and not self.name.startswith(_ADDITIVE)

    @property
    def preview(self) -> str | None:
        """The query that tells what it would do, where the server has one."""
        return _PREVIEWS.get(self.name)

    @property
    def has_dry_run(self) -> bool:
        """Whether its input has a `dryRun` of its own, which the server keeps to."""
        return self.writes and DRY_RUN in self.input_fields

    @property
    def roles(self) -> set[str]:
        """The roles that may call it, as its description names them; none named is all."""
        for line in self.description.splitlines():
            if line.startswith("Roles: "):
                return set(line.removeprefix("Roles: ").rstrip(".").split(", "))
        return set()

    @property
    def input_fields(self) -> Mapping[str, GraphQLInputField]:
        """The fields of its input, if it has one."""
        argument = self.field.args.get("input")
        type = get_named_type(argument.type) if argument else None
        return type.fields if isinstance(type, GraphQLInputObjectType) else {}

    @cached_property
    def arguments(self) -> dict[str, Any]:
        """The JSON Schema of its arguments."""
        return _object_of(self.field.args)

    @cached_property
    def document(self) -> str:
        """The operation that is sent."""
        arguments = self.field.args
        declared = ", ".join(f"${name}: {_declared(arg)}" for name, arg in arguments.items())
        given = ", ".join(f"{name}: ${name}" for name in arguments)
        kind = "mutation" if self.writes else "query"
        head = f"{kind} {self.name[0].upper()}{self.name[1:]}"
        selected = self._selection(self.field.type, _DEPTH)
        if not arguments:
            return f"{head} {{ {self.name}{selected} }}"
        return f"{head}({declared}) {{ {self.name}({given}){selected} }}"

    def variables_from(self, input: Mapping[str, Any]) -> dict[str, Any]:
        """Its own variables, from the input of the mutation that it previews."""
        if self.input_fields:
            return {"input": {name: input[name] for name in self.input_fields if name in input}}
        return {name: input[name] for name in self.field.args if name in input}

    def _selection(self, type: GraphQLOutputType, depth: int) -> str:
        """Everything that needs no arguments, down to a depth; lists within lists are left out."""
        named = get_named_type(type)
        return "" if is_leaf_type(named) else f" {{ {' '.join(self._selected(named, depth))} }}"

    def _selected(self, type: Any, depth: int) -> Iterator[str]:
        is_interface = isinstance(type, GraphQLInterfaceType)
        if not isinstance(type, GraphQLObjectType):
            yield "__typename"
        if not isinstance(type, GraphQLObjectType | GraphQLInterfaceType):
            return
        for name, field in type.fields.items():
            if name == "edges" or any(map(_is_required, field.args.values())):
                continue
            below = get_named_type(field.type)
            if is_leaf_type(below):
                if not field.args or depth == _DEPTH:
                    yield name
            elif name == "nodes":
                yield name + self._selection(field.type, depth)
            elif depth > 1 and not is_interface and not below.name.endswith("Connection"):
                yield name + self._selection(field.type, depth - 1)
        if is_interface and type.name == "UserError":
            yield from self._what_refusals_add(type)

    def _what_refusals_add(self, base: Any) -> Iterator[str]:
        for kind in self.schema.get_possible_types(base):
            more = [
                name
                for name, field in kind.fields.items()
                if name not in base.fields and is_leaf_type(get_named_type(field.type))
            ]
            if more:
                yield f"... on {kind.name} {{ {' '.join(more)} }}"


def tools_of(schema: GraphQLSchema, role: str | None) -> dict[str, Tool]:
    """Every operation that a staff login of this role may ask for, but those about secrets."""
    found = [
        Tool(name, field, writes=root is schema.mutation_type, schema=schema)
        for root in (schema.query_type, schema.mutation_type)
        for name, field in (root.fields if root else {}).items()
    ]
    return {tool.name: tool for tool in found if _is_for(tool, role) and not _has_secrets(tool)}


def _is_for(tool: Tool, role: str | None) -> bool:
    words = ("Only with the operator's key.", "Needs no key.")
    if any(line in words for line in tool.description.splitlines()):
        return False
    return not tool.roles or role in tool.roles


def _has_secrets(tool: Tool) -> bool:
    answer = get_named_type(tool.field.type)
    told = set(answer.fields) if isinstance(answer, GraphQLObjectType) else set()
    return bool((told | set(tool.input_fields)) & _SECRETS)


# -- arguments as JSON Schema ---------------------------------------------------------------------


def _declared(argument: GraphQLArgument) -> str:
    default = argument.default.literal if argument.default else None
    return f"{argument.type} = {print_ast(default)}" if default else f"{argument.type}"


def _is_required(argument: GraphQLArgument | GraphQLInputField) -> bool:
    return isinstance(argument.type, GraphQLNonNull) and argument.default is None


def _object_of(fields: Mapping[str, GraphQLArgument | GraphQLInputField]) -> dict[str, Any]:
    return {
        "type": "object",
        "properties": {name: _described(field) for name, field in fields.items()},
        "required": [name for name, field in fields.items() if _is_required(field)],
        "additionalProperties": False,
    }


def _described(field: GraphQLArgument | GraphQLInputField) -> dict[str, Any]:
    schema = _schema_of(field.type)
    if field.description:
        schema["description"] = field.description
    if field.default and field.default.literal:
        default = value_from_ast_untyped(field.default.literal)
        schema |= {} if default is None else {"default": default}
    return schema


def _schema_of(type: GraphQLInputType) -> dict[str, Any]:
    if isinstance(type, GraphQLNonNull):
        return _schema_of(type.of_type)
    if isinstance(type, GraphQLList):
        return {"type": "array", "items": _schema_of(type.of_type)}
    if isinstance(type, GraphQLEnumType):
        return {"type": "string", "enum": list(type.values)}
    if isinstance(type, GraphQLInputObjectType):
        schema = _object_of(type.fields)
        return schema | ({"minProperties": 1, "maxProperties": 1} if type.is_one_of else {})
    word = _JSON_TYPES.get(type.name, "string")
    return {"type": word} if word else {}
