"""Which detector when? Every detector on a bundle, against every OOD set, with its cost, and what `--score auto` chooses.

    python -m benchmarks.detectors DATA

Fits every detector that the bundle's last layers admit on DATA/cifar10-train.tar, evaluates on one half of
DATA/cifar10-val.tar against each DATA/ood-*.tar, times each score alone on the bundle's own features, and writes
docs/measured/detectors.md. Settings whose default is `auto` are chosen as `--score auto --fit` chooses them, and so is its
score: by synthetic outliers, made of a quarter of the other half. Nothing looks at an OOD set before the evaluation. Other
data are named by --train, --calibration, --id and --ood; all of them are files in DATA. What the network puts out for each
image is kept in --cache, where an interrupted run goes on.
"""

from __future__ import annotations

import argparse
import itertools
import statistics
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt
import onnx

from benchmarks.detector_cost import BATCH, alone, clock_for, contestant, in_turns
from benchmarks.detectors_page import Auto, Column, Page, page
from benchmarks.observed import Network, Sets, network, observed
from benchmarks.paths import BUNDLE, MEASURED
from export.calibrate import choice, selecting
from export.detectors import DETECTORS, fitting
from export.detectors.base import BASE
from export.detectors.interface import Fitted, Observed, Training, negative_share
from export.detectors.sign import objection
from export.exceptions import ExportError
from export.fit.options import check_used, parse_names, parse_settings
from export.graph import head
from export.graph.building import LOGITS, PENULTIMATE
from export.graph.last_layers import LastLayers
from export.images.leakage import overlap
from export.metrics.detection import detection, detection_intervals
from runtime.command import run
from runtime.engines.interface import Outputs, joined
from runtime.engines.ort.cpu import OnnxRuntimeCpu
from runtime.exceptions import OodgateError
from runtime.manifest import Manifest
from train.data import Images, ImageSet, load, short_name
from train.data.sketches import hashes

TRAIN, CALIBRATION, KNOWN = "cifar10-train.tar", "cifar10-val.tar@1/2", "cifar10-val.tar@2/2"
Scores = npt.NDArray[np.floating]
_ROWS = 500  # a bank's distances to them at a time


@dataclass(frozen=True)
class Detectors:
    """What could be fitted to a network, and what not.

    Attributes:
        fitted: by name.
        refused: why not, by name.
        examples: the training images' outputs.
    """

    fitted: dict[str, Fitted]
    refused: dict[str, str]
    examples: Training

    def with_scores(self, outputs: Outputs, names: Sequence[str]) -> Outputs:
        """The outputs with the detectors as further columns after those that are called `names`."""
        slices = [slice(start, start + _ROWS) for start in range(0, len(outputs.logits), _ROWS)]
        features = np.asarray(outputs.penultimate)
        parts = [Outputs(outputs.logits[i], outputs.scores[i], penultimate=features[i]) for i in slices]
        return joined([selecting.with_columns(part, names, self.fitted) for part in parts])

    @property
    def weaker(self) -> dict[str, str]:
        """What is to be said of scores that take features to be at least 0, where they are not; by name."""
        kinds = {name: kind for name, kind in (BASE | DETECTORS).items() if name not in self.refused}
        said = {name: objection(name, kind, self.examples.negative_share) for name, kind in kinds.items()}
        return {name: text.removeprefix(f"{name} is ") for name, text in said.items() if text}


def fit(
    found: Network,
    kinds: Mapping[str, Outputs],
    names: Sequence[str],
    source: str,
    images: ImageSet,
    given: Sequence[str],
) -> Detectors:
    """Each detector fitted on training images, with the settings of `given`; or the reason why not.

    Args:
        kinds: outputs for the synthetic outliers that choose settings.
        source, images: the training images.
    """
    layers = LastLayers(found.model)
    outputs = found.of(f"train {short_name(source)}".replace("/", " of "), lambda: images.images)
    examples = Training(
        outputs.logits,
        np.asarray(outputs.penultimate),
        images.labels,
        layers,
        settings=parse_settings(given, found.manifest),
        outliers={name: Observed(part.logits, np.asarray(part.penultimate)) for name, part in kinds.items()},
    )
    fitted: dict[str, Fitted] = {}
    refused: dict[str, str] = {}
    for name in names:
        print(f"fit {name}", file=sys.stderr, flush=True)
        try:
            if DETECTORS[name].linear and not layers.is_linear:
                raise ExportError("the last layers are not one plain linear layer")
            fitted |= fitting.fit([name], examples)[0]
        except ExportError as error:
            refused[name] = str(error).removeprefix(f"{name}: ").removeprefix("is ")
    return Detectors(fitted, refused, examples)


def attach(found: Network, detectors: Detectors, images: ImageSet, threads: int) -> tuple[Manifest, float]:
    """Put the detectors into the network's graph, in place; its manifest, and the largest difference from a reference."""
    manifest = fitting.with_scores(found.model, found.manifest, detectors.fitted, detectors.examples)
    engine = OnnxRuntimeCpu(found.model.SerializeToString(), threads)
    return manifest, max(fitting.verify(engine, images, detectors.fitted, manifest).values())


def check_apart(sets: Mapping[str, Images]) -> None:
    """Make sure that no two sets of images, called as their options are, share some.

    Raises:
        OodgateError: naming the two.
    """
    found = {name: hashes(images[:]) for name, images in sets.items()}
    for one, other in itertools.combinations(found, 2):
        both = overlap(np.sort(found[one]), found[other], len(found[one]) + 1)
        if both.leaks:
            raise OodgateError(
                f"--{one} and --{other} share {both.shared} images: give parts such as @1/4, @3/4 and @2/2"
            )


def column(known: Scores, real: Mapping[str, Scores]) -> Column:
    """The figures of one score, (n,) of known images against (m,) of each set."""
    figures = {name: detection(known, scores) for name, scores in real.items()}
    return Column(figures, {name: detection_intervals(known, real[name], own) for name, own in figures.items()})


def columns(names: Sequence[str], sets: Sets) -> dict[str, Column]:
    """Every score by itself."""
    return {
        name: column(sets.known.scores[:, i], {set_: part.scores[:, i] for set_, part in sets.real.items()})
        for i, name in enumerate(names)
    }


def auto(names: Sequence[str], sets: Sets) -> Auto:
    """What `--score auto --fit` chooses of the base scores, the detectors that it fits, and fusions."""
    compared = [name for name in names if name in BASE or name in selecting.FITTED]
    wanted = selecting.candidates(compared, negative_share(np.asarray(sets.choose.penultimate)))
    others = {"known": sets.known, **{f"real {name}": part for name, part in sets.real.items()}, **sets.kinds}
    own, each = selecting.compared(wanted, names, sets.choose, others)
    table = choice.compare([one.name for one in wanted], own, {name: each[name] for name in sets.kinds}, {})
    best = choice.best_score(table)
    (index,) = (i for i, one in enumerate(wanted) if one.name == best)
    real = {name: each[f"real {name}"].scores[:, index] for name in sets.real}
    return Auto(best, len(wanted), column(each["known"].scores[:, index], real))


def cost(model: onnx.ModelProto, manifest: Manifest, outputs: Outputs, rounds: int) -> dict[str, float]:
    """Microseconds of processor time an image of each score alone at batch 32, from the outputs for as many images."""
    feeds = {LOGITS: outputs.logits[:BATCH], PENULTIMATE: np.asarray(outputs.penultimate)[:BATCH]}
    tensors = dict(zip(manifest.scores, head.columns(model), strict=True))
    contestants = {name: contestant(alone(model, [tensor]), feeds, 1) for name, tensor in tensors.items()}
    times = in_turns(contestants, rounds, "cost", clock_for(1))
    return {name: 1e6 * statistics.median(values) / BATCH for name, values in times.items()}


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("data", type=Path, metavar="DATA")
    parser.add_argument("--bundle", type=Path, default=BUNDLE, help="default: the shipped one")
    parser.add_argument("--detectors", default="all", metavar="NAME,..", help="default: all")
    parser.add_argument("--train", default=TRAIN, metavar="SOURCE", help="default: %(default)s")
    parser.add_argument("--calibration", default=CALIBRATION, metavar="SOURCE", help="default: %(default)s")
    parser.add_argument(
        "--id", default=KNOWN, metavar="SOURCE", help="known images to evaluate on; default: %(default)s"
    )
    parser.add_argument("--ood", default="ood-", metavar="PREFIX", help="of the OOD sets' names; default: %(default)s")
    parser.add_argument("--set", action="append", default=[], metavar="DETECTOR.SETTING=VALUE", help="as of export.fit")
    parser.add_argument("--about", default="", metavar="TEXT", help="how the network was made, for the page")
    parser.add_argument("--out", type=Path, default=MEASURED / "detectors.md", metavar="FILE")
    parser.add_argument("--rounds", type=int, default=15, help="of timing")
    parser.add_argument("--threads", type=int, default=0, help="engine threads, but for timing")
    parser.add_argument(
        "--cache", type=Path, metavar="FOLDER", help="where the network's outputs for these sources are kept"
    )
    return parser


def _command(args: argparse.Namespace) -> str:
    """What makes the page again."""
    defaults = _parser()
    names = ("train", "calibration", "id", "ood", "detectors")
    given = [f"--{name} {getattr(args, name)}" for name in names if getattr(args, name) != defaults.get_default(name)]
    given += ["--about .."] if args.about else []
    if args.bundle != BUNDLE:
        given = [f"--bundle {args.bundle}", *given, f"--out {args.out}"]
    return " ".join(["python -m benchmarks.detectors DATA", *given, *(f"--set {item}" for item in args.set)])


def main(argv: Sequence[str] | None = None) -> int:
    args = _parser().parse_args(argv)
    files = {path.stem.removeprefix(args.ood): str(path) for path in sorted(args.data.glob(f"{args.ood}*.tar"))}
    if not files:
        raise OodgateError(f"{args.data}: no {args.ood}*.tar in it")
    train, calibration, known = (str(args.data / source) for source in (args.train, args.calibration, args.id))
    found = network(args.bundle, args.threads, args.cache)
    names = list(DETECTORS) if args.detectors == "all" else parse_names(args.detectors)
    check_used(args.set, names)
    images = fitting.training_images(names, found.manifest, train)
    if images is None:
        raise OodgateError(f"--detectors {args.detectors}: none is fitted on images; name one that is")
    held = {
        name: load(source, found.manifest.input).images
        for name, source in (("calibration", calibration), ("id", known))
    }
    check_apart({"train": images.images, **held})
    sets = observed(found.of, found.manifest, calibration, known, files)
    detectors = fit(found, sets.kinds, names, train, images, args.set)
    scores = (*found.manifest.scores, *(name for name in detectors.fitted if name not in found.manifest.scores))
    sets = sets.each(lambda part: detectors.with_scores(part, found.manifest.scores))
    manifest, difference = attach(found, detectors, images, args.threads)
    text = page(
        Page(
            manifest=manifest,
            command=_command(args),
            about=args.about,
            fitted_on=f"{short_name(train)} ({len(images):,} images)",
            known=f"{short_name(known)} ({len(sets.known.logits):,} images)",
            outliers={name: len(part.logits) for name, part in sets.real.items()},
            chosen_by=f"{len(sets.choose.logits):,} images of {short_name(calibration)}",
            columns=columns(scores, sets),
            auto=auto(scores, sets),
            refused=detectors.refused,
            weaker=detectors.weaker,
            difference=difference,
            costs=cost(found.model, manifest, sets.choose, args.rounds),
        )
    )
    args.out.write_text(text)
    print(text)
    return 0


if __name__ == "__main__":
    run(main)
