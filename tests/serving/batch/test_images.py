"""Chunks: always the same 64 images, whatever is finished and whoever reads which piece."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import pytest

from serving.batch.images import Image, Part, Wanted, chunks
from serving.batch.sources import Files, Source


@dataclass(frozen=True)
class Numbers:
    """A split of so many images, of which the content is made where it is wanted."""

    count: int
    split: int = 3
    first: int = 0
    final: bool = True

    def images(self, wanted: Wanted) -> Iterator[Image]:
        for i in range(self.first, self.first + self.count):
            yield Image(str(i), b"content" if wanted(i) else b"")


@pytest.mark.parametrize("count", [0, 1, 63, 64, 65, 127, 128, 129, 192, 200, 256, 321])
def test_every_image_is_in_one_chunk_and_ends_are_told(count: int) -> None:
    found = list(chunks(Numbers(count), 128, frozenset()))
    assert [image.key for chunk in found for image in chunk.images] == [str(i) for i in range(count)]
    assert [chunk.final for chunk in found] == [False] * (len(found) - 1) + [True] * (count > 0)
    for i, chunk in enumerate(found):
        start = 64 * i
        assert (chunk.part, chunk.number) == (Part(3, start // 128), start % 128 // 64)
        assert len(chunk.images) == min(64, count - start)
        assert chunk.last == (start + 64 >= count or (start + 64) % 128 == 0)


@pytest.mark.parametrize("count", [100, 128, 256, 300])
def test_what_is_finished_is_passed_over_unread_and_the_rest_is_the_same(count: int) -> None:
    whole = list(chunks(Numbers(count), 128, frozenset()))
    for finished in ({Part(3, 0)}, {Part(3, 1)}, {Part(3, 0), Part(3, 2)}, {Part(9, 0)}):
        left = list(chunks(Numbers(count), 128, finished))
        assert left == [chunk for chunk in whole if chunk.part not in finished]
        assert all(image.content for chunk in left for image in chunk.images)


@pytest.mark.parametrize("count", [1, 64, 128, 200, 512, 600])
@pytest.mark.parametrize("size", [64, 192, 1024])
def test_pieces_of_a_list_make_the_chunks_of_the_list(count: int, size: int) -> None:
    names = tuple(map(str, range(count)))
    source = Source("images", count, "", (Files(names),), (count,))
    together = [chunk for piece in source.pieces(size) for chunk in chunks(piece, 256, frozenset())]
    assert together == list(chunks(Files(names), 256, frozenset()))
