"""What is scored at once: 64 consecutive images of a part, always the same ones, whoever scores them.

Engines compute the last bit of a score otherwise in batches of another size, so that the decisions of a source can only be
those of `oodgate run` bit for bit where the batches are.
"""

from __future__ import annotations

from collections.abc import Callable, Container, Iterable, Iterator
from dataclasses import dataclass
from typing import NamedTuple, Protocol, Self

from runtime.exceptions import ImageError
from runtime.gate import MAX_BATCH

BATCH = MAX_BATCH

Wanted = Callable[[int], bool]


class Failure(NamedTuple):
    """Why an image has no decision: the code of an error, as over HTTP, and the text."""

    code: str
    message: str

    @classmethod
    def of(cls, error: ImageError) -> Self:
        """The failure of an image that can't be used."""
        return cls(error.code, str(error))


class Image(NamedTuple):
    """An image of a source.

    Attributes:
        key: what tells it from the others: its path or URL, that of its shard and its name there, or a Parquet row's key.
        content: the bytes of the file; where they are to be read from; or why there are none.
    """

    key: str
    content: bytes | str | Failure


class Part(NamedTuple):
    """A file of the output: the images of one slice of one split, by their numbers."""

    split: int
    slice: int


class Piece(Protocol):
    """A stretch of a split: what one worker reads from its beginning to its end. A split is one list of files, or one shard.

    Attributes:
        split: its number in the source.
        first: the number of its first image in the split, a multiple of 64.
        final: whether the split ends with it.
    """

    @property
    def split(self) -> int: ...
    @property
    def first(self) -> int: ...
    @property
    def final(self) -> bool: ...

    def images(self, wanted: Wanted) -> Iterator[Image]:
        """Its images in order; of those that are not `wanted`, by their numbers in the split, the content may be anything.

        What can't be read is an image with its failure, and no exception.
        """
        ...


@dataclass(frozen=True)
class Chunk:
    """Images that are scored at once.

    Attributes:
        part: where their rows go.
        number: of the chunk in its part.
        images: at most 64.
        last: whether the part ends with it.
        final: whether the split does.
    """

    part: Part
    number: int
    images: tuple[Image, ...]
    last: bool
    final: bool


def chunks(piece: Piece, rows: int, finished: Container[Part]) -> Iterator[Chunk]:
    """A piece in chunks, one after another, without those of parts that are finished.

    Args:
        piece: read as the chunks are asked for.
        rows: images of a part, a multiple of 64; the last part of a split has what is left.
        finished: parts that are there already.
    """

    def part(index: int) -> Part:
        return Part(piece.split, index // rows)

    gathered: list[Image] = []
    index = piece.first
    for image, ends in _with_end(piece.images(lambda each: part(each) not in finished)):
        if part(index) not in finished:
            gathered.append(image)
        index += 1
        if gathered and (ends or index % BATCH == 0):
            final = ends and piece.final
            number = (index - 1) % rows // BATCH
            yield Chunk(part(index - 1), number, tuple(gathered), final or index % rows == 0, final)
            gathered = []


def _with_end(images: Iterable[Image]) -> Iterator[tuple[Image, bool]]:
    """Each image, and whether it is the last."""
    stream = iter(images)
    for image in stream:
        for following in stream:
            yield image, False
            image = following
        yield image, True
