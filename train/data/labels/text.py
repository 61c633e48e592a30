"""The text of a file that a person made, with whatever program: one encoding, and lines however they end."""

from __future__ import annotations

import codecs
import unicodedata

from train.exceptions import DataError

_WIDE = (codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)


def text(title: str, data: bytes) -> str:
    """UTF-8 with or without a byte order mark, composed as labels are (NFC), with ``\\n`` for every end of a line.

    Args:
        title: what errors call the file.
        data: its bytes.

    Raises:
        DataError: another encoding.
    """
    if data.startswith(_WIDE) or b"\0" in data[:64]:
        raise DataError(f"{title}: expected UTF-8 text, found UTF-16; save it as UTF-8")
    try:
        decoded = data.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise DataError(f"{title}: expected UTF-8 text ({error}); save it as UTF-8") from error
    return unicodedata.normalize("NFC", decoded.replace("\r\n", "\n").replace("\r", "\n"))


def lines(title: str, data: bytes) -> list[str]:
    """The lines without the spaces around them; empty ones at the end are none.

    Raises:
        DataError: another encoding, or an empty line before the last.
    """
    found = [line.strip() for line in text(title, data).rstrip().split("\n")]
    if "" in found:
        raise DataError(f"{title}, line {found.index('') + 1}: expected a class name, found an empty line; take it out")
    return found
