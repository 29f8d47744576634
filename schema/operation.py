"""Mutations: input, payload and documentation, all from the operation they perform."""

import dataclasses
import inspect
from collections.abc import Mapping
from typing import Annotated, Any, get_args, get_origin, get_type_hints

import strawberry
from graphql.pyutils import snake_to_camel

import schema.campaigns
import schema.channels
import schema.claim_codes
import schema.deliveries
import schema.imports
import schema.lotteries
import schema.points_of_sale
import schema.replays
import schema.staff
import schema.vouchers
import schema.webhook_endpoints  # noqa: F401 -- with them, every row has the type that shows it
from models import EventRow
from resolvers.perform import Resolver
from resolvers.watching import watched
from schema.base import Info, object_types, resolved
from schema.errors import user_errors
from schema.events import Event
from schema.inputs import doc_of, given, register
from services.operation import Operation, Outcome, Shown

operations: dict[str, Operation[..., Outcome]] = {}
"""Every mutation by its GraphQL name, with the operation it performs."""
_INPUT = strawberry.argument(description="Everything it is told.")


def mutation(resolver: Resolver, *, input: type | None = None, name: str | None = None) -> Any:
    """The field of a mutation.

    Its input and payload are the operation's own; a partial update names an input of this floor.
    """
    operation = resolver.operation
    python_name = name or operation.__name__
    public_name = snake_to_camel(python_name, upper=False)
    input_type = input or get_type_hints(operation, include_extras=True)["input"]
    register(input_type)
    partial = getattr(input_type, "is_partial", False)
    operations[public_name] = operation

    async def resolve(root: Any, info: Info, input: Any) -> Outcome:  # noqa: ARG001
        asked = given(input) if partial else input
        call = resolver(info.context, _with_header(asked, info))
        return await watched(info.context, public_name, call)

    return resolved(
        resolve,
        payload_type(snake_to_camel(python_name) + "Payload", outcome_of(operation)) | None,
        description_of(operation),
        input=Annotated[input_type, _INPUT],
    )


def description_of(operation: Operation[..., Any]) -> str:
    """What an operation does, who may call it, which events it fires."""
    parts = [inspect.cleandoc(operation.__doc__ or "")]
    roles = getattr(operation, "roles", None)
    if roles is None:
        parts.append("Needs no key.")
    elif roles:
        parts.append(f"Roles: {', '.join(role.name for role in roles)}.")
    else:
        parts.append("Only with the operator's key.")
    if fires := getattr(operation, "fires", ()):
        parts.append(f"Events: {', '.join(kind.type for kind in fires)}.")
    return "\n\n".join(parts)


def outcome_of(operation: Operation[..., Any]) -> type[Outcome]:
    """What an operation hands back."""
    found: type[Outcome] | None = getattr(operation, "outcome", None)
    return found or get_type_hints(operation)["return"]


_FIXED = {"events", "user_errors"}


def payload_type(name: str, outcome: type[Outcome]) -> Any:
    """The payload of a mutation: what the operation hands back, in GraphQL's types."""
    hints = get_type_hints(outcome, include_extras=True)
    annotations: dict[str, Any] = {}
    fields: dict[str, Any] = {}
    for item in dataclasses.fields(outcome):
        if item.name in _FIXED:
            continue
        annotations[item.name] = _shown(hints[item.name])
        fields[item.name] = strawberry.field(
            description=doc_of(hints[item.name]) or _DESCRIPTIONS.get(item.name) or _said(item.name)
        )
    annotations["events"] = list[Event]
    fields["events"] = strawberry.field(
        description="The events this call caused, in the order of the log."
    )
    fields["user_errors"] = user_errors("Why it was refused; empty on success.")
    made = type(name, (), {"__annotations__": annotations, **fields})
    return strawberry.type(made, description=inspect.getdoc(outcome))


_DESCRIPTIONS = {
    "created": "Whether it was made by this call.",
    "customer_created": "Whether the customer was made by this call.",
    "secret": "The secret, in full. It is shown this once.",
    "api_key_secret": "The owner's API key, in full. It is shown this once.",
    "signing_secret": "The signing secret, in full. It is shown this once.",
    "previous_expires_at": "Until when requests are signed with the former secret too.",
    "deleted_id": "The id of what was deleted.",
    "body": "The body that was sent.",
}


def _said(name: str) -> str:
    words = name.replace("_", " ")
    return f"The {words}." if name.endswith("s") else f"The {words}, as it now is."


def _shown(annotation: Any) -> Any:
    """An annotation of a lower floor, its rows replaced by the types that show them."""
    if isinstance(annotation, type):
        return _shown_type(annotation)
    origin, arguments = get_origin(annotation), get_args(annotation)
    if origin is list:
        return list[_shown(arguments[0])]  # type: ignore[misc]
    if type(None) in arguments:
        [kind] = [item for item in arguments if item is not type(None)]
        return _shown(kind) | None
    return _shown(arguments[0]) if hasattr(annotation, "__metadata__") else annotation


def _shown_type(kind: type) -> Any:
    if kind is Shown:
        return str
    if kind is EventRow:
        return Event
    if dataclasses.is_dataclass(kind) and kind not in object_types:
        object_types[kind] = _output(kind)
    return object_types.get(kind, kind)


def _output(cls: type) -> Any:
    """An output type from a service's own dataclass; its `Doc`s are the documentation."""
    if "__strawberry_definition__" in vars(cls):
        return cls
    hints = get_type_hints(cls, include_extras=True)
    fields = {
        item.name: strawberry.field(description=doc_of(hints[item.name]))
        for item in dataclasses.fields(cls)
    }
    annotations = {name: _shown(hints[name]) for name in fields}
    made = type(cls.__name__, (), {"__annotations__": annotations, **fields})
    made.is_type_of = classmethod(lambda _, value, __: isinstance(value, cls))  # type: ignore[attr-defined]
    return strawberry.type(made, description=inspect.getdoc(cls))


def _with_header(asked: Any, info: Info) -> Any:
    """The input, with the Idempotency-Key header where a document has this one mutation."""
    header = info.context.idempotency_header
    raw = info._raw_info  # noqa: SLF001 -- Strawberry shows the operation's selections nowhere else
    if header is None or len(raw.operation.selection_set.selections) != 1:
        return asked
    if isinstance(asked, Mapping):
        return {"idempotency_key": header, **asked}
    if getattr(asked, "idempotency_key", header) is None:
        asked.idempotency_key = header
    return asked
