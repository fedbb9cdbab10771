#!/bin/sh
# `make reset`: removes the containers and every volume of this stack, after a confirmation. YES=1 answers it.
. "$(dirname "$0")/common.sh"
find_compose
require_daemon
require_own_names
require_no_guests
# That file has volumes of its own.
if in_production; then
  use_production_files
  allow_missing_settings
fi
# Compose 1 rejects it together with --remove-orphans.
unset COMPOSE_IGNORE_ORPHANS

if [ "${YES:-}" != 1 ]; then
  [ -t 0 ] || die "make reset deletes all volumes of this stack, with the relay's database and keys: set YES=1 to confirm"
  printf 'Delete all volumes of this stack, with the relay'\''s database and keys, and pending challenges? [y/N] '
  read -r answer
  case "$answer" in [yY]) ;; *) die "nothing was deleted" ;; esac
fi
lock
compose down --volumes --remove-orphans
