"""What the operator's own commands look up on the database: whose login it is, which businesses."""

from datetime import UTC, datetime

from sqlmodel import col, select

from core.errors import NotFound, Refused
from core.ids import moment_of
from db import BUSINESS, Query, Transaction, param, query
from models import Actor, ApiKey, Business, EventRow, Staff
from services.staff import login_of

# The operator sees every business: these run in the name of the system.
_BUSINESSES = query(select(Business).order_by(col(Business.id)))
_LAST_EVENT: Query[str] = query(select(EventRow.id).order_by(col(EventRow.id).desc()).limit(1))
_STAFF: Query[tuple[Staff, Business]] = query(
    select(Staff, Business)
    .join(Business, col(Business.id) == col(Staff.business_id))
    .where(col(Staff.login) == param("login"))
)

_KEYS: Query[tuple[ApiKey, Staff]] = query(
    select(ApiKey, Staff)
    .join(Staff, col(Staff.id) == col(ApiKey.staff_id))
    .where(col(ApiKey.business_id) == BUSINESS)
    .order_by(col(ApiKey.id))
)


async def businesses(tx: Transaction) -> list[Business]:
    """Every business, oldest first. Runs in the name of the system."""
    return await tx.many(_BUSINESSES)


async def staff_of_login(tx: Transaction, login: str) -> tuple[Staff, Actor]:
    """Who has this login, and the system acting in that business. NotFound if nobody has it.

    Runs in the name of the system.
    """
    try:
        found = await tx.maybe(_STAFF, login=login_of(login))
    except Refused:
        found = None
    if found is None:
        raise NotFound("staff login", "login")
    staff, business = found
    return staff, Actor(business)


async def last_recorded(tx: Transaction) -> datetime | None:
    """When the last event of any business was recorded. Runs in the name of the system."""
    id = await tx.maybe(_LAST_EVENT)
    return datetime.fromtimestamp(moment_of(id), UTC) if id else None


async def keys_of_business(tx: Transaction) -> list[tuple[ApiKey, Staff]]:
    """The API keys of this business and whose they are, oldest first."""
    return await tx.many(_KEYS)
