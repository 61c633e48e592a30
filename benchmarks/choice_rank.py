"""Do synthetic outliers rank scores as real ones do? And what does ``--score auto`` win by them?

    python -m benchmarks.choice_rank DATA BUNDLE ..

For each bundle: detectors are fitted on --train (DATA/cifar10-train.tar), synthetic outliers made of a quarter of one half
of --val (DATA/cifar10-val.tar), all candidates of ``--score auto`` compared by them, and the same candidates by the
other half against each DATA/ood-*.tar. Printed: Spearman's rho between the mean AUROCs of the two, each kind's own rho, and
the average FPR95 of the choice, of the energy and of the best score, which is known only afterwards. The real outliers
choose nothing.
"""

from __future__ import annotations

import argparse
import dataclasses
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt
import onnx
from scipy.stats import spearmanr

from export.calibrate import selecting
from export.calibrate.gating import split, without_gate
from export.detectors import fitting
from export.detectors.choosing import auroc
from export.detectors.interface import Observed, negative_share
from export.inference import collect
from export.last_layers import LastLayers
from export.metrics.detection import fpr_at_tpr
from export.outliers import synthetic
from export.report.table import layout
from runtime.bundle import Bundle
from runtime.command import run
from runtime.engines.interface import Outputs
from runtime.engines.ort.cpu import OnnxRuntimeCpu
from runtime.exceptions import OodgateError
from train.data import SelectedImages, load


@dataclass(frozen=True)
class Ranking:
    """The candidates on one network: AUROC against each synthetic kind, AUROC and FPR95 against each real set."""

    names: tuple[str, ...]
    synthetic: dict[str, npt.NDArray[np.float64]]
    real: dict[str, npt.NDArray[np.float64]]
    fpr95: dict[str, npt.NDArray[np.float64]]

    @property
    def rho(self) -> float:
        return _rho(_mean(self.synthetic), _mean(self.real))

    @property
    def chosen(self) -> int:
        return int(_mean(self.synthetic).argmax())


def ranking(path: Path, data: Path, train: str, validation: str, threads: int) -> Ranking:
    """All candidates on one bundle."""
    bundle = Bundle.load(path)
    model = onnx.load_from_string(bundle.model)
    manifest = without_gate(model, bundle.manifest)
    engine, layers = OnnxRuntimeCpu(model.SerializeToString(), threads), LastLayers(model)

    def of(images: npt.NDArray[np.uint8] | SelectedImages, title: str) -> Outputs:
        return collect(engine, images, penultimate=True, title=title)

    first = load(str(data / f"{validation}@1/2"), manifest.input).images
    held, _ = split(len(first))
    kinds = {name: of(images, name) for name, images in synthetic(SelectedImages(first, held)[:]).items()}
    sources = {file.stem.removeprefix("ood-"): str(file) for file in sorted(data.glob("ood-*.tar"))}
    real = {name: of(load(source, manifest.input).images, name) for name, source in sources.items()}
    chosen_by, known = (
        of(SelectedImages(first, held), "choose"),
        of(load(str(data / f"{validation}@2/2"), manifest.input).images, "known"),
    )
    names = selecting.fitted_names(manifest.task, linear=layers.is_linear)
    images = fitting.training_images(names, manifest, str(data / train))
    examples = dataclasses.replace(
        fitting.observe(engine, manifest, layers, images),
        settings=fitting.settings_for(manifest),
        outliers={name: Observed(part.logits, np.asarray(part.penultimate)) for name, part in kinds.items()},
    )
    detectors, _ = fitting.fit(names, examples, skip=True)
    columns = (*manifest.scores, *(name for name in detectors if name not in manifest.scores))
    wanted = selecting.candidates(columns, negative_share(np.asarray(chosen_by.penultimate)))
    sets = {"known": known, **{f"real {name}": part for name, part in real.items()}, **kinds}
    sets = {name: selecting.with_columns(part, manifest.scores, detectors) for name, part in sets.items()}
    own, found = selecting.compared(
        wanted, columns, selecting.with_columns(chosen_by, manifest.scores, detectors), sets
    )
    return Ranking(
        tuple(one.name for one in wanted),
        {name: _each(own, found[name], auroc) for name in kinds},
        {name: _each(found["known"], found[f"real {name}"], auroc) for name in real},
        {name: _each(found["known"], found[f"real {name}"], fpr_at_tpr) for name in real},
    )


def _each(known: Outputs, outliers: Outputs, figure: object) -> npt.NDArray[np.float64]:
    pairs = zip(known.scores.T, outliers.scores.T, strict=True)
    return np.array([figure(a, b) for a, b in pairs])  # type: ignore[operator]


def _mean(table: Mapping[str, npt.NDArray[np.float64]]) -> npt.NDArray[np.float64]:
    return np.asarray(np.mean(list(table.values()), axis=0))


def _rho(a: npt.NDArray[np.float64], b: npt.NDArray[np.float64]) -> float:
    return float(spearmanr(a, b).statistic)


def report(rankings: Mapping[str, Ranking]) -> str:
    """Two tables: each network, and each kind on it."""
    rows = [["network", "rho", "auto's choice", "its FPR95", "energy's", "the best's", "the best"]]
    kinds: list[list[str]] = []
    for name, found in rankings.items():
        fpr95 = _mean(found.fpr95)
        best = int(fpr95.argmin())
        figures = (fpr95[i] for i in (found.chosen, found.names.index("energy"), best))
        cells = (f"{100 * value:.1f}" for value in figures)
        rows.append([name, f"{found.rho:.2f}", found.names[found.chosen], *cells, found.names[best]])
        kinds = kinds or [["rho of each kind", *found.synthetic]]
        real = _mean(found.real)
        kinds.append([name, *(f"{_rho(values, real):.2f}" for values in found.synthetic.values())])
    return "\n\n".join((layout(rows, True), layout(kinds, True)))


def main(argv: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("data", type=Path, metavar="DATA")
    parser.add_argument("bundles", type=Path, nargs="+", metavar="BUNDLE")
    parser.add_argument("--train", default="cifar10-train.tar", help="in DATA; default: %(default)s")
    parser.add_argument("--val", default="cifar10-val.tar", help="in DATA; default: %(default)s")
    parser.add_argument("--threads", type=int, default=0)
    args = parser.parse_args(argv)
    if not list(args.data.glob("ood-*.tar")):
        raise OodgateError(f"{args.data}: no ood-*.tar in it")
    print(report({path.name: ranking(path, args.data, args.train, args.val, args.threads) for path in args.bundles}))
    return 0


if __name__ == "__main__":
    run(main)
