"""The context of a call: who calls, and the parts of the deployment it may use."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import TYPE_CHECKING, Any, TypeVar

from core.buckets import Buckets
from core.clock import Clock
from core.errors import Forbidden, Unauthenticated
from core.secrets import Secrets
from core.settings import Settings
from db import Database, Work
from db.relations import load_many, load_one
from events.stream import Stream
from integrations.channels import Channels
from integrations.wallets import Wallets
from models import Actor, Card, Customer, Row
from models.relations import ToMany, ToOne
from resolvers.loaders import Loader
from services.access_tokens import check_reach
from services.guesses import Guesses
from services.operation import NOT_BY_TOKEN
from services.places import Place

if TYPE_CHECKING:
    from integrations.http import Outgoing
    from integrations.scanners import ScannerKeys
    from webhooks.documents import Documents
    from webhooks.sender import Sender

T = TypeVar("T")
R = TypeVar("R", bound=Row)


@dataclass(frozen=True)
class Deployment:
    """The parts that one process is composed of."""

    settings: Settings
    database: Database
    stream: Stream
    secrets: Secrets
    clock: Clock
    sender: "Sender"
    outgoing: "Outgoing"
    channels: Channels
    documents: "Documents"
    buckets: Buckets
    guesses: Guesses
    scanner: "ScannerKeys | None" = None
    wallets: Wallets = field(default_factory=Wallets)


@dataclass
class Context:
    """What a resolver is given: for one request, or for the life of a socket."""

    deployment: Deployment
    caller: Actor | None = None
    is_operator: bool = False
    idempotency_header: str | None = None
    remote_address: str = ""
    user_agent: str = ""
    connection_params: dict[str, Any] | None = None
    _loaders: dict[Any, Loader[str, Any]] = field(default_factory=dict)

    @property
    def actor(self) -> Actor:
        """Who calls. Unauthenticated for strangers."""
        if self.caller is None:
            raise Unauthenticated
        return self.caller

    @property
    def place(self) -> Place:
        """From where the call comes."""
        return Place(self.remote_address, self.user_agent)

    def give_up(self) -> None:
        """Whoever called has left: stop what is still being read for them."""
        for loader in self._loaders.values():
            loader.give_up()

    @property
    def now(self) -> datetime:
        """The programme's time: real, but for a TEST business that moved its clock."""
        return self.actor.business.time(self.deployment.clock.now())

    async def read(self, work: Work[T]) -> T:
        """Read in the caller's business. Forbidden with an access token."""
        if self.actor.token is not None:
            raise Forbidden(NOT_BY_TOKEN)
        return await self.read_within(work)

    async def read_within(self, work: Work[T]) -> T:
        """Read in the caller's business; the work itself keeps to an access token's scope."""
        return await self.deployment.database.read(self.actor.business_id, work)

    async def get(self, cls: type[R], id: str | None) -> R | None:
        """A row of the caller's business by id."""
        return None if id is None else await self.one(_by_id(cls), id)

    async def one(self, relation: ToOne[R], key: str | None) -> R | None:
        """The row that a relation leads to."""
        if key is None:
            return None
        check_reach(self.actor, relation.target)
        loader = self._loaders.get(relation)
        if loader is None:

            async def load(keys: Sequence[str]) -> dict[str, R]:
                return await self.read_within(lambda tx: load_one(tx, relation, keys))

            loader = self._loaders[relation] = Loader(load)
        row: R | None = await loader.get(key)
        # What was merged leads to what was kept.
        if isinstance(row, Card | Customer) and row.merged_into is not None:
            kept: R | None = await loader.get(row.merged_into)
            return kept
        return row

    async def many(self, relation: ToMany[R], key: str, limit: int = 100) -> list[R]:
        """The first rows that a relation leads to, in its order."""
        check_reach(self.actor, relation.target)
        loader = self._loaders.get((relation, limit))
        if loader is None:

            async def load(keys: Sequence[str]) -> dict[str, list[R]]:
                return await self.read_within(lambda tx: load_many(tx, relation, keys, limit))

            loader = self._loaders[relation, limit] = Loader(load)
        return await loader.get(key) or []


def _by_id(cls: type[R]) -> ToOne[R]:
    return ToOne(cls)
