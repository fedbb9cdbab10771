"""TLS to the holder of one certificate: for a token that goes to this host's own server, and to no other program.

While that server is down, a program of another user may listen on its port.
"""

from __future__ import annotations

import ssl

# X509_V_FLAG_NO_CHECK_TIME of OpenSSL: an expired certificate is a finding, and no reason to read nothing.
_NO_CHECK_TIME = 0x200000
_END = "-----END CERTIFICATE-----"


def pinned_context(pem: str) -> ssl.SSLContext:
    """Accepts the first certificate of the text, and no other: also none of the same authority. ssl.SSLError,
    TypeError for text that holds none.
    """
    # Not create_default_context: from Python 3.13 it refuses self-signed certificates without key identifiers.
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.load_verify_locations(cadata=f"{pem.partition(_END)[0]}{_END}\n")
    context.check_hostname = False
    context.verify_flags |= ssl.VERIFY_X509_PARTIAL_CHAIN | _NO_CHECK_TIME
    return context
