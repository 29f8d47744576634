"""Locations: opened, changed, archived."""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Annotated, Any

from annotated_doc import Doc
from sqlmodel import col, select

from core.errors import Code, Invalid, NotFound, Refused
from core.ids import Id, new_id
from db import BUSINESS, Transaction, param, query
from models import Actor, Location, Staff
from services.operation import MANAGERS, Input, Outcome, operation
from services.text import long_text, short_text, timezone_of

_ACTIVE_LOCKED = query(
    select(Location)
    .where(col(Location.business_id) == BUSINESS, col(Location.archived_at).is_(None))
    .order_by(col(Location.id))
    .with_for_update()
)
_TO_WORK_AT = query(
    select(Location)
    .where(
        col(Location.business_id) == BUSINESS,
        col(Location.id) == param("id"),
        col(Location.archived_at).is_(None),
    )
    .with_for_update(read=True)
)
_WORKING_THERE = query(
    select(Staff.id)
    .where(
        col(Staff.business_id) == BUSINESS,
        col(Staff.location_id) == param("id"),
        col(Staff.disabled_at).is_(None),
    )
    .limit(1)
)


@dataclass(kw_only=True)
class CreateLocationInput(Input):
    """The location to open."""

    name: Annotated[str, Doc("Its name, at most 200 characters.")]
    address: Annotated[str | None, Doc("Where it is, at most 500 characters.")] = None
    latitude: Annotated[float | None, Doc("Degrees north, -90 to 90.")] = None
    longitude: Annotated[float | None, Doc("Degrees east, -180 to 180.")] = None
    timezone: Annotated[
        str | None, Doc("Its own timezone, such as Asia/Jakarta; absent: the business's.")
    ] = None


@dataclass(kw_only=True)
class ArchiveLocationInput(Input):
    """The location to close."""

    id: Annotated[Id, Doc("The location's id.")]


@dataclass(kw_only=True)
class LocationOutcome(Outcome):
    """The location as it now is."""

    location: Location | None = None


@operation(*MANAGERS)
async def create_location(
    tx: Transaction, actor: Actor, input: CreateLocationInput, now: datetime
) -> LocationOutcome:
    """Open a location."""
    location = new_location(actor.business_id, now, **_checked(vars(input)))
    await tx.add(location)
    return LocationOutcome(location=location)


@operation(*MANAGERS)
async def update_location(
    tx: Transaction,
    actor: Actor,  # noqa: ARG001 -- every operation is told who calls
    given: Mapping[str, Any],
    now: datetime,  # noqa: ARG001 -- and when
) -> LocationOutcome:
    """Change the given fields of a location; null empties a field.

    Takes `id` and any of `name`, `address`, `latitude`, `longitude`, `timezone`.
    """
    location = await tx.get(Location, given["id"])
    if location is None:
        raise NotFound("location", "input", "id")
    values = _checked(given)
    if values:
        location = await tx.change(location, **values)
    return LocationOutcome(location=location)


@operation(*MANAGERS)
async def archive_location(
    tx: Transaction, actor: Actor, input: ArchiveLocationInput, now: datetime
) -> LocationOutcome:
    """Close a location. Refused while active staff work there, and for the last one."""
    active = await tx.many(_ACTIVE_LOCKED)
    location = next((found for found in active if found.id == input.id), None)
    if location is None:
        closed = await tx.get(Location, input.id)
        if closed is None:
            raise NotFound("location", "input", "id")
        return LocationOutcome(location=closed)
    if len(active) == 1:
        raise Refused(Code.LOCATION_IN_USE, "A business keeps one location.", "input", "id")
    if await tx.maybe(_WORKING_THERE, id=location.id) is not None:
        raise Refused(Code.LOCATION_IN_USE, "Active staff work at this location.", "input", "id")
    location = await tx.change(location, archived_at=now, archived_by=actor.staff_id)
    return LocationOutcome(location=location)


def new_location(business_id: str, now: datetime, **values: Any) -> Location:
    """A location, not stored yet."""
    return Location(id=new_id("loc"), business_id=business_id, created_at=now, **values)


async def location_to_work_at(tx: Transaction, id: str, *path: str) -> Location:
    """A location in use; nobody can archive it before this transaction ends."""
    location = await tx.maybe(_TO_WORK_AT, id=id)
    if location is None:
        raise NotFound("location", *path)
    return location


def _checked(given: Mapping[str, Any]) -> dict[str, Any]:
    values: dict[str, Any] = {}
    if "name" in given:
        values["name"] = short_text(given["name"] or "", "input", "name")
    if "address" in given:
        values["address"] = long_text(given["address"], "input", "address", most=500)
    for name, most in (("latitude", 90), ("longitude", 180)):
        if name in given:
            degrees = given[name]
            if degrees is not None and not -most <= degrees <= most:
                raise Invalid(f"Between -{most} and {most} degrees.", "input", name)
            values[name] = degrees
    if "timezone" in given:
        zone = given["timezone"]
        values["timezone"] = zone and timezone_of(zone, "input", "timezone")
    return values
