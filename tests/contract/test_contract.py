"""The contract: every operation runs as it stands, alone, by its name, with the right answer."""

import asyncio
import hashlib
import json
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from urllib.parse import quote

import pytest
from graphql import (
    GraphQLSchema,
    OperationDefinitionNode,
    parse,
    separate_operations,
    validate,
)

from clients import Client, Told
from core.settings import Settings
from fakes.providers import serving
from fakes.receiver import Receiver, receiving
from fakes.seven_loc import SevenLoc

CONTRACT = Path(__file__).with_name("operations.graphql")
AGREED = "06dd7d73fee5a15ab38eb2ca6e2f0eed4d3fda8da61ea6cf51b7bc923360a230"
"""The SHA-256 of the operations as they were agreed on: our copy is theirs, letter by letter."""
OPERATOR_KEY = "the operator's key of tests, long enough"
NOON = "2026-03-02T12:00:00Z"

LATER: dict[int, str] = {}
"""The operations that a later part brings. One that begins to work must leave this list."""


def _texts() -> dict[str, str]:
    text = CONTRACT.read_text()
    return {
        node.name.value: text[node.loc.start : node.loc.end]
        for node in parse(text).definitions
        if isinstance(node, OperationDefinitionNode) and node.name and node.loc
    }


OPERATIONS = _texts()
"""Every operation by its name, exactly as it is written."""
RUN_BY: dict[str, str] = {}
"""Which test runs an operation."""


def runs(*names: str) -> Callable[[Any], Any]:
    """Declare which operations a test runs; it must run each of them."""

    def declare(test: Any) -> Any:
        for name in names:
            assert name not in RUN_BY, name
            RUN_BY[name] = test.__name__
        return test

    return declare


@dataclass
class Caller:
    """Runs operations of the contract with one key."""

    client: Client
    ran: set[str] = field(default_factory=set)

    async def __call__(self, name: str, /, **variables: Any) -> Any:
        """The data of an operation, which has no errors of any kind."""
        data = (await self.answer(name, **variables)).data
        for payload in data.values():
            if isinstance(payload, dict):
                assert payload.get("userErrors", []) == [], payload
        return data

    async def answer(self, name: str, /, **variables: Any) -> Any:
        """What an operation is answered."""
        self.ran.add(name)
        return await self.client.call(OPERATIONS[name], variables, operation=name)

    async def do(self, name: str, /, **input: Any) -> Any:
        """The payload of a mutation."""
        [payload] = (await self(name, input=input)).values()
        return payload

    def by(self, key: str | None) -> "Caller":
        """The same with another key."""
        return Caller(Client(self.client.server, self.client.session, key), self.ran)


@pytest.fixture
def settings(settings: Settings) -> Settings:
    """With an operator."""
    return settings.model_copy(update={"operator_key": OPERATOR_KEY})


@pytest.fixture
async def caller(
    client_of: Callable[..., Client], request: pytest.FixtureRequest
) -> AsyncIterator[Caller]:
    """The owner of a new cafe; in the end the test has run what it declared."""
    operator = Caller(client_of(OPERATOR_KEY))
    made = await operator.do(
        "CreateBusiness",
        name="Kopi",
        timezone="Asia/Jakarta",
        currency="IDR",
        mode="LIVE",
        owner={"name": "Ana", "login": "owner@kopi.example", "password": "correct horse"},
    )
    owner = operator.by(made["apiKeySecret"])
    yield owner
    declared = {name for name, test in RUN_BY.items() if test == request.function.__name__}
    assert declared <= owner.ran, declared - owner.ran


@dataclass
class Cafe:
    """What most operations need: a card of six stamps with a cookie at three, a coffee at six."""

    template_id: str
    voucher_template_id: str


@pytest.fixture
async def cafe(caller: Caller) -> Cafe:
    """The card of the reference text, published."""
    voucher = await caller.do(
        "CreateVoucherTemplate",
        title="Free coffee",
        redeemCode="FREECOFFEE",
        validity={"days": 30},
        redemptionMode="STAFF_SCAN",
    )
    voucher_template_id = voucher["voucherTemplate"]["id"]
    card = await caller.do(
        "CreateCardTemplate",
        name="Kopi card",
        stampsRequired=6,
        earningRule={"perOrder": True},
        overflow="CARRY_OVER",
        goals=[
            {"stamps": 3, "reward": {"award": {"title": "Cookie"}}},
            {"stamps": 6, "reward": {"voucher": {"voucherTemplateId": voucher_template_id}}},
        ],
        inactivityDays=30,
    )
    await caller.do("PublishCardTemplate", id=card["cardTemplate"]["id"])
    return Cafe(card["cardTemplate"]["id"], voucher_template_id)


ANA = {
    "email": "ana@example.com",
    "phone": "+6281234567890",
    "name": "Ana",
    "birthday": "1990-02-28",
    "language": "id",
}


async def issue(caller: Caller, cafe: Cafe, **customer: Any) -> Any:
    """Issue a card, to Ana unless told; the card."""
    told = await caller.do("IssueCard", templateId=cafe.template_id, customer=customer or ANA)
    return told["card"]


@pytest.fixture
async def receiver() -> AsyncIterator[Receiver]:
    """A receiver that takes everything."""
    async with receiving() as receiver:
        yield receiver


def test_the_contract_is_the_agreed_one() -> None:
    assert hashlib.sha256(CONTRACT.read_bytes()).hexdigest() == AGREED


def test_every_operation_is_run_or_waits_for_its_part() -> None:
    later = {name for names in LATER.values() for name in names.split()}

    assert set(RUN_BY) & later == set()
    assert sorted(OPERATIONS) == sorted([*RUN_BY, *later])


def test_the_operations_that_wait_are_just_those_that_do_not_validate(server_schema: Any) -> None:
    alone = separate_operations(parse(CONTRACT.read_text()))
    invalid = {name for name, document in alone.items() if validate(server_schema, document)}

    assert invalid == {name for names in LATER.values() for name in names.split()}


@pytest.fixture
def server_schema() -> GraphQLSchema:
    """The schema as graphql-core has it."""
    from server import _schema  # noqa: PLC0415 -- made once, and only where it is needed

    return _schema._schema


@runs("Viewer", "SignIn", "SignOut", "ChangePassword", "CreateBusiness")
async def test_who_am_i(caller: Caller) -> None:
    stranger = caller.by(None)
    viewer = (await caller("Viewer"))["viewer"]
    signed = await stranger.do("SignIn", login="owner@kopi.example", password="correct horse")
    session = caller.by(signed["session"]["secret"])
    by_session = (await session("Viewer"))["viewer"]
    changed = await session.do(
        "ChangePassword", currentPassword="correct horse", newPassword="battery staple"
    )
    ended = await session.do("SignOut")
    after = await session.answer("Viewer")
    refused = await stranger.answer(
        "SignIn", input={"login": "owner@kopi.example", "password": "correct horse"}
    )

    assert viewer["actor"]["login"] == "owner@kopi.example"
    assert (viewer["actor"]["name"], viewer["actor"]["role"]) == ("Ana", "OWNER")
    assert viewer["business"] == {
        "id": viewer["business"]["id"],
        "name": "Kopi",
        "mode": "LIVE",
        "timezone": "Asia/Jakarta",
        "currency": "IDR",
        "defaultLanguage": "en",
        "vocabulary": "ID",
    }
    assert viewer["apiKey"] == {
        "id": viewer["apiKey"]["id"],
        "name": "Ana",
        "hint": caller.client.key[-4:],  # type: ignore[index]
        "status": "ACTIVE",
        "createdAt": NOON,
        "lastUsedAt": viewer["apiKey"]["lastUsedAt"],
    }
    assert signed["session"]["expiresAt"] == "2026-04-01T12:00:00Z"
    assert signed["staff"] == {"id": viewer["actor"]["id"], "name": "Ana", "role": "OWNER"}
    assert (by_session["actor"], by_session["apiKey"]) == (viewer["actor"], None)
    assert changed == {"staff": {"id": viewer["actor"]["id"]}, "userErrors": []}
    assert ended == {"userErrors": []}
    assert after.codes == ["UNAUTHENTICATED"]
    [refusal] = refused.data["signIn"]["userErrors"]
    assert refusal["code"] == "LOGIN_REFUSED"


@runs("ApiKeys", "StaffWithoutKey", "GenerateApiKey", "RegenerateApiKey", "DeleteApiKey")
async def test_api_keys(caller: Caller) -> None:
    staff = await caller.do(
        "CreateStaff", name="Bar", login="bar@kopi.example", password="longenough", role="SCANNER"
    )
    staff_id = staff["staff"]["id"]
    without = (await caller("StaffWithoutKey"))["staff"]["nodes"]
    made = await caller.do("GenerateApiKey", staffId=staff_id, idempotencyKey="one")
    key_id, secret = made["apiKey"]["id"], made["secret"]
    again = await caller.do("RegenerateApiKey", id=key_id)
    keys = (await caller("ApiKeys"))["apiKeys"]
    by_old = await caller.by(secret).answer("Viewer")
    by_new = (await caller.by(again["secret"])("Viewer"))["viewer"]
    deleted = await caller.do("DeleteApiKey", id=key_id)
    left = (await caller("ApiKeys"))["apiKeys"]["nodes"]
    by_deleted = await caller.by(again["secret"]).answer("Viewer")

    assert without == [
        {
            "id": staff_id,
            "name": "Bar",
            "login": "bar@kopi.example",
            "role": "SCANNER",
            "location": None,
        }
    ]
    assert secret.startswith("7loc_sc_")
    assert len(secret) == 44
    assert made["apiKey"] == {
        "id": key_id,
        "name": "Bar",
        "login": "bar@kopi.example",
        "hint": secret[-4:],
        "status": "ACTIVE",
    }
    assert again["secret"] != secret
    assert again["apiKey"] == {
        "id": key_id,
        "hint": again["secret"][-4:],
        "regeneratedAt": NOON,
    }
    assert [node["login"] for node in keys["nodes"]] == ["owner@kopi.example", "bar@kopi.example"]
    assert keys["nodes"][1] == {
        "id": key_id,
        "name": "Bar",
        "login": "bar@kopi.example",
        "hint": again["secret"][-4:],
        "status": "ACTIVE",
        "createdAt": NOON,
        "lastUsedAt": None,
        "staff": {"id": staff_id, "name": "Bar", "role": "SCANNER"},
    }
    assert keys["pageInfo"]["hasNextPage"] is False
    assert by_old.codes == ["UNAUTHENTICATED"]
    assert by_new["actor"]["id"] == staff_id
    assert deleted == {"deletedId": key_id, "userErrors": []}
    assert [node["login"] for node in left] == ["owner@kopi.example"]
    assert by_deleted.codes == ["UNAUTHENTICATED"]


@runs("CreateAccessToken")
async def test_access_tokens(caller: Caller, cafe: Cafe) -> None:
    card = await issue(caller, cafe)
    location = (await caller("Locations"))["locations"]["nodes"][0]
    for_card = await caller.do("CreateAccessToken", card={"id": card["id"]}, expiresIn=600)
    scope = {"types": ["STAMP_ADDED"], "locationIds": [location["id"]]}
    asked = {"events": scope, "expiresIn": 3600, "idempotencyKey": "once"}
    for_events = await caller.do("CreateAccessToken", **asked)
    again = await caller.answer("CreateAccessToken", input=asked)
    app = caller.by(for_events["secret"])
    async with app.client.socket() as socket:
        told = await socket.subscribe(OPERATIONS["Events"], {"after": "ZXZ0OjA", "filter": None})
        await caller.do("AddStamps", card={"id": card["id"]}, count=2)
        event = (await told.next())["events"]
    async with caller.by(for_card["secret"]).client.socket() as socket:
        live = await socket.subscribe(OPERATIONS["CardLive"], {"card": {"id": card["id"]}})
        shown = (await live.next())["card"]
    refused = await app.answer("Viewer")

    assert for_card["expiresAt"] == "2026-03-02T12:10:00Z"
    assert for_events == {
        "secret": for_events["secret"],
        "expiresAt": "2026-03-02T13:00:00Z",
        "userErrors": [],
    }
    assert for_events["secret"].startswith("swt_")
    [payload] = again.data.values()
    assert (payload["secret"], payload["expiresAt"]) == (None, for_events["expiresAt"])
    assert [error["code"] for error in payload["userErrors"]] == ["SECRET_ALREADY_SHOWN"]
    assert (event["type"], event["card"]["stamps"], event["count"]) == ("STAMP_ADDED", 2, 2)
    assert (shown["id"], shown["stamps"]) == (card["id"], 2)
    assert refused.codes == ["FORBIDDEN"]


@runs(
    "Locations",
    "Staff",
    "CreateLocation",
    "UpdateLocation",
    "ArchiveLocation",
    "CreateStaff",
    "UpdateStaff",
    "DisableStaff",
    "EnableStaff",
    "UpdateBusiness",
)
async def test_the_business_and_its_people(caller: Caller) -> None:
    made = (await caller.do("CreateLocation", name="Dago", timezone=None))["location"]
    renamed = await caller.do("UpdateLocation", id=made["id"], name="Dago Atas")
    staff = await caller.do(
        "CreateStaff",
        name="Bar Counter",
        login="bar@kopi.example",
        password="longenough",
        role="SCANNER",
        locationId=made["id"],
    )
    staff_id = staff["staff"]["id"]
    moved = await caller.do("UpdateStaff", id=staff_id, role="MANAGER", locationId=None)
    archived = await caller.do("ArchiveLocation", id=made["id"])
    locations = (await caller("Locations"))["locations"]
    disabled = await caller.do("DisableStaff", id=staff_id)
    found = (await caller("Staff", filter={"status": "DISABLED"}))["staff"]
    everybody = (await caller("Staff"))["staff"]
    enabled = await caller.do("EnableStaff", id=staff_id)
    business = (await caller.do("UpdateBusiness", vocabulary="EN"))["business"]

    assert made == {"id": made["id"], "name": "Dago", "timezone": None}
    assert renamed["location"] == {"id": made["id"], "name": "Dago Atas"}
    assert staff["staff"] == {
        "id": staff_id,
        "name": "Bar Counter",
        "login": "bar@kopi.example",
        "role": "SCANNER",
        "status": "ACTIVE",
        "location": {"id": made["id"]},
    }
    assert moved["staff"] == {
        "id": staff_id,
        "name": "Bar Counter",
        "role": "MANAGER",
        "location": None,
    }
    assert archived["location"] == {"id": made["id"], "isActive": False}
    assert locations["totalCount"] == 2
    assert locations["nodes"][0]["name"] == "Kopi"
    assert locations["nodes"][1] == {
        "id": made["id"],
        "name": "Dago Atas",
        "timezone": None,
        "isActive": False,
    }
    assert disabled["staff"] == {"id": staff_id, "status": "DISABLED"}
    assert found["nodes"] == [
        {
            "id": staff_id,
            "name": "Bar Counter",
            "login": "bar@kopi.example",
            "role": "MANAGER",
            "status": "DISABLED",
            "location": None,
        }
    ]
    assert (found["totalCount"], everybody["totalCount"]) == (1, 2)
    assert found["pageInfo"]["hasNextPage"] is False
    assert enabled["staff"] == {"id": staff_id, "status": "ACTIVE"}
    assert business == {
        "id": business["id"],
        "name": "Kopi",
        "timezone": "Asia/Jakarta",
        "vocabulary": "EN",
    }


@runs(
    "CreateVoucherTemplate",
    "CreateCardTemplate",
    "PublishCardTemplate",
    "UpdateCardTemplate",
    "ArchiveCardTemplate",
    "UpdateVoucherTemplate",
    "ArchiveVoucherTemplate",
    "VoucherTemplates",
    "CardTemplates",
)
async def test_the_promise(caller: Caller) -> None:
    voucher = await caller.do(
        "CreateVoucherTemplate",
        title="Free coffee",
        redeemCode="FREECOFFEE",
        validity={"days": 30},
        redemptionMode="STAFF_SCAN",
    )
    voucher_id = voucher["voucherTemplate"]["id"]
    made = await caller.do(
        "CreateCardTemplate",
        name="Kopi card",
        stampsRequired=6,
        earningRule={"perOrder": True},
        overflow="CARRY_OVER",
        goals=[
            {"stamps": 3, "reward": {"award": {"title": "Cookie"}}},
            {
                "stamps": 5,
                "reward": {
                    "lottery": {
                        "variants": [
                            {"type": "AWARD", "probability": 2500, "name": "Muffin"},
                            {"type": "NO_PRIZE", "probability": 7500, "name": "Next time"},
                        ]
                    }
                },
            },
            {"stamps": 6, "reward": {"voucher": {"voucherTemplateId": voucher_id}}},
        ],
        birthday={"daysBefore": 0, "voucherTemplateId": voucher_id},
        inactivityDays=30,
    )
    card_id = made["cardTemplate"]["id"]
    published = await caller.do("PublishCardTemplate", id=card_id)
    listed = (await caller("CardTemplates"))["cardTemplates"]["nodes"]
    changed = await caller.do(
        "UpdateCardTemplate",
        id=card_id,
        stampsRequired=4,
        goals=[{"stamps": 4, "reward": {"award": {"title": "Cake"}}}],
    )
    second = await caller.do("PublishCardTemplate", id=card_id)
    archived = await caller.do("ArchiveCardTemplate", id=card_id)
    updated = await caller.do("UpdateVoucherTemplate", id=voucher_id, title="Coffee on us")
    ended = await caller.do("ArchiveVoucherTemplate", id=voucher_id)
    vouchers = (await caller("VoucherTemplates"))["voucherTemplates"]

    assert voucher["voucherTemplate"] == {
        "id": voucher_id,
        "title": "Free coffee",
        "redeemCode": "FREECOFFEE",
        "redemptionMode": "STAFF_SCAN",
    }
    goals = [
        {"position": 1, "stamps": 3, "rewardType": "AWARD", "title": "Cookie"},
        {"position": 2, "stamps": 5, "rewardType": "LOTTERY", "title": made_title(made, 1)},
        {"position": 3, "stamps": 6, "rewardType": "VOUCHER", "title": "Free coffee"},
    ]
    assert made["cardTemplate"] == {
        "id": card_id,
        "name": "Kopi card",
        "version": 1,
        "status": "DRAFT",
        "stampsRequired": 6,
        "goals": goals,
    }
    assert published["cardTemplate"] == {"id": card_id, "version": 1, "status": "PUBLISHED"}
    assert listed == [{**made["cardTemplate"], "status": "PUBLISHED"}]
    assert changed["cardTemplate"]["id"] == card_id
    assert {change["field"] for change in changed["changes"]} == {"stampsRequired", "goals"}
    [stamps] = [change for change in changed["changes"] if change["field"] == "stampsRequired"]
    assert stamps == {"field": "stampsRequired", "before": "6", "after": "4"}
    assert second["cardTemplate"] == {"id": card_id, "version": 2, "status": "PUBLISHED"}
    assert archived["cardTemplate"] == {"id": card_id, "status": "ARCHIVED"}
    assert updated["voucherTemplate"] == {"id": voucher_id, "title": "Coffee on us"}
    assert ended["voucherTemplate"] == {"id": voucher_id, "status": "ARCHIVED"}
    assert vouchers == {
        "nodes": [
            {
                "id": voucher_id,
                "title": "Coffee on us",
                "redeemCode": "FREECOFFEE",
                "status": "ARCHIVED",
            }
        ],
        "totalCount": 1,
    }


def made_title(made: Any, place: int) -> str:
    """The title of a goal as it was made."""
    title: str = made["cardTemplate"]["goals"][place]["title"]
    return title


@runs("IssueCard", "AddStamps", "PreviewStamps", "CardState")
async def test_the_way_to_the_goal(caller: Caller, cafe: Cafe) -> None:
    issued = await caller.do(
        "IssueCard", templateId=cafe.template_id, customer=ANA, idempotencyKey="issue-1"
    )
    card = issued["card"]
    ref = {"id": card["id"]}
    preview = await caller("PreviewStamps", input={"card": ref, "count": 3})
    first = await caller.do(
        "AddStamps",
        card=ref,
        count=2,
        channel="POS",
        externalRef="receipt-77",
        idempotencyKey="stamps-1",
    )
    second = await caller.do("AddStamps", card={"number": card["number"]}, count=4)
    holder = {"templateId": cafe.template_id, "customer": {"email": "ana@example.com"}}
    state = (await caller("CardState", card={"holder": holder}))["card"]

    assert card == {
        "id": card["id"],
        "number": card["number"],
        "status": "ACTIVE",
        "stamps": 0,
        "stampsRequired": 6,
        "cycle": 1,
        "joinUrl": card["joinUrl"],
        "walletPassId": card["walletPassId"],
        "template": {"id": cafe.template_id, "name": "Kopi card", "version": 1},
        "customer": {
            "id": card["customer"]["id"],
            "email": "ana@example.com",
            "phone": "+6281234567890",
            "language": "id",
        },
    }
    assert len(card["number"]) == 6
    assert card["joinUrl"].startswith(f"{caller.client.server.url}/c/")
    assert card["walletPassId"].startswith("wp_")
    assert (issued["created"], issued["customerCreated"]) == (True, True)
    assert kinds(issued["events"]) == ["CARD_ISSUED 1"]
    assert preview["previewStamps"] == {
        "after": 3,
        "cycleAfter": 1,
        "expectedRewards": [{"type": "AWARD", "title": "Cookie"}],
        "expectedEvents": [
            {"type": "STAMP_ADDED"},
            {"type": "GOAL_REACHED"},
            {"type": "REWARD_ISSUED"},
        ],
        "userErrors": [],
    }
    assert first["operation"] == {
        "id": first["operation"]["id"],
        "count": 2,
        "before": 0,
        "after": 2,
        "cycleBefore": 1,
        "cycleAfter": 1,
        "channel": "POS",
    }
    assert first["card"] == {
        "id": card["id"],
        "stamps": 2,
        "stampsRequired": 6,
        "cycle": 1,
        "nextGoal": {
            "position": 1,
            "stamps": 3,
            "remaining": 1,
            "rewardType": "AWARD",
            "title": "Cookie",
        },
    }
    assert (first["rewards"], first["lotteryTickets"]) == ([], [])
    assert kinds(first["events"]) == ["STAMP_ADDED 2"]
    cookie, coffee = second["rewards"]
    assert cookie == {
        "id": cookie["id"],
        "type": "AWARD",
        "title": "Cookie",
        "goalIndex": 1,
        "voucher": None,
    }
    assert coffee == {
        "id": coffee["id"],
        "type": "VOUCHER",
        "title": "Free coffee",
        "goalIndex": 2,
        "voucher": {
            "id": coffee["voucher"]["id"],
            "redeemCode": "FREECOFFEE",
            "status": "ACTIVE",
            # The end of the thirtieth day after it, in Jakarta.
            "expiresAt": "2026-04-01T17:00:00Z",
        },
    }
    assert second["card"]["nextGoal"] is None
    assert kinds(second["events"]) == [
        "STAMP_ADDED 3",
        "GOAL_REACHED 4",
        "REWARD_ISSUED 5",
        "GOAL_REACHED 6",
        "REWARD_ISSUED 7",
        "VOUCHER_ISSUED 8",
    ]
    history = state.pop("history")
    assert state == {
        "id": card["id"],
        "number": card["number"],
        "status": "ACTIVE",
        "stamps": 6,
        "stampsRequired": 6,
        "cycle": 1,
        "progress": 100,
        "platforms": [],
        "createdAt": NOON,
        "lastStampAt": NOON,
        "nextGoal": None,
        "customer": {
            "id": card["customer"]["id"],
            "name": "Ana",
            "email": "ana@example.com",
            "phone": "+6281234567890",
            "language": "id",
            "birthday": "1990-02-28",
            "lastActivityAt": NOON,
        },
        "vouchers": {
            "nodes": [
                {
                    "id": coffee["voucher"]["id"],
                    "title": "Free coffee",
                    "redeemCode": "FREECOFFEE",
                    "status": "ACTIVE",
                    "expiresAt": "2026-04-01T17:00:00Z",
                }
            ],
            "totalCount": 1,
        },
    }
    assert [node["sequence"] for node in history["nodes"]] == [8, 7, 6, 5, 4, 3, 2, 1]
    assert {node["occurredAt"] for node in history["nodes"]} == {NOON}
    assert history["pageInfo"]["hasNextPage"] is False


def kinds(events: list[dict[str, Any]]) -> list[str]:
    """Events as `TYPE sequence`."""
    return [f"{event['type']} {event['sequence']}" for event in events]


@runs("PlayLottery")
async def test_lottery(caller: Caller) -> None:
    made = await caller.do(
        "CreateCardTemplate",
        name="Lottery card",
        stampsRequired=1,
        earningRule={"perOrder": True},
        goals=[{"stamps": 1, "reward": {"lottery": {"variants": [MUFFIN]}}}],
    )
    template = (await caller.do("PublishCardTemplate", id=made["cardTemplate"]["id"]))[
        "cardTemplate"
    ]
    card = await issue(caller, Cafe(template["id"], ""))
    [ticket] = (await caller.do("AddStamps", card={"id": card["id"]}, count=1))["lotteryTickets"]
    hidden = await caller.client.do(TICKET, {"id": ticket["id"]})

    played = await caller.do("PlayLottery", ticketId=ticket["id"], idempotencyKey="spin-1")
    same = await caller.do("PlayLottery", ticketId=ticket["id"], idempotencyKey="spin-1")
    again = await caller.client.do(AGAIN, {"id": ticket["id"]})

    seed = played["ticket"]["seed"]
    assert hidden["node"] == {
        "seed": None,
        "roll": None,
        "result": None,
        "odds": [{"probability": 10_000, "effectiveProbability": None, "leftOut": None}],
    }
    assert hashlib.sha256(seed.encode()).hexdigest() == ticket["commitment"]
    assert played["ticket"] == {
        "id": ticket["id"],
        "status": "PLAYED",
        "commitment": ticket["commitment"],
        "seed": seed,
        "result": {"type": "AWARD", "name": "Muffin", "greeting": "Lucky you!"},
    }
    assert [reward["title"] for reward in played["rewards"]] == ["Muffin"]
    assert [event["type"] for event in played["events"]] == ["LOTTERY_PLAYED", "REWARD_ISSUED"]
    assert same == played
    assert again["playLottery"] == {
        "ticket": None,
        "userErrors": [
            {
                "code": "TICKET_ALREADY_PLAYED",
                "playedAt": NOON,
                "ticket": {"result": {"name": "Muffin"}},
            }
        ],
    }


MUFFIN = {"type": "AWARD", "probability": 10_000, "name": "Muffin", "greeting": "Lucky you!"}
TICKET = """query($id: ID!) { node(id: $id) { ... on LotteryTicket {
  seed roll result { name } odds { probability effectiveProbability leftOut }
} } }"""
AGAIN = """mutation($id: ID!) { playLottery(input: {ticketId: $id}) {
  ticket { id }
  userErrors { code ... on TicketAlreadyPlayed { playedAt ticket { result { name } } } }
} }"""


@runs("VoidOperation", "ReverseRedemption")
async def test_undo(caller: Caller, cafe: Cafe) -> None:
    card = await issue(caller, cafe)
    done = await caller.do("AddStamps", card={"id": card["id"]}, count=8)
    voucher = done["rewards"][-1]["voucher"]
    [redeemed] = (await caller("RedeemVoucher", input={"voucher": {"id": voucher["id"]}})).values()
    [spent] = (
        await caller.answer("VoidOperation", input={"id": done["operation"]["id"]})
    ).data.values()

    reversed_ = await caller.do(
        "ReverseRedemption", voucher={"id": voucher["id"]}, reason="wrong guest", idempotencyKey="r"
    )
    voided = await caller.do("VoidOperation", id=done["operation"]["id"], reason="wrong card")

    assert redeemed["voucher"]["status"] == "REDEEMED"
    assert [error["code"] for error in spent["userErrors"]] == ["REWARD_SPENT"]
    assert (spent["operation"], spent["card"], spent["events"]) == (None, None, [])
    assert reversed_["voucher"] == {"id": voucher["id"], "status": "ACTIVE"}
    assert [event["type"] for event in reversed_["events"]] == ["OPERATION_VOIDED"]
    viewer = (await caller("Viewer"))["viewer"]["actor"]
    assert voided["operation"] == {
        "id": done["operation"]["id"],
        "voided": {
            "at": NOON,
            "reason": "wrong card",
            "by": {"id": viewer["id"], "name": viewer["name"]},
        },
    }
    assert voided["card"] == {"id": card["id"], "stamps": 0, "cycle": 1}
    assert [event["type"] for event in voided["events"]] == ["OPERATION_VOIDED"]


@runs("IssueVoucher", "RedeemVoucher", "CanRedeem", "VoidVoucher", "Vouchers")
async def test_vouchers(caller: Caller, cafe: Cafe) -> None:
    card = await issue(caller, cafe)
    ours = await caller.do(
        "IssueVoucher", templateId=cafe.voucher_template_id, card={"id": card["id"]}
    )
    bearer = await caller.do(
        "IssueVoucher",
        custom={"title": "Sorry!", "redeemCode": "SORRY10", "validity": {"days": 7}},
    )
    v1, v2 = ours["voucher"], bearer["voucher"]
    can = (await caller("CanRedeem", voucher={"id": v1["id"]}))["canRedeem"]
    redeemed = await caller.do(
        "RedeemVoucher", voucher={"id": v1["id"]}, via="STAFF_SCANNER", idempotencyKey="redeem-1"
    )
    again = await caller.answer("RedeemVoucher", input={"voucher": {"token": v1["token"]}})
    cannot = (await caller.answer("CanRedeem", voucher={"id": v1["id"]})).data["canRedeem"]
    voided = await caller.do("VoidVoucher", id=v2["id"], reason="given by mistake")
    listed = (await caller("Vouchers", filter={"status": "REDEEMED"}))["vouchers"]
    both = (await caller("Vouchers"))["vouchers"]

    url = f"{caller.client.server.url}/codes/{v1['token']}.svg?format="
    assert v1 == {
        "id": v1["id"],
        "type": "voucher",
        "title": "Free coffee",
        "status": "ACTIVE",
        "redeemCode": "FREECOFFEE",
        "redeemCodeFormats": ["text", "qr", "barcode"],
        "token": v1["token"],
        "expiresAt": "2026-04-01T17:00:00Z",
        "card": {"id": card["id"]},
        "codes": [{"format": kind, "url": url + kind} for kind in ("qr", "barcode", "token")],
    }
    assert kinds(ours["events"]) == ["VOUCHER_ISSUED 2"]
    assert (v2["title"], v2["redeemCode"], v2["card"]) == ("Sorry!", "SORRY10", None)
    assert v2["expiresAt"] == "2026-03-09T17:00:00Z"
    brief = {"id": v1["id"], "title": "Free coffee"}
    assert can == {"voucher": {**brief, "status": "ACTIVE"}, "userErrors": []}
    by = {"id": redeemed["voucher"]["redeemedBy"]["id"], "name": "Ana"}
    assert redeemed["voucher"] == {
        "id": v1["id"],
        "status": "REDEEMED",
        "redeemedAt": NOON,
        "redeemedVia": "STAFF_SCANNER",
        "redeemedBy": by,
    }
    assert kinds(redeemed["events"]) == ["VOUCHER_REDEEMED 4"]
    assert again.data["redeemVoucher"] == {
        "voucher": None,
        "events": [],
        "userErrors": [
            {
                "code": "VOUCHER_ALREADY_REDEEMED",
                "field": ["input", "voucher"],
                "message": "This voucher is already redeemed.",
                "redeemedAt": NOON,
                "redeemedBy": by,
            }
        ],
    }
    assert cannot["voucher"] == {**brief, "status": "REDEEMED"}
    assert [error["code"] for error in cannot["userErrors"]] == ["VOUCHER_ALREADY_REDEEMED"]
    assert voided["voucher"] == {"id": v2["id"], "status": "VOIDED"}
    assert [event["type"] for event in voided["events"]] == ["OPERATION_VOIDED"]
    assert listed["nodes"] == [
        {
            "id": v1["id"],
            "title": "Free coffee",
            "status": "REDEEMED",
            "redeemCode": "FREECOFFEE",
            "expiresAt": "2026-04-01T17:00:00Z",
            "redeemedAt": NOON,
            "redeemedVia": "STAFF_SCANNER",
            "card": {"id": card["id"], "number": card["number"]},
        }
    ]
    assert (listed["totalCount"], both["totalCount"]) == (1, 2)
    assert [node["id"] for node in both["nodes"]] == [v2["id"], v1["id"]]


@runs("ConnectChannel", "TestChannel", "Channels", "DisconnectChannel")
async def test_channels(caller: Caller) -> None:
    fake = SevenLoc()
    async with serving(fake):
        settings = fake.settings
        made = (await caller.do("ConnectChannel", kind="SEVEN_LOC", settings=settings))["channel"]
        tested = await caller.do("TestChannel", id=made["id"])
        listed = (await caller("Channels"))["channels"]
        gone = await caller.do("DisconnectChannel", id=made["id"])
    left = (await caller("Channels"))["channels"]

    kind = {"kind": "SEVEN_LOC", "channel": "MESSENGERS", "status": "CONNECTED"}
    assert made == {"id": made["id"], **kind}
    assert tested == {"ok": True, "detail": "Connected as Kopi.", "userErrors": []}
    assert {**kind, "reachableCustomers": 0} in listed
    assert gone == {"deletedId": made["id"], "userErrors": []}
    assert {one["kind"] for one in left} == {"FILE", "WEB_PUSH"}


@runs("CreateCampaign", "CampaignDryRun", "Campaigns", "CancelCampaign", "Campaign")
async def test_campaigns(caller: Caller, cafe: Cafe) -> None:
    card = await issue(caller, cafe)
    await caller.do("ReportCardSaved", card={"id": card["id"]}, platform="APPLE")
    input = {
        "name": "Rainy week",
        "templateId": cafe.template_id,
        "notificationText": "2-for-1 today",
        "messageText": "Dear {name}, {left} stamps to go.",
        "channels": ["PUSH", "EMAIL"],
        "segment": {"stampsLeftAtMost": 6},
        "voucherTemplateId": cafe.voucher_template_id,
        "scheduledAt": None,
    }

    told = (await caller("CampaignDryRun", input=input))["campaignDryRun"]
    later = await caller.do("CreateCampaign", **{**input, "scheduledAt": "2026-06-01T00:00:00Z"})
    cancelled = await caller.do("CancelCampaign", id=later["campaign"]["id"])
    made = (await caller.do("CreateCampaign", **input))["campaign"]
    for _ in range(200):
        sent = (await caller("Campaign", id=made["id"]))["campaign"]
        if sent["status"] == "SENT":
            break
        await asyncio.sleep(0.1)
    listed = (await caller("Campaigns"))["campaigns"]
    refused = await caller.answer("CreateCampaign", input={**input, "channels": ["MESSENGERS"]})

    assert told == {
        "audienceSize": 1,
        "notifications": [{"channel": "PUSH", "count": 1}, {"channel": "EMAIL", "count": 0}],
        "sample": [
            {"customer": {"id": card["customer"]["id"]}, "text": "Dear Ana, 6 stamps to go."}
        ],
        "userErrors": [],
    }
    assert cancelled["campaign"] == {"id": later["campaign"]["id"], "status": "CANCELLED"}
    assert made == {
        "id": made["id"],
        "name": "Rainy week",
        "status": "SCHEDULED",
        "audienceSize": 1,
        "channels": ["PUSH", "EMAIL"],
    }
    assert sent == {
        "id": made["id"],
        "status": "SENT",
        "startedAt": NOON,
        "finishedAt": NOON,
        "results": [
            {"channel": "PUSH", "accepted": 1, "failed": 0, "skipped": 0},
            {"channel": "EMAIL", "accepted": 0, "failed": 0, "skipped": 1},
        ],
    }
    assert listed["totalCount"] == 2
    assert listed["nodes"][0] == {
        "id": made["id"],
        "name": "Rainy week",
        "status": "SENT",
        "channels": ["PUSH", "EMAIL"],
        "audienceSize": 1,
        "scheduledAt": NOON,
        "finishedAt": NOON,
    }
    [error] = refused.data["createCampaign"]["userErrors"]
    assert (error["code"], error["field"]) == ("CHANNEL_NOT_CONNECTED", ["input", "channels"])


@runs("AdvanceTestClock")
async def test_time_travel(caller: Caller) -> None:
    made = await caller.by(OPERATOR_KEY).do(
        "CreateBusiness",
        name="Kopi Test",
        timezone="Asia/Jakarta",
        currency="IDR",
        mode="TEST",
        owner={"name": "Ana", "login": "test@kopi.example", "password": "correct horse"},
    )
    tester = caller.by(made["apiKeySecret"])
    custom = {"title": "Sorry!", "validity": {"days": 1}}
    await tester.do("IssueVoucher", custom=custom)
    await tester.do("IssueVoucher", custom={**custom, "validity": {"months": 1}})

    first = await tester.do("AdvanceTestClock", days=2, idempotencyKey="two-days")
    again = await tester.do("AdvanceTestClock", days=2, idempotencyKey="two-days")
    rest = await tester.do("AdvanceTestClock", to="2027-03-01T00:00:00Z")
    viewer = (await tester("Viewer"))["viewer"]
    [refused] = (await caller.answer("AdvanceTestClock", input={"days": 1})).data.values()

    [expired] = first["events"]
    assert first == {
        "business": {"id": viewer["business"]["id"], "now": "2026-03-04T12:00:00Z"},
        "eventCount": 1,
        "events": [
            {
                "id": expired["id"],
                "type": "VOUCHER_EXPIRED",
                "occurredAt": "2026-03-03T17:00:00Z",
            }
        ],
        "userErrors": [],
    }
    assert again == first
    assert [event["occurredAt"] for event in rest["events"]] == ["2026-04-02T17:00:00Z"]
    assert rest["business"]["now"] == "2027-03-01T00:00:00Z"
    assert [error["code"] for error in refused["userErrors"]] == ["INVALID"]
    assert refused["business"] is None


@runs("ReportCardSaved", "ReportCardOpened", "DeleteCard", "NodeById")
async def test_the_rest_of_a_cards_life(caller: Caller, cafe: Cafe) -> None:
    card = await issue(caller, cafe)
    ref = {"id": card["id"]}
    saved = await caller.do("ReportCardSaved", card=ref, platform="APPLE")
    again = await caller.do("ReportCardSaved", card=ref, platform="APPLE")
    opened = await caller.do("ReportCardOpened", card=ref, platform="APPLE")
    node = (await caller("NodeById", id=card["id"]))["node"]
    deleted = await caller.do("DeleteCard", id=card["id"])
    garbage = (await caller("NodeById", id="card_no_such_thing"))["node"]
    refused = await caller.answer("AddStamps", input={"card": ref, "count": 1})

    assert saved["card"] == {"id": card["id"], "platforms": ["APPLE"]}
    assert [event["type"] for event in saved["events"]] == ["CARD_SAVED"]
    assert again["events"] == []
    assert opened["card"] == {"id": card["id"]}
    assert [event["type"] for event in opened["events"]] == ["CARD_OPENED"]
    assert node == {"id": card["id"], "__typename": "Card"}
    assert deleted == {"deletedId": card["id"], "userErrors": []}
    assert garbage is None
    [refusal] = refused.data["addStamps"]["userErrors"]
    assert (refusal["code"], refusal["field"]) == ("CARD_DELETED", ["input", "card"])


@runs("CreateClaimCodes", "ClaimStamps", "AddStampsBatch")
async def test_stamps_that_come_later(caller: Caller, cafe: Cafe) -> None:
    card = await issue(caller, cafe)
    ref = {"id": card["id"]}
    made = await caller.do(
        "CreateClaimCodes", templateId=cafe.template_id, count=1, stamps=1, expiresAt=None
    )
    [code] = made["claimCodes"]
    claimed = await caller.do("ClaimStamps", code=code["code"], card=ref)
    again = await caller.answer("ClaimStamps", input={"code": code["url"], "card": ref})
    items = [
        {"clientId": "1", "occurredAt": "2026-03-02T11:30:00Z", "card": ref, "count": 1},
        {"clientId": "2", "occurredAt": "2026-02-02T11:30:00Z", "card": ref, "count": 1},
    ]
    batch = await caller.do("AddStampsBatch", items=items)
    repeat = await caller.do("AddStampsBatch", items=items)

    assert code == {
        "id": code["id"],
        "code": code["code"],
        "url": f"{caller.client.server.url}/claim/{code['code']}",
        "stamps": 1,
        "expiresAt": None,
    }
    assert claimed["operation"] == {"id": claimed["operation"]["id"], "count": 1}
    assert claimed["card"] == {"id": card["id"], "stamps": 1}
    assert [event["type"] for event in claimed["events"]] == ["STAMP_ADDED"]
    [refusal] = again.data["claimStamps"]["userErrors"]
    assert (refusal["code"], refusal["field"]) == ("CLAIM_CODE_USED", ["input", "code"])
    first, late = batch["results"]
    assert first == {
        "clientId": "1",
        "applied": True,
        "operation": {"id": first["operation"]["id"]},
        "userErrors": [],
    }
    assert (late["clientId"], late["applied"], late["operation"]) == ("2", False, None)
    assert late["userErrors"] == [{"code": "INVALID", "message": "This is too long ago."}]
    assert repeat == batch


@runs("ImportCustomers", "ImportJob")
async def test_customers_come_from_a_file(caller: Caller, cafe: Cafe) -> None:
    client = caller.client
    csv = "name;email;phone;birthday;stamps\nAna;ana@example.com;;1990-02-28;4\n;nobody;;;\n"
    async with client.session.post(
        f"{client.server.url}/uploads", data=csv.encode(), headers=client.headers
    ) as answer:
        upload = await answer.json()
    asked = {"uploadId": upload["id"], "templateId": cafe.template_id}

    tried = await caller.do("ImportCustomers", **asked, dryRun=True)
    dry = await _imported(caller, tried["job"]["id"])
    began = await caller.do("ImportCustomers", **asked)
    done = await _imported(caller, began["job"]["id"])
    short = await caller.do("ImportCustomers", csv="email\nana@example.com\n")
    again = await _imported(caller, short["job"]["id"])
    [card] = (await caller("Cards"))["cards"]["nodes"]
    nothing = (await caller("ImportJob", id="imp_nothing"))["importJob"]

    assert upload == {"id": upload["id"], "mediaType": "text/csv", "size": len(csv)}
    assert tried["job"] == {"id": tried["job"]["id"], "status": "PENDING"}
    assert done == {
        "id": began["job"]["id"],
        "status": "DONE",
        "progress": 100,
        "created": 1,
        "matched": 0,
        "rejected": 1,
        "rows": {
            "nodes": [
                {"row": 2, "status": "CREATED", "message": None},
                {
                    "row": 3,
                    "status": "REJECTED",
                    "message": "email: This is not an e-mail address.",
                },
            ],
            "pageInfo": {"hasNextPage": False, "endCursor": done["rows"]["pageInfo"]["endCursor"]},
        },
    }
    assert {**dry, "id": done["id"]} == done
    assert (again["created"], again["matched"]) == (0, 1)
    assert (card["stamps"], card["customer"]["name"]) == (4, "Ana")
    assert nothing is None


async def _imported(caller: Caller, id: str) -> Any:
    """An import, once it has ended."""
    for _ in range(100):
        job = (await caller("ImportJob", id=id))["importJob"]
        if job["status"] in ("DONE", "FAILED"):
            break
        await asyncio.sleep(0.1)
    return job


@runs("ExportCustomer", "EraseCustomer")
async def test_a_customer_is_told_everything_and_erased(caller: Caller, cafe: Cafe) -> None:
    card = await issue(caller, cafe)
    id = card["customer"]["id"]

    told = (await caller("ExportCustomer", id=id))["exportCustomer"]
    erased = await caller.do("EraseCustomer", id=id, idempotencyKey="once")
    repeat = await caller.do("EraseCustomer", id=id, idempotencyKey="once")
    left = (await caller("ExportCustomer", id=id))["exportCustomer"]
    nothing = (await caller("ExportCustomer", id="c_nobody"))["exportCustomer"]
    refused = await caller.answer("EraseCustomer", input={"id": "c_nobody"})

    assert (told["customerId"], told["exportedAt"]) == (id, NOON)
    [person] = told["held"]["customer"]
    assert (person["email"], person["birth_day"]) == (ANA["email"], 28)
    assert [item["id"] for item in told["held"]["card"]] == [card["id"]]
    assert erased == repeat == {"erasedId": id, "userErrors": []}
    assert "Ana" not in json.dumps(left)
    assert ANA["email"] not in json.dumps(left)
    assert ANA["phone"] not in json.dumps(left)
    assert nothing is None
    [error] = refused.data["eraseCustomer"]["userErrors"]
    assert (error["code"], error["field"]) == ("NOT_FOUND", ["input", "id"])


@runs("MergeCustomers", "ReplaceCard")
async def test_mishaps_of_customers(caller: Caller, cafe: Cafe) -> None:
    card = await issue(caller, cafe)
    other = await issue(caller, cafe, email="ana@work.example")
    await caller.do("AddStamps", card={"id": card["id"]}, count=2)
    await caller.do("AddStamps", card={"id": other["id"]}, count=2)
    both = {"keepId": card["customer"]["id"], "mergeId": other["customer"]["id"]}

    preview = await caller.do("MergeCustomers", **both, dryRun=True)
    merged = await caller.do("MergeCustomers", **both)
    by_old_id = (await caller("Customer", id=both["mergeId"]))["customer"]
    replaced = await caller.do("ReplaceCard", card={"number": other["number"]})

    assert merged == preview
    assert merged["customer"] == {"id": both["keepId"]}
    assert merged["cards"] == [{"id": card["id"], "stamps": 4, "cycle": 1}]
    assert by_old_id["id"] == both["keepId"]
    new = replaced["card"]
    assert (new["id"], new["number"]) == (card["id"], card["number"])
    assert new["joinUrl"] != card["joinUrl"]
    assert new["walletPassId"].startswith("wp_")


@runs(
    "Customers",
    "Customer",
    "Cards",
    "Dashboard",
    "CreateCustomer",
    "UpdateCustomer",
    "SetConsent",
)
async def test_customers_and_cards_are_found(caller: Caller, cafe: Cafe) -> None:
    made = await caller.do("CreateCustomer", email="Budi@Example.com", name="Budi")
    budi = made["customer"]["id"]
    updated = await caller.do(
        "UpdateCustomer", id=budi, phone="+62 812 0000 0001", birthday="--02-29"
    )
    agreed = await caller.do("SetConsent", customerId=budi, channel="EMAIL", granted=True)
    card = await issue(caller, cafe)
    ana = card["customer"]["id"]
    by_name = (await caller("Customers", filter={"search": "AN"}))["customers"]
    by_number = (await caller("Customers", filter={"search": card["number"]}))["customers"]
    everybody = (await caller("Customers", first=1, after=None))["customers"]
    one = (await caller("Customer", id=budi))["customer"]
    nobody = (await caller("Customer", id="c_nobody"))["customer"]
    cards = (await caller("Cards", filter={"customerId": ana}))["cards"]
    dashboard = await caller("Dashboard")

    assert made == {
        "customer": {"id": budi, "email": "budi@example.com", "phone": None},
        "created": True,
        "userErrors": [],
    }
    assert updated["customer"] == {
        "id": budi,
        "name": "Budi",
        "email": "budi@example.com",
        "phone": "+6281200000001",
        "birthday": "--02-29",
        "language": "en",
    }
    consents = [{"channel": "EMAIL", "granted": True, "at": NOON}]
    assert agreed["customer"] == {"id": budi, "consents": consents}
    expected = {
        "nodes": [
            {
                "id": ana,
                "name": "Ana",
                "email": "ana@example.com",
                "phone": "+6281234567890",
                "language": "id",
                "lastActivityAt": NOON,
                "cards": {"nodes": [{"id": card["id"], "number": card["number"], "stamps": 0}]},
            }
        ],
        "totalCount": 1,
        "pageInfo": {"hasNextPage": False, "endCursor": by_name["pageInfo"]["endCursor"]},
    }
    assert by_name == expected
    assert by_number == expected
    assert [node["id"] for node in everybody["nodes"]] == [ana]
    assert (everybody["totalCount"], everybody["pageInfo"]["hasNextPage"]) == (2, True)
    assert one == {**updated["customer"], "consents": consents, "cards": {"nodes": []}}
    assert nobody is None
    assert cards["nodes"] == [
        {
            "id": card["id"],
            "number": card["number"],
            "status": "ACTIVE",
            "stamps": 0,
            "stampsRequired": 6,
            "progress": 0,
            "lastStampAt": None,
            "customer": {"id": ana, "name": "Ana"},
            "template": {"id": cafe.template_id, "name": "Kopi card"},
        }
    ]
    assert cards["totalCount"] == 1
    assert dashboard["viewer"] == {"business": {"name": "Kopi"}}
    assert [node["name"] for node in dashboard["locations"]["nodes"]] == ["Kopi"]
    assert dashboard["cards"]["nodes"] == [
        {
            "id": card["id"],
            "status": "ACTIVE",
            "stamps": 0,
            "customer": {"id": ana, "name": "Ana", "language": "id"},
            "vouchers": {"nodes": []},
        }
    ]


@runs(
    "CreateWebhookEndpoint",
    "WebhookEndpoints",
    "UpdateWebhookEndpoint",
    "PauseWebhookEndpoint",
    "ResumeWebhookEndpoint",
    "DeleteWebhookEndpoint",
    "RotateSigningSecret",
    "SendTestEvent",
    "Deliveries",
    "Redeliver",
)
async def test_webhooks(caller: Caller, cafe: Cafe, receiver: Receiver) -> None:
    made = await caller.do(
        "CreateWebhookEndpoint",
        url=receiver.at("/hooks"),
        types=["VOUCHER_REDEEMED", "CARD_ISSUED"],
        vocabulary="ID",
        ordering="NONE",
        name="CRM",
        headers=[{"name": "X-Token", "value": "for the receiver only"}],
        includeContact=False,
        startAt={"now": True},
        document=None,
    )
    endpoint_id = made["endpoint"]["id"]
    card = await caller.do("IssueCard", templateId=cafe.template_id, customer=ANA)
    [event] = card["events"]
    deliveries: list[Any] = []
    while not deliveries or deliveries[0]["status"] == "PENDING":
        deliveries = (await caller("Deliveries", endpointId=endpoint_id))["deliveries"]["nodes"]
    listed = (await caller("WebhookEndpoints"))["webhookEndpoints"]["nodes"]
    sample = await caller.do("SendTestEvent", id=endpoint_id, type="LOTTERY_PLAYED")
    repeated = await caller.do("Redeliver", id=endpoint_id, eventId=event["id"])
    updated = await caller.do("UpdateWebhookEndpoint", id=endpoint_id, types=None)
    paused = await caller.do("PauseWebhookEndpoint", id=endpoint_id)
    resumed = await caller.do("ResumeWebhookEndpoint", id=endpoint_id)
    rotated = await caller.do("RotateSigningSecret", id=endpoint_id)
    deleted = await caller.do("DeleteWebhookEndpoint", id=endpoint_id)
    left = (await caller("WebhookEndpoints"))["webhookEndpoints"]["nodes"]

    assert made["endpoint"] == {
        "id": endpoint_id,
        "url": receiver.at("/hooks"),
        "types": ["CARD_ISSUED", "VOUCHER_REDEEMED"],
        "vocabulary": "ID",
        "ordering": "NONE",
        "status": "ACTIVE",
        "createdAt": NOON,
    }
    assert made["signingSecret"].startswith("whsec_")
    [delivery] = deliveries
    [attempt] = delivery["attempts"]
    assert delivery["event"] == {"id": event["id"], "type": "CARD_ISSUED", "sequence": 1}
    assert (delivery["status"], delivery["nextAttemptAt"]) == ("SUCCEEDED", None)
    assert attempt == {
        "number": 1,
        "startedAt": NOON,
        "durationMs": attempt["durationMs"],
        "status": "SUCCEEDED",
        "responseStatus": 204,
        "responseHead": None,
        "error": None,
        "remoteAddress": "127.0.0.1",
    }
    assert listed == [
        {
            "id": endpoint_id,
            "url": receiver.at("/hooks"),
            "types": ["CARD_ISSUED", "VOUCHER_REDEEMED"],
            "vocabulary": "ID",
            "ordering": "NONE",
            "status": "ACTIVE",
            "disabledReason": None,
            "cursor": listed[0]["cursor"],
            "lag": {"events": 0, "seconds": 0},
            "health": {"successRate": 1.0, "lastSuccessAt": NOON, "failingSince": None},
        }
    ]
    assert (sample["attempt"]["status"], sample["attempt"]["responseStatus"]) == ("SUCCEEDED", 204)
    assert '"event":"lotere_played"' in sample["body"]
    assert repeated["attempt"] == {"status": "SUCCEEDED", "responseStatus": 204}
    first, *others = [request.body.decode() for request in receiver.all]
    assert others == [sample["body"], first]
    assert updated["endpoint"] == {
        "id": endpoint_id,
        "url": receiver.at("/hooks"),
        "types": None,
        "status": "ACTIVE",
    }
    assert paused["endpoint"] == {"id": endpoint_id, "status": "PAUSED"}
    assert resumed["endpoint"] == {
        "id": endpoint_id,
        "status": "ACTIVE",
        "cursor": listed[0]["cursor"],
    }
    assert rotated["signingSecret"].startswith("whsec_")
    assert rotated["previousExpiresAt"] == "2026-03-03T12:00:00Z"
    assert deleted == {"deletedId": endpoint_id, "userErrors": []}
    assert left == []


@runs("WebhookDryRun", "ReplayEvents", "SkipEvent")
async def test_webhooks_and_the_past(caller: Caller, cafe: Cafe, receiver: Receiver) -> None:
    card = await caller.do("IssueCard", templateId=cafe.template_id, customer=ANA)
    [event] = card["events"]
    made = await caller.do("CreateWebhookEndpoint", url=receiver.at("/hooks"), vocabulary="EN")
    endpoint = {"id": made["endpoint"]["id"]}
    asked = {**endpoint, "eventId": event["id"]}
    document = "subscription { events(filter: {types: [CARD_ISSUED]}) { type } }"

    as_it_is = (await caller("WebhookDryRun", input=asked))["webhookDryRun"]
    shaped = (await caller("WebhookDryRun", input={**asked, "document": document}))["webhookDryRun"]
    skipped = await caller.do("SkipEvent", **asked)
    span = {"since": "2026-03-01T00:00:00Z", "until": None, "types": None}
    replay = (await caller.do("ReplayEvents", **endpoint, **span))["replay"]
    [sent] = await receiver.wait_for(1)

    assert as_it_is == {"matches": True, "body": sent.body.decode(), "userErrors": []}
    assert shaped == {
        "matches": True,
        "body": '{"data":{"events":{"type":"CARD_ISSUED"}}}',
        "userErrors": [],
    }
    assert skipped["endpoint"] == {**endpoint, "cursor": "ZXZ0OjE"}
    assert replay == {"id": replay["id"], "total": 1, "sent": 0, "status": "RUNNING"}
    assert sent.data["id"] == event["id"]
    assert sent.headers["webhook-attempt-kind"] == "replay"
    assert "webhook-previous-id" not in sent.headers


@runs("ConnectPointOfSale", "PointsOfSale", "TestPointOfSale", "DisconnectPointOfSale")
async def test_points_of_sale(caller: Caller, cafe: Cafe) -> None:
    [location] = (await caller("Dashboard"))["locations"]["nodes"]
    made = await caller.do(
        "ConnectPointOfSale",
        kind="POSTER",
        name="Dago till",
        locationId=location["id"],
        templateId=cafe.template_id,
        settings={"account": "dago", "applicationSecret": "a secret", "applicationId": "1234"},
    )
    point = made["pointOfSale"]
    listed = (await caller("PointsOfSale"))["pointsOfSale"]["nodes"]
    tested = await caller.do("TestPointOfSale", id=point["id"])
    gone = await caller.do("DisconnectPointOfSale", id=point["id"])
    left = (await caller("PointsOfSale"))["pointsOfSale"]["nodes"]

    callback = f"{caller.client.server.url}/tills/{point['id']}"
    redirect = quote(f"{callback}/authorized", safe="")
    assert point == {
        "id": point["id"],
        "kind": "POSTER",
        "name": "Dago till",
        "status": "PENDING",
        "callbackUrl": callback,
        "authorizeUrl": "https://dago.joinposter.com/api/auth?application_id=1234"
        f"&redirect_uri={redirect}&response_type=code",
    }
    assert listed == [
        {
            "id": point["id"],
            "kind": "POSTER",
            "name": "Dago till",
            "status": "PENDING",
            "lastSaleAt": None,
            "location": {"id": location["id"]},
        }
    ]
    assert tested == {
        "ok": False,
        "detail": "Nobody has let the application in yet: open authorizeUrl.",
        "userErrors": [],
    }
    assert gone == {"deletedId": point["id"], "userErrors": []}
    assert left == []


@runs("EventSample", "Journal", "EventsSince", "Events", "CardLive")
async def test_events(caller: Caller, cafe: Cafe) -> None:
    card = await issue(caller, cafe)
    ref = {"id": card["id"]}
    document = OPERATIONS["Events"]
    caller.ran |= {"Events", "CardLive"}
    async with caller.client.socket() as socket:
        told: Told = await socket.subscribe(document, {"after": "ZXZ0OjA", "filter": None})
        [issued] = await told.take(1)
        live = await socket.subscribe(OPERATIONS["CardLive"], {"card": ref})
        now = (await live.next())["card"]
        await caller.do("AddStamps", card=ref, count=1)
        stamped = (await told.next())["events"]
        then = (await live.next())["card"]
    journal = (await caller("Journal", filter={"types": ["STAMP_ADDED"]}))["events"]
    since = (await caller("EventsSince", after=issued["events"]["cursor"]))["events"]
    sample = (await caller("EventSample", type="LOTTERY_PLAYED", vocabulary="ID"))["eventSample"]

    assert (issued["events"]["type"], issued["events"]["sequence"]) == ("CARD_ISSUED", 1)
    assert stamped == {
        "id": stamped["id"],
        "type": "STAMP_ADDED",
        "sequence": 2,
        "cursor": "ZXZ0OjI",
        "occurredAt": NOON,
        "payload": stamped["payload"],
        "card": {"id": card["id"], "stamps": 1, "stampsRequired": 6},
        "count": 1,
        "channel": "API",
    }
    goal = {"remaining": 3, "title": "Cookie"}
    assert now == {"id": card["id"], "stamps": 0, "cycle": 1, "nextGoal": goal}
    assert then == {**now, "stamps": 1, "nextGoal": {**goal, "remaining": 2}}
    [row] = journal["nodes"]
    assert row["data"]["event"] == "stamp_added"
    assert row == {
        "id": stamped["id"],
        "type": "STAMP_ADDED",
        "sequence": 2,
        "cursor": "ZXZ0OjI",
        "occurredAt": NOON,
        "actor": {"name": "Ana"},
        "payload": row["payload"],
        "data": row["data"],
    }
    assert since["nodes"] == [
        {
            "id": stamped["id"],
            "type": "STAMP_ADDED",
            "sequence": 2,
            "cursor": "ZXZ0OjI",
            "payload": stamped["payload"],
        }
    ]
    assert since["pageInfo"] == {"hasNextPage": False, "endCursor": "ZXZ0OjI"}
    assert sample["payload"].startswith(
        '{"event":"lotere_played","timestamp":"2026-03-02T12:00:00Z"'
    )
    assert sample["data"]["event"] == "lotere_played"
    assert stamped["payload"].startswith('{"event":"Stamp_ditambahkan",')


@runs("Overview", "Pulse")
async def test_the_start_page(caller: Caller, cafe: Cafe) -> None:
    card = await issue(caller, cafe)
    caller.ran.add("Pulse")
    async with caller.client.socket() as socket:
        told = await socket.subscribe(OPERATIONS["Pulse"])
        before = (await told.next())["pulse"]
        await caller.do("AddStamps", card={"id": card["id"]}, count=6)
        after = (await told.next())["pulse"]
    overview = (await caller("Overview", period="WEEK", date="2026-03-08"))["overview"]
    month = (await caller("Overview"))["overview"]

    assert before == {
        "stampOperationsToday": 0,
        "newCardsToday": 1,
        "vouchersRedeemedToday": 0,
        "openVouchers": 0,
    }
    assert after == {**before, "stampOperationsToday": 1, "openVouchers": 1}
    [line], series = overview["staff"], overview["series"]
    assert overview == {
        "totalCards": {"value": 1, "previous": None},
        "newCards": {"value": 1, "previous": None},
        "stampOperations": {"value": 1, "previous": None},
        "birthdayGifts": {"value": 0, "previous": None},
        "stampHistogram": [
            {
                "template": {"id": cafe.template_id, "name": "Kopi card"},
                "buckets": [
                    {"stamps": stamps, "customers": int(stamps == 6)} for stamps in range(7)
                ],
            }
        ],
        "rewards": {
            "awardsIssued": 1,
            "vouchersIssued": 1,
            "vouchersRedeemed": 0,
            "redemptionRate": 0.0,
            "cohortRate": 0.0,
        },
        "staff": [
            {
                "staff": {"id": line["staff"]["id"], "name": "Ana"},
                "newCards": 1,
                "stampOperations": 1,
                "stamps": 6,
                "vouchersIssued": 1,
                "vouchersRedeemed": 0,
                "lastActivityAt": NOON,
            }
        ],
        "series": series,
        "customers": {"active": 1, "inactive": 0},
        "usage": {"cardOperations": 2, "staffSeats": 1, "notifications": 0},
    }
    day = {"date": "2026-03-02", "newCards": 1, "stampOperations": 1, "vouchersRedeemed": 0}
    assert (series[0], len(series)) == (day, 7)
    assert month["newCards"] == {"value": 1, "previous": None}
