#!/usr/bin/env bash
# A role and a database for each service, each only its own. Runs by itself when the cluster is made;
# again by hand, for a new password or a new service:
#
#     docker-compose exec -u postgres postgres bash /docker-entrypoint-initdb.d/10-services.sh
set -euo pipefail

for file in /run/secrets/*_database_password; do
    service=$(basename "$file" _database_password)
    psql -q -v ON_ERROR_STOP=1 -U postgres -d postgres -v service="$service" -v file="$file" <<'SQL'
-- The password never stands on a command line.
\set password `cat :'file'`
SELECT NOT EXISTS (SELECT FROM pg_roles WHERE rolname = :'service') AS role_is_new \gset
\if :role_is_new
CREATE ROLE :"service" LOGIN PASSWORD :'password';
\else
ALTER ROLE :"service" LOGIN PASSWORD :'password';
\endif
SELECT NOT EXISTS (SELECT FROM pg_database WHERE datname = :'service') AS database_is_new \gset
\if :database_is_new
CREATE DATABASE :"service" OWNER :"service";
\endif
REVOKE ALL ON DATABASE :"service" FROM PUBLIC;
\connect :"service"
ALTER SCHEMA public OWNER TO :"service";
REVOKE ALL ON SCHEMA public FROM PUBLIC;
SQL
done
psql -q -v ON_ERROR_STOP=1 -U postgres -d postgres <<'SQL'
\set password `cat /run/secrets/postgres_password`
ALTER ROLE postgres PASSWORD :'password';
REVOKE ALL ON DATABASE postgres FROM PUBLIC;
SQL
