#!/bin/bash
# Started as root, takes the data directory and goes on as user postgres. An empty data directory gets a cluster with
# POSTGRES_USER, its password and POSTGRES_DB, and then every script of /docker-entrypoint-initdb.d.
set -euo pipefail

case "${1:-postgres}" in -*) set -- postgres "$@" ;; esac
if [ "$1" != postgres ]; then exec "$@"; fi

if [ ! -s "$PGDATA/PG_VERSION" ] && [ -n "${POSTGRES_PASSWORD_FILE:-}" ]; then
  if [ -n "${POSTGRES_PASSWORD:-}" ]; then
    echo 'error: POSTGRES_PASSWORD and POSTGRES_PASSWORD_FILE exclude each other' >&2
    exit 1
  fi
  # As root, like the official entrypoint: the file may belong to another user.
  POSTGRES_PASSWORD=$(cat "$POSTGRES_PASSWORD_FILE")
  export POSTGRES_PASSWORD
  unset POSTGRES_PASSWORD_FILE
fi

if [ "$(id -u)" = 0 ]; then
  mkdir -p "$PGDATA" /var/run/postgresql
  chmod 0700 "$PGDATA"
  chmod 3777 /var/run/postgresql
  find "$PGDATA" /var/run/postgresql ! -user postgres -exec chown postgres:postgres {} +
  exec setpriv --reuid=postgres --regid=postgres --init-groups "$0" "$@"
fi

if [ ! -s "$PGDATA/PG_VERSION" ]; then
  password=${POSTGRES_PASSWORD:-}
  if [ -z "$password" ]; then
    echo 'error: the database is empty and no superuser password is set: set POSTGRES_PASSWORD_FILE' >&2
    exit 1
  fi
  user=${POSTGRES_USER:-postgres}
  database=${POSTGRES_DB:-$user}
  # shellcheck disable=SC2086 # POSTGRES_INITDB_ARGS is a list of options
  initdb --pgdata "$PGDATA" --username "$user" --pwfile <(printf '%s\n' "$password") ${POSTGRES_INITDB_ARGS:-}
  printf '\nhost all all all scram-sha-256\n' >>"$PGDATA/pg_hba.conf"
  printf "\nlisten_addresses = '*'\n" >>"$PGDATA/postgresql.conf"

  # On the Unix socket alone: other containers connect when everything is there.
  pg_ctl --pgdata "$PGDATA" --wait --options "-c listen_addresses=''" start
  sql() { psql --no-psqlrc --quiet --set ON_ERROR_STOP=1 --username "$user" "$@"; }
  if [ "$database" != postgres ]; then
    sql --dbname postgres --set name="$database" <<<'CREATE DATABASE :"name";'
  fi
  for script in /docker-entrypoint-initdb.d/*; do
    case "$script" in
      *.sh) if [ -x "$script" ]; then "$script"; else . "$script"; fi ;;
      *.sql) sql --dbname "$database" --file "$script" ;;
      *.sql.gz) gunzip --stdout "$script" | sql --dbname "$database" ;;
    esac
  done
  pg_ctl --pgdata "$PGDATA" --mode fast --wait stop
fi

exec "$@"
