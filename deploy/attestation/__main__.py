"""Mints attestations of the test phone, sound or hostile, for tests and by hand.

\b
python -m deploy.attestation root DIR                # prints the settings of a server that accepts it
python -m deploy.attestation mint android --root DIR --set patch=202401 --set locked=hex:00
python -m deploy.attestation mint apple --root DIR --hostile apple-trailing
python -m deploy.attestation fields yubikey          # what --set knows
python -m deploy.attestation list                    # the hostile cases, and the reason that each gets
"""

from __future__ import annotations

import json
import shlex
from pathlib import Path

import click

from deploy.attestation.hostile import CASES
from sigil.device.software import Device
from sigil.device.test_phone import phones
from sigil.device.test_phone.roots import ROOTS_FILE, TestRoot
from sigil.protocol.encoding.text import decode_base64, encode_base64
from sigil.protocol.errors import Problem
from sigil.protocol.keys import PublicKey
from sigil.protocol.messages.attestation import KINDS


@click.group(help=__doc__)
def cli() -> None:
    """Test roots and attestations."""


@cli.command()
@click.argument("directory", type=click.Path(path_type=Path))
def root(directory: Path) -> None:
    """Make a test root in a new DIRECTORY, and print the settings of a server that accepts it.

    Its keys can forge any device: use it for tests alone.
    """
    try:
        TestRoot.create(directory)
    except OSError as error:
        raise click.ClickException(str(error)) from error
    for name, value in _settings(directory).items():
        click.echo(f"export {name}={shlex.quote(value)}")


def _settings(directory: Path) -> dict[str, str]:
    """Those of a server that accepts the test phones of the root in this directory."""
    android, apple = phones.defaults("android"), phones.defaults("apple")
    return {
        # The server may run in another directory.
        "SIGIL_ATTESTATION_ROOTS": str((directory / ROOTS_FILE).resolve()),
        "SIGIL_ATTESTATION_KINDS": ",".join(KINDS),
        "SIGIL_ANDROID_APPS": f"{android['package']}:{android['signers'][0].hex(':')}",
        "SIGIL_APPLE_APPS": apple["app"],
    }


@cli.command()
@click.argument("kind", type=click.Choice(phones.NAMES))
@click.option(
    "--root", "directory", type=click.Path(path_type=Path), required=True, help="The directory of the test root."
)
@click.option("--key", help="device_public_key to attest. By default that of a new key, which is printed.")
@click.option("--digest", default="00" * 32, help="attest_digest, 64 hex characters. By default zeros.")
@click.option(
    "--set", "settings", multiple=True, metavar="FIELD=VALUE", help="Forge a field: 5, true, none, hex:00, a,b."
)
@click.option("--hostile", type=click.Choice(sorted(CASES)), metavar="NAME", help="A case of `list`.")
def mint(
    *, kind: str, directory: Path, key: str | None, digest: str, settings: tuple[str, ...], hostile: str | None
) -> None:
    """Print the `attestation` member for POST /device/attest, and the key that it is about."""
    try:
        test_root = TestRoot.load(directory)
    except (OSError, ValueError) as error:
        raise click.ClickException(f"{error} Make a test root with: python -m deploy.attestation root DIR") from error
    try:
        device = PublicKey.parse(decode_base64(key, "--key")) if key else Device.generate().public
        forged = phones.parse_fields(dict(text.partition("=")[::2] for text in settings), kind)
        expected = bytes.fromhex(digest)
        if hostile is not None and CASES[hostile].phone != kind:
            raise ValueError(f"{hostile} is a case of {CASES[hostile].phone}, not of {kind}.")
    except (ValueError, Problem) as error:
        raise click.ClickException(str(error)) from error
    try:
        if hostile is None:
            statement = phones.phone(kind, test_root, device, **forged).statement(lambda _kind, _key: expected)
        else:
            statement = CASES[hostile].statement(test_root, device, lambda _kind, _key: expected, **forged)
    except (ValueError, AttributeError, LookupError, OverflowError, TypeError) as error:
        # The phone takes any value, so that it can be hostile; it cannot encode all of them.
        sound = f"python -m deploy.attestation fields {kind}"
        raise click.ClickException(
            f"--set: the phone cannot encode a value ({error}). Sound values: {sound}"
        ) from error
    click.echo(json.dumps({"device_public_key": encode_base64(device.wire), "attestation": statement}))


@cli.command()
@click.argument("kind", type=click.Choice(phones.NAMES))
def fields(kind: str) -> None:
    """Print what --set knows, with the value of a sound phone."""
    for name, value in phones.defaults(kind).items():
        click.echo(f"{name} = {value!r}")


@cli.command("list")
def list_cases() -> None:
    """Print the hostile cases with the `details.reason` that each gets."""
    width = max(map(len, CASES))
    for name, case in sorted(CASES.items()):
        click.echo(f"{name:{width}}  {case.reason or 'INVALID_REQUEST'}")


if __name__ == "__main__":
    cli()
