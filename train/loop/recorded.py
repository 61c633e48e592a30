"""The passes of a step as one CUDA graph: recorded once, replayed with the images of every step.

A small network's step is hundreds of kernels, each shorter than what Python takes to start it. A replay starts all of
them at once. What a step decides in Python, it decides once, when it is recorded.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import torch
from torch import Tensor, nn

from train.exceptions import TrainingError
from train.methods import Batch, Step

Passes = Callable[[Batch], Step]

_WARM = 3  # passes before the recording, in which libraries choose their kernels, as torch's manual advises
_TOLERANCE = 0.01  # of a term; kernels that add in another order every time differ far less


class Recorded:
    """Called with a batch, does what `passes` does with it; the first batch's shapes and types are those of all.

    Args:
        passes: forward and backward, which leaves the weights' gradients and returns what the method made of the batch.
        model: the network, whose buffers the passes may change in place.
    """

    def __init__(self, passes: Passes, model: nn.Module) -> None:
        self._passes, self._model = passes, model
        self._graph: torch.cuda.CUDAGraph | None = None

    def __call__(self, batch: Batch) -> Step:
        """Forward and backward passes of a batch.

        Raises:
            TrainingError: there is no GPU, or the passes can't be recorded, or do something else when they are replayed.
        """
        if self._graph is None:
            return self._record(batch)
        for own, given in zip(_tensors(self._batch), _tensors(batch), strict=True):
            own.copy_(given)
        self._graph.replay()
        return self._step

    def _record(self, batch: Batch) -> Step:
        """That of the first batch, by replaying what was recorded."""
        if not batch.images.is_cuda:
            raise TrainingError("--cuda-graph needs a GPU that torch can use; leave it out")
        self._batch = replace(
            batch, images=batch.images.clone(), labels=batch.labels.clone(), outliers=batch.outliers.clone()
        )
        buffers = dict(self._model.named_buffers())
        before = {name: buffer.clone() for name, buffer in buffers.items()}
        torch.backends.cudnn.benchmark = True  # the shapes stay: the fastest kernels are worth finding
        side = torch.cuda.Stream()  # type: ignore[no-untyped-call]
        side.wait_stream(torch.cuda.current_stream())
        with torch.cuda.stream(side):
            for _ in range(_WARM):
                _restore(buffers, before, batch.seed)
                eager = self._passes(self._batch).terms
        torch.cuda.current_stream().wait_stream(side)
        graph = torch.cuda.CUDAGraph()
        try:
            with torch.cuda.graph(graph):
                self._step = self._passes(self._batch)
        except RuntimeError as error:
            why = " ".join(str(error).split())[:200]
            raise TrainingError(f"--cuda-graph: the step can't be recorded ({why}); leave it out") from error
        for name, buffer in self._model.named_buffers():
            if buffer is not buffers.get(name):
                raise TrainingError(
                    f"--cuda-graph: the network puts another tensor in {name}'s place in every step; leave it out"
                )
        _restore(buffers, before, batch.seed)
        graph.replay()
        for name, expected in eager.items():
            if not torch.allclose(self._step.terms[name], expected, _TOLERANCE, _TOLERANCE, equal_nan=True):
                found = f"{self._step.terms[name].item():.6g} instead of {expected.item():.6g}"
                raise TrainingError(f"--cuda-graph: replayed, the step's {name} is {found}; leave it out")
        self._graph = graph
        return self._step


def _tensors(batch: Batch) -> tuple[Tensor, ...]:
    return batch.images, batch.labels, batch.outliers


@torch.no_grad()
def _restore(buffers: dict[str, Tensor], before: dict[str, Tensor], seed: int) -> None:
    """As if nothing had been passed yet."""
    for name, buffer in buffers.items():
        buffer.copy_(before[name])
    torch.manual_seed(seed)
