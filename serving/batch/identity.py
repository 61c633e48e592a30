"""What an output is of: a job that goes on finds the same source, bundle and options, or is refused."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping

import onnxruntime
import PIL

from runtime import __version__
from runtime.bundle import MODEL, Bundle, document
from serving.batch.parts import Parts
from serving.batch.places import Folder
from serving.batch.sources import Source
from serving.exceptions import OutputUnusable

FILE = "_job.json"  # what reads Parquet passes over names that begin so

Identity = Mapping[str, str | float | None]


def identity(source: Source, bundle: Bundle, options: Identity) -> dict[str, str | float | None]:
    """All that the rows of an output depend on.

    Args:
        source: as it was listed.
        bundle: as it was loaded.
        options: the command's that matter.
    """
    manifest = bundle.manifest
    return {
        "source": f"{source.files:,} {source.kind}, SHA-256 of their names, sizes and times {source.digest}",
        "bundle": manifest.model.name,
        "model": manifest.files[MODEL].sha256,
        "manifest": hashlib.sha256(document(manifest)).hexdigest(),
        **options,
        "oodgate": __version__,
        "onnxruntime": onnxruntime.__version__,
        "pillow": PIL.__version__,
    }


def claim(folder: Folder, parts: Parts, own: Identity) -> None:
    """Make an output this job's, or see that it is.

    Raises:
        OutputUnusable: it is another job's.
    """
    try:
        there = json.loads(folder.read(FILE))
    except FileNotFoundError:
        if parts.names:
            raise OutputUnusable(
                f"{folder.name}: has parts and no {FILE} that says of what; choose another --out, or delete it"
            ) from None
        folder.write(FILE, json.dumps(own, indent=1).encode())
        return
    except (OSError, ValueError) as error:
        raise OutputUnusable(f"{folder.name}/{FILE}: can't be read ({error}); choose another --out") from error
    for name in {**there, **own}:
        if (then := there.get(name)) != (now := own.get(name)):
            raise OutputUnusable(
                f"{folder.name}: holds the scores of another job, whose {name} was {then}, and is {now} now; choose another "
                "--out, or delete it"
            )
