"""Pictures of codes: a scanner reads back what the voucher says; its token opens them."""

import httpx2
import pytest

from core.clock import ManualClock
from db import Database
from factories import Cafe, a_voucher, a_voucher_template
from models import Voucher
from processes import Process
from tests.endpoints.pictures import read_png, read_svg

_READ = {"png": read_png, "svg": read_svg}


async def _voucher(
    database: Database, cafe: Cafe, clock: ManualClock, code: str | None = "FREECOFFEE"
) -> Voucher:
    template = await a_voucher_template(database, cafe.owner, clock.now(), redeem_code=code)
    return await a_voucher(database, cafe.owner, template.id, now=clock.now())


@pytest.mark.parametrize("kind", ["png", "svg"])
@pytest.mark.parametrize(("shape", "read_as"), [("qr", "QRCode"), ("barcode", "Code128")])
async def test_a_scanner_reads_the_redeem_code(
    http: httpx2.AsyncClient,
    database: Database,
    cafe: Cafe,
    clock: ManualClock,
    kind: str,
    shape: str,
    read_as: str,
) -> None:
    voucher = await _voucher(database, cafe, clock)

    answer = await http.get(f"/codes/{voucher.token}.{kind}?format={shape}")

    assert answer.status_code == 200
    assert _READ[kind](answer.content) == (read_as, "FREECOFFEE")
    assert answer.headers["content-type"] == {"png": "image/png", "svg": "image/svg+xml"}[kind]
    assert answer.headers["cache-control"] == "private, max-age=3600"
    assert answer.headers["x-content-type-options"] == "nosniff"


@pytest.mark.parametrize("kind", ["png", "svg"])
async def test_a_scanner_reads_the_token(
    http: httpx2.AsyncClient, database: Database, cafe: Cafe, clock: ManualClock, kind: str
) -> None:
    voucher = await _voucher(database, cafe, clock, None)

    answer = await http.get(f"/codes/{voucher.token}.{kind}?format=token")

    assert _READ[kind](answer.content) == ("QRCode", voucher.token)


async def test_the_format_is_qr_unless_told(
    http: httpx2.AsyncClient, database: Database, cafe: Cafe, clock: ManualClock
) -> None:
    voucher = await _voucher(database, cafe, clock)

    answer = await http.get(f"/codes/{voucher.token}.svg")

    assert read_svg(answer.content) == ("QRCode", "FREECOFFEE")


async def test_a_code_that_no_barcode_holds_is_shown_as_qr_only(
    http: httpx2.AsyncClient, database: Database, cafe: Cafe, clock: ManualClock
) -> None:
    voucher = await _voucher(database, cafe, clock, "KÖPI")

    qr_code = await http.get(f"/codes/{voucher.token}.png?format=qr")
    barcode = await http.get(f"/codes/{voucher.token}.png?format=barcode")

    assert read_png(qr_code.content) == ("QRCode", "KÖPI")
    assert barcode.status_code == 404


async def test_what_is_known_is_not_sent_again(
    http: httpx2.AsyncClient, database: Database, cafe: Cafe, clock: ManualClock
) -> None:
    path = f"/codes/{(await _voucher(database, cafe, clock)).token}.png"
    first = await http.get(path)
    tag = first.headers["etag"]

    for told in (tag, f"W/{tag}", f'"other", {tag}', "*"):
        again = await http.get(path, headers={"if-none-match": told})
        assert (again.status_code, again.content) == (304, b"")
        assert again.headers["etag"] == tag
    other = await http.get(path, headers={"if-none-match": '"other"'})
    barcode = await http.get(f"{path}?format=barcode")

    assert other.status_code == 200
    assert barcode.headers["etag"] != tag


async def test_a_head_tells_what_a_get_would(
    http: httpx2.AsyncClient, database: Database, cafe: Cafe, clock: ManualClock
) -> None:
    path = f"/codes/{(await _voucher(database, cafe, clock)).token}.png"

    got, headed = await http.get(path), await http.head(path)

    assert (headed.status_code, headed.content) == (200, b"")
    for name in ("etag", "content-length", "content-type"):
        assert headed.headers[name] == got.headers[name]


@pytest.mark.parametrize(
    ("path", "status"),
    [
        ("/codes/AAAAAAAAAAAAAAAAAAAAAA.svg", 404),
        ("/codes/{token}.gif", 404),
        ("/codes/{token}.svg?format=qr", 404),
        ("/codes/{token}.svg?format=barcode", 404),
        ("/codes/{token}.svg?format=pdf417", 400),
        ("/codes/{token}%00.svg?format=token", 404),
        ("/codes/%F0%9F%8D%AA.svg?format=token", 404),
    ],
)
async def test_what_cannot_be_shown_is_told_so(
    http: httpx2.AsyncClient,
    database: Database,
    cafe: Cafe,
    clock: ManualClock,
    path: str,
    status: int,
) -> None:
    """The voucher has no redeem code."""
    voucher = await _voucher(database, cafe, clock, None)

    answer = await http.get(path.format(token=voucher.token))

    assert answer.status_code == status
    assert answer.headers["cache-control"] == "no-store"


@pytest.mark.slow
def test_a_token_reaches_no_log(process: Process) -> None:
    token = "A-token-that-is-in-no-log"

    asked = ("codes/{}.svg", "codes/{}.svg?format=none", "codes/{}.gif", "c/{}")
    answers = [process.answers(f"/{path.format(token)}") for path in asked]

    assert answers == [404, 400, 404, 404]
    assert token not in process.logs
