"""The story of the reference text, told by public clients to a server that is a process."""

import hashlib
import json
import re
from pathlib import Path
from typing import Any

from documented import is_documented
from fakes.receiver import receiving
from partners import Api, operations, subscriber
from processes import Process

SAMPLE = Path(__file__).parent / "voucher_ditebus.json"
"""The webhook payload example of the reference text, letter by letter."""
SEED = "af2be74f7a976023d7d8ebc7021b20feaf9d1a2e44e814ac3e1c6554b0e9dad0"
"""The SHA-256 of that example, as it was cut out of the reference text."""
ADDED = ["id", "sequence", "api_version", "staff_id"]
ADDED_TO_VOUCHER = ["redeemed_at"]


def test_the_sample_is_the_reference_texts_own() -> None:
    assert hashlib.sha256(SAMPLE.read_bytes()).hexdigest() == SEED


async def test_the_story_of_the_reference_text(process: Process) -> None:  # noqa: PLR0915 -- a story
    demo = process.demo
    async with Api(process.graphql) as stranger, receiving() as receiver:
        # The owner signs in and generates an API key for a staff login.
        signed_in = await stranger.do(
            "SignIn", login=demo["owner"]["login"], password=demo["owner"]["password"]
        )
        async with stranger.by(signed_in["session"]["secret"]) as owner:
            location = (await owner.ask("Locations"))["nodes"][0]
            await owner.do(
                "CreateStaff",
                name="Pemindai",
                login="pemindai@kopi.example",
                password="kopi tubruk 1",
                role="SCANNER",
                locationId=location["id"],
            )
            [staff] = (await owner.ask("StaffWithoutKey"))["nodes"]
            key = await owner.do("GenerateApiKey", staffId=staff["id"], idempotencyKey="key-1")
            assert key["apiKey"]["name"] == "Pemindai"
            assert key["apiKey"]["login"] == "pemindai@kopi.example"
            assert key["secret"].startswith("7loc_sc_")
            assert key["secret"].endswith(key["apiKey"]["hint"])

        async with stranger.by(key["secret"]) as till:
            # A card for a customer, by e-mail.
            issued = await till.do(
                "IssueCard",
                templateId=demo["cardTemplate"]["id"],
                customer={"email": "ana@example.com", "language": "en"},
                idempotencyKey="issue-1",
            )
            card = issued["card"]
            assert (issued["created"], issued["customerCreated"]) == (True, True)
            assert [event["type"] for event in issued["events"]] == ["CARD_ISSUED"]
            [first] = (await till.ask("Journal"))["nodes"]

            # A subscriber, and a webhook at a plain HTTP receiver.
            events = operations()["Events"]
            async with subscriber(
                process.socket, key["secret"], events, after=first["cursor"]
            ) as heard:
                made = await till.do(
                    "CreateWebhookEndpoint", url=receiver.at("/crm"), vocabulary="ID", name="CRM"
                )
                assert made["endpoint"]["status"] == "ACTIVE"

                # Stamps up to the goal, the voucher, its redemption.
                half = await till.do(
                    "AddStamps", card={"id": card["id"]}, count=3, idempotencyKey="stamp-1"
                )
                assert [reward["type"] for reward in half["rewards"]] == ["AWARD"]
                full = await till.do(
                    "AddStamps",
                    card={"holder": _holder(demo, email="ana@example.com")},
                    count=3,
                    channel="POS",
                    externalRef="receipt-77",
                    idempotencyKey="stamp-2",
                )
                assert full["card"]["stamps"] == full["card"]["stampsRequired"] == 6
                [reward] = full["rewards"]
                assert reward["voucher"]["redeemCode"] == "FREECOFFEE"
                redeemed = await till.do(
                    "RedeemVoucher",
                    voucher={"id": reward["voucher"]["id"]},
                    via="STAFF_SCANNER",
                    idempotencyKey="redeem-1",
                )
                assert redeemed["voucher"]["status"] == "REDEEMED"

                told = await heard.wait_for(8)
                delivered = await receiver.wait_for(8)
                assert all(is_documented(item.data, "ID") for item in delivered)

            journal = await till.journal()

    expected = [
        ("STAMP_ADDED", "Stamp_ditambahkan"),
        ("GOAL_REACHED", "target_reached"),
        ("REWARD_ISSUED", "hadiah_diterbitkan"),
        ("STAMP_ADDED", "Stamp_ditambahkan"),
        ("GOAL_REACHED", "target_reached"),
        ("REWARD_ISSUED", "hadiah_diterbitkan"),
        ("VOUCHER_ISSUED", "voucher_diterbitkan"),
        ("VOUCHER_REDEEMED", "voucher_ditebus"),
    ]
    assert [event["type"] for event in told] == [type for type, _ in expected]
    assert [event["sequence"] for event in told] == list(range(2, 10))

    # Every request is signed, and carries the bytes that the subscriber and the journal have.
    bodies = {item.verified_by(made["signingSecret"])["id"]: item for item in delivered}
    assert len(bodies) == len(delivered) == 8
    assert all(item.id == id for id, item in bodies.items())
    assert [bodies[event["id"]].data["event"] for event in told] == [word for _, word in expected]
    for event in told:
        assert event["payload"].encode() == bodies[event["id"]].body
    assert [event["payload"] for event in journal[1:]] == [event["payload"] for event in told]

    _is_as_the_reference_text_says(told[-1], bodies[told[-1]["id"]].body)
    body = bodies[told[-1]["id"]].data
    assert body["bisnis_id"] == demo["business"]["id"]
    assert body["lokasi_id"] == location["id"]
    assert body["pelanggan"]["id"] == card["customer"]["id"]
    assert body["pelanggan"]["wallet_pass_id"] == card["walletPassId"]
    assert body["kartu"] == {"id": card["id"], "target_index": 2}
    assert body["voucher"]["id"] == reward["voucher"]["id"]
    assert body["staff_id"] == staff["id"]
    assert b"ana@example.com" not in b"".join(item.body for item in delivered)


def _is_as_the_reference_text_says(event: Any, raw: bytes) -> None:
    """The reference text's keys, words and types in its order, then what we add."""
    sample, body = json.loads(SAMPLE.read_text()), json.loads(raw)
    assert list(body) == [*sample, *ADDED]
    assert list(body["pelanggan"]) == list(sample["pelanggan"])
    assert list(body["kartu"]) == list(sample["kartu"])
    assert list(body["voucher"]) == [*sample["voucher"], *ADDED_TO_VOUCHER]
    _same_types(sample, body)
    assert re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\dZ", body["timestamp"])
    assert body["event"] == sample["event"]
    assert body["pelanggan"]["language"] == sample["pelanggan"]["language"]
    assert body["kartu"]["target_index"] == sample["kartu"]["target_index"]
    same = ("type", "redeem_code", "redeem_code_formats", "status", "ditebus_via")
    assert {key: body["voucher"][key] for key in same} == {
        key: sample["voucher"][key] for key in same
    }
    assert body["id"] == event["id"]
    assert body["sequence"] == event["sequence"]


def _same_types(sample: Any, given: Any) -> None:
    assert type(given) is type(sample), (sample, given)
    if isinstance(sample, dict):
        for key, value in sample.items():
            _same_types(value, given[key])
    if isinstance(sample, list):
        for one, other in zip(sample, given, strict=True):
            _same_types(one, other)


def _holder(demo: Any, **customer: str) -> dict[str, Any]:
    return {"templateId": demo["cardTemplate"]["id"], "customer": customer}
