"""settings.md: every environment variable that is read."""

from pydantic import AliasChoices
from pydantic.fields import FieldInfo
from pydantic_core import PydanticUndefined

from core.settings import Settings
from docs.generate.shared import NOTE, table


def the_settings() -> str:
    """Every environment variable that is read."""
    rows = [
        (f"`{_variable(name, field)}`", _default(field), _platform(field), field.description or "")
        for name, field in Settings.model_fields.items()
    ]
    parts = [
        NOTE,
        "# Settings",
        (
            "Stampwire reads its settings from the environment and from nowhere else. The defaults "
            "run the whole system in one process, on SQLite. `bin/serve` sets `STAMPWIRE_DEMO=1` "
            "and, with it, `STAMPWIRE_ALLOW_INSECURE_WEBHOOKS=1`, unless you set them yourself. "
            "[running.md](running.md) shows which of them a real deployment needs."
        ),
        table(("Variable", "Default", "Also read", "Meaning"), rows),
    ]
    return "\n\n".join(parts) + "\n"


def _variable(name: str, field: FieldInfo) -> str:
    alias = field.validation_alias
    if isinstance(alias, AliasChoices):
        return str(alias.choices[0])
    return f"{Settings.model_config['env_prefix']}{name.upper()}"


def _platform(field: FieldInfo) -> str:
    alias = field.validation_alias
    if not isinstance(alias, AliasChoices):
        return ""
    return ", ".join(f"`{choice}`" for choice in alias.choices[1:])


def _default(field: FieldInfo) -> str:
    value = field.default
    if value is PydanticUndefined:
        return "required"
    if isinstance(value, bool):
        return f"`{int(value)}`"
    return f"`{value}`" if value or value == 0 else "empty"
