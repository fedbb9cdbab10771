"""The key of a web device and its signatures (docs/protocol.md, 2.1): one test per check, with its reason."""

from __future__ import annotations

import hashlib
import json
from typing import Any

import pytest

from sigil.protocol import signed_bytes, webauthn
from sigil.protocol.errors import InvalidPublicKey
from sigil.protocol.keys import P256_ORDER, PrivateKey, PublicKey, WebAuthnPublicKey
from sigil.protocol.webauthn import MAX_SIGNATURE, UserVerification, origin_sha256
from tests.support.web_key import AT, BE, BS, ED, LOCAL_ALONE, UP, UV, WebKey

ORIGIN = "https://sigil.example.com"
KEY = WebKey(ORIGIN, assertion=7, local=9)
MESSAGE = signed_bytes.AUTH + bytes(64)
REJECTION = signed_bytes.AUTH_REJECT + bytes(64)


def parsed(key: WebKey = KEY) -> WebAuthnPublicKey:
    found = key.public
    assert isinstance(found, WebAuthnPublicKey)
    return found


def refusal(message: bytes = MESSAGE, *, key: WebKey = KEY, **forged: Any) -> str | None:
    signature = key.sign(message, **forged)
    reason = parsed(key).refusal(message, signature)
    assert parsed(key).verify(message, signature) is (reason is None)
    return reason


def test_a_key_has_its_parts() -> None:
    key = parsed()
    assert (key.suite, key.server_suite, len(key.wire)) == ("WebAuthn", "ES256", 102)
    assert key.assertion_key == PrivateKey.load("ES256", (7).to_bytes(32)).public
    assert key.local_key == PrivateKey.load("ES256", (9).to_bytes(32)).public
    assert key.origin_sha256 == origin_sha256(ORIGIN) == hashlib.sha256(ORIGIN.encode()).digest()
    assert key.fingerprint == hashlib.sha256(key.wire).hexdigest()


def test_the_prefix_is_a_code_for_private_use() -> None:
    code = sum((byte & 0x7F) << 7 * place for place, byte in enumerate(webauthn.PREFIX))
    assert code == 0x300001
    assert [byte >> 7 for byte in webauthn.PREFIX] == [1, 1, 1, 0]


@pytest.mark.parametrize("local", [7, P256_ORDER - 7], ids=["the same point", "the point negated"])
def test_halves_of_one_x_coordinate_are_rejected(local: int) -> None:
    with pytest.raises(InvalidPublicKey):
        WebKey(ORIGIN, assertion=7, local=local).public  # noqa: B018


@pytest.mark.parametrize("start", [4, 37], ids=["assertion", "local"])
@pytest.mark.parametrize(
    "point", [b"\2" + b"\xff" * 32, b"\4" + KEY.wire[5:37], bytes(33), b"\2" + bytes([0] * 31 + [1])]
)
def test_both_halves_are_valid_points(start: int, point: bytes) -> None:
    with pytest.raises(InvalidPublicKey):
        PublicKey.parse(KEY.wire[:start] + point + KEY.wire[start + 33 :])


def test_a_key_is_among_keys_by_each_half() -> None:
    key = parsed()
    assert key.is_among({key.assertion_key.wire})
    assert key.is_among({key.local_key.wire})
    assert not key.is_among({key.wire, PrivateKey.load("ES256", (8).to_bytes(32)).public.wire})


def test_both_halves_approve() -> None:
    assert refusal() is None
    assert refusal(crossOrigin=None) is None
    assert refusal(other_keys_can_be_added_here="do not compare clientDataJSON against a template") is None
    assert refusal(counter=2**32 - 1) is None
    assert refusal(flags=UP | UV | ED, extensions=b"\xa1\x63abc\x01") is None


@pytest.mark.parametrize("tag", LOCAL_ALONE)
def test_the_local_half_counts_alone_under_six_tags(tag: bytes) -> None:
    assert refusal(tag + b"message") is None
    assert refusal(tag + b"message", halves="both") == "length"
    assert tag in webauthn.LOCAL_ALONE
    assert len(webauthn.LOCAL_ALONE) == len(LOCAL_ALONE) == 6


OTHER_TAGS = [
    value for name, value in vars(signed_bytes).items() if isinstance(value, bytes) and value not in LOCAL_ALONE
]


@pytest.mark.parametrize(
    "tag",
    [
        *OTHER_TAGS,
        b"SIGIL-SOMETHING-LATER-V1\0",
        b"",
        b"SIGIL-PENDING-V1",
        b"SIGIL-PENDING-V1x\0",
        b"\0SIGIL-PENDING-V1\0",
    ],
)
def test_every_other_tag_needs_both_halves(tag: bytes) -> None:
    message = tag + b"message"
    assert refusal(message, halves="both") is None
    assert refusal(message, halves="local") == "length"


def test_the_assertion_alone_is_rejected() -> None:
    assert refusal(halves="assertion") == "length"
    assert refusal(REJECTION, halves="assertion") == "length"
    # Padded to the form of both halves.
    signature = KEY.sign(MESSAGE)
    assert parsed().refusal(MESSAGE, bytes(64) + signature[64:]) == "local_signature"
    assert parsed().refusal(MESSAGE, signature[:64] + bytes(64) + signature[128:]) == "assertion_signature"
    assert parsed().refusal(MESSAGE, signature[64:128] + signature[:64] + signature[128:]) == "local_signature"


def test_a_tag_of_another_decision_is_another_challenge() -> None:
    signature = KEY.sign(MESSAGE)
    for tag in (signed_bytes.AUTH_MATCH, signed_bytes.MPA, signed_bytes.ENROL):
        assert parsed().refusal(tag + bytes(64), signature) == "challenge"
    assert parsed().refusal(REJECTION, signature) == "length"


def test_one_gesture_is_the_vote_of_one_key() -> None:
    """The keys share a half: without the hash of the key, its gesture would fit both."""
    twin = WebKey(ORIGIN, assertion=7, local=11)
    signature = KEY.sign(MESSAGE)
    assert parsed(twin).refusal(MESSAGE, signature) == "challenge"
    # The local half of the twin over its own bytes, with the first key's assertion.
    assert parsed(twin).refusal(MESSAGE, twin.sign(MESSAGE)[:64] + signature[64:]) == "challenge"
    swapped = WebKey(ORIGIN, assertion=9, local=7)
    assert parsed(swapped).refusal(MESSAGE, signature) == "challenge"
    same_local = WebKey(ORIGIN, assertion=11, local=9)
    assert not parsed(same_local).verify(REJECTION, KEY.sign(REJECTION))


@pytest.mark.parametrize(
    ("reason", "forged"),
    [
        ("type", {"type": "webauthn.create"}),
        ("type", {"type": "payment.get"}),
        ("type", {"type": None}),
        ("type", {"type": ["webauthn.get"]}),
        ("challenge", {"challenge": b"another"}),
        ("origin", {"origin": "https://sigil.example.com:8443"}),
        ("origin", {"origin": "https://example.com"}),
        ("origin", {"origin": "http://sigil.example.com"}),
        ("origin", {"origin": "https://sigil.example.com/"}),
        ("origin", {"origin": None}),
        ("origin", {"origin": [ORIGIN]}),
        ("cross_origin", {"crossOrigin": True}),
        ("cross_origin", {"crossOrigin": 0}),
        ("cross_origin", {"crossOrigin": "false"}),
        ("top_origin", {"topOrigin": ORIGIN}),
        ("top_origin", {"topOrigin": False}),
        ("rp_id", {"rp_id": "example.com"}),
        ("rp_id", {"rp_id": "sigil.example.com:443"}),
        ("user_presence", {"flags": UV}),
        ("user_verification", {"flags": UP}),
        ("user_presence", {"flags": 0}),
        ("attested_credential", {"flags": UP | UV | AT}),
        ("attested_credential", {"flags": UP | UV | AT | ED, "extensions": bytes(60)}),
        ("authenticator_data", {"extensions": b"\xa0"}),
        ("authenticator_data", {"flags": UP | UV | ED}),
        ("backup_state", {"flags": UP | UV | BS}),
    ],
)
def test_each_check_has_its_reason(reason: str, forged: dict[str, Any]) -> None:
    assert refusal(**forged) == reason


def test_null_is_no_absent_member() -> None:
    for name, reason in (("crossOrigin", "cross_origin"), ("topOrigin", "top_origin")):
        data = json.loads(KEY.client_data(MESSAGE + hashlib.sha256(KEY.wire).digest()))
        assert refusal(client_data=json.dumps({**data, name: None}).encode()) == reason


SIGNED = MESSAGE + hashlib.sha256(KEY.wire).digest()
HONEST = KEY.client_data(SIGNED)


@pytest.mark.parametrize(
    "text",
    [
        b"",
        b"null",
        b"[]",
        b'"text"',
        b"\xef\xbb\xbf" + HONEST,
        HONEST.decode().encode("utf-16-le"),
        HONEST + b"x",
        HONEST[:-1],
        HONEST[:-1] + b',"type":"webauthn.get"}',
        HONEST[:-1] + b',"\\u0074ype":"webauthn.get"}',
        HONEST[:-1] + b',"a":{"b":[{"c":1,"c":1}]}}',
        HONEST[:-1] + b',"a":"\\ud800"}',
        HONEST[:-1] + b',"\\udc00":1}',
        HONEST[:-1] + b',"a":"\xff"}',
        HONEST[:-1] + b',"a":"\xed\xa0\x80"}',
        HONEST[:-1] + b',"a":NaN}',
        HONEST[:-1] + b',"a":"\n"}',
        HONEST[:-1] + b',"a":01}',
        HONEST[:-1] + b',"a":' + b"[" * 16 + b"]" * 16 + b"}",
        HONEST[:-1] + b',"a":' + b'{"a":' * 15 + b"{}" + b"}" * 15 + b"}",
        HONEST[:-1] + b',"a":' + b"[" * 300 + b"]" * 300 + b"}",
    ],
)
def test_client_data_is_strict_json(text: bytes) -> None:
    expected = "client_data" if text else "length"
    assert refusal(client_data=text) == expected


@pytest.mark.parametrize(
    "text",
    [
        HONEST[:-1] + b',"a":' + b"[" * 15 + b"]" * 15 + b"}",
        HONEST[:-1] + b',"a":1e400,"b":"\\u0041"}',
        HONEST[:-1] + b',"a":"\\ud83d\\ude00"}',
        HONEST[:-1] + b',"a":-0}',
        b" \t\r\n" + HONEST + b"\n",
        HONEST.replace(b"webauthn", b"\\u0077ebauthn").replace(b"https://", b"https\\u003a\\/\\/"),
        HONEST.replace(b'"challenge":"', b'"\\u0063hallenge":"'),
    ],
)
def test_strings_compare_after_unescaping(text: bytes) -> None:
    assert refusal(client_data=text) is None


@pytest.mark.parametrize(
    "origin",
    [
        "https://sigil.example.com",
        "https://sigil.example.com:8443",
        "https://xn--mnchen-3ya.example",
        "http://localhost",
        "http://localhost:8080",
        "https://localhost:8443",
    ],
)
def test_origins_that_a_browser_gives_a_key(origin: str) -> None:
    assert refusal(key=WebKey(origin)) is None


@pytest.mark.parametrize(
    "origin",
    [
        "https://sigil.example.com:443",
        "https://sigil.example.com/",
        "https://SIGIL.example.com",
        "HTTPS://sigil.example.com",
        "https://sigil.example.com.",
        "http://sigil.example.com",
        "http://localhost:80",
        "http://127.0.0.1",
        "https://127.0.0.1",
        "https://[::1]",
        "https://münchen.example",
        "https://user@sigil.example.com",
        "https://sigil.example.com:08443",
        "https://sigil.example.com\n",
        "android:apk-key-hash:abc",
        "null",
        "",
    ],
)
def test_origins_that_no_key_may_have(origin: str) -> None:
    assert refusal(key=WebKey(origin), rp_id="sigil.example.com", origin=origin) == "origin"


def test_the_parts_have_bounds() -> None:
    key, good = parsed(), KEY.sign(MESSAGE)
    base = len(KEY.sign(MESSAGE, a=""))
    assert len(KEY.sign(MESSAGE, a="x" * (MAX_SIGNATURE - base))) == MAX_SIGNATURE == 1024
    assert refusal(a="x" * (MAX_SIGNATURE - base)) is None
    assert refusal(a="x" * (MAX_SIGNATURE + 1 - base)) == "length"
    for cut in (0, 1, 63, 65, 128, 129, 130, 166, 167):
        assert key.refusal(MESSAGE, good[:cut]) == "length"
    for n in (0, 36, len(good) - 130, len(good), 65535):
        assert key.refusal(MESSAGE, good[:128] + n.to_bytes(2) + good[130:]) == "length"
    assert key.refusal(MESSAGE, good[:128] + (38).to_bytes(2) + good[130:]) == "client_data"
    assert key.refusal(MESSAGE, good[:128] + b"\x25\x00" + good[130:]) == "length"


def test_each_half_may_have_high_s_and_one_normal_form() -> None:
    key, good = parsed(), KEY.sign(MESSAGE)

    def flipped(start: int) -> bytes:
        s = int.from_bytes(good[start + 32 : start + 64])
        return good[: start + 32] + (P256_ORDER - s).to_bytes(32) + good[start + 64 :]

    forms = [good, flipped(0), flipped(64)]
    assert all(key.verify(MESSAGE, form) for form in forms)
    assert len({key.normalised(form) for form in forms}) == 1
    stored = key.normalised(good)
    assert max(int.from_bytes(stored[32:64]), int.from_bytes(stored[96:128])) <= P256_ORDER // 2
    assert stored[128:] == good[128:]
    alone = KEY.sign(REJECTION)
    assert key.verify(REJECTION, key.normalised(alone))
    assert len(key.normalised(alone)) == 64


def test_one_flipped_bit_anywhere_invalidates_a_signature() -> None:
    key, good = parsed(), KEY.sign(MESSAGE)
    for bit in range(0, 8 * len(good), 5):
        spoilt = bytearray(good)
        spoilt[bit // 8] ^= 1 << bit % 8
        assert not key.verify(MESSAGE, bytes(spoilt))


def test_a_signature_tells_of_its_user() -> None:
    key = parsed()
    for flags, synced in ((UP | UV, False), (UP | UV | BE, True), (UP | UV | BE | BS, True)):
        signature = key.normalised(KEY.sign(MESSAGE, flags=flags))
        assert key.verify(MESSAGE, signature)
        assert key.user_verification(signature) == UserVerification(ORIGIN, synced)
    assert key.user_verification(KEY.sign(REJECTION)) is None
    plain = PrivateKey.load("ES256", (7).to_bytes(32))
    assert plain.public.user_verification(plain.sign(MESSAGE)) is None
