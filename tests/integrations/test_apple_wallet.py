"""Apple Wallet: passes that Apple's rules hold for, signed as OpenSSL verifies, and pushes."""

import hashlib
import io
import json
import shutil
import subprocess
import zipfile
from collections.abc import AsyncIterator
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from core.clock import ManualClock
from core.secrets import Secrets
from core.settings import Settings
from fakes.apple import (
    ENDS,
    PASS_TYPE,
    TEAM,
    Holder,
    Pushes,
    authority,
    certified,
    push_service,
)
from integrations.wallets import Wallets
from integrations.wallets.apns import PushService
from integrations.wallets.apple import AppleWallet, Credentials
from integrations.wallets.apple_pictures import strips
from integrations.wallets.seam import AskAgain, Device, PassFace, Refused, Told
from npm import installed, node

FACE = PassFace(
    serial="wp_1",
    business_id="b_1",
    template_id="tpl_1",
    business="Kopi Kenangan",
    title="Kartu kopi",
    language="en",
    number="123456",
    token="t0ken-of-the-card-12345",
    url="https://kopi.example/c/t0ken-of-the-card-12345",
    stamps=3,
    required=10,
    next_goal="A cookie",
    left=2,
    goals=(5, 10),
    vouchers=("Free tea", "Cake"),
    background="#3c2a21",
    foreground="#fbf5ea",
)
CLOCK = ManualClock(datetime(2026, 3, 2, tzinfo=UTC))
SECRETS = Secrets(b"the secret key of these tests, 32")
PASSKIT = Path(__file__).parent / "passkit"


def _settings(**changes: Any) -> Settings:
    told = {"public_url": "https://kopi.example", **authority().settings, **changes}
    return Settings(**told)


@pytest.fixture(scope="module")
def wallet() -> AppleWallet:
    made = AppleWallet.of(_settings(), SECRETS, CLOCK)
    assert made
    return made


def _files(made: bytes) -> dict[str, bytes]:
    with zipfile.ZipFile(io.BytesIO(made)) as packed:
        return {name: packed.read(name) for name in packed.namelist()}


def _document(wallet: AppleWallet, face: PassFace) -> dict[str, Any]:
    told: dict[str, Any] = json.loads(_files(wallet.pass_file(face))["pass.json"])
    return told


FULL = replace(FACE, stamps=10, next_goal=None, left=0, vouchers=(), language="id")
VOID = replace(FACE, is_void=True, token="", url="", vouchers=())
NEWS = replace(FACE, news="Two for one, today", left=1)
FACES = (FACE, FULL, VOID, NEWS)


@pytest.mark.parametrize("face", FACES, ids=["usual", "full", "void", "news"])
def test_a_pass_keeps_apples_rules(wallet: AppleWallet, face: PassFace) -> None:
    files = _files(wallet.pass_file(face))
    manifest = json.loads(files["manifest.json"])
    digests = {
        name: hashlib.sha1(data).hexdigest()
        for name, data in files.items()
        if name not in ("manifest.json", "signature")
    }
    assert manifest == digests
    sizes = {
        name: Image.open(io.BytesIO(data)).size
        for name, data in files.items()
        if name.endswith(".png")
    }
    for number, suffix in enumerate(("", "@2x", "@3x"), 1):
        assert sizes[f"icon{suffix}.png"] == (29 * number, 29 * number)
        assert sizes[f"strip{suffix}.png"] == (375 * number, 144 * number)
        width, height = sizes[f"logo{suffix}.png"]
        assert width <= 160 * number
        assert height <= 50 * number
    said = json.loads(files["pass.json"])
    assert (said["formatVersion"], said["serialNumber"]) == (1, face.serial)
    assert (said["passTypeIdentifier"], said["teamIdentifier"]) == (PASS_TYPE, TEAM)
    assert said["webServiceURL"] == "https://kopi.example/passes/apple"
    assert len(said["authenticationToken"]) >= 16
    assert said["organizationName"]
    assert said["description"]
    assert said["voided"] is face.is_void
    fields = [one for part in said["storeCard"].values() for one in part]
    assert len({one["key"] for one in fields}) == len(fields)
    assert all(isinstance(one["value"], str) and one["value"] for one in fields)
    assert sum(map(len, files.values())) < 100_000
    if face.is_void:
        assert "barcodes" not in said
        assert "kopi.example/c/" not in files["pass.json"].decode()
    else:
        (barcode,) = said["barcodes"]
        assert barcode == {
            "format": "PKBarcodeFormatQR",
            "message": face.token,
            "messageEncoding": "iso-8859-1",
            "altText": face.number,
        }


def test_a_pass_says_what_the_card_does(wallet: AppleWallet) -> None:
    card = _document(wallet, FACE)["storeCard"]
    assert card["headerFields"] == [{"key": "stamps", "label": "STAMPS", "value": "3 / 10"}]
    (goal,) = card["secondaryFields"]
    assert (goal["label"], goal["value"]) == ("NEXT · 2 MORE TO GO", "A cookie")
    (voucher,) = card["auxiliaryFields"]
    assert voucher["value"] == "Free tea +1"
    full = _document(wallet, FULL)["storeCard"]
    assert full["secondaryFields"][0]["value"] == "Kartu Anda penuh"
    assert full["headerFields"][0]["label"] == "STEMPEL"


def test_a_telephone_tells_of_news_and_of_nothing_else(wallet: AppleWallet) -> None:
    for face, value in ((FACE, "–"), (FULL, "–"), (NEWS, "Two for one, today")):
        card = _document(wallet, face)["storeCard"]
        told = [one for part in card.values() for one in part if "changeMessage" in one]
        assert [(one["key"], one["value"], one["changeMessage"]) for one in told] == [
            ("news", value, "%@")
        ]


def test_passes_alike_are_alike_in_bytes_but_for_the_signature(wallet: AppleWallet) -> None:
    one, other = _files(wallet.pass_file(FACE)), _files(wallet.pass_file(FACE))
    assert list(one) == sorted(one)
    del one["signature"], other["signature"]
    assert one == other


@pytest.mark.slow
@pytest.mark.parametrize("is_changed", [False, True])
def test_openssl_verifies_the_signature_of_what_was_signed_alone(
    wallet: AppleWallet, tmp_path: Path, is_changed: bool
) -> None:
    assert shutil.which("openssl"), "openssl is missing: apt-get install openssl"
    files = _files(wallet.pass_file(FACE))
    manifest = bytearray(files["manifest.json"])
    manifest[10] ^= is_changed
    (tmp_path / "manifest.json").write_bytes(manifest)
    (tmp_path / "signature").write_bytes(files["signature"])
    (tmp_path / "root.pem").write_text(authority().root.pem)
    words = "cms -verify -binary -inform DER -in signature -content manifest.json -CAfile root.pem"
    done = subprocess.run(
        ["openssl", *words.split(), "-purpose", "any", "-out", "out"],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        check=False,
    )
    assert (done.returncode == 0) is not is_changed, done.stderr
    shown = subprocess.run(
        ["openssl", "cms", "-cmsout", "-print", "-inform", "DER", "-in", "signature"],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        check=True,
    ).stdout
    for what in ("signingTime", "messageDigest", "CN=Between", f"UID={PASS_TYPE}"):
        assert what in shown


@pytest.mark.slow
def test_another_library_takes_what_a_pass_says(wallet: AppleWallet) -> None:
    passes = [_document(wallet, face) for face in FACES]
    bad = passes[0] | {"authenticationToken": "short", "backgroundColor": "brown"}
    done = subprocess.run(
        [node(), str(PASSKIT / "check.mjs"), str(installed(PASSKIT))],
        input=json.dumps([*passes, bad]),
        capture_output=True,
        text=True,
        check=True,
    )
    *good, last = json.loads(done.stdout)
    assert good == [""] * len(passes)
    assert "authenticationToken" in last
    assert "backgroundColor" in last


def test_without_https_telephones_are_not_asked_to_call() -> None:
    made = AppleWallet.of(_settings(public_url="http://localhost:8000"), SECRETS, CLOCK)
    assert made
    said = _document(made, FACE)
    assert "webServiceURL" not in said
    assert "authenticationToken" not in said


def test_the_logo_of_a_business_takes_the_place_of_ours(wallet: AppleWallet) -> None:
    out = io.BytesIO()
    Image.new("RGB", (400, 100), "red").save(out, "PNG")
    files = _files(wallet.pass_file(FACE, out.getvalue()))
    logo = Image.open(io.BytesIO(files["logo@2x.png"]))
    assert logo.size == (320, 80)
    assert logo.convert("RGB").getpixel((10, 10)) == (255, 0, 0)


@pytest.mark.parametrize(("stamps", "required"), [(0, 1), (4, 5), (27, 27), (50, 50)])
def test_every_card_fits_on_its_strip(stamps: int, required: int) -> None:
    files = strips(stamps, required, (required,), "#3c2a21", "#fbf5ea")
    picture = Image.open(io.BytesIO(files["strip.png"])).convert("RGB")
    paper = (60, 42, 33)
    edges = [picture.getpixel((x, y)) for x in range(375) for y in (0, 143)]
    edges += [picture.getpixel((x, y)) for x in (0, 374) for y in range(144)]
    assert all(max(abs(a - b) for a, b in zip(one, paper, strict=True)) < 12 for one in edges)


def test_the_token_of_a_pass_is_good_for_it_alone_and_under_a_former_key() -> None:
    old, new = b"o" * 32, b"n" * 32
    credentials = Credentials.of(_settings())

    def made(*keys: bytes) -> AppleWallet:
        return AppleWallet(credentials, Secrets(*keys), push_url="", our_url="")

    token = made(old).token("wp_1")
    assert made(new, old).is_token("wp_1", token)
    assert not made(new).is_token("wp_1", token)
    assert not made(old).is_token("wp_2", token)


def _another(**names: str) -> Holder:
    return certified(authority().between, key_of="rsa", **names)


@pytest.mark.parametrize(
    ("changes", "says"),
    [
        ({"apple_pass_key": ""}, "the key is missing"),
        ({"apple_pass_key": "nowhere.pem"}, "the file with the key cannot be read"),
        ({"apple_pass_key": "-----BEGIN nothing"}, "the key is not PEM"),
        ({"apple_pass_key": authority().root.key_pem}, "is an RSA key"),
        ({"apple_pass_certificate": authority().root.pem}, "not the one of the certificate"),
        ({"apple_pass_certificate": "-----BEGIN x"}, "the certificate is not PEM"),
        ({"apple_intermediate": ""}, "the certificate of Apple is missing"),
        ({"apple_intermediate": authority().root.pem}, "did not sign this one"),
        ({"apple_pass_certificate": _another(cn="Kopi").pem}, "not one of a pass type"),
    ],
)
def test_credentials_that_do_not_hold_together_are_told(changes: dict[str, str], says: str) -> None:
    with pytest.raises(ValueError, match=f"^Apple Wallet: .*{says}"):
        Wallets.of(_settings(**changes), None, SECRETS, CLOCK)  # type: ignore[arg-type]


def test_files_do_as_well_as_texts(tmp_path: Path) -> None:
    told = {}
    for name, text in authority().settings.items():
        (tmp_path / name).write_text(text)
        told[name] = str(tmp_path / name)
    made = Wallets.of(_settings(**told), None, SECRETS, CLOCK)  # type: ignore[arg-type]
    assert made.apple
    assert made.apple.pass_type == PASS_TYPE


def test_a_certificate_that_ended_takes_nothing_else_with_it() -> None:
    later = ManualClock(ENDS + timedelta(days=1))
    assert Wallets.of(_settings(), None, SECRETS, later).apple is None  # type: ignore[arg-type]


@pytest.fixture
async def pushes(tmp_path: Path) -> AsyncIterator[Pushes]:
    async with push_service(tmp_path) as running:
        yield running


@pytest.fixture
async def service(
    pushes: Pushes, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> AsyncIterator[PushService]:
    monkeypatch.setenv("SSL_CERT_FILE", str(tmp_path / "root.pem"))
    made = PushService(pushes.url, PASS_TYPE, Credentials.of(_settings()).context())
    yield made
    await made.close()


def _device(token: str) -> Device:
    return Device(device=token, push_token=token)


async def test_many_telephones_are_told_on_one_connection(
    service: PushService, pushes: Pushes
) -> None:
    devices = [_device(f"{number:064x}") for number in range(150)]
    assert await service.push(devices) == Told(gone=[])
    assert len(pushes.told) == sum(pushes.told.values()) == 150
    assert pushes.versions == {"2"}
    assert len(pushes.clients) == 1


@pytest.mark.parametrize(
    ("status", "said", "outcome"),
    [
        (410, {"reason": "Unregistered"}, Told(gone=[_device("bad")])),
        (400, {"reason": "BadDeviceToken"}, Told(gone=[_device("bad")])),
        (400, {"reason": "PayloadEmpty"}, Refused(reason="400 PayloadEmpty")),
        (413, {"reason": "<script>"}, Refused(reason="413")),
        (403, {"reason": "BadCertificate"}, AskAgain(seconds=600, reason="403 BadCertificate")),
        (429, {"reason": "TooManyRequests"}, AskAgain(seconds=7, reason="429 TooManyRequests")),
        (503, {}, AskAgain(seconds=7, reason="503")),
    ],
)
async def test_what_apple_answers_is_understood(
    service: PushService, pushes: Pushes, status: int, said: Any, outcome: Any
) -> None:
    pushes.answers["bad"] = (status, said)
    pushes.headers["retry-after"] = "7"
    assert await service.push([_device("good"), _device("bad")]) == outcome
    assert pushes.told["good"] == 1


async def test_whoever_is_not_there_is_asked_again() -> None:
    service = PushService("https://localhost:1", PASS_TYPE, Credentials.of(_settings()).context())
    outcome = await service.push([_device("a")])
    assert isinstance(outcome, AskAgain)
    assert await service.push([]) == Told(gone=[])
    await service.close()
