"""The header of a run's checkpoint: what the run is of, and whether it is the one that is to go on."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Mapping
from typing import Any

from runtime.manifest import InputSpec
from train import methods
from train.checkpoint import Checkpoint, Header
from train.data import ImageSet
from train.data.sketches import Fingerprints
from train.distributed import World
from train.exceptions import CheckpointError
from train.loop.trainer import Trainer
from train.models import Origin, Start


def begun(
    trainer: Trainer,
    spec: InputSpec,
    data: ImageSet,
    network: Start | Origin | None,
    world: World,
    sources: Mapping[str, Any],
) -> Header:
    """Of a run that has not begun."""
    config, task = trainer.config, trainer.method.task
    return Header(
        arch=config.arch,
        task=task,
        labels=() if task == "unlabelled" else data.classes,
        input=spec,
        method=config.method,
        hyperparameters={**dataclasses.asdict(config), "processes": world.size},
        sources=dict(sources),
        origin=network.origin if isinstance(network, Start) else network,
    )


def resumed(expected: Header, found: Header) -> Header:
    """Of a run that goes on.

    Args:
        expected: as it would begin now.
        found: that of its checkpoint.

    Raises:
        CheckpointError: it is of other settings, or another start is given.
    """
    _check_same_run(expected, found)
    return dataclasses.replace(found, sources=_sources(expected.sources, found.sources))


def _sources(now: Mapping[str, Any], before: Mapping[str, Any]) -> dict[str, Any]:
    """Those of a run that goes on, its start that which it had; a file that is not there any more has its name alone.

    Raises:
        CheckpointError: another start is given.
    """
    given, had = now.get("init"), before.get("init")
    if given and (had is None or any(given.get(key) != had[key] for key in had if key in given or key != "sha256")):
        raise CheckpointError(
            f"can't resume: it started from {'other weights than those of --init' if had else 'no weights'}; leave --init "
            "out, or train into another --out"
        )
    return {**now, "init": had} if had else dict(now)


def with_images(header: Header, data: ImageSet, outliers: ImageSet | None, init: Checkpoint | None) -> Header:
    """With what the run learns from, and what it starts from did, so that nobody evaluates or calibrates on it.

    Raises:
        CheckpointError: a run that goes on began with others.
    """
    names = {"training": header.sources.get("data", ""), "auxiliary": ", ".join(header.sources.get("aux", ()))}
    specs, digests = dict(header.data), dict(header.digests)
    for role, images in (("training", data), ("auxiliary", outliers)):
        if images is None:
            continue
        found = Fingerprints.of(images.images)
        digest, spec = found.digest(images.labels), found.describe(names[role], exact=False)
        if header.step and role not in digests:
            raise CheckpointError(
                f"can't resume: an earlier version made it, without a digest of its {role} images; train into another --out"
            )
        if digests.setdefault(role, digest) != digest:
            raise CheckpointError(
                f"can't resume: the {spec.images:,} {role} images of {spec.source}, their labels or their order are not "
                f"those of the {specs[role].images:,} of {specs[role].source} that it began with; train into another --out"
            )
        specs.setdefault(role, spec)
    known = {spec.looks for spec in specs.values()}
    before = init.header.data if init else {}
    inherited = {f"init, {role}": spec for role, spec in before.items() if spec.looks not in known}
    return dataclasses.replace(header, data={**specs, **inherited}, digests=digests)


def _check_same_run(expected: Header, found: Header) -> None:
    """Raises CheckpointError naming the first setting that is not the same."""
    now, before = _settings(expected), _settings(found)
    for name in (*now, *before):
        if now.get(name) != before.get(name):
            raise CheckpointError(
                f"can't resume: {name} was {before.get(name)}, now {now.get(name)}; give it as before, or train into another "
                "--out"
            )


def _settings(header: Header) -> dict[str, Any]:
    """What must stay, by name and as JSON has it: tuples are lists."""
    plain: dict[str, Any] = json.loads(json.dumps(dataclasses.asdict(header)))
    chosen: dict[str, Any] = {name: plain[name] for name in ("arch", "labels", "method")} | plain["hyperparameters"]
    method = dataclasses.asdict(
        methods.make(header.method, chosen.pop("method_options", {}))
    )  # one given at its default too
    own = {f"--set {name}": value for name, value in method.items()}
    return chosen | own | {f"input.{name}": value for name, value in plain["input"].items()}
