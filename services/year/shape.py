"""The shape of the year: places, hours, seasons, staff, habits, gifts and campaigns, as tables."""

from dataclasses import dataclass, field
from datetime import date

from models import Channel, Role, StampChannel, VariantType
from models.staff import ScannerMode
from services.audience import SegmentInput

NAME = "Kopi Tiga"
IN_THE_MAKING = f"{NAME} (in the making)"
"""What it is called until its year is over: a café of this name was cut off on the way."""
LOGIN = "owner@kopitiga.example"
TIMEZONE, CURRENCY, LANGUAGE = "Asia/Jakarta", "IDR", "id"
FIRST_DAY = date(2026, 1, 1)
CUSTOMERS = 2_000
"""How many there are, unless the story is told larger or smaller."""
CLOSED = {date(2026, 1, 1), date(2026, 3, 20), date(2026, 3, 21), date(2026, 12, 25)}
"""New Year, Idul Fitri, Christmas."""


# -- Places ---------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Shift:
    """A staff login and its hours; a kiosk has no shift, it is there all day."""

    name: str
    login: str
    begins: int = 0
    ends: int = 24
    mode: ScannerMode = ScannerMode.MANUAL
    since: date = date.min
    until: date = date.max
    """The first and the last day; somebody leaves, and somebody else begins."""


@dataclass(frozen=True)
class Place:
    """A location: whom it draws, when, and who works there.

    `workday` and `weekend` say how many come in each hour from `opens` on, compared with the other
    hours. `week` says how busy each day is, from Monday; 1.0 is an ordinary one.
    """

    name: str
    address: str
    latitude: float
    longitude: float
    share: float
    opens: int
    workday: tuple[int, ...]
    weekend: tuple[int, ...]
    week: tuple[float, ...]
    staff: tuple[Shift, ...]


PLACES = (
    Place(  # among offices: before work, and at lunch
        "Sudirman", "Jl. Jend. Sudirman 52, Jakarta", -6.2247, 106.8099, 0.45, 7,
        (14, 16, 8, 4, 9, 15, 10, 4, 3, 4, 4, 2, 1, 1),
        (2, 4, 6, 8, 9, 9, 8, 6, 5, 4, 4, 3, 2, 1),
        (1.2, 1.2, 1.2, 1.2, 1.3, 0.5, 0.4),
        (
            Shift("Rina", "rina@kopitiga.example", 0, 14),
            Shift("Bayu", "bayu@kopitiga.example", 14, until=date(2026, 6, 30)),
            Shift("Dimas", "dimas@kopitiga.example", 14, since=date(2026, 7, 1)),
            Shift("Sudirman kiosk", "kiosk.sudirman@kopitiga.example",
                  mode=ScannerMode.SELF_SERVICE_KIOSK),
        ),
    ),
    Place(  # where people live: late breakfasts, and the weekend
        "Kemang", "Jl. Kemang Raya 8, Jakarta", -6.2607, 106.8137, 0.35, 8,
        (4, 6, 6, 5, 8, 8, 5, 5, 6, 7, 6, 5, 3),
        (6, 12, 15, 13, 11, 9, 8, 8, 8, 7, 6, 5, 4),
        (0.7, 0.7, 0.8, 0.8, 1.1, 1.6, 1.4),
        (
            Shift("Putri", "putri@kopitiga.example", 0, 14),
            Shift("Agus", "agus@kopitiga.example", 14),
            Shift("Kemang kiosk", "kiosk.kemang@kopitiga.example",
                  mode=ScannerMode.SELF_SERVICE_KIOSK),
        ),
    ),
    Place(  # on the way: early, short, every day
        "Stasiun Gambir", "Jl. Medan Merdeka Tim. 1, Jakarta", -6.1767, 106.8306, 0.20, 6,
        (15, 18, 10, 5, 4, 5, 8, 6, 4, 5, 8, 10, 6, 2),
        (6, 8, 8, 7, 6, 6, 7, 6, 6, 6, 6, 6, 4, 2),
        (1.1, 1.0, 1.0, 1.0, 1.3, 0.8, 0.8),
        (
            Shift("Yusuf", "yusuf@kopitiga.example", 0, 13),
            Shift("Intan", "intan@kopitiga.example", 13),
            Shift("Gambir kiosk", "kiosk.gambir@kopitiga.example",
                  mode=ScannerMode.SELF_SERVICE_KIOSK),
        ),
    ),
)  # fmt: skip
OFFICE = (("Sari Manajer", "manager@kopitiga.example", Role.MANAGER),)
"""Those who work at no counter, beside the owner."""
ELSEWHERE = 0.12
"""How often somebody goes to another place than the usual one."""


@dataclass(frozen=True)
class Season:
    """A stretch of the year in which more or fewer come."""

    first: date
    last: date
    factor: float
    fasts: bool = False
    """By day hardly anybody comes; after sunset many do."""


SEASONS = (
    Season(date(2026, 1, 2), date(2026, 1, 11), 0.8),  # half the town is away
    Season(date(2026, 2, 18), date(2026, 3, 19), 0.9, fasts=True),  # Ramadan
    Season(date(2026, 3, 22), date(2026, 3, 31), 0.5),  # everybody is with the family
    Season(date(2026, 6, 22), date(2026, 7, 11), 0.85),  # school holidays
    Season(date(2026, 8, 14), date(2026, 8, 18), 1.3),  # independence day
    Season(date(2026, 11, 1), date(2026, 11, 30), 1.1),  # rain
    Season(date(2026, 12, 1), date(2026, 12, 24), 1.25),  # year-end presents
)
SUNSET = 18


# -- People ---------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Kind:
    """A kind of customer."""

    share: float
    visits_a_week: float
    stays_days: float
    """How long they keep coming, on average."""
    buys_beans: float
    """How often a visit ends with a bag of beans."""


KINDS = (
    Kind(0.05, 3.2, 400, 0.06),  # every other morning
    Kind(0.20, 1.00, 300, 0.04),
    Kind(0.45, 0.32, 260, 0.02),
    Kind(0.30, 0.30, 20, 0.0),  # here for a while, then never again
)
OPENING_DAYS, JOIN_AT_OPENING = 42, 0.35
"""So many of them come in the first weeks; the others all year round."""
LANGUAGES = (("id", 0.82), ("en", 0.13), ("nl", 0.02), ("zh", 0.03))
FIRST_NAMES = (
    "Adi", "Agung", "Ahmad", "Aisyah", "Anggun", "Arif", "Ayu", "Bagus", "Bambang", "Budi", "Citra",
    "Dewi", "Dian", "Eka", "Fajar", "Fitri", "Galih", "Gita", "Hana", "Hendra", "Indah", "Joko",
    "Kartika", "Laras", "Lina", "Maya", "Mega", "Nadia", "Nina", "Nur", "Oka", "Prima", "Putu",
    "Rahma", "Rani", "Ratna", "Reza", "Rizky", "Sinta", "Siti", "Surya", "Taufik", "Tari", "Tono",
    "Utami", "Vina", "Wahyu", "Wati", "Yanti", "Yoga", "Yuni", "Zahra",
)  # fmt: skip
LAST_NAMES = (
    "Anggraini", "Firmansyah", "Gunawan", "Halim", "Handayani", "Hartono", "Hidayat", "Kurniawan",
    "Kusuma", "Lestari", "Mahendra", "Maulana", "Nasution", "Nugroho", "Permata", "Pratama",
    "Purnama", "Rahayu", "Ramadhan", "Safitri", "Santoso", "Saputra", "Setiawan", "Siregar",
    "Suryani", "Susanto", "Tanjung", "Utomo", "Wibowo", "Wijaya", "Wulandari", "Yulianti",
)  # fmt: skip
BY_EMAIL, BY_BOTH = 0.60, 0.25
"""How many tell their e-mail, and how many e-mail and phone; the others only their phone."""
TELLS_BIRTHDAY, HIDES_YEAR = 0.6, 0.25
ALLOWS_EMAIL, ALLOWS_MESSENGERS, REFUSES_PUSH = 0.55, 0.15, 0.06
SIGNS_UP_TWICE = 0.01
"""With the phone, having forgotten the e-mail; the office joins the two a week later."""
LOSES_PHONE = 0.012


# -- What happens on a visit ----------------------------------------------------------------------

STAMPS = ((1, 0.76), (2, 0.19), (3, 0.05))
ROUTES = (
    (StampChannel.SCANNER_MANUAL, 0.60),
    (StampChannel.POS, 0.25),
    (StampChannel.SELF_SERVICE_KIOSK, 0.11),
    (StampChannel.AUTOPILOT, 0.04),
)
BEAN_PRICES = (95_000, 120_000, 165_000, 240_000)
SAVES_CARD, SAVES_TO_APPLE = 0.62, 0.45
OPENS_CARD = 0.12
PLAYS_AT_ONCE = 0.85
"""The others play on their next visit, or forget."""
REDEEMS, REDEEMS_LAST_DAYS = 0.42, 0.8
"""How likely a visitor with a voucher redeems it, and on the last days before it ends."""
LAST_DAYS = 5
CLAIMS_RECEIPT = 0.03
"""A delivery, later on the day: the receipt in the bag carries a code."""
MISTAKE = 0.007
"""Stamps on the wrong card, taken back minutes later."""
REGRET = 0.01
"""The coffee machine broke after the voucher was redeemed."""
APOLOGY = 0.0015
"""A cold coffee: a voucher by hand."""
CODES_A_WEEK, CODES_LAST_DAYS = 12, 45
"""Claim codes printed for the delivery bags of each place, every week."""
RETURNS = 0.2
"""How many of those who had stopped coming a win-back voucher brings back, within two weeks."""


# -- Gifts ----------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Gift:
    """A voucher template."""

    key: str
    title: str
    days: int
    code: str | None = None


COFFEE = Gift("coffee", "Free coffee", 30, "FREECOFFEE")
CAKE = Gift("cake", "A birthday cake", 14, "CAKE")
HALF = Gift("half", "Half price", 10, "HALFPRICE")
BEANS = Gift("beans", "20 % off a bag of beans", 60, "BEANS20")
MISSED = Gift("missed", "We miss you: a coffee on us", 14, "WEMISSYOU")
GIFTS = (COFFEE, CAKE, HALF, BEANS, MISSED)
APOLOGY_DAYS = 21


@dataclass(frozen=True)
class Outcome:
    """An outcome of the lottery; the chances are in hundredths of a percent."""

    type: VariantType
    chance: int
    name: str
    greeting: str
    stock: int | None = None
    gift: Gift | None = None


LOTTERY = (
    Outcome(VariantType.AWARD, 3_000, "Muffin", "Hangat dari oven!", 400),
    Outcome(VariantType.VOUCHER, 1_500, "Half price", "Setengah harga!", gift=HALF),
    Outcome(VariantType.TRY_AGAIN, 1_500, "Once more", "Coba lagi!"),
    Outcome(VariantType.NO_PRIZE, 4_000, "Nothing", "Lain kali, ya."),
)
KOPI_STAMPS, COOKIE_AT, LOTTERY_AT = 10, 3, 6
KOPI_QUIET_DAYS, BIRTHDAY_DAYS_BEFORE = 45, 3
BEANS_STAMPS, BEANS_PER_STAMP, BEANS_QUIET_DAYS = 6, 50_000, 90
FIRST_AWARD, SECOND_AWARD = "A cookie", "Banana bread"
NEW_VERSION = date(2026, 7, 1)
"""From then on banana bread takes the cookie's place, from each card's next cycle."""


# -- Campaigns ------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Mailing:
    """A campaign; the office makes it two days ahead, at eleven."""

    day: date
    hour: int
    name: str
    short: str
    text: str
    channels: tuple[Channel, ...] = (Channel.PUSH, Channel.EMAIL)
    gift: Gift | None = None
    segment: SegmentInput = field(default_factory=SegmentInput)
    silent_days: int | None = None
    """Only to whom has not come for so long: it may bring them back."""
    is_cancelled: bool = False


_PUSH = (Channel.PUSH,)
MAILINGS = (
    Mailing(date(2026, 1, 23), 10, "Welcome", "Selamat datang!",
            "Halo {name}, terima kasih. Kartu Anda: {stamps} stempel."),
    Mailing(date(2026, 2, 24), 16, "Buka puasa", "Buka puasa?",
            "Halo {name}, kami buka sampai malam selama Ramadan.", _PUSH),
    Mailing(date(2026, 3, 13), 10, "Almost there", "Tinggal {left} lagi!",
            "Halo {name}, tinggal {left} stempel untuk kopi gratis.", _PUSH,
            segment=SegmentInput(stamps_left_at_most=2)),
    Mailing(date(2026, 4, 8), 10, "Win-back, spring", "Kami rindu",
            "Halo {name}, kopi berikutnya dari kami.", gift=MISSED, silent_days=50),
    Mailing(date(2026, 5, 18), 15, "Rainy week", "Hujan? Kopi!",
            "Halo {name}, payung boleh lupa, kartu jangan.", _PUSH, is_cancelled=True),
    Mailing(date(2026, 6, 10), 10, "Win-back, summer", "Kami rindu",
            "Halo {name}, kopi berikutnya dari kami.", gift=MISSED, silent_days=60),
    Mailing(date(2026, 7, 2), 10, "Banana bread", "Baru: banana bread",
            "Halo {name}, mulai kartu berikutnya: banana bread."),
    Mailing(date(2026, 8, 15), 9, "Merdeka", "Dirgahayu! Setengah",
            "Halo {name}, setengah harga untuk merayakan.", gift=HALF,
            segment=SegmentInput(stamps_at_least=1)),
    Mailing(date(2026, 9, 9), 10, "Win-back, autumn", "Kami rindu",
            "Halo {name}, kopi berikutnya dari kami.", gift=MISSED, silent_days=60),
    Mailing(date(2026, 10, 6), 10, "For visitors", "New beans are in",
            "Hello {name}, our new beans have arrived.", segment=SegmentInput(language="en")),
    Mailing(date(2026, 11, 18), 10, "Win-back, winter", "Kami rindu",
            "Halo {name}, kopi berikutnya dari kami.", gift=MISSED, silent_days=60),
    Mailing(date(2026, 12, 15), 11, "Thank you", "Terima kasih!",
            "Halo {name}, terima kasih untuk tahun ini. Kartu Anda: {stamps} stempel."),
)  # fmt: skip
BOUNCES = 60
"""One address in so many takes no mail."""
