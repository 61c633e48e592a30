"""The commands as functions, for a program that has the model in memory: what ``oodgate.export`` and its like are.

They do what ``oodgate export``, ``calibrate`` and ``evaluate`` do, print the same, and raise the same errors.
"""

from __future__ import annotations

import io
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, redirect_stdout
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from PIL import Image

from export import exporting, origin
from export.calibrate.arguments import coverages, max_error, temperature
from export.calibrate.options import DEFAULT, GateOptions
from export.calibrate.recalibration import recalibrate
from export.checks.agreement import check_agreement
from export.classifier import Classifier
from export.evaluate.bundles import evaluate_sources
from export.exceptions import ExportError, as_export_errors
from export.metrics.evaluation import Evaluation
from export.report.evaluation import summary, tables
from runtime.bundle import Bundle, write_documents
from runtime.gate import load_calibrated
from runtime.manifest import InputSpec, Precision, Task
from train.data import ImageSet, Reading, as_source
from train.data.labels.class_names import of_value
from train.descriptions import transformers as processors
from train.descriptions.description import Description
from train.descriptions.transforms import of_transform

_DEFAULT = Reading()


def export(
    model: Any,
    *,
    out: str | Path,
    labels: Sequence[str] | Mapping[Any, Any] | str | Path | None = None,
    input: InputSpec | None = None,
    transform: Any = None,
    processor: Any = None,
    task: Task | None = None,
    calibration: Any = None,
    name: str | None = None,
    precision: Precision = "fp32",
    with_resize: bool = True,
    trust: bool = False,
    reading: Reading = _DEFAULT,
    verbose: bool = True,
    **gate: Any,
) -> Bundle:
    """Write a classifier as a bundle: one ONNX file with preprocessing, scores and decision inside, verified.

    Args:
        model: a torch module (plain, of timm, torchvision or transformers, Lightning's, TorchScript's), which is not changed;
            an ``onnx.ModelProto``; or a path, as ``--checkpoint`` takes it.
        out: the directory to write.
        labels: class names in the order of the logits, numbered ones such as ``id2label`` or ``class_to_idx``, or a file of
            either; a model of transformers has its own.
        input: how an image becomes the model's input. Or one of the next two, which is read, run on a few drawn images, and
            refused where the bundle would see other pixels.
        transform: that of the evaluation: torchvision's Compose, v1 or v2, a preset of weights, or timm's create_transform.
        processor: an image processor of transformers.
        task: ``multilabel`` where an image has any number of labels, ``unlabelled`` for a model of features, without classes;
            by default what the model says, else ``multiclass``.
        calibration: in-distribution images that were not trained on: a source as the command takes it, or paths, arrays, PIL
            images, a Dataset or a DataLoader, with labels or without. None leaves the bundle uncalibrated.
        name: what decisions call the model; by default the directory's name.
        precision: ``fp16`` or ``int8`` for a smaller file, ``bf16`` for a CPU that has instructions for it.
        with_resize: whether to write ``pipeline.onnx`` too, which takes images of any size.
        trust: whether code that is in a checkpoint may run.
        reading: how sources are to be read.
        verbose: whether to print what the command prints.
        gate: ``score``, ``alpha``, ``max_error``, ``prediction_sets`` and the other fields of
            :class:`export.calibrate.options.GateOptions`.

    Raises:
        OodgateError: the model, what is known of it, the images or the options don't give a bundle; the message says why.
    """
    source = _source(calibration)
    options = GateOptions(**{"score": DEFAULT, **_gate(gate)}, reading=reading)
    exporting.check_options(options, source)
    with _printing(verbose):
        described, run = _description(input, transform, processor)
        given = replace(described, labels=of_value("labels", labels) if labels is not None else None, task=task)
        classifier = _classifier(model, given, trust)
        if run is not None:
            what = "transform" if processor is None else "processor"
            worst = check_agreement(run, classifier.input, what)
            print(
                f"note: {what}: run on drawn images, it and the bundle differ by {worst:.2g} of 255 grey levels at most"
            )
        exporting.export(
            classifier,
            Path(out),
            options,
            calibration=source,
            name=name,
            precision=precision,
            resize=with_resize,
        )
    return Bundle.load(out)


def calibrate(
    bundle: Bundle | str | Path,
    images: Any = None,
    *,
    reading: Reading = _DEFAULT,
    allow_leakage: bool = False,
    verbose: bool = True,
    **gate: Any,
) -> Bundle:
    """Fit a bundle's gate again on other images, or without any move it to a stored operating point.

    Args:
        bundle: which is re-written.
        images: in-distribution ones that were not trained on, as :func:`export` takes them.
        reading: how sources are to be read.
        allow_leakage: whether images that the model learned from are taken.
        verbose: whether to print what the command prints.
        gate: ``alpha`` and the other options of :func:`export`; those that are not given stay as they were.

    Returns:
        the bundle as it is now.

    Raises:
        OodgateError: the bundle, the images or the options don't give a gate.
    """
    path = _path(bundle)
    with _printing(verbose):
        recalibrate(path, _source(images), _gate(gate), reading=reading, allow_leakage=allow_leakage)
    return Bundle.load(path)


def evaluate(
    bundle: Bundle | str | Path,
    id_images: Any,
    ood: Mapping[str, Any] | None = None,
    *,
    shifted: Mapping[str, Any] | None = None,
    reading: Reading = _DEFAULT,
    allow_leakage: bool = False,
    card: bool = False,
    verbose: bool = True,
) -> Evaluation:
    """How well a bundle accepts, classifies and detects.

    Args:
        bundle: as it is deployed.
        id_images: of its classes, neither trained nor calibrated on, as :func:`export` takes them; labels tell accuracy.
        ood: other images, by name; without any only what happens to the known ones is told.
        shifted: images of its classes that look otherwise, by name.
        reading: how sources are to be read.
        allow_leakage: whether images that the bundle was made with are taken.
        card: whether figures and plots are written into the bundle's card.
        verbose: whether to print what the command prints.

    Raises:
        OodgateError: the bundle or the images can't be evaluated, or the bundle was made with them.
    """
    path = _path(bundle)
    with _printing(verbose):
        one = load_calibrated(path)

        def images(given: Any) -> str | ImageSet:
            return as_source(_source(given), one.manifest.input, reading=reading)

        (evaluated,) = evaluate_sources(
            [one],
            images(id_images),
            {name: images(given) for name, given in (ood or {}).items()},
            shifted={name: images(given) for name, given in (shifted or {}).items()},
            allow_leakage=allow_leakage,
            reading=reading,
        )
        print(summary(evaluated.figures), tables(evaluated.figures), sep="\n")
    if card:
        write_documents(path, evaluated.documents())
    return evaluated.figures


def _classifier(model: Any, given: Description, trust: bool) -> Classifier:
    if isinstance(model, str | Path):
        return origin.read(origin.Place(Path(model), trust=trust), given)
    return origin.in_memory(model, given)


_Run = Callable[[Image.Image], npt.NDArray[Any]]


@as_export_errors()
def _description(input: InputSpec | None, transform: Any, processor: Any) -> tuple[Description, _Run | None]:
    """What is said of the input, and what to compare it with, if anything."""
    if sum(given is not None for given in (input, transform, processor)) > 1:
        raise ExportError("input, transform and processor say the same thing: give one of them")
    if transform is not None:
        return of_transform(transform), lambda image: np.asarray(transform(image))
    if processor is not None:
        own = getattr(processor, "image_processor", processor)
        return _of_processor(own), lambda image: np.asarray(own(images=image, return_tensors="np")["pixel_values"][0])
    return (Description() if input is None else Description.of_input(input)), None


def _of_processor(processor: Any) -> Description:
    if not hasattr(processor, "to_dict"):
        raise ExportError(f"processor: expected an image processor of transformers, found {type(processor).__name__}")
    settings = {"image_processor_type": type(processor).__name__, **processor.to_dict()}
    return processors.of_processor(settings, "pillow" if getattr(processor, "backend", "") == "pil" else "torch")


def _source(images: Any) -> Any:
    """A path as the command's SOURCE; anything else as it is."""
    return str(images) if isinstance(images, Path) else images


def _path(bundle: Bundle | str | Path) -> Path:
    return bundle.path if isinstance(bundle, Bundle) else Path(bundle)


def _gate(given: Mapping[str, Any]) -> dict[str, Any]:
    """Options of the gate, checked as the command's are."""
    if unknown := sorted(given.keys() - GateOptions.__dataclass_fields__.keys() | given.keys() & {"reading"}):
        known = ", ".join(name for name in GateOptions.__dataclass_fields__ if name != "reading")
        raise TypeError(f"{unknown[0]} is none of the gate's options: {known}")
    checked = dict(given)
    for name, parse in (("temperature", temperature), ("max_error", max_error)):
        if checked.get(name) is not None:
            checked[name] = parse(str(checked[name]))
    if sets := checked.get("prediction_sets"):
        checked["prediction_sets"] = coverages(
            ",".join(map(str, [sets] if isinstance(sets, str | float | int) else sets))
        )
    if aux := checked.get("aux"):
        checked["aux"] = tuple(map(str, [aux] if isinstance(aux, str | Path) else aux))
    if fit := checked.get("fit"):
        checked["fit"] = str(fit)
    return checked


@contextmanager
def _printing(verbose: bool) -> Iterator[None]:
    """What is printed is seen, or not."""
    if verbose:
        yield
    else:
        with redirect_stdout(io.StringIO()):
            yield
