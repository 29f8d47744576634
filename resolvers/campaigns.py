"""Campaigns: from a field to its operation."""

from typing import Any

from core.errors import Refused
from db import Transaction
from models import Campaign
from resolvers.context import Context
from resolvers.perform import performs
from services import campaigns
from services.campaigns import CampaignRehearsed, ChannelResult, CreateCampaignInput
from services.operation import MANAGERS, allow


def _connected(context: Context) -> dict[str, Any]:
    return {"connected": context.deployment.channels.connected}


create_campaign = performs(campaigns.create_campaign, _connected)
cancel_campaign = performs(campaigns.cancel_campaign)


async def campaign_dry_run(context: Context, input: CreateCampaignInput) -> CampaignRehearsed:
    """What a campaign would do if it were sent now."""

    async def work(tx: Transaction) -> CampaignRehearsed:
        return await campaigns.rehearse_campaign(
            tx, context.actor, input, context.now, **_connected(context)
        )

    try:
        return await context.read(work)
    except Refused as refusal:
        return CampaignRehearsed(user_errors=[refusal])


async def campaign(context: Context, id: str) -> Campaign | None:
    """A campaign, None if there is none."""
    allow(context.actor, MANAGERS)
    return await context.read(lambda tx: tx.get(Campaign, id))


async def results(context: Context, campaign: Campaign) -> list[ChannelResult]:
    """What became of a campaign so far."""
    return await context.read(lambda tx: campaigns.results_of(tx, campaign))
