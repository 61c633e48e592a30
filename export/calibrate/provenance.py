"""Which images may calibrate a gate, and the record of those that do."""

from __future__ import annotations

import dataclasses

import numpy as np
import numpy.typing as npt

from export.calibrate.options import GateOptions
from export.detectors import DETECTORS
from export.exceptions import ExportError
from export.images import leakage
from runtime.manifest import GateSpec, Manifest
from train.data import Images, ImageSet, SelectedImages, short_name

_FITTED = "fit, auto"
_NO_THRESHOLD = (leakage.QUANTISATION, leakage.CHOICE, leakage.TEMPERATURE)


def recorded(
    manifest: Manifest, images: ImageSet, title: str, training: ImageSet | None, options: GateOptions
) -> tuple[Manifest, list[str]]:
    """The manifest with sketches of the images that the gate learns from, and what is to be said of these, a line each.

    Raises:
        ExportError: images that the model learned from, and that are not allowed.
    """
    found = leakage.Fingerprints.of(images.images)
    if training is not None:
        manifest = leakage.record(manifest, _FITTED, str(options.fit), training.images)
    leaking = _leaking(manifest, title, found, options.allow_leakage)
    return leakage.record(manifest, "calibration", title, found), [*leaking, *_repeating(title, found)]


def role(options: GateOptions) -> str:
    """What images that choose are recorded as."""
    return leakage.CHOICE if options.chooses_score else leakage.TEMPERATURE


def still_chosen(manifest: Manifest, gate: GateSpec | None, options: GateOptions) -> Manifest:
    """The manifest without the records of images whose choice has no part in a gate any more.

    The temperature stays in the graph, whatever the score, until it is given or chosen anew, and in detectors that were
    fitted with it until they are fitted again; a score that was chosen is no longer in use where another one is named.

    Args:
        manifest: of the bundle.
        gate: the one that there was.
        options: what gate is wanted.
    """
    if options.temperature is None and not options.chooses_score and "energy" in manifest.scores:
        return manifest
    if any(own.get("temperature", 1) != 1 for name, own in manifest.score_parameters.items() if name != "energy"):
        return manifest  # of a detector that was fitted with the energy's
    gone = {leakage.TEMPERATURE}
    if options.chooses_score or (gate is not None and gate.score != options.score):
        gone.add(leakage.CHOICE)
    if _FITTED in manifest.data and DETECTORS.keys() & {*manifest.scores}:
        gone.discard(leakage.CHOICE)  # they chose settings of detectors too, made to unknown ones
    data = {role: spec for role, spec in manifest.data.items() if role.partition(",")[0] not in gone}
    return dataclasses.replace(manifest, data=data)


def unseen(manifest: Manifest, images: Images, positions: npt.NDArray[np.int64]) -> npt.NDArray[np.int64]:
    """The positions of the images that have neither quantised the graph nor chosen anything of the gate.

    Raises:
        ExportError: there are none.
    """
    part = SelectedImages(images, positions)
    seen = np.any([leakage.members(manifest, role, part) for role in _NO_THRESHOLD], axis=0)
    if seen.all():
        raise ExportError(
            "the graph was quantised with all of these images, or its score chosen: calibrate it on others"
        )
    return positions[np.logical_not(seen)]


def _leaking(manifest: Manifest, source: str, found: leakage.Fingerprints, allow: bool) -> list[str]:
    """A line for each set that was learned from and is among the images that are to calibrate."""
    learned = leakage.learned_from(manifest)
    messages = list(leakage.warnings(learned, manifest.model.name, short_name(source), found.exact, found.looks))
    if messages and not allow:
        raise ExportError(f"{messages[0]}; calibrate on images that it did not learn from, or pass --allow-leakage")
    return [
        f"{message}: they look more typical than new images, of which more will be rejected" for message in messages
    ]


def _repeating(title: str, found: leakage.Fingerprints) -> list[str]:
    """A line where more images than public sets have are copies of others."""
    copies = len(found.exact) - len(np.unique(found.exact))
    if copies <= leakage.TOLERANCE * len(found.exact):
        return []
    return [
        f"{title}: {copies:,} of {len(found.exact):,} images repeat another, pixel by pixel, and the promise takes each for "
        "a draw of its own: leave copies out, unless new images repeat each other as these do"
    ]
