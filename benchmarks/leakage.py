"""``python -m benchmarks.leakage TRAINING --other SOURCE ..``: are training images known again, and no others?"""

from __future__ import annotations

import argparse
import io
from collections.abc import Callable, Sequence
from dataclasses import replace

import numpy as np
import numpy.typing as npt
from PIL import Image

from benchmarks.paths import BUNDLE, MEASURED
from export.images.leakage import leaks
from export.report.table import layout
from runtime.bundle import Bundle
from runtime.command import run
from runtime.manifest import InputSpec, Manifest
from train.data import Reading, add_reading_options, read, short_name
from train.data.sketches import Fingerprints, looks_of

ROLE = "training"
MIXTURES = (0, 0.005, 0.01, 0.02, 0.05)
SIZES = (1000, 2500, 5000)
CHANGED = 2000  # training images that are changed

Pixels = npt.NDArray[np.uint8]


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.leakage", description=__doc__.partition(": ")[2])
    parser.add_argument("training", metavar="TRAINING", help="the images that are sketched, such as cifar10-train.tar")
    parser.add_argument("--other", action="append", required=True, metavar="SOURCE", help="others; the first is mixed")
    parser.add_argument("--size", type=int, default=32, help="side of the model's input (default: %(default)s)")
    parser.add_argument("--trials", type=int, default=200, help="random mixtures a cell (default: %(default)s)")
    parser.add_argument("--write", action="store_true", help="into docs/measured/leakage.md; default: print")
    add_reading_options(parser)
    return parser


def encoded(**options: object) -> Callable[[Pixels], Pixels]:
    """Images saved by Pillow and read again."""

    def change(images: Pixels) -> Pixels:
        changed = []
        for image in images:
            buffer = io.BytesIO()
            Image.fromarray(image).save(buffer, **options)  # type: ignore[arg-type]  # of several types
            changed.append(np.asarray(Image.open(buffer).convert("RGB")))
        return np.stack(changed)

    return change


def one_bit(images: Pixels) -> Pixels:
    changed = images.copy()
    changed[:, images.shape[1] // 2, images.shape[2] // 3, 1] ^= 1
    return changed


def larger_and_back(images: Pixels) -> Pixels:
    side = images.shape[1]
    larger = [Image.fromarray(image).resize((side * 3 // 2,) * 2, Image.Resampling.BILINEAR) for image in images]
    return np.stack([np.asarray(image.resize((side, side), Image.Resampling.BILINEAR)) for image in larger])


CHANGES: dict[str, Callable[[Pixels], Pixels]] = {
    "none": lambda images: images,
    "one bit": one_bit,
    "mirrored": lambda images: images[:, :, ::-1],
    "JPEG, quality 95": encoded(format="JPEG", quality=95),
    "JPEG, quality 75": encoded(format="JPEG", quality=75),
    "JPEG, quality 50": encoded(format="JPEG", quality=50),
    "WebP, quality 80": encoded(format="WEBP", quality=80),
    "half as large again, and back": larger_and_back,
}


def table_of_changes(images: Pixels, before: Fingerprints) -> list[list[str]]:
    rows = [["change", "same pixels", "same look"]]
    for name, change in CHANGES.items():
        after = Fingerprints.of(change(images))
        kept = [float((old == new).mean()) for old, new in ((before.exact, after.exact), (before.looks, after.looks))]
        rows.append([name, *(f"{100 * share:.1f} %" for share in kept)])
    return rows


def table_of_others(training: Fingerprints, others: dict[str, Fingerprints]) -> list[list[str]]:
    rows = [["set", "images", "pixels of a training image", "look of one"]]
    for name, found in others.items():
        shared = [
            int(np.isin(mine, theirs).sum())
            for mine, theirs in ((found.exact, training.exact), (found.looks, training.looks))
        ]
        rows.append(
            [name, f"{len(found.exact):,}", *(f"{count} ({100 * count / len(found.exact):.2f} %)" for count in shared)]
        )
    return rows


def table_of_mixtures(manifest: Manifest, training: Fingerprints, other: Fingerprints, trials: int) -> list[list[str]]:
    rows = [["images", *(f"{100 * share:g} %" for share in MIXTURES)]]
    rng = np.random.default_rng(0)
    for size in (size for size in SIZES if size <= len(other.exact)):
        cells = []
        for share in MIXTURES:
            refused = 0
            for _ in range(trials):
                old = rng.choice(len(training.exact), round(share * size), replace=False)
                new = rng.choice(len(other.exact), size - len(old), replace=False)
                mixed = [
                    np.concatenate([a[old], b[new]]) for a, b in zip(*map(_columns, (training, other)), strict=True)
                ]
                refused += ROLE in leaks(manifest, mixed[0], mixed[1])
            cells.append(f"{100 * refused / trials:.0f} %")
        rows.append([f"{size:,}", *cells])
    return rows


def _columns(found: Fingerprints) -> tuple[npt.NDArray[np.uint64], npt.NDArray[np.uint32]]:
    return found.exact, found.looks


def page(args: argparse.Namespace) -> str:
    """The figures as Markdown."""
    spec = InputSpec(args.size, args.size, mean=(0.0, 0.0, 0.0), std=(1.0, 1.0, 1.0))
    images = read(args.training, spec, reading=Reading.of(args)).images
    training = Fingerprints.of(images)
    others = {
        short_name(source): Fingerprints.of(read(source, spec, reading=Reading.of(args)).images)
        for source in args.other
    }
    kept = training.describe(args.training, exact=False)
    manifest = replace(Bundle.load(BUNDLE).manifest, data={ROLE: kept})
    twice = len(training.looks) - len(np.unique(training.looks))
    pairs = len(training.looks) * (len(training.looks) - 1) / 2
    chosen = np.linspace(0, len(images) - 1, min(CHANGED, len(images))).round().astype(np.int64)
    part = Fingerprints(training.exact[chosen], training.looks[chosen])
    first = next(iter(others))
    return "\n\n".join(
        [
            "# Leakage: are training images known again?",
            f"The {len(training.looks):,} images of {kept.source} at {args.size} x {args.size} pixels. Their record takes "
            f"{len(kept.looks) / 1000:.0f} kB of a manifest and holds {len(looks_of(kept)):,} looks.",
            f"{twice} of them have the look of another one, near-duplicates among them: {twice / pairs:.1g} of all pairs.",
            f"What {len(chosen):,} of them keep when they are changed:",
            layout(table_of_changes(images[chosen], part), markdown=True),
            "Images of other sets that are taken for training images, rightly or not, were every look kept:",
            layout(table_of_others(training, others), markdown=True),
            f"Of {args.trials} random sets, how many are refused, by the share of training images among images of {first}:",
            layout(table_of_mixtures(manifest, training, others[first], args.trials), markdown=True),
            "Regenerated by `python -m benchmarks.leakage TRAINING --other SOURCE .. --write`.",
        ]
    )


def main(argv: Sequence[str] | None = None) -> int:
    args = _parser().parse_args(argv)
    text = page(args) + "\n"
    if args.write:
        (MEASURED / "leakage.md").write_text(text, encoding="utf-8")
    else:
        print(text, end="")
    return 0


if __name__ == "__main__":
    run(main)
