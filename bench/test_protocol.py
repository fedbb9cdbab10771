"""The pure functions of every request: canonical JSON, signatures, API keys, strict decoding."""

from __future__ import annotations

import os

import pytest

from bench.calibration import verification
from bench.measuring import Measure
from bench.wire import ACTION, creation_body, response_body
from sigil.device import Device
from sigil.protocol import signed_bytes
from sigil.protocol.api_key import KeyRing, issue_api_key
from sigil.protocol.encoding.canonical import canonical
from sigil.protocol.keys import SUITES, PrivateKey, Suite
from sigil.protocol.messages.challenges import CreateChallenge, Respond
from sigil.protocol.messages.decoding import decode_request
from tests.support.web_key import WebKey

_MESSAGE = signed_bytes.approval(bytes(32), canonical(ACTION))


def test_raw_p256_verification(measure: Measure) -> None:
    """The calibration as a benchmark: the difference of its multiple from 1 is the noise of this run."""
    measure(verification())


def test_jcs_of_an_action(measure: Measure) -> None:
    measure(lambda: canonical(ACTION))


@pytest.mark.parametrize("suite", SUITES)
def test_sign(measure: Measure, suite: Suite) -> None:
    key = PrivateKey.load(suite, bytes([7]) * 32)
    measure(lambda: key.sign(_MESSAGE))


@pytest.mark.parametrize("suite", SUITES)
def test_verify(measure: Measure, suite: Suite) -> None:
    key = PrivateKey.load(suite, bytes([7]) * 32)
    signature = key.sign(_MESSAGE)
    measure(lambda: key.public.verify(_MESSAGE, signature))


def test_verify_web_authn(measure: Measure) -> None:
    key = WebKey("https://sigil.example.com", assertion=7, local=9)
    public, signature = key.public, key.sign(_MESSAGE)
    measure(lambda: public.verify(_MESSAGE, signature))


def test_check_of_an_api_key(measure: Measure) -> None:
    secret = os.urandom(32)
    keys, header = KeyRing(secret), f"Bearer {issue_api_key(secret, 'sgk_test_', os.urandom(16))}"
    measure(lambda: keys.authenticate(header))


def test_decode_a_creation(measure: Measure) -> None:
    body = creation_body(Device.generate())
    measure(lambda: decode_request(body, CreateChallenge))


def test_decode_an_answer(measure: Measure) -> None:
    created = b'{"challenge_id":"5b1f0c2e-9a55-4c9e-8d0e-0f6a3a2b1c4d","challenge_bytes":"%s="}' % (b"A" * 43)
    body = response_body(Device.generate(), created)
    measure(lambda: decode_request(body, Respond))
