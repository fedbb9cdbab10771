#!/bin/sh
# Starts Prometheus with prometheus.yml of this directory, into which it writes the settings; arguments go to Prometheus.
set -eu

here=$(cd "$(dirname "$0")" && pwd)
# shellcheck source=deploy/proxies.sh
. "${PROXY_FUNCTIONS:-$here/../proxies.sh}"
: "${SIGIL_UPSTREAM_CERT:=/var/lib/sigil/tls/cert.pem}" "${SIGIL_UPSTREAM_NAME:=sigil}" "${ALERTMANAGERS:=}"
: "${METRICS_TOKENS:=/run/metrics-tokens}" "${PROMETHEUS_RUN:=/tmp}"
require SIGIL_UPSTREAM_NAME 'A-Za-z0-9.-' sigil
require SIGIL_UPSTREAM_CERT 'A-Za-z0-9._/-' /var/lib/sigil/tls/cert.pem
[ -z "$ALERTMANAGERS" ] || require ALERTMANAGERS 'A-Za-z0-9.,:-' alertmanager:9093

# Without the file of the certificate Prometheus would leave the job out until its next start.
wait_for "$SIGIL_UPSTREAM_CERT" "start the server first, which makes it, or set SIGIL_UPSTREAM_CERT"
for service in sigil relay; do
  wait_for "$METRICS_TOKENS/$service" "run 'make up' or 'make prod' of the stack, whose service setup makes it"
done

sed \
  -e "s|/var/lib/sigil/tls/cert.pem|$SIGIL_UPSTREAM_CERT|" \
  -e "s|server_name: sigil|server_name: $SIGIL_UPSTREAM_NAME|" \
  -e "s|targets: \[\]|targets: [$ALERTMANAGERS]|" \
  "$here/prometheus.yml" > "$PROMETHEUS_RUN/prometheus.yml"
# By default a page of any site may read the answers, in a browser that reaches this Prometheus through a tunnel.
exec prometheus --config.file="$PROMETHEUS_RUN/prometheus.yml" --web.cors.origin=none "$@"
