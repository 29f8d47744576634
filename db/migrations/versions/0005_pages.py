"""pages: the customer's page and the join page."""

import sqlalchemy as sa
from alembic import op

from db.migrations.security import protect

revision = "0005"
down_revision = "0004"
TIMESTAMP = sa.DateTime(timezone=True).with_variant(sa.String(27), "sqlite")


def upgrade() -> None:
    """Add them; the former release runs on, for nothing it knows has changed."""
    op.add_column(
        "card_template",
        sa.Column("joining_open", sa.Boolean(), nullable=False, server_default=sa.false()),
    )
    op.add_column("card_template", sa.Column("joining_text", sa.String()))
    op.create_table(
        "join_request",
        sa.Column("id", sa.String(), nullable=False),
        sa.Column("digest", sa.String(), nullable=False),
        sa.Column("business_id", sa.String(), nullable=False),
        sa.Column("template_id", sa.String(), nullable=False),
        sa.Column("email", sa.String(), nullable=False),
        sa.Column("name", sa.String()),
        sa.Column("birthday", sa.String()),
        sa.Column("language", sa.String(), nullable=False),
        sa.Column("takes_mail", sa.Boolean(), nullable=False),
        sa.Column("takes_push", sa.Boolean(), nullable=False),
        sa.Column("created_at", TIMESTAMP, nullable=False),
        sa.Column("expires_at", TIMESTAMP, nullable=False),
        sa.Column("card_id", sa.String()),
        sa.ForeignKeyConstraint(["business_id"], ["business.id"]),
        sa.ForeignKeyConstraint(["card_id"], ["card.id"]),
        sa.ForeignKeyConstraint(["template_id"], ["card_template.id"]),
        sa.PrimaryKeyConstraint("id"),
        sa.UniqueConstraint("digest"),
    )
    op.create_index("ix_join_request_business_id", "join_request", ["business_id"])
    op.create_index("ix_join_request_card_id", "join_request", ["card_id"])
    protect("join_request")


def downgrade() -> None:
    """Take them away again."""
    op.drop_table("join_request")
    op.drop_column("card_template", "joining_text")
    op.drop_column("card_template", "joining_open")
