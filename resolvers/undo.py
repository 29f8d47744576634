"""Undo: from a field to its operation."""

from resolvers.perform import performs
from services import undo

void_operation = performs(undo.void_operation)
void_voucher = performs(undo.void_voucher)
reverse_redemption = performs(undo.reverse_redemption)
