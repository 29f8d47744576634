#!/usr/bin/env bash
# Makes the login and the database of Stampwire at the first start: no superuser, so that
# row-level security holds, but allowed to make the two roles of the second wall.
set -euo pipefail
psql --set ON_ERROR_STOP=1 --set password="$POSTGRES_PASSWORD" --username postgres <<'SQL'
CREATE ROLE stampwire LOGIN CREATEROLE PASSWORD :'password';
CREATE DATABASE stampwire OWNER stampwire;
SQL
