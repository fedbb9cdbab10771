#!/bin/sh
# `make restore FILE=backups/…`: a backup of `make backup` into the running stack, in one transaction: all of it or nothing.
. "$(dirname "$0")/common.sh"
# Of the services in docker-compose.yml alone, also in production: it only finds containers.
export COMPOSE_IGNORE_ORPHANS=1
umask 077
find_compose
allow_missing_settings
require_daemon
[ -n "${FILE:-}" ] || die "name the backup: make restore FILE=backups/sigil-…"
backup="${FILE%/relay.dump}"
[ -f "$backup/relay.dump" ] && [ -f "$backup/manifest" ] || die "$FILE is not a backup: it needs the files relay.dump and manifest"
postgres="$(running postgres)"
sigil="$(running sigil)"
query() { docker exec "$postgres" psql -U relay -d relay -Atc "$1"; }

for file in relay.dump token_encryption_key.sealed webpush_key.sealed; do
  expected="$(sed -n "s/^sha256 $file: //p" "$backup/manifest")"
  if [ -n "$expected" ] && [ "$(sha256 "$postgres" <"$backup/$file")" != "$expected" ]; then
    die "$backup/$file is damaged: its checksum is not that of the manifest; use another copy"
  fi
done
[ -n "$(sed -n 's/^sha256 relay.dump: //p' "$backup/manifest")" ] || die "$backup/manifest is incomplete: use another copy"

# The keys first: a restored database without them is useless. Backups of older versions have no key of Web Push.
open_key() { [ ! -f "$backup/$1" ] || docker exec -i "$sigil" sigil backup-key open <"$backup/$1"; }
key="$(open_key token_encryption_key.sealed)" || die "nothing was restored"
webpush_key="$(open_key webpush_key.sealed)" || die "nothing was restored"

if [ "$(query "SELECT to_regclass('public.device') IS NOT NULL")" = t ]; then
  devices="$(query 'SELECT count(*) FROM device') devices"
  [ "$devices" != '1 devices' ] || devices='1 device'
  [ "$devices" = '0 devices' ] || [ "${FORCE:-}" = 1 ] ||
    die "the database holds $devices: FORCE=1 replaces them with those of the backup (make backup first)"
fi

relay="$(compose ps -q relay | head -n 1)"
[ -n "$relay" ] || die "relay has no container: run 'make prod' first"
mount() { docker inspect --format "{{range .Mounts}}{{if eq .Destination \"$1\"}}{{.Name}}{{end}}{{end}}" "$relay"; }
lock
# shellcheck disable=SC2016 # expanded at the end
on_exit 'docker start "$relay" >/dev/null || echo "relay does not start: run \"make ps\"" >&2'
docker stop "$relay" >/dev/null
# A dump that ends early becomes an error, so that the transaction is rolled back.
# shellcheck disable=SC2016
docker exec -i "$postgres" sh -c '{
    echo "SET client_min_messages = warning; SET lock_timeout = 30000; DROP SCHEMA public CASCADE; CREATE SCHEMA public AUTHORIZATION pg_database_owner;"
    pg_restore --file=- --no-owner --no-privileges || echo "the dump cannot be read;"
  } | psql -U relay -d relay --quiet --output=/dev/null --no-psqlrc --set=ON_ERROR_STOP=1 --single-transaction' \
  <"$backup/relay.dump" || die "the restore failed, and the database is as before: the message is above"

# $1: the file in the volume of the relay's secrets; standard input becomes its content.
# shellcheck disable=SC2016
write_key() {
  docker run --rm -i --network none --user 10001:10001 --entrypoint sh \
    -v "$(mount /run/relay-secrets):/run/relay-secrets" "$(docker inspect --format '{{.Config.Image}}' "$relay")" -c '
      umask 077; cd /run/relay-secrets && cat >"$1.new" && chmod 400 "$1.new" && mv -f "$1.new" "$1"' sh "$1"
}
if [ -n "$key$webpush_key" ]; then
  written=
  # shellcheck disable=SC2016
  on_exit '[ "$written" = yes ] || echo "the key was not written: run this again with FORCE=1" >&2'
  [ -z "$key" ] || printf '%s' "$key" | write_key token_encryption_key || exit 1
  [ -z "$webpush_key" ] || printf '%s' "$webpush_key" | write_key webpush_key || exit 1
  # shellcheck disable=SC2034 # read at the exit
  written=yes
fi
docker start "$relay" >/dev/null
await_healthy relay
echo "Restored $(query 'SELECT count(*) FROM device') devices from $backup"
if [ -z "$key" ]; then
  echo "WARNING: the backup has no token encryption key: push tokens work only with the key of the old relay." >&2
elif [ -n "$(setting TOKEN_ENCRYPTION_KEY '')" ]; then
  echo "WARNING: TOKEN_ENCRYPTION_KEY of your settings counts, not the key of the backup: they must be the same." >&2
fi
if [ -n "$webpush_key" ] && [ "$(setting RELAY_WEBPUSH_KEY_FILE /run/relay-secrets/webpush_key)" != /run/relay-secrets/webpush_key ]; then
  echo "WARNING: RELAY_WEBPUSH_KEY_FILE of your settings counts, not the key of the backup: they must be the same." >&2
fi
