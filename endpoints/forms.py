"""Forms of pages: what a browser sends without any script."""

from urllib.parse import parse_qsl

from starlette.requests import Request

from core.errors import Invalid
from endpoints.answers import BadRequest, body_of

_MOST_BYTES = 10_000
_MOST_FIELDS = 20
_KIND = "application/x-www-form-urlencoded"


async def form_of(request: Request) -> dict[str, str]:
    """The fields of a form, the last of each name; BadRequest for what no form of ours sends."""
    if request.headers.get("content-type", "").partition(";")[0].strip().lower() != _KIND:
        raise BadRequest(415, "Send the form of the page.")
    body = await body_of(request, _MOST_BYTES, "A form")
    try:
        fields = parse_qsl(
            body.decode(), keep_blank_values=True, errors="strict", max_num_fields=_MOST_FIELDS
        )
    except ValueError:
        raise BadRequest(400, "The form cannot be read.") from None
    return dict(fields)


def birthday_of(form: dict[str, str]) -> str:
    """The birthday of the fields `day`, `month` and `year`, as the API has it; empty for none."""
    day, month, year = (form.get(name, "").strip() for name in ("day", "month", "year"))
    if not (day or month or year):
        return ""
    given = [text for text in (day, month, year) if text]
    if not (day and month) or any(not (text.isascii() and text.isdigit()) for text in given):
        raise Invalid("There is no such day.", "birthday")
    return f"{year.zfill(4) + '-' if year else '--'}{month.zfill(2)}-{day.zfill(2)}"
