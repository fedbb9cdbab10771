#!/bin/sh
# Compose with its arguments, in whichever form this host has it.
. "$(dirname "$0")/common.sh"
find_compose
require_daemon
compose "$@"
