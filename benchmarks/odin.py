"""``python -m benchmarks.odin CHECKPOINT --id SOURCE --ood NAME=SOURCE ..``: ODIN, which no bundle can have."""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor
from torch.nn import functional as F
from tqdm import tqdm

from export.arguments import parse_ood
from export.exceptions import ExportError
from export.from_torch.checkpoint import from_checkpoint
from export.from_torch.network.backbone import Backbone
from export.images.inference import BATCH
from export.metrics.detection import detection
from runtime.command import run
from train.data import Images, batches, read


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.odin",
        description="Evaluate ODIN on a torch checkpoint, for comparison with the scores of its bundle. ODIN perturbs the "
        "image along the gradient of its own score, so it exists here only: a bundle's graph has no gradients, and a "
        "second forward pass would double its cost. Its two hyperparameters are not tuned: no OOD images are for that.",
        epilog="Example: python -m benchmarks.odin runs/first/checkpoint.safetensors --id val.tar@2/2 --ood textures=dtd/",
    )
    parser.add_argument("checkpoint", metavar="CHECKPOINT", type=Path, help="of python -m train")
    parser.add_argument("--id", required=True, metavar="SOURCE", help="images of the model's classes")
    parser.add_argument("--ood", required=True, action="append", metavar="NAME=SOURCE", help="other images; repeatable")
    parser.add_argument("--temperature", type=float, default=1000.0, help="default: %(default)g, the paper's")
    parser.add_argument(
        "--epsilon",
        type=float,
        default=0.0014,
        help="of pixels in [0, 1] (default: %(default)g, the paper's for CIFAR-10)",
    )
    return parser


def odin(backbone: Backbone, images: Tensor, temperature: float, epsilon: float) -> Tensor:
    """max softmax(f(x') / T) with x' = x - epsilon sign(-grad_x log max softmax(f(x) / T)) (Liang et al. 2018, eq. 1-2).

    Higher is more in-distribution: the step raises the score of known images more. Two forward passes and a backward pass.

    Args:
        backbone: in evaluation mode.
        images: uint8 [N, H, W, 3].
        temperature: T, positive.
        epsilon: size of the step in units of pixels in [0, 1].

    Returns:
        float64 (N,).
    """
    x = images.float().requires_grad_()
    log_confidence = F.log_softmax(backbone(x)[0] / temperature, dim=1).amax(dim=1)
    (gradient,) = torch.autograd.grad(log_confidence.sum(), x)
    with torch.no_grad():
        logits = backbone(x + 255 * epsilon * gradient.sign())[0].double()
        return F.softmax(logits / temperature, dim=1).amax(dim=1)


def _scores(
    backbone: Backbone, images: Images, temperature: float, epsilon: float, title: str
) -> npt.NDArray[np.float64]:
    parts = tqdm(batches(images, BATCH), desc=title, unit="batch", disable=None, leave=False)
    found = [odin(backbone, torch.from_numpy(part), temperature, epsilon) for part in parts]
    return np.asarray(torch.cat(found).numpy())


def main(argv: Sequence[str] | None = None) -> int:
    args = _parser().parse_args(argv)
    sources = parse_ood(args.ood)
    if not (args.temperature > 0 and args.epsilon >= 0):
        raise ExportError(f"expected temperature > 0 and epsilon >= 0, found {args.temperature:g} and {args.epsilon:g}")
    classifier = from_checkpoint(args.checkpoint)
    backbone = Backbone(classifier.module, classifier.input).eval()
    settings = args.temperature, args.epsilon
    known = _scores(backbone, read(args.id, classifier.input).images, *settings, "ID")
    print(f"ODIN (T = {args.temperature:g}, epsilon = {args.epsilon:g}), torch only: not a score of the bundle")
    for name, source in sources.items():
        figures = detection(known, _scores(backbone, read(source, classifier.input).images, *settings, name))
        print(
            f"{name}: AUROC {100 * figures.auroc:.2f}, FPR95 (ID-positive) {100 * figures.fpr95_id_positive:.2f}, "
            f"AUPR-in {100 * figures.aupr_in:.2f}, AUPR-out {100 * figures.aupr_out:.2f}"
        )
    return 0


if __name__ == "__main__":
    run(main)
