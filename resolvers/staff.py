"""Staff and API keys: from a field to its operation; passwords are digested outside of it."""

from typing import Any

from core.errors import Refused
from models import Session
from models.relations import SESSIONS_OF_STAFF
from resolvers.context import Context
from resolvers.perform import perform, performs, resolves
from services import access_tokens, api_keys, sessions, sign_ins, staff, velocity
from services.operation import Outcome
from services.passwords import digest_password
from services.sign_ins import SignedIn, SignInInput
from services.staff import ChangePasswordInput, CreateStaffInput
from services.velocity import StaffVelocity


def _secrets(context: Context) -> dict[str, Any]:
    return {"secrets": context.deployment.secrets}


generate_api_key = performs(api_keys.generate_api_key, _secrets)
regenerate_api_key = performs(api_keys.regenerate_api_key, _secrets)
update_api_key = performs(api_keys.update_api_key)
delete_api_key = performs(api_keys.delete_api_key)
update_staff = performs(staff.update_staff)
disable_staff = performs(staff.disable_staff)
enable_staff = performs(staff.enable_staff)
create_access_token = performs(access_tokens.create_access_token, _secrets)
sign_out = performs(sessions.sign_out)
end_session = performs(sessions.end_session)
end_all_sessions = performs(sessions.end_all_sessions)


@resolves(staff.create_staff)
async def create_staff(context: Context, input: CreateStaffInput) -> Outcome:
    """Make a staff login."""
    return await perform(
        context,
        staff.create_staff,
        input,
        password_digest=await digest_password(input.password),
    )


@resolves(staff.change_password)
async def change_password(context: Context, input: ChangePasswordInput) -> Outcome:
    """Change a password."""
    return await perform(
        context,
        staff.change_password,
        input,
        password_digest=await digest_password(input.new_password),
        proven=await _proven(context, input),
    )


@resolves(sign_ins.sign_in)
async def sign_in(context: Context, input: SignInInput) -> SignedIn:
    """Open a session: the one mutation that needs no key."""
    deployment = context.deployment
    try:
        return await sign_ins.sign_in(
            deployment.database,
            deployment.secrets,
            input,
            deployment.clock.now(),
            context.place,
        )
    except Refused as refusal:
        return SignedIn(user_errors=[refusal])


async def _proven(context: Context, input: ChangePasswordInput) -> str | None:
    deployment, actor = context.deployment, context.actor
    if input.staff_id not in (None, actor.staff_id):
        return None
    return await sign_ins.prove_password(
        deployment.database,
        deployment.secrets,
        actor.staff,
        input.current_password,
        deployment.clock.now(),
    )


async def open_sessions(context: Context, staff_id: str) -> list[Session] | None:
    """The sessions of a staff login that open doors; None where the caller may not see them."""
    if not sessions.may_see(context.actor, staff_id):
        return None
    now = context.deployment.clock.now()
    found = await context.many(SESSIONS_OF_STAFF, staff_id, limit=sessions.MOST_LIVE * 2)
    live = [row for row in found if row.ended_at is None and row.expires_at > now]
    return live[: sessions.MOST_LIVE]


async def staff_velocity(context: Context, minutes: int) -> list[StaffVelocity]:
    """How fast each staff login gave stamps of late."""
    actor, now = context.actor, context.now
    return await context.read(lambda tx: velocity.staff_velocity(tx, actor, minutes, now))
