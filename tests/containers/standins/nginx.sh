#!/bin/sh
# Writes /etc/nginx/conf.d/NAME for each /etc/nginx/templates/NAME.template, with variables that are set replaced.
set -eu

templates=${NGINX_ENVSUBST_TEMPLATE_DIR:-/etc/nginx/templates}
suffix=${NGINX_ENVSUBST_TEMPLATE_SUFFIX:-.template}
output=${NGINX_ENVSUBST_OUTPUT_DIR:-/etc/nginx/conf.d}
if [ "$1" = nginx ] && [ -d "$templates" ] && [ -w "$output" ]; then
  names=$(env | sed -n 's/^\([A-Za-z_][A-Za-z0-9_]*\)=.*/${\1}/p' | grep -E "${NGINX_ENVSUBST_FILTER:-}" || true)
  for template in "$templates"/*"$suffix"; do
    [ -f "$template" ] || continue
    envsubst "$names" <"$template" >"$output/$(basename "$template" "$suffix")"
  done
fi
exec "$@"
