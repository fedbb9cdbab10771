"""What the browser keeps: of two tabs, of another release, after its data was deleted, and how much."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from tests.device_app.person import DeviceServer, Person

from .states import BLOCKED

MODULE = 'const { Store } = await import("/assets/device/storage/store.js");'


def run(person: Person, script: str) -> object:
    result: object = person.page.evaluate(f"async () => {{ {MODULE} {script} }}")
    return result


def test_decisions_are_kept_newest_first_up_to_fifty(person: Person) -> None:
    person.open("/")
    script = """
      const store = await Store.open();
      for (let at = 1; at <= 53; at++) await store.addDecision({ id: String(at), at });
      return (await store.decisions(1000)).map(({ at }) => at);
    """
    assert run(person, script) == list(range(53, 3, -1))


def test_two_tabs_share_one_store_and_a_replaced_device_is_not_changed(person: Person) -> None:
    person.open("/")
    script = """
      const [one, two] = [await Store.open(), await Store.open()];
      await one.saveDevice({ serverId: "a", fingerprint: "1" });
      await two.saveDevice({ serverId: "b", fingerprint: "2" });
      const stale = await one.changeDevice("1", { account: "x" });
      const fresh = await one.changeDevice("2", { account: "y" });
      return [stale, fresh.account, (await two.device()).account];
    """
    assert run(person, script) == [None, "y", "y"]


def test_two_pushes_at_once_are_both_remembered(person: Person) -> None:
    person.open("/")
    script = """
      const stores = [await Store.open(), await Store.open()];
      const ids = [...Array(20).keys()];
      await Promise.all(ids.map((id) => stores[id % 2].update("pushes", (known) => [...(known ?? []), id])));
      return (await stores[0].get("pushes")).sort((one, other) => one - other);
    """
    assert run(person, script) == list(range(20))


def test_a_later_release_in_another_tab_is_not_held_up_and_this_page_asks_to_reload(person: Person) -> None:
    person.open("/")
    script = """
      const store = await Store.open();
      await new Promise((resolve, reject) => {
        const request = indexedDB.open("sigil-device", 2);
        Object.assign(request, { onsuccess: resolve, onerror: reject, onblocked: reject });
      });
      return store.device().catch((error) => error.reason);
    """
    assert run(person, script) == "blocked"


def test_the_store_opens_again_after_the_browser_has_deleted_its_data(person: Person) -> None:
    person.open("/")
    script = """
      const store = await Store.open();
      await store.set("language", "de");
      await new Promise((resolve) => { indexedDB.deleteDatabase("sigil-device").onsuccess = resolve; });
      return [await store.get("language") ?? null, await store.device()];
    """
    assert run(person, script) == [None, None]


def test_a_database_that_does_not_open_is_explained(new_person: Callable[..., Person]) -> None:
    person = new_person()
    person.page.add_init_script(BLOCKED)
    person.open().at("Another tab holds an older version")


def test_a_device_without_its_key_must_be_added_again(person: Person, server: DeviceServer) -> None:
    person.enrol_by_api()
    run(
        person,
        "const store = await Store.open(); await store.saveDevice({ ...(await store.device()), localKey: null });",
    )
    person.page.reload()
    person.at("This device must be added again").sees("Its key is missing in this browser")
    person.click("Enter the new code")
    person.opened()


@pytest.mark.parametrize("keys", [True, False], ids=["of another server", "that contradict the id"])
def test_another_server_at_the_same_address_is_named(person: Person, relayed: DeviceServer, keys: bool) -> None:
    person.enrol_by_api()
    # As if the operator had set up another identity: the server refuses what this device signs for the earlier one.
    info = relayed.get("/info")
    other = {"serverId": info["server_id"], **({"serverKeys": info["server_public_keys"]} if keys else {})}
    change = "const store = await Store.open(); await store.saveDevice({ ...(await store.device()), ...changes });"
    person.page.evaluate(f"async (changes) => {{ {MODULE} {change} }}", other)
    person.page.reload()
    person.at("This device must be added again").sees("This address has another server now")
