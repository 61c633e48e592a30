"""config.pbtxt: what Triton is told of a model."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Literal

LABELS = "labels.txt"

Kind = Literal["auto", "gpu", "cpu"]


@dataclass(frozen=True)
class Tensor:
    """An input or output.

    Attributes:
        datatype: in the words of the Open Inference Protocol.
        shape: as clients see it, the images' dimension first, if it has one.
        optional: whether a request may leave it out.
        labelled: whether its columns are the classes.
    """

    name: str
    datatype: str
    shape: tuple[int, ...]
    optional: bool = False
    labelled: bool = False


@dataclass(frozen=True)
class Scheduling:
    """How Triton runs a model.

    Attributes:
        batch: the most images of a batch; 0 runs each request by itself, whatever its number of images.
        delay: microseconds that a batch waits for more images.
        instances: copies of the model, for each GPU where it is on GPUs.
        kind: where they are; ``auto`` takes GPUs where there are any.
    """

    batch: int = 64
    delay: int = 500
    instances: int = 1
    kind: Kind = "auto"


@dataclass(frozen=True)
class Config:
    """A model's configuration.

    Attributes:
        files: those of a model that has one for each compute capability, by ``8.9`` and the like.
        parameters: for the backend and for people.
    """

    name: str
    backend: str
    inputs: Sequence[Tensor]
    outputs: Sequence[Tensor]
    scheduling: Scheduling
    files: Mapping[str, str] = field(default_factory=dict)
    parameters: Mapping[str, str] = field(default_factory=dict)

    def text(self) -> str:
        """The file: protobuf's text format."""
        batch = self.scheduling.batch
        lines = [f"name: {_quoted(self.name)}", f"backend: {_quoted(self.backend)}", f"max_batch_size: {batch}"]
        for kind, tensors in (("input", self.inputs), ("output", self.outputs)):
            lines += [f"{kind} [", ",\n".join(_tensor(tensor, batched=batch > 0) for tensor in tensors), "]"]
        if batch:
            lines.append(f"dynamic_batching {{ max_queue_delay_microseconds: {self.scheduling.delay} }}")
        kind = f"KIND_{self.scheduling.kind.upper()}"
        lines.append(f"instance_group [ {{ count: {self.scheduling.instances} kind: {kind} }} ]")
        for key, file in self.files.items():
            lines.append(f"cc_model_filenames {{ key: {_quoted(key)} value: {_quoted(file)} }}")
        for key, value in self.parameters.items():
            lines.append(f"parameters {{ key: {_quoted(key)} value: {{ string_value: {_quoted(value)} }} }}")
        return "\n".join(lines) + "\n"


def _tensor(tensor: Tensor, *, batched: bool) -> str:
    """One tensor, of whose shape a model that batches leaves out the images' dimension.

    What then has no dimension at all is given one of 1, as Triton wants it: clients see [N, 1] in place of [N].
    """
    shape = tensor.shape[1:] if batched else tensor.shape
    fields = [f"name: {_quoted(tensor.name)}", f"data_type: TYPE_{_TYPES.get(tensor.datatype, tensor.datatype)}"]
    fields.append(f"dims: [ {', '.join(map(str, shape or (1,)))} ]")
    if batched and not shape:
        fields.append("reshape { shape: [ ] }")
    if tensor.optional:
        fields.append("optional: true")
    if tensor.labelled:
        fields.append(f"label_filename: {_quoted(LABELS)}")
    return f"  {{ {' '.join(fields)} }}"


_TYPES = {"BYTES": "STRING"}


def _quoted(text: str) -> str:
    """A string of the text format, in ASCII."""
    return json.dumps(text)
