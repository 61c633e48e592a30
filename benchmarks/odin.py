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
from runtime.manifest import Task
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


def odin(backbone: Backbone, images: Tensor, temperature: float, epsilon: float, task: Task) -> Tensor:
    """max softmax(f(x') / T) with x' = x - epsilon sign(-grad_x log max softmax(f(x) / T)) (Liang et al. 2018, eq. 1-2).

    Where an image may have several labels, the largest sigmoid instead (Wang et al. 2021, arXiv:2109.14162): without the
    step it orders images as the largest logit does, whatever T. Their code takes the gradient of the binary cross-entropy
    of that label, on or off as it is predicted, so that an image without a predicted label is moved the other way.

    Higher is more in-distribution: the step raises the score of known images more. Two forward passes and a backward pass.

    Args:
        backbone: in evaluation mode.
        images: uint8 [N, H, W, 3].
        temperature: T, positive.
        epsilon: size of the step in units of pixels in [0, 1].
        task: of the model, with classes.

    Returns:
        float64 (N,).
    """
    x = images.float().requires_grad_()
    (gradient,) = torch.autograd.grad(_log_confidence(backbone(x)[0], temperature, task).sum(), x)
    with torch.no_grad():
        logits = backbone(x + 255 * epsilon * gradient.sign())[0].double()
        return _log_confidence(logits, temperature, task).exp()


def _log_confidence(logits: Tensor, temperature: float, task: Task) -> Tensor:
    scaled = logits / temperature
    return (F.logsigmoid(scaled) if task == "multilabel" else F.log_softmax(scaled, dim=1)).amax(dim=1)


def odin_scores(
    backbone: Backbone, images: Images, temperature: float, epsilon: float, task: Task, title: str
) -> npt.NDArray[np.float64]:
    """:func:`odin` of all images, float64 (N,)."""
    parts = tqdm(batches(images, BATCH), desc=title, unit="batch", disable=None, leave=False)
    found = [odin(backbone, torch.from_numpy(part), temperature, epsilon, task) for part in parts]
    return np.asarray(torch.cat(found).numpy())


def main(argv: Sequence[str] | None = None) -> int:
    args = _parser().parse_args(argv)
    sources = parse_ood(args.ood)
    if not (args.temperature > 0 and args.epsilon >= 0):
        raise ExportError(f"expected temperature > 0 and epsilon >= 0, found {args.temperature:g} and {args.epsilon:g}")
    classifier = from_checkpoint(args.checkpoint)
    if classifier.task == "unlabelled":
        raise ExportError(f"{args.checkpoint}: ODIN looks at class scores, and a model without labels has none")
    backbone = Backbone(classifier.module, classifier.input).eval()
    settings = args.temperature, args.epsilon, classifier.task
    known = odin_scores(backbone, read(args.id, classifier.input).images, *settings, "ID")
    by = ", by the largest sigmoid" if classifier.task == "multilabel" else ""
    print(f"ODIN{by} (T = {args.temperature:g}, epsilon = {args.epsilon:g}), torch only: not a score of the bundle")
    for name, source in sources.items():
        figures = detection(known, odin_scores(backbone, read(source, classifier.input).images, *settings, name))
        print(
            f"{name}: AUROC {100 * figures.auroc:.2f}, FPR95 (ID-positive) {100 * figures.fpr95_id_positive:.2f}, "
            f"AUPR-in {100 * figures.aupr_in:.2f}, AUPR-out {100 * figures.aupr_out:.2f}"
        )
    return 0


if __name__ == "__main__":
    run(main)
