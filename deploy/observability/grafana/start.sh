#!/bin/sh
# Starts Grafana once its administrator has a password: without one, Grafana's own is "admin".
set -eu

fail() {
  echo "$(basename "$0"): $*" >&2
  exit 1
}

advice="GRAFANA_PASSWORD_FILE names it; it belongs to uid 472, with mode 0400"
password=${GF_SECURITY_ADMIN_PASSWORD__FILE:-}
# A file that does not exist is a directory here: Compose makes one.
{ [ -f "$password" ] && [ -r "$password" ]; } ||
  fail "cannot read the file with the password of Grafana's admin: $advice"
[ "$(tr -d '[:space:]' < "$password" | wc -c)" -ge 12 ] ||
  fail "the password of Grafana's admin has fewer than 12 characters: write one of \`openssl rand -hex 16\` to the file"
exec "${GRAFANA_RUN:-/run.sh}"
