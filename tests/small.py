"""A network, a specification and images small enough for every test."""

from __future__ import annotations

import dataclasses
import io
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from PIL import Image

from runtime import bundle
from runtime.bundle import Bundle
from runtime.manifest import InputSpec

LABELS = ("cat", "dog", "ship")
SPEC = InputSpec(16, 16, mean=(0.5, 0.4, 0.3), std=(0.2, 0.25, 0.3))
ALPHA = 0.1


def network(labels: tuple[str, ...] = LABELS, seed: int = 0) -> Any:
    """Convolution, ReLU, pooling, linear; 8 penultimate features; returns logits; the same weights for a seed."""
    import torch
    from torch import nn

    torch.manual_seed(seed)
    return nn.Sequential(
        nn.Conv2d(3, 8, 3, padding=1), nn.ReLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(8, len(labels))
    ).eval()


def classifier(labels: tuple[str, ...] = LABELS, spec: InputSpec = SPEC, seed: int = 0) -> Any:
    """The network as `export` takes it."""
    from export.from_torch.classifier import TorchClassifier

    return TorchClassifier("small", "none", "multiclass", labels, spec, network(labels, seed))


def extractor(spec: InputSpec = SPEC) -> Any:
    """The same network without its last layer, as a model of features without classes."""
    from export.from_torch.classifier import of_module
    from train.descriptions.description import Description

    description = dataclasses.replace(Description.of_input(spec), task="unlabelled")
    return of_module(network()[:-1], "small", description)


def write_bundle(path: Path, classifier: Any, count: int = 99, score: str = "energy") -> Bundle:
    """A bundle of a classifier, calibrated on `count` images and called by its directory's name."""
    from export.calibrate.calibration import calibrate
    from export.classifier import assemble
    from export.graph.head import seal
    from export.images.inference import collect
    from export.report.card import documents
    from runtime.engines.ort.cpu import OnnxRuntimeCpu

    model, manifest = assemble(classifier, path.name, {"energy": {"temperature": 1.0}})
    places = np.arange(classifier.input.height) * SPEC.height // classifier.input.height
    images = calibration_images(count)[:, places][:, :, places]
    scores = collect(OnnxRuntimeCpu(model.SerializeToString(), threads=1), images).scores
    manifest = calibrate(manifest, scores, score, ALPHA)
    return bundle.write(path, manifest, {bundle.MODEL: seal(model, manifest)}, documents(manifest))


def write_golden(path: Path, small: Bundle) -> Bundle:
    """A copy of a bundle with pipeline.onnx and golden images."""
    from export import making
    from export.rewriting import renew

    shutil.copytree(small.path, path)
    made = making.made_of(small.model, small.manifest, resize=True, threads=1)
    return renew(Bundle.load(path), {name: data for name, data in made.items() if name != bundle.MODEL})


def reseal(path: Path, name: str, data: bytes) -> Bundle:
    """Give a bundle other bytes of one of its files, with their hash in the manifest."""
    manifest = bundle.read_manifest(path)
    (path / name).write_bytes(data)
    files = {**manifest.files, name: bundle.entry(data)}
    (path / bundle.MANIFEST).write_text(dataclasses.replace(manifest, files=files).to_json())
    return Bundle.load(path)


def write_labelled(path: Path, bundle: Bundle, count: int = 1200, seed: int = 3) -> str:
    """Images, an .npz, that a bundle classifies right where it is confident, and wrong in half of the other cases."""
    from runtime.engines.ort.cpu import OnnxRuntimeCpu

    images = calibration_images(count, seed)
    logits = OnnxRuntimeCpu(bundle.model, threads=1).run(images).logits.astype(np.float64)
    predicted = logits.argmax(axis=1)
    msp = 1 / np.exp(logits - logits.max(axis=1, keepdims=True)).sum(axis=1)
    wrong = (msp < np.quantile(msp, 0.4)) & (np.arange(count) % 2 == 0)
    labels = np.where(wrong, (predicted + 1) % len(LABELS), predicted)
    np.savez(path, images=images, labels=np.array(LABELS)[labels])
    return str(path)


def write_selective_bundle(path: Path, small: Bundle) -> Bundle:
    """The small bundle with a bound on the error of accepted images, and with label sets."""
    import onnx

    from export.calibrate.gating import fit_gate
    from export.calibrate.options import GateOptions
    from export.graph.head import seal
    from export.report.card import documents

    source = write_labelled(path.with_suffix(".npz"), small)
    model = onnx.load_from_string(small.model)
    options = GateOptions("energy", ALPHA, max_error=0.05, prediction_sets=(0.8, 0.95))
    manifest = fit_gate(model, small.manifest, source, options, threads=1).manifest
    return bundle.write(path, manifest, {bundle.MODEL: seal(model, manifest)}, documents(manifest))


def calibration_images(count: int = 99, seed: int = 1) -> npt.NDArray[np.uint8]:
    """Smooth random images, uint8 [count, 16, 16, 3]."""
    rng = np.random.default_rng(seed)
    coarse = rng.integers(0, 256, (count, 4, 4, 3), dtype=np.uint8)
    return coarse.repeat(4, axis=1).repeat(4, axis=2)


def encode(image: npt.NDArray[np.uint8], format: str = "PNG", **options: Any) -> bytes:
    """A uint8 array as the bytes of an image file."""
    buffer = io.BytesIO()
    Image.fromarray(image).save(buffer, format, **options)
    return buffer.getvalue()
