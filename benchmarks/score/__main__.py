"""Is a cluster as fast as it is large, is every image scored once whatever dies, and are outliers those that were promised?

    python -m benchmarks.score cifar10-val.tar --write

Images of CIFAR-10, enlarged to photographs of 224 to 227 pixels as JPEG in tars, are scored by a plain loop over the library,
by one and by two threads, and by Ray with two workers, in turns, and by Ray with workers killed; each run is a process of its
own, whose memory and whose children's is watched. A million rows are made up for the writer and the second pass over them.
"""

from __future__ import annotations

import argparse
import io
import os
import sys
import tarfile
import tempfile
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.dataset as ds
from PIL import Image

from benchmarks.machine import processor
from benchmarks.paths import BUNDLE, MEASURED
from benchmarks.score.fdr import table as fdr_table
from benchmarks.score.rows import simulated
from benchmarks.score.runs import Killer, Run, loop, score, steady
from export.report.table import layout
from runtime.bundle import Bundle

IMAGES, SHARD, WORKERS = 20_000, 1_000, 2
SIDE = 224


def make(source: Path, folder: Path) -> list[Path]:
    """The tars, made once: every image four times, each time a pixel larger."""
    names = [folder / f"{number:03}.tar" for number in range(IMAGES // SHARD)]
    if not all(name.exists() for name in names):
        with tarfile.open(source) as tar:
            originals = [Image.open(tar.extractfile(member)).convert("RGB") for member in tar if member.isfile()]  # type: ignore[arg-type]
        for number, name in enumerate(names):
            with tarfile.open(name, "w") as tar:
                for i in range(number * SHARD, (number + 1) * SHARD):
                    side = SIDE + i // len(originals)
                    buffer = io.BytesIO()
                    originals[i % len(originals)].resize((side, side), Image.Resampling.BICUBIC).save(
                        buffer, "JPEG", quality=90
                    )
                    member = tarfile.TarInfo(f"{i:06}.jpg")
                    member.size = buffer.tell()
                    buffer.seek(0)
                    tar.addfile(member, buffer)
    return names


def rows(out: Path) -> pa.Table:
    """An output, by key."""
    return ds.dataset(sorted(out.glob("*.parquet"))).to_table().sort_by("key").replace_schema_metadata()


Measured = dict[str, list[tuple[Run, float]]]
JOBS = {"local, 1 worker": ("local", 1), "local, 2 workers": ("local", WORKERS), "Ray, 2 workers": ("ray", WORKERS)}


def speed(shards: list[Path], place: Path, rounds: int) -> tuple[Measured, list[float]]:
    """The runs of all rounds, and their images a second under way; each round runs all kinds in turn. The load after each."""
    loads: list[float] = []
    runs: Measured = {"a plain loop": [], **{name: [] for name in JOBS}}
    for number in range(rounds):
        plain = loop(shards[: len(shards) // 4])
        runs["a plain loop"].append((plain, plain.rate))
        for name, (engine, workers) in JOBS.items():
            out = place / f"{engine}-{workers}-{number}"
            runs[name].append((score(shards, out, engine, workers), steady(out)))
        loads.append(os.getloadavg()[0])
        print({name: found[-1] for name, found in runs.items()}, loads[-1], file=sys.stderr)
    return runs, loads


def _speeds(runs: Measured) -> list[list[str]]:
    """Medians of the rounds."""
    rows = {
        name: [
            float(np.median(values))
            for values in zip(*((*vars(run).values(), run.rate, under) for run, under in found), strict=True)
        ]
        for name, found in runs.items()
    }
    single = rows["local, 1 worker"]
    lines = [
        [
            "",
            "images/s",
            "of twice one worker's",
            "under way",
            "of twice",
            "s in all",
            "core-s of 1,000 images",
            "peak memory, MB",
        ]
    ]
    for name, (images, _, wall, processor_, peak, rate, under) in rows.items():
        shares = f"{rate / (2 * single[-2]):.2f}", f"{under / (2 * single[-1]):.2f}"
        cells = [
            f"{rate:,.0f}",
            shares[0],
            f"{under:,.0f}",
            shares[1],
            f"{wall:.0f}",
            f"{1000 * processor_ / images:.2f}",
            f"{peak:,.0f}",
        ]
        lines.append([name, *cells])
    return lines


def kills(shards: list[Path], place: Path) -> Iterator[str]:
    """What becomes of a run of which workers are killed."""
    killer = Killer(place / "killed", len(shards))
    run = score(shards, killer.out, "ray", WORKERS, killer)
    expected, found = rows(place / "local-1-0"), rows(killer.out)
    once = len(set(found["key"].to_pylist()))
    same = "equal" if found.equals(expected) else "DIFFER"
    yield (
        f"{killer.killed} processes killed, a task that decodes and an actor: {found.num_rows:,} rows of {once:,} images, at "
        f"{run.rate:,.0f} images/s. These rows and those of the local mode: {same}."
    )
    whole = rows(place / "ray-2-0")
    yield f"Rows of the local mode and those of Ray undisturbed: {'equal' if whole.equals(expected) else 'DIFFER'}."


def memory(shards: list[Path], place: Path, runs: Measured) -> list[list[str]]:
    """Peak memory for a quarter of the images and for all."""
    lines = [["peak memory, MB", f"{IMAGES // 4:,} images", f"{IMAGES:,} images", "ratio"]]
    for name, (engine, workers) in JOBS.items():
        if workers == WORKERS:
            few = score(shards[: len(shards) // 4], place / f"few-{engine}", engine, workers).peak
            many = float(np.median([run.peak for run, _ in runs[name]]))
            lines.append([name, f"{few:,.0f}", f"{many:,.0f}", f"{many / few:.2f}"])
    return lines


def page(source: Path, folder: Path, rounds: int) -> Iterator[str]:
    """The page."""
    shards = make(source, folder)
    yield "# Whole sources, scored\n"
    yield f"<!-- python -m benchmarks.score {source.name} --rounds {rounds} --write -->\n"
    yield (
        f"{processor()}; {os.cpu_count()} cores. {IMAGES:,} JPEGs of {SIDE} to {SIDE + 3} pixels in {len(shards)} tars, the "
        f"bundle shipped then ({Bundle.load(BUNDLE).manifest.model.arch}) on ONNX Runtime. How to do it: "
        "[batch.md](../batch.md).\n"
    )
    with tempfile.TemporaryDirectory(dir=folder) as place:
        yield "## Speed\n"
        runs, loads = speed(shards, Path(place), rounds)
        yield layout(_speeds(runs), markdown=True)
        yield (
            f"\nMedians of {rounds} rounds, of which each runs all in turn; the load average was {min(loads):.0f} to "
            f"{max(loads):.0f} at their ends, and is 2 where nobody else is at work. The plain loop takes a quarter of the "
            "images. Images/s are from the first image to be read on, with the start of Ray's workers; under way is from the "
            "first part that was written to the last; the seconds in all have the start of the cluster too. Both cores are "
            "the workers', so that Ray's own processes take theirs from them. What others do on the machine changes the "
            "seconds, and the core-seconds little: two idle cores do at most 2,000 divided by these a second.\n"
        )
        yield "## Workers that die\n"
        yield from kills(shards, Path(place))
        yield "\n## Memory\n"
        yield "Of all processes, what they share counted once.\n"
        yield layout(memory(shards, Path(place), runs), markdown=True)
        yield "\n## A million rows\n"
        yield "Made up, in parts of 8,192; the second pass counts the p-values and writes the column `outlier`.\n"
        yield from simulated(Path(place))
    yield "\n## False discoveries\n"
    yield from fdr_table()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("source", type=Path, help="tar of CIFAR-10 images")
    parser.add_argument(
        "--images", type=Path, help="folder for the enlarged images, to keep them (default: a temporary one)"
    )
    parser.add_argument("--rounds", type=int, default=1, help="of the speed measurements (default: %(default)s)")
    parser.add_argument("--write", action="store_true", help="write docs/measured/score.md")
    args = parser.parse_args()
    with tempfile.TemporaryDirectory() as temporary:
        text = "\n".join(page(args.source, args.images or Path(temporary), args.rounds)) + "\n"
    print(text)
    if args.write:
        (MEASURED / "score.md").write_text(text)


if __name__ == "__main__":
    main()
