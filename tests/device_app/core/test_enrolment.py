"""Enrolment by the client, against a real server and with Chromium's virtual authenticator."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from tests.device_app.person import Person

from .client_page import ClientPage


def meeting_error(device: ClientPage, text: str) -> dict[str, Any]:
    found: dict[str, Any] = device.run("return meet(given).then(() => ({}), failed)", text)
    return found


def status_of(device: ClientPage, begun: dict[str, Any]) -> str:
    return str(device.server.get(f"/enrolment/{begun['enrolment_id']}/status")["status"])


def test_a_claimed_token_belongs_to_its_claim(device: ClientPage) -> None:
    begun = device.server.begin_enrolment()
    twice = """
      const code = enrolment.parseCode(given, { baseUrl: location.origin });
      const claimId = enrolment.newClaimId();
      const one = await enrolment.meet(server, code, { claimId });
      const two = await enrolment.meet(server, code, { claimId });
      const { account, isPlatform, plainKeys, fromLink } = one;
      return [one.offer.jcs === two.offer.jcs, account, isPlatform, plainKeys, fromLink];
    """
    assert device.run(twice, begun["token"]) == [True, "zoe@example.com", True, False, False]
    assert meeting_error(device, begun["token"])["code"] == "ENROLMENT_CLAIMED"


def test_a_key_is_remembered_before_it_is_sent(device: ClientPage) -> None:
    begun = device.server.begin_enrolment()
    remembered = (
        """
      const meeting = structuredClone(await meet(given));
      const key = structuredClone(await enrolment.makeKey(meeting));
      const remember = () => Promise.reject(new DOMException("full", "QuotaExceededError"));
      return enrolment.complete(server, meeting, key, { remember }).catch((error) => error.name);
    """.replace("const meeting", "const met")
        .replace("(meeting)", "(met)")
        .replace("meeting, key,", "met, made,")
    )
    remembered = remembered.replace("const key", "const made")
    assert device.run(remembered, begun["token"]) == "QuotaExceededError"
    assert status_of(device, begun) == "claimed"


def test_an_enrolment_that_ends_otherwise_is_reported(device: ClientPage) -> None:
    begun = device.server.begin_enrolment()
    completed = """
      const met = await meet(given);
      const { record: made, code } = await enrolment.complete(server, met, await enrolment.makeKey(met));
      window.ended = enrolment.untilEnrolled(server, made).catch(failed);
      return code;
    """
    right = device.run(completed, begun["token"])
    for _ in range(3):
        with device.server.authorised() as client:
            client.post(f"/enrolment/{begun['enrolment_id']}/confirm", json={"code": f"{(int(right) + 1) % 10**6:06}"})
    assert device.page.evaluate("() => window.ended") == "failed"


def test_a_wait_ends_with_its_screen(device: ClientPage) -> None:
    begun = device.server.begin_enrolment()
    left = """
      const met = await meet(given);
      const { record: made } = await enrolment.complete(server, met, await enrolment.makeKey(met));
      const screen = new AbortController();
      const ended = enrolment.untilEnrolled(server, made, screen.signal).catch((error) => error.name);
      screen.abort();
      return ended;
    """
    assert device.run(left, begun["token"]) == "AbortError"


def test_a_plain_key_is_made_only_where_the_operator_permits_it(device: ClientPage) -> None:
    assert device.run("return enrolment.makeKey(meeting, { plain: true }).catch(failed)")["reason"] == "plain_keys"
    plain = "return enrolment.makeKey({ ...meeting, plainKeys: true }, { plain: true })"
    made = device.run(f"{plain}.then(({{ kind, wire, credentialId }}) => [kind, wire.length, credentialId])")
    assert made == ["plain", 33, None]


def test_a_broken_commitment_gives_no_code(device: ClientPage) -> None:
    begun = device.server.begin_enrolment()
    revealed = {"json": {"sas_nonce": "A" * 43 + "=", "status": "confirming"}}
    with device.answered("/enrolment/complete", revealed):
        completed = """
          const met = await meet(given);
          return enrolment.complete(server, met, await enrolment.makeKey(met)).catch(failed);
        """
        assert device.run(completed, begun["token"])["code"] == "COMMITMENT_BROKEN"


def test_without_an_authenticator_of_its_own_any_may_do(device: ClientPage) -> None:
    requested = """
      const { create } = navigator.credentials;
      const found = [];
      navigator.credentials.create = async ({ publicKey }) => (found.push(publicKey), Promise.reject(new Error()));
      for (const isPlatform of [true, false]) await enrolment.makeKey({ ...meeting, isPlatform }).catch(() => null);
      Object.assign(navigator.credentials, { create });
      return found.map(({ authenticatorSelection: chosen, rp, attestation }) => [
        chosen.authenticatorAttachment ?? null, chosen.residentKey, chosen.userVerification, rp.id, attestation,
      ]);
    """
    rest = ["discouraged", "required", "localhost", "none"]
    assert device.run(requested) == [["platform", *rest], [None, *rest]]


def test_whether_a_browser_has_an_authenticator_is_known(new_person: Callable[..., Person]) -> None:
    person = new_person(passkeys=False)
    person.open()
    found = person.page.evaluate(
        """async () => {
          const { isAvailable, isSupported } = await import("/assets/device/client/authenticator.js");
          return [isSupported(), await isAvailable()];
        }"""
    )
    assert found == [True, False]


LINK = "s=pGgHK_g6JwMIWvJXDYR8iMk9gHEXXfBYe_9T60z1eCQ&t=7K3MQ9XP2RTB"
SERVER_ID = "a468072bf83a2703085af2570d847c88c93d8071175df0587bff53eb4cf57824"
CODES: dict[str, Any] = {
    f"ORIGIN/device/#{LINK}": {"token": "7K3MQ9XP2RTB", "serverId": SERVER_ID},
    f"#{LINK}": {"token": "7K3MQ9XP2RTB", "serverId": SERVER_ID},
    " 7k3m q9xp-2rtb\n": {"token": "7K3MQ9XP2RTB", "serverId": None},
    f"https://evil.example.com/device/#{LINK}": "other_server",
    f"sigil:enrol?u=https%3A%2F%2Fevil.example.com&{LINK}": "other_server",
    "7K3M-Q9XP-2RT": "form",
    "": "form",
    "ORIGIN/device/": "form",
    f"ORIGIN/device/?{LINK}": "form",
    f"ORIGIN/Device/#{LINK}": "form",
    f"#{LINK.replace('eCQ', 'eCR')}": "form",
    f"#{LINK.replace('7K3MQ9XP2RTB', '7k3mq9xp2rtb')}": "form",
    f"#{LINK}&a=b": "form",
    "#t=7K3MQ9XP2RTB": "form",
    "x" * 5000: "form",
}


def test_a_code_is_of_this_server_and_of_one_form(device: ClientPage) -> None:
    parse = """
      const baseUrl = location.origin;
      return given.map((text) => {
        try {
          return enrolment.parseCode(text.replace("ORIGIN", baseUrl), { baseUrl });
        } catch (error) {
          return error.reason;
        }
      });
    """
    assert dict(zip(CODES, device.run(parse, list(CODES)), strict=True)) == CODES


def test_another_server_than_the_links_is_refused_before_a_claim(device: ClientPage) -> None:
    begun = device.server.begin_enrolment()
    assert meeting_error(device, f"#s={'A' * 43}&t={begun['token']}")["code"] == "PIN_MISMATCH"
    assert status_of(device, begun) == "pending"


def test_required_attestation_is_refused_before_a_claim(device: ClientPage) -> None:
    begun = device.server.begin_enrolment()

    def required(route: Any) -> None:
        route.fulfill(json={**route.fetch().json(), "attestation": {"kinds": ["yubikey-piv"], "required": True}})

    with device.answered("/info", required):
        assert meeting_error(device, begun["token"])["reason"] == "attestation_required"
    assert status_of(device, begun) == "pending"


def test_an_enrolment_that_replaces_a_key_is_refused(device: ClientPage) -> None:
    begun = device.server.begin_enrolment(replaces=device.wire)
    assert meeting_error(device, begun["token"])["reason"] == "replaces_a_key"


def test_a_server_in_init_mode_is_not_ready(device: ClientPage) -> None:
    info = {"mode": "init", "version": "1", "server_name": "x"}
    with device.answered("/info", {"json": info}):
        assert meeting_error(device, "7K3MQ9XP2RTB")["reason"] == "not_ready"
