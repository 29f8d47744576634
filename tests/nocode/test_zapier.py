"""The Zapier app: sound by Zapier's validator, and run by its tester against a real server."""

import asyncio
import json
import subprocess
from pathlib import Path
from typing import Any

import pytest

from events import event_types
from events.vocabulary import EVENTS
from factories import a_card, a_card_template, a_voucher_template, stamps
from fakes.receiver import Receiver
from houses import House
from models import Role
from nocode.tools import (
    APP,
    HERE,
    AppRun,
    Failed,
    Zapier,
    bundle_of,
    connected,
    copied,
    environment,
    node_22,
)
from npm import installed

pytestmark = [pytest.mark.on("sqlite"), pytest.mark.slow]

ENDPOINTS = "{ webhookEndpoints { nodes { id url status types vocabulary name } } }"
TEST_EVENT = """mutation($id: ID!, $type: EventType!) {
  sendTestEvent(input: {id: $id, type: $type}) { attempt { status } userErrors { message } } }"""
CONSENT = """mutation($id: ID!, $channel: ContactChannel!) {
  setConsent(input: {customerId: $id, channel: $channel, granted: true}) {
    userErrors { message } } }"""
ANA = {"name": "Ana", "email": "ana@mail.example", "phone": "+6281234567890"}


# -- Zapier's own judgement --------------------------------------------------------------------


@pytest.mark.timeout(600)  # its packages are installed before, once
def test_zapiers_validator_finds_it_sound_and_a_broken_one_not(tmp_path: Path) -> None:
    packages, program = installed(APP, patience=400) / "node_modules", node_22(HERE)
    asked = []
    for name in ("sound", "unsound"):
        place = tmp_path / name
        place.mkdir()
        (copied(place) / "node_modules").symlink_to(packages)
        if name == "unsound":
            file = place / "creates.js"
            file.write_text(file.read_text().replace("noun: 'Stamp',", "noum: 'Stamp',"))
        asked.append(validate(program, place))  # side by side
    sound, unsound = (process.communicate(timeout=100)[0] for process in asked)

    assert "This project is structurally sound!" in sound, sound
    assert "structurally invalid" in unsound, unsound
    assert "App.creates.add_stamps" in unsound


def validate(program: str, place: Path) -> subprocess.Popen[str]:
    """Start `zapier-platform validate`; without style it does not ask Zapier's servers."""
    command = place / "node_modules" / "zapier-platform-cli" / "src" / "bin" / "run"
    return subprocess.Popen(
        [program, str(command), "validate", "--without-style"],
        cwd=place,
        env={**environment(), "DISABLE_ZAPIER_ANALYTICS": "1", "NO_UPDATE_NOTIFIER": "1"},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )


# -- connecting --------------------------------------------------------------------------------


async def test_a_connection_says_whose_key_it_is(zapier: Zapier, house: House) -> None:
    said = await zapier.run("authentication.test")

    assert (said["login"], said["business"]) == (house.cafe.login, "Kopi Kenangan")
    assert "{{login}} @ {{business}}" in (APP / "authentication.js").read_text()


async def test_the_servers_address_may_be_typed_in_several_ways(zapier: Zapier) -> None:
    typed = zapier.auth["server_url"]

    for ending in ("/", "/graphql", "/graphql/"):
        zapier.auth["server_url"] = typed + ending
        assert (await zapier.run("authentication.test"))["business"] == "Kopi Kenangan"


async def test_a_wrong_key_asks_for_a_new_connection(zapier: Zapier) -> None:
    zapier.auth["api_key"] = "7loc_sc_nobody"

    with pytest.raises(Failed) as failed:
        await zapier.run("authentication.test")

    assert failed.value.name == "ExpiredAuthError"


# -- triggers ----------------------------------------------------------------------------------


async def test_there_is_a_trigger_for_each_event(tester: AppRun) -> None:
    keys = await tester.run("")

    assert set(EVENTS) <= set(keys)
    assert keys == [*event_types(), "card_templates", "voucher_templates"]


async def test_every_trigger_is_switched_on_tried_and_off(
    zapier: Zapier, house: House, hooks: Receiver
) -> None:
    for key in event_types():
        path = f"/{key}"
        kept = await zapier.trigger(key, "performSubscribe", targetUrl=hooks.at(path))
        [endpoint] = (await house.owner.do(ENDPOINTS))["webhookEndpoints"]["nodes"]
        await house.owner.do(TEST_EVENT, {"id": kept["id"], "type": key.upper()})
        [came] = hooks.to(path)
        [caught] = await zapier.caught(key, kept, came)
        [shown] = await zapier.trigger(key, "performList")
        gone = await zapier.trigger(key, "performUnsubscribe", subscribeData=kept)
        again = await zapier.trigger(key, "performUnsubscribe", subscribeData=kept)

        assert endpoint == {
            "id": kept["id"],
            "url": hooks.at(path),
            "status": "ACTIVE",
            "types": [key.upper()],
            "vocabulary": "EN",
            "name": f"Zapier: {key.replace('_', ' ').title()}",
        }
        assert gone == again == {"id": kept["id"]}
        [sample] = [one["sample"] for one in _events() if one["type"] == key]
        assert came.data["event"] == shown["event"] == key
        assert _shape(came.data) == _shape(sample)
        assert _shape(caught) == _shape(shown)
        assert {name: caught[name] for name in came.data} == came.data
        assert set(caught) - set(came.data) == {"contact", "card_now"}
    assert (await house.owner.do(ENDPOINTS))["webhookEndpoints"]["nodes"] == []


async def test_what_the_editor_shows_is_what_arrives(
    zapier: Zapier, house: House, hooks: Receiver
) -> None:
    kept = await zapier.trigger("stamp_added", "performSubscribe", targetUrl=hooks.at("/zap"))
    card = await a_card(house.database, house.actor, **ANA)
    await house.owner.do(CONSENT, {"id": card.customer_id, "channel": "EMAIL"})
    await stamps(house.database, house.actor, card)
    [came] = await hooks.wait_for(1)

    [caught] = await zapier.caught("stamp_added", kept, came)
    [shown] = await zapier.trigger("stamp_added", "performList")

    assert came.verified_by(kept["signingSecret"]) == came.data
    assert caught == shown
    assert caught["id"] == came.id
    assert caught["stamp"]["count"] == 1
    assert caught["card_now"] == {
        "number": card.number,
        "stamps": 1,
        "stamps_required": 3,
        "page": caught["card_now"]["page"],
        "template": "Coffee card",
    }


async def test_contact_data_come_of_those_who_agreed(zapier: Zapier, house: House) -> None:
    template = await a_card_template(house.database, house.actor)
    nothing: dict[str, Any] = dict.fromkeys(ANA)
    for number, (choice, channels, told) in enumerate(
        [
            ("consented", [], ()),
            ("consented", ["EMAIL"], ("name", "email")),
            ("consented", ["MESSENGERS"], ("name", "phone")),
            ("consented", ["PUSH"], ("name",)),
            ("all", [], ("name", "email", "phone")),
            ("none", ["EMAIL"], ()),
        ]
    ):
        who = {
            "name": "Ana",
            "email": f"ana{number}@mail.example",
            "phone": f"+628123456{number}00",
        }
        card = await a_card(house.database, house.actor, template.id, **who)
        for channel in channels:
            await house.owner.do(CONSENT, {"id": card.customer_id, "channel": channel})

        [shown, *_] = await zapier.trigger("card_issued", "performList", inputs={"contact": choice})

        assert shown["contact"] == {**nothing, **{name: who[name] for name in told}}, choice


async def test_what_is_not_signed_by_us_starts_nothing(
    zapier: Zapier, house: House, hooks: Receiver
) -> None:
    kept = await zapier.trigger("card_issued", "performSubscribe", targetUrl=hooks.at("/zap"))
    await a_card(house.database, house.actor)
    [came] = await hooks.wait_for(1)
    forged = [bundle_of(came, kept) for _ in range(4)]
    forged[0]["rawRequest"]["headers"]["Http-Webhook-Signature"] = "v1,AAAA"
    forged[1]["rawRequest"]["headers"]["Http-Webhook-Timestamp"] = "1778502896"
    forged[2]["rawRequest"]["content"] = came.body.decode().replace("card_issued", "card_opened")
    del forged[3]["rawRequest"]["headers"]["Http-Webhook-Id"]

    assert len(await zapier.caught("card_issued", kept, came)) == 1
    for bundle in forged:
        assert await zapier.trigger("card_issued", "perform", **bundle) == []
    assert await zapier.trigger("card_issued", "perform") == []


async def test_a_zap_that_is_gone_ends_its_endpoint(
    zapier: Zapier, house: House, hooks: Receiver
) -> None:
    kept = await zapier.trigger("card_issued", "performSubscribe", targetUrl=hooks.at("/zap"))
    hooks.status = 410
    await a_card(house.database, house.actor)
    await hooks.wait_for(1)

    async with asyncio.timeout(20):
        while await _status(house) != "DISABLED":  # noqa: ASYNC110 -- the server tells nobody
            await asyncio.sleep(0.02)
    assert await zapier.trigger("card_issued", "performUnsubscribe", subscribeData=kept) == {
        "id": kept["id"]
    }


# -- what a Zap does ---------------------------------------------------------------------------


async def test_it_issues_stamps_and_redeems_and_a_step_run_twice_does_it_once(
    zapier: Zapier, house: House
) -> None:
    template = await a_card_template(house.database, house.actor)
    issue = {"template_id": template.id, **ANA, "run_key": "evt_1"}
    card = await zapier.do("issue_card", **issue)
    repeated = await zapier.do("issue_card", **issue)
    held = {"email": ANA["email"], "template_id": template.id}
    full = {"card": card["number"], "count": 3, "run_key": "evt_1"}
    given = await zapier.do("add_stamps", **full)
    given_again = await zapier.do("add_stamps", **full)
    [reward] = given["rewards"]
    redeemed = await zapier.do("redeem_voucher", voucher=reward["voucher"]["id"], run_key="evt_2")
    redeemed_again = await zapier.do(
        "redeem_voucher", voucher=reward["voucher"]["id"], run_key="evt_2"
    )
    [found] = await zapier.find("find_card", **held)

    assert (card["created"], repeated["created"], repeated["id"]) == (True, True, card["id"])
    assert given_again == given
    assert given["operation"] == {"id": given["id"], "count": 3, "before": 0, "after": 3}
    assert redeemed == redeemed_again
    assert (redeemed["status"], redeemed["redeemedVia"]) == ("REDEEMED", "API")
    assert (found["id"], found["stamps"]) == (card["id"], 3)
    assert found["customer"]["name"] == "Ana"


async def test_the_same_stamps_in_another_run_or_zap_are_other_stamps(
    zapier: Zapier, house: House
) -> None:
    card = await a_card(house.database, house.actor)
    add = {"card": card.id, "count": 1}
    one = {"meta": {"zap": {"id": 1}}}
    method = "creates.add_stamps.operation.perform"

    await zapier.run(method, {**add, "run_key": "1"}, **one)
    await zapier.run(method, {**add, "run_key": "1"}, **one)
    await zapier.run(method, {**add, "run_key": "2"}, **one)
    await zapier.run(method, {**add, "run_key": "1"}, meta={"zap": {"id": 2}})

    [found] = await zapier.find("find_card", card=card.id)
    assert found["stamps"] == 3


async def test_stamps_follow_an_amount_and_issue_a_card_where_there_is_none(
    zapier: Zapier, house: House
) -> None:
    template = await a_card_template(house.database, house.actor)
    given = await zapier.do(
        "add_stamps",
        phone=ANA["phone"],
        template_id=template.id,
        count=2,
        issue_if_missing=True,
        external_ref="receipt-77",
        run_key="1",
    )

    assert given["card"]["stamps"] == 2
    assert given["card"]["customer"]["phone"] == ANA["phone"]


async def test_it_issues_vouchers_of_a_template_and_by_title(zapier: Zapier, house: House) -> None:
    template = await a_voucher_template(house.database, house.actor, redeem_code="FREECOFFEE")
    card = await a_card(house.database, house.actor, **ANA)

    of_template = await zapier.do(
        "issue_voucher", voucher_template_id=template.id, card=card.id, run_key="1"
    )
    by_title = await zapier.do(
        "issue_voucher", title="A cookie", redeem_code="COOKIE-1", run_key="1"
    )
    [found] = await zapier.find("find_voucher", redeem_code="FREECOFFEE", status="ACTIVE")
    redeemed = await zapier.do("redeem_voucher", redeem_code="FREECOFFEE", email=ANA["email"])

    assert (of_template["title"], of_template["card"]["id"]) == ("A free coffee", card.id)
    assert (by_title["title"], by_title["redeemCode"], by_title["card"]) == (
        "A cookie",
        "COOKIE-1",
        None,
    )
    assert found["id"] == of_template["id"] == redeemed["id"]


async def test_it_finds_customers_and_tells_what_to_choose_from(
    zapier: Zapier, house: House
) -> None:
    template = await a_card_template(house.database, house.actor)
    await a_card(house.database, house.actor, template.id, **ANA)

    [customer] = await zapier.find("find_customer", search="ana@")
    cards = await zapier.trigger("card_templates", "perform")
    [voucher] = await zapier.trigger("voucher_templates", "perform")

    assert {name: customer[name] for name in ANA} == ANA
    assert cards == [{"id": template.id, "name": "Coffee card"}]
    assert voucher["name"] == "A free coffee"
    assert await zapier.find("find_customer", search="nobody") == []
    assert await zapier.find("find_card", card="999999") == []


# -- saying no ---------------------------------------------------------------------------------


async def test_a_refusal_that_is_expected_stops_the_zap_and_another_fails_it(
    zapier: Zapier, house: House
) -> None:
    voucher = await zapier.do("issue_voucher", title="A cookie", run_key="1")
    await zapier.do("redeem_voucher", voucher=voucher["id"])

    with pytest.raises(Failed, match=r"HaltedError: .*VOUCHER_ALREADY_REDEEMED"):
        await zapier.do("redeem_voucher", voucher=voucher["id"])
    with pytest.raises(Failed) as failed:
        await zapier.do("add_stamps", card="999999", count=1, run_key="1")
    assert failed.value.name == "AppError"
    assert (failed.value.told["code"], failed.value.told["status"]) == ("NOT_FOUND", 400)
    with pytest.raises(Failed, match="Name the card"):
        await zapier.do("add_stamps", count=1, run_key="1")
    with pytest.raises(Failed, match="Name the voucher"):
        await zapier.do("redeem_voucher")


async def test_what_a_role_may_not_do_is_an_error(tester: AppRun, house: House) -> None:
    _, scanner = await house.hire(Role.SCANNER)

    with pytest.raises(Failed) as failed:
        await connected(tester, scanner).do("issue_card", template_id="tpl_x", name="Ana")

    assert failed.value.name == "AppError"


@pytest.mark.parametrize(
    ("status", "body", "name", "told"),
    [
        (429, {}, "ThrottledError", {"delay": 7}),
        (503, {}, "ThrottledError", {"delay": 7}),
        (
            200,
            {"message": "Too fast.", "extensions": {"code": "RATE_LIMITED"}},
            "ThrottledError",
            {"message": "Too fast.", "delay": 7},
        ),
        (
            200,
            {"message": "No.", "extensions": {"code": "FORBIDDEN"}},
            "AppError",
            {"message": "No.", "code": "FORBIDDEN", "status": 200},
        ),
        (
            401,
            {"message": "Who?", "extensions": {"code": "UNAUTHENTICATED"}},
            "ExpiredAuthError",
            None,
        ),
        (404, None, "AppError", {"code": "NO_ANSWER", "status": 404}),
    ],
)
async def test_every_no_of_a_server_becomes_an_error_that_zapier_knows(
    tester: AppRun, status: int, body: Any, name: str, told: Any
) -> None:
    said = "<html>" if body is None else json.dumps({"errors": [body]} if body else {})
    server = await asyncio.start_server(_saying(status, said), "127.0.0.1", 0)
    async with server:
        port = server.sockets[0].getsockname()[1]
        zapier = Zapier(tester, {"server_url": f"http://127.0.0.1:{port}", "api_key": "key"})
        with pytest.raises(Failed) as failed:
            await zapier.run("authentication.test")

    assert failed.value.name == name
    if told is not None:
        assert {key: failed.value.told[key] for key in told} == told


async def _status(house: House) -> str:
    [endpoint] = (await house.owner.do(ENDPOINTS))["webhookEndpoints"]["nodes"]
    return str(endpoint["status"])


def _saying(status: int, said: str) -> Any:
    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        head = f"HTTP/1.1 {status} Said\r\nretry-after: 7\r\nconnection: close\r\n"
        writer.write(f"{head}content-length: {len(said)}\r\n\r\n{said}".encode())
        await writer.drain()
        writer.close()

    return answer


def _events() -> list[dict[str, Any]]:
    told: list[dict[str, Any]] = json.loads((APP / "events.json").read_text())
    return told


def _shape(value: Any) -> Any:
    """The names of an object, in their order, and of those within."""
    return {name: _shape(item) for name, item in value.items()} if isinstance(value, dict) else None
