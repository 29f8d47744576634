"""Gifts: vouchers that no goal of the card earned, handed out for a birthday or by a campaign."""

from dataclasses import dataclass
from datetime import datetime

from core.ids import new_id
from db import Transaction
from events import RewardIssued, record
from events.catalogue import RewardPart
from models import Actor, Card, Customer, Reward, RewardType, Source, Voucher, VoucherTemplate
from services.figures import count_reward
from services.vouchers import VoucherPlan, add_voucher, card_part, customer_part, voucher_issued


@dataclass(frozen=True)
class Gift:
    """A voucher and the reward it is."""

    reward: Reward
    voucher: Voucher


async def make_gift(
    tx: Transaction,
    actor: Actor,
    template: VoucherTemplate,
    source: Source,
    card: Card,
    at: datetime,
    *,
    campaign_id: str | None = None,
) -> Gift:
    """Make a gift; `tell_of_gift` records it once the event that caused it is recorded."""
    plan = VoucherPlan.of(template, actor, at)
    voucher = await add_voucher(tx, actor, plan, source, card, campaign_id=campaign_id)
    reward = Reward(
        id=new_id("rw"),
        business_id=actor.business_id,
        card_id=card.id,
        staff_id=actor.staff_id,
        location_id=actor.location_id,
        voucher_id=voucher.id,
        type=RewardType.VOUCHER,
        source=source,
        title=voucher.title,
        snapshot={"description": voucher.description, "image_url": voucher.image_url},
        issued_at=at,
    )
    await tx.add(reward)
    count_reward(tx, actor, reward, card.template_id)
    return Gift(reward, voucher)


def tell_of_gift(
    tx: Transaction, actor: Actor, gift: Gift, card: Card, customer: Customer, at: datetime
) -> None:
    """Record that the reward, and with it the voucher, was handed out."""
    reward = gift.reward
    record(
        tx,
        actor,
        RewardIssued(
            location_id=actor.location_id,
            customer=customer_part(customer, card),
            card=card_part(card),
            reward=RewardPart(
                id=reward.id,
                type=reward.type,
                title=reward.title,
                source=reward.source,
                voucher_id=reward.voucher_id,
            ),
        ),
        at,
    )
    record(tx, actor, voucher_issued(actor, gift.voucher, card, customer), at)
