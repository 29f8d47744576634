"""specs/bruno: requests to begin with, as a collection that Bruno opens.

Each is an operation of the contract as it stands there; they run one after another, and each
leaves behind the ids that those after it need.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from textwrap import indent
from typing import Any

import orjson
from graphql import FieldNode, OperationDefinitionNode, SelectionSetNode, parse

from docs.generate.shared import FOLDER

_CONTRACT = FOLDER.parent / "tests" / "contract" / "operations.graphql"


@dataclass(frozen=True)
class Request:
    """One request: what it shows, the operation it runs, what it keeps for those after it."""

    name: str
    operation: str
    variables: Mapping[str, Any]
    told: str
    keeps: Mapping[str, str] = field(default_factory=dict)
    """Variables of the collection, each by the path in `data`."""
    with_key: bool = True


REQUESTS = (
    Request("Who am I", "Viewer", {}, "The key's staff login and business."),
    Request(
        "Sign in",
        "SignIn",
        {"input": {"login": "{{login}}", "password": "{{password}}"}},
        "A person's way in: a session takes the place of a key. The only mutation without one.",
        {"session": "signIn.session.secret"},
        with_key=False,
    ),
    Request(
        "Create a voucher template",
        "CreateVoucherTemplate",
        {
            "input": {
                "title": "Free coffee",
                "redeemCode": "FREECOFFEE",
                "validity": {"days": 30},
                "redemptionMode": "STAFF_SCAN",
            }
        },
        "What a full card gives.",
        {"voucherTemplateId": "createVoucherTemplate.voucherTemplate.id"},
    ),
    Request(
        "Create a card template",
        "CreateCardTemplate",
        {
            "input": {
                "name": "Kopi card",
                "stampsRequired": 6,
                "earningRule": {"perOrder": True},
                "overflow": "CARRY_OVER",
                "goals": [
                    {"stamps": 3, "reward": {"award": {"title": "Cookie"}}},
                    {
                        "stamps": 6,
                        "reward": {"voucher": {"voucherTemplateId": "{{voucherTemplateId}}"}},
                    },
                ],
            }
        },
        "A card of six stamps: a cookie at three, the voucher at six.",
        {"templateId": "createCardTemplate.cardTemplate.id"},
    ),
    Request(
        "Publish it",
        "PublishCardTemplate",
        {"input": {"id": "{{templateId}}"}},
        "From now on cards can be issued by it.",
    ),
    Request(
        "Issue a card",
        "IssueCard",
        {
            "input": {
                "templateId": "{{templateId}}",
                "customer": {"name": "Ana", "email": "ana-{{$timestamp}}@example.com"},
                "idempotencyKey": "{{$guid}}",
            }
        },
        "The customer is made with it, or found by the address.",
        {"cardId": "issueCard.card.id"},
    ),
    Request(
        "Ask what stamps would do",
        "PreviewStamps",
        {"input": {"card": {"id": "{{cardId}}"}, "count": 6}},
        "Nothing is changed.",
    ),
    Request(
        "Add stamps",
        "AddStamps",
        {
            "input": {
                "card": {"id": "{{cardId}}"},
                "count": 6,
                "channel": "POS",
                "externalRef": "receipt-77",
                "idempotencyKey": "{{$guid}}",
            }
        },
        "Both goals are reached at once: a cookie and a voucher. The same `idempotencyKey` again "
        "would give this answer again, and add nothing.",
        {"voucherId": "addStamps.rewards[1].voucher.id"},
    ),
    Request(
        "Ask whether the voucher can be redeemed",
        "CanRedeem",
        {"voucher": {"id": "{{voucherId}}"}},
        "What a till asks when a code is scanned.",
    ),
    Request(
        "Redeem the voucher",
        "RedeemVoucher",
        {"input": {"voucher": {"id": "{{voucherId}}"}, "idempotencyKey": "{{$guid}}"}},
        "It happens once: a second request with another key is refused.",
    ),
    Request(
        "See the card",
        "CardState",
        {"card": {"id": "{{cardId}}"}},
        "The card, its next goal, its vouchers and its history.",
    ),
    Request("Read the journal", "Journal", {"first": 10}, "What happened, the newest first."),
    Request(
        "See a sample of an event",
        "EventSample",
        {"type": "VOUCHER_REDEEMED", "vocabulary": "ID"},
        "What a webhook will carry, in either vocabulary.",
    ),
    Request(
        "Create a webhook endpoint",
        "CreateWebhookEndpoint",
        {
            "input": {
                "url": "{{receiver}}",
                "types": ["VOUCHER_REDEEMED", "GOAL_REACHED"],
                "vocabulary": "ID",
                "name": "Bruno",
            }
        },
        "`signingSecret` is shown this once.",
        {"endpointId": "createWebhookEndpoint.endpoint.id"},
    ),
    Request("List the webhook endpoints", "WebhookEndpoints", {}, "And how each of them fares."),
    Request(
        "See its deliveries",
        "Deliveries",
        {"endpointId": "{{endpointId}}"},
        "Each event it was due, with every attempt.",
    ),
    Request(
        "Delete the webhook endpoint",
        "DeleteWebhookEndpoint",
        {"input": {"id": "{{endpointId}}"}},
        "Nothing more is sent to it.",
    ),
)
ENVIRONMENT = {"url": "http://127.0.0.1:8000/graphql", "receiver": "https://example.com/hooks"}
"""What is open; the key, the login and the password are secrets, and stand nowhere."""
SECRETS = ("apiKey", "login", "password")


def the_requests() -> Mapping[str, str]:
    """The files of the collection."""
    return dict(_files())


def _files() -> Iterator[tuple[str, str]]:
    about = {"version": "1", "name": "Stampwire", "type": "collection", "ignore": []}
    yield "bruno.json", orjson.dumps(about, option=orjson.OPT_INDENT_2).decode() + "\n"
    yield "collection.bru", _blocks(("auth", "mode: bearer"), ("auth:bearer", "token: {{apiKey}}"))
    shown = "\n".join(f"{name}: {value}" for name, value in ENVIRONMENT.items())
    hidden = ",\n".join(f"  {name}" for name in SECRETS)
    yield "environments/local.bru", _blocks(("vars", shown)) + f"\nvars:secret [\n{hidden}\n]\n"
    documents = _documents()
    for number, request in enumerate(REQUESTS, 1):
        yield f"{number:02} {request.name}.bru", _request(number, request, documents)


def _documents() -> dict[str, str]:
    text = _CONTRACT.read_text(encoding="utf-8")
    return {
        node.name.value: text[node.loc.start : node.loc.end]
        for node in parse(text).definitions
        if isinstance(node, OperationDefinitionNode) and node.name and node.loc
    }


def _request(number: int, request: Request, documents: Mapping[str, str]) -> str:
    mode = "inherit" if request.with_key else "none"
    variables = orjson.dumps(request.variables, option=orjson.OPT_INDENT_2).decode()
    document = documents[request.operation]
    blocks = [
        ("meta", f"name: {request.name}\ntype: graphql\nseq: {number}"),
        ("post", f"url: {{{{url}}}}\nbody: graphql\nauth: {mode}"),
        ("body:graphql", document),
        ("body:graphql:vars", variables),
        ("assert", "\n".join(_assertions(document))),
        ("docs", request.told),
    ]
    if request.keeps:
        kept = "\n".join(f"{name}: res.body.data.{path}" for name, path in request.keeps.items())
        blocks.insert(4, ("vars:post-response", kept))
    return _blocks(*blocks)


def _assertions(document: str) -> Iterator[str]:
    yield "res.status: eq 200"
    yield "res.body.errors: isUndefined"
    [operation] = parse(document).definitions
    assert isinstance(operation, OperationDefinitionNode)  # noqa: S101 -- it is one of _documents
    for name, below in _fields(operation.selection_set):
        if "userErrors" in dict(_fields(below)):
            yield f"res.body.data.{name}.userErrors.length: eq 0"


def _fields(selected: SelectionSetNode | None) -> Iterator[tuple[str, SelectionSetNode | None]]:
    for node in selected.selections if selected else ():
        if isinstance(node, FieldNode):
            yield node.name.value, node.selection_set


def _blocks(*blocks: tuple[str, str]) -> str:
    """Blocks of Bruno's language."""
    return "\n".join(f"{name} {{\n{indent(text, '  ')}\n}}\n" for name, text in blocks)
