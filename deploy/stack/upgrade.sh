#!/bin/sh
# `make upgrade`: backup, new images, then new containers of sigil and relay. `state` and postgres are never recreated, so
# pending challenges and events of webhooks stay. WAIT: seconds that it waits for events to be delivered (default 60).
. "$(dirname "$0")/common.sh"
use_production_files
find_compose
require_daemon
lock
compose config >/dev/null 2>&1 || die "the settings are not complete: run 'make preflight'"
sigil="$(running sigil)"
relay="$(running relay)"

schema() { docker "$@" python -c 'from sigil.app.state import STORE_SCHEMA; print(STORE_SCHEMA)'; }
pending() { docker exec "$sigil" sigil webhook pending 2>/dev/null || echo unknown; }

BACKUP_DIR="${BACKUP_DIR:-backups}" deploy/stack/backup.sh
old_sigil="$(docker inspect --format '{{.Image}}' "$sigil")"
old_relay="$(docker inspect --format '{{.Image}}' "$relay")"
get_images
# Only an image that is replaced: after an upgrade that was interrupted, the running one may be the new one.
keep() { # image of the container, image of the settings, tag
  [ "$(docker image inspect --format '{{.Id}}' "$2")" = "$1" ] || docker tag "$1" "$3"
}
keep "$old_sigil" "$(setting SIGIL_IMAGE sigil:local)" sigil:previous
keep "$old_relay" "$(setting RELAY_IMAGE sigil-relay:local)" sigil-relay:previous

waited=0
while [ "$(pending)" != 0 ] && [ "$waited" -lt "${WAIT:-60}" ]; do
  [ "$waited" != 0 ] || echo "waiting for webhook events to be delivered"
  sleep 1
  waited=$((waited + 1))
done
left="$(pending)"
old_schema="$(schema exec "$sigil")" || die "the running server does not respond: run 'make ps'; nothing was replaced"
new_schema="$(schema run --rm --network none --entrypoint env "$(setting SIGIL_IMAGE sigil:local)")" ||
  die "the new image does not start: its message is above; nothing was replaced"
if [ "$old_schema" != "$new_schema" ]; then
  echo "The new version has another form of sessions: pending challenges, and $left webhook events, end with the upgrade." >&2
  [ "${FORCE:-}" = 1 ] || die "Nothing was replaced. Upgrade in a quiet hour with FORCE=1; backends create new challenges"
elif [ "$left" != 0 ]; then
  echo "$left webhook events are not delivered yet: they stay, and the new server delivers them"
fi

compose_or_explain up -d --no-deps sigil
await_healthy sigil
compose_or_explain up -d --no-deps relay
await_healthy relay
echo "Upgraded: $(compose exec -T sigil sigil health </dev/null)"
echo "To go back: SIGIL_IMAGE=sigil:previous RELAY_IMAGE=sigil-relay:previous $COMPOSE ${COMPOSE_FILES:+$COMPOSE_FILES }up -d --no-build --no-deps sigil relay"
echo "If the relay of that version rejects the database, restore the backup above with FORCE=1"
