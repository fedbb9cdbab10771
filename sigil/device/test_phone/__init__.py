"""A phone for tests: it attests a device under a test root, and every field of the attestation can be forged.

    root = TestRoot.load(directory)            # made by: python -m deploy.attestation root DIR
    AndroidPhone(root, device.public, patch=202401).statement(digest_for)     # the `attestation` object of the wire

It shares no code with the server's verifiers: a fault of a reader is not repeated by a writer.
"""
