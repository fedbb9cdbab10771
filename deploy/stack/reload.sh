#!/bin/sh
# `make reload`: SIGHUP to both services. The signal is sent from inside the container: `docker kill`, with any signal,
# makes Docker forget the restart policy of the container (seen with 20.10).
. "$(dirname "$0")/common.sh"
find_compose
allow_missing_settings
require_daemon
for service in sigil relay; do
  # The init process of the container is 1 and forwards what it receives.
  compose exec -T "$service" sh -c 'kill -HUP 1' || die "$service is not running: run 'make ps'"
done
echo "Both services reload; 'make logs' shows reload_finished, or reload_refused with the reason."
