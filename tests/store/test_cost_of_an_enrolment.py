"""The bytes that an open enrolment may still need: never more than it has reserved."""

from __future__ import annotations

import os
from pathlib import Path

import msgspec

from sigil.app.state import KINDS
from sigil.core.enrolment import rules
from sigil.core.enrolment.row import BYTES_PER_ENROLMENT, Claim, Completion, Enrolment, enrolment_key
from sigil.core.evidence import Evidence
from sigil.protocol.messages.attestation import MAX_CREDENTIAL
from sigil.protocol.webauthn import KEY_LENGTH
from sigil.store.lmdb import LmdbStore
from tests.support.services import START, Clock

_COUNT = 300


async def test_a_completion_with_the_largest_credential_and_its_event_fit_into_the_reserve(
    memory_directory: Path,
) -> None:
    """The longest texts: account, server_name, credential. Ids are random, so pages split as in a server."""
    store = LmdbStore(memory_directory, size=64 << 20, kinds=KINDS, clock=Clock())
    claim = Claim(
        os.urandom(32), "💎" * 64, ("android-key", "apple-appattest", "yubikey-piv"), "secure_element", b"h" * 32
    )
    completion = Completion(
        public_key=b"k" * 35,
        digest=b"d" * 96,
        sas_nonce=b"s" * 32,
        credential="c" * MAX_CREDENTIAL,
        evidence=Evidence("apple-appattest", "secure_element", "witness", int(START)),
    )
    names = [os.urandom(16) for _ in range(_COUNT)]
    for name in names:
        row = Enrolment(
            owner=b"o" * 16,
            account="💎" * 128,
            token_sha256=os.urandom(32),
            base_url=f"https://{'a' * 253}:65535",
            created_ms=int(START * 1000),
            lifetime=600,
            replaces=b"r" * KEY_LENGTH,
            min_level="secure_element",
            idempotency=os.urandom(16),
            creation=b"t" * 25,
        )
        await store.transact([], lambda _now, _rows, n=name, r=row: rules.begin(n, r, body_sha256=b"b" * 32))
    begun = store.usage().used
    for name in names:
        key = enrolment_key(name)
        await store.transact([key], lambda now, rows, n=name: rules.claim(now, n, rows[0], claim))
        await store.transact(
            [key], lambda now, rows, n=name: rules.complete(now, n, rows[0], claim.claim_sha256, completion)
        )
        for _ in range(rules.MAX_WRONG_CODES - 1):
            await store.transact([key], lambda now, rows, n=name: rules.confirm(now, n, rows[0], "", emit_event=True))
    held = store.usage().used
    code = completion.session.code
    for name in names:
        await store.transact(
            [enrolment_key(name)], lambda now, rows, n=name: rules.confirm(now, n, rows[0], code, emit_event=True)
        )
    used = store.usage()
    row = store.peek(enrolment_key(names[0]))
    store.close()
    assert used.reserved == 0
    assert len(msgspec.msgpack.encode(row)) > MAX_CREDENTIAL
    assert max(held, used.used) - begun <= _COUNT * BYTES_PER_ENROLMENT
