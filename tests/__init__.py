"""The suite, which takes all cores by as many processes: torch, also in the commands that it starts, is given one thread."""

import os

os.environ.setdefault("OMP_NUM_THREADS", "1")
