"""What is known of a classifier beside its weights, from whoever knows it, and what is still missing."""

from __future__ import annotations

import dataclasses
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

from runtime.manifest import Channels, Colour, Corner, InputSpec, Interpolation, Resampler, Resize, Task
from train.exceptions import ModelError

# What most models of photographs were trained with, for messages: nothing takes it unasked.
_USUAL = {
    "labels": "--labels FILE, one class name a line in the logits' order",
    "size": "--size 224",
    "mean": "--mean 0.485 0.456 0.406",
    "std": "--std 0.229 0.224 0.225",
    "resize-to": "--resize-to 256",
}
GREY_FIRST = (
    "its own transform makes images grey before it resizes them, the bundle after: pixels may differ by a level or two"
)
_RESIZING = ("resize", "resize_to", "crop_fraction", "fill")


@dataclass(frozen=True)
class Description:
    """Labels, task and input of a classifier; None where nothing is said of it.

    Attributes:
        labels: class names, in the order of the logits; what they are does not matter for the task ``unlabelled``.
        size: height and width.
        mean, std: of one, three or four channels: R, G, B and alpha.
        naming: where the labels are from, a line each; goes with them.
        remarks: what else was found, taken or assumed, a line each.

    The others are those of :class:`runtime.manifest.InputSpec`.
    """

    labels: tuple[str, ...] | None = None
    task: Task | None = None
    size: tuple[int, int] | None = None
    mean: tuple[float, ...] | None = None
    std: tuple[float, ...] | None = None
    resize: Resize | None = None
    resize_to: int | tuple[int, int] | None = None
    crop_fraction: float | None = None
    corner: Corner | None = None
    fill: tuple[int, int, int] | None = None
    interpolation: Interpolation | None = None
    resampler: Resampler | None = None
    colour: Colour | None = None
    channels: Channels | None = None
    naming: tuple[str, ...] = ()
    remarks: tuple[str, ...] = ()

    @classmethod
    def of_input(cls, spec: InputSpec) -> Description:
        """What says no more than a specification does; of ``rgb`` nothing, as a network of one channel finds itself out."""
        mean, std = (
            (spec.mean, spec.std)
            if spec.channels != "rgba"
            else ((*spec.mean, 1 - spec.opaque), (*spec.std, 1.0))  # of alpha, so that an opaque image's is `opaque`
        )
        return cls(
            size=(spec.height, spec.width),
            mean=mean,
            std=std,
            resize=spec.resize,
            resize_to=spec.resize_to,
            crop_fraction=spec.crop_fraction,
            corner=spec.corner,
            fill=spec.fill,
            interpolation=spec.interpolation,
            resampler=spec.resampler,
            colour=spec.colour,
            channels=None if spec.channels == "rgb" else spec.channels,
        )

    def over(self, other: Description) -> Description:
        """This one, and `other` where it says nothing; how to resize goes together, and labels with where they are from."""
        known = {name: value for name, value in vars(self).items() if value is not None}
        if self.resize:
            known |= {name: getattr(self, name) for name in _RESIZING}
        known["naming"] = other.naming if self.labels is None else self.naming
        known["remarks"] = self.remarks + other.remarks
        return dataclasses.replace(other, **known)

    @property
    def lines(self) -> tuple[str, ...]:
        """What there is to say of it: where its labels are from, and its remarks."""
        return (() if self.task == "unlabelled" else self.naming) + self.remarks

    def missing(self) -> tuple[str, ...]:
        """The options that would have to say what nothing else says."""
        needed = {
            "labels": () if self.task == "unlabelled" else self.labels,
            "size": self.size,
            "mean": self.mean,
            "std": self.std,
            "resize-to": self.resize,
        }
        return tuple(option for option, value in needed.items() if value is None)

    def input(self, who: str = "--model") -> InputSpec:
        """The complete specification of its input; `who` needs what is missing.

        Raises:
            ModelError: something is missing, or makes no sense.
        """
        if self.missing() or self.size is None or self.mean is None or self.std is None or self.resize is None:
            raise ModelError(needs(self.missing(), who))
        try:
            if self.fill and self.resize == "center":
                raise ValueError("center leaves nothing to fill; --resize border does")
            mean, std = (three(name, getattr(self, name)) for name in ("mean", "std"))
            return InputSpec(
                *self.size,
                mean,
                std,
                resize=self.resize,
                resize_to=self.resize_to,
                crop_fraction=1.0 if self.crop_fraction is None else self.crop_fraction,
                fill=self.fill,
                channels=self.channels or "rgb",
                interpolation=self.interpolation or "bilinear",
                colour=self.colour or "srgb",
                corner=self.corner or "round",
                resampler="pillow" if self.resize == "center" else self.resampler or "pillow",
                opaque=self._opaque(),
            )
        except ValueError as error:
            raise ModelError(f"the input's options: {error}") from error

    def _opaque(self) -> float:
        """What the network sees as the fourth channel of an opaque image."""
        if self.channels != "rgba" or self.mean is None or self.std is None:
            return 1.0
        if len(self.mean) != 4 or len(self.std) != 4 or not self.std[3] > 0:
            raise ValueError("rgba needs four values of mean and std, the last of alpha in [0, 1]")
        return (1 - self.mean[3]) / self.std[3]


def needs(missing: Sequence[str], who: str = "--model") -> str:
    """What to say where options are missing, all at once, with what each would be in the usual case."""
    options = [f"--{option}" for option in missing]
    listed = " and ".join(filter(None, (", ".join(options[:-1]), options[-1])))
    usual = " ".join(_USUAL[option] for option in missing if option != "labels")
    parts = [f"{who} needs {listed} too: nothing else says how the model was trained"]
    if usual:
        parts.append(f"of most ImageNet models it is {usual}")
    if "mean" in missing or "std" in missing:
        parts.append("0 and 1 stand for pixels from 0 to 1, 0.5 and 0.5 from -1 to 1, 0 and 0.00392157 from 0 to 255")
    if "labels" in missing:
        parts.append(_USUAL["labels"])
    return "; ".join(parts)


def named(labels: Sequence[str], source: str) -> Description:
    """Labels as a model's files have them, made distinct by their index where two are equal."""
    counts = Counter(labels)
    twice = [label for label, count in counts.items() if count > 1]
    distinct = tuple(f"{label} ({index})" if counts[label] > 1 else label for index, label in enumerate(labels))
    shared = (f"labels that several classes share got their index: {', '.join(twice[:3])}",) if twice else ()
    first = ", ".join(distinct[:3])
    return Description(labels=distinct, naming=(f"{len(distinct)} labels from {source}: {first} ...", *shared))


def check_labels(labels: Sequence[str]) -> None:
    """Raises ModelError for labels that are not distinct."""
    if repeated := [label for label, count in Counter(labels).items() if count > 1]:
        raise ModelError(f"labels must be distinct, found {repeated[0]!r} twice; tell the two apart")


def three(name: str, values: Sequence[float]) -> tuple[float, float, float]:
    """Of R, G and B, where one value may stand for all and a fourth is of alpha.

    Raises:
        ValueError: another number of values.
    """
    if len(values) == 1:
        return values[0], values[0], values[0]
    if len(values) not in (3, 4):
        raise ValueError(f"{name} must be of 1, 3 or 4 channels, found {len(values)} values")
    return values[0], values[1], values[2]
