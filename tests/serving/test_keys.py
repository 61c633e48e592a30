from __future__ import annotations

import base64
import hashlib

import pytest

from serving import keys
from serving.keys import Keys

KEYS = Keys(hashlib.sha256(key).hexdigest() for key in (b"one", b"two"))


@pytest.mark.parametrize(
    ("name", "value", "admitted"),
    [
        (b"x-api-key", b"one", True),
        (b"x-api-key", b"two", True),
        (b"authorization", b"Bearer two", True),
        (b"authorization", b"bearer one", True),
        (b"authorization", b"Basic " + base64.b64encode(b"anybody:one"), True),
        (b"x-api-key", b"three", False),
        (b"x-api-key", b"", False),
        (b"x-api-key", hashlib.sha256(b"one").hexdigest().encode(), False),
        (b"authorization", b"Bearer ", False),
        (b"authorization", b"one", False),
        (b"authorization", b"Basic one", False),
        (b"authorization", b"Basic " + base64.b64encode(b"one"), False),
        (b"authorization", b"Basic \xff\xfe", False),
        (b"cookie", b"one", False),
    ],
)
def test_who_is_let_in(name: bytes, value: bytes, admitted: bool) -> None:
    assert KEYS.admit([(b"host", b"x"), (name, value)]) is admitted


def test_a_new_key_goes_with_its_digest(capsys: pytest.CaptureFixture[str]) -> None:
    keys.main()
    (_, key), (_, digest) = (line.split() for line in capsys.readouterr().out.splitlines())
    assert len(base64.urlsafe_b64decode(key + "=")) == 32
    assert Keys([digest]).admit([(b"x-api-key", key.encode())])
