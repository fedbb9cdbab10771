#!/bin/sh
# Compose with its arguments, in whichever form this host has it.
. "$(dirname "$0")/common.sh"
find_compose
require_daemon
# With its services and volumes; without them, `down` would leave a container of production.
if in_production; then
  use_production_files
  allow_missing_settings
fi
if [ "${1:-}" = down ]; then
  lock
  require_no_guests
fi
compose "$@"
