"""Disaster recovery: a new server with the same mnemonic replaces a destroyed one, unnoticed by its clients."""

from __future__ import annotations

import time

import msgspec

from sigil.device import Device, verify_info, verify_payload
from tests.first_boot.init_mode_server import UNKNOWN_CHALLENGE, InitModeServer, identity_of, refused
from tests.flows.backend import ACTION
from tests.support.live import LiveServer


def test_the_mnemonic_restores_the_identity_the_api_keys_and_the_trust_of_devices() -> None:
    device = Device.generate()
    with InitModeServer(workers=1) as lost:
        words = " ".join(lost.post("/init/words").json()["words"])
        session = lost.commit(words)["session"]
        kept, revoked = (lost.post("/init/api-keys", token=session).json() for _ in range(2))
        before = lost.get("/info")
        pinned = verify_info(before.content, lost.url, pin=identity_of(words).server_id)
    assert not lost.state.exists()
    assert not lost.directory.exists()

    with (
        LiveServer(workers=1, mnemonic=words, SIGIL_REVOKED_API_KEYS=revoked["key_id"]) as found,
        found.client() as client,
    ):
        assert client.get("/info").json() == before.json()
        assert before.json()["server_pictogram"] == identity_of(words).pictogram

        with_kept, with_revoked = ({"Authorization": f"Bearer {key['api_key']}"} for key in (kept, revoked))
        refused(client.get(UNKNOWN_CHALLENGE, headers=with_revoked), 401, "UNAUTHORIZED")
        created = client.post(
            "/challenge", json={"device_public_key": device.wire_key, "action": ACTION}, headers=with_kept
        )
        assert created.status_code == 201

        now = int(time.time())
        [payload] = client.post("/device/pending", json=device.pending_body(pinned.server_id, now)).json()["challenges"]
        shown = verify_payload(msgspec.json.encode(payload), pinned, device.public, now)
        assert client.post("/respond", json=device.response(shown, "approved")).json()["status"] == "verified"
