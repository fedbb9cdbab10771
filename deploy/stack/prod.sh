#!/bin/sh
# `make prod`: preflight, images, start, health, and what to do next.
. "$(dirname "$0")/common.sh"
use_production_files
find_compose
require_daemon
lock

deploy/stack/preflight.sh host
get_images
deploy/stack/preflight.sh container
compose_or_explain up -d
await_healthy relay sigil

echo
compose exec -T sigil sigil identity </dev/null | sed -n '1,2p'
echo "server      $(setting SIGIL_PUBLIC_URL '')"
echo "relay       $(setting RELAY_PUBLIC_URL '')"
echo
echo "Next: an API key for a backend: $COMPOSE exec sigil sigil keygen"
if [ -n "$(setting TRUSTED_PROXY_IP '')" ]; then
  echo "      the proxy, if it does not run yet: cd deploy/nginx (or deploy/caddy) && docker-compose up -d"
fi
echo "      a backup each day: make backup; the mnemonic on paper is its other half"
