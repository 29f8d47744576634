"""the first tables."""

import sqlalchemy as sa
from alembic import op

from db.migrations.security import make_roles, protect

revision = "0001"
down_revision = None
TIMESTAMP = sa.DateTime(timezone=True).with_variant(sa.String(27), "sqlite")

TENANT_TABLES = (
    "agenda",
    "api_key",
    "attempt",
    "birthday_gift",
    "campaign",
    "campaign_recipient",
    "card",
    "card_platform",
    "card_template",
    "card_template_version",
    "claim_code",
    "consent",
    "customer",
    "daily_figure",
    "delivery",
    "event",
    "goal",
    "idempotency",
    "import_job",
    "import_row",
    "location",
    "log_head",
    "lottery_ticket",
    "lottery_variant",
    "message",
    "notice",
    "operation",
    "reward",
    "session",
    "signing_secret",
    "staff",
    "upload",
    "upload_chunk",
    "voucher",
    "voucher_template",
    "webhook_endpoint",
)


def upgrade() -> None:
    op.create_table(
        "business",
        sa.Column("id", sa.String(), nullable=False),
        sa.Column("name", sa.String(), nullable=False),
        sa.Column("logo_url", sa.String(), nullable=True),
        sa.Column("timezone", sa.String(), nullable=False),
        sa.Column("default_language", sa.String(), nullable=False),
        sa.Column("currency", sa.String(), nullable=False),
        sa.Column("mode", sa.String(40), nullable=False),
        sa.Column("vocabulary", sa.String(40), nullable=False),
        sa.Column("plan", sa.String(), nullable=False),
        sa.Column("event_retention_days", sa.Integer(), nullable=True),
        sa.Column("clock_offset", sa.Integer(), nullable=False),
        sa.Column("created_at", TIMESTAMP, nullable=False),
        sa.PrimaryKeyConstraint("id"),
    )
    op.create_table(
        "agenda",
        sa.Column("business_id", sa.String(), nullable=False),
        sa.Column("next_at", TIMESTAMP, nullable=False),
        sa.Column("birthdays_done", sa.Date(), nullable=False),
        sa.Column("lease_owner", sa.String(), nullable=True),
        sa.Column("lease_until", TIMESTAMP, nullable=False),
        sa.ForeignKeyConstraint(
            ["business_id"],
            ["business.id"],
        ),
        sa.PrimaryKeyConstraint("business_id"),
    )
    op.create_index(op.f("ix_agenda_next_at"), "agenda", ["next_at"], unique=False)
    op.create_table(
        "card_template",
        sa.Column("id", sa.String(), nullable=False),
        sa.Column("business_id", sa.String(), nullable=False),
        sa.Column("name", sa.String(), nullable=False),
        sa.Column("version", sa.Integer(), nullable=False),
        sa.Column("draft_version", sa.Integer(), nullable=True),
        sa.Column("created_at", TIMESTAMP, nullable=False),
        sa.Column("published_at", TIMESTAMP, nullable=True),
        sa.Column("published_by", sa.String(), nullable=True),
        sa.Column("archived_at", TIMESTAMP, nullable=True),
        sa.Column("archived_by", sa.String(), nullable=True),
        sa.ForeignKeyConstraint(
            ["business_id"],
            ["business.id"],
        ),
        sa.PrimaryKeyConstraint("id"),
    )
    op.create_index(
        op.f("ix_card_template_business_id"), "card_template", ["business_id"], unique=False
    )
    op.create_table(
        "customer",
        sa.Column("id", sa.String(), nullable=False),
        sa.Column("business_id", sa.String(), nullable=False),
        sa.Column("name", sa.String(), nullable=True),
        sa.Column("email", sa.String(), nullable=True),
        sa.Column("phone", sa.String(), nullable=True),
        sa.Column("birth_year", sa.Integer(), nullable=True),
        sa.Column("birth_month", sa.Integer(), nullable=True),
        sa.Column("birth_day", sa.Integer(), nullable=True),
        sa.Column("birthday_changed_at", TIMESTAMP, nullable=True),
        sa.Column("language", sa.String(), nullable=False),
        sa.Column("created_at", TIMESTAMP, nullable=False),
        sa.Column("last_activity_at", TIMESTAMP, nullable=True),
        sa.Column("erased_at", TIMESTAMP, nullable=True),
        sa.Column("erased_by_id", sa.String(), nullable=True),
        sa.Column("merged_into", sa.String(), nullable=True),
        sa.Column("merged_at", TIMESTAMP, nullable=True),
        sa.Column("merged_by_id", sa.String(), nullable=True),
        sa.ForeignKeyConstraint(
            ["business_id"],
            ["business.id"],
        ),
        sa.PrimaryKeyConstraint("id"),
        sa.UniqueConstraint("business_id", "email"),
        sa.UniqueConstraint("business_id", "phone"),
    )
    op.create_index(
        "customer_birthday", "customer", ["business_id", "birth_month", "birth_day"], unique=False
    )
    op.create_index(op.f("ix_customer_business_id"), "customer", ["business_id"], unique=False)
    op.create_index(op.f("ix_customer_merged_into"), "customer", ["merged_into"], unique=False)
    op.create_table(
        "daily_figure",
        sa.Column("business_id", sa.String(), nullable=False),
        sa.Column("day", sa.Date(), nullable=False),
        sa.Column("location_id", sa.String(), nullable=False),
        sa.Column("staff_id", sa.String(), nullable=False),
        sa.Column("template_id", sa.String(), nullable=False),
        sa.Column("new_cards", sa.Integer(), nullable=False),
        sa.Column("deleted_cards", sa.Integer(), nullable=False),
        sa.Column("stamp_operations", sa.Integer(), nullable=False),
        sa.Column("stamps", sa.Integer(), nullable=False),
        sa.Column("awards_issued", sa.Integer(), nullable=False),
        sa.Column("vouchers_issued", sa.Integer(), nullable=False),
        sa.Column("vouchers_redeemed", sa.Integer(), nullable=False),
        sa.Column("cohort_redeemed", sa.Integer(), nullable=False),
        sa.Column("vouchers_expired", sa.Integer(), nullable=False),
        sa.Column("birthday_gifts", sa.Integer(), nullable=False),
        sa.Column("lottery_plays", sa.Integer(), nullable=False),
        sa.Column("notifications", sa.Integer(), nullable=False),
        sa.Column("last_at", TIMESTAMP, nullable=True),
        sa.ForeignKeyConstraint(
            ["business_id"],
            ["business.id"],
        ),
        sa.PrimaryKeyConstraint("business_id", "day", "location_id", "staff_id", "template_id"),
    )
    op.create_index(
        "figure_of_staff", "daily_figure", ["business_id", "staff_id", "day"], unique=False
    )
    op.create_table(
        "event",
        sa.Column("business_id", sa.String(), nullable=False),
        sa.Column("sequence", sa.BigInteger(), nullable=False),
        sa.Column("id", sa.String(), nullable=False),
        sa.Column("type", sa.String(), nullable=False),
        sa.Column("occurred_at", TIMESTAMP, nullable=False),
        sa.Column("actor_id", sa.String(), nullable=True),
        sa.Column("location_id", sa.String(), nullable=True),
        sa.Column("customer_id", sa.String(), nullable=True),
        sa.Column("card_id", sa.String(), nullable=True),
        sa.Column("body", sa.String(), nullable=False),
        sa.ForeignKeyConstraint(
            ["business_id"],
            ["business.id"],
        ),
        sa.PrimaryKeyConstraint("business_id", "sequence"),
        sa.UniqueConstraint("id"),
    )
    op.create_index("event_by_time", "event", ["business_id", "occurred_at"], unique=False)
    op.create_index("event_by_type", "event", ["business_id", "type", "sequence"], unique=False)
    op.create_index("event_of_card", "event", ["card_id", "sequence"], unique=False)
    op.create_table(
        "idempotency",
        sa.Column("business_id", sa.String(), nullable=False),
        sa.Column("actor_id", sa.String(), nullable=False),
        sa.Column("mutation", sa.String(), nullable=False),
        sa.Column("key", sa.String(), nullable=False),
        sa.Column("fingerprint", sa.String(), nullable=False),
        sa.Column("outcome", sa.Text(), nullable=True),
        sa.Column("created_at", TIMESTAMP, nullable=False),
        sa.ForeignKeyConstraint(
            ["business_id"],
            ["business.id"],
        ),
        sa.PrimaryKeyConstraint("business_id", "actor_id", "mutation", "key"),
    )
    op.create_index(op.f("ix_idempotency_created_at"), "idempotency", ["created_at"], unique=False)
    op.create_table(
        "location",
        sa.Column("id", sa.String(), nullable=False),
        sa.Column("business_id", sa.String(), nullable=False),
        sa.Column("name", sa.String(), nullable=False),
        sa.Column("address", sa.String(), nullable=True),
        sa.Column("latitude", sa.Float(), nullable=True),
        sa.Column("longitude", sa.Float(), nullable=True),
        sa.Column("timezone", sa.String(), nullable=True),
        sa.Column("created_at", TIMESTAMP, nullable=False),
        sa.Column("archived_at", TIMESTAMP, nullable=True),
        sa.Column("archived_by", sa.String(), nullable=True),
        sa.ForeignKeyConstraint(
            ["business_id"],
            ["business.id"],
        ),
        sa.PrimaryKeyConstraint("id"),
    )
    op.create_index(op.f("ix_location_business_id"), "location", ["business_id"], unique=False)
    op.create_table(
        "log_head",
        sa.Column("business_id", sa.String(), nullable=False),
        sa.Column("sequence", sa.BigInteger(), nullable=False),
        sa.Column("access_version", sa.Integer(), nullable=False),
        sa.ForeignKeyConstraint(
            ["business_id"],
            ["business.id"],
        ),
        sa.PrimaryKeyConstraint("business_id"),
    )
    op.create_table(
        "notice",
        sa.Column("id", sa.String(), nullable=False),
        sa.Column("business_id", sa.String(), nullable=False),
        sa.Column("kind", sa.String(40), nullable=False),
        sa.Column("subject_id", sa.String(), nullable=False),
        sa.Column("step", sa.String(), nullable=False),
        sa.Column("message", sa.String(), nullable=False),
        sa.Column("created_at", TIMESTAMP, nullable=False),
        sa.ForeignKeyConstraint(
            ["business_id"],
            ["business.id"],
        ),
        sa.PrimaryKeyConstraint("id"),
        sa.UniqueConstraint("kind", "subject_id", "step"),
    )
    op.create_index(op.f("ix_notice_business_id"), "notice", ["business_id"], unique=False)
    op.create_table(
        "upload",
        sa.Column("id", sa.String(), nullable=False),
        sa.Column("business_id", sa.String(), nullable=False),
        sa.Column("media_type", sa.String(), nullable=False),
        sa.Column("size", sa.Integer(), nullable=False),
        sa.Column("sha256", sa.String(), nullable=True),
        sa.Column("is_public", sa.Boolean(), nullable=False),
        sa.Column("created_at", TIMESTAMP, nullable=False),
        sa.Column("created_by_id", sa.String(), nullable=True),
        sa.Column("completed_at", TIMESTAMP, nullable=True),
        sa.Column("emptied_at", TIMESTAMP, nullable=True),
        sa.ForeignKeyConstraint(
            ["business_id"],
            ["business.id"],
        ),
        sa.PrimaryKeyConstraint("id"),
    )
    op.create_index(op.f("ix_upload_business_id"), "upload", ["business_id"], unique=False)
    op.create_index(op.f("ix_upload_sha256"), "upload", ["sha256"], unique=False)
    op.create_index(
        "upload_kept", "upload", ["is_public", "emptied_at", "created_at"], unique=False
    )
    op.create_table(
        "voucher_template",
        sa.Column("id", sa.String(), nullable=False),
        sa.Column("business_id", sa.String(), nullable=False),
        sa.Column("title", sa.String(), nullable=False),
        sa.Column("description", sa.String(), nullable=True),
        sa.Column("image_url", sa.String(), nullable=True),
        sa.Column("redeem_code", sa.String(), nullable=True),
        sa.Column("generates_code", sa.Boolean(), nullable=False),
        sa.Column("validity", sa.String(40), nullable=False),
        sa.Column("validity_number", sa.Integer(), nullable=True),
        sa.Column("validity_date", sa.Date(), nullable=True),
        sa.Column("redemption_mode", sa.String(40), nullable=False),
        sa.Column("created_at", TIMESTAMP, nullable=False),
        sa.Column("archived_at", TIMESTAMP, nullable=True),
        sa.Column("archived_by", sa.String(), nullable=True),
        sa.ForeignKeyConstraint(
            ["business_id"],
            ["business.id"],
        ),
        sa.PrimaryKeyConstraint("id"),
    )
    op.create_index(
        op.f("ix_voucher_template_business_id"), "voucher_template", ["business_id"], unique=False
    )
    op.create_table(
        "webhook_endpoint",
        sa.Column("id", sa.String(), nullable=False),
        sa.Column("business_id", sa.String(), nullable=False),
        sa.Column("name", sa.String(), nullable=True),
        sa.Column("url", sa.String(), nullable=False),
        sa.Column("types", sa.Text(), nullable=True),
        sa.Column("vocabulary", sa.String(40), nullable=False),
        sa.Column("ordering", sa.String(40), nullable=False),
        sa.Column("headers", sa.String(), nullable=True),
        sa.Column("include_contact", sa.Boolean(), nullable=False),
        sa.Column("document", sa.String(), nullable=True),
        sa.Column("is_rest_hook", sa.Boolean(), nullable=False),
        sa.Column("status", sa.String(40), nullable=False),
        sa.Column("disabled_reason", sa.String(), nullable=True),
        sa.Column("cursor_sequence", sa.BigInteger(), nullable=False),
        sa.Column("last_due_id", sa.String(), nullable=True),
        sa.Column("created_at", TIMESTAMP, nullable=False),
        sa.Column("created_by_id", sa.String(), nullable=True),
        sa.Column("deleted_at", TIMESTAMP, nullable=True),
        sa.Column("next_attempt_at", TIMESTAMP, nullable=False),
        sa.Column("retry_due_at", TIMESTAMP, nullable=True),
        sa.Column("failing_since", TIMESTAMP, nullable=True),
        sa.Column("failures", sa.Integer(), nullable=False),
        sa.Column("last_success_at", TIMESTAMP, nullable=True),
        sa.Column("lease_owner", sa.String(), nullable=True),
        sa.Column("lease_epoch", sa.Integer(), nullable=False),
        sa.Column("lease_until", TIMESTAMP, nullable=False),
        sa.ForeignKeyConstraint(
            ["business_id"],
            ["business.id"],
        ),
        sa.PrimaryKeyConstraint("id"),
    )
    op.create_index(
        "endpoint_due",
        "webhook_endpoint",
        ["status", "next_attempt_at", "lease_until"],
        unique=False,
    )
    op.create_index(
        op.f("ix_webhook_endpoint_business_id"), "webhook_endpoint", ["business_id"], unique=False
    )
    op.create_table(
        "attempt",
        sa.Column("id", sa.String(), nullable=False),
        sa.Column("business_id", sa.String(), nullable=False),
        sa.Column("endpoint_id", sa.String(), nullable=False),
        sa.Column("event_id", sa.String(), nullable=True),
        sa.Column("sequence", sa.BigInteger(), nullable=False),
        sa.Column("number", sa.Integer(), nullable=False),
        sa.Column("kind", sa.String(40), nullable=False),
        sa.Column("status", sa.String(40), nullable=False),
        sa.Column("started_at", TIMESTAMP, nullable=False),
        sa.Column("duration_ms", sa.Integer(), nullable=True),
        sa.Column("response_status", sa.Integer(), nullable=True),
        sa.Column("response_head", sa.String(), nullable=True),
        sa.Column("error", sa.String(), nullable=True),
        sa.Column("remote_address", sa.String(), nullable=True),
        sa.ForeignKeyConstraint(
            ["business_id"],
            ["business.id"],
        ),
        sa.ForeignKeyConstraint(
            ["endpoint_id"],
            ["webhook_endpoint.id"],
        ),
        sa.PrimaryKeyConstraint("id"),
    )
    op.create_index("attempt_by_time", "attempt", ["endpoint_id", "id"], unique=False)
    op.create_index(
        "attempt_of_endpoint", "attempt", ["endpoint_id", "sequence", "number"], unique=False
    )
    op.create_index(op.f("ix_attempt_business_id"), "attempt", ["business_id"], unique=False)
    op.create_table(
        "birthday_gift",
        sa.Column("business_id", sa.String(), nullable=False),
        sa.Column("customer_id", sa.String(), nullable=False),
        sa.Column("template_id", sa.String(), nullable=False),
        sa.Column("year", sa.Integer(), nullable=False),
        sa.Column("at", TIMESTAMP, nullable=False),
        sa.ForeignKeyConstraint(
            ["business_id"],
            ["business.id"],
        ),
        sa.ForeignKeyConstraint(
            ["customer_id"],
            ["customer.id"],
        ),
        sa.ForeignKeyConstraint(
            ["template_id"],
            ["card_template.id"],
        ),
        sa.PrimaryKeyConstraint("customer_id", "template_id", "year"),
    )
    op.create_index(
        op.f("ix_birthday_gift_business_id"), "birthday_gift", ["business_id"], unique=False
    )
    op.create_table(
        "campaign",
        sa.Column("id", sa.String(), nullable=False),
        sa.Column("business_id", sa.String(), nullable=False),
        sa.Column("name", sa.String(), nullable=False),
        sa.Column("template_id", sa.String(), nullable=False),
        sa.Column("notification_text", sa.String(), nullable=False),
        sa.Column("message_text", sa.String(), nullable=False),
        sa.Column("channels", sa.Text(), nullable=False),
        sa.Column("segment", sa.Text(), nullable=False),
        sa.Column("voucher_template_id", sa.String(), nullable=True),
        sa.Column("status", sa.String(40), nullable=False),
        sa.Column("audience_size", sa.Integer(), nullable=False),
        sa.Column("prepared", sa.Integer(), nullable=False),
        sa.Column("scheduled_at", TIMESTAMP, nullable=False),
        sa.Column("created_at", TIMESTAMP, nullable=False),
        sa.Column("created_by_id", sa.String(), nullable=True),
        sa.Column("started_at", TIMESTAMP, nullable=True),
        sa.Column("finished_at", TIMESTAMP, nullable=True),
        sa.Column("cancelled_at", TIMESTAMP, nullable=True),
        sa.Column("cancelled_by_id", sa.String(), nullable=True),
        sa.ForeignKeyConstraint(
            ["business_id"],
            ["business.id"],
        ),
        sa.ForeignKeyConstraint(
            ["template_id"],
            ["card_template.id"],
        ),
        sa.ForeignKeyConstraint(
            ["voucher_template_id"],
            ["voucher_template.id"],
        ),
        sa.PrimaryKeyConstraint("id"),
    )
    op.create_index(
        "campaign_by_status", "campaign", ["status", "business_id", "scheduled_at"], unique=False
    )
    op.create_table(
        "card_template_version",
        sa.Column("id", sa.String(), nullable=False),
        sa.Column("business_id", sa.String(), nullable=False),
        sa.Column("template_id", sa.String(), nullable=False),
        sa.Column("version", sa.Integer(), nullable=False),
        sa.Column("design", sa.Text(), nullable=False),
        sa.Column("stamps_required", sa.Integer(), nullable=False),
        sa.Column("earning_rule", sa.String(40), nullable=False),
        sa.Column("amount_per_stamp", sa.BigInteger(), nullable=True),
        sa.Column("overflow", sa.String(40), nullable=False),
        sa.Column("max_stamps_per_operation", sa.Integer(), nullable=True),
        sa.Column("max_stamps_per_day", sa.Integer(), nullable=True),
        sa.Column("min_seconds_between", sa.Integer(), nullable=True),
        sa.Column("birthday_days_before", sa.Integer(), nullable=True),
        sa.Column("birthday_voucher_template_id", sa.String(), nullable=True),
        sa.Column("inactivity_days", sa.Integer(), nullable=True),
        sa.Column("auto_play", sa.Boolean(), nullable=False),
        sa.Column("created_at", TIMESTAMP, nullable=False),
        sa.Column("created_by", sa.String(), nullable=True),
        sa.ForeignKeyConstraint(
            ["birthday_voucher_template_id"],
            ["voucher_template.id"],
        ),
        sa.ForeignKeyConstraint(
            ["business_id"],
            ["business.id"],
        ),
        sa.ForeignKeyConstraint(
            ["template_id"],
            ["card_template.id"],
        ),
        sa.PrimaryKeyConstraint("id"),
        sa.UniqueConstraint("template_id", "version"),
    )
    op.create_index(
        op.f("ix_card_template_version_business_id"),
        "card_template_version",
        ["business_id"],
        unique=False,
    )
    op.create_table(
        "consent",
        sa.Column("id", sa.String(), nullable=False),
        sa.Column("business_id", sa.String(), nullable=False),
        sa.Column("customer_id", sa.String(), nullable=False),
        sa.Column("channel", sa.String(40), nullable=False),
        sa.Column("granted", sa.Boolean(), nullable=False),
        sa.Column("at", TIMESTAMP, nullable=False),
        sa.Column("staff_id", sa.String(), nullable=True),
        sa.ForeignKeyConstraint(
            ["business_id"],
            ["business.id"],
        ),
        sa.ForeignKeyConstraint(
            ["customer_id"],
            ["customer.id"],
        ),
        sa.PrimaryKeyConstraint("id"),
        sa.UniqueConstraint("customer_id", "channel"),
    )
    op.create_index("consent_of_customer", "consent", ["business_id", "customer_id"], unique=False)
    op.create_table(
        "delivery",
        sa.Column("endpoint_id", sa.String(), nullable=False),
        sa.Column("sequence", sa.BigInteger(), nullable=False),
        sa.Column("business_id", sa.String(), nullable=False),
        sa.Column("card_id", sa.String(), nullable=True),
        sa.Column("previous_id", sa.String(), nullable=True),
        sa.Column("state", sa.String(40), nullable=False),
        sa.Column("tries", sa.Integer(), nullable=False),
        sa.Column("next_attempt_at", TIMESTAMP, nullable=True),
        sa.Column("last_error", sa.String(), nullable=True),
        sa.ForeignKeyConstraint(
            ["business_id"],
            ["business.id"],
        ),
        sa.ForeignKeyConstraint(
            ["endpoint_id"],
            ["webhook_endpoint.id"],
        ),
        sa.PrimaryKeyConstraint("endpoint_id", "sequence"),
    )
    op.create_index(
        "delivery_due", "delivery", ["endpoint_id", "state", "next_attempt_at"], unique=False
    )
    op.create_index(op.f("ix_delivery_business_id"), "delivery", ["business_id"], unique=False)
    op.create_table(
        "import_job",
        sa.Column("id", sa.String(), nullable=False),
        sa.Column("business_id", sa.String(), nullable=False),
        sa.Column("upload_id", sa.String(), nullable=False),
        sa.Column("template_id", sa.String(), nullable=True),
        sa.Column("dry_run", sa.Boolean(), nullable=False),
        sa.Column("status", sa.String(40), nullable=False),
        sa.Column("message", sa.String(), nullable=True),
        sa.Column("total", sa.Integer(), nullable=True),
        sa.Column("done", sa.Integer(), nullable=False),
        sa.Column("created", sa.Integer(), nullable=False),
        sa.Column("matched", sa.Integer(), nullable=False),
        sa.Column("rejected", sa.Integer(), nullable=False),
        sa.Column("created_at", TIMESTAMP, nullable=False),
        sa.Column("created_by_id", sa.String(), nullable=True),
        sa.Column("finished_at", TIMESTAMP, nullable=True),
        sa.Column("lease_owner", sa.String(), nullable=True),
        sa.Column("lease_until", TIMESTAMP, nullable=False),
        sa.ForeignKeyConstraint(
            ["business_id"],
            ["business.id"],
        ),
        sa.ForeignKeyConstraint(
            ["template_id"],
            ["card_template.id"],
        ),
        sa.ForeignKeyConstraint(
            ["upload_id"],
            ["upload.id"],
        ),
        sa.PrimaryKeyConstraint("id"),
    )
    op.create_index("import_waiting", "import_job", ["status", "lease_until"], unique=False)
    op.create_index(op.f("ix_import_job_business_id"), "import_job", ["business_id"], unique=False)
    op.create_table(
        "signing_secret",
        sa.Column("id", sa.String(), nullable=False),
        sa.Column("business_id", sa.String(), nullable=False),
        sa.Column("endpoint_id", sa.String(), nullable=False),
        sa.Column("ciphertext", sa.String(), nullable=False),
        sa.Column("created_at", TIMESTAMP, nullable=False),
        sa.Column("expires_at", TIMESTAMP, nullable=True),
        sa.ForeignKeyConstraint(
            ["business_id"],
            ["business.id"],
        ),
        sa.ForeignKeyConstraint(
            ["endpoint_id"],
            ["webhook_endpoint.id"],
        ),
        sa.PrimaryKeyConstraint("id"),
    )
    op.create_index(
        op.f("ix_signing_secret_business_id"), "signing_secret", ["business_id"], unique=False
    )
    op.create_index(
        op.f("ix_signing_secret_endpoint_id"), "signing_secret", ["endpoint_id"], unique=False
    )
    op.create_table(
        "staff",
        sa.Column("id", sa.String(), nullable=False),
        sa.Column("business_id", sa.String(), nullable=False),
        sa.Column("location_id", sa.String(), nullable=True),
        sa.Column("name", sa.String(), nullable=False),
        sa.Column("login", sa.String(), nullable=False),
        sa.Column("password_digest", sa.String(), nullable=False),
        sa.Column("role", sa.String(40), nullable=False),
        sa.Column("mode", sa.String(40), nullable=False),
        sa.Column("created_at", TIMESTAMP, nullable=False),
        sa.Column("disabled_at", TIMESTAMP, nullable=True),
        sa.Column("disabled_by", sa.String(), nullable=True),
        sa.ForeignKeyConstraint(
            ["business_id"],
            ["business.id"],
        ),
        sa.ForeignKeyConstraint(
            ["location_id"],
            ["location.id"],
        ),
        sa.PrimaryKeyConstraint("id"),
        sa.UniqueConstraint("login"),
    )
    op.create_index(op.f("ix_staff_business_id"), "staff", ["business_id"], unique=False)
    op.create_table(
        "upload_chunk",
        sa.Column("upload_id", sa.String(), nullable=False),
        sa.Column("position", sa.Integer(), nullable=False),
        sa.Column("business_id", sa.String(), nullable=False),
        sa.Column("data", sa.LargeBinary(), nullable=False),
        sa.ForeignKeyConstraint(
            ["business_id"],
            ["business.id"],
        ),
        sa.ForeignKeyConstraint(
            ["upload_id"],
            ["upload.id"],
        ),
        sa.PrimaryKeyConstraint("upload_id", "position"),
    )
    op.create_index(
        op.f("ix_upload_chunk_business_id"), "upload_chunk", ["business_id"], unique=False
    )
    op.create_table(
        "api_key",
        sa.Column("id", sa.String(), nullable=False),
        sa.Column("business_id", sa.String(), nullable=False),
        sa.Column("staff_id", sa.String(), nullable=False),
        sa.Column("name", sa.String(), nullable=False),
        sa.Column("hint", sa.String(), nullable=False),
        sa.Column("digest", sa.String(), nullable=False),
        sa.Column("former_digest", sa.String(), nullable=True),
        sa.Column("former_until", TIMESTAMP, nullable=True),
        sa.Column("created_at", TIMESTAMP, nullable=False),
        sa.Column("last_used_at", TIMESTAMP, nullable=True),
        sa.Column("regenerated_at", TIMESTAMP, nullable=True),
        sa.Column("expires_at", TIMESTAMP, nullable=True),
        sa.ForeignKeyConstraint(
            ["business_id"],
            ["business.id"],
        ),
        sa.ForeignKeyConstraint(
            ["staff_id"],
            ["staff.id"],
        ),
        sa.PrimaryKeyConstraint("id"),
        sa.UniqueConstraint("digest"),
        sa.UniqueConstraint("former_digest"),
        sa.UniqueConstraint("staff_id"),
    )
    op.create_index(op.f("ix_api_key_business_id"), "api_key", ["business_id"], unique=False)
    op.create_table(
        "card",
        sa.Column("id", sa.String(), nullable=False),
        sa.Column("business_id", sa.String(), nullable=False),
        sa.Column("number", sa.String(), nullable=False),
        sa.Column("customer_id", sa.String(), nullable=False),
        sa.Column("template_id", sa.String(), nullable=False),
        sa.Column("version_id", sa.String(), nullable=False),
        sa.Column("stamps", sa.Integer(), nullable=False),
        sa.Column("cycle", sa.Integer(), nullable=False),
        sa.Column("lines", sa.Integer(), nullable=False),
        sa.Column("token", sa.String(), nullable=False),
        sa.Column("wallet_pass_id", sa.String(), nullable=False),
        sa.Column("issued_by_id", sa.String(), nullable=True),
        sa.Column("location_id", sa.String(), nullable=True),
        sa.Column("created_at", TIMESTAMP, nullable=False),
        sa.Column("last_stamp_at", TIMESTAMP, nullable=True),
        sa.Column("last_opened_at", TIMESTAMP, nullable=True),
        sa.Column("last_activity_at", TIMESTAMP, nullable=True),
        sa.Column("quiet_told_at", TIMESTAMP, nullable=True),
        sa.Column("merged_into", sa.String(), nullable=True),
        sa.Column("replaced_at", TIMESTAMP, nullable=True),
        sa.Column("replaced_by_id", sa.String(), nullable=True),
        sa.Column("deleted_at", TIMESTAMP, nullable=True),
        sa.Column("deleted_by_id", sa.String(), nullable=True),
        sa.CheckConstraint("stamps >= 0 AND cycle >= 1"),
        sa.ForeignKeyConstraint(
            ["business_id"],
            ["business.id"],
        ),
        sa.ForeignKeyConstraint(
            ["customer_id"],
            ["customer.id"],
        ),
        sa.ForeignKeyConstraint(
            ["template_id"],
            ["card_template.id"],
        ),
        sa.ForeignKeyConstraint(
            ["version_id"],
            ["card_template_version.id"],
        ),
        sa.PrimaryKeyConstraint("id"),
        sa.UniqueConstraint("business_id", "number"),
        sa.UniqueConstraint("token"),
        sa.UniqueConstraint("wallet_pass_id"),
    )
    op.create_index(
        "card_by_activity",
        "card",
        ["business_id", "customer_id", "template_id", "last_activity_at", "location_id"],
        unique=False,
        sqlite_where=sa.text("deleted_at IS NULL"),
        postgresql_where=sa.text("deleted_at IS NULL"),
    )
    op.create_index(
        "card_in_use",
        "card",
        ["business_id", "template_id", "stamps", "location_id"],
        unique=False,
        sqlite_where=sa.text("deleted_at IS NULL"),
        postgresql_where=sa.text("deleted_at IS NULL"),
    )
    op.create_index(
        "card_not_told",
        "card",
        ["template_id", "last_activity_at"],
        unique=False,
        sqlite_where=sa.text(
            "deleted_at IS NULL AND (quiet_told_at IS NULL OR quiet_told_at < last_activity_at)"
        ),
        postgresql_where=sa.text(
            "deleted_at IS NULL AND (quiet_told_at IS NULL OR quiet_told_at < last_activity_at)"
        ),
    )
    op.create_index("card_of_business", "card", ["business_id", "id"], unique=False)
    op.create_index(
        "card_one_per_customer",
        "card",
        ["customer_id", "template_id"],
        unique=True,
        sqlite_where=sa.text("deleted_at IS NULL"),
        postgresql_where=sa.text("deleted_at IS NULL"),
    )
    op.create_index(op.f("ix_card_merged_into"), "card", ["merged_into"], unique=False)
    op.create_index(op.f("ix_card_template_id"), "card", ["template_id"], unique=False)
    op.create_table(
        "goal",
        sa.Column("id", sa.String(), nullable=False),
        sa.Column("business_id", sa.String(), nullable=False),
        sa.Column("version_id", sa.String(), nullable=False),
        sa.Column("position", sa.Integer(), nullable=False),
        sa.Column("stamps", sa.Integer(), nullable=False),
        sa.Column("reward_type", sa.String(40), nullable=False),
        sa.Column("title", sa.String(), nullable=False),
        sa.Column("description", sa.String(), nullable=True),
        sa.Column("image_url", sa.String(), nullable=True),
        sa.Column("voucher_template_id", sa.String(), nullable=True),
        sa.ForeignKeyConstraint(
            ["business_id"],
            ["business.id"],
        ),
        sa.ForeignKeyConstraint(
            ["version_id"],
            ["card_template_version.id"],
        ),
        sa.ForeignKeyConstraint(
            ["voucher_template_id"],
            ["voucher_template.id"],
        ),
        sa.PrimaryKeyConstraint("id"),
        sa.UniqueConstraint("version_id", "position"),
    )
    op.create_index(op.f("ix_goal_business_id"), "goal", ["business_id"], unique=False)
    op.create_table(
        "import_row",
        sa.Column("job_id", sa.String(), nullable=False),
        sa.Column("row", sa.Integer(), nullable=False),
        sa.Column("business_id", sa.String(), nullable=False),
        sa.Column("status", sa.String(40), nullable=False),
        sa.Column("message", sa.String(), nullable=True),
        sa.Column("customer_id", sa.String(), nullable=True),
        sa.ForeignKeyConstraint(
            ["business_id"],
            ["business.id"],
        ),
        sa.ForeignKeyConstraint(
            ["customer_id"],
            ["customer.id"],
        ),
        sa.ForeignKeyConstraint(
            ["job_id"],
            ["import_job.id"],
        ),
        sa.PrimaryKeyConstraint("job_id", "row"),
    )
    op.create_index(op.f("ix_import_row_business_id"), "import_row", ["business_id"], unique=False)
    op.create_table(
        "session",
        sa.Column("id", sa.String(), nullable=False),
        sa.Column("business_id", sa.String(), nullable=False),
        sa.Column("staff_id", sa.String(), nullable=False),
        sa.Column("digest", sa.String(), nullable=False),
        sa.Column("created_at", TIMESTAMP, nullable=False),
        sa.Column("expires_at", TIMESTAMP, nullable=False),
        sa.Column("ended_at", TIMESTAMP, nullable=True),
        sa.ForeignKeyConstraint(
            ["business_id"],
            ["business.id"],
        ),
        sa.ForeignKeyConstraint(
            ["staff_id"],
            ["staff.id"],
        ),
        sa.PrimaryKeyConstraint("id"),
        sa.UniqueConstraint("digest"),
    )
    op.create_index(op.f("ix_session_business_id"), "session", ["business_id"], unique=False)
    op.create_index(op.f("ix_session_staff_id"), "session", ["staff_id"], unique=False)
    op.create_table(
        "card_platform",
        sa.Column("business_id", sa.String(), nullable=False),
        sa.Column("card_id", sa.String(), nullable=False),
        sa.Column("platform", sa.String(40), nullable=False),
        sa.Column("saved_at", TIMESTAMP, nullable=False),
        sa.ForeignKeyConstraint(
            ["business_id"],
            ["business.id"],
        ),
        sa.ForeignKeyConstraint(
            ["card_id"],
            ["card.id"],
        ),
        sa.PrimaryKeyConstraint("card_id", "platform"),
    )
    op.create_index("platform_of_card", "card_platform", ["business_id", "card_id"], unique=False)
    op.create_table(
        "claim_code",
        sa.Column("id", sa.String(), nullable=False),
        sa.Column("business_id", sa.String(), nullable=False),
        sa.Column("template_id", sa.String(), nullable=False),
        sa.Column("code", sa.String(), nullable=False),
        sa.Column("stamps", sa.Integer(), nullable=True),
        sa.Column("amount", sa.BigInteger(), nullable=True),
        sa.Column("external_ref", sa.String(), nullable=True),
        sa.Column("expires_at", TIMESTAMP, nullable=True),
        sa.Column("created_at", TIMESTAMP, nullable=False),
        sa.Column("created_by_id", sa.String(), nullable=True),
        sa.Column("claimed_at", TIMESTAMP, nullable=True),
        sa.Column("claimed_by_id", sa.String(), nullable=True),
        sa.Column("claimed_card_id", sa.String(), nullable=True),
        sa.Column("operation_id", sa.String(), nullable=True),
        sa.ForeignKeyConstraint(
            ["business_id"],
            ["business.id"],
        ),
        sa.ForeignKeyConstraint(
            ["claimed_card_id"],
            ["card.id"],
        ),
        sa.ForeignKeyConstraint(
            ["template_id"],
            ["card_template.id"],
        ),
        sa.PrimaryKeyConstraint("id"),
        sa.UniqueConstraint("code"),
    )
    op.create_index(op.f("ix_claim_code_business_id"), "claim_code", ["business_id"], unique=False)
    op.create_table(
        "lottery_ticket",
        sa.Column("id", sa.String(), nullable=False),
        sa.Column("business_id", sa.String(), nullable=False),
        sa.Column("card_id", sa.String(), nullable=False),
        sa.Column("operation_id", sa.String(), nullable=True),
        sa.Column("goal_id", sa.String(), nullable=False),
        sa.Column("goal_position", sa.Integer(), nullable=False),
        sa.Column("cycle", sa.Integer(), nullable=False),
        sa.Column("chain", sa.Integer(), nullable=False),
        sa.Column("status", sa.String(40), nullable=False),
        sa.Column("variants", sa.Text(), nullable=False),
        sa.Column("seed", sa.String(), nullable=False),
        sa.Column("commitment", sa.String(), nullable=False),
        sa.Column("result", sa.Text(), nullable=True),
        sa.Column("created_at", TIMESTAMP, nullable=False),
        sa.Column("played_at", TIMESTAMP, nullable=True),
        sa.ForeignKeyConstraint(
            ["business_id"],
            ["business.id"],
        ),
        sa.ForeignKeyConstraint(
            ["card_id"],
            ["card.id"],
        ),
        sa.ForeignKeyConstraint(
            ["goal_id"],
            ["goal.id"],
        ),
        sa.PrimaryKeyConstraint("id"),
    )
    op.create_index(
        op.f("ix_lottery_ticket_business_id"), "lottery_ticket", ["business_id"], unique=False
    )
    op.create_index(op.f("ix_lottery_ticket_card_id"), "lottery_ticket", ["card_id"], unique=False)
    op.create_index(
        "ticket_one_per_goal",
        "lottery_ticket",
        ["card_id", "cycle", "goal_position"],
        unique=True,
        sqlite_where=sa.text("chain = 0 AND status <> 'voided'"),
        postgresql_where=sa.text("chain = 0 AND status <> 'voided'"),
    )
    op.create_table(
        "lottery_variant",
        sa.Column("id", sa.String(), nullable=False),
        sa.Column("business_id", sa.String(), nullable=False),
        sa.Column("goal_id", sa.String(), nullable=False),
        sa.Column("position", sa.Integer(), nullable=False),
        sa.Column("type", sa.String(40), nullable=False),
        sa.Column("probability", sa.Integer(), nullable=False),
        sa.Column("name", sa.String(), nullable=False),
        sa.Column("greeting", sa.String(), nullable=True),
        sa.Column("stock", sa.Integer(), nullable=True),
        sa.Column("voucher_template_id", sa.String(), nullable=True),
        sa.ForeignKeyConstraint(
            ["business_id"],
            ["business.id"],
        ),
        sa.ForeignKeyConstraint(
            ["goal_id"],
            ["goal.id"],
        ),
        sa.ForeignKeyConstraint(
            ["voucher_template_id"],
            ["voucher_template.id"],
        ),
        sa.PrimaryKeyConstraint("id"),
        sa.UniqueConstraint("goal_id", "position"),
    )
    op.create_index(
        op.f("ix_lottery_variant_business_id"), "lottery_variant", ["business_id"], unique=False
    )
    op.create_table(
        "message",
        sa.Column("id", sa.String(), nullable=False),
        sa.Column("business_id", sa.String(), nullable=False),
        sa.Column("campaign_id", sa.String(), nullable=True),
        sa.Column("customer_id", sa.String(), nullable=False),
        sa.Column("card_id", sa.String(), nullable=True),
        sa.Column("channel", sa.String(40), nullable=False),
        sa.Column("address", sa.String(), nullable=True),
        sa.Column("subject", sa.String(), nullable=False),
        sa.Column("text", sa.String(), nullable=False),
        sa.Column("url", sa.String(), nullable=True),
        sa.Column("status", sa.String(40), nullable=False),
        sa.Column("error", sa.String(), nullable=True),
        sa.Column("tries", sa.Integer(), nullable=False),
        sa.Column("not_before", TIMESTAMP, nullable=False),
        sa.Column("created_at", TIMESTAMP, nullable=False),
        sa.Column("sent_at", TIMESTAMP, nullable=True),
        sa.ForeignKeyConstraint(
            ["business_id"],
            ["business.id"],
        ),
        sa.ForeignKeyConstraint(
            ["campaign_id"],
            ["campaign.id"],
        ),
        sa.ForeignKeyConstraint(
            ["card_id"],
            ["card.id"],
        ),
        sa.ForeignKeyConstraint(
            ["customer_id"],
            ["customer.id"],
        ),
        sa.PrimaryKeyConstraint("id"),
        sa.UniqueConstraint("campaign_id", "card_id", "channel"),
    )
    op.create_index(op.f("ix_message_customer_id"), "message", ["customer_id"], unique=False)
    op.create_index(
        "message_of_campaign",
        "message",
        ["campaign_id", "status", "channel", "business_id"],
        unique=False,
    )
    op.create_index("message_waiting", "message", ["status", "not_before"], unique=False)
    op.create_table(
        "voucher",
        sa.Column("id", sa.String(), nullable=False),
        sa.Column("business_id", sa.String(), nullable=False),
        sa.Column("card_id", sa.String(), nullable=True),
        sa.Column("template_id", sa.String(), nullable=True),
        sa.Column("operation_id", sa.String(), nullable=True),
        sa.Column("staff_id", sa.String(), nullable=True),
        sa.Column("location_id", sa.String(), nullable=True),
        sa.Column("title", sa.String(), nullable=False),
        sa.Column("description", sa.String(), nullable=True),
        sa.Column("image_url", sa.String(), nullable=True),
        sa.Column("redeem_code", sa.String(), nullable=True),
        sa.Column("redemption_mode", sa.String(40), nullable=False),
        sa.Column("token", sa.String(), nullable=False),
        sa.Column("source", sa.String(40), nullable=False),
        sa.Column("goal_position", sa.Integer(), nullable=True),
        sa.Column("cycle", sa.Integer(), nullable=True),
        sa.Column("campaign_id", sa.String(), nullable=True),
        sa.Column("status", sa.String(40), nullable=False),
        sa.Column("valid_from", TIMESTAMP, nullable=True),
        sa.Column("expires_at", TIMESTAMP, nullable=True),
        sa.Column("issued_at", TIMESTAMP, nullable=False),
        sa.Column("redeemed_at", TIMESTAMP, nullable=True),
        sa.Column("redeemed_via", sa.String(40), nullable=True),
        sa.Column("redeemed_by_id", sa.String(), nullable=True),
        sa.Column("voided_at", TIMESTAMP, nullable=True),
        sa.Column("voided_by_id", sa.String(), nullable=True),
        sa.ForeignKeyConstraint(
            ["business_id"],
            ["business.id"],
        ),
        sa.ForeignKeyConstraint(
            ["card_id"],
            ["card.id"],
        ),
        sa.ForeignKeyConstraint(
            ["template_id"],
            ["voucher_template.id"],
        ),
        sa.PrimaryKeyConstraint("id"),
        sa.UniqueConstraint("token"),
    )
    op.create_index("voucher_by_code", "voucher", ["business_id", "redeem_code"], unique=False)
    op.create_index(
        "voucher_by_expiry", "voucher", ["business_id", "status", "expires_at"], unique=False
    )
    op.create_index(
        "voucher_by_status", "voucher", ["business_id", "status", "id", "location_id"], unique=False
    )
    op.create_index("voucher_of_card", "voucher", ["business_id", "card_id", "id"], unique=False)
    op.create_table(
        "campaign_recipient",
        sa.Column("campaign_id", sa.String(), nullable=False),
        sa.Column("card_id", sa.String(), nullable=False),
        sa.Column("business_id", sa.String(), nullable=False),
        sa.Column("customer_id", sa.String(), nullable=False),
        sa.Column("position", sa.Integer(), nullable=False),
        sa.Column("voucher_id", sa.String(), nullable=True),
        sa.Column("done_at", TIMESTAMP, nullable=True),
        sa.ForeignKeyConstraint(
            ["business_id"],
            ["business.id"],
        ),
        sa.ForeignKeyConstraint(
            ["campaign_id"],
            ["campaign.id"],
        ),
        sa.ForeignKeyConstraint(
            ["card_id"],
            ["card.id"],
        ),
        sa.ForeignKeyConstraint(
            ["customer_id"],
            ["customer.id"],
        ),
        sa.ForeignKeyConstraint(
            ["voucher_id"],
            ["voucher.id"],
        ),
        sa.PrimaryKeyConstraint("campaign_id", "card_id"),
    )
    op.create_index(
        op.f("ix_campaign_recipient_customer_id"),
        "campaign_recipient",
        ["customer_id"],
        unique=False,
    )
    op.create_index(
        "recipient_in_line", "campaign_recipient", ["campaign_id", "position"], unique=True
    )
    op.create_table(
        "operation",
        sa.Column("id", sa.String(), nullable=False),
        sa.Column("business_id", sa.String(), nullable=False),
        sa.Column("kind", sa.String(40), nullable=False),
        sa.Column("card_id", sa.String(), nullable=True),
        sa.Column("voucher_id", sa.String(), nullable=True),
        sa.Column("line", sa.Integer(), nullable=True),
        sa.Column("version_before_id", sa.String(), nullable=True),
        sa.Column("version_id", sa.String(), nullable=True),
        sa.Column("staff_id", sa.String(), nullable=True),
        sa.Column("location_id", sa.String(), nullable=True),
        sa.Column("count", sa.Integer(), nullable=False),
        sa.Column("amount", sa.BigInteger(), nullable=True),
        sa.Column("before", sa.Integer(), nullable=True),
        sa.Column("after", sa.Integer(), nullable=True),
        sa.Column("cycle_before", sa.Integer(), nullable=True),
        sa.Column("cycle_after", sa.Integer(), nullable=True),
        sa.Column("channel", sa.String(40), nullable=True),
        sa.Column("external_ref", sa.String(), nullable=True),
        sa.Column("connector_id", sa.String(), nullable=True),
        sa.Column("sale_id", sa.String(), nullable=True),
        sa.Column("voids_id", sa.String(), nullable=True),
        sa.Column("voided_by_id", sa.String(), nullable=True),
        sa.Column("reason", sa.String(), nullable=True),
        sa.Column("occurred_at", TIMESTAMP, nullable=False),
        sa.Column("created_at", TIMESTAMP, nullable=False),
        sa.ForeignKeyConstraint(
            ["business_id"],
            ["business.id"],
        ),
        sa.ForeignKeyConstraint(
            ["card_id"],
            ["card.id"],
        ),
        sa.ForeignKeyConstraint(
            ["voucher_id"],
            ["voucher.id"],
        ),
        sa.PrimaryKeyConstraint("id"),
        sa.UniqueConstraint("card_id", "line"),
        sa.UniqueConstraint("connector_id", "sale_id"),
    )
    op.create_index(
        "operation_of_business", "operation", ["business_id", "created_at"], unique=False
    )
    op.create_index("operation_of_card", "operation", ["card_id", "id"], unique=False)
    op.create_index(
        "operation_one_redemption",
        "operation",
        ["voucher_id"],
        unique=True,
        sqlite_where=sa.text("kind = 'voucher_redeem' AND voided_by_id IS NULL"),
        postgresql_where=sa.text("kind = 'voucher_redeem' AND voided_by_id IS NULL"),
    )
    op.create_table(
        "reward",
        sa.Column("id", sa.String(), nullable=False),
        sa.Column("business_id", sa.String(), nullable=False),
        sa.Column("card_id", sa.String(), nullable=False),
        sa.Column("operation_id", sa.String(), nullable=True),
        sa.Column("staff_id", sa.String(), nullable=True),
        sa.Column("location_id", sa.String(), nullable=True),
        sa.Column("voucher_id", sa.String(), nullable=True),
        sa.Column("goal_id", sa.String(), nullable=True),
        sa.Column("goal_position", sa.Integer(), nullable=True),
        sa.Column("cycle", sa.Integer(), nullable=True),
        sa.Column("type", sa.String(40), nullable=False),
        sa.Column("source", sa.String(40), nullable=False),
        sa.Column("title", sa.String(), nullable=False),
        sa.Column("snapshot", sa.Text(), nullable=False),
        sa.Column("issued_at", TIMESTAMP, nullable=False),
        sa.Column("voided_at", TIMESTAMP, nullable=True),
        sa.ForeignKeyConstraint(
            ["business_id"],
            ["business.id"],
        ),
        sa.ForeignKeyConstraint(
            ["card_id"],
            ["card.id"],
        ),
        sa.ForeignKeyConstraint(
            ["goal_id"],
            ["goal.id"],
        ),
        sa.ForeignKeyConstraint(
            ["voucher_id"],
            ["voucher.id"],
        ),
        sa.PrimaryKeyConstraint("id"),
    )
    op.create_index(op.f("ix_reward_business_id"), "reward", ["business_id"], unique=False)
    op.create_index(op.f("ix_reward_card_id"), "reward", ["card_id"], unique=False)
    op.create_index(
        "reward_one_per_goal",
        "reward",
        ["card_id", "cycle", "goal_position"],
        unique=True,
        sqlite_where=sa.text("source = 'goal' AND voided_at IS NULL"),
        postgresql_where=sa.text("source = 'goal' AND voided_at IS NULL"),
    )
    make_roles()
    protect("business", "id")
    for table in TENANT_TABLES:
        protect(table)
