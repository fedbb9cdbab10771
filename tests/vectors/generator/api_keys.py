"""Authorization headers."""

from __future__ import annotations

import hmac
from typing import Any

from . import Case, b64, sha256

# --- API keys ---

API_SECRET = bytes(range(32, 64))
KEY_ID = bytes(range(16))


def api_keys() -> list[Case]:
    def computed(prefix: str, key_id: bytes = KEY_ID, secret: bytes = API_SECRET) -> str:
        return prefix + key_id.hex() + hmac.digest(secret, prefix.encode() + key_id, "sha256")[:16].hex()

    live, test = computed("sgk_live_"), computed("sgk_test_")
    preset = "a-preset-key-of-32-characters-or-more"
    odd = "clé пароль 鍵 \U0001f511 with blanks \t and more"
    cases: list[Case] = []

    def case(name: str, header: str | None, owner: bytes | None, **ring: Any) -> None:
        expect = owner.hex() if owner else "UNAUTHORIZED"
        cases.append(
            {"name": name, "secret": API_SECRET.hex(), "ring": ring, "authorization": header, "expect": expect}
        )

    def preset_owner(key: str) -> bytes:
        return sha256(b"sigil-preset-key\0" + key.encode())[:16]

    case("a live key", f"Bearer {live}", KEY_ID)
    case("a test key", f"Bearer {test}", KEY_ID)
    case("the scheme in another case", f"bEARER {live}", KEY_ID)
    case("a live key where only live ones are good", f"Bearer {live}", KEY_ID, live_only=True)
    case("a test key where only live ones are good", f"Bearer {test}", None, live_only=True)
    case("a live key's bytes behind the test prefix", f"Bearer sgk_test_{live[9:]}", None)
    case("a test key's bytes behind the live prefix", f"Bearer sgk_live_{test[9:]}", None)
    case("a key of another server", f"Bearer {computed('sgk_live_', secret=bytes(32))}", None)
    case("another id with this key's tag", f"Bearer {live[:9]}{'f' * 32}{live[41:]}", None)
    for name, header in {
        "no header": None,
        "an empty header": "",
        "a blank": " ",
        "the scheme alone": "Bearer",
        "the scheme and a blank": "Bearer ",
        "the key alone": live,
        "Basic": f"Basic {live}",
        "Basic of its base64": "Basic " + b64(live.encode()),
        "Token": f"Token {live}",
        "two blanks": f"Bearer  {live}",
        "a tab": f"Bearer\t{live}",
        "a leading blank": f" Bearer {live}",
        "a trailing blank": f"Bearer {live} ",
        "a trailing tab": f"Bearer {live}\t",
        "a trailing newline": f"Bearer {live}\n",
        "a leading newline": f"Bearer \n{live}",
        "a trailing comma": f"Bearer {live},",
        "the key twice": f"Bearer {live} {live}",
        "the scheme twice": f"Bearer Bearer {live}",
        "quotes": f'Bearer "{live}"',
        "the key in upper case": f"Bearer {live.upper()}",
        "the hex in upper case": f"Bearer {live[:9]}{live[9:].upper()}",
        "the prefix in upper case": f"Bearer {live[:9].upper()}{live[9:]}",
        "one character short": f"Bearer {live[:-1]}",
        "one character long": f"Bearer {live}0",
        "no tag": f"Bearer {live[:41]}",
        "another prefix": f"Bearer sgk_prod_{live[9:]}",
        "no prefix": f"Bearer {live[9:]}",
        "full-width digits": f"Bearer {live.replace('0', '０')}",
        "Arabic digits": f"Bearer {live.replace('0', '٠')}",
        "a long key": "Bearer " + "a" * 5000,
        "a lone surrogate": "Bearer \ud800",
    }.items():
        case(name, header, None, preset=[preset])
    for length in (8, 9, 16, 31, 32):
        case(f"revoked by {length} hex", f"Bearer {live}", None, revoked=[KEY_ID.hex()[:length]])
    case("revoked among others", f"Bearer {test}", None, revoked=["f" * 8, KEY_ID.hex()])
    case("not revoked by another id", f"Bearer {live}", KEY_ID, revoked=["f" * 8, KEY_ID.hex()[:31] + "0"])
    case("not revoked by hex of its middle", f"Bearer {live}", KEY_ID, revoked=[KEY_ID.hex()[8:]])
    for name, key in {"plain": preset, "beyond ASCII and with blanks": odd, "of 32 letters": "x" * 32}.items():
        case(f"a preset key, {name}", f"Bearer {key}", preset_owner(key), preset=["y" * 32, key], live_only=True)
        case(f"a preset key, {name}, that is not set", f"Bearer {key}", None, preset=["y" * 32])
        case(f"a preset key, {name}, cut short", f"Bearer {key[:-1]}", None, preset=[key])
    case("a preset key in another case", f"Bearer {preset.upper()}", None, preset=[preset])
    case("a preset key with a blank behind", f"Bearer {preset} ", None, preset=[preset])
    case("a computed key that is also preset keeps its owner", f"Bearer {live}", KEY_ID, preset=[live])
    case(
        "a preset test key where only live ones are good",
        f"Bearer {test}",
        KEY_ID,
        preset=[test],
        live_only=True,
    )
    case(
        "a key that only looks computed, preset",
        f"Bearer sgk_live_{'0' * 64}",
        preset_owner(f"sgk_live_{'0' * 64}"),
        preset=[f"sgk_live_{'0' * 64}"],
    )
    foreign = computed("sgk_live_", secret=bytes(32))
    case("a preset key of another server", f"Bearer {foreign}", preset_owner(foreign), preset=[foreign])
    for name, key in {
        "of this server": live,
        "of another server": foreign,
        "in upper case": live.upper(),
        "with the hex in upper case": live[:9] + live[9:].upper(),
        "with more behind it": live + "-and-more",
        "without its tag": live[:41],
    }.items():
        for revoked in ([KEY_ID.hex()], [KEY_ID.hex()[:8]], ["ffffffff", KEY_ID.hex()[:31]]):
            case(
                f"a preset key {name}, revoked by {len(revoked[-1])} characters",
                f"Bearer {key}",
                None,
                preset=[preset, key],
                revoked=revoked,
            )
    case(
        "a preset key of this server with a revocation of another id",
        f"Bearer {live}",
        KEY_ID,
        preset=[live],
        revoked=["00010204", f"{KEY_ID.hex()[:31]}0"],
    )
    case("a computed key beside presets", f"Bearer {live}", KEY_ID, preset=[preset, odd])
    case("an empty preset key opens nothing", "Bearer ", None, preset=[""])
    return cases
