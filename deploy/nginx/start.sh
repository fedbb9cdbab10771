#!/bin/sh
# Starts nginx with the configuration of this directory, and reloads it when a certificate changes.
set -eu

here=$(cd "$(dirname "$0")" && pwd)
# shellcheck source=deploy/proxies.sh
. "$here/../proxies.sh"
: "${NGINX_RUN:=/run/nginx}" "${NGINX_CERTS_DIR:=/etc/nginx/certs}" "${SIGIL_UPSTREAM_CERT:=/var/lib/sigil/tls/cert.pem}"
export NGINX_RUN NGINX_CERTS_DIR SIGIL_UPSTREAM_CERT

mkdir -p "$NGINX_RUN"
sh "$here/render.sh" nginx.conf > "$NGINX_RUN/nginx.conf"
sh "$here/render.sh" > "$NGINX_RUN/sigil.conf"
for file in cert.pem key.pem; do
  wait_for "$NGINX_CERTS_DIR/$file" "put cert.pem and key.pem of both names there, owned by the user that starts nginx"
done
wait_for "$SIGIL_UPSTREAM_CERT" "start the server first, which makes it, or set SIGIL_UPSTREAM_CERT"

nginx="nginx -e stderr -p $NGINX_RUN -c $NGINX_RUN/nginx.conf"
# exec keeps the process id. In a subshell, so that the watch is no child of nginx.
(reload_on_change $$ "$nginx -s reload" "$NGINX_CERTS_DIR/cert.pem" "$NGINX_CERTS_DIR/key.pem" "$SIGIL_UPSTREAM_CERT" &)
exec $nginx
