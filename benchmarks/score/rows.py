"""A million rows, made up, for the writer and the second pass over its parts."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

from benchmarks.paths import BUNDLE, ROOT
from export.report.table import layout

ROWS = 1_000_000

_SIMULATED = """
import json, resource, sys, time
import numpy as np
import pyarrow as pa
from pathlib import Path
from runtime.bundle import read_manifest
from serving.batch import discovery, scoring, summary
from serving.batch.images import Part
from serving.batch.parts import Parts
from serving.batch.places import Folder
rows, out = int(sys.argv[2]), sys.argv[3]
manifest = read_manifest(Path(sys.argv[1]))
n, schema, rng = manifest.gate.n_calibration, scoring.schema(manifest), np.random.default_rng(0)
start = time.perf_counter()
parts = Parts(Folder(out), {})
for first in range(0, rows, 64):
    size = min(64, rows - first)
    score = rng.normal(size=size).astype(np.float32)
    p = (1 + rng.integers(0, np.where(rng.random(size) < 0.05, 3, n))) / (n + 1)
    columns = {"key": [f"s3://bucket/images/{i:09}.jpg" for i in range(first, first + size)], "decision": ["accept"] * size,
               "label": ["airplane"] * size, "class_index": [0] * size, "p_value": p}
    made = [pa.array(columns[f.name], f.type) if f.name in columns else pa.array(score).cast(f.type)
            if pa.types.is_floating(f.type) else pa.nulls(size, f.type) for f in schema]
    index = first % 8192 // 64
    last = first + size == rows
    table = pa.Table.from_arrays(made, schema=schema)
    parts.add(scoring.Scored(Part(0, first // 8192), index, last or index == 127, last, table))
written = time.perf_counter() - start
found = summary.survey(parts)
surveyed = time.perf_counter() - start - written
outliers = discovery.discover(found.p_values, 0.1, 1 / (n + 1))
discovery.mark(parts, outliers)
marked = time.perf_counter() - start - written - surveyed
print(json.dumps({"written": written, "surveyed": surveyed, "marked": marked, "outliers": outliers.outliers,
                  "images": found.images, "peak": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024}))
"""


def simulated(place: Path) -> Iterator[str]:
    """A million rows, and ten times fewer."""
    lines = [["rows", "written, s", "counted, s", "outliers marked, s", "outliers", "peak memory, MB"]]
    for count in (ROWS // 10, ROWS):
        command = [sys.executable, "-c", _SIMULATED, str(BUNDLE), str(count), str(place / f"rows-{count}")]
        done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True)
        found = json.loads(done.stdout)
        seconds = [f"{found[name]:.1f}" for name in ("written", "surveyed", "marked")]
        lines.append([f"{found['images']:,}", *seconds, f"{found['outliers']:,}", f"{found['peak']:,.0f}"])
    yield layout(lines, markdown=True)
