"""Variables of other programs, of which an operator may expect an effect that they do not have."""

from __future__ import annotations

import os
import re
from collections.abc import Collection, Iterator, Mapping
from pathlib import Path

SERVICE_LINK = (
    "is a service link of Kubernetes, not a setting: set enableServiceLinks: false in the spec of the pod, or give the "
    "service another name"
)
_LINK_VALUE = re.compile(r"(?:tcp|udp|sctp)://", re.IGNORECASE)
_LINK_NAME = re.compile(r"_(?:SERVICE_(?:HOST|PORT(?:_\w+)?)|PORT_\d+_(?:TCP|UDP|SCTP)(?:_(?:PROTO|PORT|ADDR))?)\Z")
# What the services read of it is in `tracing.settings`.
_EXPORTER = re.compile(r"OTEL_(?:EXPORTER_\w+|(?:TRACES|METRICS|LOGS)_EXPORTER|BSP_\w+|TRACES_\w+|PROPAGATORS)\Z")
_OFF = {"", "none"}
_HASHED = re.compile(r"[0-9a-f]{8}\.\d+\Z")


def is_link_value(text: str) -> bool:
    return bool(_LINK_VALUE.match(text))


def without_links(variables: Mapping[str, str]) -> tuple[list[str], list[str]]:
    """The names without those of service links, and the service links."""
    # <SERVICE>_PORT may be the name of a setting, or nearly: its value shows where it is from.
    links = [name for name, value in variables.items() if _LINK_NAME.search(name) or is_link_value(value)]
    return [name for name in variables if name not in links], links


def link_warning(links: list[str]) -> str:
    others = f" (and {len(links) - 1} more)" if len(links) > 1 else ""
    return f"{links[0]}{others} {SERVICE_LINK}"


def exporter_warnings(variables: Mapping[str, str], known: Collection[str]) -> Iterator[str]:
    """A line for variables of OpenTelemetry that have no effect here. Values may be secrets, and are not shown."""
    if variables.get("OTEL_SDK_DISABLED", "").strip().lower() == "true":
        return
    wanted = {name for name, value in variables.items() if _EXPORTER.match(name) and value.strip().lower() not in _OFF}
    if given := sorted(wanted - set(known)):
        yield (
            f"{', '.join(given)}: has no effect: of OpenTelemetry these services export traces alone, over OTLP; "
            "Prometheus reads /metrics, and docs/configuration.md lists the variables"
        )


def certificate_warnings(variables: Mapping[str, str]) -> Iterator[str]:
    """A line for each variable of OpenSSL that leads to no certificate authority."""
    effect = "connections by https to other hosts may trust no certificate; correct it, or unset it"
    file, directories = (variables.get(name, "").strip() for name in ("SSL_CERT_FILE", "SSL_CERT_DIR"))
    if file and (problem := _problem_of_file(file)):
        yield f"SSL_CERT_FILE: {file} {problem}: {effect}"
    if directories and not any(map(_has_authorities, directories.split(os.pathsep))):
        yield (
            f"SSL_CERT_DIR: {directories} holds no certificate under the name that OpenSSL looks for (`openssl rehash` "
            f"makes it): {effect}"
        )


def _problem_of_file(file: str) -> str | None:
    # Not at the top: the health check reads settings too, and needs no TLS of OpenSSL.
    import ssl

    try:
        # Not a pipe or a device, which OpenSSL would wait for.
        if not Path(file).is_file():
            return "is no file" if Path(file).exists() else "does not exist"
        ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT).load_verify_locations(file)
    except ssl.SSLError:
        return "holds no certificate in PEM"
    except OSError as error:
        return f"cannot be read ({error.strerror})"
    return None


def _has_authorities(directory: str) -> bool:
    try:
        return any(_HASHED.match(entry.name) for entry in Path(directory).iterdir())
    except OSError:
        return False
