"""When a voucher ends, and when it can be redeemed."""

from datetime import UTC, date, datetime, timedelta
from typing import Any
from zoneinfo import ZoneInfo

import pytest

from core.errors import Code, Refused, VoucherAlreadyRedeemed, VoucherHasExpired
from models import Source, Validity, Voucher, VoucherStatus, expiry

JAKARTA, BERLIN, NEW_YORK = (
    ZoneInfo(name) for name in ("Asia/Jakarta", "Europe/Berlin", "America/New_York")
)
DAYS, MONTHS = Validity.DAYS, Validity.MONTHS
NOW = datetime(2026, 3, 2, 12, tzinfo=UTC)


def utc(text: str) -> datetime:
    return datetime.fromisoformat(text).replace(tzinfo=UTC)


@pytest.mark.parametrize(
    ("validity", "number", "issued", "zone", "ends"),
    [
        # Noon in Jakarta (UTC+7): the end of the local day is 17:00 UTC.
        (DAYS, 1, "2026-03-02T05:00", JAKARTA, "2026-03-03T17:00"),
        (DAYS, 30, "2026-03-02T05:00", JAKARTA, "2026-04-01T17:00"),
        # 18:00 UTC is tomorrow already in Jakarta, 02:00 UTC still yesterday in New York.
        (DAYS, 1, "2026-03-02T18:00", JAKARTA, "2026-03-04T17:00"),
        (DAYS, 1, "2026-01-10T02:00", NEW_YORK, "2026-01-11T05:00"),
        # A month later, clamped to the last day of a shorter month.
        (MONTHS, 1, "2026-01-31T05:00", JAKARTA, "2026-02-28T17:00"),
        (MONTHS, 1, "2028-01-31T05:00", JAKARTA, "2028-02-29T17:00"),
        (MONTHS, 1, "2026-02-28T05:00", JAKARTA, "2026-03-28T17:00"),
        (MONTHS, 3, "2026-11-30T05:00", JAKARTA, "2027-02-28T17:00"),
        (MONTHS, 12, "2028-02-29T05:00", JAKARTA, "2029-02-28T17:00"),
        (MONTHS, 1, "2026-12-15T05:00", JAKARTA, "2027-01-15T17:00"),
        # The clocks change in between, or in the night on which it ends.
        (DAYS, 7, "2026-03-25T12:00", BERLIN, "2026-04-01T22:00"),
        (DAYS, 1, "2026-03-28T12:00", BERLIN, "2026-03-29T22:00"),
        (DAYS, 1, "2026-10-24T12:00", BERLIN, "2026-10-25T23:00"),
        (MONTHS, 1, "2026-10-10T12:00", NEW_YORK, "2026-11-11T05:00"),
    ],
)
def test_a_voucher_ends_with_its_last_local_day(
    validity: Validity, number: int, issued: str, zone: ZoneInfo, ends: str
) -> None:
    assert expiry(validity, number, None, utc(issued), zone) == utc(ends)


def test_a_fixed_date_is_the_last_day() -> None:
    last = date(2026, 12, 31)

    assert expiry(Validity.FIXED_DATE, None, last, NOW, JAKARTA) == utc("2026-12-31T17:00")


def test_an_unlimited_voucher_never_ends() -> None:
    assert expiry(Validity.UNLIMITED, None, None, NOW, JAKARTA) is None


def voucher(**values: Any) -> Voucher:
    """An active voucher, or one with these values."""
    return Voucher(
        **{
            "id": "v_1",
            "business_id": "b_1",
            "title": "Free coffee",
            "token": "token",
            "source": Source.API,
            "status": VoucherStatus.ACTIVE,
            "issued_at": NOW,
        }
        | values
    )


@pytest.mark.parametrize(
    "values",
    [
        {},
        {"status": VoucherStatus.ISSUED},
        {"valid_from": NOW},
        {"expires_at": NOW + timedelta(microseconds=1)},
    ],
)
def test_an_unspent_voucher_in_its_time_can_be_redeemed(values: dict[str, Any]) -> None:
    voucher(**values).check_redeemable(NOW)


@pytest.mark.parametrize(
    ("values", "kind", "code"),
    [
        ({"expires_at": NOW}, VoucherHasExpired, Code.VOUCHER_EXPIRED),
        ({"valid_from": NOW + timedelta(seconds=1)}, Refused, Code.VOUCHER_NOT_ACTIVE),
        ({"status": VoucherStatus.VOIDED}, Refused, Code.VOUCHER_NOT_ACTIVE),
        (
            {"status": VoucherStatus.REDEEMED, "redeemed_at": NOW, "expires_at": NOW},
            VoucherAlreadyRedeemed,
            Code.VOUCHER_ALREADY_REDEEMED,
        ),
    ],
)
def test_any_other_voucher_cannot(values: dict[str, Any], kind: type[Refused], code: Code) -> None:
    with pytest.raises(kind) as refused:
        voucher(**values).check_redeemable(NOW)

    assert refused.value.code is code


def test_only_a_voucher_with_a_code_shows_one() -> None:
    assert voucher(redeem_code="FREECOFFEE").redeem_code_formats == ["text", "qr", "barcode"]
    assert voucher().redeem_code_formats == []
