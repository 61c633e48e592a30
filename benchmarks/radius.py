"""``python -m benchmarks.radius CKPT --id SOURCE --ood NAME=SOURCE ..``: how far images are from the threshold, estimated."""

from __future__ import annotations

import argparse
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt
import torch
from torch import nn

from export.arguments import check_writable, parse_ood
from export.detectors.base import base_scores
from export.exceptions import ExportError
from export.from_torch.checkpoint import from_checkpoint
from export.from_torch.classifier import TorchClassifier
from export.report.table import layout
from runtime.bundle import read_manifest
from runtime.command import run
from runtime.manifest import InputSpec, Manifest
from train.data import Images, read, short_name
from train.normalize import Normalize

# The scores that depend on the logits alone.
SCORES = ("energy", "max_logit", "msp", "joint_energy")
QUANTILES = (0.05, 0.25, 0.5, 0.75, 0.95)

Values = npt.NDArray[np.float64]

_BATCH = 64
_STEP = 1e-5  # of a logit, for central differences in float64


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.radius",
        description="For a checkpoint of python -m train, the distribution of ||grad_x S||_2, the L2 norm of a score's "
        "gradient by the image's pixels scaled to [0, 1], and of (S - threshold) / ||grad_x S||, on images of the "
        "model's classes and others. The latter is the first-order radius, the distance in the same units at which the "
        "decision would change if the score were linear: AN ESTIMATE, NOT A CERTIFICATE. Positive where accepted, "
        "negative where rejected.",
        epilog="Example: python -m benchmarks.radius runs/first/checkpoint.safetensors --id val.tar@2/2 --ood dtd=dtd.tar "
        "--bundle bundles/first",
    )
    parser.add_argument("checkpoint", metavar="CKPT", type=Path, help="of python -m train")
    parser.add_argument("--id", required=True, metavar="SOURCE", help="images of the model's classes")
    parser.add_argument("--ood", required=True, action="append", metavar="NAME=SOURCE", help="other images; repeatable")
    parser.add_argument(
        "--bundle", type=Path, metavar="BUNDLE", help="exported from it: gives the score and its stored threshold"
    )
    parser.add_argument("--score", choices=SCORES, help="default: that of the bundle's gate, else energy")
    parser.add_argument("--temperature", type=float, help="T of the energy score (default: the bundle's, else 1)")
    parser.add_argument(
        "--alpha", type=float, help="without a bundle, the threshold rejects this share of --id (default: 0.05)"
    )
    parser.add_argument("--json", type=Path, metavar="FILE", help="write the figures here too")
    return parser


@dataclass(frozen=True)
class Gating:
    """The score, its parameters, and the threshold; None where it is to come from the ID images."""

    score: str
    parameters: Mapping[str, float]
    threshold: float | None


def gradient_norms(
    classifier: nn.Module, spec: InputSpec, score: str, images: Images, parameters: Mapping[str, float] | None = None
) -> tuple[Values, Values]:
    """A score S and ||grad_x S||_2 of each image, x being its pixels scaled to [0, 1].

    Args:
        classifier: returns (logits (B, K), penultimate) of normalised images; is put into evaluation mode.
        spec: the normalisation, which the gradient goes through.
        score: one of :data:`SCORES`.
        images: uint8 [N, H, W, 3], N >= 1.
        parameters: keyword arguments of the score.

    Returns:
        float64 (N,) and (N,).
    """
    normalize = Normalize(spec)
    classifier.eval()
    scores, norms = [], []
    for start in range(0, len(images), _BATCH):
        pixels = torch.from_numpy(images[start : start + _BATCH]).float().requires_grad_()
        logits = classifier(normalize(pixels))[0].float()
        values, slopes = _with_slopes(score, logits.detach().double().numpy(), parameters or {})
        (gradient,) = torch.autograd.grad(logits, pixels, torch.from_numpy(slopes).float())
        scores.append(values)
        norms.append(255 * gradient.double().flatten(1).norm(dim=1).numpy())  # pixels are 255 times x
    return np.concatenate(scores), np.concatenate(norms)


def _with_slopes(score: str, logits: Values, parameters: Mapping[str, float]) -> tuple[Values, Values]:
    """S (N,) of logits (N, K) and dS / df (N, K), from the score's float64 reference."""
    detector = base_scores({score: parameters})[score]

    def moved(step: Values) -> Values:
        return detector.reference(logits + step, logits)

    steps = _STEP * np.eye(logits.shape[1])
    slopes = [(moved(step) - moved(-step)) / (2 * _STEP) for step in steps]
    return detector.reference(logits, logits), np.stack(slopes, axis=1)


def first_order_radius(scores: Values, threshold: float, norms: Values) -> Values:
    """(S - threshold) / ||grad_x S||: to first order, the L2 distance to a changed decision; negative where rejected.

    GReg equation 4 with the gradient norm at x in place of the Lipschitz constant around it, which for a network that
    is linear around x is the same as far as it is linear. An estimate, no certificate: the constant may be larger nearby.
    Infinite where the gradient is 0.
    """
    with np.errstate(divide="ignore", invalid="ignore"):
        radius = (scores - threshold) / norms
    return np.where(scores == threshold, 0.0, radius)


def gating(args: argparse.Namespace, classifier: TorchClassifier) -> Gating:
    """What the options and the bundle say.

    Raises:
        ExportError: a bundle of another model, a score whose threshold it does not store, or options that conflict.
    """
    if not args.bundle:
        score = args.score or "energy"
        parameters = {"temperature": args.temperature or 1.0} if score == "energy" else {}
        return Gating(score, parameters, None)
    for option in ("alpha", "temperature"):
        if getattr(args, option) is not None:
            raise ExportError(f"--{option} goes without --bundle, which has its own")
    manifest = read_manifest(args.bundle)
    if (manifest.labels, manifest.input, manifest.model.arch) != (classifier.labels, classifier.input, classifier.arch):
        raise ExportError(
            f"{args.bundle} was not exported from {args.checkpoint}: labels, input or architecture differ"
        )
    score = args.score or _gate_score(manifest, args.bundle)
    if not manifest.gate or manifest.gate.score != score:
        raise ExportError(f"{args.bundle} has no threshold for {score}: run oodgate calibrate --score {score}")
    return Gating(score, manifest.score_parameters.get(score, {}), manifest.gate.threshold)


def _gate_score(manifest: Manifest, path: Path) -> str:
    if not manifest.gate:
        raise ExportError(f"{path}: no threshold yet: run oodgate calibrate BUNDLE SOURCE")
    if manifest.gate.score not in SCORES:
        raise ExportError(f"{path}: its gate's {manifest.gate.score} has no gradient here; choose --score {[*SCORES]}")
    return manifest.gate.score


def main(argv: Sequence[str] | None = None) -> int:
    args = _parser().parse_args(argv)
    sources = parse_ood(args.ood)
    check_writable({"--json": args.json})
    alpha = 0.05 if args.alpha is None else args.alpha
    if not 0 < alpha < 1:
        raise ExportError(f"--alpha must be between 0 and 1, found {alpha}")
    if args.temperature is not None and not 0 < args.temperature < np.inf:
        raise ExportError(f"--temperature must be positive, found {args.temperature}")
    classifier = from_checkpoint(args.checkpoint)
    gate = gating(args, classifier)
    found: dict[str, tuple[Values, Values]] = {}
    for name, source in {"ID": args.id, **sources}.items():
        images = read(source, classifier.input).images
        found[name] = gradient_norms(classifier.module, classifier.input, gate.score, images, gate.parameters)
    origin = str(args.bundle) if gate.threshold is not None else f"rejects {alpha:g} of the ID images"
    threshold = float(np.quantile(found["ID"][0], alpha)) if gate.threshold is None else gate.threshold
    figures = {
        name: {"gradient_norm": norms, "first_order_radius": first_order_radius(scores, threshold, norms)}
        for name, (scores, norms) in found.items()
    }
    print(f"S = {gate.score}, threshold {threshold:.6g} ({origin}); x: pixels scaled to [0, 1]; L2 norms")
    print("First-order radius (S - threshold) / ||grad_x S||: an estimate, not a certificate.")
    print(_table(figures))
    if args.json:
        document = {
            "checkpoint": str(args.checkpoint),
            "score": gate.score,
            "parameters": dict(gate.parameters),
            "threshold": threshold,
            "threshold_from": origin,
            "units": "L2, pixels scaled to [0, 1]",
            "certified": False,
            "sets": {
                name: {"source": short_name(source), "images": len(found[name][0]), **_plain(figures[name])}
                for name, source in {"ID": args.id, **sources}.items()
            },
        }
        args.json.write_text(json.dumps(document, indent=1) + "\n")
    return 0


def _quantiles(values: Values) -> list[float]:
    return [float(value) for value in np.quantile(values, QUANTILES, method="inverted_cdf")]  # takes infinities


def _plain(figures: Mapping[str, Values]) -> dict[str, dict[str, float | None]]:
    """Quantiles by level for JSON; an infinite radius, where the gradient is 0, is None."""
    return {
        quantity: {
            f"{level:g}": value if np.isfinite(value) else None
            for level, value in zip(QUANTILES, _quantiles(values), strict=True)
        }
        for quantity, values in figures.items()
    }


def _table(figures: Mapping[str, Mapping[str, Values]]) -> str:
    rows = [["set", "quantity", *(f"{100 * level:g} %" for level in QUANTILES)]]
    titles = {"gradient_norm": "||grad_x S||", "first_order_radius": "first-order radius"}
    for name, quantities in figures.items():
        for quantity, values in quantities.items():
            rows.append([name, titles[quantity], *(f"{value:.4g}" for value in _quantiles(values))])
    return layout(rows)


if __name__ == "__main__":
    run(main)
