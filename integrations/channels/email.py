"""E-mail: messages by the deployment's own SMTP server, each with a way out by one click.

RFC 8058: the reader's program posts to the address in `List-Unsubscribe`, and nobody logs in.
"""

from collections.abc import Sequence
from typing import ClassVar

from integrations.channels import seam
from integrations.mail import Mail, Mailer, MaybeSent, NotSent
from models import Channel, ChannelKind

_WAIT = 60.0
_WAY_OUT = {
    "en": "You get this because you asked {business} for news. No more of it:",
    "id": "Anda menerima ini karena meminta kabar dari {business}. Berhenti:",
}


def senders(parts: seam.Parts) -> list[seam.ChannelSender]:
    """One, where the deployment has a mail server."""
    mailer = Mailer.of(parts.settings)
    return [] if mailer is None else [EmailSender(mailer)]


class EmailSender:
    """Serves every business, in the name of each."""

    kind: ClassVar[ChannelKind] = ChannelKind.EMAIL
    channel: ClassVar[Channel] = Channel.EMAIL
    most_letters: ClassVar[int] = 20
    most_text: ClassVar[int] = 10_000
    is_stand_in: ClassVar[bool] = False

    def __init__(self, mailer: Mailer) -> None:
        self._mailer = mailer
        self._line = seam.Line(50.0)

    async def send(self, letters: Sequence[seam.Letter]) -> Sequence[seam.Answer]:
        return await self._line.carry(letters, self._send)

    async def forget(self, customer_id: str) -> None:
        """It keeps nothing."""

    async def _send(self, letter: seam.Letter) -> seam.Answer:
        try:
            await self._mailer.send(mail_of(letter))
        except MaybeSent:
            return seam.UNKNOWN
        except NotSent as problem:
            if problem.is_final:
                return seam.Rejected(str(problem))
            return seam.RetryAfter(_WAIT, stops=problem.is_out_of_reach)
        return seam.Accepted()


def mail_of(letter: seam.Letter) -> Mail:
    """The letter as a mail. What was asked for has no way out: it is no news."""
    parts, headers = [letter.text, letter.url], {}
    if letter.unsubscribe_url is not None:
        words = _WAY_OUT["id" if letter.language.startswith("id") else "en"]
        parts.append(f"--\n{words.format(business=letter.business)}\n{letter.unsubscribe_url}")
        headers = {
            "List-Unsubscribe": f"<{letter.unsubscribe_url}>",
            "List-Unsubscribe-Post": "List-Unsubscribe=One-Click",
        }
    return Mail(
        id=letter.id,
        to=letter.address,
        subject=letter.subject,
        text="\n\n".join(part for part in parts if part),
        sender_name=letter.business,
        headers=headers,
    )
