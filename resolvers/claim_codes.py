"""Claim codes: from a field to its operation."""

from resolvers.perform import performs
from services import claim_codes

create_claim_codes = performs(claim_codes.create_claim_codes)
claim_stamps = performs(claim_codes.claim_stamps)
