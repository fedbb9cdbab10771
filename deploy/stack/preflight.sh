#!/bin/sh
# `make preflight`: one line for each check of this host and of .env, then those of `sigil preflight` in a container.
# Values of .env are never printed. With the argument `host` or `container`, only that part. Exit code 1: a check failed.
. "$(dirname "$0")/common.sh"
use_production_files
failures=0

report() { # state name text [next step]
  printf '%-6s  %s: %s%s\n' "$1" "$2" "$3" "${4:+; $4}"
  [ "$1" != failed ] || failures=$((failures + 1))
}

is_at_least() { # version, least version
  [ "$(printf '%s\n%s\n' "$2" "$1" | sort -t . -k 1,1n -k 2,2n | head -n 1)" = "$2" ]
}

check_programs() {
  engine="$(docker version --format '{{.Server.Version}}')"
  if is_at_least "$engine" 20.10; then
    report ok docker "$engine"
  else
    report failed docker "$engine is too old" "install Docker Engine 20.10 or newer"
  fi
  report ok compose "$($COMPOSE version --short)"
}

# A file that a service reads as a secret: docker mounts it with the host's owner and mode.
check_secret_file() { # setting, path
  if [ -d "$2" ]; then
    report failed "$1" "$2 is a directory" "Docker made it where the file was missing: remove it (rmdir), and create the file"
  elif [ ! -e "$2" ]; then
    report failed "$1" "$2 does not exist" "create it with one line, the 24 words; then sudo chown 10001 $2 && sudo chmod 600 $2"
  else
    # shellcheck disable=SC2012 # stat has no form that all systems share
    listed="$(ls -ldn "$2")"
    owner="$(printf '%s' "$listed" | awk '{print $3}')"
    case "$owner $listed" in
      "10001 -r"?-------*) report ok "$1" "$2 is readable by uid 10001 alone" ;;
      *) report failed "$1" "$2 has owner $owner and mode $(printf '%.10s' "$listed"); the server runs as uid 10001" \
        "sudo chown 10001 $2 && sudo chmod 600 $2" ;;
    esac
  fi
}

check_directory() { # setting
  path="$(setting "$1" '')"
  case "$path" in
    */*) ;;
    *) return 0 ;;
  esac
  if [ -d "$path" ]; then
    report ok "$1" "$path"
  elif [ -e "$path" ]; then
    report failed "$1" "$path is not a directory" "name the directory that holds the files"
  else
    report failed "$1" "$path does not exist" "create it before the start: Docker would create it for root"
  fi
}

check_env_file() {
  if [ ! -f .env ]; then
    report open .env "there is none" "cp .env.example .env, and set what production requires"
    return 0
  fi
  if [ -n "$(find .env -perm -004)" ]; then
    secrets='^(API_KEY|WEBHOOK_SECRET|WEBHOOK_URL|DATABASE_URL|TOKEN_ENCRYPTION_KEY|SIGIL_INIT_TOKEN|SIGIL_MNEMONIC)=.'
    state=open
    if grep -Eq "$secrets" .env; then state=failed; fi
    report "$state" .env "other users can read it" "chmod 600 .env"
  fi
  problems="$(
    env_file_problems
    awk '/^SIGIL_MNEMONIC=./ { print NR ": the mnemonic belongs into the file of SIGIL_MNEMONIC_FILE, not here" }' .env
  )"
  if [ -z "$problems" ]; then
    report ok .env "both versions of Compose read it alike"
    return 0
  fi
  while IFS= read -r problem; do
    report failed ".env line ${problem%%:*}" "${problem#*: }" "see the first lines of .env.example"
  done <<END
$problems
END
  return 1
}

# Everything below needs a configuration that Compose accepts.
check_configuration() {
  if ! config="$(compose config 2>&1)"; then
    # Compose 1 prints all variables of the service before the text of the one that is missing.
    line="$(printf '%s\n' "$config" | grep -v '^time=' | tail -n 1 | sed 's/^.*: \(set [A-Z_]* in \.env \)/\1/')"
    report failed settings "$line"
    return 1
  fi
  # One line per service: its name, then the keys that it has.
  services="$(printf '%s\n' "$config" | awk '
    /^[a-z]/ { inside = ($0 == "services:") }
    inside && /^  [a-z]/ { if (name) print name keys; name = substr($1, 1, length($1) - 1); keys = "" }
    inside && /^    [a-z_]+:/ { keys = keys " " substr($1, 1, length($1) - 1) }
    END { print name keys }')"
  if printf '%s\n' "$services" | grep -q '^postgres .*ports'; then
    report failed database "its port is published" "remove 'ports' of postgres from your Compose files"
  else
    report ok database "on an internal network, no port is published"
  fi
  unlimited="$(printf '%s\n' "$services" | grep -v ' mem_limit' | cut -d ' ' -f 1 | tr '\n' ' ')"
  if [ -n "$unlimited" ]; then
    report failed resource_limits "no mem_limit: $unlimited" "use docker-compose.prod.yml"
  else
    report ok resource_limits "every service has a memory limit"
  fi
}

# Ports that another program listens on, from the kernel's table (Linux).
listens() { # port
  cat /proc/net/tcp /proc/net/tcp6 2>/dev/null | awk -v port="$(printf ':%04X' "$1")" '
    $4 == "0A" && substr($2, length($2) - 4) == port { found = 1 } END { exit !found }'
}

check_port() { # setting, service, container's port, port
  if ! listens "$4"; then
    report ok "$1" "port $4 is free"
    return
  fi
  ours="$(compose ps -q "$2" 2>/dev/null | head -n 1)"
  if [ -n "$ours" ] && docker port "$ours" "$3/tcp" 2>/dev/null | grep -q ":$4\$"; then
    report ok "$1" "port $4 is this stack's"
  else
    report failed "$1" "port $4 is taken by another program" "stop it, or set $1 in .env"
  fi
}

check_addresses() {
  check_port SIGIL_PORT sigil 8443 "$(setting SIGIL_PORT 8443)"
  check_port RELAY_PORT relay 8080 "$(setting RELAY_PORT 8080)"
  socket="$(setting RELAY_WS_PUBLISH 127.0.0.1:8081)"
  check_port RELAY_WS_PUBLISH relay 8081 "${socket##*:}"
  case "$(setting RELAY_BIND 127.0.0.1)" in
    127.*) ;;
    *) report failed RELAY_BIND "publishes the relay's plain HTTP to other hosts" "remove it, and put a proxy with TLS in front" ;;
  esac
  # Clients of a published port appear as the gateway: on loopback, those are the programs of this host.
  case "$(setting SIGIL_BIND 127.0.0.1) ,$(setting TRUSTED_PROXY_IP '')," in
    127.*) ;;
    *,"$(setting SIGIL_EDGE_NET 172.30.53).1",*)
      report failed TRUSTED_PROXY_IP "is the gateway, as which every client of the published port appears" \
        "name the address of the proxy, or publish on loopback (SIGIL_BIND)" ;;
  esac
  others="$(names_of_others)"
  if [ -n "$others" ]; then
    while IFS= read -r problem; do
      report failed "${problem%%:*}" "${problem#*: }" \
        "set COMPOSE_PROJECT_NAME to that if it is this stack, else SIGIL_EDGE_NAME, SIGIL_EDGE_NET and SIGIL_TLS_VOLUME"
    done <<END
$others
END
  fi
  check_subnet
}

# Docker refuses to create a network whose subnet overlaps that of another one.
check_subnet() {
  prefix="$(setting SIGIL_EDGE_NET 172.30.53)"
  name="$(setting SIGIL_EDGE_NAME sigil-edge)"
  # shellcheck disable=SC2046 # a list of ids
  taken="$(docker network inspect --format '{{$n := .Name}}{{range .IPAM.Config}}{{$n}} {{.Subnet}}{{"\n"}}{{end}}' \
    $(docker network ls -q) | awk -v own="$name" -v net="$prefix.0/24" '
      function number(text, part) { split(text, part, /[.\/]/); return ((part[1] * 256 + part[2]) * 256 + part[3]) * 256 + part[4] }
      function bits(text) { sub(/.*\//, "", text); return text }
      NF == 2 && $1 != own && $2 !~ /:/ {
        size = bits($2) < bits(net) ? 2 ^ (32 - bits($2)) : 2 ^ (32 - bits(net))
        if (int(number($2) / size) == int(number(net) / size)) print $1
      }' | head -n 1)"
  if [ -n "$taken" ]; then
    report failed SIGIL_EDGE_NET "$prefix.0/24 is taken by the network $taken" "set SIGIL_EDGE_NET in .env, such as 172.30.54"
  else
    report ok SIGIL_EDGE_NET "$prefix.0/24 is free, or this stack's"
  fi
}

check_capacity() {
  info="$(docker info --format '{{.MemTotal}} {{.DockerRootDir}}')"
  root="${info#* }"
  free="$(df -Pk "$root" 2>/dev/null | awk 'NR == 2 {print int($4 / 1024)}')"
  if [ -z "$free" ]; then
    report open disk "$root is not on this host" "keep 5 GB free for images, logs and the database"
  elif [ "$free" -lt 1024 ]; then
    report failed disk "$root has $free MiB free" "free at least 1 GiB: 'docker system df' shows what Docker uses"
  elif [ "$free" -lt 5120 ]; then
    report open disk "$root has $free MiB free" "keep 5 GB free for images, logs and the database"
  else
    report ok disk "$root has $free MiB free"
  fi
  memory=$((${info%% *} / 1048576))
  if [ "$memory" -lt 3800 ]; then
    report open memory "the host has $memory MiB" "4 GB are the least for production; else lower SIGIL_MEMORY and SIGIL_STORE_SIZE"
  else
    report ok memory "the host has $memory MiB"
  fi
  # Without it, memswap_limit has no effect.
  if [ "$(wc -l </proc/swaps)" -gt 1 ] && docker info 2>&1 | grep -q 'No swap limit support'; then
    report open swap_limit "this kernel does not limit swap of a container" "turn swap off, or boot with swapaccount=1"
  fi
  case "$(setting COMPOSE_FILE '')" in
    *docker-compose.prod.yml*) report ok COMPOSE_FILE "plain docker-compose commands use both files" ;;
    *) report open COMPOSE_FILE "a plain 'docker-compose up -d' would start the stack of development" \
      "add to .env: COMPOSE_FILE='docker-compose.yml:docker-compose.prod.yml'" ;;
  esac
}

check_host() {
  check_programs
  if [ -n "${SIGIL_MNEMONIC:-}" ]; then
    report failed SIGIL_MNEMONIC "is a variable of this shell" "unset it: the mnemonic belongs into the file of SIGIL_MNEMONIC_FILE"
  fi
  # Errors of Compose 2 about .env quote its values: it must not run then.
  check_env_file || return 0
  check_secret_file SIGIL_MNEMONIC_FILE "$(setting SIGIL_MNEMONIC_FILE /var/lib/sigil/mnemonic.txt)"
  for name in SIGIL_CONFIG_DIR RELAY_CREDENTIALS_DIR SIGIL_TLS_DIR; do check_directory "$name"; done
  if check_configuration; then
    check_addresses
    check_capacity
  fi
}

# Output of Compose itself (what it starts and creates) is shown only when the container printed no check.
check_container() {
  docker image inspect "$(setting SIGIL_IMAGE sigil:local)" >/dev/null 2>&1 || get_images
  messages="$(mktemp)"
  on_exit "rm -f '$messages'"
  compose run --rm -T preflight </dev/null 2>"$messages" && return
  # Compose 1 also prints the exit code of the container.
  grep -v '^[[:space:]]*$\|^[0-9]*$\|Creating\|Starting\|Container\|Network\|Volume' "$messages" >&2 || true
  failures=$((failures + 1))
}

find_compose
require_daemon
case "${1:-}" in
  host) check_host ;;
  container) check_container ;;
  *)
    check_host
    [ "$failures" -gt 0 ] || check_container
    ;;
esac
if [ "$failures" -gt 0 ]; then
  die "Preflight failed: correct the lines that begin with 'failed'"
fi
