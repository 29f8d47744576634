"""the backbone: pacing and documents of endpoints, replays, retention, access tokens."""

import sqlalchemy as sa
from alembic import op

from db.migrations.security import protect, protect_from_all

revision = "0002"
down_revision = "0001"
TIMESTAMP = sa.DateTime(timezone=True).with_variant(sa.String(27), "sqlite")


def upgrade() -> None:
    """Add them; the former release runs on, for nothing it knows has changed."""
    op.add_column("webhook_endpoint", sa.Column("document_by_id", sa.String()))
    op.add_column("webhook_endpoint", sa.Column("max_in_flight", sa.Integer()))
    op.add_column("webhook_endpoint", sa.Column("max_per_second", sa.Float()))
    op.add_column("webhook_endpoint", sa.Column("pace", sa.Float()))
    op.add_column(
        "webhook_endpoint",
        sa.Column("recent", sa.BigInteger(), nullable=False, server_default="1"),
    )
    op.add_column(
        "webhook_endpoint",
        sa.Column("missed_events", sa.BigInteger(), nullable=False, server_default="0"),
    )
    op.add_column(
        "log_head",
        sa.Column("pruned_sequence", sa.BigInteger(), nullable=False, server_default="0"),
    )
    op.add_column("log_head", sa.Column("pruned_until", TIMESTAMP))
    op.add_column("notice", sa.Column("mailed_at", TIMESTAMP))
    op.add_column("notice", sa.Column("mailed_to", sa.Text()))
    op.add_column(
        "notice", sa.Column("mail_tries", sa.Integer(), nullable=False, server_default="0")
    )
    op.add_column("notice", sa.Column("mail_after", TIMESTAMP))
    op.create_table(
        "rendering",
        sa.Column("endpoint_id", sa.String(), nullable=False),
        sa.Column("sequence", sa.BigInteger(), nullable=False),
        sa.Column("business_id", sa.String(), nullable=False),
        sa.Column("body", sa.String()),
        sa.ForeignKeyConstraint(["business_id"], ["business.id"]),
        sa.ForeignKeyConstraint(["endpoint_id"], ["webhook_endpoint.id"]),
        sa.PrimaryKeyConstraint("endpoint_id", "sequence"),
    )
    op.create_index("ix_rendering_business_id", "rendering", ["business_id"])
    op.create_table(
        "webhook_replay",
        sa.Column("id", sa.String(), nullable=False),
        sa.Column("business_id", sa.String(), nullable=False),
        sa.Column("endpoint_id", sa.String(), nullable=False),
        sa.Column("status", sa.String(40), nullable=False),
        sa.Column("since", TIMESTAMP, nullable=False),
        sa.Column("until", TIMESTAMP),
        sa.Column("types", sa.Text(), nullable=False),
        sa.Column("cursor_sequence", sa.BigInteger(), nullable=False),
        sa.Column("last_sequence", sa.BigInteger(), nullable=False),
        sa.Column("total", sa.Integer(), nullable=False),
        sa.Column("sent", sa.Integer(), nullable=False),
        sa.Column("failed", sa.Integer(), nullable=False),
        sa.Column("failures", sa.Integer(), nullable=False),
        sa.Column("retries", sa.Text(), nullable=False),
        sa.Column("created_at", TIMESTAMP, nullable=False),
        sa.Column("created_by_id", sa.String()),
        sa.Column("finished_at", TIMESTAMP),
        sa.Column("next_attempt_at", TIMESTAMP, nullable=False),
        sa.Column("lease_owner", sa.String()),
        sa.Column("lease_epoch", sa.Integer(), nullable=False),
        sa.Column("lease_until", TIMESTAMP, nullable=False),
        sa.ForeignKeyConstraint(["business_id"], ["business.id"]),
        sa.ForeignKeyConstraint(["endpoint_id"], ["webhook_endpoint.id"]),
        sa.PrimaryKeyConstraint("id"),
    )
    op.create_index("ix_webhook_replay_business_id", "webhook_replay", ["business_id"])
    op.create_index("ix_webhook_replay_endpoint_id", "webhook_replay", ["endpoint_id"])
    op.create_index("replay_due", "webhook_replay", ["status", "next_attempt_at", "lease_until"])
    op.create_table(
        "access_token",
        sa.Column("id", sa.String(), nullable=False),
        sa.Column("business_id", sa.String(), nullable=False),
        sa.Column("staff_id", sa.String(), nullable=False),
        sa.Column("api_key_id", sa.String()),
        sa.Column("session_id", sa.String()),
        sa.Column("issuer_digest", sa.String(), nullable=False),
        sa.Column("role", sa.String(), nullable=False),
        sa.Column("location_id", sa.String()),
        sa.Column("digest", sa.String(), nullable=False),
        sa.Column("scope", sa.Text(), nullable=False),
        sa.Column("created_at", TIMESTAMP, nullable=False),
        sa.Column("expires_at", TIMESTAMP, nullable=False),
        sa.ForeignKeyConstraint(["business_id"], ["business.id"]),
        sa.ForeignKeyConstraint(["staff_id"], ["staff.id"]),
        sa.PrimaryKeyConstraint("id"),
        sa.UniqueConstraint("digest"),
    )
    op.create_index("ix_access_token_business_id", "access_token", ["business_id"])
    op.create_index("ix_access_token_staff_id", "access_token", ["staff_id"])
    op.add_column("session", sa.Column("last_used_at", TIMESTAMP))
    op.add_column("session", sa.Column("address", sa.String()))
    op.add_column("session", sa.Column("program", sa.String()))
    op.create_table(
        "known_place",
        sa.Column("business_id", sa.String(), nullable=False),
        sa.Column("staff_id", sa.String(), nullable=False),
        sa.Column("digest", sa.String(), nullable=False),
        sa.Column("seen_at", TIMESTAMP, nullable=False),
        sa.ForeignKeyConstraint(["business_id"], ["business.id"]),
        sa.ForeignKeyConstraint(["staff_id"], ["staff.id"]),
        sa.PrimaryKeyConstraint("staff_id", "digest"),
    )
    op.create_index("ix_known_place_business_id", "known_place", ["business_id"])
    op.create_table(
        "password_reset",
        sa.Column("digest", sa.String(), nullable=False),
        sa.Column("business_id", sa.String(), nullable=False),
        sa.Column("staff_id", sa.String(), nullable=False),
        sa.Column("created_at", TIMESTAMP, nullable=False),
        sa.Column("expires_at", TIMESTAMP, nullable=False),
        sa.Column("used_at", TIMESTAMP),
        sa.ForeignKeyConstraint(["business_id"], ["business.id"]),
        sa.ForeignKeyConstraint(["staff_id"], ["staff.id"]),
        sa.PrimaryKeyConstraint("digest"),
    )
    op.create_index("ix_password_reset_business_id", "password_reset", ["business_id"])
    op.create_index("ix_password_reset_staff_id", "password_reset", ["staff_id"])
    op.create_table(
        "throttle",
        sa.Column("key", sa.String(), nullable=False),
        sa.Column("failures", sa.Integer(), nullable=False),
        sa.Column("last_at", TIMESTAMP, nullable=False),
        sa.Column("until", TIMESTAMP),
        sa.PrimaryKeyConstraint("key"),
    )
    for table in ("rendering", "webhook_replay", "access_token", "known_place", "password_reset"):
        protect(table)
    protect_from_all("throttle")


def downgrade() -> None:
    """Take them away again."""
    for table in (
        "throttle", "password_reset", "known_place", "access_token", "webhook_replay", "rendering",
    ):  # fmt: skip
        op.drop_table(table)
    for column in ("program", "address", "last_used_at"):
        op.drop_column("session", column)
    for column in ("mail_after", "mail_tries", "mailed_to", "mailed_at"):
        op.drop_column("notice", column)
    op.drop_column("log_head", "pruned_until")
    op.drop_column("log_head", "pruned_sequence")
    for column in (
        "missed_events",
        "recent",
        "pace",
        "max_per_second",
        "max_in_flight",
        "document_by_id",
    ):
        op.drop_column("webhook_endpoint", column)
