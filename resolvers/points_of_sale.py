"""Points of sale and their sales: from a field to its operation; tills are asked outside."""

from typing import Any

from core.errors import Refused
from models import PointOfSale, PointOfSaleStatus, Role, Sale
from resolvers.context import Context
from resolvers.perform import perform, performs, resolves
from services import points_of_sale
from services.operation import EVERYBODY, Outcome, allow
from services.points_of_sale import (
    Connection,
    PointOfSaleTested,
    TestPointOfSaleInput,
    callback_url,
    redirect_url,
    try_out,
)
from services.sale_refs import SaleRef, find_sale, live_point

disconnect_point_of_sale = performs(points_of_sale.disconnect_point_of_sale)


def _secrets(context: Context) -> dict[str, Any]:
    return {"secrets": context.deployment.secrets}


connect_point_of_sale = performs(points_of_sale.connect_point_of_sale, _secrets)
update_point_of_sale = performs(points_of_sale.update_point_of_sale, _secrets)


@resolves(points_of_sale.test_point_of_sale)
async def test_point_of_sale(context: Context, input: TestPointOfSaleInput) -> Outcome:
    """Ask the till, and keep what it said."""
    deployment = context.deployment
    try:
        point = await context.read(lambda tx: live_point(tx, input.id, "input", "id"))
    except Refused as refusal:
        return PointOfSaleTested(user_errors=[refusal])
    url = callback_url(deployment.settings.url, point)
    finding = await try_out(deployment.outgoing, Connection.of(point, deployment.secrets), url)
    return await perform(context, points_of_sale.test_point_of_sale, input, finding=finding)


async def sale(context: Context, ref: SaleRef) -> Sale | None:
    """A sale of a till, None where none was told."""
    allow(context.actor, EVERYBODY)
    return await context.read(lambda tx: find_sale(tx, ref))


def callback_of(context: Context, point: PointOfSale) -> str | None:
    """Where the till calls us; not for scanners."""
    if context.actor.role is Role.SCANNER:
        return None
    return callback_url(context.deployment.settings.url, point)


def authorize_url(context: Context, point: PointOfSale) -> str | None:
    """Where a person lets us in; None where nobody has to, or somebody did. Not for scanners."""
    waits = point.status is not PointOfSaleStatus.ACTIVE and point.settings is not None
    if context.actor.role is Role.SCANNER or not waits:
        return None
    connection = Connection.of(point, context.deployment.secrets)
    redirect = redirect_url(context.deployment.settings.url, point)
    return connection.till.authorize_url(connection.settings, redirect)
