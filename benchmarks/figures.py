"""How long the dashboard takes beside a year of a busy café: 1 000 000 operations, 100 000 cards.

What the operations leave behind is written directly: a year of daily rows, cards with stamps, and
vouchers. `python benchmarks/figures.py` tries a fresh SQLite file; give the URL of an empty
PostgreSQL database to try that.
"""

import asyncio
import base64
import statistics
import sys
import tempfile
import time
from collections.abc import Awaitable, Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path
from random import Random
from typing import Any

ROOT = Path(__file__).resolve().parent.parent
sys.path[:0] = [str(ROOT), str(ROOT / "tests")]

from core.ids import Id, new_id  # noqa: E402
from core.secrets import new_token  # noqa: E402
from core.settings import Settings  # noqa: E402
from db import Database, Transaction, database_of  # noqa: E402
from db.migrate import upgrade  # noqa: E402
from factories import a_business, a_card_template, a_location, a_staff  # noqa: E402
from models import (  # noqa: E402
    Actor,
    Card,
    Customer,
    DailyFigure,
    Row,
    Source,
    Voucher,
    VoucherStatus,
)
from services.overview import Asked, Period, overview, pulse  # noqa: E402

OPERATIONS, CARDS, VOUCHERS, DAYS = 1_000_000, 100_000, 50_000, 365
NOW = datetime(2026, 12, 31, 12, tzinfo=UTC)
ROUNDS = 20


async def main(settings: Settings) -> None:
    """Seed a database and time what the dashboard asks."""
    database = database_of(settings)
    await database.open()
    try:
        began = time.perf_counter()
        owner, template = await seed(database)
        print(f"seeded in {time.perf_counter() - began:.0f} s")  # noqa: T201
        for name, ask in questions(owner, template).items():
            took = [await timed(database, owner, ask) for _ in range(ROUNDS)]
            print(f"{name:28} {statistics.median(took):7.1f} ms  (worst {max(took):.1f})")  # noqa: T201
    finally:
        await database.close()


def questions(owner: Actor, template: str) -> dict[str, Callable[[Transaction], Awaitable[Any]]]:
    """What is timed."""
    asked = {
        "overview, month": Asked(),
        "overview, day": Asked(Period.DAY),
        "overview, month a year ago": Asked(date=NOW.date() - timedelta(days=350)),
        "overview, one location": Asked(location_id=owner.location_id),
        "overview, one template": Asked(template_id=template),
    }
    told: dict[str, Callable[[Transaction], Awaitable[Any]]] = {
        name: lambda tx, what=what: overview(tx, owner, what, NOW) for name, what in asked.items()
    }
    return {**told, "pulse": lambda tx: pulse(tx, owner, NOW)}


async def timed(
    database: Database, owner: Actor, ask: Callable[[Transaction], Awaitable[Any]]
) -> float:
    """How long one question takes, in milliseconds."""
    began = time.perf_counter()
    await database.read(owner.business_id, ask)  # type: ignore[arg-type]
    return (time.perf_counter() - began) * 1_000


async def seed(database: Database) -> tuple[Actor, str]:
    """A café with three locations, twelve logins and three templates, a year later."""
    random = Random(7)  # noqa: S311 -- the same café every time
    start = NOW - timedelta(days=DAYS)
    owner = (await a_business(database, now=start)).owner
    places = [owner.location_id or ""]
    places += [(await a_location(database, owner, start)).id for _ in range(2)]
    staff = [
        await a_staff(database, owner, now=start, location_id=Id(places[n % 3])) for n in range(12)
    ]
    templates = [await a_card_template(database, owner, 10, now=start) for _ in range(3)]
    versions = {
        template.id: (await _version(database, owner, template.id)) for template in templates
    }
    rows: list[Row] = []
    each = OPERATIONS // (DAYS * len(staff) * len(templates))
    for day in range(DAYS):
        rows += [
            DailyFigure(
                business_id=owner.business_id,
                day=(start + timedelta(days=day + 1)).date(),
                location_id=actor.location_id,
                staff_id=actor.staff_id,
                template_id=template.id,
                new_cards=random.randint(0, 14),
                stamp_operations=each,
                stamps=each * 2,
                vouchers_issued=each // 5,
                vouchers_redeemed=each // 6,
                cohort_redeemed=each // 6,
                last_at=start + timedelta(days=day + 1),
            )
            for actor in staff
            for template in templates
        ]
    for _ in range(CARDS):
        template_id, customer_id = random.choice(templates).id, new_id("c")
        rows.append(
            Customer(id=customer_id, business_id=owner.business_id, language="id", created_at=start)
        )
        stamped = NOW - timedelta(days=random.expovariate(1 / 40))
        rows.append(
            Card(
                id=new_id("card"),
                business_id=owner.business_id,
                number=str(len(rows) + 1_000_000),
                customer_id=customer_id,
                template_id=template_id,
                version_id=versions[template_id],
                stamps=random.randint(0, 10),
                token=new_token(),
                wallet_pass_id=new_id("wp"),
                location_id=random.choice(places),
                created_at=start,
                last_activity_at=stamped,
            )
        )
    rows += [
        Voucher(
            id=new_id("v"),
            business_id=owner.business_id,
            title="A free coffee",
            token=new_token(),
            source=Source.GOAL,
            status=VoucherStatus.ACTIVE,
            location_id=random.choice(places),
            issued_at=start,
        )
        for _ in range(VOUCHERS)
    ]
    for place in range(0, len(rows), 5_000):
        part = rows[place : place + 5_000]
        await database.write(owner.business_id, lambda tx, part=part: tx.add(*part))
    return owner, templates[0].id


async def _version(database: Database, owner: Actor, template_id: str) -> str:
    from db.relations import load_many  # noqa: PLC0415
    from models.relations import VERSIONS_OF_TEMPLATE  # noqa: PLC0415

    found = await database.read(
        owner.business_id, lambda tx: load_many(tx, VERSIONS_OF_TEMPLATE, [template_id], 1)
    )
    return found[template_id][0].id


if __name__ == "__main__":
    with tempfile.TemporaryDirectory() as folder:
        chosen = Settings(
            database_url=sys.argv[1] if len(sys.argv) > 1 else "",
            data_dir=Path(folder),
            secret_key=base64.b64encode(bytes(32)).decode(),
        )
        upgrade(chosen.database)
        asyncio.run(main(chosen))
