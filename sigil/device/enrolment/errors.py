"""The errors of an enrolment: one class for each check of an offer, and one for each error of the server."""

from __future__ import annotations

from typing import ClassVar

from sigil.device.errors import DeviceError, IdentityRefused, ServerRefused

_ATTESTED = (
    "a key in attested hardware, which this device does not have. Use a phone; for tests, --test-root and --attest-as "
    "play one."
)
_AGAIN = "Begin a new enrolment at the service."


class TargetUnusable(DeviceError):
    """Neither a link nor a token."""

    code = "ENROLMENT_LINK_UNUSABLE"
    summary = "This is neither an enrolment link (sigil:enrol?…) nor a token of 12 characters (XXXX-XXXX-XXXX)."


class ServerNeeded(DeviceError):
    code = "SERVER_NEEDED"
    summary = "A typed token does not name its server: pass --server URL, and --pin SERVER_ID."


class LinkForeign(IdentityRefused):
    code = "LINK_OF_ANOTHER_SERVER"
    summary = "The link names another server."


class EnrolmentDeclined(DeviceError):
    code = "ENROLMENT_DECLINED"
    summary = (
        "The enrolment was declined; no key was sent. Run the same command again to go on with it, until it expires."
    )


class EnrolmentBusy(DeviceError):
    code = "ENROLMENT_BUSY"
    summary = "Another enrolment runs with this directory: wait for its end, or end it."


class EnrolmentUnfinished(DeviceError):
    """An earlier enrolment of this server is still open."""

    code = "ENROLMENT_UNFINISHED"
    summary = "An earlier enrolment with this server is not finished: run its command again, or drop it with --force."


class EnrolmentOutcomeUnknown(DeviceError):
    """The server stores the result of an enrolment for ten minutes."""

    code = "ENROLMENT_OUTCOME_UNKNOWN"
    summary = "The server stores no result of this enrolment any more."


class OfferRefused(DeviceError):
    """Base of the checks of an offer: no key is made for it."""


class OfferMalformed(OfferRefused):
    code = "OFFER_MALFORMED"
    summary = "The offer is not of the documented form."


class OfferOfAnotherServer(OfferRefused):
    code = "OFFER_OF_ANOTHER_SERVER"
    summary = "The offer names another server than the pinned one. Do not continue; report it to the service."


class OfferForAnotherToken(OfferRefused):
    code = "OFFER_FOR_ANOTHER_TOKEN"
    summary = "The offer is for another token than the one that was entered. Do not continue; report it to the service."


class OfferForAnotherClaim(OfferRefused):
    code = "OFFER_FOR_ANOTHER_CLAIM"
    summary = "The offer answers the claim of another device. Do not continue; report it to the service."


class OfferSignatureInvalid(OfferRefused):
    code = "OFFER_SIGNATURE_INVALID"
    summary = "The pinned server did not sign the offer. Do not continue; report it to the service."


class OfferExpired(OfferRefused):
    code = "OFFER_EXPIRED"
    summary = f"The enrolment has expired. Check this device's clock. {_AGAIN}"


class CodeNotCompared(OfferRefused):
    """confirm "none" needs a server_id from a link: otherwise the compared code alone proves which server it is."""

    code = "CODE_NOT_COMPARED"
    summary = (
        "This enrolment has no code to compare, which needs its link: a typed token does not prove which server it is. "
        "Use the link, or ask the service for an enrolment with a code."
    )


class ReplacesAnotherKey(OfferRefused):
    code = "REPLACES_ANOTHER_KEY"
    summary = (
        "This enrolment replaces a key that this device does not have. Begin another one, and run it on the device "
        "that has the key; or begin one that replaces no key."
    )


class AttesterNeeded(OfferRefused):
    code = "ATTESTER_NEEDED"
    summary = f"This enrolment needs {_ATTESTED}"


class CommitmentBroken(DeviceError):
    """The server chose its nonce after it had seen the key: the code would prove nothing."""

    code = "COMMITMENT_BROKEN"
    summary = (
        "The server's commitment does not match its answer: enter no code on the page. Report it to the service, and "
        "begin a new enrolment."
    )


class EnrolmentRefused(ServerRefused):
    """An error of the server: `code` is its own, the message says what to do next."""

    says: ClassVar[str] = "The server refused the enrolment."

    def __init__(self, error: ServerRefused) -> None:
        super().__init__(error.status, error.code, self.text(error), error.details)

    def text(self, error: ServerRefused) -> str:
        return self.says


class TokenUnknown(EnrolmentRefused):
    says = f"The server knows no open enrolment of this token. Check the token and the server. {_AGAIN}"


class TokenClaimed(EnrolmentRefused):
    says = (
        "Another device, or another run of this command, has used this link. If it was not yours, do not enter its "
        f"code on the page. {_AGAIN}"
    )


class EnrolmentClosed(EnrolmentRefused):
    def text(self, error: ServerRefused) -> str:
        status = error.details.get("status")
        if status in ("claimed", "confirming"):
            return f"Another key was sent for this enrolment: enter no code on the page. {_AGAIN}"
        return f"The enrolment has ended{f' ({status})' if isinstance(status, str) else ''}. {_AGAIN}"


class EnrolmentExpired(EnrolmentRefused):
    says = f"The enrolment has expired. {_AGAIN}"


class CompletionUnsigned(EnrolmentRefused):
    says = f"The server did not accept a signature of this device. Check that the server is still the same. {_AGAIN}"


class KeyRefused(EnrolmentRefused):
    says = f"The server did not accept this device's key. {_AGAIN} If it happens again, choose another --suite."


class AttestationNeeded(EnrolmentRefused):
    says = f"The server enrols only {_ATTESTED}"


class AttestationRefused(EnrolmentRefused):
    def text(self, error: ServerRefused) -> str:
        reason = error.details.get("reason")
        if reason == "app_unknown":
            return f"The phone's system does not know the app yet: restart the phone. {_AGAIN}"
        return f"{error.message} Run the same command again to go on with another key, or use another device."


class DeviceRevoked(EnrolmentRefused):
    says = "The server's operator has revoked this key. Ask the operator; a new enrolment makes a new key."


class RequestRefused(EnrolmentRefused):
    def text(self, error: ServerRefused) -> str:
        return f"The server did not accept the request: {error.message} {_AGAIN}"


class CodeNotConfirmed(DeviceError):
    """The enrolment ended without this device: `status` is failed, expired or cancelled."""

    code = "NOT_ENROLLED"

    def __init__(self, status: str, reason: str | None = None) -> None:
        super().__init__(f"{_ENDS.get(reason or status, f'The enrolment ended: {status}.')} {_AGAIN}")
        self.status = status


class EnrolmentEndUnknown(DeviceError):
    """By this device's clock it has ended, which proves nothing: the server may have enrolled the key."""

    code = "ENROLMENT_END_UNKNOWN"
    summary = (
        "By this device's clock the enrolment has expired, but the server reports no end. Check the clock and run the "
        "same command again: the key is kept until the server reports an end."
    )


_ENDS = {
    "wrong_code": "A wrong code was entered three times: this device is not enrolled.",
    "expired": "The code was not entered in time: this device is not enrolled.",
    "cancelled": "The service cancelled the enrolment: this device is not enrolled.",
}
_BY_CODE: dict[str, type[EnrolmentRefused]] = {
    "ENROLMENT_NOT_FOUND": TokenUnknown,
    "ENROLMENT_CLAIMED": TokenClaimed,
    "ENROLMENT_CLOSED": EnrolmentClosed,
    "ENROLMENT_EXPIRED": EnrolmentExpired,
    "INVALID_SIGNATURE": CompletionUnsigned,
    "INVALID_PUBLIC_KEY": KeyRefused,
    "ATTESTATION_REQUIRED": AttestationNeeded,
    "ATTESTATION_INVALID": AttestationRefused,
    "NOT_ELIGIBLE": DeviceRevoked,
    "INVALID_REQUEST": RequestRefused,
}


def refusal(error: ServerRefused) -> ServerRefused:
    """The typed error of a server's error; one that has no meaning of its own here stays as it is."""
    kind = _BY_CODE.get(error.code)
    return kind(error) if kind else error
