"""A statement of the kind yubikey-piv: the certificate of a PIV slot, its issuer in slot F9, Yubico's roots.

There is no challenge: the device's proof signature is the freshness. A newer F9 is issued by an intermediate that is
not on the YubiKey; roots/ has it, or the device sends it.
"""

from __future__ import annotations

from collections.abc import Mapping

from sigil.attestation.certificates.chain import COMMON_NAME, anchored, linking, p256_wire, reading, test_roots
from sigil.attestation.encoding.der import oid
from sigil.attestation.statements import Attested, Check, Checks, Expected, Facts, Rejected
from sigil.protocol.messages.attestation import YubikeyAttestation

FIRMWARE, POLICY = oid("1.3.6.1.4.1.41482.3.3"), oid("1.3.6.1.4.1.41482.3.8")
_ISSUER = "Yubico PIV Attestation"
_NEVER = 1
# The last value of each: 1 never, 2 once, 3 always, and of a YubiKey Bio 4 match once, 5 match always; 3 cached.
_LAST_PIN_POLICY, _LAST_TOUCH_POLICY = 5, 3


def verify(statement: YubikeyAttestation, expected: Expected) -> Checks:
    """Raises Rejected itself where a check failed whose result the next ones need."""
    chain = yield from reading(statement.x5c)
    walk = anchored(chain, expected.anchors.yubikey)
    yield Check("root", walk is not None, "root")
    if walk is None:
        raise Rejected("root", "root")
    yield from linking(walk)
    leaf, issuer = walk.certificates[:2]
    # Other products attest under the same root, and a YubiHSM takes the extensions from a template of its user.
    yield Check("issued_by_piv", issuer.named(COMMON_NAME) == [_ISSUER], "chain")
    yield Check("dates", all(each.valid(expected.now) for each in walk.certificates), "chain")

    firmware = _firmware(leaf.extensions)
    yield Check("firmware", firmware is not None, "malformed", ".".join(map(str, firmware or ())))
    minimum = expected.policy.yubikey_min_firmware
    yield Check("firmware_minimum", firmware is not None and firmware >= minimum, "patch", ".".join(map(str, minimum)))

    policy = leaf.extensions.get(POLICY, b"")
    known = len(policy) == 2 and 1 <= policy[0] <= _LAST_PIN_POLICY and 1 <= policy[1] <= _LAST_TOUCH_POLICY
    yield Check("policy", known, "malformed", policy.hex())
    # Without both, malware on the computer approves by itself: it sees the PIN once, and no touch is needed.
    yield Check("pin_policy", known and policy[0] != _NEVER, "key_properties")
    yield Check("touch_policy", known and policy[1] != _NEVER, "key_properties")
    yield Check("leaf_key", p256_wire(leaf.spki) == expected.device_key.wire, "key_properties")
    serials = tuple(certificate.serial_hex for certificate in walk.certificates)
    facts = Facts(
        firmware=firmware,
        user_auth=known and policy[0] != _NEVER,
        serials=serials,
        test_roots=test_roots(walk, expected.policy.test_roots),
    )
    return Attested("yubikey-piv", "secure_element", "direct", "", facts)


def _firmware(extensions: Mapping[bytes, bytes]) -> tuple[int, int, int] | None:
    """The extension holds three raw octets, not DER."""
    value = extensions.get(FIRMWARE, b"")
    return (value[0], value[1], value[2]) if len(value) == 3 else None
