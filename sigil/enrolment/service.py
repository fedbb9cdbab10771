"""The service of enrolments: begin, claim, complete, confirm, query, wait, cancel (docs/protocol.md, 5.5)."""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import msgspec

from sigil.core.challenge import IdempotencyRecord, idempotency_key
from sigil.core.enrolment import rules
from sigil.core.enrolment.attestation import EnrolmentAttestation
from sigil.core.enrolment.row import Claim, Completion, Enrolment, State, current_state, enrolment_key, token_key
from sigil.core.enrolment.rules import Begun, Changed, Confirmed
from sigil.core.evidence import evidence_of, web_proof
from sigil.core.session_store import Decision, StoreFull, tally_key
from sigil.core.tracing import RequestTracePort, SpanPort, Subject
from sigil.enrolment.messages import EnrolmentMessages, OfferedTerms
from sigil.protocol import device_credential, signed_bytes
from sigil.protocol.api_key import Caller
from sigil.protocol.encoding.ids import format_uuid, parse_uuid, uuid4_bytes
from sigil.protocol.encoding.text import decode_base64
from sigil.protocol.enrolment.offer import check_account
from sigil.protocol.errors import (
    EnrolmentClaimed,
    EnrolmentClosed,
    EnrolmentExpired,
    EnrolmentNotFound,
    InvalidPublicKey,
    InvalidRequest,
    InvalidSignature,
    Overloaded,
    WrongCode,
)
from sigil.protocol.keys import PublicKey
from sigil.protocol.messages import enrolment as messages
from sigil.protocol.messages.attestation import LEVELS, Statement, statement_jcs, statement_members
from sigil.sessions.expiry import ExpirySweeper
from sigil.sessions.idempotency import TRIES, Idempotency
from sigil.sessions.runtime import SessionRuntime

_POLLS_PER_DEVICE = 4
"""Long polls of one enrolment by its device, which has no API key: it takes none from the integrator's share."""


@dataclass(frozen=True)
class EnrolmentPolicy:
    """The settings of enrolments. `public_url` is None where links have the address that the caller used, `web_origin`
    where there is no web app.
    """

    server_name: str = "Sigil"
    public_url: str | None = None
    web_origin: str | None = None
    without_code: bool = False


class Enrolments:
    """`messages` signs for this server's identity; `attestation` verifies what devices attest."""

    def __init__(
        self,
        runtime: SessionRuntime,
        *,
        messages: EnrolmentMessages,
        policy: EnrolmentPolicy,
        attestation: EnrolmentAttestation,
    ) -> None:
        self._messages = messages
        self._policy = policy
        self._attestation = attestation
        self._notifier = runtime.notifier
        self._emit_events = runtime.notifier.event_backlog.enabled
        self._devices = runtime.devices
        self._capacity = runtime.capacity
        self._store = runtime.store
        self._long_polls = runtime.long_polls
        self._clock = runtime.store.now
        self._time_of_creation = runtime.time_of_creation
        self._expiry = ExpirySweeper(runtime.store, runtime.notifier)
        self._randomness = runtime.randomness

    async def begin(
        self,
        caller: Caller,
        body: messages.BeginEnrolment,
        idempotency: Idempotency | None = None,
        trace: RequestTracePort | None = None,
        *,
        origin: str | None = None,
    ) -> tuple[messages.EnrolmentBegun, bool]:
        """Begin an enrolment; `origin` is the address that the caller used, if devices may use it. The flag: the
        Idempotency-Key is known; this is its enrolment.
        """
        enrolment_id = uuid4_bytes(self._randomness(16))
        draft = self._draft(caller, enrolment_id, body, origin)
        draft = msgspec.structs.replace(
            draft,
            idempotency=idempotency.name(caller, "POST /enrolment") if idempotency else None,
            creation=trace.packed if trace is not None else None,
        )
        begun = await self._create(enrolment_id, draft, idempotency.body_sha256 if idempotency else b"")
        if trace is not None:
            trace.about(_subject(begun.enrolment_id), begun.enrolment.creation if begun.replayed else None)
        if not begun.replayed:
            self._notifier.observer.enrolment("enrolment_begun", begun.enrolment_id, begun.enrolment)
        return self._messages.begun(
            begun.enrolment_id, begun.enrolment, self._web_origin(begun.enrolment)
        ), begun.replayed

    def _web_origin(self, enrolment: Enrolment) -> str | None:
        """None where the web app refuses the offer: a browser proves no attestation, and has no other device's key,
        which must consent to its replacement. The row may be from before another SIGIL_PUBLIC_URL.
        """
        if enrolment.replaces or self._min_level(enrolment.min_level):
            return None
        return self._policy.web_origin if self._policy.web_origin == enrolment.base_url else None

    def _draft(
        self, caller: Caller, enrolment_id: bytes, body: messages.BeginEnrolment, origin: str | None
    ) -> Enrolment:
        check_account(body.account)
        replaces = b""
        if body.replaces is not None:
            replaces = self._replaced(body.replaces).wire
        without_code = body.confirm == "none"
        if without_code and not (replaces or self._policy.without_code):
            raise InvalidRequest(
                'confirm may be "none" only with `replaces`, or where the operator sets SIGIL_ENROL_WITHOUT_CODE=true: '
                "leave it out, and ask for the code of the device.",
                path="$.confirm",
            )
        if body.min_level is not None and not self._attestation.kinds:
            raise InvalidRequest(
                "This server accepts no attestation: leave min_level out, or let the operator set "
                "SIGIL_ATTESTATION_KINDS.",
                path="$.min_level",
            )
        base_url = self._policy.public_url or origin
        if base_url is None:
            raise InvalidRequest(
                "A device could not use the address of this request: let the operator set SIGIL_PUBLIC_URL.",
                path="Host",
            )
        created_ms, ahead = self._time_of_creation()
        return Enrolment(
            owner=caller.owner,
            account=body.account,
            token_sha256=signed_bytes.enrolment_token_sha256(self._messages.token(enrolment_id)),
            base_url=base_url,
            created_ms=created_ms,
            lifetime=_lifetime(body, without_code),
            without_code=without_code,
            replaces=replaces,
            min_level=body.min_level or "",
            ahead=ahead,
        )

    def _replaced(self, public_key: str) -> PublicKey:
        try:
            device = PublicKey.parse(decode_base64(public_key, "$.replaces"))
            self._devices.require_foreign(device)
        except InvalidPublicKey:
            raise InvalidPublicKey("replaces is not a usable public key of a device.") from None
        self._devices.require_not_revoked(device)
        return device

    async def _create(self, enrolment_id: bytes, draft: Enrolment, body_sha256: bytes) -> Begun:
        for _ in range(TRIES):
            begun = await self._try_create(enrolment_id, draft, body_sha256)
            if begun is not None:
                return begun
        raise Overloaded("The same Idempotency-Key is in use by many requests at once.")

    async def _try_create(self, enrolment_id: bytes, draft: Enrolment, body_sha256: bytes) -> Begun | None:
        """None when the Idempotency-Key came into use between the read and the transaction."""
        keys = [tally_key(draft.owner)]
        known: IdempotencyRecord | None = None
        stale = None
        if draft.idempotency:
            keys.append(idempotency_key(draft.idempotency))
            known = await self._store.get(keys[-1])
        if known is not None:
            earlier = await self._expiry.settled(enrolment_key(known.challenge_id))
            replayed = rules.replay(self._clock(), known, body_sha256, earlier)
            if replayed is not None:
                return replayed
            stale = (known.challenge_id, earlier)

        share = self._capacity.check_enrolment(draft)

        def rule(_now: float, rows: tuple[Any, ...]) -> Decision[Begun | None]:
            tally, *used = rows
            if used and used[0] != known:
                return Decision(None)
            return rules.begin(enrolment_id, draft, body_sha256=body_sha256, stale=stale, tally=tally, share=share)

        try:
            return await self._store.transact(keys, rule, creates=True)
        except StoreFull as error:
            raise Overloaded(retry_after=5) from error

    async def claim(
        self, request: messages.ClaimEnrolment, trace: RequestTracePort | None = None
    ) -> messages.EnrolmentOffered:
        """The signed offer. The first claim_id wins, and gets the same offer again. A wrong token causes no write."""
        claim_id = bytes.fromhex(request.claim_id)
        enrolment_id, enrolment = await self._of_token(request.token)
        if trace is not None:
            trace.about(_subject(enrolment_id), enrolment.creation)
        claim = self._messages.claim(
            enrolment_id,
            enrolment,
            claim_id,
            server_name=self._policy.server_name,
            terms=self._terms(enrolment),
        )
        changed = await self._change(
            enrolment_id, enrolment, lambda now, row: rules.claim(now, enrolment_id, row, claim)
        )
        claimed = changed.enrolment.claim or claim
        return self._messages.offered(enrolment_id, changed.enrolment, claimed, claim_id)

    def _terms(self, enrolment: Enrolment) -> OfferedTerms:
        """The stricter of what the server and the integrator demand. Where the server requires an attestation, it
        accepts no emulator.
        """
        return OfferedTerms(self._attestation.kinds, self._min_level(enrolment.min_level))

    def _min_level(self, demanded: str) -> str:
        return max(demanded, "hardware" if self._attestation.required else "", key=_rank)

    async def _of_token(self, token: str) -> tuple[bytes, Enrolment]:
        token_sha256 = signed_bytes.enrolment_token_sha256(token)
        record = await self._store.get(token_key(token_sha256))
        if record is None:
            raise EnrolmentNotFound
        enrolment_id, enrolment = await self._readable(record.enrolment_id)
        if enrolment.token_sha256 != token_sha256:
            raise EnrolmentNotFound
        return enrolment_id, enrolment

    async def _change(
        self, enrolment_id: bytes, enrolment: Enrolment, rule: Callable[[float, Enrolment | None], Decision[Changed]]
    ) -> Changed:
        """What a rule makes of the row. A request that changes nothing, such as a repetition, costs no transaction."""
        try:
            first = rule(self._clock(), enrolment)
            if not first.writes:
                return first.result
            changed = await self._store.transact([enrolment_key(enrolment_id)], lambda now, rows: rule(now, rows[0]))
        except (EnrolmentExpired, EnrolmentClosed):
            # It may have expired since the read.
            await self._expiry.settled(enrolment_key(enrolment_id))
            raise
        except EnrolmentClaimed:
            self._notifier.observer.enrolment("enrolment_claim_refused", enrolment_id, enrolment)
            raise
        if changed.changed:
            self._notifier.enrolment_changed(enrolment_id, changed.enrolment)
        return changed

    async def complete(
        self, request: messages.CompleteEnrolment, trace: RequestTracePort | None = None
    ) -> messages.EnrolmentCompleted:
        """A device's key. Checks in order: known, its claim, signature, key rules, consent of the replaced key,
        attestation, and in the transaction: open, not expired, the first. No error carries sas_nonce.
        """
        device = PublicKey.parse(decode_base64(request.device_public_key, "$.device_public_key"))
        signature = decode_base64(request.signature, "$.signature")
        claim_id = bytes.fromhex(request.claim_id)
        enrolment_id, enrolment, claim = await self._claimed(request.enrolment_id, claim_id)
        if trace is not None:
            trace.about(_subject(enrolment_id), enrolment.creation)
        digest = signed_bytes.enrolment_digest(claim.offer_sha256, device.wire, statement_jcs(request.attestation))
        if not device.verify(signed_bytes.enrolment_completion(digest), signature):
            self._reject_signature(enrolment_id, enrolment)
        self._check_keys(enrolment_id, enrolment, device, request.replaces_signature, digest)
        if rules.is_repeated(enrolment, digest):
            return self._messages.completed(enrolment)
        credential = self._verify_attestation(enrolment_id, claim_id, claim, device, request.attestation)
        completion = Completion(
            public_key=device.wire,
            digest=digest,
            sas_nonce=self._messages.sas_nonce(enrolment_id, claim_id),
            credential=credential,
            evidence=evidence_of(device_credential.parse(credential).payload) if credential else None,
            web=web_proof(device.wire, signature),
        )
        create = self._creating_event(enrolment_id, trace)
        creation = create.packed if create is not None else None

        def rule(now: float, row: Enrolment | None) -> Decision[Changed]:
            return rules.complete(
                now,
                enrolment_id,
                row,
                claim.claim_sha256,
                completion,
                emit_event=self._emit_events,
                event_creation=creation,
            )

        changed = await self._change(enrolment_id, enrolment, rule)
        _report_end(trace, create, changed)
        return self._messages.completed(changed.enrolment)

    async def _claimed(self, enrolment_id: str, claim_id: bytes) -> tuple[bytes, Enrolment, Claim]:
        """For the device that knows its claim_id. EnrolmentNotFound, EnrolmentClaimed."""
        key, enrolment = await self._readable(parse_uuid(enrolment_id.lower()))
        if enrolment.claim is None or not enrolment.is_claimed_by(hashlib.sha256(claim_id).digest()):
            raise EnrolmentClaimed
        return key, enrolment, enrolment.claim

    def _reject_signature(self, enrolment_id: bytes, enrolment: Enrolment) -> None:
        self._notifier.observer.enrolment("enrolment_signature_failed", enrolment_id, enrolment)
        raise InvalidSignature

    def _check_keys(
        self,
        enrolment_id: bytes,
        enrolment: Enrolment,
        device: PublicKey,
        replaces_signature: str | None,
        digest: bytes,
    ) -> None:
        """The new key is permitted, and the replaced key consents to it."""
        self._devices.require_foreign(device)
        self._devices.require_own_origin(device)
        self._devices.require_not_revoked(device)
        if bool(enrolment.replaces) != (replaces_signature is not None):
            expected = "the signature of the replaced key" if enrolment.replaces else "no replaces_signature"
            raise InvalidRequest(f"A completion of this offer carries {expected}.", path="$.replaces_signature")
        if replaces_signature is None:
            return
        consent = decode_base64(replaces_signature, "$.replaces_signature")
        if device.wire == enrolment.replaces:
            raise InvalidRequest("The new key is the replaced one: make a new key.", path="$.device_public_key")
        replaced = PublicKey.parse(enrolment.replaces)
        if not replaced.verify(signed_bytes.enrolment_consent(digest), consent):
            self._reject_signature(enrolment_id, enrolment)
        # It may have been revoked since the enrolment began.
        self._devices.require_not_revoked(replaced)

    def _verify_attestation(
        self,
        enrolment_id: bytes,
        claim_id: bytes,
        claim: Claim,
        device: PublicKey,
        statement: Statement | None,
    ) -> str:
        """The credential; empty where none is demanded and none was sent. By the offer's terms and those of now."""
        if statement is None:
            if claim.min_level or self._attestation.required:
                raise self._attestation.rejected_enrolment(device, "")
            return ""
        kind = statement_members(statement)["kind"]
        if kind not in claim.kinds:
            raise self._attestation.rejected_enrolment(device, kind)
        return self._attestation.verify_for_enrolment(
            device,
            statement,
            enrolment_id=format_uuid(enrolment_id),
            nonce=self._messages.nonce(enrolment_id, claim_id),
            min_level=self._min_level(claim.min_level),
        )

    async def confirm(
        self, caller: Caller, enrolment_id: str, code: str, trace: RequestTracePort | None = None
    ) -> messages.EnrolmentStatus:
        """Enrol the device with its code. WrongCode: the third one ends the enrolment."""
        key, enrolment = await self._owned(caller, enrolment_id)
        if trace is not None:
            trace.about(_subject(key), enrolment.creation)
        if enrolment.completion is not None and enrolment.state is State.CONFIRMING:
            # The operator may have revoked one of them since the completion.
            for wire in (enrolment.completion.public_key, *filter(None, [enrolment.replaces])):
                self._devices.require_not_revoked(PublicKey.parse(wire))
        create = self._creating_event(key, trace)
        creation = create.packed if create is not None else None

        def rule(now: float, rows: tuple[Any, ...]) -> Decision[Confirmed]:
            return rules.confirm(now, key, rows[0], code, emit_event=self._emit_events, event_creation=creation)

        try:
            confirmed = await self._store.transact([enrolment_key(key)], rule)
        except EnrolmentExpired:
            await self._expiry.settled(enrolment_key(key))
            raise
        _report_end(trace, create, Changed(confirmed.enrolment, confirmed.changed))
        if not confirmed.right:
            self._notifier.observer.enrolment("enrolment_wrong_code", key, confirmed.enrolment)
        if confirmed.changed:
            self._notifier.enrolment_changed(key, confirmed.enrolment)
        if not confirmed.right:
            raise WrongCode(attempts_left=confirmed.attempts_left)
        return self._messages.status(key, confirmed.enrolment)

    def _creating_event(self, enrolment_id: bytes, trace: RequestTracePort | None) -> SpanPort | None:
        """For the event that a transaction may write."""
        return (
            trace.create("sigil.webhook", _subject(enrolment_id)) if trace is not None and self._emit_events else None
        )

    async def status(
        self, caller: Caller, enrolment_id: str, wait: int = 0, known: messages.EnrolmentState | None = None
    ) -> messages.EnrolmentStatus:
        """The status; with `wait` as soon as it is another than `known`, or than at the begin of the request."""
        key, enrolment = await self._owned(caller, enrolment_id)
        before = known or enrolment.state.wire_name
        if wait and enrolment.open and enrolment.state.wire_name == before:

            async def read() -> tuple[Enrolment, float | None]:
                _, found = await self._owned(caller, enrolment_id)
                unchanged = found.open and found.state.wire_name == before
                return found, found.deadline - self._clock() if unchanged else None

            enrolment = await self._long_polls.until_final(caller.owner, key, wait, read)
        return self._messages.status(key, enrolment)

    async def wait(self, request: messages.WaitForEnrolment) -> messages.EnrolmentWaited:
        """For the device: the final status, at the latest after `wait` seconds."""
        claim_id = bytes.fromhex(request.claim_id)

        async def read() -> tuple[Enrolment, float | None]:
            key, found, _ = await self._claimed(request.enrolment_id, claim_id)
            if found.state is State.EXPIRED:
                found = await self._settled(key)
            return found, found.deadline - self._clock() if found.open else None

        enrolment, left = await read()
        if request.wait and left is not None:
            key, _, _ = await self._claimed(request.enrolment_id, claim_id)
            # A name of its own: no other owner has 17 bytes.
            owner = b"d" + key
            enrolment = await self._long_polls.until_final(owner, key, request.wait, read, _POLLS_PER_DEVICE)
        return self._messages.waited(enrolment)

    async def cancel(
        self, caller: Caller, enrolment_id: str, trace: RequestTracePort | None = None
    ) -> messages.EnrolmentStatus:
        """Cancel an open enrolment; a repeated cancellation is no error."""
        key, enrolment = await self._owned(caller, enrolment_id)
        if trace is not None:
            trace.about(_subject(key), enrolment.creation)
        changed = await self._change(key, enrolment, lambda now, row: rules.cancel(now, key, row))
        _report_end(trace, None, changed)
        return self._messages.status(key, changed.enrolment)

    async def _readable(self, enrolment_id: bytes | None) -> tuple[bytes, Enrolment]:
        row = None if enrolment_id is None else await self._store.get(enrolment_key(enrolment_id))
        enrolment = current_state(self._clock(), row)
        if enrolment_id is None or enrolment is None:
            raise EnrolmentNotFound
        return enrolment_id, enrolment

    async def _owned(self, caller: Caller, enrolment_id: str) -> tuple[bytes, Enrolment]:
        """EnrolmentNotFound also for an enrolment of another owner."""
        key, enrolment = await self._readable(parse_uuid(enrolment_id.lower()))
        if enrolment.owner != caller.owner:
            raise EnrolmentNotFound
        return key, await self._settled(key) if enrolment.state is State.EXPIRED else enrolment

    async def _settled(self, key: bytes) -> Enrolment:
        """As it may be reported: an expiry is written first."""
        settled = current_state(self._clock(), await self._expiry.settled(enrolment_key(key)))
        if settled is None:
            raise EnrolmentNotFound
        return settled


def _lifetime(body: messages.BeginEnrolment, without_code: bool) -> int:
    if not without_code:
        return body.expires_in_seconds or messages.DEFAULT_EXPIRY_SECONDS
    if (body.expires_in_seconds or 0) > messages.MAX_UNCONFIRMED_SECONDS:
        raise InvalidRequest(
            f'An enrolment with confirm "none" lives at most {messages.MAX_UNCONFIRMED_SECONDS} seconds.',
            path="$.expires_in_seconds",
        )
    return body.expires_in_seconds or messages.MAX_UNCONFIRMED_SECONDS


def _rank(level: str) -> int:
    return LEVELS.index(level) + 1 if level else 0


def _subject(enrolment_id: bytes) -> Subject:
    return Subject("sigil.enrolment_id", format_uuid(enrolment_id))


def _report_end(trace: RequestTracePort | None, create: SpanPort | None, changed: Changed) -> None:
    """The end is committed, and its event with it."""
    if trace is None or not changed.changed:
        return
    trace.set("sigil.state", changed.enrolment.state.wire_name)
    if create is not None and not changed.enrolment.open:
        create.end()
