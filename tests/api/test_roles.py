"""Who may do what: every mutation, every role, and nothing changed where it was denied."""

from collections.abc import AsyncIterator
from typing import Any

import pytest
from graphql import GraphQLSchema

from clients import Client
from fakes.providers import serving
from fakes.seven_loc import SevenLoc
from models import Mode, Role
from samples import NOBODY, Things, an_endpoint, arguments, document, things_of
from schema.operation import operations

OWNER, MANAGER, SCANNER = Role.OWNER, Role.MANAGER, Role.SCANNER
EVERYBODY = {OWNER, MANAGER, SCANNER}

MAY: dict[str, set[Role]] = {
    # Issue, stamp, redeem, report, play; customers on the way.
    "issueCard": EVERYBODY,
    "addStamps": EVERYBODY,
    "addStampsBatch": EVERYBODY,
    "replaceCard": EVERYBODY,
    "reportCardSaved": EVERYBODY,
    "reportCardOpened": EVERYBODY,
    "issueVoucher": EVERYBODY,
    "redeemVoucher": EVERYBODY,
    "playLottery": EVERYBODY,
    "createCustomer": EVERYBODY,
    "updateCustomer": EVERYBODY,
    "setConsent": EVERYBODY,
    # Claim codes.
    "createClaimCodes": EVERYBODY,
    "claimStamps": EVERYBODY,
    # A scanner its own, for fifteen minutes.
    "voidOperation": EVERYBODY,
    "voidVoucher": EVERYBODY,
    "reverseRedemption": EVERYBODY,
    # A scanner those it created.
    "createWebhookEndpoint": EVERYBODY,
    "updateWebhookEndpoint": EVERYBODY,
    "pauseWebhookEndpoint": EVERYBODY,
    "resumeWebhookEndpoint": EVERYBODY,
    "deleteWebhookEndpoint": EVERYBODY,
    "rotateSigningSecret": EVERYBODY,
    "sendTestEvent": EVERYBODY,
    "redeliver": EVERYBODY,
    "redeliverDead": EVERYBODY,
    "skipEvent": EVERYBODY,
    "replayEvents": EVERYBODY,
    "stopReplay": EVERYBODY,
    # Templates and locations.
    "createVoucherTemplate": {OWNER, MANAGER},
    "updateVoucherTemplate": {OWNER, MANAGER},
    "archiveVoucherTemplate": {OWNER, MANAGER},
    "createCardTemplate": {OWNER, MANAGER},
    "updateCardTemplate": {OWNER, MANAGER},
    "publishCardTemplate": {OWNER, MANAGER},
    "archiveCardTemplate": {OWNER, MANAGER},
    "setJoinPage": {OWNER, MANAGER},
    "createCampaign": {OWNER, MANAGER},
    "cancelCampaign": {OWNER, MANAGER},
    "importCardTemplate": {OWNER, MANAGER},
    "createLocation": {OWNER, MANAGER},
    "updateLocation": {OWNER, MANAGER},
    "archiveLocation": {OWNER, MANAGER},
    "deleteCard": {OWNER, MANAGER},
    "mergeCustomers": {OWNER, MANAGER},
    "importCustomers": {OWNER, MANAGER},
    # Connectors.
    "connectPointOfSale": {OWNER, MANAGER},
    "updatePointOfSale": {OWNER, MANAGER},
    "testPointOfSale": {OWNER, MANAGER},
    "disconnectPointOfSale": {OWNER, MANAGER},
    "connectChannel": {OWNER, MANAGER},
    "testChannel": {OWNER, MANAGER},
    "disconnectChannel": {OWNER, MANAGER},
    # The test clock.
    "advanceTestClock": {OWNER, MANAGER},
    # Business settings, staff, API keys, erasure.
    "updateBusiness": {OWNER},
    "eraseCustomer": {OWNER},
    "createStaff": {OWNER},
    "updateStaff": {OWNER},
    "disableStaff": {OWNER},
    "enableStaff": {OWNER},
    "generateApiKey": {OWNER},
    "regenerateApiKey": {OWNER},
    "updateApiKey": {OWNER},
    "deleteApiKey": {OWNER},
    # Whatever they may see, an app may carry.
    "createAccessToken": EVERYBODY,
    # Everybody for itself.
    "changePassword": EVERYBODY,
    "signOut": EVERYBODY,
    # One's own; an owner those of others.
    "endSession": EVERYBODY,
    "endAllSessions": EVERYBODY,
    # Whoever knows the login and its password.
    "signIn": EVERYBODY,
    # Whoever reads the login's mail.
    "requestPasswordReset": EVERYBODY,
    "resetPassword": EVERYBODY,
    # The operator's key alone.
    "createBusiness": set(),
}
"""Which roles may call which mutation, as the table "Who may do what" of the domain has it."""

PUBLIC = {"signIn", "requestPasswordReset", "resetPassword"}
"""These need no key."""
NOT_BY_KEY = {"signOut", "changePassword", *PUBLIC}
"""These are refused with our samples: they need a session, or one's own password."""


GOES_ON = {"importCustomers"}
"""What these began goes on in the background: a repeat tells how far it has come."""


@pytest.fixture
def schema() -> GraphQLSchema:
    """The schema as graphql-core has it."""
    from server import _schema  # noqa: PLC0415 -- made once, and only where it is needed

    return _schema._schema


def asked_of(schema: GraphQLSchema, name: str, things: Things) -> dict[str, Any]:
    """Valid variables for a mutation."""
    mutations: Any = schema.mutation_type
    given = arguments(mutations.fields[name], things, f"Mutation.{name}")
    if name == "changePassword":
        given["input"].pop("staffId", None)
    return given


async def test_every_mutation_has_its_row(schema: GraphQLSchema) -> None:
    assert set(MAY) == set(operations)


async def test_whoever_may_not_is_forbidden_and_changes_nothing(
    house: Any, schema: GraphQLSchema
) -> None:
    things = await things_of(house.database, house.actor, house.deployment.secrets)
    clients = {OWNER: house.owner}
    for role in (MANAGER, SCANNER):
        clients[role] = (await house.hire(role))[1]
    denied = [(name, role) for name, roles in MAY.items() for role in EVERYBODY - roles]
    before = await house.dump()

    answers = {
        (name, role): await clients[role].call(
            document(schema, f"Mutation.{name}", 1), asked_of(schema, name, things)
        )
        for name, role in denied
    }

    assert len(denied) > 30
    told = {key: answer.codes for key, answer in answers.items()}
    assert told == {key: ["FORBIDDEN"] for key in denied}
    assert all(list(answer.body["data"].values()) == [None] for answer in answers.values())
    assert await house.dump() == before


async def test_whoever_may_is_not_forbidden(house: Any, schema: GraphQLSchema) -> None:
    faults: dict[Any, Any] = {}
    clients = {
        SCANNER: (await house.hire(SCANNER))[1],
        MANAGER: (await house.hire(MANAGER))[1],
        OWNER: house.owner,
    }
    for name, roles in MAY.items():
        things = await things_of(house.database, house.actor, house.deployment.secrets)
        for role, client in clients.items():
            if role in roles and name != "signIn":
                answer = await client.call(
                    document(schema, f"Mutation.{name}", 1), asked_of(schema, name, things)
                )
                if answer.codes:
                    faults[name, role] = answer.body["errors"]

    assert faults == {}


@pytest.fixture
async def provider() -> AsyncIterator[SevenLoc]:
    """Whom a channel is connected to."""
    fake = SevenLoc()
    async with serving(fake):
        yield fake


async def test_an_owners_samples_succeed_and_repeats_tell_the_same(
    open_house: Any, schema: GraphQLSchema, provider: SevenLoc
) -> None:
    """Every mutation once for real, and once more with its key: but for secrets, the same."""
    house = await open_house(mode=Mode.TEST)
    refused, different = {}, {}
    for name in set(MAY) - NOT_BY_KEY - {"createBusiness"}:
        things = await things_of(house.database, house.actor, house.deployment.secrets)
        asked = asked_of(schema, name, things)
        if name == "reverseRedemption":
            redeem = asked_of(schema, "redeemVoucher", things)
            await house.owner.do(document(schema, "Mutation.redeemVoucher", 1), redeem)
        if name == "connectChannel":
            asked["input"] |= {"kind": "SEVEN_LOC", "settings": provider.settings}
        asked["input"]["idempotencyKey"] = "once"
        first, repeat = [
            (await house.owner.do(document(schema, f"Mutation.{name}", 2), asked))[name]
            for _ in range(2)
        ]
        if first["userErrors"]:
            refused[name] = first["userErrors"]
        if name not in GOES_ON and not _is_same(first, repeat):
            different[name] = (first, repeat)

    assert refused == {}
    assert different == {}


def _is_same(first: dict[str, Any], repeat: dict[str, Any]) -> bool:
    """Whether a repeat tells the same, but for secrets, which it must not tell."""
    secrets = {name for name in ("secret", "signingSecret") if first.get(name)}
    if secrets:
        [error] = repeat.pop("userErrors")
        hidden = all(repeat.pop(name) is None for name in secrets)
        told = {key: value for key, value in first.items() if key not in {*secrets, "userErrors"}}
        return hidden and error["code"] == "SECRET_ALREADY_SHOWN" and repeat == told
    return first == repeat


async def test_strangers_are_unauthenticated_at_every_root(
    house: Any, schema: GraphQLSchema
) -> None:
    things = await things_of(house.database, house.actor, house.deployment.secrets)
    stranger: Client = house.client_of(None)
    forged: Client = house.client_of(
        house.owner.key[:-1] + ("x" if house.owner.key[-1] != "x" else "y")
    )
    before = await house.dump()
    answers = {}
    for type_name in ("Query", "Mutation"):
        shown: Any = schema.type_map[type_name]
        for name, field in shown.fields.items():
            if name in {*PUBLIC, "rateLimit"}:  # whoever calls may know their limit
                continue
            given = arguments(field, things, f"{type_name}.{name}")
            for who in (stranger, forged):
                ask = document(schema, f"{type_name}.{name}", 1)
                answers[name, who is forged] = (await who.call(ask, given)).codes

    assert answers == {key: ["UNAUTHENTICATED"] for key in answers}
    assert await house.dump() == before


async def test_only_the_operator_makes_businesses(house: Any, schema: GraphQLSchema) -> None:
    things = await things_of(house.database, house.actor, house.deployment.secrets)
    asked = asked_of(schema, "createBusiness", things)

    answer = await house.owner.call(document(schema, "Mutation.createBusiness", 1), asked)

    assert answer.codes == ["FORBIDDEN"]


async def test_a_scanner_sees_and_changes_only_the_endpoints_it_made(
    house: Any, schema: GraphQLSchema
) -> None:
    things = await things_of(house.database, house.actor, house.deployment.secrets)
    actor, scanner = await house.hire(SCANNER)
    own = await an_endpoint(house.database, actor, house.deployment.secrets, "Its own")
    listing = "{ webhookEndpoints { nodes { id } totalCount } }"
    before = await house.dump()

    seen = (await scanner.do(listing))["webhookEndpoints"]
    found = await scanner.do("query($id: ID!) { node(id: $id) { id } }", {"id": things["endpoint"]})
    listed = await scanner.do(
        "query($id: ID!) { deliveries(endpointId: $id) { totalCount } }",
        {"id": things["endpoint"]},
    )
    by_hand = {"sendTestEvent", "redeliver", "redeliverDead", "skipEvent", "replayEvents"}
    names = [name for name in MAY if "ndpoint" in name or name in {*by_hand, "stopReplay"}]
    refusals = {
        name: (
            await scanner.do(
                document(schema, f"Mutation.{name}", 1), asked_of(schema, name, things)
            )
        )[name]["userErrors"]
        for name in {*names, "rotateSigningSecret"} - {"createWebhookEndpoint"}
    }

    assert seen == {"nodes": [{"id": own.id}], "totalCount": 1}
    assert (found["node"], listed["deliveries"]) == (None, None)
    codes = {name: [error["code"] for error in errors] for name, errors in refusals.items()}
    assert codes == {name: ["NOT_FOUND"] for name in refusals}
    assert await house.dump() == before


async def test_contact_data_is_an_owners_to_give(house: Any) -> None:
    ask = """mutation($input: CreateWebhookEndpointInput!) {
        createWebhookEndpoint(input: $input) {
            endpoint { includeContact } userErrors { code } } }"""
    asked = {"input": {"url": NOBODY, "includeContact": True}}

    denied = [await (await house.hire(role))[1].call(ask, asked) for role in (MANAGER, SCANNER)]
    given = await house.owner.do(ask, asked)

    assert [answer.codes for answer in denied] == [["FORBIDDEN"], ["FORBIDDEN"]]
    assert given["createWebhookEndpoint"]["endpoint"] == {"includeContact": True}


async def test_only_owners_change_another_staffs_password(house: Any) -> None:
    ask = """mutation($input: ChangePasswordInput!) {
        changePassword(input: $input) { staff { id } userErrors { code } } }"""
    staff, scanner = await house.hire(SCANNER)
    _, manager = await house.hire(MANAGER)
    asked = {"input": {"staffId": house.actor.staff_id, "newPassword": "a new password"}}
    theirs = {"input": {"staffId": staff.staff_id, "newPassword": "a new password"}}

    denied = [await client.call(ask, asked) for client in (manager, scanner)]
    changed = await house.owner.do(ask, theirs)

    assert [answer.codes for answer in denied] == [["FORBIDDEN"], ["FORBIDDEN"]]
    assert changed["changePassword"] == {"staff": {"id": staff.staff_id}, "userErrors": []}
