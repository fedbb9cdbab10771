"""Settings whose defaults suit development."""

from __future__ import annotations

from collections.abc import Iterator

from sigil.attestation.policy import AttestationPolicy
from sigil.config.secret_sources import file_variable
from sigil.config.settings import SECRETS, Config
from sigil.console.findings.result import Result, failed, ok, still_open
from sigil.serving.addresses.gateways import gateway_warnings


def check_settings(config: Config) -> Iterator[Result]:
    yield _mode(config)
    yield from _attestation(config.attestation)
    yield _number_matching(config)
    if config.enrol_without_code:
        yield still_open(
            "SIGIL_ENROL_WITHOUT_CODE", "on: the first phone that scans a link is enrolled, also one that saw a photo "
            "of it", "unset it, unless another check of the person follows",
        )  # fmt: skip
    yield from _addresses(config)
    yield from _device_app(config)
    yield _rate_limit(config)
    yield from _proxies(config)
    yield from (
        still_open("TRUSTED_PROXY", line, "docs/operations.md, Proxies") for line in gateway_warnings(config.proxies)
    )
    yield _metrics(config)
    yield _logs(config)
    # `check_sources` reports on files of secrets.
    files = tuple(f"{file_variable(name)}:" for name in SECRETS)
    others = (line for line in config.warnings if not line.startswith(files))
    yield from (
        still_open("setting", line, "unset it" if "docs/" in line else "docs/configuration.md") for line in others
    )


def _mode(config: Config) -> Result:
    if config.mode == "operational":
        return ok("SIGIL_MODE", "operational")
    return failed("SIGIL_MODE", "init: the server would wait for its first boot", "set SIGIL_MODE=operational")


def _attestation(policy: AttestationPolicy) -> Iterator[Result]:
    if policy.required:
        yield ok("attestation", f"required: {', '.join(sorted(policy.kinds))}")
    else:
        yield still_open(
            "attestation", "not required: devices without a key in hardware, and emulators, can enrol and approve",
            "SIGIL_ATTESTATION_REQUIRED=true (docs/attestation.md), or enrol devices under supervision",
        )  # fmt: skip
    if policy.allow_emulators:
        yield failed("SIGIL_ALLOW_EMULATORS", "on: an emulator proves nothing", "set it to false")
    if policy.apple_environment == "development":
        yield failed(
            "SIGIL_APPLE_ENVIRONMENT", "development: apps that Xcode installed may attest", "set it to production"
        )
    if policy.test_roots:
        yield failed("SIGIL_ATTESTATION_ROOTS", "roots for tests can make a statement for any key", "unset it")


def _number_matching(config: Config) -> Result:
    if config.number_matching:
        return ok("SIGIL_NUMBER_MATCHING", "on")
    return failed("SIGIL_NUMBER_MATCHING", "off: a tap approves, so repeated prompts may succeed", "set it to on")


def _addresses(config: Config) -> Iterator[Result]:
    if config.public_url and config.public_url.startswith("https://"):
        yield ok("SIGIL_PUBLIC_URL", config.public_url)
    else:
        yield failed(
            "SIGIL_PUBLIC_URL", "is not an https address", "set it to the address that devices and browsers open"
        )
    if not config.relay_url:
        yield still_open("RELAY_URL", "empty: no pushes are sent", "set RELAY_URL, unless devices poll")
    elif config.relay_public_url and config.relay_public_url.startswith("https://"):
        yield ok("RELAY_PUBLIC_URL", config.relay_public_url)
    else:
        yield failed("RELAY_PUBLIC_URL", "is not an https address", "set it to the relay's address for devices")


def _device_app(config: Config) -> Iterator[Result]:
    if config.device_app and config.public_url and config.device_app_origin is None:
        yield still_open(
            "SIGIL_DEVICE_APP", "on, but not served: browsers make no keys for an IP address",
            "set SIGIL_PUBLIC_URL to an address with a host name, or SIGIL_DEVICE_APP=off",
        )  # fmt: skip
    if config.web_plain_keys:
        yield still_open(
            "SIGIL_WEB_PLAIN_KEYS", "true: a browser without WebAuthn approves without the person's fingerprint, face "
            "or PIN", "unset it",
        )  # fmt: skip


def _rate_limit(config: Config) -> Result:
    if config.rate_limit:
        return ok("SIGIL_RATE_LIMIT", f"{config.rate_limit}/min")
    return failed("SIGIL_RATE_LIMIT", "off: one client can guess and flood without a limit", "remove the setting")


def _proxies(config: Config) -> Iterator[Result]:
    wide = [network for network in config.proxies.own if network.num_addresses > 1]
    if wide:
        listed = ", ".join(map(str, wide))
        yield failed(
            "TRUSTED_PROXY", f"{listed} trusts more than one address: clients of a published port come from the "
            "gateway of a container network, which such a range holds", "name the proxy's address in TRUSTED_PROXY_IP"
        )  # fmt: skip
    elif config.proxies:
        own = ", ".join(str(network.network_address) for network in config.proxies.own)
        names = [own] if own else []
        yield ok("TRUSTED_PROXY", " and ".join(names + ["Cloudflare's ranges"] * bool(config.proxies.cloudflare)))
    else:
        yield still_open(
            "TRUSTED_PROXY", "none: right only if clients connect to this server directly",
            "behind a proxy set TRUSTED_PROXY_IP to its address, or all clients share one rate limit",
        )  # fmt: skip


def _metrics(config: Config) -> Result:
    if config.metrics_open:
        return failed("METRICS_TOKEN", "off: every client can read /metrics", "set METRICS_TOKEN_FILE to a token file")
    if config.telemetry == "none":
        return ok("METRICS_TOKEN", "SIGIL_TELEMETRY=none: there are no metrics")
    return ok("METRICS_TOKEN", "required" if config.metrics_token else "none: /metrics answers this host alone")


def _logs(config: Config) -> Result:
    if config.log_level == "debug":
        return still_open("LOG_LEVEL", "debug: noisy, for development", "set LOG_LEVEL=info")
    return ok("LOG_LEVEL", f"{config.log_level}; keys, signatures and codes never reach a log line")
