"""The flags of the CPU, from what Linux says on x86-64 and on Arm."""

from __future__ import annotations

from pathlib import Path

import pytest

from runtime.engines.processor import BF16, machine_flags


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        (
            "model name\t: X\nflags\t\t: fpu avx2 fma amx_bf16 avx512_bf16 avx512f\n",
            ("avx2", "fma", "avx512f", "avx512_bf16", "amx_bf16"),
        ),
        (
            "processor\t: 0\nFeatures\t: fp asimd i8mm bf16\n\nprocessor\t: 1\nFeatures\t: fp\n",
            ("asimd", "i8mm", "bf16"),
        ),
        ("vmx flags\t: avx2\nflags\t: fpu\n", ()),
        ("", ()),
    ],
)
def test_known_flags_of_the_first_cpu(tmp_path: Path, text: str, expected: tuple[str, ...]) -> None:
    file = tmp_path / "cpuinfo"
    file.write_text(text)
    assert machine_flags(file) == expected


def test_a_system_that_does_not_tell(tmp_path: Path) -> None:
    assert machine_flags(tmp_path / "cpuinfo") == ()


def test_half_a_name_is_no_flag(tmp_path: Path) -> None:
    (tmp_path / "cpuinfo").write_text("flags : avx512_bf16x xamx_bf16\n")
    assert not BF16 & {*machine_flags(tmp_path / "cpuinfo")}
