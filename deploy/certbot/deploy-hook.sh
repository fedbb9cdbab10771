#!/bin/sh
# certbot's hook after a renewal: copies the certificate and key to the directory that a container mounts, and has its servers
# load them.
#   certbot certonly … --deploy-hook '/opt/sigil/deploy/certbot/deploy-hook.sh /var/lib/sigil/tls'
# certbot's own directory cannot be mounted: its files are links out of it, and only root may read them.
set -eu

usage='usage: deploy-hook.sh [--owner UID:GID] [--domain NAME] [--reload COMMAND] DIRECTORY
  --owner    of the files; 10001:10001, the user of the containers. For the nginx of deploy/nginx: 0:0
  --domain   do nothing unless NAME is one of the renewed names
  --reload   a command instead of a signal to the containers, such as "systemctl reload sigil"'

fail() {
  echo "deploy-hook.sh: $*" >&2
  exit 1
}

owner=10001:10001 domain='' reload=''
while [ $# -gt 1 ]; do
  case $1 in
    --owner) owner=$2 ;;
    --domain) domain=$2 ;;
    --reload) reload=$2 ;;
    *) fail "unknown option $1
$usage" ;;
  esac
  shift 2
done
[ $# -eq 1 ] || fail "no directory
$usage"
case $1 in
  /*) directory=$1 ;;
  *) fail "the directory must be an absolute path, since certbot starts this from anywhere: $1" ;;
esac

[ -n "${RENEWED_LINEAGE:-}" ] ||
  fail "RENEWED_LINEAGE is not set: certbot sets it; by hand, RENEWED_LINEAGE=/etc/letsencrypt/live/NAME"
if [ -n "$domain" ]; then
  case " ${RENEWED_DOMAINS:-} " in
    *" $domain "*) ;;
    *) exit 0 ;;
  esac
fi
for file in fullchain.pem privkey.pem; do
  [ -r "$RENEWED_LINEAGE/$file" ] || fail "cannot read $RENEWED_LINEAGE/$file: run this as root, as certbot does"
done
[ -d "$directory" ] || fail "there is no directory $directory: create it before the container starts"

# In a directory that only this user may enter: the containers' user may own the parent, and replace files by links in it.
work=$(mktemp -d "$directory/.deploy-hook.XXXXXX") || fail "cannot write to $directory: run this as root, as certbot does"
trap 'rm -rf "$work"' EXIT
cd "$work"
(umask 077 && cp "$RENEWED_LINEAGE/privkey.pem" key.pem && cp "$RENEWED_LINEAGE/fullchain.pem" cert.pem)
chown "$owner" key.pem cert.pem || fail "cannot give the files to $owner: run this as root, as certbot does"
chmod 0600 key.pem
chmod 0644 cert.pem
# Each is replaced in one step. A server that reads between the two finds that they do not belong together, and keeps its pair.
mv -fT key.pem ../key.pem
mv -fT cert.pem ../cert.pem
cd /
rm -rf "$work"

if [ -n "$reload" ]; then
  exec sh -c "$reload"
fi
docker=$(command -v docker) || fail "the files are in $directory, but there is no docker: reload the server, or use --reload"
# Containers that mount the directory; a volume of this name, or one mounted at this path, counts too.
containers=$($docker ps --quiet --filter "volume=$directory") ||
  fail "the files are in $directory, but docker ps failed: reload the server"
if [ -z "$containers" ]; then
  echo "deploy-hook.sh: no container mounts $directory: its server loads the files when it starts" >&2
  exit 0
fi
for container in $containers; do
  # Not `docker kill`: Docker takes it for a stop by hand, and does not restart the container after a later crash.
  $docker exec "$container" sh -c 'kill -HUP 1' ||
    fail "the files are in $directory, but container $container got no signal: docker restart $container"
done
