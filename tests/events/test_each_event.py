"""One test per event: life provokes it through the API, and all that it says is written here.

Each says which events the act causes, in their order; the body of its own event in both
vocabularies, key by key; and the fields by which GraphQL shows it. In what is compared, ids are
named by their kind: the card of the test is `card_1`, a voucher it meets is `v_1`.
"""

import json
import re
import sys
from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
import pytest_asyncio

from documented import is_documented
from events import event_types
from factories import NOW, a_business
from models import Mode
from models.events import encode_cursor
from partners import BEGINNING, Api
from processes import RunningServer

pytestmark = pytest.mark.asyncio(loop_scope="module")

SAMPLE = Path(__file__).parent.parent / "end_to_end" / "voucher_ditebus.json"
"""The webhook payload example of the reference text, letter by letter."""
NOON = "2026-03-02T12:00:00Z"
"""When the tests begin: 19:00 in Jakarta."""
_ID = re.compile(r"\b([a-z]{1,8})_[0-7][0-9a-hjkmnp-tv-z]{25}\b")
_SHARED = """id type sequence cursor occurredAt actor { id name } location { id } customer { id }
  card { id } goalIndex en: payload(vocabulary: EN) id_: payload(vocabulary: ID)
  data_en: data(vocabulary: EN) data_id: data(vocabulary: ID)"""

# -- The envelope, in both vocabularies -----------------------------------------------------------


def english(
    event: str, card: Any, at: str = NOON, *, sequence: int, by: str | None = "st_1", **subject: Any
) -> dict[str, Any]:
    """A body in English; `by=None` where time caused it: then it has no place either."""
    return {
        "event": event,
        "timestamp": at,
        "business_id": "b_1",
        "location_id": "loc_1" if by else None,
        "customer": {"id": "c_1", "wallet_pass_id": "wp_1", "language": "en"},
        "card": card,
        **subject,
        "id": "evt_1",
        "sequence": sequence,
        "api_version": "2026-11-01",
        "staff_id": by,
    }


def indonesian(
    event: str,
    kartu: Any,
    at: str = NOON,
    *,
    sequence: int,
    by: str | None = "st_1",
    **subject: Any,
) -> dict[str, Any]:
    """A body in the words of the reference text."""
    return {
        "event": event,
        "timestamp": at,
        "bisnis_id": "b_1",
        "lokasi_id": "loc_1" if by else None,
        "pelanggan": {"id": "c_1", "wallet_pass_id": "wp_1", "language": "en"},
        "kartu": kartu,
        **subject,
        "id": "evt_1",
        "sequence": sequence,
        "api_version": "2026-11-01",
        "staff_id": by,
    }


# -- The house ------------------------------------------------------------------------------------


@dataclass
class Cafe:
    """A café, its owner at the API, and one customer's card."""

    api: Api
    names: dict[str, str]
    """What ids, and other things that chance makes, are called here."""
    card: dict[str, Any] = field(default_factory=dict)
    template: str = ""
    heard: str = BEGINNING
    """The cursor up to which a test has heard everything."""

    @property
    def ref(self) -> dict[str, str]:
        """The card, as the API wants it named."""
        return {"id": self.card["id"]}

    async def voucher_template(self, days: int = 30) -> str:
        """A voucher for a free coffee."""
        made = await self.api.do(
            "CreateVoucherTemplate",
            title="Free coffee",
            redeemCode="FREECOFFEE",
            validity={"days": days},
        )
        id: str = made["voucherTemplate"]["id"]
        return id

    async def offers(self, *rewards: tuple[int, dict[str, Any]], **rules: Any) -> None:
        """Publish a card of six stamps, with a voucher at its end unless told."""
        goals = rewards or ((6, {"award": {"title": "Cake"}}),)
        made = await self.api.do(
            "CreateCardTemplate",
            name="Kopi card",
            stampsRequired=6,
            earningRule={"perOrder": True},
            goals=[{"stamps": stamps, "reward": reward} for stamps, reward in goals],
            **{"inactivityDays": None, **rules},
        )
        self.template = made["cardTemplate"]["id"]
        await self.api.do("PublishCardTemplate", id=self.template)

    async def issues(self, **customer: Any) -> None:
        """Issue a card to Ana."""
        ana = {"email": "ana@mail.example", "name": "Ana", **customer}
        issued = await self.api.do("IssueCard", templateId=self.template, customer=ana)
        self.card = issued["card"]
        self.names |= {
            self.card["id"]: "card_1",
            self.card["customer"]["id"]: "c_1",
            self.card["walletPassId"]: "wp_1",
            self.card["number"]: "113772",
        }

    async def listens(self) -> None:
        """Hear nothing of what happened so far."""
        journal = await self.api.journal()
        self.heard = journal[-1]["cursor"]

    async def brings(
        self,
        order: list[str],
        en: dict[str, Any],
        id_: dict[str, Any],
        fields: str = "",
        **shown: Any,
    ) -> Any:
        """What happened since is this, in this order; the event of this body says all of it."""
        type = en["event"]
        kind = "".join(word.capitalize() for word in type.split("_"))
        fragment = f"... on {kind} {{ {fields} }}" if fields else ""
        document = f"""query($after: String!) {{ events(after: $after, order: OLDEST_FIRST)
            {{ nodes {{ {_SHARED} {fragment} }} }} }}"""
        answer = await self.api.send(document, after=self.heard)
        nodes = answer["data"]["events"]["nodes"]

        assert [node["type"] for node in nodes] == order
        node = self._named(next(node for node in nodes if node["type"] == type.upper()))
        assert node["en"] == _wire(en)
        assert node["id_"] == _wire(id_)
        assert (node["data_en"], node["data_id"]) == (en, id_)
        assert is_documented(en)
        assert is_documented(id_, "ID")
        assert {name: node[name] for name in shown} == shown
        self._shares(node, en)
        return json.loads(node["id_"])

    def _shares(self, node: dict[str, Any], en: dict[str, Any]) -> None:
        """What every event shows in GraphQL is what its body says."""
        by = {"id": "st_1", "name": "Ayu"} if en["staff_id"] else {"id": None, "name": "Stampwire"}
        assert node["id"] == "evt_1"
        assert node["sequence"] == en["sequence"]
        assert node["cursor"] == encode_cursor(en["sequence"])
        assert node["occurredAt"] == en["timestamp"]
        assert node["actor"] == by
        assert node["location"] == ({"id": "loc_1"} if en["location_id"] else None)
        assert node["customer"] == {"id": "c_1"}
        assert node["card"] == {"id": "card_1"}
        assert node["goalIndex"] == en["card"]["goal_index"]

    def _named(self, node: dict[str, Any]) -> Any:
        """The same, with names for ids: those we know, the others by their kind."""
        text, names = json.dumps(node), dict(self.names)
        for found in _ID.finditer(text):
            kind = found[1]
            known = [name for name in names.values() if name.startswith(f"{kind}_")]
            names.setdefault(found[0], f"{kind}_{len(known) + 1}")
        for id, name in names.items():
            text = text.replace(id, name)
        return json.loads(text)


def _wire(body: dict[str, Any]) -> str:
    """A body as it is written, so that the order of the keys counts."""
    return json.dumps(body, separators=(",", ":"), ensure_ascii=False)


@pytest_asyncio.fixture(loop_scope="module")
async def cafe(one_server: RunningServer) -> AsyncIterator[Cafe]:
    """A TEST business: time can be moved."""
    deployment = one_server.app.state.deployment
    made = await a_business(deployment.database, deployment.secrets, NOW, mode=Mode.TEST)
    owner = made.owner
    names = {owner.business_id: "b_1", owner.location_id: "loc_1", owner.staff_id: "st_1"}
    async with Api(one_server.graphql, made.api_key) as api:
        yield Cafe(api, names)


# -- Cards ----------------------------------------------------------------------------------------


async def test_card_issued_when_a_customer_gets_a_card(cafe: Cafe) -> None:
    await cafe.offers()

    await cafe.issues()

    card = {
        "number": "113772",
        "template_id": "tpl_1",
        "template_version": 1,
        "stamps": 0,
        "stamps_required": 6,
    }
    await cafe.brings(
        ["CARD_ISSUED"],
        english(
            "card_issued",
            {"id": "card_1", "goal_index": None, **card},
            sequence=1,
            issued_via="api",
        ),
        indonesian(
            "kartu_diterbitkan",
            {"id": "card_1", "target_index": None, **card},
            sequence=1,
            issued_via="api",
        ),
        "issuedVia",
        issuedVia="API",
    )


async def test_card_saved_when_it_is_put_into_a_wallet(cafe: Cafe) -> None:
    await cafe.offers()
    await cafe.issues()
    await cafe.listens()

    for _ in range(2):  # once per wallet
        await cafe.api.do("ReportCardSaved", card=cafe.ref, platform="APPLE")

    await cafe.brings(
        ["CARD_SAVED"],
        english(
            "card_saved", {"id": "card_1", "goal_index": None, "platform": "apple"}, sequence=2
        ),
        indonesian(
            "kartu_disimpan",
            {"id": "card_1", "target_index": None, "platform": "apple"},
            sequence=2,
        ),
        "platform",
        platform="APPLE",
    )


async def test_card_opened_when_it_is_looked_at(cafe: Cafe) -> None:
    await cafe.offers()
    await cafe.issues()
    await cafe.listens()

    for _ in range(2):  # once an hour
        await cafe.api.do("ReportCardOpened", card=cafe.ref, platform="GOOGLE")

    await cafe.brings(
        ["CARD_OPENED"],
        english(
            "card_opened", {"id": "card_1", "goal_index": None, "platform": "google"}, sequence=2
        ),
        indonesian(
            "kartu_opened", {"id": "card_1", "target_index": None, "platform": "google"}, sequence=2
        ),
        "platform",
        platform="GOOGLE",
    )


# -- Stamps, goals, rewards -----------------------------------------------------------------------


async def test_stamp_added_once_for_an_operation(cafe: Cafe) -> None:
    await cafe.offers()
    await cafe.issues()
    await cafe.listens()

    await cafe.api.do("AddStamps", card=cafe.ref, count=2, channel="POS", externalRef="receipt-77")

    stamp = {
        "operation_id": "op_1",
        "count": 2,
        "before": 0,
        "after": 2,
        "required": 6,
        "cycle": 1,
        "channel": "pos",
        "amount": None,
        "currency": None,
        "external_ref": "receipt-77",
    }
    await cafe.brings(
        ["STAMP_ADDED"],
        english("stamp_added", {"id": "card_1", "goal_index": None}, sequence=2, stamp=stamp),
        indonesian(
            "Stamp_ditambahkan", {"id": "card_1", "target_index": None}, sequence=2, stamp=stamp
        ),
        """operation { id count } count before after required cycle channel amount currency
        externalRef""",
        operation={"id": "op_1", "count": 2},
        count=2,
        before=0,
        after=2,
        required=6,
        cycle=1,
        channel="POS",
        amount=None,
        currency=None,
        externalRef="receipt-77",
    )


async def test_goal_reached_once_for_a_goal(cafe: Cafe) -> None:
    await cafe.offers((3, {"award": {"title": "Cookie"}}), (6, {"award": {"title": "Cake"}}))
    await cafe.issues()
    await cafe.listens()

    await cafe.api.do("AddStamps", card=cafe.ref, count=4)

    goal = {"index": 1, "stamps": 3, "is_final": False, "reward_format": "award"}
    await cafe.brings(
        ["STAMP_ADDED", "GOAL_REACHED", "REWARD_ISSUED"],
        english("goal_reached", {"id": "card_1", "goal_index": 1}, sequence=3, goal=goal),
        indonesian("target_reached", {"id": "card_1", "target_index": 1}, sequence=3, goal=goal),
        "index stamps isFinal rewardFormat",
        index=1,
        stamps=3,
        isFinal=False,
        rewardFormat="AWARD",
    )


async def test_reward_issued_when_a_gift_is_handed_out(cafe: Cafe) -> None:
    await cafe.offers((3, {"award": {"title": "Cookie"}}), (6, {"award": {"title": "Cake"}}))
    await cafe.issues()
    await cafe.listens()

    await cafe.api.do("AddStamps", card=cafe.ref, count=3)

    reward = {
        "id": "rw_1",
        "type": "award",
        "title": "Cookie",
        "source": "goal",
        "voucher_id": None,
    }
    await cafe.brings(
        ["STAMP_ADDED", "GOAL_REACHED", "REWARD_ISSUED"],
        english("reward_issued", {"id": "card_1", "goal_index": 1}, sequence=4, reward=reward),
        indonesian(
            "hadiah_diterbitkan", {"id": "card_1", "target_index": 1}, sequence=4, reward=reward
        ),
        "reward { id type title source voucher { id } }",
        reward={
            "id": "rw_1",
            "type": "AWARD",
            "title": "Cookie",
            "source": "GOAL",
            "voucher": None,
        },
    )


async def test_voucher_issued_after_the_reward_it_is(cafe: Cafe) -> None:
    coffee = await cafe.voucher_template()
    cookie = (3, {"award": {"title": "Cookie"}})
    await cafe.offers(cookie, (6, {"voucher": {"voucherTemplateId": coffee}}))
    await cafe.issues()
    await cafe.listens()

    await cafe.api.do("AddStamps", card=cafe.ref, count=6)

    first = {
        "id": "v_1",
        "type": "voucher",
        "redeem_code": "FREECOFFEE",
        "redeem_code_formats": ["text", "qr", "barcode"],
    }
    then = {
        "title": "Free coffee",
        "issued_at": NOON,
        "expires_at": "2026-04-01T17:00:00Z",
        "source": "goal",
    }
    await cafe.brings(
        [
            "STAMP_ADDED",
            "GOAL_REACHED",
            "REWARD_ISSUED",
            "GOAL_REACHED",
            "REWARD_ISSUED",
            "VOUCHER_ISSUED",
        ],
        english(
            "voucher_issued",
            {"id": "card_1", "goal_index": 2},
            sequence=7,
            voucher={**first, "status": "active", **then},
        ),
        indonesian(
            "voucher_diterbitkan",
            {"id": "card_1", "target_index": 2},
            sequence=7,
            voucher={**first, "status": "aktif", **then},
        ),
        "voucher { id title redeemCode status expiresAt card { id } }",
        voucher={
            "id": "v_1",
            "title": "Free coffee",
            "redeemCode": "FREECOFFEE",
            "status": "ACTIVE",
            "expiresAt": "2026-04-01T17:00:00Z",
            "card": {"id": "card_1"},
        },
    )


# -- Vouchers -------------------------------------------------------------------------------------


async def test_voucher_redeemed_as_the_reference_text_shows_it(cafe: Cafe) -> None:
    coffee = await cafe.voucher_template()
    cookie = (3, {"award": {"title": "Cookie"}})
    await cafe.offers(cookie, (6, {"voucher": {"voucherTemplateId": coffee}}))
    await cafe.issues()
    await cafe.api.do("AddStamps", card=cafe.ref, count=6)
    await cafe.listens()

    code = {"redeemCode": "FREECOFFEE", "card": cafe.ref}
    await cafe.api.do("RedeemVoucher", voucher={"code": code}, via="STAFF_SCANNER")

    first = {
        "id": "v_1",
        "type": "voucher",
        "redeem_code": "FREECOFFEE",
        "redeem_code_formats": ["text", "qr", "barcode"],
    }
    body = await cafe.brings(
        ["VOUCHER_REDEEMED"],
        english(
            "voucher_redeemed",
            {"id": "card_1", "goal_index": 2},
            sequence=8,
            voucher={
                **first,
                "status": "redeemed",
                "redeemed_via": "staff_scanner",
                "redeemed_at": NOON,
            },
        ),
        indonesian(
            "voucher_ditebus",
            {"id": "card_1", "target_index": 2},
            sequence=8,
            voucher={
                **first,
                "status": "ditebus",
                "ditebus_via": "staf_pemindai",
                "redeemed_at": NOON,
            },
        ),
        "voucher { id status }",
        voucher={"id": "v_1", "status": "REDEEMED"},
    )
    assert _beginning(body, json.loads(SAMPLE.read_text())) == _shape(SAMPLE.read_text())


def _beginning(body: Any, sample: Any) -> Any:
    """The keys of a body, as far as the sample goes, in their order and at every depth."""
    if not isinstance(sample, dict):
        return type(body)
    return [(key, _beginning(body[key], sample[key])) for key, _ in zip(body, sample, strict=False)]


def _shape(text: str) -> Any:
    sample = json.loads(text)
    return _beginning(sample, sample)


async def test_voucher_expired_when_its_last_day_is_over(cafe: Cafe) -> None:
    coffee = await cafe.voucher_template(days=1)
    await cafe.offers()
    await cafe.issues()
    await cafe.api.do("IssueVoucher", templateId=coffee, card=cafe.ref)
    await cafe.listens()

    moved = await cafe.api.do("AdvanceTestClock", days=2)

    midnight = "2026-03-03T17:00:00Z"
    assert [event["type"] for event in moved["events"]] == ["VOUCHER_EXPIRED"]
    first = {
        "id": "v_1",
        "type": "voucher",
        "redeem_code": "FREECOFFEE",
        "redeem_code_formats": ["text", "qr", "barcode"],
    }
    await cafe.brings(
        ["VOUCHER_EXPIRED"],
        english(
            "voucher_expired",
            {"id": "card_1", "goal_index": None},
            midnight,
            sequence=3,
            by=None,
            voucher={**first, "status": "expired", "expires_at": midnight},
        ),
        indonesian(
            "voucher_kedaluwarsa",
            {"id": "card_1", "target_index": None},
            midnight,
            sequence=3,
            by=None,
            voucher={**first, "status": "kedaluwarsa", "expires_at": midnight},
        ),
        "voucher { id status }",
        voucher={"id": "v_1", "status": "EXPIRED"},
    )


# -- Lottery --------------------------------------------------------------------------------------


async def test_lottery_played_before_what_it_won(cafe: Cafe) -> None:
    muffin = {
        "type": "AWARD",
        "probability": 10_000,
        "name": "Muffin",
        "greeting": "Lucky you!",
    }
    await cafe.offers((5, {"lottery": {"variants": [muffin]}}), (6, {"award": {"title": "Cake"}}))
    await cafe.issues()
    added = await cafe.api.do("AddStamps", card=cafe.ref, count=5)
    [ticket] = added["lotteryTickets"]
    await cafe.listens()

    await cafe.api.do("PlayLottery", ticketId=ticket["id"])

    lottery = {
        "ticket_id": "lt_1",
        "variant_id": "lv_1",
        "variant_type": "award",
        "name": "Muffin",
        "greeting": "Lucky you!",
        "voucher_id": None,
    }
    await cafe.brings(
        ["LOTTERY_PLAYED", "REWARD_ISSUED"],
        english("lottery_played", {"id": "card_1", "goal_index": 1}, sequence=4, lottery=lottery),
        indonesian(
            "lotere_played", {"id": "card_1", "target_index": 1}, sequence=4, lottery=lottery
        ),
        """ticket { id status } variantId variantType name greeting voucher { id }
        result { type name greeting }""",
        ticket={"id": "lt_1", "status": "PLAYED"},
        variantId="lv_1",
        variantType="AWARD",
        name="Muffin",
        greeting="Lucky you!",
        voucher=None,
        result={"type": "AWARD", "name": "Muffin", "greeting": "Lucky you!"},
    )


# -- What time causes -----------------------------------------------------------------------------


async def test_birthday_reached_at_nine_before_its_gift(cafe: Cafe) -> None:
    cake = await cafe.voucher_template()
    await cafe.offers(birthday={"daysBefore": 1, "voucherTemplateId": cake})
    await cafe.issues(birthday="1990-03-06")
    await cafe.listens()

    await cafe.api.do("AdvanceTestClock", days=3)

    nine = "2026-03-05T02:00:00Z"
    birthday = {"days_before": 1, "year": 2026, "voucher_id": "v_1"}
    await cafe.brings(
        ["BIRTHDAY_REACHED", "REWARD_ISSUED", "VOUCHER_ISSUED"],
        english(
            "birthday_reached",
            {"id": "card_1", "goal_index": None},
            nine,
            sequence=2,
            by=None,
            birthday=birthday,
        ),
        indonesian(
            "birthday_reached",
            {"id": "card_1", "target_index": None},
            nine,
            sequence=2,
            by=None,
            birthday=birthday,
        ),
        "daysBefore year voucher { id source }",
        daysBefore=1,
        year=2026,
        voucher={"id": "v_1", "source": "BIRTHDAY"},
    )


async def test_inactivity_trigger_after_silent_days_at_ten(cafe: Cafe) -> None:
    await cafe.offers(inactivityDays=30)
    await cafe.issues()
    await cafe.listens()

    await cafe.api.do("AdvanceTestClock", days=60)

    ten = "2026-04-02T03:00:00Z"
    inactivity = {"days": 30, "last_activity_at": NOON, "voucher_id": None}
    await cafe.brings(
        ["INACTIVITY_TRIGGER"],
        english(
            "inactivity_trigger",
            {"id": "card_1", "goal_index": None},
            ten,
            sequence=2,
            by=None,
            inactivity=inactivity,
        ),
        indonesian(
            "inactivity_trigger",
            {"id": "card_1", "target_index": None},
            ten,
            sequence=2,
            by=None,
            inactivity=inactivity,
        ),
        "days lastActivityAt voucher { id }",
        days=30,
        lastActivityAt=NOON,
        voucher=None,
    )


async def test_campaign_sent_once_a_channel_accepted(cafe: Cafe) -> None:
    coffee = await cafe.voucher_template()
    await cafe.offers()
    await cafe.issues()
    await cafe.api.do("ReportCardSaved", card=cafe.ref, platform="APPLE")
    await cafe.listens()
    two = "2026-03-02T14:00:00Z"
    await cafe.api.do(
        "CreateCampaign",
        name="Rainy week",
        templateId=cafe.template,
        notificationText="2-for-1 today",
        messageText="Come and bring a friend.",
        channels=["PUSH", "EMAIL"],  # nobody said yes to e-mail
        voucherTemplateId=coffee,
        scheduledAt=two,
    )

    await cafe.api.do("AdvanceTestClock", hours=3)

    campaign = {"id": "cmp_1", "name": "Rainy week", "channels": ["push"], "voucher_id": "v_1"}
    await cafe.brings(
        ["REWARD_ISSUED", "VOUCHER_ISSUED", "CAMPAIGN_SENT"],
        english(
            "campaign_sent",
            {"id": "card_1", "goal_index": None},
            two,
            sequence=5,
            by=None,
            campaign=campaign,
        ),
        indonesian(
            "kampanye_sent",
            {"id": "card_1", "target_index": None},
            two,
            sequence=5,
            by=None,
            campaign=campaign,
        ),
        "campaign { id name channels voucherId }",
        campaign={"id": "cmp_1", "name": "Rainy week", "channels": ["PUSH"], "voucherId": "v_1"},
    )


# -- Undo -----------------------------------------------------------------------------------------


async def test_operation_voided_when_it_is_undone(cafe: Cafe) -> None:
    await cafe.offers((3, {"award": {"title": "Cookie"}}), (6, {"award": {"title": "Cake"}}))
    await cafe.issues()
    added = await cafe.api.do("AddStamps", card=cafe.ref, count=3)
    await cafe.listens()

    await cafe.api.do("VoidOperation", id=added["operation"]["id"], reason="Wrong card")

    operation = {
        "id": "op_1",
        "kind": "stamps",
        "count": 3,
        "before": 3,
        "after": 0,
        "cycle": 1,
        "voucher_id": None,
        "voided_rewards": ["rw_1"],
        "voided_vouchers": [],
        "voided_tickets": [],
    }
    await cafe.brings(
        ["OPERATION_VOIDED"],
        english(
            "operation_voided",
            {"id": "card_1", "goal_index": None},
            sequence=5,
            operation=operation,
        ),
        indonesian(
            "operation_voided",
            {"id": "card_1", "target_index": None},
            sequence=5,
            operation=operation,
        ),
        "operation { id count voided { reason } }",
        operation={"id": "op_1", "count": 3, "voided": {"reason": "Wrong card"}},
    )


async def test_every_event_type_of_the_catalogue_has_its_test() -> None:
    tests = [name for name in vars(sys.modules[__name__]) if name.startswith("test_")]

    for type in event_types():
        assert len([name for name in tests if name.startswith(f"test_{type}_")]) == 1, type
