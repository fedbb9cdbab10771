"""JSON values on which parsers disagree, become slow or crash."""

from __future__ import annotations

import json

# The strict parser of docs/protocol.md rejects these values at every place.
INVALID_JSON = {
    "invalid UTF-8": b'"\xff\xfe"',
    "an overlong encoding": b'"\xc0\xaf"',
    "a surrogate in UTF-8": b'"\xed\xa0\x80"',
    "half of a pair of surrogates": rb'"\ud800"',
    "a raw control character": b'"\x01"',
    "a string without end": b'"',
    "NaN": b"NaN",
    "Infinity": b"Infinity",
    "minus Infinity": b"[-Infinity]",
    "a leading zero": b"01",
    "a hexadecimal number": b"0x10",
    "10 000 lists": b"[" * 10_000 + b"]" * 10_000,
    "10 000 objects": b'{"a":' * 10_000 + b"1" + b"}" * 10_000,
    "10 000 lists without end": b"[" * 10_000,
    "a duplicate inside": b'{"a":1,"a":1}',
    "a duplicate by escapes": rb'{"a":1,"\u0061":1}',
    "a comment": b"1/**/",
    "an empty text": b"",
}
# It accepts these values as JSON. The type of a field may still not permit them.
VALID_JSON = {
    "null": b"null",
    "true": b"true",
    "zero": b"0",
    "minus zero": b"-0",
    "a fraction": b"1.5",
    "an exponent": b"3e1",
    "an exponent without end": b"1e999999999",
    "2^31": b"2147483648",
    "2^63": b"9223372036854775808",
    "minus 2^63 and one more": b"-9223372036854775809",
    "2^64": b"18446744073709551616",
    "400 digits": b"9" * 400,
    "50 000 digits": b"9" * 50_000,
    "an empty string": b'""',
    "a space": b'" "',
    "a zero character": rb'"\u0000"',
    "a new line at the end": rb'"12\n"',
    "digits of another script": '"٣٠"'.encode(),
    "a change of text direction": rb'"\u202e"',
    "50 000 characters": b'"' + b"A" * 50_000 + b'"',
    "10 000 of four bytes each": b'"' + "🔥".encode() * 10_000 + b'"',
    "an empty list": b"[]",
    "500 lists": b"[" * 500 + b"]" * 500,
    "20 000 zeros": b"[0" + b",0" * 19_999 + b"]",
    "an empty object": b"{}",
    "500 objects": b'{"a":' * 500 + b"1" + b"}" * 500,
    "3 000 members": json.dumps({f"m{i}": i for i in range(3_000)}).encode(),
    "odd names": rb'{"":0,"\u0000":0,"__proto__":0,"$.a":0,"` - at `$":0}',
}
