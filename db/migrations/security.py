"""The second wall: row-level security on PostgreSQL, for every table that holds a tenant's rows.

`stampwire_app` sees the rows of the business that its connection names, `stampwire_system` (the
worker, and whoever looks up a key or login) sees all; neither owns anything.
"""

from alembic import op

ROLES = """
DO $$
DECLARE role text;
BEGIN
    FOREACH role IN ARRAY ARRAY['stampwire_app', 'stampwire_system'] LOOP
        IF NOT EXISTS (SELECT FROM pg_roles WHERE rolname = role) THEN
            EXECUTE format('CREATE ROLE %I NOLOGIN', role);
        END IF;
        IF NOT pg_has_role(current_user, role, 'MEMBER') THEN
            EXECUTE format('GRANT %I TO %I', role, current_user);
        END IF;
        EXECUTE format('GRANT USAGE ON SCHEMA %I TO %I', current_schema, role);
        IF to_regclass('alembic_version') IS NOT NULL THEN  -- /readyz tells it
            EXECUTE format('GRANT SELECT ON alembic_version TO %I', role);
        END IF;
    END LOOP;
EXCEPTION
    WHEN insufficient_privilege THEN
        RAISE WARNING 'The second wall is off: this login may not create or grant roles.';
    WHEN duplicate_object OR unique_violation THEN
        NULL;
END $$
"""
_WALL = """
DO $$
BEGIN
    IF (SELECT count(*) FROM pg_roles WHERE rolname IN ('stampwire_app', 'stampwire_system')
        AND pg_has_role(current_user, oid, 'MEMBER')) < 2 THEN
        RETURN;
    END IF;
    GRANT SELECT, INSERT, UPDATE, DELETE ON {table} TO stampwire_app, stampwire_system;
    ALTER TABLE {table} ENABLE ROW LEVEL SECURITY;
    ALTER TABLE {table} FORCE ROW LEVEL SECURITY;
    CREATE POLICY tenant ON {table} TO stampwire_app
        USING ({column} = current_setting('stampwire.business', true))
        WITH CHECK ({column} = current_setting('stampwire.business', true));
    CREATE POLICY system ON {table} TO stampwire_system USING (true) WITH CHECK (true);
END $$
"""


_SYSTEM_ALONE = """
DO $$
BEGIN
    IF (SELECT count(*) FROM pg_roles WHERE rolname IN ('stampwire_app', 'stampwire_system')
        AND pg_has_role(current_user, oid, 'MEMBER')) < 2 THEN
        RETURN;
    END IF;
    GRANT SELECT, INSERT, UPDATE, DELETE ON {table} TO stampwire_system;
    ALTER TABLE {table} ENABLE ROW LEVEL SECURITY;
    ALTER TABLE {table} FORCE ROW LEVEL SECURITY;
    CREATE POLICY system ON {table} TO stampwire_system USING (true) WITH CHECK (true);
END $$
"""


def make_roles() -> None:
    """Make the two roles, where this login may."""
    if op.get_bind().dialect.name == "postgresql":
        op.execute(ROLES)


def protect(table: str, column: str = "business_id") -> None:
    """Put a table behind the wall."""
    if op.get_bind().dialect.name == "postgresql":
        op.execute(_WALL.format(table=f'"{table}"', column=column))


def protect_from_all(table: str) -> None:
    """Put a table that is no business's behind the wall: the system alone reaches it."""
    if op.get_bind().dialect.name == "postgresql":
        op.execute(_SYSTEM_ALONE.format(table=f'"{table}"'))
