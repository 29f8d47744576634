"""Vouchers: from a field to its operation."""

from typing import Any

from core.errors import Refused
from resolvers.context import Context
from resolvers.perform import performs
from services import vouchers
from services.vouchers import VoucherChecked, VoucherRef

issue_voucher = performs(vouchers.issue_voucher)
redeem_voucher = performs(vouchers.redeem_voucher)


async def can_redeem(context: Context, voucher: VoucherRef) -> VoucherChecked:
    """Whether a voucher could be redeemed now."""

    async def work(tx: Any) -> VoucherChecked:
        return await vouchers.can_redeem(tx, context.actor, voucher, context.now)

    try:
        return await context.read(work)
    except Refused as refusal:
        return VoucherChecked(user_errors=[refusal])
