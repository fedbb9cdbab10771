#!/bin/sh
# Prints sigil.conf, or the file of this directory that is named, with its ${NAME}s replaced by the environment. An nginx of
# the host uses the output:
#   SIGIL_DOMAIN=sigil.example.com RELAY_DOMAIN=relay.example.com SIGIL_UPSTREAM=127.0.0.1:8443 … sh render.sh > /etc/nginx/conf.d/sigil.conf
set -eu

here=$(dirname "$0")
name=${1:-sigil.conf}

# shellcheck source=deploy/proxies.sh
. "$here/../proxies.sh"
: "${NGINX_RUN:=/run/nginx}" "${NGINX_LISTEN:=0.0.0.0 [::]}" "${NGINX_HTTPS_PORT:=443}" "${NGINX_HTTP_PORT:=80}"
: "${NGINX_CERTS_DIR:=/etc/nginx/certs}" "${NGINX_ACME_DIR:=/var/www/acme}" "${NGINX_ACCESS_LOG:=/dev/stdout}"
: "${SIGIL_UPSTREAM_CERT:=/var/lib/sigil/tls/cert.pem}" "${SIGIL_UPSTREAM_NAME:=sigil}" "${NGINX_CLOUDFLARE:=off}"

require NGINX_RUN 'A-Za-z0-9._/-' /run/nginx
if [ "$name" = nginx.conf ]; then
  # A container has no right to raise the limit that its engine gives it, and nginx would log an alert for each worker.
  descriptors=65536 connections=16384
  # shellcheck disable=SC3045 # of dash, busybox and bash; POSIX has it from 2024 on
  hard=$(ulimit -H -n 2>/dev/null || echo unlimited)
  case $hard in
    *[!0-9]*) ;;
    *) [ "$hard" -ge "$descriptors" ] || descriptors=$hard ;;
  esac
  # Two descriptors for each: the connection, and the file of a body that is not in memory.
  [ $((descriptors / 2)) -ge "$connections" ] || connections=$((descriptors / 2))
  exec sed -e '/^#/d' -e "s|\${NGINX_RUN}|$NGINX_RUN|g" -e "s|\${NGINX_DESCRIPTORS}|$descriptors|" \
    -e "s|\${NGINX_CONNECTIONS}|$connections|" "$here/nginx.conf"
fi
require_names
require NGINX_LISTEN '0-9A-Fa-f.: []' '0.0.0.0 [::]'
require NGINX_HTTPS_PORT 0-9 443
require NGINX_HTTP_PORT 0-9 80
for path in NGINX_CERTS_DIR NGINX_ACME_DIR NGINX_ACCESS_LOG; do
  require "$path" 'A-Za-z0-9._/-' /var/lib/sigil
done

# With `on`, the server gets Cloudflare's header too: it fetches newer ranges, and believes no other hop.
cloudflare='' connecting_ip='""'
case $NGINX_CLOUDFLARE in
  on) cloudflare="include $(cd "$here" && pwd)/cloudflare.conf;" connecting_ip="\$http_cf_connecting_ip" ;;
  off) ;;
  *) fail "NGINX_CLOUDFLARE is neither on nor off" ;;
esac

# HTTP/2 is a directive from 1.25.1 on, and before a parameter of `listen`.
version=${NGINX_VERSION:-$(nginx -v 2>&1 | sed -n 's|^nginx version: [a-z]*/\([0-9.]*\).*|\1|p')}
[ -n "$version" ] || fail "the version of nginx is unknown: install nginx, or set NGINX_VERSION"
if at_least 1.25.1 "$version"; then
  parameter='' directive='http2 on;'
else
  parameter=' http2' directive=
fi

# listen PORT PARAMETERS: a directive for each address. A kernel without IPv6 has no socket for [::].
listen() {
  for address in $NGINX_LISTEN; do
    case $address in
      *:*) [ -e /proc/net/if_inet6 ] || continue ;;
    esac
    printf 'listen %s:%s%s; ' "$address" "$1" "$2"
  done
}

sed -e "/^ *\${PROXY}\$/{
r $here/proxy.conf
d
}" "$here/sigil.conf" | sed \
  -e "s|\${LISTEN_HTTPS}|$(listen "$NGINX_HTTPS_PORT" " ssl$parameter")$directive|" \
  -e "s|\${LISTEN_HTTPS_DEFAULT}|$(listen "$NGINX_HTTPS_PORT" " ssl$parameter default_server")$directive|" \
  -e "s|\${LISTEN_HTTP}|$(listen "$NGINX_HTTP_PORT" '')|" \
  -e "s|\${LISTEN_HTTP_DEFAULT}|$(listen "$NGINX_HTTP_PORT" ' default_server')|" \
  -e "s|\${ACCESS_LOG}|access_log $NGINX_ACCESS_LOG sigil;|" \
  -e "s|\${CLOUDFLARE}|$cloudflare|" \
  -e "s|\${CF_CONNECTING_IP}|$connecting_ip|" \
  -e "s|\${SIGIL_DOMAIN}|$SIGIL_DOMAIN|g" \
  -e "s|\${RELAY_DOMAIN}|$RELAY_DOMAIN|g" \
  -e "s|\${SIGIL_UPSTREAM}|$SIGIL_UPSTREAM|" \
  -e "s|\${RELAY_UPSTREAM}|$RELAY_UPSTREAM|" \
  -e "s|\${RELAY_WS_UPSTREAM}|$RELAY_WS_UPSTREAM|" \
  -e "s|\${SIGIL_UPSTREAM_NAME}|$SIGIL_UPSTREAM_NAME|" \
  -e "s|\${SIGIL_UPSTREAM_CERT}|$SIGIL_UPSTREAM_CERT|" \
  -e "s|\${NGINX_CERTS_DIR}|$NGINX_CERTS_DIR|" \
  -e "s|\${NGINX_ACME_DIR}|$NGINX_ACME_DIR|"
