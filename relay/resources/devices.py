"""Registration of devices, over HTTP."""

from __future__ import annotations

from falcon.asgi import Request, Response

from relay.registration.devices import Devices
from relay.registration.origins import Origins
from relay.resources.cross_origin import Preflight
from sigil.protocol.messages.relay import RegisterDevice, UnregisterDevice
from sigil.serving.http.rate_limits import AddressRateLimit
from sigil.serving.http.requests import decode_json, read_body
from sigil.serving.http.responses import write_json

_MAX_REGISTRATION_BODY = 32 * 1024
"""A token has at most 4096 characters, which JSON may escape to six bytes each."""


class RegistrationChallengeResource(Preflight):
    """`GET /devices/register/challenge`"""

    def __init__(self, devices: Devices, rate_limit: AddressRateLimit) -> None:
        self._devices = devices
        self._rate_limit = rate_limit

    async def on_get(self, req: Request, resp: Response) -> None:
        self._rate_limit.charge(req)
        write_json(resp, self._devices.challenge())

    on_head = on_get


class DeviceRegistrationResource(Preflight):
    """`POST /devices/register`; `rate_limit` limits the registrations of an address."""

    def __init__(self, devices: Devices, origins: Origins, rate_limit: AddressRateLimit) -> None:
        self._devices = devices
        self._origins = origins
        self._rate_limit = rate_limit

    async def on_post(self, req: Request, resp: Response) -> None:
        self._rate_limit.charge(req)
        body = await read_body(req, _MAX_REGISTRATION_BODY)
        request = decode_json(req, body, RegisterDevice)
        write_json(resp, await self._devices.register(self._origins.of(req.scope), request), 201)


class DeviceUnregistrationResource(Preflight):
    """`POST /devices/unregister`"""

    def __init__(self, devices: Devices, origins: Origins, rate_limit: AddressRateLimit) -> None:
        self._devices = devices
        self._origins = origins
        self._rate_limit = rate_limit

    async def on_post(self, req: Request, resp: Response) -> None:
        self._rate_limit.charge(req)
        body = await read_body(req, _MAX_REGISTRATION_BODY)
        request = decode_json(req, body, UnregisterDevice)
        write_json(resp, await self._devices.unregister(self._origins.of(req.scope), request))
