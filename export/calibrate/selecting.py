"""What ``--score auto`` compares: the scores of the graph, detectors that are fitted for it, and fusions of two.

A fusion merges the p-values of two scores (:mod:`export.detectors.combined.merged`), one that looks at the logits and one
that looks at the features. The family is small and fixed: the more candidates, the more of them look good by chance.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import get_args

import numpy as np
import numpy.typing as npt
import onnx

from export import conformal
from export.calibrate import choice, provenance
from export.calibrate.options import GateOptions
from export.detectors import DETECTORS, columns, fitting
from export.detectors.base import BASE, Energy, has_features
from export.detectors.combined import merged
from export.detectors.interface import Fitted, Observed, Training, negative_share
from export.detectors.sign import is_meaningless
from export.graph.last_layers import last_layers
from export.images import leakage, outliers
from runtime.engines.interface import Engine, Outputs
from runtime.manifest import Choice, Manifest, MergeMethod, Task
from train.data import Images, ImageSet

Run = Callable[[Images, str], Outputs]
MakeEngine = Callable[[onnx.ModelProto], Engine]

# Of a larger outlier set so many random images: the standard error of an AUROC is then about 0.01.
MAX_OUTLIERS = 2000

# Fitted where training images are given: those that cost next to nothing and carry no bank of training features.
FITTED = (
    *("kl_uniform", "gen", "nci", "fdbd", "vim"),
    *("react", "vra", "ash-b", "ash-s", "scale"),
    *("mahalanobis++", "rmds++", "ssd"),
)
# The same for a model without classes, whose images are one cluster: `mahalanobis++` is `ssd` there.
FITTED_UNLABELLED = ("ssd", "nan_ssd")
# The parts that are merged, each of the first with each of the second.
OF_LOGITS, OF_FEATURES = ("energy", "gen"), ("mahalanobis++", "ssd", "vim", "nci", "nan")


@dataclass(frozen=True)
class Candidate:
    """A score, as ``--score`` names it; with a method, one that merges several."""

    score: str
    merge: MergeMethod | None = None

    @property
    def name(self) -> str:
        """What a choice's table calls it."""
        return merged.title(self.score, self.merge)


def candidates(names: Sequence[str], negative_share: float) -> list[Candidate]:
    """All scores `names` that mean something for features of this sign, and the fusions of them."""
    kinds = BASE | DETECTORS
    sound = [name for name in names if name not in kinds or not is_meaningless(kinds[name], negative_share)]
    pairs = [f"{a}+{b}" for a in OF_LOGITS for b in OF_FEATURES if {a, b} <= set(sound)]
    fusions = [Candidate(pair, method) for pair in pairs for method in get_args(MergeMethod)]
    return [*map(Candidate, sound), *fusions]


def fitted_names(task: Task, *, linear: bool, features: bool = True) -> list[str]:
    """Those of :data:`FITTED` that a model of this task and with these last layers can have, and with `features` of its own.

    For several labels an image none that needs labels: what chooses by itself takes images without any.
    """
    if task == "unlabelled":
        return [*FITTED_UNLABELLED]
    possible = [name for name in fitting.for_task(task) if task == "multiclass" or DETECTORS[name].needs != "labels"]
    return [
        name
        for name in FITTED
        if name in possible
        and (linear or not DETECTORS[name].linear)
        and (features or DETECTORS[name].needs == "nothing")
    ]


def with_columns(outputs: Outputs, names: Sequence[str], detectors: Mapping[str, Fitted]) -> Outputs:
    """The same outputs with the references of detectors as columns, further ones or instead of those of the same names."""
    found = dict(zip(names, outputs.scores.T, strict=True))
    if outputs.penultimate is not None:
        found |= {
            name: detector.reference(outputs.logits, outputs.penultimate).astype(np.float32)
            for name, detector in detectors.items()
        }
    return dataclasses.replace(outputs, scores=np.stack(list(found.values()), axis=1))


def compared(
    wanted: Iterable[Candidate], names: Sequence[str], known: Outputs, outliers: Mapping[str, Outputs]
) -> tuple[Outputs, dict[str, Outputs]]:
    """The outputs with the candidates as columns, those that merge by curves from the known images' own scores."""
    wanted = list(wanted)
    curves = {
        one: merged.fit(
            known.scores[:, [names.index(part) for part in merged.parts(one.score)]], merged.parts(one.score), one.merge
        )
        for one in wanted
        if one.merge
    }

    def of(outputs: Outputs) -> Outputs:
        columns = dict(zip(names, outputs.scores.T, strict=True))
        scores: list[npt.NDArray[np.floating]] = [
            merged.merge(columns, curves[one]) if one in curves else columns[one.score] for one in wanted
        ]
        return dataclasses.replace(outputs, scores=np.stack(scores, axis=1).astype(np.float32))

    return of(known), {name: of(part) for name, part in outliers.items()}


def training_images(manifest: Manifest, options: GateOptions) -> ImageSet | None:
    """The images that detectors are fitted on, if any are wanted."""
    if options.fit is None:
        return None
    names = fitted_names(manifest.task, linear=True)
    return fitting.training_images(names, manifest, options.fit, reading=options.reading)


def _outliers(
    manifest: Manifest, images: Images, options: GateOptions
) -> tuple[Manifest, dict[str, npt.NDArray[np.uint8]]]:
    """Auxiliary ones, which are recorded, or ones made of images."""
    if not options.aux:
        return manifest, outliers.synthetic(images[:MAX_OUTLIERS])
    sets = outliers.auxiliary(options.aux, manifest.input, MAX_OUTLIERS, options.reading)
    for name, part in sets.items():
        manifest = leakage.record(manifest, f"{provenance.role(options)}, {name}", name, part)
    return manifest, sets


def choose(
    model: onnx.ModelProto,
    manifest: Manifest,
    images: Images,
    training: ImageSet | None,
    options: GateOptions,
    run: Run,
    make: MakeEngine,
) -> tuple[Manifest, Choice, GateOptions, dict[str, Fitted]]:
    """Compare the scores, with the best temperature of the energy score if it is to be chosen.

    Args:
        model: an exported graph, which the detectors that the best score is made of are added to, in place.
        manifest: its manifest.
        images: in-distribution ones that set no threshold.
        training: those that detectors are fitted on; without any the scores that there are are compared.
        options: what gate is wanted.
        run: an engine over images, with their penultimate activations, and the title of its progress bar.
        make: further engines, for a graph.

    Returns:
        the manifest, with the detectors that the best score is made of; the table; options with this score; those detectors.
    """
    manifest, sets = _outliers(manifest, images, options)
    strange = {name: run(part, name) for name, part in sets.items()}
    known = run(images, "choose")
    conformal.check_finite(known.scores)
    temperatures: dict[float, float] = {}
    if options.chooses_temperature and "energy" in manifest.scores:
        temperatures = choice.compare_temperatures(known, strange)
        best = choice.best_temperature(temperatures)
        manifest = with_temperature(model, manifest, best)
        column = manifest.scores.index("energy")
        known = choice.with_energy(known, column, best)
        strange = {name: choice.with_energy(part, column, best) for name, part in strange.items()}
    if not options.chooses_score:
        return manifest, choice.compare(manifest.scores, known, strange, temperatures), options, {}
    detectors, examples = _fitted(model, manifest, training, strange, make)
    names = (*manifest.scores, *(name for name in detectors if name not in manifest.scores))
    known, strange = (
        with_columns(known, manifest.scores, detectors),
        {name: with_columns(part, manifest.scores, detectors) for name, part in strange.items()},
    )
    wanted = candidates(names, negative_share(np.asarray(known.penultimate)))
    known, strange = compared(wanted, names, known, strange)
    table = choice.compare([one.name for one in wanted], known, strange, temperatures)
    (best_one,) = (one for one in wanted if one.name == choice.best_score(table))
    options = dataclasses.replace(options, score=best_one.score, merge=best_one.merge)
    kept = {part: detectors[part] for part in options.parts if part in detectors}
    if kept and examples:
        manifest = fitting.with_scores(model, manifest, kept, examples)
        for name in sets if options.aux else ():  # which chose settings too
            manifest = leakage.record(manifest, f"fit, {name}", name, sets[name])
        manifest = _verified(model, manifest, kept, training, options, make)
    return manifest, table, options, kept


def _fitted(
    model: onnx.ModelProto,
    manifest: Manifest,
    training: ImageSet | None,
    strange: Mapping[str, Outputs],
    make: MakeEngine,
) -> tuple[dict[str, Fitted], Training | None]:
    """Detectors fitted on training images, with settings chosen by the same outliers, and the outputs for them."""
    if training is None:
        return {}, None
    layers = last_layers(model)
    engine = make(model)
    sets = {name: Observed(part.logits, np.asarray(part.penultimate)) for name, part in strange.items()}
    examples = dataclasses.replace(
        fitting.observe(engine, manifest, layers, training), settings=fitting.settings_for(manifest), outliers=sets
    )
    linear = layers is not None and layers.is_linear
    names = fitted_names(manifest.task, linear=linear, features=has_features(manifest.scores))
    return fitting.fit(names, examples, skip=names)[0], examples


def _verified(
    model: onnx.ModelProto,
    manifest: Manifest,
    kept: Mapping[str, Fitted],
    training: ImageSet | None,
    options: GateOptions,
    make: MakeEngine,
) -> Manifest:
    """The manifest with what the detectors were fitted on, and how far the graph is from their references."""
    found = fitting.verify(make(model), training, kept, manifest)
    images = 0 if training is None else len(training)
    return fitting.with_provenance(manifest, kept, options.fit, images, 0, found)


def with_temperature(model: onnx.ModelProto, manifest: Manifest, temperature: float) -> Manifest:
    parameters = {**manifest.score_parameters, "energy": {"temperature": temperature}}
    if parameters != manifest.score_parameters:
        columns.attach(model, {"energy": Energy(temperature)}, manifest.scores, manifest.scores)
    return dataclasses.replace(manifest, score_parameters=parameters)
