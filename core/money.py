"""Money: integer minor units inside, Decimal in the business's currency outside."""

from decimal import Decimal, InvalidOperation

_NO_CENTS = "BIF CLP DJF GNF ISK JPY KMF KRW PYG RWF UGX UYI VND VUV XAF XOF XPF"
_THOUSANDTHS = "BHD IQD JOD KWD LYD OMR TND"
_DIGITS = {
    **dict.fromkeys(_NO_CENTS.split(), 0),
    **dict.fromkeys(_THOUSANDTHS.split(), 3),
    "CLF": 4,
    "UYW": 4,
}
"""Currencies whose minor unit is not a hundredth (ISO 4217, table A.1)."""


def minor_units(amount: Decimal, currency: str) -> int:
    """The amount in minor units: 42.50 EUR is 4250. ValueError if it is finer than the currency."""
    try:
        units = amount.scaleb(_DIGITS.get(currency, 2))
        whole = int(units)
    except (InvalidOperation, ValueError, OverflowError) as error:
        raise ValueError(str(amount)) from error
    if whole != units or abs(whole) >= 10**15:
        raise ValueError(str(amount))
    return whole


def major_units(units: int, currency: str) -> Decimal:
    """The amount as people write it: 4250 in EUR is 42.50."""
    return Decimal(units).scaleb(-_DIGITS.get(currency, 2))
