"""Sample calls of the whole API, made from its schema: valid arguments for every field.

Ids are those of a house's own things; the table KINDS says of which kind each place wants one.
A new place, or a required field nobody has told of, fails the tests that walk the schema.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from datetime import timedelta
from itertools import count
from typing import Any, cast

from graphql import (
    GraphQLArgument,
    GraphQLInputField,
    GraphQLSchema,
    get_named_type,
    is_enum_type,
    is_input_object_type,
    is_leaf_type,
    is_list_type,
    is_non_null_type,
    is_required_argument,
    is_required_input_field,
)
from sqlmodel import col, select

from backends import free_port
from core.ids import Id, new_id
from core.secrets import Secrets
from db import BUSINESS, Database, Transaction, param, query
from factories import (
    NOW,
    a_campaign,
    a_card,
    a_card_template,
    a_claim_code,
    a_customer,
    a_location,
    a_lottery_goal,
    a_staff,
    a_till,
    a_voucher,
    a_voucher_goal,
    a_voucher_template,
    an_api_key,
    an_award_goal,
    stamps,
)
from integrations.channels import seal_settings
from models import (
    Actor,
    ApiKey,
    Card,
    ChannelConnection,
    ChannelKind,
    EventRow,
    ImportJob,
    JobStatus,
    LotteryTicket,
    Operation,
    Replay,
    Reward,
    Row,
    Session,
    Upload,
    VariantType,
)
from services.card_templates import LotteryVariantInput
from services.channels import connection_of_kind
from services.places import NOWHERE
from services.replays import ReplayEventsInput, replay_events
from services.sign_ins import open_session
from services.uploads import store_text
from services.webhook_endpoints import (
    CreateWebhookEndpointInput,
    PauseWebhookEndpointInput,
    create_webhook_endpoint,
    pause_webhook_endpoint,
)
from webhooks.documents import Documents

KINDS = {
    "Query.campaign.id": "campaign",
    "Query.node.id": "card",
    "Query.customer.id": "customer",
    "Query.voucher.id": "voucher",
    "Query.cardTemplateChanges.id": "template",
    "Query.deliveries.endpointId": "endpoint",
    "Query.exportCardTemplate.id": "template",
    "Query.exportCustomer.id": "customer",
    "Query.importJob.id": "import_job",
    "Query.replay.id": "replay",
    "Query.overview.locationId": "location",
    "Query.overview.templateId": "template",
    "ApiKey.id": "key",
    "ArchiveCardTemplateInput.id": "template",
    "ArchiveLocationInput.id": "location",
    "ArchiveVoucherTemplateInput.id": "voucher_template",
    "BirthdayRuleInput.voucherTemplateId": "voucher_template",
    "CancelCampaignInput.id": "campaign",
    "CardFilter.customerId": "customer",
    "CardFilter.search": "number",
    "CardFilter.templateId": "template",
    "CardRef.id": "card",
    "CardRef.number": "number",
    "CardRef.token": "card_token",
    "ChangePasswordInput.staffId": "staff",
    "ClaimStampsInput.code": "claim_code",
    "ConnectPointOfSaleInput.locationId": "location",
    "ConnectPointOfSaleInput.templateId": "template",
    "CreateClaimCodesInput.templateId": "template",
    "CreateCampaignInput.templateId": "template",
    "CreateCampaignInput.voucherTemplateId": "voucher_template",
    "CreateStaffInput.locationId": "location",
    "CustomerFilter.search": "email",
    "CustomerRef.email": "email",
    "CustomerRef.id": "customer",
    "CustomerRef.phone": "phone",
    "DeleteApiKeyInput.id": "key",
    "DeleteCardInput.id": "card",
    "DeleteWebhookEndpointInput.id": "endpoint",
    "DisableStaffInput.id": "staff",
    "DisconnectChannelInput.id": "channel",
    "DisconnectPointOfSaleInput.id": "point_of_sale",
    "EnableStaffInput.id": "staff",
    "EndAllSessionsInput.staffId": "staff",
    "EndSessionInput.id": "session",
    "EraseCustomerInput.id": "customer",
    "EventFilter.cardIds": "card",
    "EventFilter.customerIds": "customer",
    "EventFilter.locationIds": "location",
    "EventFilter.search": "email",
    "EventScopeInput.cardIds": "card",
    "EventScopeInput.customerIds": "customer",
    "EventScopeInput.locationIds": "location",
    "GenerateApiKeyInput.staffId": "staff",
    "HolderRef.templateId": "template",
    "ImportCustomersInput.templateId": "template",
    "ImportCustomersInput.uploadId": "upload",
    "IssueCardInput.templateId": "template",
    "IssueVoucherInput.templateId": "voucher_template",
    "LotteryVariantInput.voucherTemplateId": "voucher_template",
    "MergeCustomersInput.keepId": "customer",
    "MergeCustomersInput.mergeId": "friend",
    "PauseWebhookEndpointInput.id": "endpoint",
    "PlayLotteryInput.ticketId": "ticket",
    "PublishCardTemplateInput.id": "template",
    "RedeliverDeadInput.id": "endpoint",
    "RedeliverInput.eventId": "event",
    "RedeliverInput.id": "endpoint",
    "RegenerateApiKeyInput.id": "key",
    "ReplayEventsInput.id": "endpoint",
    "ResumeWebhookEndpointInput.id": "endpoint",
    "RotateSigningSecretInput.id": "endpoint",
    "SaleRef.pointOfSaleId": "point_of_sale",
    "SegmentInput.locationId": "location",
    "SendTestEventInput.id": "endpoint",
    "SetConsentInput.customerId": "customer",
    "SetJoinPageInput.templateId": "template",
    "SkipEventInput.eventId": "event",
    "SkipEventInput.id": "endpoint",
    "StaffFilter.locationId": "location",
    "StopReplayInput.id": "replay",
    "TestChannelInput.id": "channel",
    "TestPointOfSaleInput.id": "point_of_sale",
    "UpdateApiKeyInput.id": "key",
    "UpdateCardTemplateInput.id": "template",
    "UpdateCustomerInput.id": "customer",
    "UpdateLocationInput.id": "location",
    "UpdatePointOfSaleInput.id": "point_of_sale",
    "UpdatePointOfSaleInput.locationId": "location",
    "UpdatePointOfSaleInput.templateId": "template",
    "UpdateStaffInput.id": "staff",
    "UpdateStaffInput.locationId": "location",
    "UpdateVoucherTemplateInput.id": "voucher_template",
    "UpdateWebhookEndpointInput.id": "endpoint",
    "VoidOperationInput.id": "operation",
    "VoidVoucherInput.id": "voucher",
    "VoucherCodeRef.redeemCode": "redeem_code",
    "VoucherFilter.cardId": "card",
    "VoucherFilter.customerId": "customer",
    "VoucherFilter.redeemCode": "redeem_code",
    "VoucherFilter.templateId": "voucher_template",
    "VoucherRef.id": "voucher",
    "VoucherRef.token": "voucher_token",
    "VoucherRewardInput.voucherTemplateId": "voucher_template",
    "WebhookDryRunInput.eventId": "event",
    "WebhookDryRunInput.id": "endpoint",
}
"""Which kind of thing each place names that takes an id, or a text by which things are found."""

NO_DOCUMENTS: Documents = cast("Documents", None)
"""For endpoints that have none."""
NOBODY = f"http://127.0.0.1:{free_port()}/hooks"
"""An address where nobody takes webhooks."""
_NAMING = {"number", "token", "email", "phone", "redeemCode", "search"}
_number = count(1)

_WORDS: dict[str, Any] = {
    "amountPerStamp": "10000",
    "clientId": "sale-1",
    "currency": "IDR",
    "daysBefore": 0,
    "document": {
        "format": "stampwire.card-template/1",
        "name": "A name",
        "stampsRequired": 3,
        "earningRule": {"perOrder": True},
        "goals": [{"stamps": 3, "reward": {"award": {"title": "A cookie"}}}],
    },
    "granted": True,
    "isOpen": True,
    "messageText": "Come and bring a friend.",
    "name": "A name",
    "newPassword": "a new password",
    "notificationText": "2-for-1 today",
    "occurredAt": NOW.isoformat(),
    "password": "long enough",
    "probability": 10_000,
    "saleId": "77",
    "settings": {},
    "since": NOW.isoformat(),
    "stamps": 3,
    "stampsRequired": 3,
    "token": "x" * 43,
    "timezone": "Asia/Jakarta",
    "title": "A title",
    "url": NOBODY,
    "value": "a value",
}
"""What required fields of these names are given."""

_CHOSEN: dict[str, dict[str, Any]] = {
    "AddStampsInput": {"count": 1},
    "AdvanceTestClockInput": {"minutes": 1},
    "CreateAccessTokenInput": {"events": {}},
    "CreateClaimCodesInput": {"stamps": 1},
    "CreateCampaignInput": {"scheduledAt": "2026-12-01T00:00:00Z"},
    "EarningRuleInput": {"perOrder": True},
    "GoalRewardInput": {"award": {"title": "A cookie"}},
    "ImportCustomersInput": {"csv": "email\n"},
    "IssueVoucherInput": {"custom": {"title": "A coffee"}},
    "OfflineStampsInput": {"count": 1},
    "PreviewStampsInput": {"count": 1},
    "UpdateCardTemplateInput": {"stampsRequired": 3},
}
"""Fields of these inputs that are optional, and yet one of them must be given."""
_INSTEAD = {
    ("CreateAccessTokenInput", "card"),
    ("ImportCustomersInput", "uploadId"),
    ("IssueVoucherInput", "templateId"),
}
"""Places where something is named instead of what would be chosen."""


@dataclass
class Things:
    """One thing of each kind, of one house; `ids` has their ids and whatever else names them."""

    ids: dict[str, str]
    rows: list[Row] = field(default_factory=list)

    def __getitem__(self, kind: str) -> str:
        return self.ids[kind]


async def things_of(
    database: Database, actor: Actor, secrets: Secrets, label: str = "Thing"
) -> Things:
    """Make a thing of each kind; its texts have the label in them."""
    small = label.lower()
    location = await a_location(database, actor, name=f"{label} corner")
    staff = await a_staff(database, actor, name=f"{label} staff")
    keyed = await a_staff(database, actor, name=f"{label} keyed")
    assert staff.staff
    assert keyed.staff
    await an_api_key(database, actor, keyed.staff, secrets)
    voucher_template = await a_voucher_template(
        database, actor, title=f"{label} coffee", redeem_code=f"{label}{next(_number)}"
    )
    goals = [an_award_goal(1), await a_voucher_goal(database, actor, 3)]
    template = await a_card_template(database, actor, 3, goals, name=f"{label} card")
    person = {
        "name": f"{label} person",
        "email": f"{small}{next(_number)}@mail.example",
        "phone": f"+62812{next(_number):07}",
    }
    card = await a_card(database, actor, template.id, **person)
    await stamps(database, actor, card, 1)
    voucher = await a_voucher(database, actor, voucher_template.id, card)
    customer = await a_customer(
        database,
        actor,
        name=f"{label} friend",
        email=f"{small}{next(_number)}@mail.example",
        phone=f"+62813{next(_number):07}",
    )
    ticket = await a_ticket(database, actor, label)
    claim_code = await a_claim_code(database, actor, template.id)
    endpoint = await an_endpoint(database, actor, secrets, f"{label} endpoint")
    replay = await a_replay(database, actor, endpoint.id)
    campaign = await a_campaign(database, actor, template.id, name=f"{label} week")
    upload, import_job = await an_import(database, actor)
    session = await a_session(database, actor, secrets)
    till = await a_till(database, actor, template.id, secrets, name=f"{label} till")
    key, event, operation, reward = await _found(database, actor, keyed, card)
    rows = [location, staff.staff, keyed.staff, voucher_template, template, card, voucher]
    return Things(
        {
            "campaign": campaign.id,
            "channel": (await a_channel(database, actor, secrets)).id,
            "card": card.id,
            "number": card.number,
            "point_of_sale": till.id,
            "card_token": card.token,
            "claim": claim_code.id,
            "claim_code": claim_code.code,
            "customer": card.customer_id,
            "email": person["email"],
            "phone": person["phone"],
            "friend": customer.id,
            "import_job": import_job.id,
            "endpoint": endpoint.id,
            "event": event.id,
            "key": key.id,
            "location": location.id,
            "operation": operation.id,
            "redeem_code": voucher.redeem_code or "",
            "replay": replay.id,
            "reward": reward.id,
            "session": session.id,
            "staff": staff.staff.id,
            "template": template.id,
            "ticket": ticket.id,
            "upload": upload.id,
            "voucher": voucher.id,
            "voucher_template": voucher_template.id,
            "voucher_token": voucher.token,
        },
        [
            *rows,
            customer,
            ticket,
            claim_code,
            campaign,
            endpoint,
            replay,
            upload,
            import_job,
            key,
            event,
            operation,
            reward,
            session,
            till,
        ],
    )


async def a_channel(database: Database, actor: Actor, secrets: Secrets) -> ChannelConnection:
    """A provider at an address where nobody is: the one of its kind, connected (again)."""
    settings = {"baseUrl": NOBODY, "apiToken": "a token", "callbackSecret": "a secret"}

    async def work(tx: Transaction) -> ChannelConnection:
        known = await connection_of_kind(tx, ChannelKind.SEVEN_LOC)
        id = known.id if known else new_id("chn")
        sealed = seal_settings(secrets, id, settings)
        if known is not None:
            return await tx.change(known, settings=sealed, disconnected_at=None)
        made = ChannelConnection(
            id=id,
            business_id=actor.business_id,
            kind=ChannelKind.SEVEN_LOC,
            settings=sealed,
            connected_at=NOW,
        )
        await tx.add(made)
        return made

    return await database.write(actor.business_id, work)


async def a_session(database: Database, actor: Actor, secrets: Secrets) -> Session:
    """The actor itself, signed in somewhere."""
    assert actor.staff
    staff = actor.staff

    async def work(tx: Transaction) -> Session:
        signed = await open_session(tx, secrets, staff, NOW, NOWHERE)
        assert signed.session
        return await tx.one(_BY_DIGEST, digest=secrets.digest(signed.session.secret))

    return await database.write(actor.business_id, work)


async def an_import(database: Database, actor: Actor) -> tuple[Upload, ImportJob]:
    """A file of customers, and a dry run of it that has ended."""

    async def work(tx: Transaction) -> tuple[Upload, ImportJob]:
        upload = await store_text(tx, actor, "email\n", NOW)
        job = ImportJob(
            id=new_id("imp"),
            business_id=actor.business_id,
            upload_id=upload.id,
            dry_run=True,
            status=JobStatus.DONE,
            created_at=NOW,
            finished_at=NOW,
            lease_until=NOW,
        )
        await tx.add(job)
        return upload, job

    return await database.write(actor.business_id, work)


async def a_ticket(database: Database, actor: Actor, label: str) -> LotteryTicket:
    """A lottery ticket that nobody has played."""
    muffin = LotteryVariantInput(type=VariantType.AWARD, probability=10_000, name=f"{label} muffin")
    template = await a_card_template(
        database, actor, 1, [a_lottery_goal(1, muffin)], name=f"{label} lottery"
    )
    card = await a_card(database, actor, template.id)
    [ticket] = (await stamps(database, actor, card)).lottery_tickets
    return ticket


async def an_endpoint(database: Database, actor: Actor, secrets: Secrets, name: str) -> Any:
    told = CreateWebhookEndpointInput(url=NOBODY, name=name)

    async def work(tx: Transaction) -> Any:
        made = await create_webhook_endpoint(
            tx, actor, told, NOW, secrets=secrets, documents=NO_DOCUMENTS, allow_insecure=True
        )
        assert made.endpoint
        # Paused, so that nothing but the tests changes it.
        paused = PauseWebhookEndpointInput(id=Id(made.endpoint.id))
        return (await pause_webhook_endpoint(tx, actor, paused, NOW)).endpoint

    return await database.write(actor.business_id, work)


async def a_replay(database: Database, actor: Actor, endpoint_id: str) -> Replay:
    """A replay of all that was; its endpoint is paused, so it rests."""
    told = ReplayEventsInput(id=Id(endpoint_id), since=NOW - timedelta(days=1))

    async def work(tx: Transaction) -> Replay:
        replay = (await replay_events(tx, actor, told, NOW)).replay
        assert replay
        return replay

    return await database.write(actor.business_id, work)


_KEY_OF = query(
    select(ApiKey).where(
        col(ApiKey.business_id) == BUSINESS, col(ApiKey.staff_id) == param("staff_id")
    )
)
_BY_DIGEST = query(
    select(Session).where(
        col(Session.business_id) == BUSINESS, col(Session.digest) == param("digest")
    )
)
_OF_CARD = [
    query(select(kind).where(col(kind.business_id) == BUSINESS, col(kind.card_id) == param("card")))
    for kind in (EventRow, Operation, Reward)
]


async def _found(database: Database, actor: Actor, keyed: Actor, card: Card) -> list[Any]:
    """What the others left behind: a key, an event, a line of the ledger, a reward."""

    async def work(tx: Transaction) -> list[Any]:
        key = await tx.one(_KEY_OF, staff_id=keyed.staff_id)
        return [key, *[await tx.one(statement, card=card.id) for statement in _OF_CARD]]

    return await database.read(actor.business_id, work)


@dataclass(frozen=True)
class Place:
    """Where in a call an id (or another text that names a thing) can be given."""

    field: str
    """The root field it is for, such as `Mutation.addStamps`."""
    path: tuple[str, ...]
    """The way from its arguments down, such as `("input", "card", "id")`."""
    kind: str
    """Which kind of thing it names."""

    def __str__(self) -> str:
        return f"{self.field}({'.'.join(self.path)})"


def places(schema: GraphQLSchema, type_name: str) -> Iterator[Place]:
    """Every place of a type's fields where something can be named."""
    shown: Any = schema.type_map[type_name]
    for name, shown_field in shown.fields.items():
        for argument, told in shown_field.args.items():
            for path, kind in _places(told, f"{type_name}.{name}.{argument}"):
                yield Place(f"{type_name}.{name}", (argument, *path), kind)


def _places(
    told: GraphQLArgument | GraphQLInputField, key: str
) -> Iterator[tuple[tuple[str, ...], str]]:
    kind: Any = get_named_type(told.type)
    if is_input_object_type(kind):
        for name, inner in kind.fields.items():
            for path, found in _places(inner, f"{kind.name}.{name}"):
                yield (name, *path), found
    elif kind.name == "ID" or _names(key):
        yield (), KINDS[key]


def _names(key: str) -> bool:
    """Whether a text names a thing: in references and filters it does, and where we say so."""
    owner, _, name = key.rpartition(".")
    return key in KINDS or (owner.endswith(("Ref", "Filter")) and name in _NAMING)


def arguments(
    shown_field: Any,
    things: Mapping[str, str] | Things,
    key: str,
    at: tuple[str, ...] = (),
    value: Any = None,
) -> dict[str, Any]:
    """Valid arguments of a field; at the place given, the value given."""
    return {
        name: _value(told.type, things, f"{key}.{name}", at[1:] if at[:1] == (name,) else (), value)
        for name, told in shown_field.args.items()
        if is_required_argument(told) or at[:1] == (name,)
    }


def _value(
    kind: Any, things: Mapping[str, str] | Things, key: str, at: tuple[str, ...], value: Any
) -> Any:
    """A valid value of an input type; at the place given, the value given."""
    if is_non_null_type(kind):
        return _value(kind.of_type, things, key, at, value)
    if is_list_type(kind):
        return [_value(kind.of_type, things, key, at, value)]
    if is_input_object_type(kind):
        return _object(kind, things, at, value)
    return _word(kind, things, key) if value is None else value


def _word(kind: Any, things: Mapping[str, str] | Things, key: str) -> Any:
    if key in KINDS:
        return things[KINDS[key]]
    if is_enum_type(kind):
        return next(iter(kind.values))
    name = key.rpartition(".")[2]
    return f"new{next(_number)}@mail.example" if name in ("login", "email") else _WORDS[name]


def _object(
    kind: Any, things: Mapping[str, str] | Things, at: tuple[str, ...], value: Any
) -> dict[str, Any]:
    chosen = dict(_CHOSEN.get(kind.name, {}))
    required = [name for name, inner in kind.fields.items() if is_required_input_field(inner)]
    if kind.name in ("CustomerInput", "CreateCustomerInput"):
        required = ["email"]
    if (kind.name, *at[:1]) in _INSTEAD:
        chosen = {}
    if kind.extensions["strawberry-definition"].is_one_of:
        required = [at[0] if at else "id"] if not chosen or at else []
        chosen = {} if at else chosen
    inside = {
        name: _value(
            kind.fields[name].type,
            things,
            f"{kind.name}.{name}",
            at[1:] if at[:1] == (name,) else (),
            value if at[:1] == (name,) else None,
        )
        for name in dict.fromkeys([*required, *at[:1]])
    }
    return chosen | inside


def selection(schema: GraphQLSchema, kind: Any, depth: int = 3) -> str:
    """Every field of a type that needs no argument, down to a depth."""
    kind = get_named_type(kind)
    if is_leaf_type(kind):
        return ""
    fields = ["__typename"]
    for name, shown_field in kind.fields.items():
        if any(is_required_argument(told) for told in shown_field.args.values()):
            continue
        inner = get_named_type(shown_field.type)
        if is_leaf_type(inner):
            fields.append(name)
        elif depth:
            fields.append(name + selection(schema, inner, depth - 1))
    return " { " + " ".join(fields) + " }"


def document(schema: GraphQLSchema, place: str, depth: int = 3) -> str:
    """The document that asks a root field for everything, its arguments as variables."""
    type_name, _, name = place.partition(".")
    shown: Any = schema.type_map[type_name]
    shown_field = shown.fields[name]
    words = ", ".join(
        f"${one}: {told.type if is_required_argument(told) else str(told.type).rstrip('!')}"
        for one, told in shown_field.args.items()
    )
    given = ", ".join(f"{one}: ${one}" for one in shown_field.args)
    head = f"{type_name.lower()}({words})" if words else type_name.lower()
    ask = f"{name}({given})" if given else name
    return f"{head} {{ {ask}{selection(schema, shown_field.type, depth)} }}"
