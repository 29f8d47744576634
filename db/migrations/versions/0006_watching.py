"""watching: refused calls and leaked keys."""

import sqlalchemy as sa
from alembic import op

from db.migrations.security import protect

revision = "0006"
down_revision = "0005"
TIMESTAMP = sa.DateTime(timezone=True).with_variant(sa.String(27), "sqlite")


def upgrade() -> None:
    """Add them; the former release runs on, for nothing it knows has changed."""
    op.add_column("api_key", sa.Column("leaked_at", TIMESTAMP))
    op.create_table(
        "refused_call",
        sa.Column("id", sa.String(), nullable=False),
        sa.Column("business_id", sa.String(), nullable=False),
        sa.Column("staff_id", sa.String(), nullable=False),
        sa.Column("mutation", sa.String(), nullable=False),
        sa.Column("code", sa.String(), nullable=False),
        sa.Column("count", sa.Integer(), nullable=False),
        sa.Column("first_at", TIMESTAMP, nullable=False),
        sa.Column("last_at", TIMESTAMP, nullable=False),
        sa.ForeignKeyConstraint(["business_id"], ["business.id"]),
        sa.ForeignKeyConstraint(["staff_id"], ["staff.id"]),
        sa.PrimaryKeyConstraint("id"),
    )
    op.create_index("ix_refused_call_business_id", "refused_call", ["business_id"])
    op.create_index("ix_refused_call_last_at", "refused_call", ["last_at"])
    protect("refused_call")


def downgrade() -> None:
    """Take them away again."""
    op.drop_table("refused_call")
    op.drop_column("api_key", "leaked_at")
