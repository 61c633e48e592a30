"""API keys: random, shown once, kept as SHA-256 digests.

``python -m serving.keys`` makes one. A key has 256 random bits, so a plain digest can't be searched for and needs no
salt or slow hash.
"""

from __future__ import annotations

import base64
import binascii
import hashlib
import hmac
import secrets
from collections.abc import Iterable


class Keys:
    """The keys that are let in.

    Args:
        digests: SHA-256 of each key, in hexadecimal.
    """

    def __init__(self, digests: Iterable[str]) -> None:
        self._digests = [bytes.fromhex(digest) for digest in digests]

    def admit(self, headers: Iterable[tuple[bytes, bytes]]) -> bool:
        """Whether ASGI headers carry a key: a bearer token, a basic password (browsers), or ``X-API-Key``."""
        return bool(self.digest(headers))

    def digest(self, headers: Iterable[tuple[bytes, bytes]]) -> str:
        """The digest of the first key in ASGI headers that is let in; empty without one."""
        digests = (hashlib.sha256(key).digest() for key in map(_key, headers) if key)
        return next((digest.hex() for digest in digests if self._is_known(digest)), "")

    def _is_known(self, digest: bytes) -> bool:
        """Compared with every digest, each in constant time."""
        return sum([hmac.compare_digest(digest, known) for known in self._digests]) > 0


def _key(header: tuple[bytes, bytes]) -> bytes | None:
    name, value = header
    if name == b"x-api-key":
        return value
    if name != b"authorization":
        return None
    scheme, _, credentials = value.partition(b" ")
    if scheme.lower() == b"bearer":
        return credentials.strip()
    if scheme.lower() == b"basic":
        try:
            return base64.b64decode(credentials, validate=True).partition(b":")[2]
        except binascii.Error:
            return None
    return None


def main() -> None:
    """Print a new key and what goes into OODGATE_API_KEYS."""
    key = secrets.token_urlsafe(32)
    print(f"key      {key}")
    print(f"digest   {hashlib.sha256(key.encode()).hexdigest()}")


if __name__ == "__main__":
    main()
