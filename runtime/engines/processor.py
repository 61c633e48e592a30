"""Which instructions this machine's CPU has that numerics and speed depend on, asked of the kernel."""

from __future__ import annotations

from pathlib import Path

_CPUINFO = Path("/proc/cpuinfo")
# As Linux calls them, oldest first: x86-64's, then Arm's.
_KNOWN = (
    *("avx2", "fma", "avx512f", "avx512_vnni", "avx_vnni", "avx512_fp16", "avx_ne_convert", "avx512_bf16"),
    *("amx_tile", "amx_int8", "amx_bf16", "amx_fp16"),
    *("asimd", "asimdhp", "asimddp", "sve", "i8mm", "bf16"),
)
BF16 = frozenset({"avx_ne_convert", "avx512_bf16", "amx_bf16", "bf16"})
"""Instructions that compute with bfloat16; one of them is enough."""


def machine_flags(file: Path = _CPUINFO) -> tuple[str, ...]:
    """The known flags of the first CPU in `file`; none where the system has no such file."""
    try:
        lines = file.read_text().splitlines()
    except OSError:
        return ()
    words = next((line.partition(":")[2] for line in lines if line.startswith(("flags", "Features"))), "").split()
    return tuple(flag for flag in _KNOWN if flag in words)
