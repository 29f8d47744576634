"""passes: passes in wallets; and the join post, which mails what was asked for on join pages."""

import sqlalchemy as sa
from alembic import op

from db.migrations.security import protect

revision = "0007"
down_revision = "0006"
TIMESTAMP = sa.DateTime(timezone=True).with_variant(sa.String(27), "sqlite")


def upgrade() -> None:
    """Add them; the former release runs on, for nothing it knows has changed."""
    op.create_table(
        "wallet_pass",
        sa.Column("serial", sa.String(), nullable=False),
        sa.Column("platform", sa.String(), nullable=False),
        sa.Column("business_id", sa.String(), nullable=False),
        sa.Column("card_id", sa.String(), nullable=False),
        sa.Column("shown", sa.String(), nullable=False),
        sa.Column("created_at", TIMESTAMP, nullable=False),
        sa.Column("changed_at", TIMESTAMP, nullable=False),
        sa.Column("due_at", TIMESTAMP),
        sa.Column("marks", sa.Integer(), nullable=False),
        sa.Column("tries", sa.Integer(), nullable=False),
        sa.Column("news_title", sa.String()),
        sa.Column("news", sa.String()),
        sa.Column("news_id", sa.String()),
        sa.Column("told", sa.Text(), nullable=False),
        sa.Column("removed_at", TIMESTAMP),
        sa.Column("heard_until", TIMESTAMP),
        sa.ForeignKeyConstraint(["business_id"], ["business.id"]),
        sa.ForeignKeyConstraint(["card_id"], ["card.id"]),
        sa.PrimaryKeyConstraint("serial", "platform"),
    )
    op.create_index(
        "wallet_pass_due",
        "wallet_pass",
        ["platform", "business_id", "due_at"],
        sqlite_where=sa.text("due_at IS NOT NULL"),
        postgresql_where=sa.text("due_at IS NOT NULL"),
    )
    op.create_index("wallet_pass_of_card", "wallet_pass", ["business_id", "card_id"])
    op.create_table(
        "pass_device",
        sa.Column("device", sa.String(), nullable=False),
        sa.Column("serial", sa.String(), nullable=False),
        sa.Column("business_id", sa.String(), nullable=False),
        sa.Column("push_token", sa.String(), nullable=False),
        sa.Column("created_at", TIMESTAMP, nullable=False),
        sa.ForeignKeyConstraint(["business_id"], ["business.id"]),
        sa.PrimaryKeyConstraint("device", "serial"),
    )
    op.create_index("pass_device_of_pass", "pass_device", ["business_id", "serial"])
    op.create_table(
        "pass_cursor",
        sa.Column("business_id", sa.String(), nullable=False),
        sa.Column("sequence", sa.BigInteger(), nullable=False),
        sa.ForeignKeyConstraint(["business_id"], ["business.id"]),
        sa.PrimaryKeyConstraint("business_id"),
    )
    for table in ("wallet_pass", "pass_device", "pass_cursor"):
        protect(table)
    op.add_column("join_request", sa.Column("sealed_secret", sa.String()))
    op.add_column(
        "join_request", sa.Column("mail_tries", sa.Integer(), nullable=False, server_default="0")
    )
    op.add_column("join_request", sa.Column("mail_after", TIMESTAMP))
    op.create_index(
        "join_request_to_mail",
        "join_request",
        ["mail_after"],
        sqlite_where=sa.text("mail_after IS NOT NULL"),
        postgresql_where=sa.text("mail_after IS NOT NULL"),
    )


def downgrade() -> None:
    """Take them away again."""
    op.drop_index("join_request_to_mail", "join_request")
    for column in ("mail_after", "mail_tries", "sealed_secret"):
        op.drop_column("join_request", column)
    for table in ("pass_cursor", "pass_device", "wallet_pass"):
        op.drop_table(table)
