"""A tar, or shards of them: compressed or not, read where its files lie if it is not."""

from __future__ import annotations

import io
import lzma
import tarfile
import zlib
from collections.abc import Sequence
from pathlib import Path

from runtime.patterns import TARS
from train.data.files import Contents, Extent, File
from train.data.index import Index
from train.data.labels.labelling import label
from train.data.listing import Listing, Names, cleaned, follow, target_of, without_hidden
from train.data.options import Reading
from train.exceptions import DataError

_BLOCK = 512
_SMALL = (".cls", ".json")  # labels, one file an image: read while the tar is listed, not one by one later


def takes(path: Path) -> bool:
    """By its name or its content."""
    return path.is_file() and (path.name.lower().endswith(TARS) or tarfile.is_tarfile(path))


def index(path: Path, reading: Reading, memory: int) -> Index:
    """The images of a tar.

    Raises:
        DataError: no readable tar, a compressed one of more than `memory` bytes, no images, or labels of no known
            form.
    """
    return label(path, _listing(_Members.of(path, memory)), reading, archive=True)


def of_shards(path: Path, shards: Sequence[Path], reading: Reading, memory: int) -> Index:
    """The images of several tars, by ``shard.tar/name``, or where shards of one name lie in several folders by
    ``number~shard.tar/name``.

    Args:
        path: what they are shards of.
        shards: in order.
        reading, memory: as :func:`index` takes them.
    """
    members = _Members({}, {}, [])
    alike = len({shard.name for shard in shards}) < len(shards)
    for number, shard in enumerate(shards):
        members = members.joined(_Members.of(shard, memory), f"{number}~{shard.name}/" if alike else f"{shard.name}/")
    listing = _listing(members)
    if not listing.images:
        raise DataError(f"{path}: no images; expected shards with key.jpg beside key.cls or key.json")
    return label(path, listing, reading, archive=True, depth=1)


class _Members:
    """What a tar holds, by cleaned names: files, links and what they name, folders."""

    def __init__(self, files: dict[str, File], links: dict[str, str], folders: list[str]) -> None:
        self.files, self.links, self.folders = files, links, folders

    def joined(self, other: _Members, prefix: str) -> _Members:
        """These, and others below a folder."""
        return _Members(
            self.files | {prefix + name: file for name, file in other.files.items()},
            self.links | {prefix + name: prefix + target for name, target in other.links.items()},
            self.folders + [prefix + name for name in other.folders],
        )

    @classmethod
    def of(cls, path: Path, memory: int) -> _Members:
        """List a tar, and read what lies in no one stretch of it."""
        try:
            with tarfile.open(path) as tar:
                return cls._read(path, tar, memory)
        except (tarfile.TarError, EOFError, OSError, zlib.error, lzma.LZMAError) as error:
            raise DataError(f"{path}: not a readable tar ({error})") from error

    @classmethod
    def _read(cls, path: Path, tar: tarfile.TarFile, memory: int) -> _Members:
        if (stream := tar.fileobj) is None:
            raise tarfile.ReadError("it has no bytes")
        found, named, held = cls({}, {}, []), Names(), 0
        compressed = not isinstance(stream, io.BufferedReader)
        while (member := tar.next()) is not None:
            tar.members.clear()  # type: ignore[attr-defined]  # a million of them would take gigabytes
            name = named(member.name)
            if not member.isfile():
                found._add_other(name, member)
                continue
            scattered = compressed or member.issparse()
            found.links.pop(name, None)
            if not scattered and not name.endswith(_SMALL):
                found.files[name] = Extent(str(path), member.offset_data, member.size)
                continue
            held += scattered * member.size
            if held > memory:
                raise DataError(
                    f"{path}: a compressed tar can't be read image by image, and its files take more than "
                    f"{memory / 1e9:.3g} GB of memory; decompress it to an uncompressed tar"
                )
            if (content := tar.extractfile(member)) is None:
                raise tarfile.ReadError(f"{name} has no bytes")
            found.files[name] = Contents(content.read())
        stream.seek(tar.offset)  # a tar ends with a block of zeros; tarfile itself does not miss it
        if stream.read(_BLOCK) != bytes(_BLOCK):
            raise DataError(f"{path}: not a readable tar (truncated after {len(found.files)} files)")
        return found

    def _add_other(self, name: str, member: tarfile.TarInfo) -> None:
        if member.isdir():
            self.folders.append(name)
        elif member.issym() or member.islnk():
            self.files.pop(name, None)
            self.links[name] = target_of(name, member.linkname) if member.issym() else cleaned(member.linkname)


def _listing(members: _Members) -> Listing:
    files, astray = follow(members.files, members.links)
    files, hidden = without_hidden(files)
    return Listing.of(files, folders=[name for name in members.folders if name], hidden=hidden, astray=astray)
