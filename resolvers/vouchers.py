"""Vouchers: from a field to its operation."""

from typing import Any

from core.errors import Refused
from resolvers.context import Context
from resolvers.guesses import counted
from resolvers.perform import perform, performs, resolves
from services import vouchers
from services.operation import Outcome
from services.vouchers import RedeemVoucherInput, VoucherChecked, VoucherRef

issue_voucher = performs(vouchers.issue_voucher)


@resolves(vouchers.redeem_voucher)
async def redeem_voucher(context: Context, input: RedeemVoucherInput) -> Outcome:
    """Redeem a voucher; misses by code are counted."""

    async def redeem() -> Outcome:
        return await perform(context, vouchers.redeem_voucher, input)

    return await (redeem() if input.voucher.code is None else counted(context, redeem))


async def can_redeem(context: Context, voucher: VoucherRef) -> VoucherChecked:
    """Whether a voucher could be redeemed now."""

    async def work(tx: Any) -> VoucherChecked:
        return await vouchers.can_redeem(tx, context.actor, voucher, context.now)

    async def check() -> VoucherChecked:
        try:
            return await context.read(work)
        except Refused as refusal:
            return VoucherChecked(user_errors=[refusal])

    return await (check() if voucher.code is None else counted(context, check))
