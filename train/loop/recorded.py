"""The passes of a step as one CUDA graph: recorded once, replayed with the images of every step.

A small network's step is hundreds of kernels, each shorter than what Python takes to start it. A replay starts all of
them at once. What a step decides in Python, it decides once, when it is recorded.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import replace

import torch
from torch import Tensor, nn

from train.exceptions import TrainingError
from train.methods import Batch, Step

Passes = Callable[[Batch], Step]

_WARM = 3  # passes before the recording, in which libraries choose their kernels, as torch's manual advises
_ALL = "weights' gradient"
_TERM, _GRADIENT = 0.01, 0.05  # how far a replay may be off; kernels that add in another order every time are far less


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
        for own, given in zip(_parts(self._batch), _parts(batch), strict=True):
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
        before = {name: buffer.clone() for name, buffer in self._model.named_buffers()}
        with _fastest_kernels():
            expected = self._warm(before, batch.seed)
            self._held = _held(self._model)  # a replay reads them where they are
            graph = self._captured()
        for name, tensor in _held(self._model).items():
            if tensor is not self._held.get(name):
                raise TrainingError(
                    f"--cuda-graph: the network puts another tensor in {name}'s place in every step; leave it out"
                )
        self._restore(before, batch.seed)
        graph.replay()
        _check(expected, self._found())
        self._graph = graph
        return self._step

    def _warm(self, before: Mapping[str, Tensor], seed: int) -> dict[str, Tensor]:
        """What the passes come to without a recording."""
        side = torch.cuda.Stream()  # type: ignore[no-untyped-call]
        side.wait_stream(torch.cuda.current_stream())
        with torch.cuda.stream(side):
            for _ in range(_WARM):
                self._restore(before, seed)
                self._step = self._passes(self._batch)
            found = self._found()
        torch.cuda.current_stream().wait_stream(side)
        return found

    def _captured(self) -> torch.cuda.CUDAGraph:
        graph = torch.cuda.CUDAGraph()
        stream = torch.cuda.current_stream()
        try:
            with torch.cuda.graph(graph):
                self._step = self._passes(self._batch)
        except torch.OutOfMemoryError:
            raise
        except RuntimeError as error:
            torch.cuda.set_stream(
                stream
            )  # which torch's context has left where it is, if ending the capture failed too
            first: BaseException = error
            while isinstance(first.__context__, RuntimeError):
                first = first.__context__
            why = " ".join(str(first).split())[:200]
            raise TrainingError(f"--cuda-graph: the step can't be recorded ({why}); leave it out") from error
        return graph

    def _found(self) -> dict[str, Tensor]:
        """The terms, and the weights' gradients as one vector."""
        gradients = [weight.grad.flatten() for weight in self._model.parameters() if weight.grad is not None]
        return {name: term.clone() for name, term in self._step.terms.items()} | {_ALL: torch.cat(gradients)}

    @torch.no_grad()
    def _restore(self, before: Mapping[str, Tensor], seed: int) -> None:
        """As if nothing had been passed yet."""
        for name, buffer in self._model.named_buffers():
            if name in before:
                buffer.copy_(before[name])
        torch.manual_seed(seed)


def _check(expected: Mapping[str, Tensor], found: Mapping[str, Tensor]) -> None:
    """Raises TrainingError where a replay is not what the passes come to."""
    least = 1e-3 * sum(term.abs().item() for name, term in expected.items() if name != _ALL)
    for name, before in expected.items():
        allowed = _GRADIENT * before.norm() if name == _ALL else _TERM * before.abs() + least
        off = (found[name] - before).norm()
        if off > allowed:
            what = f"{off.item():.3g} off, of {before.norm().item():.3g}"
            raise TrainingError(f"--cuda-graph: replayed, the step's {name} is {what}; leave it out")


@contextmanager
def _fastest_kernels() -> Iterator[None]:
    """cuDNN measures which are: the shapes stay."""
    before = torch.backends.cudnn.benchmark
    torch.backends.cudnn.benchmark = True
    try:
        yield
    finally:
        torch.backends.cudnn.benchmark = before


def _parts(batch: Batch) -> tuple[Tensor, ...]:
    return batch.images, batch.labels, batch.outliers


def _held(model: nn.Module) -> dict[str, Tensor]:
    """The tensors that its modules have as buffers or plain attributes."""
    return {
        f"{name}.{key}".lstrip("."): value
        for name, module in model.named_modules()
        for key, value in [*module._buffers.items(), *vars(module).items()]
        if isinstance(value, Tensor)
    }
