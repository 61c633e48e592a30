"""Seeds of what is drawn in a step, each a number of its own."""

from __future__ import annotations

import numpy as np


def seed_of(*numbers: int) -> int:
    """32 bits that depend on every one of the numbers; torch's generator on a CPU looks at no more bits of a seed."""
    return int(np.random.SeedSequence(numbers).generate_state(1)[0])
