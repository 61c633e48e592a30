"""Tars: WebDataset's shards or any others, compressed or not, read once from beginning to end."""

from __future__ import annotations

import tarfile
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Self

from runtime.folder import is_hidden, is_image
from runtime.preprocess import Limits
from serving.batch import places
from serving.batch.images import Failure, Image, Wanted

_READ_AHEAD = 1 << 20


@dataclass(frozen=True)
class Tar:
    """A tar, which is a split; its images are the members whose names end as images' do.

    Attributes:
        split, first, final: of :class:`serving.batch.images.Piece`.
        name: its path or URL.
    """

    split: int
    name: str
    first: int = 0
    final: bool = True

    def images(self, wanted: Wanted) -> Iterator[Image]:
        """Its images; of a damaged tar those before the damage, and one more that fails for it."""
        index = 0
        try:
            with (
                places.opened(self.name) as file,
                tarfile.open(fileobj=file, mode="r|*", bufsize=_READ_AHEAD, tarinfo=_Member) as tar,
            ):
                while (member := tar.next()) is not None:
                    tar.members = []  # type: ignore[attr-defined]  # all of them would be kept
                    name = member.name.removeprefix("./")
                    if is_image(name) and not is_hidden(name) and not member.isdir():
                        yield Image(f"{self.name}/{name}", _content(tar, member) if wanted(index) else b"")
                        index += 1
        except (
            Exception
        ) as error:  # tarfile, its decompressors and the plugins of file systems raise many kinds of errors
            yield Image(self.name, Failure("unreadable_shard", f"the tar can't be read from here on ({error})"))


class _Member(tarfile.TarInfo):
    """A member; a tar that ends without its block of zeros is an error, which tarfile lets pass."""

    @classmethod
    def fromtarfile(cls, tarfile_: tarfile.TarFile) -> Self:
        try:
            return super().fromtarfile(tarfile_)
        except (tarfile.EmptyHeaderError, tarfile.TruncatedHeaderError) as error:  # type: ignore[attr-defined]
            raise tarfile.ReadError("it is cut off") from error


def _content(tar: tarfile.TarFile, member: tarfile.TarInfo) -> bytes | Failure:
    limits = Limits()
    if not member.isreg():
        return Failure("unreadable_file", f"a link to {member.linkname}: a tar is read once, so store the image itself")
    if member.size > limits.max_bytes:
        return Failure("image_too_large", f"the image has {member.size:,} bytes; the limit is {limits.max_bytes:,}")
    file = tar.extractfile(member)
    data = file.read() if file else b""
    if len(data) != member.size:
        raise tarfile.ReadError("it is cut off")
    return data
