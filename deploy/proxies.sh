# shellcheck shell=sh
# Functions of the scripts that start a proxy.

fail() {
  echo "$(basename "$0"): $*" >&2
  exit 1
}

# require NAME CHARACTERS EXAMPLE: the variable is set, and holds none but these characters, so nothing that a configuration
# would read as syntax.
require() {
  eval "value=\${$1:-}"
  [ -n "$value" ] || fail "$1 is not set: set it to a value such as $3"
  case $value in
    *[!$2]*) fail "$1 has a character that does not belong there: set it to a value such as $3" ;;
  esac
}

require_names() {
  require SIGIL_DOMAIN 'A-Za-z0-9.-' sigil.example.com
  require RELAY_DOMAIN 'A-Za-z0-9.-' relay.example.com
  [ "$SIGIL_DOMAIN" != "$RELAY_DOMAIN" ] ||
    fail "SIGIL_DOMAIN and RELAY_DOMAIN are the same: give the relay a name of its own"
  require SIGIL_UPSTREAM 'A-Za-z0-9.:-' 172.30.53.10:8443
  require SIGIL_UPSTREAM_NAME 'A-Za-z0-9.-' sigil
  require SIGIL_UPSTREAM_CERT 'A-Za-z0-9._/-' /var/lib/sigil/tls/cert.pem
  require RELAY_UPSTREAM 'A-Za-z0-9.:-' 172.30.53.11:8080
  require RELAY_WS_UPSTREAM 'A-Za-z0-9.:-' 172.30.53.11:8081
}

# at_least A B: whether version B is A or newer.
at_least() {
  [ "$(printf '%s\n' "$1" "$2" | sort -t . -k 1,1n -k 2,2n -k 3,3n | tail -n 1)" = "$2" ]
}

# wait_for FILE ADVICE: a server makes its certificate when it first starts, which may be after its proxy.
wait_for() {
  waited=0
  until [ -r "$1" ]; do
    [ "$waited" -gt 0 ] || echo "$(basename "$0"): waits for $1: $2" >&2
    [ "$waited" -lt "${START_SECONDS:-60}" ] || fail "cannot read $1: $2"
    sleep 1
    waited=$((waited + 1))
  done
}

sums() {
  cksum "$@" 2>/dev/null
}

# reload_on_change PID COMMAND FILE…: runs COMMAND each time that a file changes, while the process PID runs. A proxy reads
# certificates only when it starts and reloads: its own are renewed, and so is that of the server behind it.
reload_on_change() {
  pid=$1 command=$2
  shift 2
  known=$(sums "$@")
  while sleep "${RELOAD_CHECK_SECONDS:-10}" && kill -0 "$pid" 2>/dev/null; do
    present=$(sums "$@")
    [ "$present" != "$known" ] || continue
    # The two files of a pair are replaced one after the other.
    sleep 1
    if [ "$(sums "$@")" = "$present" ] && sh -c "$command"; then known=$present; fi
  done
}
