"""specs/asyncapi.json: what Stampwire sends, and what it takes over a websocket (AsyncAPI 3)."""

from collections.abc import Iterator, Mapping
from typing import Any

import orjson

from docs.generate.json_schema import pretty, schema_of, word_of
from docs.generate.shared import line
from events import Event, event_types
from events.base import API_VERSION
from models import AttemptKind, Vocabulary, encode_cursor

_DOCUMENT = (
    "subscription Events($after: String) "
    "{ events(after: $after) { id type sequence cursor payload(vocabulary: EN) } }"
)
_REF = "#/$defs/"
_AT = 1778502896
"""The second at which the sample of a request is made."""


def the_asyncapi() -> str:
    """The document: what is said of Stampwire is said from its own side."""
    return pretty(
        {
            "asyncapi": "3.1.0",
            "info": {
                "title": "The events of Stampwire",
                "version": API_VERSION,
                "description": (
                    "Stampwire tells what happened in two ways: it posts each event to the URLs "
                    "that a business registered (webhooks), and it says it to whoever subscribes "
                    "over a websocket. `send` is what Stampwire does, `receive` what it takes."
                ),
                "license": {"name": "Apache-2.0"},
            },
            "defaultContentType": "application/json",
            "servers": _servers(),
            "channels": {
                **{_channel_of(vocabulary): _webhooks(vocabulary) for vocabulary in Vocabulary},
                "graphql": _socket(),
            },
            "operations": _operations(),
            "components": {
                "securitySchemes": _security(),
                "messages": dict(_messages()),
                "schemas": dict(_schemas()),
            },
        }
    )


def _servers() -> dict[str, Any]:
    return {
        "receiver": {
            "host": "{host}",
            "protocol": "https",
            "description": "The partner's own server, as registered by `createWebhookEndpoint`.",
            "variables": {"host": {"default": "partner.example"}},
            "security": [{"$ref": "#/components/securitySchemes/signature"}],
        },
        "stampwire": {
            "host": "{host}",
            "protocol": "wss",
            "protocolVersion": "13",
            "description": "A server of Stampwire.",
            "variables": {"host": {"default": "127.0.0.1:8000"}},
            "security": [{"$ref": "#/components/securitySchemes/key"}],
        },
    }


def _security() -> dict[str, Any]:
    return {
        "signature": {
            "type": "httpApiKey",
            "in": "header",
            "name": "webhook-signature",
            "description": (
                "No key is sent, although AsyncAPI has no nearer word: the header is an "
                "HMAC-SHA256 by the endpoint's signing secret over "
                "`{webhook-id}.{webhook-timestamp}.{body}`, as Standard Webhooks has it. Refuse "
                "what does not verify, and what is older than five minutes."
            ),
        },
        "key": {
            "type": "http",
            "scheme": "bearer",
            "bearerFormat": "7loc_sc_…, a session, or an access token",
            "description": (
                "Browsers cannot set headers on websockets, so it goes into the payload of "
                "`connection_init` instead."
            ),
        },
    }


# -- webhooks -------------------------------------------------------------------------------------


def _channel_of(vocabulary: Vocabulary) -> str:
    return f"webhooks{vocabulary.name}"


def _webhooks(vocabulary: Vocabulary) -> dict[str, Any]:
    return {
        "address": "/{path}",
        "title": f"Webhooks, vocabulary {vocabulary.name}",
        "description": (
            "What an endpoint of this vocabulary is posted. Answer 2xx within 15 seconds. Each "
            "event comes at least once: keep `webhook-id` to know repeats. An endpoint with a "
            "`document` of its own is sent what that document selects, which is not described here."
        ),
        "servers": [{"$ref": "#/servers/receiver"}],
        "parameters": {"path": {"description": "The path of the registered URL."}},
        "messages": {
            kind.__name__: {"$ref": f"#/components/messages/{_message_of(kind, vocabulary)}"}
            for kind in event_types().values()
        },
    }


def _message_of(kind: type[Event], vocabulary: Vocabulary) -> str:
    return f"{kind.__name__}.{vocabulary.name}"


def _messages() -> Iterator[tuple[str, dict[str, Any]]]:
    for vocabulary in Vocabulary:
        for kind in event_types().values():
            yield _message_of(kind, vocabulary), _message(kind, vocabulary)
    for name, (title, schema, example) in _frames().items():
        yield (
            name,
            {
                "name": schema["properties"]["type"]["const"],
                "title": title,
                "payload": schema,
                "examples": [{"payload": example}],
            },
        )


def _message(kind: type[Event], vocabulary: Vocabulary) -> dict[str, Any]:
    name = _message_of(kind, vocabulary)
    said = line(kind.__doc__)
    [sample] = schema_of(kind, vocabulary)["examples"]
    return {
        "name": word_of(kind, vocabulary),
        "title": kind.__name__,
        "summary": said + (" Only for endpoints that ask for it." if kind.opt_in else ""),
        "headers": {"$ref": "#/components/schemas/Headers"},
        "payload": {"$ref": f"#/components/schemas/{name}"},
        "examples": [
            {
                "headers": {
                    "content-type": "application/json",
                    "user-agent": "Stampwire-Webhooks/1",
                    "webhook-id": sample["id"],
                    "webhook-timestamp": str(_AT),
                    "webhook-signature": "v1,K5oZfzN95Z9UVu1EsfQmfVNQhnkZ2pj9o9NDN/H/pI4=",
                },
                "payload": sample,
            }
        ],
    }


def _schemas() -> Iterator[tuple[str, dict[str, Any]]]:
    """The bodies, their parts beside them: a part that says the same in both is there once."""
    yield "Headers", _headers()
    for kind in event_types().values():
        english = schema_of(kind, Vocabulary.EN)["$defs"]
        for vocabulary in Vocabulary:
            schema = schema_of(kind, vocabulary)
            parts = schema["$defs"]
            own = {
                name: f"{name}.{vocabulary.name}"
                for name in parts
                if _opened(parts[name], parts) != _opened(english[name], english)
            }
            for name, part in parts.items():
                yield own.get(name, name), _moved(part, own)
            body = {word: schema[word] for word in schema if word not in ("$defs", "examples")}
            yield _message_of(kind, vocabulary), _moved(body, own)


def _opened(value: Any, parts: Mapping[str, Any]) -> Any:
    """The same, with each part where it is referred to."""
    if isinstance(value, list):
        return [_opened(item, parts) for item in value]
    if not isinstance(value, dict):
        return value
    if "$ref" in value:
        return _opened(parts[value["$ref"].removeprefix(_REF)], parts)
    return {key: _opened(item, parts) for key, item in value.items()}


def _moved(value: Any, own: Mapping[str, str]) -> Any:
    """The same, its references leading to where the parts are now."""
    if isinstance(value, list):
        return [_moved(item, own) for item in value]
    if not isinstance(value, dict):
        return value
    if "$ref" in value:
        name = value["$ref"].removeprefix(_REF)
        return {"$ref": f"#/components/schemas/{own.get(name, name)}"}
    return {key: _moved(item, own) for key, item in value.items()}


def _headers() -> dict[str, Any]:
    text = {"type": "string"}
    told: dict[str, dict[str, Any]] = {
        "content-type": {"const": "application/json"},
        "user-agent": {"description": "Begins with `Stampwire-Webhooks/`."},
        "webhook-id": {"description": "The event's id; the same at every try."},
        "webhook-timestamp": {
            "description": "When this try was made, in seconds.",
            "pattern": "^[0-9]+$",
        },
        "webhook-signature": {
            "description": "One or more signatures, by each secret that is live now.",
            "pattern": "^v1,[A-Za-z0-9+/]{43}=( v1,[A-Za-z0-9+/]{43}=)*$",
        },
        "webhook-previous-id": {
            "description": "The event that this endpoint was due before this one, if there is one."
        },
        "webhook-attempt-kind": {
            "description": "Absent on ordinary deliveries.",
            "enum": [kind.value for kind in AttemptKind if kind is not AttemptKind.DELIVERY],
        },
    }
    optional = ("webhook-previous-id", "webhook-attempt-kind")
    return {
        "type": "object",
        "properties": {name: text | said for name, said in told.items()},
        "required": [name for name in told if name not in optional],
    }


# -- the websocket --------------------------------------------------------------------------------


def _socket() -> dict[str, Any]:
    return {
        "address": "/graphql",
        "title": "Subscriptions",
        "description": (
            "GraphQL over graphql-transport-ws. What `next` carries follows from the document of "
            "its `subscribe`: here it is shown for one that asks for the body of each event, "
            "which is the same text that webhooks carry. Any subscription of schema.graphql goes "
            "the same way."
        ),
        "servers": [{"$ref": "#/servers/stampwire"}],
        "bindings": {
            "ws": {
                "method": "GET",
                "headers": {
                    "type": "object",
                    "properties": {
                        "sec-websocket-protocol": {
                            "type": "string",
                            "const": "graphql-transport-ws",
                        }
                    },
                    "required": ["sec-websocket-protocol"],
                },
            }
        },
        "messages": {name: {"$ref": f"#/components/messages/{name}"} for name in _frames()},
    }


def _frames() -> dict[str, tuple[str, dict[str, Any], dict[str, Any]]]:
    """Each frame with a title, its schema and an example."""
    id = {"type": "string", "description": "Chosen by the client, for each operation."}
    errors = {"type": "array", "items": {"type": "object"}, "minItems": 1}
    authorization = {"type": "string", "description": "`Bearer` and the key."}
    [sample] = schema_of(event_types()["stamp_added"], Vocabulary.EN)["examples"]
    event = {
        "id": sample["id"],
        "type": "STAMP_ADDED",
        "sequence": sample["sequence"],
        "cursor": encode_cursor(sample["sequence"]),
        "payload": orjson.dumps(sample).decode(),
    }
    text = {"type": "string"}
    selected = _object(
        {
            "id": text,
            "type": {"enum": [name.upper() for name in event_types()]},
            "sequence": {"type": "integer"},
            "cursor": text | {"description": "Give it as `after` to go on beyond this event."},
            "payload": text
            | {
                "contentMediaType": "application/json",
                "description": "A body as the webhooks' messages describe it, as text.",
            },
        }
    )
    asked = _object(
        {
            "query": text,
            "variables": {"type": "object"},
            "operationName": {"type": ["string", "null"]},
        },
        "query",
    )
    refused = [{"message": "Not a subscription.", "extensions": {"code": "BAD_REQUEST"}}]
    return {
        "connectionInit": (
            "The first frame, within the time docs/protocol.md says",
            _frame("connection_init", payload=_object({"Authorization": authorization})),
            {"type": "connection_init", "payload": {"Authorization": "Bearer 7loc_sc_…"}},
        ),
        "connectionAck": (
            "The key was accepted",
            _frame("connection_ack"),
            {"type": "connection_ack"},
        ),
        "subscribe": (
            "Begin an operation",
            _frame("subscribe", id=id, payload=asked),
            {"id": "1", "type": "subscribe", "payload": {"query": _DOCUMENT}},
        ),
        "next": (
            "An event of the operation above",
            _frame("next", id=id, payload=_object({"data": _object({"events": selected})})),
            {"id": "1", "type": "next", "payload": {"data": {"events": event}}},
        ),
        "error": (
            "The operation was refused",
            _frame("error", id=id, payload=errors),
            {"id": "1", "type": "error", "payload": refused},
        ),
        "complete": (
            "The operation is at its end, whichever side ends it",
            _frame("complete", id=id),
            {"id": "1", "type": "complete"},
        ),
        "ping": ("Are you there?", _frame("ping"), {"type": "ping"}),
        "pong": ("I am.", _frame("pong"), {"type": "pong"}),
    }


def _frame(type: str, **more: Any) -> dict[str, Any]:
    return _object({"type": {"type": "string", "const": type}, **more})


def _object(properties: dict[str, Any], *required: str) -> dict[str, Any]:
    """An object that has all of these, or at least those that are required."""
    return {
        "type": "object",
        "properties": properties,
        "required": list(required or properties),
    }


# -- operations -----------------------------------------------------------------------------------


def _operations() -> dict[str, Any]:
    posts = {
        f"postEvent{vocabulary.name}": {
            "action": "send",
            "channel": {"$ref": f"#/channels/{_channel_of(vocabulary)}"},
            "summary": f"Post an event to an endpoint of vocabulary {vocabulary.name}.",
            "bindings": {"http": {"method": "POST"}},
        }
        for vocabulary in Vocabulary
    }
    return {
        **posts,
        "connect": _exchange("Let a client in.", "connectionInit", "connectionAck"),
        "subscribe": _exchange("Run an operation.", "subscribe", "next", "error", "complete"),
        "stop": _exchange("End an operation that the client wants no more.", "complete"),
        "answerPing": _exchange("Say that the connection is alive.", "ping", "pong"),
    }


def _exchange(summary: str, asked: str, *answers: str) -> dict[str, Any]:
    def at_socket(name: str) -> dict[str, str]:
        return {"$ref": f"#/channels/graphql/messages/{name}"}

    channel = {"$ref": "#/channels/graphql"}
    operation = {
        "action": "receive",
        "channel": channel,
        "summary": summary,
        "messages": [at_socket(asked)],
    }
    if answers:
        operation["reply"] = {"channel": channel, "messages": [at_socket(name) for name in answers]}
    return operation
