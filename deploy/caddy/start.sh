#!/bin/sh
# Starts Caddy with the Caddyfile of this directory, and reloads it when a certificate changes.
set -eu

here=$(cd "$(dirname "$0")" && pwd)
# shellcheck source=deploy/proxies.sh
. "$here/../proxies.sh"
: "${SIGIL_UPSTREAM_NAME:=sigil}" "${SIGIL_UPSTREAM_CERT:=/var/lib/sigil/tls/cert.pem}" "${CADDY_TLS:=}"
require_names

version=$(caddy version | sed -n 's/^v\{0,1\}\([0-9.]*\).*/\1/p')
if [ -z "${CADDY_REQUEST_BUFFERS:-}" ] && ! at_least 2.6.4 "${version:-2.6.4}"; then
  # The name before 2.6.4; the size is limited by request_body.
  CADDY_REQUEST_BUFFERS=buffer_requests
  export CADDY_REQUEST_BUFFERS
fi

set -- "$SIGIL_UPSTREAM_CERT"
case $CADDY_TLS in
  /*\ /*)
    # shellcheck disable=SC2086
    set -- "$@" $CADDY_TLS
    ;;
esac
for file in "$@"; do
  case $file in
    "$SIGIL_UPSTREAM_CERT") wait_for "$file" "start the server first, which makes it, or set SIGIL_UPSTREAM_CERT" ;;
    *) wait_for "$file" "CADDY_TLS names it as the certificate or key of both names" ;;
  esac
done

# exec keeps the process id. In a subshell, so that the watch is no child of Caddy. The address is that of CADDY_OPTIONS.
config="--config $here/Caddyfile --adapter caddyfile"
(reload_on_change $$ "caddy reload --force $config${CADDY_ADMIN:+ --address $CADDY_ADMIN}" "$@" &)
# shellcheck disable=SC2086
exec caddy run $config
