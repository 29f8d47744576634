"""The context of a call: who calls, and the parts of the deployment it may use."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import TYPE_CHECKING, Any, TypeVar

from core.buckets import Buckets
from core.clock import Clock
from core.errors import Forbidden, Unauthenticated
from core.secrets import Secrets
from core.settings import Settings
from db import Database, Transaction, Work
from db.relations import Columns, load_many, load_one
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
        kept = _kept_for(row)
        return row if kept is None else await loader.get(kept)

    async def ones(
        self, relation: ToOne[R], keys: Sequence[str | None], only: Columns = None
    ) -> list[R | None]:
        """The rows that a relation leads to from many, in their order; read at once."""
        wanted = {key for key in keys if key is not None}
        if not wanted:
            return [None for _ in keys]
        check_reach(self.actor, relation.target)
        if only is not None and relation.target in _MERGED:
            only |= {"merged_into"}

        async def load(tx: Transaction) -> Mapping[str, R | None]:
            found = await load_one(tx, relation, wanted, only)
            if relation.target not in _MERGED:
                return found
            moved = {key: id for key, row in found.items() if (id := _kept_for(row)) is not None}
            if not moved:
                return found
            kept = await load_one(tx, relation, set(moved.values()), only)
            return {**found, **{key: kept.get(id) for key, id in moved.items()}}

        found = await self.read_within(load)
        return [None if key is None else found.get(key) for key in keys]

    async def manys(
        self, relation: ToMany[R], keys: Sequence[str], limit: int, only: Columns = None
    ) -> list[list[R]]:
        """The first rows that a relation leads to from many, in its order; read at once."""
        check_reach(self.actor, relation.target)
        found = await self.read_within(lambda tx: load_many(tx, relation, keys, limit, only))
        return [found.get(key, []) for key in keys]

    async def many(self, relation: ToMany[R], key: str, limit: int = 100) -> list[R]:
        """The first rows that a relation leads to, in its order."""
        check_reach(self.actor, relation.target)
        loader = self._loaders.get((relation, limit))
        if loader is None:

            async def load(keys: Sequence[str]) -> dict[str, list[R]]:
                return await self.read_within(lambda tx: load_many(tx, relation, keys, limit))

            loader = self._loaders[relation, limit] = Loader(load)
        return await loader.get(key) or []


_MERGED = (Card, Customer)


def _kept_for(row: Row | None) -> str | None:
    """What was merged leads to what was kept: its id; None where nothing was merged."""
    return row.__dict__["merged_into"] if isinstance(row, _MERGED) else None


def _by_id(cls: type[R]) -> ToOne[R]:
    return ToOne(cls)
