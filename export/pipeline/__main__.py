"""``python -m export.pipeline BUNDLE``: pipeline.onnx and golden images for a bundle that is there."""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from pathlib import Path

from export import making
from export.rewriting import renew
from runtime.bundle import MODEL, PIPELINE, Bundle
from runtime.command import prog, run
from runtime.gate import load_engine
from runtime.golden.document import FOLDER


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog=prog(__package__),
        description="Give a calibrated bundle what ports of it need, and leave its model.onnx and its threshold as they are: "
        "pipeline.onnx, the same network, scores and decision behind the bundle's own resize, for images of any size; and "
        "golden/, a dozen drawn images with what each stage makes of them, by which oodgate selftest checks an engine or a "
        "service. Export, calibrate, fit and convert write both by themselves; this is for bundles that were made before.",
        epilog="Example: %(prog)s bundles/cifar10",
    )
    parser.add_argument("bundle", metavar="BUNDLE", type=Path)
    parser.add_argument(
        "--with-resize",
        action=argparse.BooleanOptionalAction,
        default=True,
        help="write pipeline.onnx, or remove it, which halves the bundle (default: write it)",
    )
    parser.add_argument("--threads", type=int, default=0, help="engine threads (default: one a physical core)")
    return parser


def main(argv: Sequence[str] | None = None) -> int:
    args = _parser().parse_args(argv)
    loaded = Bundle.load(args.bundle)
    loaded.gate()  # without which there is nothing to decide
    loaded.check_graph(load_engine(loaded, threads=args.threads).signature)
    made = making.made_of(loaded.model, loaded.manifest, resize=args.with_resize, threads=args.threads)
    added = {name: data for name, data in made.items() if name != MODEL}
    renew(loaded, added)
    for name in (PIPELINE, f"{FOLDER}/"):
        sizes = [len(data) for file, data in added.items() if file.startswith(name)]
        if sizes:
            print(
                f"{args.bundle / name}: {sum(sizes):,} bytes" + (f", {len(sizes) - 1} images" if len(sizes) > 1 else "")
            )
    return 0


if __name__ == "__main__":
    run(main)
