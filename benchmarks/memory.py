"""What a worker's memory comes to by decoding thousands of odd files, and what of it stays; and what a profile costs.

    python -m benchmarks.memory

A served bundle with the default limits is sent files of every format and many sizes, whole and damaged, by eight
clients at once. Fails if the worker then holds more than 400 MB. Then, without a server: the time of an image with an
embedded colour profile against the same one without.
"""

from __future__ import annotations

import argparse
import collections
import io
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import psutil
from PIL import Image
from tqdm import tqdm

from benchmarks.machine import processor
from benchmarks.servers import ROOT, product
from runtime.manifest import InputSpec
from runtime.preprocess import preprocess
from tests.profiles import ADOBE, P3, grey_profile, ink_profile, rgb_profile

CLIENTS = 8
LIMIT = 400  # MB
SIDES = (8, 60, 200, 500, 900, 1500, 3000, 5000)
KINDS: tuple[tuple[str, str, dict[str, Any]], ...] = (
    ("JPEG", "RGB", {}), ("JPEG", "RGB", {"progressive": True}), ("JPEG", "CMYK", {}), ("PNG", "RGBA", {}), ("PNG", "P", {}),
    ("PNG", "I;16", {}), ("WEBP", "RGB", {}), ("WEBP", "RGBA", {"lossless": True}), ("GIF", "P", {}), ("BMP", "RGB", {}),
    ("TIFF", "RGB", {"compression": "tiff_lzw"}), ("TIFF", "L", {}), ("TIFF", "1", {"compression": "group3"}),
)  # fmt: skip


def saved(side: int, format: str, mode: str, options: dict[str, Any]) -> bytes:
    noise = np.random.default_rng(side).integers(0, 256, (max(1, side // 8), max(1, side // 10), 3), dtype=np.uint8)
    image = Image.fromarray(noise).resize((side, side * 3 // 4), Image.Resampling.BICUBIC)
    converted = image.convert("L").convert(mode) if mode == "I;16" else image.convert(mode)
    buffer = io.BytesIO()
    converted.save(buffer, format, **options)
    return buffer.getvalue()


def odd_files(rng: np.random.Generator) -> list[bytes]:
    """Each kind at each size whole, cut short, and with bytes changed; those over 20 MB left out."""
    files: list[bytes] = []
    for kind in KINDS:
        for side in SIDES:
            data = saved(side, *kind)
            damaged = bytearray(data)
            for place in rng.integers(0, len(data), 5):
                damaged[place] = rng.integers(0, 256)
            files += [data, data[: len(data) // 2], bytes(damaged)]
    return [data for data in files if len(data) <= 20 * 2**20]


def megabytes(process: psutil.Process) -> float:
    """Of the largest process of a service, its worker."""
    return max(member.memory_info().rss for member in [process, *process.children(recursive=True)]) / 1e6


def serve(bundle: Path, count: int) -> bool:
    files = odd_files(np.random.default_rng(0))
    order = np.random.default_rng(1).integers(0, len(files), count)
    statuses: collections.Counter[int] = collections.Counter()
    with product(bundle) as (url, server), httpx.Client(base_url=url, timeout=120) as client:
        process = psutil.Process(server.pid)
        client.post("/classify", content=files[0])
        before = highest = megabytes(process)
        with ThreadPoolExecutor(CLIENTS) as threads:
            answers = threads.map(lambda i: client.post("/classify", content=files[i]).status_code, order)
            for status in tqdm(answers, total=count, disable=None):
                statuses[status] += 1
                highest = max(highest, megabytes(process))
        time.sleep(2)
        after = megabytes(process)
    print(f"{processor()}; {count} files, answers {dict(sorted(statuses.items()))}")
    print(f"the worker holds {before:.0f} MB before, {highest:.0f} MB at most, {after:.0f} MB after")
    return after <= LIMIT and not any(status >= 500 for status in statuses)


def profiles() -> None:
    lab = np.zeros((2, 2, 2, 2, 3))
    cases = {
        "Display P3, JPEG of 12 megapixels": ("RGB", "JPEG", 4000, rgb_profile(P3, 0.0)),
        "Adobe RGB, PNG of 0.2 megapixels": ("RGB", "PNG", 500, rgb_profile(ADOBE, 2.2)),
        "grey, PNG of 0.2 megapixels": ("L", "PNG", 500, grey_profile(2.2)),
        "inks, JPEG of 0.2 megapixels": ("CMYK", "JPEG", 500, ink_profile(lab)),
    }
    for name, (mode, format_, side, profile) in cases.items():
        data = saved(side, format_, mode, {"icc_profile": profile})
        for size in (32, 224):
            taken = {colour: _milliseconds(data, size, colour) for colour in ("ignore", "srgb")}
            print(f"{name}, at {size} x {size}: {taken['ignore']:.2f} ms, converted {taken['srgb']:.2f} ms")


def _milliseconds(data: bytes, size: int, colour: Any) -> float:
    spec = InputSpec(size, size, (0, 0, 0), (1, 1, 1), colour=colour)
    times = []
    for _ in range(20):
        start = time.thread_time()
        preprocess(data, spec)
        times.append(time.thread_time() - start)
    return 1e3 * float(np.median(times))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--bundle", type=Path, default=ROOT / "bundles" / "cifar10")
    parser.add_argument("--files", type=int, default=5000)
    args = parser.parse_args()
    profiles()
    if not serve(args.bundle, args.files):
        raise SystemExit(f"error: a worker is to hold at most {LIMIT} MB, and to answer no 5xx")


if __name__ == "__main__":
    main()
