"""Attestation of devices, over HTTP."""

from __future__ import annotations

from falcon.asgi import Request, Response

from sigil.attestation.service import Attestation
from sigil.protocol.messages.attestation import AttestDevice
from sigil.serving.http.rate_limits import AddressRateLimit
from sigil.serving.http.requests import decode_json, read_body
from sigil.serving.http.responses import write_json


class AttestChallengeResource:
    """`GET /device/attest/challenge`"""

    def __init__(self, attestation: Attestation, rate_limit: AddressRateLimit) -> None:
        self._attestation = attestation
        self._rate_limit = rate_limit

    async def on_get(self, req: Request, resp: Response) -> None:
        self._rate_limit.charge(req)
        write_json(resp, self._attestation.challenge())

    on_head = on_get


class AttestDeviceResource:
    """`POST /device/attest`; `attestations` limits those of an address, since each may cost 3 ms."""

    def __init__(self, attestation: Attestation, rate_limit: AddressRateLimit, attestations: AddressRateLimit) -> None:
        self._attestation = attestation
        self._rate_limit = rate_limit
        self._attestations = attestations

    async def on_post(self, req: Request, resp: Response) -> None:
        with self._rate_limit.charging(req) as charged:
            body = await read_body(req)
            charged.check()
            opened = self._attestation.open(decode_json(req, body, AttestDevice))
            self._attestations.charge(req)
            attested = self._attestation.attest(opened)
        write_json(resp, attested)
