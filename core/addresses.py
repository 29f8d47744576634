"""E-mail addresses, as the protocol carries them."""

from email_validator import EmailNotValidError, validate_email


def mail_address(text: str) -> str | None:
    """The address in ASCII, with the domain in punycode; None for what no server would take."""
    try:
        found = validate_email(text, check_deliverability=False, test_environment=True)
    except EmailNotValidError:
        return None
    return found.ascii_email
