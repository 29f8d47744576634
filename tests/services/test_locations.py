"""Locations: opened, changed, archived unless somebody needs them."""

from typing import Any

import pytest

from core.errors import Code, Invalid, NotFound, Refused
from models import Actor, Location, Role
from services.locations import (
    ArchiveLocationInput,
    CreateLocationInput,
    archive_location,
    create_location,
    update_location,
)
from services.staff import (
    DisableStaffInput,
    EnableStaffInput,
    disable_staff,
    enable_staff,
    update_staff,
)


async def _open(perform: Any, owner: Actor, name: str = "Dago") -> Location:
    done = await perform(create_location, owner, CreateLocationInput(name=name))
    assert done.location
    return done.location


async def test_a_location_is_opened_and_changed(perform: Any, owner: Actor, row: Any) -> None:
    location = await _open(perform, owner, " Dago ")

    given = {"id": location.id, "timezone": "Asia/Makassar", "latitude": -6.9}
    done = await perform(update_location, owner, given)

    assert (done.location.name, done.location.timezone) == ("Dago", "Asia/Makassar")
    assert await row(owner, Location, location.id) == done.location


@pytest.mark.parametrize(
    ("given", "field"),
    [
        ({"name": None}, "name"),
        ({"timezone": "Dago"}, "timezone"),
        ({"latitude": 90.1}, "latitude"),
        ({"longitude": float("nan")}, "longitude"),
    ],
)
async def test_a_location_needs_sound_values(
    perform: Any, owner: Actor, given: dict[str, Any], field: str
) -> None:
    location = await _open(perform, owner)

    with pytest.raises(Invalid) as refused:
        await perform(update_location, owner, {"id": location.id, **given})

    assert refused.value.field == ["input", field]


async def test_a_location_nobody_works_at_is_archived(perform: Any, owner: Actor) -> None:
    location = await _open(perform, owner)

    done = await perform(archive_location, owner, ArchiveLocationInput(id=location.id))
    again = await perform(archive_location, owner, ArchiveLocationInput(id=location.id))

    assert not done.location.is_active
    assert done.location.archived_by == owner.staff_id
    assert again.location == done.location


async def test_the_last_location_stays(perform: Any, owner: Actor, row: Any) -> None:
    with pytest.raises(Refused) as refused:
        await perform(archive_location, owner, ArchiveLocationInput(id=owner.location_id))

    assert refused.value.code is Code.LOCATION_IN_USE
    assert (await row(owner, Location, owner.location_id)).is_active


async def test_a_location_where_active_staff_work_stays(
    perform: Any, owner: Actor, hire: Any
) -> None:
    location, bar = await _open(perform, owner), await hire(Role.SCANNER)
    await perform(update_staff, owner, {"id": bar.staff_id, "location_id": location.id})

    with pytest.raises(Refused) as refused:
        await perform(archive_location, owner, ArchiveLocationInput(id=location.id))
    assert refused.value.code is Code.LOCATION_IN_USE

    await perform(disable_staff, owner, DisableStaffInput(id=bar.staff_id))
    done = await perform(archive_location, owner, ArchiveLocationInput(id=location.id))
    assert not done.location.is_active

    with pytest.raises(Refused) as refused:
        await perform(enable_staff, owner, EnableStaffInput(id=bar.staff_id))
    assert refused.value.code is Code.LOCATION_IN_USE
    with pytest.raises(NotFound):
        await perform(update_staff, owner, {"id": bar.staff_id, "location_id": location.id})


async def test_another_business_has_no_say(
    perform: Any, owner: Actor, make_business: Any, row: Any
) -> None:
    other = await make_business("other@kopi.example")
    stranger = Actor(other.business, other.owner)

    with pytest.raises(NotFound):
        await perform(update_location, stranger, {"id": owner.location_id, "name": "Mine"})
    with pytest.raises(NotFound):
        await perform(archive_location, stranger, ArchiveLocationInput(id=owner.location_id))

    assert (await row(owner, Location, owner.location_id)).name == "Kopi"
