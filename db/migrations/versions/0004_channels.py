"""channels: connected channels, and how customers are reached."""

import sqlalchemy as sa
from alembic import op

from db.migrations.security import protect, protect_from_all

revision = "0004"
down_revision = "0003"
TIMESTAMP = sa.DateTime(timezone=True).with_variant(sa.String(27), "sqlite")


def upgrade() -> None:
    """Add them; the former release runs on, for nothing it knows has changed."""
    op.create_table(
        "channel_connection",
        sa.Column("id", sa.String(), nullable=False),
        sa.Column("business_id", sa.String(), nullable=False),
        sa.Column("kind", sa.String(40), nullable=False),
        sa.Column("settings", sa.String(), nullable=False),
        sa.Column("facts", sa.Text(), nullable=False),
        sa.Column("phone_messenger", sa.String(40)),
        sa.Column("paused_until", TIMESTAMP),
        sa.Column("last_error", sa.String()),
        sa.Column("connected_at", TIMESTAMP, nullable=False),
        sa.Column("connected_by_id", sa.String()),
        sa.Column("disconnected_at", TIMESTAMP),
        sa.ForeignKeyConstraint(["business_id"], ["business.id"]),
        sa.PrimaryKeyConstraint("id"),
        sa.UniqueConstraint("business_id", "kind"),
    )
    op.create_table(
        "contact",
        sa.Column("id", sa.String(), nullable=False),
        sa.Column("business_id", sa.String(), nullable=False),
        sa.Column("customer_id", sa.String(), nullable=False),
        sa.Column("connection_id", sa.String(), nullable=False),
        sa.Column("messenger", sa.String(40), nullable=False),
        sa.Column("address", sa.String(), nullable=False),
        sa.Column("source", sa.String(), nullable=False),
        sa.Column("opted_in_at", TIMESTAMP, nullable=False),
        sa.Column("revoked_at", TIMESTAMP),
        sa.Column("revoked_by", sa.String()),
        sa.ForeignKeyConstraint(["business_id"], ["business.id"]),
        sa.ForeignKeyConstraint(["connection_id"], ["channel_connection.id"]),
        sa.ForeignKeyConstraint(["customer_id"], ["customer.id"]),
        sa.PrimaryKeyConstraint("id"),
        sa.UniqueConstraint("connection_id", "messenger", "address"),
    )
    op.create_index("contact_of_customer", "contact", ["business_id", "customer_id"])
    op.create_table(
        "used_link",
        sa.Column("digest", sa.String(), nullable=False),
        sa.Column("business_id", sa.String(), nullable=False),
        sa.Column("expires_at", TIMESTAMP, nullable=False),
        sa.ForeignKeyConstraint(["business_id"], ["business.id"]),
        sa.PrimaryKeyConstraint("digest"),
    )
    op.create_index("ix_used_link_business_id", "used_link", ["business_id"])
    op.create_table(
        "push_subscription",
        sa.Column("id", sa.String(), nullable=False),
        sa.Column("business_id", sa.String(), nullable=False),
        sa.Column("customer_id", sa.String(), nullable=False),
        sa.Column("endpoint", sa.String(), nullable=False),
        sa.Column("endpoint_digest", sa.String(), nullable=False),
        sa.Column("p256dh", sa.String(), nullable=False),
        sa.Column("auth", sa.String(), nullable=False),
        sa.Column("created_at", TIMESTAMP, nullable=False),
        sa.ForeignKeyConstraint(["business_id"], ["business.id"]),
        sa.ForeignKeyConstraint(["customer_id"], ["customer.id"]),
        sa.PrimaryKeyConstraint("id"),
        sa.UniqueConstraint("customer_id", "endpoint_digest"),
    )
    op.create_index(
        "push_subscription_of_customer", "push_subscription", ["business_id", "customer_id"]
    )
    op.create_table(
        "deployment_key",
        sa.Column("name", sa.String(), nullable=False),
        sa.Column("public", sa.String(), nullable=False),
        sa.Column("ciphertext", sa.String(), nullable=False),
        sa.Column("created_at", TIMESTAMP, nullable=False),
        sa.PrimaryKeyConstraint("name"),
    )
    op.add_column(
        "message", sa.Column("held_back", sa.Integer(), nullable=False, server_default="0")
    )
    op.add_column("message", sa.Column("reference", sa.String()))
    op.add_column("message", sa.Column("delivered_at", TIMESTAMP))
    op.add_column("message", sa.Column("undelivered", sa.String()))
    op.create_index("message_by_reference", "message", ["business_id", "reference"])
    for table in ("channel_connection", "contact", "used_link", "push_subscription"):
        protect(table)
    protect_from_all("deployment_key")


def downgrade() -> None:
    """Take them away again."""
    op.drop_index("message_by_reference", "message")
    for column in ("undelivered", "delivered_at", "reference", "held_back"):
        op.drop_column("message", column)
    for table in (
        "deployment_key", "push_subscription", "used_link", "contact", "channel_connection",
    ):  # fmt: skip
        op.drop_table(table)
