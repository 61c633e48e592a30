"""What a benchmark ran on, in words."""

from __future__ import annotations

import platform
from pathlib import Path


def processor() -> str:
    """The processor, and which of the instructions that matter to int8 it has."""
    file = Path("/proc/cpuinfo")
    lines = file.read_text().splitlines() if file.exists() else []
    fields = {key.strip(): value.strip() for key, _, value in (line.partition(":") for line in reversed(lines))}
    known = ("avx2", "avx512f", "avx_vnni", "avx512_vnni", "amx_int8", "asimddp")
    has = [name for name in known if name in fields.get("flags", fields.get("Features", "")).split()]
    return f"{fields.get('model name', platform.processor() or platform.machine())} with {', '.join(has) or 'none of them'}"
