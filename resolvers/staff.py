"""Staff and API keys: from a field to its operation; passwords are digested outside of it."""

from typing import Any

from core.errors import Refused
from resolvers.context import Context
from resolvers.perform import perform, performs, resolves
from services import access_tokens, api_keys, staff, velocity
from services.operation import Outcome
from services.staff import ChangePasswordInput, CreateStaffInput, SignedIn, SignInInput
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
sign_out = performs(staff.sign_out)


@resolves(staff.create_staff)
async def create_staff(context: Context, input: CreateStaffInput) -> Outcome:
    """Make a staff login."""
    return await perform(
        context,
        staff.create_staff,
        input,
        password_digest=await staff.digest_password(input.password),
    )


@resolves(staff.change_password)
async def change_password(context: Context, input: ChangePasswordInput) -> Outcome:
    """Change a password."""
    return await perform(
        context,
        staff.change_password,
        input,
        password_digest=await staff.digest_password(input.new_password),
        proven=await staff.prove_password(context.actor.staff, input.current_password),
    )


@resolves(staff.sign_in)
async def sign_in(context: Context, input: SignInInput) -> SignedIn:
    """Open a session: the one mutation that needs no key."""
    deployment = context.deployment
    try:
        return await staff.sign_in(
            deployment.database, deployment.secrets, input, deployment.clock.now()
        )
    except Refused as refusal:
        return SignedIn(user_errors=[refusal])


async def staff_velocity(context: Context, minutes: int) -> list[StaffVelocity]:
    """How fast each staff login gave stamps of late."""
    actor, now = context.actor, context.now
    return await context.read(lambda tx: velocity.staff_velocity(tx, actor, minutes, now))
