"""Mnemonics and the identities that derive from them: BIP-39, BIP-32, HKDF."""

# ruff: noqa: E501 -- the published extended keys stay in one piece

from __future__ import annotations

import base64
import hashlib
import hmac

from mnemonic import Mnemonic  # for its word list alone

from . import Case, b64, jcs, sha256
from .curves import P256, SECP256K1, ed_public, rs

# --- Identity: BIP-39, BIP-32, HKDF ---

WORDS = list(Mnemonic("english").wordlist)


def sentence(entropy: bytes) -> str:
    """BIP-39: the entropy and one bit of its SHA-256 for every four bytes, eleven bits a word."""
    checksum = len(entropy) * 8 // 32
    number = int.from_bytes(entropy, "big") << checksum | sha256(entropy)[0] >> (8 - checksum)
    count = (len(entropy) * 8 + checksum) // 11
    return " ".join(WORDS[number >> 11 * (count - 1 - i) & 2047] for i in range(count))


def bip32(seed: bytes, path: list[int]) -> bytes:
    digest = hmac.digest(b"Bitcoin seed", seed, "sha512")
    key, chain = int.from_bytes(digest[:32], "big"), digest[32:]
    for index in path:
        parent = bytes(1) + key.to_bytes(32, "big") if index >> 31 else SECP256K1.public(key)[2:]
        digest = hmac.digest(chain, parent + index.to_bytes(4, "big"), "sha512")
        key, chain = (int.from_bytes(digest[:32], "big") + key) % SECP256K1.n, digest[32:]
    return key.to_bytes(32, "big")


def hkdf(seed: bytes, label: bytes) -> bytes:
    """RFC 5869 with an empty salt, one block."""
    return hmac.digest(hmac.digest(bytes(32), seed, "sha256"), label + b"\1", "sha256")


def identity_of(words: str) -> Case:
    seed = hashlib.pbkdf2_hmac("sha512", words.encode(), b"mnemonic", 2048)
    hard = 1 << 31
    es256 = bip32(seed, [44 + hard, hard, hard, 0, 0])
    es256k = bip32(seed, [44 + hard, hard, 1 + hard, hard, hard])
    ed25519 = hkdf(seed, b"sigil/ed25519/v1")
    public = {
        "ES256": b64(P256.public(int.from_bytes(es256, "big"))),
        "ES256K": b64(SECP256K1.public(int.from_bytes(es256k, "big"))),
        "Ed25519": b64(ed_public(ed25519)),
    }
    message = b"SIGIL-SERVER-KEYS-V1\0" + jcs(public)
    return {
        "es256": es256.hex(),
        "es256k": es256k.hex(),
        "ed25519": ed25519.hex(),
        "api_key": hkdf(seed, b"sigil/api-key/v1").hex(),
        "enrolment": hkdf(seed, b"sigil/enrolment/v1").hex(),
        "attest_nonce": hkdf(seed, b"sigil/attest-nonce/v1").hex(),
        "backup_key": hkdf(seed, b"sigil/backup/v1").hex(),
        "server_id": sha256(base64.b64decode(public["ES256"])).hex(),
        "server_public_keys": public,
        "keys_signature": b64(rs(*P256.sign(int.from_bytes(es256, "big"), message))),
    }


def mnemonics() -> list[Case]:
    zoo, abandon, mixed = sentence(b"\xff" * 32), sentence(bytes(32)), sentence(sha256(b"a test entropy"))
    assert zoo.endswith("zoo vote")
    assert abandon.endswith("abandon art")
    cases: list[Case] = [
        {"name": name, "words": words, "expect": identity_of(words)}
        for name, words in {"all ones": zoo, "all zeros": abandon, "mixed": mixed}.items()
    ]
    expect = cases[-1]["expect"]
    wide = "".join(chr(ord(c) + 0xFEE0) if c != " " else "\u3000" for c in mixed)
    for name, words in {
        "in upper case": mixed.upper(),
        "in title case": mixed.title(),
        "with blanks, tabs and newlines around and between": "\t " + mixed.replace(" ", "  \r\n") + " \n",
        "with no-break spaces": mixed.replace(" ", "\u00a0"),
        "in full-width letters, which NFKD makes plain": wide,
        "with ligatures, which NFKD takes apart": mixed.replace("fi", "\ufb01").replace("fl", "\ufb02"),
    }.items():
        cases.append({"name": name, "words": words, "expect": expect})

    given = mixed.split()

    def bad(name: str, words: str, expect: str) -> None:
        cases.append({"name": name, "words": words, "expect": "INVALID_MNEMONIC", "says": expect})

    def misspelt(*positions: int, word: str = "xylography") -> str:
        return " ".join(word if at in positions else old for at, old in enumerate(given, 1))

    bad("no words", "", "has 0")
    bad("blanks", " \n\u3000", "has 0")
    bad("one word", "zoo", "has 1")
    bad("12 words with a good checksum", sentence(bytes(16)), "has 12")
    bad("18 words with a good checksum", sentence(bytes(24)), "has 18")
    bad("23 words", " ".join(given[:-1]), "has 23")
    bad("25 words", mixed + " zoo", "has 25")
    bad("48 words", mixed + " " + mixed, "has 48")
    last = next(word for word in WORDS if word != given[-1] and word[0] != given[-1][0])
    bad("the last word changed", " ".join([*given[:-1], last]), "checksum")
    bad("two words changed places", " ".join([given[1], given[0], *given[2:]]), "checksum")
    bad("the same word 24 times", "zoo " * 24, "checksum")
    bad("an unknown word", misspelt(7), "word 7")
    bad("unknown words at both ends", misspelt(1, 24), "word 1, 24")
    bad("a word in four letters", misspelt(3, word=given[2][:4] if given[2][:4] not in WORDS else "xylo"), "word 3")
    bad("a word with an accent", misspelt(5, word="zoó"), "word 5")
    bad("a French word", misspelt(2, word="abaisser"), "word 2")
    bad("commas between", mixed.replace(" ", ", "), "word 1, 2, 3")
    return cases


# BIP-32, test vectors 1 to 3, as published: seed, path and extended private key.
HARD = 1 << 31
BIP32 = {
    "000102030405060708090a0b0c0d0e0f": {
        "m": "xprv9s21ZrQH143K3QTDL4LXw2F7HEK3wJUD2nW2nRk4stbPy6cq3jPPqjiChkVvvNKmPGJxWUtg6LnF5kejMRNNU3TGtRBeJgk33yuGBxrMPHi",
        "m/0h": "xprv9uHRZZhk6KAJC1avXpDAp4MDc3sQKNxDiPvvkX8Br5ngLNv1TxvUxt4cV1rGL5hj6KCesnDYUhd7oWgT11eZG7XnxHrnYeSvkzY7d2bhkJ7",
        "m/0h/1": "xprv9wTYmMFdV23N2TdNG573QoEsfRrWKQgWeibmLntzniatZvR9BmLnvSxqu53Kw1UmYPxLgboyZQaXwTCg8MSY3H2EU4pWcQDnRnrVA1xe8fs",
        "m/0h/1/2h": "xprv9z4pot5VBttmtdRTWfWQmoH1taj2axGVzFqSb8C9xaxKymcFzXBDptWmT7FwuEzG3ryjH4ktypQSAewRiNMjANTtpgP4mLTj34bhnZX7UiM",
        "m/0h/1/2h/2": "xprvA2JDeKCSNNZky6uBCviVfJSKyQ1mDYahRjijr5idH2WwLsEd4Hsb2Tyh8RfQMuPh7f7RtyzTtdrbdqqsunu5Mm3wDvUAKRHSC34sJ7in334",
        "m/0h/1/2h/2/1000000000": "xprvA41z7zogVVwxVSgdKUHDy1SKmdb533PjDz7J6N6mV6uS3ze1ai8FHa8kmHScGpWmj4WggLyQjgPie1rFSruoUihUZREPSL39UNdE3BBDu76",
    },
    "fffcf9f6f3f0edeae7e4e1dedbd8d5d2cfccc9c6c3c0bdbab7b4b1aeaba8a5a29f9c999693908d8a8784817e7b7875726f6c696663605d5a5754514e4b484542": {
        "m": "xprv9s21ZrQH143K31xYSDQpPDxsXRTUcvj2iNHm5NUtrGiGG5e2DtALGdso3pGz6ssrdK4PFmM8NSpSBHNqPqm55Qn3LqFtT2emdEXVYsCzC2U",
        "m/0": "xprv9vHkqa6EV4sPZHYqZznhT2NPtPCjKuDKGY38FBWLvgaDx45zo9WQRUT3dKYnjwih2yJD9mkrocEZXo1ex8G81dwSM1fwqWpWkeS3v86pgKt",
        "m/0/2147483647h": "xprv9wSp6B7kry3Vj9m1zSnLvN3xH8RdsPP1Mh7fAaR7aRLcQMKTR2vidYEeEg2mUCTAwCd6vnxVrcjfy2kRgVsFawNzmjuHc2YmYRmagcEPdU9",
        "m/0/2147483647h/1": "xprv9zFnWC6h2cLgpmSA46vutJzBcfJ8yaJGg8cX1e5StJh45BBciYTRXSd25UEPVuesF9yog62tGAQtHjXajPPdbRCHuWS6T8XA2ECKADdw4Ef",
        "m/0/2147483647h/1/2147483646h": "xprvA1RpRA33e1JQ7ifknakTFpgNXPmW2YvmhqLQYMmrj4xJXXWYpDPS3xz7iAxn8L39njGVyuoseXzU6rcxFLJ8HFsTjSyQbLYnMpCqE2VbFWc",
        "m/0/2147483647h/1/2147483646h/2": "xprvA2nrNbFZABcdryreWet9Ea4LvTJcGsqrMzxHx98MMrotbir7yrKCEXw7nadnHM8Dq38EGfSh6dqA9QWTyefMLEcBYJUuekgW4BYPJcr9E7j",
    },
    "4b381541583be4423346c643850da4b320e46a87ae3d2a4e6da11eba819cd4acba45d239319ac14f863b8d5ab5a0d0c64d2e8a1e7d1457df2e5a3c51c73235be": {
        "m": "xprv9s21ZrQH143K25QhxbucbDDuQ4naNntJRi4KUfWT7xo4EKsHt2QJDu7KXp1A3u7Bi1j8ph3EGsZ9Xvz9dGuVrtHHs7pXeTzjuxBrCmmhgC6",
        "m/0h": "xprv9uPDJpEQgRQfDcW7BkF7eTya6RPxXeJCqCJGHuCJ4GiRVLzkTXBAJMu2qaMWPrS7AANYqdq6vcBcBUdJCVVFceUvJFjaPdGZ2y9WACViL4L",
    },
}


def private_key_of(extended: str) -> str:
    """The key inside Base58Check; its checksum shows that the text above is as published."""
    number = 0
    for character in extended:
        number = number * 58 + "123456789ABCDEFGHJKLMNPQRSTUVWXYZabcdefghijkmnopqrstuvwxyz".index(character)
    data = number.to_bytes(82, "big")
    assert sha256(sha256(data[:-4]))[:4] == data[-4:], extended
    return data[46:78].hex()


def bip32_children() -> list[Case]:
    cases: list[Case] = []
    for number, (seed, children) in enumerate(BIP32.items(), 1):
        for path, extended in children.items():
            steps = [int(step.rstrip("h")) + (HARD if step.endswith("h") else 0) for step in path.split("/")[1:]]
            key = private_key_of(extended)
            assert bip32(bytes.fromhex(seed), steps).hex() == key
            cases.append({"name": f"vector {number}, {path}", "seed": seed, "path": steps, "expect": key})
    return cases
