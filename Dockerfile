# Two images from one file: targets `sigil` and `relay` share every layer but the last ones.
# Pin a digest with --build-arg PYTHON_IMAGE=python:3.13-slim-trixie@sha256:…
ARG PYTHON_IMAGE=python:3.13-slim-trixie

FROM ${PYTHON_IMAGE} AS build
WORKDIR /build
COPY requirements-runtime.lock .
# pip stays in a venv of its own, outside the image. Wheels only, each with a hash of the lock file: no code of a package runs here.
RUN python3 -m venv tools \
 && python3 -m venv --without-pip /opt/sigil \
 && tools/bin/pip --python /opt/sigil/bin/python install --quiet --disable-pip-version-check --no-cache-dir --no-compile \
      --require-hashes --only-binary :all: -r requirements-runtime.lock
# Several wheels ship their debug symbols: 42 MB.
RUN apt-get update -q \
 && apt-get install -qq --no-install-recommends binutils \
 && find /opt/sigil -name '*.so' -exec strip --strip-unneeded {} + \
 && find /opt/sigil/bin -type f ! -name 'python*' -delete
COPY sigil sigil
COPY relay relay
COPY deploy/stack/image .
# `unchecked-hash`: the sources in an image never change, so no start compares them with their byte code.
RUN packages="$(/opt/sigil/bin/python -c 'import sysconfig; print(sysconfig.get_path("purelib"))')" \
 && cp -r sigil relay "$packages"/ \
 && install -m 755 sigil.script /opt/sigil/bin/sigil \
 && install -m 755 sigil-relay.script /opt/sigil/bin/sigil-relay \
 && install -m 755 make-secrets trust-server /opt/sigil/bin/ \
 && /opt/sigil/bin/python -m compileall -q --invalidation-mode unchecked-hash "$packages"

FROM ${PYTHON_IMAGE} AS runtime
# The mount points have their owner in the image: a new volume takes it over.
RUN groupadd --gid 10001 sigil \
 && useradd --uid 10001 --gid 10001 --no-create-home --home-dir /nonexistent --shell /usr/sbin/nologin sigil \
 && install -d -o 10001 -g 10001 -m 755 /var/lib/sigil /var/lib/sigil/tls /var/lib/relay /run/sigil \
 && install -d -o 10001 -g 10001 -m 700 /run/sigil-secrets /run/relay-secrets /run/relay-trust /etc/sigil \
 && install -d -o 10001 -g 10001 -m 750 /run/metrics-tokens
COPY --from=build /opt/sigil /opt/sigil
COPY LICENSE /opt/sigil/LICENSE
ENV PATH=/opt/sigil/bin:$PATH PYTHONDONTWRITEBYTECODE=1
USER 10001:10001
WORKDIR /
STOPSIGNAL SIGTERM

FROM runtime AS relay
EXPOSE 8080
HEALTHCHECK --interval=10s --timeout=10s --start-period=60s CMD ["sigil-relay", "health"]
ENTRYPOINT ["sigil-relay"]
CMD ["serve"]

FROM runtime AS sigil
EXPOSE 8443
HEALTHCHECK --interval=10s --timeout=10s --start-period=60s CMD ["sigil", "health"]
ENTRYPOINT ["sigil"]
CMD ["serve"]
