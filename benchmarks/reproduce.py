"""Does GReg do what its paper says, on the paper's own network, by its own recipe?

    python -m benchmarks.reproduce DATA [--gpu] [--seeds 0 1 2] [options of benchmarks.methods]

WRN-40-2 on CIFAR-10: 100 epochs of cross-entropy, then 20 epochs each of the energy loss and of GReg from that network, as
:mod:`train.recipes` has them, with the same margins. docs/measured/results_wrn.md is written run by run. With --gpu steps are
recorded as CUDA graphs. `--train-only` there, and the same command without it where the runs are copied to, divides the work
between two machines; what was stopped goes on.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence

from benchmarks import methods

# GReg's (section 6 and its code; :data:`train.recipes.RECIPES`). Those of the network that it starts from are the defaults of
# `train`, which are those of the code of Energy and OE.
_PAPER = (
    "--arch wrn-40-2 --methods cross-entropy energy greg --epochs 100 --tune-epochs 20 --tune-rate 0.001 --gradient-weight 1 "
    "--set reduction=batch --set m_in=-25 --set m_aux=-7 --page results_wrn --runs runs/reproduce --seeds 0"
)
_TUNING = "--recipe greg-cifar"


def arguments(argv: Sequence[str]) -> list[str]:
    """Those of :mod:`benchmarks.methods`; what is given goes before the paper's."""
    given = [each for each in argv if each != "--gpu"]
    recorded = ["--cuda-graph"] if len(given) < len(argv) else []
    scratch = ["--scratch=" + " ".join(recorded)] if recorded else []
    return [*_PAPER.split(), *scratch, "--tuning=" + " ".join([_TUNING, *recorded]), *given]


if __name__ == "__main__":
    methods.main(arguments(sys.argv[1:]))
