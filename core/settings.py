"""Every setting Stampwire reads from the environment, with its default."""

from contextlib import suppress
from enum import StrEnum
from functools import cached_property
from pathlib import Path
from typing import Annotated, Self
from urllib.parse import urlsplit

from pydantic import AliasChoices, Field, model_validator
from pydantic_settings import BaseSettings, NoDecode, SettingsConfigDict

from core.addresses import mail_address
from core.errors import Denied
from core.limits import DocumentLimits

Words = Annotated[tuple[str, ...], NoDecode]


def _also(name: str, platform: str) -> AliasChoices:
    """Our own variable, else the one that hosting platforms set."""
    return AliasChoices(name, platform)


class Execution(StrEnum):
    """How queries are executed."""

    AUTO = "auto"
    GRAPHQL = "graphql"


class MissingSetting(Denied):
    """A setting that this deployment cannot do without."""


class Settings(BaseSettings):
    """The defaults run the whole system in one process, on SQLite and memory."""

    model_config = SettingsConfigDict(
        env_prefix="STAMPWIRE_",
        frozen=True,
        populate_by_name=True,
        extra="ignore",
        hide_input_in_errors=True,  # a wrong setting is told of beside secrets
    )

    host: str = Field("127.0.0.1", description="Address to listen on.")
    port: int = Field(
        8000,
        validation_alias=_also("STAMPWIRE_PORT", "PORT"),
        description="Port to listen on; `PORT` is read where it is absent.",
    )
    data_dir: Path = Field(
        Path("var"), description="Folder of the SQLite file, the made secret key and `demo.json`."
    )
    database_url: str = Field(
        "",
        validation_alias=_also("STAMPWIRE_DATABASE_URL", "DATABASE_URL"),
        description=(
            "`sqlite:///path/to/file` or `postgresql://…` (also `postgres://`); empty means "
            "`stampwire.db` in the data dir. `DATABASE_URL` is read where it is absent."
        ),
    )
    broadcast_url: str = Field(
        "",
        validation_alias=_also("STAMPWIRE_BROADCAST_URL", "REDIS_URL"),
        description=(
            "The doorbell between processes: `memory://`, `redis://…` or `postgres://…`; empty "
            "means memory on SQLite and the database itself on PostgreSQL. `REDIS_URL` is read "
            "where it is absent."
        ),
    )
    demo: bool = Field(False, description="Make the demo café at the first start.")
    secret_key: str = Field(
        "",
        description=(
            "32 random bytes in base64; peppers and encryption keys derive from it. Made once in "
            "the data dir on SQLite, required elsewhere. Former keys may follow, comma-separated."
        ),
    )
    public_url: str = Field(
        "", description="The address customers and partners reach us at; empty means host and port."
    )
    allowed_origins: Words = Field(
        (), description="Origins of browser apps that may call us, exact, comma-separated."
    )
    trusted_proxies: Words = Field(
        (), description="Addresses whose `X-Forwarded-*` headers are believed, comma-separated."
    )
    trusted_hosts: Words = Field(
        (), description="Host names we answer to, comma-separated; empty means any."
    )
    operator_key: str = Field(
        "", description="The key that may create businesses over the API; empty means nobody."
    )
    allow_insecure_webhooks: bool = Field(
        False,
        description="Admit webhook endpoints by http and on loopback. For development only.",
    )
    metrics_token: str = Field(
        "",
        repr=False,
        description=(
            "The bearer token with which `/metrics` is read; empty means from this machine only."
        ),
    )
    worker_port: int = Field(
        0,
        description=(
            "Port where `stampwire worker` answers `/livez`, `/readyz` and `/metrics`, on "
            "`STAMPWIRE_HOST`; 0 means none."
        ),
    )
    shutdown_delay: float = Field(
        0,
        ge=0,
        le=300,
        description=(
            "Seconds to go on serving after SIGTERM with `/readyz` red, so that a load balancer "
            "looks away first."
        ),
    )
    smtp_url: str = Field(
        "",
        repr=False,
        description=(
            "The server that takes mail to owners: `smtp://user:password@host:587` (TLS by "
            "STARTTLS) or `smtps://user:password@host:465`; empty means that nothing is mailed."
        ),
    )
    mail_from: str = Field(
        "",
        description="Whom mail is from, such as `stampwire@example.com`; needed with the SMTP URL.",
    )
    telegram_url: str = Field(
        "https://api.telegram.org", description="Where bots of Telegram are served."
    )
    whatsapp_url: str = Field(
        "https://graph.facebook.com/v23.0",
        description="Where the WhatsApp Cloud API is, with its version.",
    )
    apple_pass_certificate: str = Field(
        "",
        description=(
            "File with the certificate of Apple's pass type (PEM), or its text; pass type and team "
            "are read from it. Empty means no Apple Wallet."
        ),
    )
    apple_pass_key: str = Field(
        "", repr=False, description="File with its private key (PEM, not encrypted), or the text."
    )
    apple_intermediate: str = Field(
        "",
        description=(
            "File with the certificate of Apple that signed it (Worldwide Developer Relations), "
            "in PEM, or its text."
        ),
    )
    apple_push_url: str = Field(
        "https://api.push.apple.com", description="Where telephones of Apple are told of changes."
    )
    google_wallet_issuer: str = Field(
        "", description="The number of the issuer at Google Wallet. Empty means no Google Wallet."
    )
    google_wallet_account: str = Field(
        "",
        repr=False,
        description="File with the key of Google's service account (JSON), or its text.",
    )
    google_wallet_url: str = Field(
        "https://walletobjects.googleapis.com/walletobjects/v1",
        description="Where classes and objects of Google Wallet are kept.",
    )
    google_wallet_keys_url: str = Field(
        "https://pay.google.com/gp/m/issuer/keys",
        description="Where Google publishes the keys with which it signs callbacks.",
    )
    cost_per_operation: int = Field(
        5_000,
        ge=1,
        description=(
            "What one operation may cost: an object 1, a connection 2 and `first` times its items, "
            "a mutation or subscription 10. Over it: `QUERY_TOO_COMPLEX`."
        ),
    )
    cost_bucket: int = Field(
        20_000,
        ge=1,
        description="What a key, a login's sessions or an access token may spend at once.",
    )
    cost_per_second: int = Field(
        1_000, ge=1, description="How quickly that comes back. Over it: `RATE_LIMITED`."
    )
    stranger_cost_bucket: int = Field(
        200, ge=1, description="What an address may spend at once without a key."
    )
    stranger_cost_per_second: int = Field(10, ge=1, description="How quickly that comes back.")
    misses_per_minute: int = Field(
        10,
        ge=1,
        description=(
            "How many redeem or claim codes that do not exist a key may try in a minute, and an "
            "address."
        ),
    )
    document_tokens: int = Field(
        DocumentLimits.tokens,
        ge=100,
        le=20_000,
        description="Words and signs that a GraphQL document may have.",
    )
    document_fragments: int = Field(
        DocumentLimits.fragments, ge=1, le=500, description="Fragments that it may define."
    )
    document_visits: int = Field(
        DocumentLimits.visits,
        ge=100,
        le=20_000,
        description="Selections that it may make in all, those of a fragment at each spread.",
    )
    document_same_field: int = Field(
        DocumentLimits.same_field,
        ge=1,
        le=100,
        description="How often it may select one field of objects in one place.",
    )
    document_same_leaf: int = Field(
        DocumentLimits.same_leaf,
        ge=1,
        le=100,
        description="The same for a field without a selection of its own.",
    )
    document_depth: int = Field(
        DocumentLimits.depth, ge=2, le=50, description="Levels that it may be deep."
    )
    document_introspection_depth: int = Field(
        DocumentLimits.introspection_depth,
        ge=2,
        le=50,
        description="The same where it asks for the schema.",
    )
    document_aliases: int = Field(
        DocumentLimits.aliases, ge=0, le=500, description="Aliases that it may give."
    )
    document_root_fields: int = Field(
        DocumentLimits.root_fields,
        ge=1,
        le=100,
        description="Queries or mutations that one operation may name.",
    )
    body_bytes: int = Field(
        100_000,
        ge=1_000,
        le=10_000_000,
        description="What the body of a request may have; uploads may have 20 MB.",
    )
    socket_message_bytes: int = Field(
        65_536, ge=1_000, le=10_000_000, description="What a message of a websocket may have."
    )
    head_seconds: float = Field(
        10, gt=0, le=300, description="How long the headers of a request are waited for."
    )
    body_seconds: float = Field(
        30, gt=0, le=3_600, description="How long its body is waited for from there."
    )
    idle_seconds: int = Field(
        5, ge=1, le=3_600, description="How long a connection stays open for the next request."
    )
    init_seconds: float = Field(
        5, gt=0, le=300, description="How long a websocket has for its `connection_init`."
    )
    answer_seconds: float = Field(
        30, gt=0, le=3_600, description="How long an answer waits for somebody who reads nothing."
    )
    send_seconds: float = Field(
        5, gt=0, le=300, description="How long a socket or stream waits for somebody who does not."
    )
    socket_messages_at_once: int = Field(
        400, ge=10, description="Messages, pings among them, that a socket may send at once."
    )
    socket_messages_per_second: float = Field(
        100, gt=0, description="Messages that it may send all the time."
    )
    operations_per_socket: int = Field(
        50, ge=1, description="Operations that a socket may run at once."
    )
    sockets_per_key: int = Field(
        100,
        ge=1,
        description=(
            "Sockets and streams that a key, session or access token may have open in a process."
        ),
    )
    connections: int = Field(
        10_000,
        ge=1,
        description=(
            "Connections that a process accepts, as far as its allowance of open files goes. Over "
            "it: 503."
        ),
    )
    connections_per_address: int = Field(
        1_000,
        ge=1,
        description=(
            "How many of them one address may have (of IPv6: one network of 64 bits). Behind "
            "trusted proxies: requests and sockets at once. Over it: 429."
        ),
    )
    requests_at_once: int = Field(
        1_000,
        ge=1,
        description=(
            "Requests that a process receives and answers at once, streams that have begun left "
            "out. Over it, whoever has been sending a body for longest is told 503."
        ),
    )
    receiving_bytes: int = Field(
        64_000_000,
        ge=1_000_000,
        description=(
            "Bytes of bodies and messages that a process holds before they are answered. Over it: "
            "the same."
        ),
    )
    graphiql: bool | None = Field(
        None,
        description=(
            "Show GraphiQL to browsers that open `/graphql`; it is nothing without a key. Absent: "
            "where there is no public URL, and in a demo."
        ),
    )
    scanner_keys_url: str = Field(
        "",
        description=(
            "Where a scanner of public code publishes the keys it signs with, such as "
            "`https://api.github.com/meta/public_keys/secret_scanning`; `/leaked-keys` then takes "
            "what it found. Empty means that nobody tells us of leaked keys."
        ),
    )
    execution: Execution = Field(
        Execution.AUTO,
        description=(
            "How queries are executed: `auto` by plans where there is one, `graphql` by "
            "graphql-core alone. The answers are the same."
        ),
    )
    log_level: str = Field("info", description="`debug`, `info`, `warning` or `error`.")

    @model_validator(mode="before")
    @classmethod
    def _split_words(cls, values: dict[str, object]) -> dict[str, object]:
        for name in ("allowed_origins", "trusted_proxies", "trusted_hosts"):
            for key in (name, f"STAMPWIRE_{name.upper()}", f"stampwire_{name}"):
                if isinstance(text := values.get(key), str):
                    values[key] = tuple(word.strip() for word in text.split(",") if word.strip())
        return values

    @model_validator(mode="after")
    def _check(self) -> Self:
        if not self.is_sqlite and not self.secret_key:
            message = "STAMPWIRE_SECRET_KEY is required with PostgreSQL (32 random bytes, base64)."
            raise ValueError(message)
        if self.smtp_url:
            self._check_mail()
        return self

    def _check_mail(self) -> None:
        told, is_good = urlsplit(self.smtp_url), False
        with suppress(ValueError):  # of a port that is none: what it says may quote a password
            is_good = told.scheme in ("smtp", "smtps") and bool(told.hostname) and told.port != 0
        if not is_good:
            message = "STAMPWIRE_SMTP_URL is like smtp://user:password@host:587, or smtps://…"
            raise ValueError(message)
        if mail_address(self.mail_from) is None:
            message = "STAMPWIRE_MAIL_FROM is required with STAMPWIRE_SMTP_URL: an e-mail address."
            raise ValueError(message)

    @cached_property
    def database(self) -> str:
        """The database's URL in full, as `sqlite:///…` or `postgresql://…`."""
        if not self.database_url:
            return f"sqlite:///{self.data_dir / 'stampwire.db'}"
        return self.database_url.replace("postgres://", "postgresql://", 1)

    @property
    def is_sqlite(self) -> bool:
        """Whether this is the embedded mode: one server process on one file."""
        return self.database.startswith("sqlite:")

    @property
    def has_graphiql(self) -> bool:
        """Whether a browser that opens /graphql is shown GraphiQL."""
        return (self.demo or not self.public_url) if self.graphiql is None else self.graphiql

    @cached_property
    def broadcast(self) -> str:
        """The doorbell's URL in full."""
        if self.broadcast_url:
            return self.broadcast_url
        return "memory://" if self.is_sqlite else self.database

    @cached_property
    def document_limits(self) -> DocumentLimits:
        """What a GraphQL document may be."""
        return DocumentLimits(
            **{name: getattr(self, f"document_{name}") for name in DocumentLimits.__annotations__}
        )

    @cached_property
    def url(self) -> str:
        """The public address, without a slash at the end."""
        return self.public_url.rstrip("/") or f"http://{self.host}:{self.port}"
