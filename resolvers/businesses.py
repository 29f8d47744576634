"""Businesses and locations: from a field to its operation."""

from typing import Any

from core.errors import Forbidden, Refused, Unauthenticated
from resolvers.context import Context
from resolvers.perform import idempotency_key, performs, resolves
from services import businesses, idempotency, locations
from services.businesses import BusinessCreated, CreateBusinessInput, the_system
from services.passwords import digest_password

update_business = performs(businesses.update_business)
create_location = performs(locations.create_location)
update_location = performs(locations.update_location)
archive_location = performs(locations.archive_location)


@resolves(businesses.create_business)
async def create_business(context: Context, input: CreateBusinessInput) -> BusinessCreated:
    """Make a business; only with the operator's key."""
    _check_operator(context)
    deployment, now = context.deployment, context.deployment.clock.now()
    name = businesses.create_business.__name__

    async def told_before(tx: Any) -> BusinessCreated | None:
        if key is None:
            return None
        earlier = await idempotency.earlier_of_operator(tx, name, key, print_)
        return None if earlier is None else await idempotency.replay(tx, earlier, BusinessCreated)

    async def work(tx: Any) -> BusinessCreated:
        if (before := await told_before(tx)) is not None:
            return before
        made = await businesses.create_business(
            tx, the_system(now), input, now, password_digest=digest, secrets=deployment.secrets
        )
        if key is not None:
            await idempotency.keep_of_operator(tx, name, key, print_, now, made)
        return made

    async def make() -> BusinessCreated:
        try:
            return await deployment.database.write(None, work)
        except Refused:
            # Of two calls with one key at one moment, the slower finds the login taken.
            before = await deployment.database.write(None, told_before)
            if before is None:
                raise
            return before

    try:
        key = idempotency_key(input)
        print_ = idempotency.fingerprint(input, deployment.secrets)
        digest = await digest_password(input.owner.password)
        return await make()
    except Refused as refusal:
        return BusinessCreated(user_errors=[refusal])


def _check_operator(context: Context) -> None:
    if context.is_operator:
        return
    if context.caller is None:
        raise Unauthenticated
    raise Forbidden("Only the operator creates businesses.")
