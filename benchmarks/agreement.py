"""Are the detectors those of others? Every one that pytorch-ood has, on the same features.

    python -m venv ENV; ENV/bin/pip install --no-deps pytorch-ood==0.4.0
    ENV/bin/python -m benchmarks.agreement, with this project's own packages on its path

Features are random ones and those of a small network on scikit-learn's digits, as the tests have them. Differences are
relative to a score or, where it is small because two terms cancel, to the median of its magnitude. torchvision, which
pytorch-ood imports for its data sets, is not needed. Writes docs/measured/agreement.md.
"""

from __future__ import annotations

import copy
import importlib.abc
import importlib.machinery
import sys
import types
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from benchmarks.paths import MEASURED
from export.detectors import DETECTORS
from export.detectors.base import BASE
from export.detectors.distances.knn import Knn, KnnSettings
from export.detectors.distances.nnguide import Nnguide, NnguideSettings
from export.detectors.interface import Training
from export.detectors.shaping.ash import AshB, AshS, Scale, ShapingSettings
from export.detectors.shaping.react import React, ReactSettings
from export.detectors.weights.nci import Nci, NciSettings
from export.detectors.weights.vim import Vim, VimSettings
from export.report.table import layout
from tests.export.detectors.graphs import Example, digits, random, relative_difference, run

NEIGHBOURS, PERCENTILE, CLIP, ALPHA, DIMS = 10, 65, 90, 0.01, 16
SETTINGS = {
    Nci: NciSettings(ALPHA),
    Nnguide: NnguideSettings(NEIGHBOURS),
    Knn: KnnSettings(NEIGHBOURS),
    React: ReactSettings(CLIP),
    Vim: VimSettings(DIMS),
    **dict.fromkeys((AshB, AshS, Scale), ShapingSettings(PERCENTILE)),
}


class _Absent(importlib.abc.MetaPathFinder, importlib.abc.Loader):
    """Finds torchvision where there is none: modules whose every name is a class that does nothing."""

    def find_spec(self, name: str, *_: Any) -> importlib.machinery.ModuleSpec | None:
        mine = name.partition(".")[0] == "torchvision"
        return importlib.machinery.ModuleSpec(name, self, is_package=True) if mine else None

    def create_module(self, spec: importlib.machinery.ModuleSpec) -> types.ModuleType:
        module = types.ModuleType(spec.name)
        module.__path__ = []
        module.__getattr__ = _nothing  # type: ignore[method-assign]
        return module

    def exec_module(self, module: types.ModuleType) -> None:
        """Nothing is in it."""


def _nothing(name: str) -> type:
    if name.startswith("__"):
        raise AttributeError(name)
    return type(name, (), {})


@dataclass(frozen=True)
class Given:
    """What both libraries get, in float64.

    Attributes:
        training: what ours are fitted on.
        fitted_on, labels, logits_fitted_on: the same as tensors (n, D), (n,) and (n, K).
        scored, logits: what is scored, (N, D) and (N, K).
        last: the last layer.
    """

    training: Training
    fitted_on: Tensor
    labels: Tensor
    logits_fitted_on: Tensor
    scored: Tensor
    logits: Tensor
    last: torch.nn.Linear

    @classmethod
    def of(cls, example: Example) -> Given:
        training = example.training(settings=SETTINGS)
        outputs = run(example.model, example.scored)
        weights, bias = training.layers.linear()
        last = torch.nn.Linear(*reversed(weights.shape), dtype=torch.float64)
        last.weight.data, last.bias.data = torch.tensor(weights), torch.tensor(bias)
        wide = (torch.tensor(x, dtype=torch.float64) for x in (training.penultimate, training.logits))
        fitted_on, logits_fitted_on = wide
        scored, logits = (torch.tensor(outputs[name], dtype=torch.float64) for name in ("penultimate", "logits"))
        return cls(training, fitted_on, torch.tensor(training.labels), logits_fitted_on, scored, logits, last)

    def ours(self, name: str) -> npt.NDArray[np.float64]:
        """By our reference."""
        kind = DETECTORS.get(name)
        detector = self.training.fit(kind) if kind else BASE[name]()
        return detector.reference(self.logits.numpy(), self.scored.numpy())

    def single(self) -> torch.nn.Linear:
        """The last layer in float32, for those that compute in it."""
        return copy.deepcopy(self.last).float()


def others(x: Given) -> Iterator[tuple[str, str, Callable[[], Tensor]]]:
    """The detectors that pytorch-ood has: our name, what its score is multiplied by to be ours, and this product."""
    import pytorch_ood.detector as theirs
    from pytorch_ood.detector.ash import ash_b, ash_s
    from pytorch_ood.detector.scale import scale

    n, classes = len(x.fitted_on), x.logits.shape[1]

    def fitted(detector: Any, features: Tensor, scored: Tensor, factor: float = 1) -> Tensor:
        return -factor * detector.fit_features(features, x.labels).predict_features(scored)

    def shaped(shape: Callable[[Tensor, float], Tensor]) -> Tensor:
        maps = x.scored[:, :, None, None].clone()
        return torch.logsumexp(x.last(shape(maps, PERCENTILE / 100).flatten(1)), 1)

    def fdbd() -> Tensor:
        detector = theirs.fDBD(None, x.last).fit_features(x.fitted_on, x.labels)
        detector.head = x.single()
        return -detector.predict_features(x.scored)

    def react() -> Tensor:
        detector = theirs.ReAct(torch.nn.Identity(), x.last, percentile=CLIP / 100)
        return -detector.fit_feature_maps(x.fitted_on, x.labels).predict_feature_maps(x.scored)

    single, wide = x.fitted_on.float(), x.scored.float()
    unit = torch.nn.functional.normalize
    vim = theirs.ViM(None, DIMS, x.last.weight, x.last.bias)
    yield "msp", "", lambda: -theirs.MaxSoftmax(None).predict_logits(x.logits)
    yield "max_logit", "", lambda: -theirs.MaxLogit(None).predict_logits(x.logits)
    yield "energy", "", lambda: -theirs.EnergyBased(None).predict_logits(x.logits)
    yield "gen", "K", lambda: -classes * theirs.GEN.score(x.logits, gamma=0.1, M=min(100, classes))
    yield "klm", "", lambda: -theirs.KLMatching(None).fit_logits(x.logits_fitted_on, None).predict_logits(x.logits)
    yield "nci", "", lambda: fitted(theirs.NCI(None, x.single(), alpha=ALPHA), single, wide)
    yield "fdbd", "", fdbd
    yield "react", "", react
    yield "ash-b", "", lambda: shaped(ash_b)
    yield "ash-s", "", lambda: shaped(ash_s)
    yield "scale", "", lambda: shaped(scale)
    yield "she", "", lambda: fitted(theirs.SHE(None, x.last), x.fitted_on, x.scored)
    yield "mahalanobis", "2 n", lambda: fitted(theirs.Mahalanobis(None), x.fitted_on, x.scored, 2 * n)
    yield "mahalanobis++", "2 n", lambda: fitted(theirs.Mahalanobis(None), unit(x.fitted_on), unit(x.scored), 2 * n)
    yield "rmds", "n", lambda: fitted(theirs.RMD(None), x.fitted_on, x.scored, n)
    yield "rmds++", "n", lambda: fitted(theirs.RMD(None), unit(x.fitted_on), unit(x.scored), n)
    yield "vim", "", lambda: fitted(vim, single, wide)
    yield "knn", "", lambda: fitted(theirs.KNN(None, k=NEIGHBOURS), x.fitted_on, x.scored)
    yield "nnguide", "", lambda: fitted(theirs.NNGuide(None, x.single(), k=NEIGHBOURS), single, wide)


def differences(example: Example) -> dict[str, tuple[str, float]]:
    """By our name what its score is multiplied by, and the largest relative difference."""
    given = Given.of(example)
    with torch.no_grad():
        return {
            name: (factor, relative_difference(score().double().numpy(), given.ours(name)))
            for name, factor, score in others(given)
        }


def report(found: dict[str, dict[str, tuple[str, float]]]) -> str:
    """The page, of differences by features and detector."""
    first, *_ = found.values()
    rows = [["detector", "ours is its score times", *found]]
    for name, (factor, _) in first.items():
        rows.append([f"`{name}`", factor or "1", *(f"{of[name][1]:.0e}" for of in found.values())])
    rest = ", ".join(f"`{name}`" for name in (*BASE, *DETECTORS) if name not in first)
    parts = [
        "# Are the detectors those of others?",
        "By `python -m benchmarks.agreement`.",
        "Against pytorch-ood 0.4.0: the largest relative difference of a score between its value and our float64 reference. "
        "Its scores' signs are turned, and some are multiplied by a constant, which orders images alike: n is the number of "
        "training images, K of classes. Features are random ones and those of a small network on scikit-learn's digits.",
        layout(rows, True),
        "Differences above 1e-12 are its float32 (`nci`, `fdbd`, `vim`, `nnguide`), its ridge of 1e-6 on covariances, which "
        "we have not and which is much beside those of unit features (`mahalanobis`, `rmds`), its percentile between two "
        "activations, where ours is the higher of them (`react`), and our float32 of a bank (`knn`).",
        f"Of {rest} it has none, or another form. These, and all of the table too, are derived a second time in "
        "tests/export/detectors, where graphs are held to the references by 1e-4, for K up to 1,000 and D up to 2,048.",
    ]
    return "\n\n".join(parts) + "\n"


def main() -> None:
    sys.meta_path.append(_Absent())
    torch.set_num_threads(1)
    torch.set_default_dtype(torch.float64)
    page = report({"random": differences(random(features=64, count=3000)), "digits": differences(digits())})
    (MEASURED / "agreement.md").write_text(page)
    print(page)


if __name__ == "__main__":
    main()
