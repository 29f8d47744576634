"""Money: minor units by the currency's own digits, exactly or not at all."""

from decimal import Decimal

import pytest

from core.money import major_units, minor_units

NO_CENTS = [
    "BIF",
    "CLP",
    "DJF",
    "GNF",
    "ISK",
    "JPY",
    "KMF",
    "KRW",
    "PYG",
    "RWF",
    "UGX",
    "UYI",
    "VND",
    "VUV",
    "XAF",
    "XOF",
    "XPF",
]
THOUSANDTHS = ["BHD", "IQD", "JOD", "KWD", "LYD", "OMR", "TND"]
TEN_THOUSANDTHS = ["CLF", "UYW"]
HUNDREDTHS = ["EUR", "IDR", "USD", "XXX"]
DIGITS = {
    **dict.fromkeys(HUNDREDTHS, 2),
    **dict.fromkeys(NO_CENTS, 0),
    **dict.fromkeys(THOUSANDTHS, 3),
    **dict.fromkeys(TEN_THOUSANDTHS, 4),
}


@pytest.mark.parametrize(("currency", "digits"), DIGITS.items())
def test_a_currency_has_the_digits_of_its_standard(currency: str, digits: int) -> None:
    assert minor_units(Decimal(7), currency) == 7 * 10**digits
    assert major_units(7 * 10**digits, currency) == 7
    assert str(major_units(12_345, currency)) == f"{Decimal(12_345).scaleb(-digits)}"


@pytest.mark.parametrize(
    ("amount", "currency", "units"),
    [
        ("42.50", "EUR", 4_250),
        ("-0.01", "EUR", -1),
        ("0", "EUR", 0),
        ("1.000", "JPY", 1),
        ("0.001", "KWD", 1),
        ("9999999999999.99", "EUR", 10**15 - 1),
        ("-9999999999999.99", "EUR", 1 - 10**15),
        ("1E+3", "EUR", 100_000),
    ],
)
def test_an_amount_is_whole_in_minor_units(amount: str, currency: str, units: int) -> None:
    assert minor_units(Decimal(amount), currency) == units
    assert major_units(units, currency) == Decimal(amount)


@pytest.mark.parametrize(
    ("amount", "currency"),
    [
        ("0.001", "EUR"),
        ("0.5", "JPY"),
        ("0.0001", "KWD"),
        ("10000000000000", "EUR"),
        ("-10000000000000", "EUR"),
        ("NaN", "EUR"),
        ("Infinity", "EUR"),
        ("sNaN", "EUR"),
    ],
)
def test_what_is_no_whole_number_of_them_is_refused_by_name(amount: str, currency: str) -> None:
    with pytest.raises(ValueError, match=f"^{Decimal(amount)}$"):
        minor_units(Decimal(amount), currency)
