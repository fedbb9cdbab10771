"""Android's chains: each check by one mutated field, which is refused for its reason."""

from __future__ import annotations

from dataclasses import replace
from typing import Any, Literal

import pytest
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat
from hypothesis import given, settings
from hypothesis import strategies as st

from sigil.attestation.android.key_description import EXTENSION, read_application_id, read_key_description
from sigil.attestation.android.verify import verify
from sigil.attestation.certificates.chain import read_certificate
from sigil.attestation.encoding.der import DerError
from sigil.attestation.statements import Attested, Checks, Facts, Rejected, run
from sigil.device.test_phone import der
from sigil.device.test_phone.android import KEY_DESCRIPTION, AndroidFields, AndroidPhone
from sigil.device.test_phone.certificates import DAY, Authority, Certificate, new_key, p256
from sigil.device.test_phone.roots import TestRoot
from sigil.protocol.encoding.text import encode_base64
from sigil.protocol.keys import PublicKey
from sigil.protocol.messages.attestation import AndroidAttestation
from tests.attestation.support import ALL_KINDS, DEVICE, NOW, ROOT, digest_for, expected, failed, outcome, statement_of

_APP = "org.example.sigil:" + bytes(range(32)).hex()
_ALLOW = replace(ALL_KINDS, allow_emulators=True)
_NAME = der.name(("2.5.4.3", "Android Keystore Key"))
_LATER = NOW + 40 * DAY
_PREVIOUS = Attested("android-key", "hardware", "direct", _APP, Facts(serials=("1",)))


def _statement(**fields: Any) -> AndroidAttestation:
    phone = AndroidPhone(ROOT, DEVICE, AndroidFields(**{"now": NOW, **fields}))
    made = statement_of(phone.statement(digest_for))
    assert isinstance(made, AndroidAttestation)
    return made


def _checks(context: dict[str, Any] | None = None, **fields: Any) -> Checks:
    return verify(_statement(**fields), expected(**(context or {})))


@pytest.mark.parametrize("chain", ["rkp", "factory"])
@pytest.mark.parametrize("level", ["hardware", "secure_element"])
@pytest.mark.parametrize("with_root", [True, False])
def test_a_sound_phone_is_attested(chain: str, level: str, with_root: bool) -> None:
    attested = run(_checks(chain=chain, level=level, with_root=with_root, leaf_serial=0xAB, batch_serial=0xF))
    assert attested[:4] == ("android-key", level, "direct", _APP)
    facts = attested.facts
    assert (facts.patch, facts.boot, facts.user_auth) == (202611, "verified", False)
    assert facts.boot_key == bytes(range(32, 64)).hex()
    assert facts.serials[:2] == ("ab", "f")
    assert len(facts.serials) == 3, "the root's serial is not one of a device"


@pytest.mark.parametrize(
    "fields",
    [
        {"leaf_critical": (b"\x01",)},
        {"leaf_critical": (b"\xff",)},
        {"leaf_critical": (b"\x00",)},
        {"locked": b"\x01"},
        {"locked": b"\x7f"},
        {"leaf_not_before": NOW + 900 * DAY},
        {"leaf_not_after": 0},
        {"purposes": (2, 3)},
        {"digests": (0, 4, 5)},
        {"boot_state": 1},
        {"version": 100},
        {"patch": None},
        {"os_version": None},
        {"unique_id": b"x" * 16},
        {"intermediate_not_after": NOW - 299},
        {"batch_not_before": NOW + 299},
        {"chain": "factory", "batch_ca": None},
    ],
)
def test_what_real_phones_differ_in_is_accepted(fields: dict[str, Any]) -> None:
    assert failed(_checks(**fields)) == []


# One field, the reason for the caller, and the name of the check. More fields only where one alone cannot be wrong.
_MUTATIONS: list[tuple[dict[str, Any], str, str]] = [
    ({"leaf_trailing": b"\0"}, "malformed", "certificates"),
    ({"leaf_critical": (b"\x02",)}, "malformed", "certificates"),
    ({"leaf_critical": (b"\xff", b"\xff")}, "malformed", "certificates"),
    ({"leaf_serial": 1 << 168}, "malformed", "certificates"),
    ({"extra": (b"\x30\x00",)}, "malformed", "certificates"),
    ({"extra": (bytes(8193),)}, "malformed", "certificates"),
    ({"key_description": b""}, "malformed", "key_description"),
    ({"key_description_trailing": b"\0"}, "malformed", "key_description"),
    ({"app_id": b"\x30\x00"}, "malformed", "key_description"),
    ({"package": "x" * 256}, "malformed", "key_description"),
    ({"boot_key": bytes(65)}, "malformed", "key_description"),
    ({"locked": b"\x01\x01"}, "malformed", "key_description"),
    ({"order": "reversed"}, "root", "root"),
    ({"extra": (ROOT.certificate["yubikey-piv"],)}, "root", "root"),
    ({"extra": (ROOT.certificate["apple-appattest"],)}, "root", "root"),
    ({"leaf_broken_signature": True}, "chain", "links"),
    ({"batch_broken_signature": True}, "chain", "links"),
    ({"batch_ca": False}, "chain", "links"),
    ({"batch_ca": None}, "chain", "links"),
    ({"chain": "factory", "batch_ca": False}, "chain", "links"),
    ({"batch_issuer_name": der.name(("2.5.4.3", "another"))}, "chain", "links"),
    ({"extra": (ROOT.certificate["android-hardware"],)}, "chain", "links"),
    ({"batch_not_after": NOW - 301}, "chain", "dates"),
    ({"batch_not_before": NOW + 301}, "chain", "dates"),
    ({"intermediate_not_after": NOW - 301}, "chain", "dates"),
    ({"chain": "factory", "batch_not_before": NOW + 301}, "chain", "dates"),
    ({"level": "software"}, "level", "security_level"),
    ({"keymint_level": "secure_element"}, "level", "security_level"),
    ({"chain_level": "StrongBox"}, "level", "level_of_the_chain"),
    ({"level": "secure_element", "chain_level": "TEE"}, "level", "level_of_the_chain"),
    ({"chain": "factory", "level": "secure_element", "chain_level": "TEE"}, "level", "level_of_the_chain"),
    ({"challenge": bytes(32)}, "challenge", "challenge"),
    ({"challenge": b""}, "challenge", "challenge"),
    ({"origin": 2}, "key_properties", "origin"),
    ({"origin": None}, "key_properties", "origin"),
    ({"software": ("origin",)}, "key_properties", "origin"),
    ({"purposes": (2, 7)}, "key_properties", "purpose"),
    ({"purposes": (3,)}, "key_properties", "purpose"),
    ({"purposes": ()}, "key_properties", "purpose"),
    ({"software": ("purposes",)}, "key_properties", "purpose"),
    ({"algorithm": 1}, "key_properties", "algorithm"),
    ({"software": ("algorithm",)}, "key_properties", "algorithm"),
    ({"curve": 2}, "key_properties", "algorithm"),
    ({"curve": None}, "key_properties", "algorithm"),
    ({"digests": (0,)}, "key_properties", "digest"),
    ({"software": ("digests",)}, "key_properties", "digest"),
    ({"all_applications": True}, "key_properties", "one_application"),
    ({"all_applications": True, "software": ("all_applications",)}, "key_properties", "one_application"),
    ({"locked": b"\x00"}, "boot_state", "locked"),
    ({"boot_state": 2}, "boot_state", "verified_boot"),
    ({"boot_state": 3}, "boot_state", "verified_boot"),
    ({"package": "UnknownApplication"}, "app_unknown", "app_known"),
    ({"package": "UnknownPackage"}, "app_unknown", "app_known"),
    ({"more_packages": ("org.example.other",)}, "app", "one_app"),
    ({"signers": (bytes(32), bytes(range(32)))}, "app", "one_app"),
    ({"signers": ()}, "app", "one_app"),
    ({"signers": (bytes(31),)}, "app", "one_app"),
    ({"leaf_key": "other"}, "key_properties", "leaf_key"),
]


@pytest.mark.parametrize(("fields", "reason", "check"), _MUTATIONS)
def test_one_wrong_field_is_refused_for_its_reason(fields: dict[str, Any], reason: str, check: str) -> None:
    assert failed(_checks(**fields)) == [(reason, check)]
    with pytest.raises(Rejected, match=check):
        run(_checks(**fields))


@pytest.mark.parametrize("software", [("root_of_trust",), ("locked",)])
def test_a_boot_state_that_only_software_states_does_not_count(software: tuple[str, ...]) -> None:
    fields: dict[str, Any] = {"software": software} if software == ("root_of_trust",) else {"root_of_trust": False}
    assert failed(_checks(**fields)) == [("boot_state", "locked"), ("boot_state", "verified_boot")]


def test_the_dates_of_a_factory_chain_may_be_over_and_those_of_remote_provisioning_may_not() -> None:
    assert failed(_checks({"now": _LATER}, chain="factory")) == []
    assert failed(_checks({"now": _LATER}, chain="rkp")) == [("chain", "dates")]


def test_a_root_that_is_sent_twice_does_not_make_a_factory_chain_of_another() -> None:
    """Google's RSA root is named by a serialNumber, as factory intermediates are, whose dates do not count."""
    root = ROOT.certificate["android-hardware"]
    assert ("chain", "links") in failed(_checks({"now": _LATER}, extra=(root,)))
    assert ("chain", "links") in failed(_checks(extra=(root, root)))


def test_a_key_that_certifies_another_is_refused() -> None:
    """The attested key is an app's: it can sign a certificate for a key that is not in hardware."""
    for chain in ("rkp", "factory"):
        assert failed(_checks(after_target=True, chain=chain))[0][0] == "chain"
        target_ca, target = _attested_key_as_issuer(chain)
        forged = der.extension(KEY_DESCRIPTION, read_certificate(target[0]).extensions[EXTENSION])
        leaf = Certificate(subject=_NAME, public_key=p256(DEVICE.wire), extensions=[forged]).issued(target_ca, NOW)
        x5c = [encode_base64(each) for each in (leaf, *target)]
        reasons = failed(verify(AndroidAttestation(x5c=x5c, witness=False), expected()))
        # A factory's attesting certificate may have no CA flag, so that there the second check alone refuses it.
        assert reasons == [("chain", "links" if chain == "rkp" else "target_is_the_leaf")]
    description = der.extension(KEY_DESCRIPTION, b"\x30\x00")
    issuer_has_one = AndroidFields(now=NOW, batch_key_description=True, leaf_extensions=(description,))
    checks = verify(statement_of(AndroidPhone(ROOT, DEVICE, issuer_has_one).statement(digest_for)), expected())
    assert ("chain", "target_is_the_leaf") in failed(checks)


def _attested_key_as_issuer(chain: str) -> tuple[Authority, list[bytes]]:
    """A chain whose attested key the attacker can sign with, and that key as an issuer."""
    key = new_key()
    point = key.public_key().public_bytes(Encoding.X962, PublicFormat.CompressedPoint)
    fields = AndroidFields(now=NOW, chain=chain)
    target = AndroidPhone(ROOT, PublicKey.parse(point), fields).chain(digest_for("", ""))
    return Authority(read_certificate(target[0]).subject, key), target


def test_a_leaf_without_a_key_description_is_refused() -> None:
    assert failed(_checks(batch_key_description=True))[-1] == ("malformed", "key_description")


def test_a_chain_of_another_test_root_is_refused() -> None:
    other = TestRoot.memory()
    made = statement_of(AndroidPhone(other, DEVICE, AndroidFields(now=NOW)).statement(digest_for))
    assert failed(verify(made, expected())) == [("root", "root")]


def test_a_root_with_the_name_of_an_anchor_and_another_key_is_refused() -> None:
    made = statement_of(
        AndroidPhone(TestRoot.memory(), DEVICE, AndroidFields(now=NOW, with_root=False)).statement(digest_for)
    )
    assert failed(verify(made, expected())) == [("root", "root")]


def test_any_revoked_serial_of_the_chain_is_refused() -> None:
    fields = {"leaf_serial": 1, "batch_serial": 0x0ABC, "intermediate_serial": 0xDEF0}
    for serial in ("1", "abc", "def0"):
        checks = _checks({"revoked": lambda each, serial=serial: each == serial}, **fields)
        assert failed(checks) == [("revoked", "status_list")]
    assert failed(_checks({"revoked": lambda each: each in ("0abc", "ABC", "0xabc")}, **fields)) == []


def test_an_emulator_is_refused_unless_it_is_allowed_and_never_counts_as_hardware() -> None:
    emulator = {"root": "software", "level": "secure_element"}
    assert failed(_checks(**emulator)) == [("emulator", "software_root")]
    attested = run(_checks({"policy": _ALLOW}, **emulator))
    assert attested.level == "emulator"
    # Real emulators state nothing in hardware, and the intermediate of their root has expired.
    weak: dict[str, Any] = {
        "root": "software",
        "level": "software",
        "root_of_trust": False,
        "origin": None,
        "purposes": None,
        "intermediate_not_after": NOW - DAY,
        "batch_not_before": NOW + DAY,
    }
    assert run(_checks({"policy": _ALLOW}, **weak)).level == "emulator"
    for fields, reason in (
        ({"challenge": b""}, "challenge"),
        ({"leaf_key": "other"}, "key_properties"),
        ({"batch_broken_signature": True}, "chain"),
        ({"signers": ()}, "app"),
    ):
        assert failed(_checks({"policy": _ALLOW}, **emulator, **fields))[0][0] == reason


def test_a_witness_vouches_for_a_key_that_was_attested_directly_in_the_same_app() -> None:
    attested = run(_checks({"previous": _PREVIOUS}, witness=True))
    assert attested.binding == "witness"
    cases: list[tuple[Attested | None, list[tuple[str, str]]]] = [
        (None, [("kind", "witness_of_a_direct_key"), ("app", "same_app")]),
        (_PREVIOUS._replace(binding="witness"), [("kind", "witness_of_a_direct_key")]),
        (_PREVIOUS._replace(app="org.example.other:00"), [("app", "same_app")]),
        (_PREVIOUS._replace(app="org.example.sigil2:00"), [("app", "same_app")]),
        (_PREVIOUS._replace(app="org.example.sigil:00"), []),
    ]
    for previous, reasons in cases:
        assert failed(_checks({"previous": previous}, witness=True)) == reasons
    # The challenge of a witness names the device's key: that of a direct attestation does not.
    direct = _statement(witness=False)
    as_witness = AndroidAttestation(x5c=direct.x5c, witness=True)
    assert ("challenge", "challenge") in failed(verify(as_witness, expected(previous=_PREVIOUS)))
    as_direct = AndroidAttestation(x5c=_statement(witness=True).x5c, witness=False)
    assert failed(verify(as_direct, expected())) == [("challenge", "challenge"), ("key_properties", "leaf_key")]


@pytest.mark.parametrize("user_auth", [(None, False), (0, False), (2, True), (3, True)])
def test_the_users_authentication_is_a_fact(user_auth: tuple[int | None, bool]) -> None:
    assert run(_checks(user_auth_type=user_auth[0])).facts.user_auth is user_auth[1]
    assert run(_checks(user_auth_type=2, software=("user_auth_type",))).facts.user_auth is False


@pytest.mark.parametrize(("patch", "fact"), [(202611, 202611), (0, None), (20261105, None), (-1, None), (None, None)])
def test_a_patch_level_that_is_no_month_is_no_fact(patch: int | None, fact: int | None) -> None:
    assert run(_checks(patch=patch)).facts.patch == fact


def test_base64_of_another_form_is_malformed() -> None:
    leaf, *others = _statement().x5c
    for text in ("A===", leaf + "\n", leaf.rstrip("=") + "==="):
        assert failed(verify(AndroidAttestation(x5c=[text, *others], witness=False), expected())) == [
            ("malformed", "certificates")
        ]


@pytest.mark.parametrize("count", [0, 1, 11])
def test_too_few_and_too_many_certificates_are_malformed(count: int) -> None:
    statement = AndroidAttestation(x5c=_statement().x5c[:1] * count, witness=False)
    assert failed(verify(statement, expected())) == [("malformed", "certificates")]


_CHAIN = AndroidPhone(ROOT, DEVICE, AndroidFields(now=NOW)).chain(digest_for("", ""))


@given(st.integers(0, 2), st.floats(0, 1, exclude_max=True), st.integers(1, 255))
def test_a_chain_with_one_changed_byte_is_refused_by_a_check(index: int, at: float, change: int) -> None:
    """No byte of a chain is free: each is signed, or is the signature, or is the form."""
    chain = list(_CHAIN)
    position = int(at * len(chain[index]))
    changed = bytearray(chain[index])
    changed[position] ^= change
    chain[index] = bytes(changed)
    statement = AndroidAttestation(x5c=[encode_base64(each) for each in chain], witness=False)
    assert outcome(verify(statement, expected()))[0] is None or failed(verify(statement, expected()))


@given(st.binary(max_size=80))
def test_any_bytes_as_a_key_description_are_read_or_a_der_error(data: bytes) -> None:
    for read in (read_key_description, read_application_id):
        try:
            read(data)
        except DerError:
            continue


_VALUES = st.recursive(
    st.one_of(
        st.integers(-2, 300).map(der.integer),
        st.just(der.integer(1 << 200)),
        st.binary(max_size=4).map(der.octets),
        st.just(der.null()),
        st.integers(0, 3).map(der.enumerated),
        st.just(der.boolean(b"\x01")),
    ),
    lambda inner: st.builds(
        lambda join, parts: join(*parts), st.sampled_from([der.sequence, der.set_of]), st.lists(inner, max_size=3)
    ),
    max_leaves=5,
)
_TAGS: tuple[Literal[1, 2, 5, 10, 503, 504, 600, 702, 704, 706, 709, 9999], ...] = (
    1, 2, 5, 10, 503, 504, 600, 702, 704, 706, 709, 9999,
)  # fmt: skip
_ENTRIES = st.lists(st.builds(der.explicit, st.sampled_from(_TAGS), _VALUES), max_size=4)
_LISTS = _ENTRIES.map(lambda each: der.sequence(*each))
_NUMBER, _LEVEL, _EMPTY = der.integer(400), der.enumerated(1), der.octets(b"")
_BEFORE_THE_LISTS = (_NUMBER, _LEVEL, _NUMBER, _LEVEL, _EMPTY, _EMPTY)


@given(_LISTS, _LISTS)
def test_authorizations_of_any_form_are_read_or_a_der_error(software: bytes, hardware: bytes) -> None:
    try:
        read_key_description(der.sequence(*_BEFORE_THE_LISTS, software, hardware))
    except DerError:
        return


@settings(max_examples=40)
@given(_LISTS, _LISTS, st.booleans())
def test_a_key_description_of_any_form_is_refused_by_a_check_and_breaks_none(
    software: bytes, hardware: bytes, emulator: bool
) -> None:
    """Anyone can sign one under an emulator's root."""
    description = der.sequence(*_BEFORE_THE_LISTS, software, hardware)
    root = "software" if emulator else "hardware"
    assert failed(_checks({"policy": _ALLOW}, key_description=description, root=root))


@given(st.lists(st.binary(max_size=60), max_size=11))
def test_any_bytes_as_a_chain_are_refused(chain: list[bytes]) -> None:
    statement = AndroidAttestation(x5c=[encode_base64(each) for each in chain], witness=False)
    assert failed(verify(statement, expected())) in ([("malformed", "certificates")], [("root", "root")])


@pytest.mark.parametrize("sign", [1, -1])
def test_a_number_that_is_too_long_to_print_is_malformed(sign: int) -> None:
    assert failed(_checks(origin=sign << 16_000)) == [("malformed", "key_description")]


@pytest.mark.parametrize("name", ["", "a b", "a:b", "\x1b[2J", "é", "a\nb"])
def test_a_package_has_a_name_of_android(name: str) -> None:
    """It is printed, and stands before the digest in the credential."""
    assert failed(_checks(package=name)) == [("malformed", "key_description")]


def test_an_authorization_that_is_listed_twice_is_refused() -> None:
    twice = der.sequence(der.explicit(702, der.integer(0)), der.explicit(702, der.integer(2)))
    with pytest.raises(DerError, match="an authorization twice"):
        read_key_description(der.sequence(*_BEFORE_THE_LISTS, twice, der.sequence()))
