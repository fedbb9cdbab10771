#!/bin/sh
# `make backup`: the relay's database, and its keys sealed under the server's mnemonic, into a new directory of BACKUP_DIR
# (backups/). It appears whole or not at all, with mode 0700.
. "$(dirname "$0")/common.sh"
# Of the services in docker-compose.yml alone, also in production: it only finds containers.
export COMPOSE_IGNORE_ORPHANS=1
umask 077
find_compose
allow_missing_settings
require_daemon
[ -z "$(setting DATABASE_URL '')" ] || die "DATABASE_URL names a database outside of this stack: back it up where it runs"
postgres="$(running postgres)"
relay="$(running relay)"
sigil="$(running sigil)"

directory="${BACKUP_DIR:-backups}"
mkdir -p "$directory" || die "cannot write to $directory: choose another one with BACKUP_DIR"
# A name of its own: `mv` would put a second backup of the same second into the first one.
for attempt in 1 2 3 4 5; do
  name="sigil-$(date -u +%Y%m%dT%H%M%SZ)"
  part="$directory/.$name.part"
  if mkdir "$part" 2>/dev/null; then
    [ -e "$directory/$name" ] || break
    rmdir "$part"
  fi
  [ "$attempt" != 5 ] || die "cannot write to $directory: choose another one with BACKUP_DIR"
  sleep 1
done
# shellcheck disable=SC2016 # expanded at the end
on_exit 'rm -rf "$part"'

docker exec "$postgres" pg_dump -U relay -d relay --format=custom --no-owner --no-privileges >"$part/relay.dump" ||
  die "pg_dump failed: its message is above; nothing was written"
docker exec -i "$postgres" pg_restore --list <"$part/relay.dump" >/dev/null || die "the dump cannot be read: nothing was written"

# The keys pass through pipes alone. $1: the variable of the relay, of which the file or the value counts.
# shellcheck disable=SC2016 # the variables are the container's
print_key() {
  docker exec "$relay" sh -c 'eval "file=\"\${$1_FILE}\" value=\"\${$1}\""; if [ -n "$file" ]; then cat "$file"; else printf %s "$value"; fi' sh "$1"
}
# $1: the variable, $2: the file in the backup.
seal() {
  if ! print_key "$1" | docker exec -i "$sigil" sigil backup-key seal >"$part/$2"; then
    # A server in development has no file with a mnemonic.
    ! in_production || die "a key of the relay cannot be sealed: the message is above; nothing was written"
    rm -f "$part/$2"
  fi
}
seal TOKEN_ENCRYPTION_KEY token_encryption_key.sealed
[ -z "$(print_key RELAY_WEBPUSH_KEY | head -c 1)" ] || seal RELAY_WEBPUSH_KEY webpush_key.sealed

query() { docker exec "$postgres" psql -U relay -d relay -Atc "$1"; }
write_manifest() {
  echo "created: $(date -u +%Y-%m-%dT%H:%M:%SZ)"
  echo "sigil: $(docker exec "$sigil" sigil --version | sed 's/.* //')"
  echo "postgres: $(query 'SHOW server_version')"
  echo "schema: $(query 'SELECT max(name) FROM migration')"
  echo "devices: $(query 'SELECT count(*) FROM device')"
  [ ! -s "$part/token_encryption_key.sealed" ] || echo "server_id: $(cut -d ' ' -f 2 "$part/token_encryption_key.sealed")"
  for file in relay.dump token_encryption_key.sealed webpush_key.sealed; do
    [ ! -s "$part/$file" ] || echo "sha256 $file: $(sha256 "$postgres" <"$part/$file")"
  done
}
files="$(ls "$part")"
if ! write_manifest >"$part/manifest" ||
  [ "$(grep -c '^sha256 .*: [0-9a-f]\{64\}$' "$part/manifest")" != "$(printf '%s\n' "$files" | wc -l | tr -d ' ')" ]; then
  die "the manifest is not complete: the message is above; nothing was written"
fi
chmod 600 "$part"/*
mv "$part" "$directory/$name"

echo "$directory/$name: $(sed -n 's/^devices: //p' "$directory/$name/manifest") devices"
if [ -s "$directory/$name/token_encryption_key.sealed" ]; then
  echo "The mnemonic is the other half: without it, neither the server nor the key of this backup can be restored."
else
  echo "WARNING: the relay's token encryption key is not in this backup, since the server has no mnemonic file to seal it with." >&2
  echo "Without that key the push tokens in it are useless: store it yourself, or run the stack with 'make prod'." >&2
fi
