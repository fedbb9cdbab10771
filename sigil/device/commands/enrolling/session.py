"""One run of `enrol`: the steps, and what is on disk before each of them.

    nothing → claim_id on disk → claim → the person agrees → key and completion on disk → complete → code → enrolled →
    the key takes its place → the pending enrolment is deleted

A process that is killed anywhere goes on when the same command runs again.
"""

from __future__ import annotations

import secrets
from dataclasses import dataclass
from typing import Any

import click
import msgspec

from sigil.console.countdown import countdown
from sigil.device.attestation import Attester
from sigil.device.commands.context import CommandContext, discard_typed_ahead
from sigil.device.commands.enrolling.output import Output
from sigil.device.credential.steps import checked_credential
from sigil.device.enrolment.client import EnrolmentClient
from sigil.device.enrolment.errors import (
    AttesterNeeded,
    CodeNotCompared,
    CodeNotConfirmed,
    CommitmentBroken,
    EnrolmentClosed,
    EnrolmentDeclined,
    EnrolmentExpired,
    EnrolmentOutcomeUnknown,
    EnrolmentRefused,
    EnrolmentUnfinished,
    OfferExpired,
    OfferRefused,
    ReplacesAnotherKey,
    TokenClaimed,
    TokenUnknown,
)
from sigil.device.enrolment.pending import PendingEnrolment, PreparedKey
from sigil.device.enrolment.steps import CLAIM_ID_BYTES, Offer, check_open, completion_body, parse_offer
from sigil.device.enrolment.target import Target
from sigil.device.errors import AlreadyRegistered
from sigil.device.http.connection import ServerConnection
from sigil.device.keyring import CredentialRecord, Keyring, Registration
from sigil.device.server_pin import ServerPin
from sigil.device.software import Device, new_secret
from sigil.protocol.encoding.text import decode_base64, encode_base64
from sigil.protocol.keys import Suite

_GOES_ON = (AttesterNeeded, CodeNotCompared, OfferExpired)
"""Another option, the link in place of the token, or a corrected clock lets the same claim go on."""
_ENDED = (
    CodeNotConfirmed,
    CommitmentBroken,
    EnrolmentClosed,
    EnrolmentExpired,
    OfferRefused,
    TokenClaimed,
    TokenUnknown,
)
"""After these the enrolment cannot go on: nothing of it stays on disk."""


@dataclass(frozen=True)
class Choices:
    """Of the command line. `attester` gets the new device; `attested_by` is kept for renewals."""

    suite: Suite = "ES256"
    yes: bool = False
    force: bool = False
    keep: bool = False
    prompts: bool = True
    attester: Attester | None = None
    attested_by: dict[str, str] | None = None


class EnrolmentSession:
    def __init__(self, keyring: Keyring, context: CommandContext, output: Output, choices: Choices) -> None:
        self._keyring, self._context, self._output, self._choices = keyring, context, output, choices

    def finish_earlier(self, pending: PendingEnrolment, connection: ServerConnection) -> None:
        """An enrolment with another token, that a new one would overwrite: finished or dropped. EnrolmentUnfinished."""
        if pending.prepared is not None and not self._choices.force:
            offer = parse_offer(pending.prepared.offer.encode(), pending.server)
            try:
                enrolled, credential = self._client(pending.server, connection).poll(offer, 0)
            except CodeNotConfirmed:
                """It has ended: its key is of no use."""
            except EnrolmentOutcomeUnknown:
                click.echo(
                    f"Forgotten: the key {_device(pending.prepared).fingerprint} of an earlier enrolment, whose result "
                    "the server no longer stores.",
                    err=True,
                )
            else:
                if not enrolled:
                    raise EnrolmentUnfinished(
                        f"{EnrolmentUnfinished.summary} It is for the account {offer.account}, and ends in "
                        f"{offer.seconds_left(self._context.clock())} s."
                    )
                self._adopt(pending, pending.prepared, offer, credential)
        self._keyring.forget_enrolment(pending.server.base_url)

    def run(self, target: Target, pending: PendingEnrolment, connection: ServerConnection) -> Registration:
        """From the claim, or from where an earlier run ended."""
        client = self._client(pending.server, connection)
        try:
            prepared = pending.prepared
            if prepared is None:
                pending = self._agreed(target, pending, client)
                prepared = pending.prepared
            assert prepared is not None  # noqa: S101 - for the type checker
            return self._completed(pending, prepared, client)
        except _GOES_ON:
            raise
        except _ENDED:
            self._keyring.forget_enrolment(pending.server.base_url)
            raise
        except EnrolmentRefused:
            # The same bytes would be refused again: another key, or an attested one, may do for the same offer.
            self._keyring.remember_enrolment(msgspec.structs.replace(pending, prepared=None))
            raise

    def start(self, target: Target, server: ServerPin) -> PendingEnrolment:
        """A claim_id on disk: an answer that is lost is fetched again with it."""
        pending = PendingEnrolment(
            token_sha256=target.token_sha256, claim_id=secrets.token_hex(CLAIM_ID_BYTES), server=server
        )
        self._keyring.remember_enrolment(pending)
        return pending

    def _agreed(self, target: Target, pending: PendingEnrolment, client: EnrolmentClient) -> PendingEnrolment:
        """Claims, shows the offer, and makes the key when the person agreed."""
        offer = client.claim(target, pending.claim_id)
        known = self._keyring.find(pending.server.base_url)
        if offer.replaces and (known is None or known.device.fingerprint != offer.replaces):
            raise ReplacesAnotherKey
        if offer.members.attestation.min_level and self._choices.attester is None:
            raise AttesterNeeded
        self._output.offer(offer, self._context.clock())
        if known is not None and not offer.replaces:
            self._agree_to_lose(known)
        if not self._choices.yes:
            self._confirm("Enrol this device for this account?")
        check_open(offer, self._context.clock())
        secret = new_secret(self._choices.suite)
        device = Device.from_secret(self._choices.suite, secret)
        completion = completion_body(
            device,
            offer,
            attestation=self._attestation(device, offer),
            replaced=known.device if known is not None and offer.replaces else None,
        )
        prepared = PreparedKey(
            suite=device.suite,
            private_key=encode_base64(secret),
            offer=offer.jcs.decode(),
            completion=completion,
            supersedes=known.device.fingerprint if known is not None else "",
        )
        attested_by = self._choices.attested_by if "attestation" in completion else None
        pending = msgspec.structs.replace(pending, prepared=prepared, attested_by=attested_by)
        self._keyring.remember_enrolment(pending)
        return pending

    def _completed(self, pending: PendingEnrolment, prepared: PreparedKey, client: EnrolmentClient) -> Registration:
        """Sends the key, shows the code, and waits until it was entered."""
        offer = parse_offer(prepared.offer.encode(), pending.server)
        try:
            session, answer = client.complete(offer, prepared.completion)
            credential = answer.device_credential
            if answer.status != "enrolled":
                self._output.code(session)
                left = offer.seconds_left(self._context.clock())
                credential = self._awaited(client, offer, left)
        except EnrolmentOutcomeUnknown as error:
            if not self._choices.keep and not self._is_adopted(pending, prepared):
                raise EnrolmentOutcomeUnknown(
                    "The server stores no result of this enrolment any more. If the service lists this device "
                    f"(fingerprint {_device(prepared).fingerprint}), run the same command with --keep. Otherwise begin "
                    "a new enrolment at the service."
                ) from error
            credential = None
        return self._adopt(pending, prepared, offer, credential)

    @staticmethod
    def _awaited(client: EnrolmentClient, offer: Offer, seconds: int) -> str | None:
        try:
            with countdown("Waiting for the code to be entered on the page", seconds):
                return client.wait(offer)
        except KeyboardInterrupt:
            click.echo("\nNot enrolled yet: the same command shows the code again and goes on.", err=True)
            raise

    def _adopt(
        self, pending: PendingEnrolment, prepared: PreparedKey, offer: Offer, credential: str | None
    ) -> Registration:
        base_url, device = pending.server.base_url, _device(prepared)
        known = self._keyring.find(base_url)
        if known is not None and known.device.fingerprint not in (prepared.supersedes, device.fingerprint):
            # Made meanwhile, by `init`.
            self._agree_to_lose(known)
        if credential is not None:
            checked_credential(credential, device.public, pending.server)
            # Before the key: the file keeps the credential of the replaced key as well.
            self._keyring.remember_credential(
                base_url,
                CredentialRecord(
                    fingerprint=device.fingerprint, device_credential=credential, attested_by=pending.attested_by
                ),
            )
        registration = self._keyring.adopt(pending, prepared, offer.account)
        self._keyring.forget_enrolment(base_url)
        self._output.enrolled(registration, offer.replaces)
        return registration

    def _is_adopted(self, pending: PendingEnrolment, prepared: PreparedKey) -> bool:
        known = self._keyring.find(pending.server.base_url)
        return known is not None and known.device.fingerprint == _device(prepared).fingerprint

    def _attestation(self, device: Device, offer: Offer) -> dict[str, Any] | None:
        if self._choices.attester is None or not offer.members.attestation.kinds:
            return None
        return self._choices.attester.statement(offer.attest_digest, device.public)

    def _agree_to_lose(self, known: Registration) -> None:
        """The directory has one key per server, and this offer does not replace that key at the service."""
        if self._choices.force:
            return
        if not self._choices.prompts:
            raise AlreadyRegistered(
                f"{AlreadyRegistered.summary} --force discards it when the new one is enrolled. To keep both, begin "
                "another enrolment and use a directory of its own (--home). To change the key of one account, the "
                "service begins the enrolment with 'replaces'."
            )
        click.echo(f"This device already has a key for this server{_of(known)}. The new key takes its place.", err=True)
        self._confirm("Discard the present key?")

    def _confirm(self, question: str) -> None:
        discard_typed_ahead()
        if not click.confirm(question, default=False, err=True):
            raise EnrolmentDeclined

    def _client(self, server: ServerPin, connection: ServerConnection) -> EnrolmentClient:
        return EnrolmentClient(server, connection, clock=self._context.clock, sleep=self._context.sleep)


def _of(known: Registration) -> str:
    return f", for the account {known.account}" if known.account else ""


def _device(prepared: PreparedKey) -> Device:
    return Device.from_secret(prepared.suite, decode_base64(prepared.private_key, "$.private_key"))
