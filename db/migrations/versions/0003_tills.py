"""tills: points of sale and the sales they sent."""

import sqlalchemy as sa
from alembic import op

from db.migrations.security import protect

revision = "0003"
down_revision = "0002"
TIMESTAMP = sa.DateTime(timezone=True).with_variant(sa.String(27), "sqlite")


def upgrade() -> None:
    """Add them; the former release runs on, for nothing it knows has changed."""
    op.create_table(
        "point_of_sale",
        sa.Column("id", sa.String(), nullable=False),
        sa.Column("business_id", sa.String(), nullable=False),
        sa.Column("kind", sa.String(), nullable=False),
        sa.Column("name", sa.String(), nullable=False),
        sa.Column("location_id", sa.String(), nullable=False),
        sa.Column("template_id", sa.String(), nullable=False),
        sa.Column("account", sa.String(), nullable=False),
        sa.Column("settings", sa.String()),
        sa.Column("status", sa.String(40), nullable=False),
        sa.Column("problem", sa.String()),
        sa.Column("next_set_up_at", TIMESTAMP),
        sa.Column("set_up_tries", sa.Integer(), nullable=False),
        sa.Column("last_sale_at", TIMESTAMP),
        sa.Column("created_at", TIMESTAMP, nullable=False),
        sa.Column("created_by_id", sa.String()),
        sa.Column("disconnected_at", TIMESTAMP),
        sa.Column("disconnected_by_id", sa.String()),
        sa.ForeignKeyConstraint(["business_id"], ["business.id"]),
        sa.ForeignKeyConstraint(["location_id"], ["location.id"]),
        sa.ForeignKeyConstraint(["template_id"], ["card_template.id"]),
        sa.PrimaryKeyConstraint("id"),
    )
    op.create_index("ix_point_of_sale_business_id", "point_of_sale", ["business_id"])
    op.create_index("point_of_sale_to_set_up", "point_of_sale", ["next_set_up_at"])
    op.create_index(
        "point_of_sale_one_per_account",
        "point_of_sale",
        ["business_id", "kind", "account"],
        unique=True,
        sqlite_where=sa.text("disconnected_at IS NULL"),
        postgresql_where=sa.text("disconnected_at IS NULL"),
    )
    op.create_table(
        "sale",
        sa.Column("id", sa.String(), nullable=False),
        sa.Column("business_id", sa.String(), nullable=False),
        sa.Column("point_of_sale_id", sa.String(), nullable=False),
        sa.Column("kind", sa.String(), nullable=False),
        sa.Column("account", sa.String(), nullable=False),
        sa.Column("sale_id", sa.String(), nullable=False),
        sa.Column("status", sa.String(40), nullable=False),
        sa.Column("problem", sa.String()),
        sa.Column("amount", sa.BigInteger()),
        sa.Column("currency", sa.String()),
        sa.Column("card_id", sa.String()),
        sa.Column("guest", sa.String()),
        sa.Column("to_fetch", sa.Boolean(), nullable=False),
        sa.Column("closed_at", TIMESTAMP),
        sa.Column("refunded_at", TIMESTAMP),
        sa.Column("received_at", TIMESTAMP, nullable=False),
        sa.Column("operation_id", sa.String()),
        sa.Column("claim_code_id", sa.String()),
        sa.Column("attempts", sa.Integer(), nullable=False),
        sa.Column("next_attempt_at", TIMESTAMP, nullable=False),
        sa.Column("lease_until", TIMESTAMP, nullable=False),
        sa.ForeignKeyConstraint(["business_id"], ["business.id"]),
        sa.ForeignKeyConstraint(["card_id"], ["card.id"]),
        sa.ForeignKeyConstraint(["claim_code_id"], ["claim_code.id"]),
        sa.ForeignKeyConstraint(["operation_id"], ["operation.id"]),
        sa.ForeignKeyConstraint(["point_of_sale_id"], ["point_of_sale.id"]),
        sa.PrimaryKeyConstraint("id"),
        sa.UniqueConstraint("business_id", "kind", "account", "sale_id"),
    )
    op.create_index("ix_sale_card_id", "sale", ["card_id"])
    op.create_index("ix_sale_point_of_sale_id", "sale", ["point_of_sale_id"])
    op.create_index("sale_due", "sale", ["status", "next_attempt_at"])
    for table in ("point_of_sale", "sale"):
        protect(table)


def downgrade() -> None:
    """Take them away again."""
    op.drop_table("sale")
    op.drop_table("point_of_sale")
