"""What a benchmark ran on, in words, and its figures beside those of other machines."""

from __future__ import annotations

import json
import platform
from pathlib import Path
from typing import Any

from serving.settings import cores


def processor() -> str:
    """The processor, and which of the instructions that matter to int8 it has."""
    file = Path("/proc/cpuinfo")
    lines = file.read_text().splitlines() if file.exists() else []
    fields = {key.strip(): value.strip() for key, _, value in (line.partition(":") for line in reversed(lines))}
    known = ("avx2", "avx512f", "avx_vnni", "avx512_vnni", "amx_int8", "asimddp")
    has = [name for name in known if name in fields.get("flags", fields.get("Features", "")).split()]
    return f"{fields.get('model name', platform.processor() or platform.machine())} with {', '.join(has) or 'none of them'}"


def machine() -> str:
    """The processor and the cores that this process may use."""
    return f"{processor()}, {cores()} cores"


def beside(file: Path, name: str, figures: dict[str, Any]) -> dict[str, Any]:
    """Figures of a machine in a JSON file that has those of others; all of them, this machine's last."""
    known = json.loads(file.read_text()) if file.exists() else {}
    known.pop(name, None)
    known[name] = figures
    file.write_text(json.dumps(known, indent=1) + "\n")
    return known
