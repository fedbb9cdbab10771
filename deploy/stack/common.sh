# Sourced by the other scripts of this directory. They need docker, Compose and a POSIX shell, and run in the checkout.
# shellcheck shell=sh
set -eu
cd "$(dirname "$0")/../.."

die() {
  printf '%s\n' "$*" >&2
  exit 1
}

# Some shells (dash) skip the trap of EXIT when a signal ends them. A second Ctrl-C must not end the cleaning either.
trap 'trap "" HUP INT TERM; exit 129' HUP
trap 'trap "" HUP INT TERM; exit 130' INT
trap 'trap "" HUP INT TERM; exit 143' TERM

# on_exit COMMAND: runs it when the script ends, in any way. The last one runs first.
on_exit() {
  at_exit="$1${at_exit:+; $at_exit}"
  # shellcheck disable=SC2064 # expanded now
  trap "$at_exit" EXIT
}

# Two commands at once that change one stack would replace each other's containers. A script that calls another one holds
# the lock for both. Without permission to write to the checkout there is no lock.
lock() {
  [ -z "${SIGIL_STACK_LOCK:-}" ] && [ -w . ] || return 0
  if ! mkdir .stack.lock 2>/dev/null; then
    holder="$(cat .stack.lock/pid 2>/dev/null || true)"
    if [ -z "$holder" ] || kill -0 "$holder" 2>/dev/null || [ -d "/proc/$holder" ]; then
      die "Another command changes this stack (process ${holder:-unknown}): wait for it, or remove .stack.lock if none runs"
    fi
  fi
  on_exit 'rm -rf .stack.lock'
  echo $$ >.stack.lock/pid
  export SIGIL_STACK_LOCK=held
}

# `docker compose` (2.x) where it is present, else `docker-compose` (1.29 or newer). COMPOSE overrides the choice.
find_compose() {
  if [ -n "${COMPOSE:-}" ]; then
    version="$($COMPOSE version --short 2>/dev/null || true)"
    return
  fi
  command -v docker >/dev/null 2>&1 || die "docker is not installed: install Docker Engine and Compose, then run this again"
  if docker compose version >/dev/null 2>&1; then
    COMPOSE="docker compose"
  elif command -v docker-compose >/dev/null 2>&1; then
    COMPOSE=docker-compose
    # BuildKit builds both images at once, in half the time. From 23 on it is a plugin, and the default where it is present.
    case "$(docker version --format '{{.Client.Version}}' 2>/dev/null || true)" in
      19.* | 20.*) export COMPOSE_DOCKER_CLI_BUILD="${COMPOSE_DOCKER_CLI_BUILD:-1}" DOCKER_BUILDKIT="${DOCKER_BUILDKIT:-1}" ;;
    esac
  else
    die "Docker Compose is not installed: install the package docker-compose-plugin (or docker-compose 1.29 or newer)"
  fi
  version="$($COMPOSE version --short 2>/dev/null || true)"
  version="${version#v}"
  case "$version" in
    0.* | 1.[0-9] | 1.[0-9].* | 1.1[0-9]* | 1.2[0-8]*) die "Compose $version is too old: install 1.29 or newer" ;;
  esac
}

# Lines of .env that the versions of Compose read differently, as `number: what is wrong`. Compose 1 skips a line that it does
# not understand, and Compose 2 takes an unknown $variable for an empty one, with a warning among other output. No value is
# printed: it may be a secret.
env_file_problems() {
  [ -f .env ] || return 0
  if [ -n "$(tr -dc '\000' <.env | tr '\000' x)" ]; then
    echo "1: it has NUL characters, as UTF-16 text has: save the file as UTF-8"
    return
  fi
  # By bytes: not every awk knows UTF-8.
  LC_ALL=C awk -v quote="'" -v compose="$version" '
    function problem(text) { print NR ": " text }
    NR == 1 && /^\357\273\277/ { problem("it begins with a byte order mark: save the file as UTF-8 without one"); next }
    /\302\240|\302\255|\342\200[\213-\217\250-\257]|\342\201\240|\343\200\200|\357\273\277/ {
      problem("it has a character that cannot be seen, such as a no-break space: type the line again"); next
    }
    /\r$/ { problem("it ends with a carriage return: save the file with Unix line ends"); next }
    /^[ \t]*(#|$)/ { next }
    /^[ \t]*export[ \t]/ { problem("export is not part of the form NAME=value"); next }
    !/^[A-Za-z_][A-Za-z0-9_]*=/ { problem("not in the form NAME=value"); next }
    {
      name = substr($0, 1, index($0, "=") - 1)
      value = substr($0, index($0, "=") + 1)
      if (substr(value, 1, 1) == quote) {
        inner = substr(value, 2)
        end = index(inner, quote)
        if (!end || substr(inner, end + 1) !~ /^[ \t]*(#.*)?$/) problem("the value of " name " has an unpaired single quote")
        else if (compose ~ /^1\./ && substr(inner, 1, end - 1) ~ /\$\{|\\\\/)
          problem("Compose 1 changes ${ and a double backslash in the value of " name ": install Compose 2")
      }
      else if (value ~ /^"/) problem("the value of " name " is in double quotes: use single quotes")
      else if (value ~ /[$\\"]/ || index(value, quote))
        problem("the value of " name " contains $, a backslash or a quote: put it in single quotes")
      else if (value ~ /[ \t]#/) problem("the value of " name " contains a #: put it in single quotes")
    }' .env
}

# A daemon that answers, or one line that says why it does not.
require_daemon() {
  # Not `docker info`: some versions write why it failed to standard output.
  error="$(docker version 2>&1)" && return
  case "$error" in
    *"permission denied"*) die "no permission to use Docker: run this as root, or as a member of the group docker" ;;
    *) die "the Docker daemon does not respond: start it (systemctl start docker), and check DOCKER_HOST" ;;
  esac
}

# COMPOSE_FILES are the -f options of production, see prod.sh.
compose() {
  # Both are lists of words.
  # shellcheck disable=SC2086
  $COMPOSE ${COMPOSE_FILES:-} "$@"
}

# The value of a variable as Compose sees it: the environment, then .env, without quotes, comment and spaces around, then the
# default.
setting() {
  # printenv is not a part of POSIX.
  eval "value=\"\${$1:-}\""
  if [ -z "$value" ] && [ -f .env ]; then
    value="$(sed -n "s/^[[:space:]]*$1=[[:space:]]*//p" .env | tail -n 1 |
      sed -e "s/^'\([^']*\)'.*/\1/" -e t -e 's/^"\([^"]*\)".*/\1/' -e t -e 's/[[:space:]]#.*//' -e 's/[[:space:]]*$//')"
  fi
  printf '%s' "${value:-$2}"
}

# For commands that start nothing: Compose rejects each of its commands while a setting that production requires is missing, also
# after a loss of .env, or when a new version requires another one.
allow_missing_settings() {
  for name in $(sed -n 's/.*\${\([A-Z_]*\):?.*/\1/p' docker-compose.prod.yml); do
    [ -n "$(setting "$name" '')" ] || export "$name=missing"
  done
}

# Runs Compose and shows its output; after the faults that a host brings, one line with the mend.
compose_or_explain() {
  output="$(mktemp)"
  on_exit "rm -f '$output'"
  if { compose "$@" 2>&1 || echo "$COMPOSE failed"; } | tee "$output" && ! tail -n 1 "$output" | grep -qx "$COMPOSE failed"; then
    rm -f "$output"
    return
  fi
  case "$(cat "$output")" in
    *"port is already allocated"* | *"address already in use"*)
      die "A port is taken by another program: set SIGIL_PORT or RELAY_PORT in .env (now $(setting SIGIL_PORT 8443) and $(setting RELAY_PORT 8080))" ;;
    *"Pool overlaps"* | *"pool overlaps"*)
      die "The subnet $(setting SIGIL_EDGE_NET 172.30.53).0/24 is taken by another network: set SIGIL_EDGE_NET in .env, such as 172.30.54" ;;
    *"Address already in use"*)
      die "An address in $(setting SIGIL_EDGE_NET 172.30.53).0/24 is taken: set SIGIL_EDGE_NET in .env, such as 172.30.54" ;;
    *"networks with user configured subnets"* | *"incorrect label com.docker.compose.network"*)
      name="$(setting SIGIL_EDGE_NAME sigil-edge)"
      die "The network $name was not made by this stack: remove it (docker network rm $name), then run the command again" ;;
    *"no space left on device"*)
      die "The disk is full: free some space ('docker system df' shows what Docker uses)" ;;
    *"pull access denied"* | *"no such host"* | *"TLS handshake timeout"* | *"failed to resolve"*)
      die "An image cannot be downloaded: check the network of this host, or set PYTHON_IMAGE, POSTGRES_IMAGE and STATE_IMAGE in .env" ;;
    *) die "Compose failed: its output above says why" ;;
  esac
}

# Waits until the health checks of the named services succeed: at most three minutes, less when one stops or starts again.
await_healthy() {
  for service in "$@"; do
    waited=0
    restarts=
    while :; do
      id="$(compose ps -q "$service" | head -n 1)"
      [ -n "$id" ] || die "$service has no container: run 'make ps'"
      state="$(docker inspect --format '{{.State.Status}} {{.State.Health.Status}} {{.RestartCount}}' "$id")"
      restarts="${restarts:-${state##* }}"
      case "$state" in
        "running healthy "*) break ;;
        exited* | dead* | restarting*) waited=stopped ;;
        *" $restarts") ;;
        *) waited=stopped ;;
      esac
      if [ "$waited" = stopped ]; then
        compose logs --no-color --tail=15 "$service" >&2
        die "$service does not start: its last log lines, above, say why"
      elif [ "$waited" -ge 180 ]; then
        compose logs --no-color --tail=15 "$service" >&2
        die "$service is not healthy after three minutes: its last log lines are above"
      fi
      [ "$waited" != 5 ] || echo "waiting for $service to be healthy (at most three minutes)"
      sleep 1
      waited=$((waited + 1))
    done
  done
}

# Both Compose files, unless COMPOSE_FILE (the environment, .env) names them among others.
use_production_files() {
  case "$(setting COMPOSE_FILE '')" in
    *docker-compose.prod.yml*) COMPOSE_FILES= ;;
    *) COMPOSE_FILES="-f docker-compose.yml -f docker-compose.prod.yml" ;;
  esac
  # Which services are orphans depends on the files of the moment.
  export COMPOSE_IGNORE_ORPHANS=1
}

# The name of the project, found as Compose finds it: from the directory, of which Compose 1 resolves links.
project_name() {
  directory="$PWD"
  case "$version" in 1.*) directory="$(pwd -P)" ;; esac
  setting COMPOSE_PROJECT_NAME "$(basename "$directory")" | tr '[:upper:]' '[:lower:]' | tr -cd 'a-z0-9_-' | sed 's/^[_-]*//'
}

# Whether this stack was started with docker-compose.prod.yml, also where its containers were removed: by the volume that only
# that file has.
in_production() {
  [ -n "$(docker volume ls --quiet --filter "label=com.docker.compose.project=$(project_name)" \
    --filter label=com.docker.compose.volume=relay-trust)" ]
}

# The network or volume of this stack's settings that another project made, as `setting: what is wrong`. Compose would share it:
# two servers with one certificate, and `make reset` of one stack deletes what the other one needs.
names_of_others() {
  for name in SIGIL_EDGE_NAME SIGIL_TLS_VOLUME; do
    case "$name" in
      SIGIL_EDGE_NAME) kind=network default=sigil-edge ;;
      *) kind=volume default=sigil-tls ;;
    esac
    found="$(setting "$name" "$default")"
    owner="$(docker "$kind" inspect --format '{{index .Labels "com.docker.compose.project"}}' "$found" 2>/dev/null || true)"
    case "$owner" in
      '' | "$(project_name)") ;;
      *) echo "$name: the $kind $found belongs to the project $owner" ;;
    esac
  done
}

require_own_names() {
  problem="$(names_of_others | head -n 1)"
  [ -z "$problem" ] ||
    die "$problem: set COMPOSE_PROJECT_NAME to that if it is this stack, else SIGIL_EDGE_NAME, SIGIL_EDGE_NET and SIGIL_TLS_VOLUME"
}

# Containers of other projects on this stack's network, such as the proxy. Compose would remove the containers of the stack, and
# then fail to remove the network, with Docker's "has active endpoints".
require_no_guests() {
  edge="$(setting SIGIL_EDGE_NAME sigil-edge)"
  guests="$(docker network inspect --format '{{range $id, $_ := .Containers}}{{$id}} {{end}}' "$edge" 2>/dev/null || true)"
  [ -n "$guests" ] || return 0
  # A list of words.
  # shellcheck disable=SC2086
  guests="$(docker inspect --format '{{index .Config.Labels "com.docker.compose.project"}}|{{.Name}}' $guests 2>/dev/null |
    grep -v "^$(project_name)|" | sed 's,^.*|/,,' | tr '\n' ' ')" || true
  [ -z "$guests" ] || die "The network $edge is in use by ${guests% }: stop its project first (docker-compose down in deploy/caddy," \
    "deploy/nginx or deploy/observability, or docker rm -f ${guests% }), then run this again; nothing was stopped"
}

# Images of a registry (their name has a slash) are pulled, others are built here.
get_images() {
  case "$(setting SIGIL_IMAGE sigil:local)$(setting RELAY_IMAGE sigil-relay:local)" in
    */*) compose_or_explain pull sigil relay ;;
    *) compose_or_explain build sigil relay ;;
  esac
}

# The id of a running container of a service, or one line.
running() {
  id="$(compose ps -q "$1" 2>/dev/null | head -n 1)"
  [ -n "$id" ] && [ "$(docker inspect --format '{{.State.Running}}' "$id")" = true ] || die "$1 is not running: run 'make ps'"
  printf '%s' "$id"
}

# SHA-256 of standard input; the host may have no program for it.
sha256() { docker exec -i "$1" sha256sum | cut -c1-64; }
