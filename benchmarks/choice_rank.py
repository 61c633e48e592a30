"""Do synthetic outliers rank scores as real ones do? And what does ``--score auto`` win by them?

    python -m benchmarks.choice_rank DATA BUNDLE .. [--designed BUNDLE] [--cache FOLDER]

For each bundle: the energy's temperature and, among detectors fitted on --train (DATA/cifar10-train.tar), the score are
chosen as ``--score auto --fit`` chooses them, by synthetic outliers made of a quarter of one half of --val
(DATA/cifar10-val.tar); then all candidates are compared by the other half against each DATA/ood-*.tar. Written to
docs/measured/choice_rank.md: Spearman's rho between the mean AUROCs of the two and each kind's own, and the average
AUROC and FPR95 of the choice, of the energy at temperature 1 and of the best score, which is known only afterwards. The real
outliers choose nothing. The page is written anew after each network, and what the networks put out is kept in --cache,
where an interrupted run goes on.
"""

from __future__ import annotations

import argparse
import dataclasses
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt
from scipy.stats import spearmanr

from benchmarks.observed import OutputsOf, Sets, network, observed
from benchmarks.paths import MEASURED
from export.calibrate import choice, selecting
from export.detectors import fitting
from export.detectors.choosing import auroc
from export.detectors.interface import Observed, Training, negative_share
from export.graph.last_layers import LastLayers
from export.metrics.detection import fpr_at_tpr
from export.report.table import layout
from runtime.command import run
from runtime.engines.interface import Outputs
from runtime.exceptions import OodgateError
from runtime.manifest import Manifest
from train.data import short_name

Figures = npt.NDArray[np.float64]  # (C,), one of each candidate
Figure = Callable[[npt.NDArray[np.floating], npt.NDArray[np.floating]], float]


@dataclass(frozen=True)
class Ranking:
    """The candidates on one network: AUROC against each synthetic kind, AUROC and FPR95 against each real set.

    Attributes:
        energy: mean AUROC and FPR95 over the real sets of the energy at temperature 1.
        network: its architecture and D.
    """

    candidates: tuple[selecting.Candidate, ...]
    synthetic: dict[str, Figures]
    real: dict[str, Figures]
    fpr95: dict[str, Figures]
    energy: tuple[float, float]
    network: str

    @property
    def rho(self) -> float:
        return _rho(_mean(self.synthetic), _mean(self.real))

    def figures(self, index: int) -> tuple[float, float]:
        """Mean AUROC and FPR95 of a candidate over the real sets."""
        return float(_mean(self.real)[index]), float(_mean(self.fpr95)[index])

    @property
    def chosen(self) -> int:
        return int(_mean(self.synthetic).argmax())

    @property
    def singles(self) -> list[int]:
        """The candidates that merge nothing."""
        return [index for index, one in enumerate(self.candidates) if one.merge is None]

    def best(self, among: Sequence[int]) -> int:
        """Of some candidates the one of the least mean FPR95."""
        return min(among, key=lambda index: self.figures(index)[1])


def with_energy(sets: Sets, manifest: Manifest, temperature: float) -> tuple[Sets, Manifest]:
    """The energy at another temperature."""
    column = manifest.scores.index("energy")
    parameters = {**manifest.score_parameters, "energy": {"temperature": temperature}}
    changed = sets.each(lambda part: choice.with_energy(part, column, temperature))
    return changed, dataclasses.replace(manifest, score_parameters=parameters)


def with_detectors(
    of: OutputsOf, sets: Sets, manifest: Manifest, layers: LastLayers, source: str
) -> tuple[Sets, tuple[str, ...]]:
    """With the detectors that auto fits as further columns, and the columns' names."""
    names = selecting.fitted_names(manifest.task, linear=layers.is_linear)
    images = fitting.training_images(names, manifest, source)
    if images is None:
        raise OodgateError(f"no detector of {manifest.model.name} is fitted on images")
    outputs = of(f"train {short_name(source)}".replace("/", " of "), lambda: images.images)
    examples = Training(
        outputs.logits,
        np.asarray(outputs.penultimate),
        images.labels,
        layers,
        settings=fitting.settings_for(manifest),
        outliers={name: Observed(part.logits, np.asarray(part.penultimate)) for name, part in sets.kinds.items()},
    )
    detectors, _ = fitting.fit(names, examples, skip=True)
    columns = (*manifest.scores, *(name for name in detectors if name not in manifest.scores))
    return sets.each(lambda part: selecting.with_columns(part, manifest.scores, detectors)), columns


def ranking(path: Path, data: Path, train: str, validation: str, threads: int, cache: Path | None) -> Ranking:
    """All candidates on one bundle."""
    found = network(path, threads, cache)
    of, manifest, layers = found.of, found.manifest, LastLayers(found.model)
    files = {file.stem.removeprefix("ood-"): str(file) for file in sorted(data.glob("ood-*.tar"))}
    sets = observed(of, manifest, str(data / f"{validation}@1/2"), str(data / f"{validation}@2/2"), files)
    best = choice.best_temperature(choice.compare_temperatures(sets.choose, sets.kinds))
    plain, column = with_energy(sets, manifest, 1.0)[0], [manifest.scores.index("energy")]
    energy = plain.each(lambda part: dataclasses.replace(part, scores=part.scores[:, column]))
    sets, manifest = with_energy(sets, manifest, best)
    sets, columns = with_detectors(of, sets, manifest, layers, str(data / train))
    wanted = selecting.candidates(columns, negative_share(np.asarray(sets.choose.penultimate)))
    others = {"known": sets.known, **{f"real {name}": part for name, part in sets.real.items()}, **sets.kinds}
    own, each = selecting.compared(wanted, columns, sets.choose, others)
    real = {name: each[f"real {name}"] for name in sets.real}
    return Ranking(
        tuple(wanted),
        {name: _each(own, each[name], auroc) for name in sets.kinds},
        {name: _each(each["known"], part, auroc) for name, part in real.items()},
        {name: _each(each["known"], part, fpr_at_tpr) for name, part in real.items()},
        (_average(energy, auroc), _average(energy, fpr_at_tpr)),
        f"{manifest.model.arch}, D = {manifest.model.features}",
    )


def _each(known: Outputs, outliers: Outputs, figure: Figure) -> Figures:
    return np.array([figure(a, b) for a, b in zip(known.scores.T, outliers.scores.T, strict=True)])


def _average(sets: Sets, figure: Figure) -> float:
    return float(np.mean([_each(sets.known, part, figure)[0] for part in sets.real.values()]))


def _mean(table: Mapping[str, Figures]) -> Figures:
    return np.asarray(np.mean(list(table.values()), axis=0))


def _rho(a: Figures, b: Figures) -> float:
    return float(spearmanr(a, b).statistic)


def _cell(figures: tuple[float, float]) -> str:
    return " / ".join(f"{100 * value:.1f}" for value in figures)


def networks(rankings: Mapping[str, Ranking]) -> str:
    """A row for each network."""
    rows = [["network", "", "rho", "auto's choice", "auto", "energy", "best single", "", "best", ""]]
    for name, found in rankings.items():
        single, best = found.best(found.singles), found.best(range(len(found.candidates)))
        named = [item for i in (single, best) for item in (found.candidates[i].name, _cell(found.figures(i)))]
        chosen = [found.candidates[found.chosen].name, _cell(found.figures(found.chosen)), _cell(found.energy)]
        rows.append([name, found.network, f"{found.rho:.2f}", *chosen, *named])
    return layout(rows, True)


def kinds(rankings: Mapping[str, Ranking]) -> str:
    """Spearman's rho of each synthetic kind by itself."""
    first, *_ = rankings.values()
    rows = [["network", *first.synthetic, "all"]]
    for name, found in rankings.items():
        real = _mean(found.real)
        rows.append([name, *(f"{_rho(one, real):.2f}" for one in found.synthetic.values()), f"{found.rho:.2f}"])
    return layout(rows, True)


def means(rankings: Mapping[str, Ranking]) -> str:
    """Mean AUROC and FPR95 over networks: of auto's choices, the energy, and each candidate that all of them have."""
    tables = [{one.name: found.figures(i) for i, one in enumerate(found.candidates)} for found in rankings.values()]
    columns = {name: [table[name] for table in tables] for name in tables[0] if all(name in table for table in tables)}
    columns = {
        "auto": [found.figures(found.chosen) for found in rankings.values()],
        "the best single of each": [found.figures(found.best(found.singles)) for found in rankings.values()],
        "energy, T = 1": [found.energy for found in rankings.values()],
        **{"energy, T as chosen" if name == "energy" else name: own for name, own in columns.items()},
    }
    averages = {name: np.mean(own, axis=0) for name, own in columns.items()}
    ordered = sorted(averages.items(), key=lambda item: float(item[1][1]))
    rows = [[name, f"{100 * figures[0]:.1f}", f"{100 * figures[1]:.1f}"] for name, figures in ordered]
    return layout([["gate", "AUROC", "FPR95"], *rows], True)


def report(rankings: Mapping[str, Ranking], designed: Sequence[str], command: str) -> str:
    """The page."""
    others = {name: found for name, found in rankings.items() if name not in designed}
    rho = [found.rho for found in others.values()]
    sets = ", ".join(next(iter(rankings.values())).real)
    parts = [
        "# Do synthetic outliers rank scores as real ones do?",
        f"By `{command}`.",
        "Each network's candidates are those of `--score auto --fit`: the scores of its file, detectors fitted for it, and "
        f"fusions of two. Figures are AUROC / FPR95 in percent, the means over {sets}. rho is Spearman's, between the "
        "candidates' mean AUROCs against the synthetic and these real outliers. The best single score and the best of "
        "all are by the real outliers, so known only afterwards; the real outliers chose nothing. `energy` is at temperature "
        "1; `auto` chooses a temperature.",
        networks(rankings),
        f"rho of the networks that the synthetic outliers were not designed by ({len(others)}; designed by: "
        f"{', '.join(name for name in rankings if name in designed) or 'none of these'}): mean {np.mean(rho):.2f}, least "
        f"{min(rho):.2f}, at least 0.7 on {sum(value >= 0.7 for value in rho)}.",
        "## rho of each kind by itself",
        kinds(rankings),
        f"## One gate for all of {', '.join(others)}",
        "Means over these networks, of candidates that all of them have.",
        means(others),
    ]
    return "\n\n".join(parts) + "\n"


def main(argv: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("data", type=Path, metavar="DATA")
    parser.add_argument("bundles", type=Path, nargs="+", metavar="BUNDLE")
    parser.add_argument("--train", default="cifar10-train.tar", help="in DATA; default: %(default)s")
    parser.add_argument("--val", default="cifar10-val.tar", help="in DATA; default: %(default)s")
    parser.add_argument("--designed", action="append", default=[], metavar="BUNDLE", help="it designed the outliers")
    parser.add_argument("--cache", type=Path, metavar="FOLDER", help="where the networks' outputs are kept")
    parser.add_argument("--out", type=Path, default=MEASURED / "choice_rank.md", metavar="FILE")
    parser.add_argument("--threads", type=int, default=0)
    args = parser.parse_args(argv)
    if not list(args.data.glob("ood-*.tar")) or {path.name for path in args.bundles} <= set(args.designed):
        raise OodgateError(f"{args.data}: expected ood-*.tar in it, and a bundle that is not --designed")
    command = f"python -m benchmarks.choice_rank DATA BUNDLE .. --train {args.train}"
    found: dict[str, Ranking] = {}
    for path in sorted(args.bundles, key=lambda path: path.name in args.designed):
        found[path.name] = ranking(path, args.data, args.train, args.val, args.threads, args.cache)
        args.out.write_text(page := report(found, args.designed, command))
    print(page)
    return 0


if __name__ == "__main__":
    run(main)
