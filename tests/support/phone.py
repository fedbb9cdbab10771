"""A phone that scans an enrolment's link: the software device, without its commands."""

from __future__ import annotations

import secrets

from sigil.device import Device
from sigil.device.enrolment.client import EnrolmentClient
from sigil.device.enrolment.steps import Offer, completion_body
from sigil.device.enrolment.target import parse_target
from sigil.device.http.connection import ServerConnection
from sigil.device.http.tls import TlsTrust
from sigil.device.server_pin import verify_info
from sigil.protocol.enrolment.code import Session
from tests.support.live import LiveServer


class Phone:
    """`scan` claims and completes with the device's key; the person then reads what it returns."""

    def __init__(self, server: LiveServer) -> None:
        self.device = Device.generate()
        self._trust = TlsTrust(ca_pem=server.certificate.read_text())
        self.offer: Offer | None = None

    def scan(self, uri: str, *, replaced: Device | None = None) -> Session:
        target = parse_target(uri)
        with ServerConnection(target.base_url, self._trust) as connection:
            pin = verify_info(connection.info(), target.base_url, pin=target.server_id, tls=self._trust)
            client = EnrolmentClient(pin, connection)
            self.offer = client.claim(target, secrets.token_hex(16))
            session, _ = client.complete(self.offer, completion_body(self.device, self.offer, replaced=replaced))
        return session
