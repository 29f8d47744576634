"""A business to begin with: owner, scanner, a voucher and a card, all through the services."""

import secrets as random
from dataclasses import asdict, dataclass
from datetime import datetime
from typing import Any

from core.ids import Id
from core.secrets import Secrets
from db import Database, Transaction
from models import Actor, Mode, Role
from services.api_keys import GenerateApiKeyInput, generate_api_key
from services.businesses import CreateBusinessInput, OwnerInput, create_business, the_system
from services.card_templates import (
    AwardInput,
    CreateCardTemplateInput,
    EarningRuleInput,
    GoalInput,
    GoalRewardInput,
    PublishCardTemplateInput,
    VoucherRewardInput,
    create_card_template,
    publish_card_template,
)
from services.joining import SetJoinPageInput, set_join_page
from services.passwords import digest_password
from services.staff import CreateStaffInput, create_staff
from services.voucher_templates import CreateVoucherTemplateInput, create_voucher_template
from services.vouchers import ValidityInput


@dataclass(frozen=True)
class Login:
    """A staff login with all that opens doors for it."""

    login: str
    password: str
    apiKey: str  # noqa: N815 -- as demo.json writes it


@dataclass(frozen=True)
class Named:
    """A thing by its id."""

    id: str


@dataclass(frozen=True)
class Starter:
    """What `demo.json` and `stampwire business create --json` say, but for the URL."""

    business: Named
    owner: Login
    scanner: Login
    cardTemplate: Named  # noqa: N815
    voucherTemplate: Named  # noqa: N815

    def told(self, url: str) -> dict[str, Any]:
        """As JSON."""
        return {"url": url, **asdict(self)}


async def make_business(
    database: Database,
    secrets: Secrets,
    now: datetime,
    *,
    name: str,
    timezone: str,
    currency: str,
    login: str | None = None,
    mode: Mode = Mode.LIVE,
    anybody_joins: bool = False,
) -> Starter:
    """Make a business with an owner, a scanner, a free-coffee voucher and a card of six stamps.

    With `anybody_joins` its join page is open.
    """
    label = random.token_hex(3)
    owner = OwnerInput(
        name="Owner",
        login=login or f"owner-{label}@kopi.example",
        password=random.token_urlsafe(12),
    )
    scanner_login, scanner_password = f"scanner-{label}@kopi.example", random.token_urlsafe(12)
    owner_digest = await digest_password(owner.password)
    scanner_digest = await digest_password(scanner_password)
    asked = CreateBusinessInput(
        name=name, timezone=timezone, currency=currency, mode=mode, owner=owner
    )

    async def make(tx: Transaction) -> Starter:
        made = await create_business(
            tx, the_system(now), asked, now, password_digest=owner_digest, secrets=secrets
        )
        if made.business is None or made.owner is None or made.api_key_secret is None:
            raise AssertionError
        actor = Actor(made.business, made.owner)
        staff = await create_staff(
            tx,
            actor,
            CreateStaffInput(
                name="Bar Counter",
                login=scanner_login,
                password=scanner_password,
                role=Role.SCANNER,
                location_id=Id(made.owner.location_id or ""),
            ),
            now,
            password_digest=scanner_digest,
        )
        if staff.staff is None:
            raise AssertionError
        key = await generate_api_key(
            tx, actor, GenerateApiKeyInput(staff_id=Id(staff.staff.id)), now, secrets=secrets
        )
        voucher, card = await _templates(tx, actor, now)
        if anybody_joins:
            opened = SetJoinPageInput(template_id=Id(card), is_open=True)
            await set_join_page(tx, actor, opened, now)
        return Starter(
            business=Named(made.business.id),
            owner=Login(owner.login, owner.password, str(made.api_key_secret)),
            scanner=Login(scanner_login, scanner_password, str(key.secret)),
            cardTemplate=Named(card),
            voucherTemplate=Named(voucher),
        )

    return await database.write(None, make)


async def _templates(tx: Transaction, actor: Actor, now: datetime) -> tuple[str, str]:
    """The voucher and the card of the reference text: six stamps, then a free coffee."""
    voucher = await create_voucher_template(
        tx,
        actor,
        CreateVoucherTemplateInput(
            title="Free coffee", redeem_code="FREECOFFEE", validity=ValidityInput(days=30)
        ),
        now,
    )
    if voucher.voucher_template is None:
        raise AssertionError
    card = await create_card_template(
        tx,
        actor,
        CreateCardTemplateInput(
            name="Kopi card",
            stamps_required=6,
            earning_rule=EarningRuleInput(per_order=True),
            goals=[
                GoalInput(stamps=3, reward=GoalRewardInput(award=AwardInput(title="Cookie"))),
                GoalInput(
                    stamps=6,
                    reward=GoalRewardInput(
                        voucher=VoucherRewardInput(
                            voucher_template_id=Id(voucher.voucher_template.id)
                        )
                    ),
                ),
            ],
        ),
        now,
    )
    if card.card_template is None:
        raise AssertionError
    await publish_card_template(
        tx, actor, PublishCardTemplateInput(id=Id(card.card_template.id)), now
    )
    return voucher.voucher_template.id, card.card_template.id
