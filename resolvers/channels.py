"""Channels: from a field to its operation; providers are asked outside of transactions."""

from contextlib import suppress
from typing import Any

from core.errors import Refused
from core.ids import new_id
from integrations.channels.seam import Account, NotConnected
from models import ChannelKind, ChannelStatus
from resolvers.context import Context
from resolvers.perform import perform, resolves
from services import channels
from services.channels import (
    ChannelConnected,
    ChannelDisconnected,
    ChannelTested,
    ConnectChannelInput,
    ConnectedChannel,
    DisconnectChannelInput,
    Plugged,
    TestChannelInput,
    callback_secret,
    callback_url,
    checked_settings,
)
from services.operation import MANAGERS, Outcome, allow


@resolves(channels.connect_channel)
async def connect_channel(context: Context, input: ConnectChannelInput) -> Outcome:
    """Ask the provider, and keep what it said with the settings."""
    deployment = context.deployment
    try:
        told = checked_settings(input.kind, input.settings)
        known = await context.read(lambda tx: channels.connection_of_kind(tx, input.kind))
        id = known.id if known else new_id("chn")
        secret = callback_secret(deployment.secrets, id, told)
        settings = {**told, "callbackSecret": secret}
        provider = deployment.channels.made(input.kind, settings)
        account = await provider.connect(callback_url(deployment.settings.url, id))
    except Refused as refusal:
        return ChannelConnected(user_errors=[refusal])
    except NotConnected as error:
        return ChannelConnected(user_errors=[channels.refusal_of(error)])
    plugged = Plugged(id=id, settings=settings, account=account)
    return await perform(
        context, channels.connect_channel, input, plugged=plugged, secrets=deployment.secrets
    )


@resolves(channels.test_channel)
async def test_channel(context: Context, input: TestChannelInput) -> Outcome:
    """Ask the provider, and keep whether it still accepts us."""
    account, problem = None, None
    try:
        account = await _asked(context, input.id)
    except Refused as refusal:
        return ChannelTested(user_errors=[refusal])
    except NotConnected as error:
        problem = str(error)
    except ValueError:
        problem = "No secret key of this deployment opens its settings: connect it again."
    return await perform(context, channels.test_channel, input, account=account, problem=problem)


@resolves(channels.disconnect_channel)
async def disconnect_channel(context: Context, input: DisconnectChannelInput) -> Outcome:
    """Take it away; then tell the provider, which may be out of reach."""
    try:
        connection = await context.read(lambda tx: channels.live_connection(tx, input.id))
    except Refused as refusal:
        if input.idempotency_key is None:
            return ChannelDisconnected(user_errors=[refusal])
        return await perform(context, channels.disconnect_channel, input)  # perhaps a repeat
    done = await perform(context, channels.disconnect_channel, input)
    if not done.user_errors:
        with suppress(NotConnected, ValueError):
            await context.deployment.channels.provider(connection).leave()
    return done


async def _asked(context: Context, id: str) -> Account:
    connection = await context.read(lambda tx: channels.live_connection(tx, id))
    return await context.deployment.channels.provider(connection).check()


async def connected(context: Context) -> list[ConnectedChannel]:
    """The ways by which customers can be reached."""
    allow(context.actor, MANAGERS)
    now = context.deployment.clock.now()
    own = [
        ConnectedChannel(
            id=None,
            kind=getattr(sender, "kind", ChannelKind.FILE),
            channel=sender.channel,
            status=ChannelStatus.CONNECTED,
        )
        for sender in context.deployment.channels.serving
    ]
    return await context.read(lambda tx: channels.connected_channels(tx, now, own))


async def reachable(context: Context, channel: Any) -> int:
    """How many customers a channel reaches."""
    return await context.read(lambda tx: channels.reachable(tx, channel))


def callback_of(context: Context, id: str | None) -> str | None:
    """Where the provider calls us."""
    return None if id is None else callback_url(context.deployment.settings.url, id)
