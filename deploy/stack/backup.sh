#!/bin/sh
# `make backup`: the relay's database, and its token encryption key sealed under the server's mnemonic, into a new directory
# of BACKUP_DIR (backups/). It appears whole or not at all, with mode 0700.
. "$(dirname "$0")/common.sh"
# Of the services in docker-compose.yml alone, also in production: it only finds containers.
export COMPOSE_IGNORE_ORPHANS=1
umask 077
find_compose
require_daemon
[ -z "$(setting DATABASE_URL '')" ] || die "DATABASE_URL names a database outside of this stack: back it up where it runs"
postgres="$(running postgres)"
relay="$(running relay)"
sigil="$(running sigil)"

name="sigil-$(date -u +%Y%m%dT%H%M%SZ)"
directory="${BACKUP_DIR:-backups}"
part="$directory/.$name.part"
mkdir -p "$directory" && mkdir "$part" || die "cannot write to $directory: choose another one with BACKUP_DIR"
trap 'rm -rf "$part"' EXIT

docker exec "$postgres" pg_dump -U relay -d relay --format=custom --no-owner --no-privileges >"$part/relay.dump" ||
  die "pg_dump failed: its message is above; nothing was written"
docker exec -i "$postgres" pg_restore --list <"$part/relay.dump" >/dev/null || die "the dump cannot be read: nothing was written"

# The key passes through pipes alone.
# shellcheck disable=SC2016 # the variables are the container's
docker exec "$relay" sh -c 'if [ -n "$TOKEN_ENCRYPTION_KEY_FILE" ]; then cat "$TOKEN_ENCRYPTION_KEY_FILE"; else printf %s "$TOKEN_ENCRYPTION_KEY"; fi' |
  docker exec -i "$sigil" sigil backup-key seal >"$part/token_encryption_key.sealed" || rm -f "$part/token_encryption_key.sealed"

query() { docker exec "$postgres" psql -U relay -d relay -Atc "$1"; }
{
  echo "created: $(date -u +%Y-%m-%dT%H:%M:%SZ)"
  echo "sigil: $(docker exec "$sigil" sigil --version | sed 's/.* //')"
  echo "postgres: $(query 'SHOW server_version')"
  echo "schema: $(query 'SELECT max(name) FROM migration')"
  echo "devices: $(query 'SELECT count(*) FROM device')"
  [ ! -s "$part/token_encryption_key.sealed" ] || echo "server_id: $(cut -d ' ' -f 2 "$part/token_encryption_key.sealed")"
  for file in relay.dump token_encryption_key.sealed; do
    [ ! -s "$part/$file" ] || echo "sha256 $file: $(sha256 "$postgres" <"$part/$file")"
  done
} >"$part/manifest"
chmod 600 "$part"/*
mv "$part" "$directory/$name"

echo "$directory/$name: $(sed -n 's/^devices: //p' "$directory/$name/manifest") devices"
if [ -s "$directory/$name/token_encryption_key.sealed" ]; then
  echo "The mnemonic is the other half: without it, neither the server nor the key of this backup can be restored."
else
  echo "WARNING: the relay's token encryption key is not in this backup, since the server has no mnemonic file to seal it with." >&2
  echo "Without that key the push tokens in it are useless: store it yourself, or run the stack with 'make prod'." >&2
fi
