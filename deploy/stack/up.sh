#!/bin/sh
# `make up`: build, start, wait until both services are healthy, and print the next step.
. "$(dirname "$0")/common.sh"
find_compose
problem="$(env_file_problems | head -n 1)"
[ -z "$problem" ] || die ".env line $problem"
require_daemon
lock
require_own_names

# Without docker-compose.prod.yml the server would start in init mode, without its mnemonic.
case "$(setting COMPOSE_FILE '')" in
  *docker-compose.prod.yml*) ;;
  *) ! in_production || die "This stack runs in production: use 'make prod' or 'make upgrade', or 'make reset' to delete it" ;;
esac

echo "building the images and starting the stack (the first time with downloads: some minutes)"
compose_or_explain up -d --build
await_healthy relay sigil

port="$(setting SIGIL_PORT 8443)"
health="$(compose exec -T sigil sigil health)"
echo "sigil  https://localhost:$port"
echo "relay  http://localhost:$(setting RELAY_PORT 8080)"
case "$health" in
  *'"mode":"init"'*)
    # A restart makes a new token: the last line counts.
    address="$(compose logs --no-color sigil | sed -n 's/.*"event":"init_mode","open":"\([^"]*\)".*/\1/p' | tail -n 1)"
    case "$address" in
      *"#token="*) ;;
      *) address="$address (with the token of SIGIL_INIT_TOKEN)" ;;
    esac
    echo
    echo "Open this address to set the server up; the browser warns of the self-signed certificate:"
    echo "  $address" | sed "s|//localhost:8443/|//localhost:$port/|"
    ;;
  *) echo "The server has its identity: 'make logs' shows what it does, 'make down' stops it" ;;
esac
