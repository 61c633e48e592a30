"""Bundles on disk: every kind of damage is one typed error that names the file; writing never loses a bundle."""

from __future__ import annotations

import dataclasses
import hashlib
import json
import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import onnx
import pytest

from runtime import Gate, bundle
from runtime.bundle import CARD, MANIFEST, MODEL, Bundle, Signature, Tensor
from runtime.exceptions import (
    BundleError,
    BundleNotFound,
    FileDamaged,
    GraphMismatch,
    ManifestInvalid,
)
from runtime.gate import load_engine
from runtime.manifest import Manifest

Damage = Callable[[Path], object]


def document_with(change: Callable[[Any], None]) -> Damage:
    """Edits manifest.json, leaving the graph alone."""

    def damage(path: Path) -> None:
        document = json.loads((path / MANIFEST).read_text())
        change(document)
        (path / MANIFEST).write_text(json.dumps(document))

    return damage


def manifest_with(**fields: Any) -> Damage:
    """Sets fields of manifest.json; `gate__alpha` is alpha of gate."""

    def change(document: Any) -> None:
        for dotted, value in fields.items():
            *parents, last = dotted.split("__")
            owner = document
            for name in parents:
                owner = owner[name]
            owner[last] = value

    return document_with(change)


def model_with(edit: Callable[[bytes], bytes], *, rehash: bool = False) -> Damage:
    """Edits the bytes of model.onnx and, if `rehash`, makes the manifest agree."""

    def damage(path: Path) -> None:
        data = edit((path / MODEL).read_bytes())
        (path / MODEL).write_bytes(data)
        if rehash:
            manifest_with(files={MODEL: {"sha256": hashlib.sha256(data).hexdigest(), "bytes": len(data)}})(path)

    return damage


def metadata_with(edit: Callable[[str], str | None]) -> Damage:
    """Edits the manifest inside the graph and corrects the hash; None removes it."""

    def change(data: bytes) -> bytes:
        model = onnx.load_from_string(data)
        (entry,) = (item for item in model.metadata_props if item.key == "oodgate")
        value = edit(entry.value)
        if value is None:
            model.metadata_props.remove(entry)
        else:
            entry.value = value
        return bytes(model.SerializeToString())

    return model_with(change, rehash=True)


def flip_last_bit(data: bytes) -> bytes:
    return data[:-1] + bytes([data[-1] ^ 1])


def without_threshold_input(data: bytes) -> bytes:
    """The threshold stays a constant, which a caller can't override."""
    model = onnx.load_from_string(data)
    (entry,) = (item for item in model.graph.input if item.name == "threshold")
    model.graph.input.remove(entry)
    return bytes(model.SerializeToString())


def directory_instead(name: str) -> Damage:
    def damage(path: Path) -> None:
        (path / name).unlink()
        (path / name).mkdir()

    return damage


def drop_last_score(document: Any) -> None:
    del document["calibration"]["quantiles"][document["scores"].pop()]


def rename_last_score(document: Any) -> None:
    quantiles = document["calibration"]["quantiles"]
    quantiles["norm"] = quantiles.pop(document["scores"].pop())
    document["scores"].append("norm")


def lower_a_quantile(document: Any) -> None:
    document["calibration"]["quantiles"]["energy"][0] -= 1


def list_another_file(document: Any) -> None:
    document["files"]["engines/a"] = {"sha256": "", "bytes": 0}


DAMAGES: dict[str, tuple[Damage, type[BundleError], str, str]] = {
    "no manifest": (lambda path: (path / MANIFEST).unlink(), BundleNotFound, MANIFEST, "not found"),
    "manifest is a directory": (directory_instead(MANIFEST), BundleError, MANIFEST, "directory"),
    "manifest empty": (lambda path: (path / MANIFEST).write_text(""), ManifestInvalid, MANIFEST, "Expecting value"),
    "manifest cut": (
        lambda path: (path / MANIFEST).write_bytes((path / MANIFEST).read_bytes()[:500]),
        ManifestInvalid,
        MANIFEST,
        "line",
    ),
    "manifest binary": (lambda path: (path / MANIFEST).write_bytes(b"\x80\xff"), ManifestInvalid, MANIFEST, "decode"),
    "manifest nested deeply": (
        lambda path: (path / MANIFEST).write_text("[" * 100_000),
        ManifestInvalid,
        MANIFEST,
        ".",
    ),
    "unknown schema version": (manifest_with(schema_version=2), ManifestInvalid, MANIFEST, "expected 1, found 2"),
    "unknown field": (manifest_with(gate__colour="red"), ManifestInvalid, MANIFEST, "gate.colour: unknown field"),
    "wrong type": (manifest_with(model__features="8"), ManifestInvalid, MANIFEST, "model.features: expected .* int"),
    "number too large": (manifest_with(gate__threshold=10**400), ManifestInvalid, MANIFEST, "gate.threshold"),
    "threshold NaN": (manifest_with(gate__threshold=math.nan), ManifestInvalid, MANIFEST, "threshold .* found nan"),
    "gate score unknown": (manifest_with(gate__score="entropy"), ManifestInvalid, MANIFEST, "'entropy', not one of"),
    "model not listed": (manifest_with(files={}), ManifestInvalid, MANIFEST, f"entry for {MODEL}"),
    "no model": (lambda path: (path / MODEL).unlink(), BundleNotFound, MODEL, "the manifest lists it"),
    "model is a directory": (directory_instead(MODEL), BundleNotFound, MODEL, "can't be read"),
    "listed file missing": (document_with(list_another_file), BundleNotFound, "engines/a", "can't be read"),
    "model edited": (model_with(flip_last_bit), FileDamaged, MODEL, r"expected SHA-256 \w{16}\.\., found \w{16}\.\."),
    "model truncated": (model_with(lambda data: data[:-100]), FileDamaged, MODEL, r"expected [\d,]+ bytes, found"),
    "model grown": (model_with(lambda data: data + b"\0"), FileDamaged, MODEL, r"expected [\d,]+ bytes, found"),
    "model empty": (model_with(lambda _: b""), FileDamaged, MODEL, "found 0"),
    "model truncated, hash corrected": (
        model_with(lambda data: data[: len(data) // 2], rehash=True),
        GraphMismatch,
        MODEL,
        "can't load",
    ),
    "model empty, hash corrected": (model_with(lambda _: b"", rehash=True), GraphMismatch, MODEL, "can't load"),
    "model is text, hash corrected": (
        model_with(lambda _: b"not a graph", rehash=True),
        GraphMismatch,
        MODEL,
        "can't load",
    ),
    "labels too few": (manifest_with(labels=["cat", "dog"]), GraphMismatch, MODEL, r"'logits'.*\[N, 2\].*\[N, 3\]"),
    "labels too many": (manifest_with(labels=list("abcd")), GraphMismatch, MODEL, r"'logits'.*\[N, 4\].*\[N, 3\]"),
    "labels edited": (manifest_with(labels=["cat", "dog", "car"]), GraphMismatch, MODEL, "labels in the graph's"),
    "features differ": (manifest_with(model__features=9), GraphMismatch, MODEL, r"'penultimate'.*\[N, 9\].*\[N, 8\]"),
    "input size differs": (manifest_with(input__height=17), GraphMismatch, MODEL, r"'images'.*\[N, 17, 16, 3\]"),
    "mean edited": (manifest_with(input__mean=[0, 0, 0]), GraphMismatch, MODEL, "input in the graph's metadata"),
    "scores fewer": (document_with(drop_last_score), GraphMismatch, MODEL, r"'scores'.*\[N, 5\].*\[N, 6\]"),
    "scores renamed": (document_with(rename_last_score), GraphMismatch, MODEL, "scores in the graph's metadata"),
    "threshold edited": (manifest_with(gate__threshold=0.5), GraphMismatch, MODEL, "gate in the graph's metadata"),
    "gate score edited": (manifest_with(gate__score="msp"), GraphMismatch, MODEL, "gate in the graph's metadata"),
    "calibration edited": (document_with(lower_a_quantile), GraphMismatch, MODEL, "calibration in the graph's"),
    "task edited": (manifest_with(task="multilabel"), GraphMismatch, MODEL, "task in the graph's metadata"),
    "metadata missing": (metadata_with(lambda _: None), GraphMismatch, MODEL, "no manifest in the graph's metadata"),
    "metadata not JSON": (metadata_with(lambda text: text[:-1]), GraphMismatch, MODEL, "metadata is invalid"),
    "metadata of another version": (
        metadata_with(lambda text: text.replace('"schema_version": 1', '"schema_version": 7')),
        GraphMismatch,
        MODEL,
        "metadata is invalid: schema_version: expected 1, found 7",
    ),
    "metadata edited": (
        metadata_with(lambda text: text.replace('"name": "small"', '"name": "other"')),
        GraphMismatch,
        MODEL,
        "model in the graph's metadata",
    ),
    "threshold can't be overridden": (
        model_with(without_threshold_input, rehash=True),
        GraphMismatch,
        MODEL,
        "threshold",
    ),
}


# --- loading


@pytest.mark.parametrize("name", DAMAGES)
def test_damage_is_one_typed_error_that_names_the_file(name: str, bundle_dir: Path) -> None:
    damage, kind, file, message = DAMAGES[name]
    damage(bundle_dir)
    with pytest.raises(BundleError, match=message) as caught:
        Gate.load(bundle_dir, threads=1)
    assert isinstance(caught.value, kind)
    assert caught.value.path == bundle_dir / file
    assert str(caught.value).startswith(f"{bundle_dir / file}: ")


def test_a_sound_bundle_loads(bundle_dir: Path, shared_bundle: Bundle) -> None:
    loaded = Bundle.load(bundle_dir)
    assert loaded == dataclasses.replace(shared_bundle, path=bundle_dir)


def test_a_path_may_be_a_string(bundle_dir: Path) -> None:
    assert Bundle.load(str(bundle_dir)).path == bundle_dir


def test_a_moved_bundle_loads(bundle_dir: Path, tmp_path: Path) -> None:
    moved = bundle_dir.rename(tmp_path / "moved")
    assert Gate.load(moved, threads=1).manifest.model.name == "small"


def test_documents_may_be_edited_and_removed(bundle_dir: Path) -> None:
    (bundle_dir / CARD).write_text("mine")
    (bundle_dir / "notes.txt").write_text("more")
    Bundle.load(bundle_dir)
    (bundle_dir / CARD).unlink()
    Bundle.load(bundle_dir)


def test_a_path_that_does_not_exist(tmp_path: Path) -> None:
    with pytest.raises(BundleNotFound, match="nowhere the directory of a bundle") as caught:
        Bundle.load(tmp_path / "nowhere")
    assert caught.value.path == tmp_path / "nowhere" / MANIFEST


def test_a_path_that_is_a_file(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("text")
    with pytest.raises(BundleNotFound, match="file the directory of a bundle"):
        Bundle.load(tmp_path / "file")


def test_a_directory_that_is_no_bundle(tmp_path: Path) -> None:
    with pytest.raises(BundleNotFound, match="the directory of a bundle"):
        Bundle.load(tmp_path)


@pytest.mark.parametrize("name", ["x" * 5000, "nul\0byte"], ids=["too long", "nul"])
def test_a_path_that_can_not_exist(name: str) -> None:
    with pytest.raises(BundleError):
        Bundle.load(name)


def test_every_listed_file_is_verified(shared_bundle: Bundle, tmp_path: Path) -> None:
    path = tmp_path / "bundle"
    bundle.write(path, shared_bundle.manifest, {MODEL: shared_bundle.model, "engines/a.engine": b"engine"}, {})
    Bundle.load(path)
    (path / "engines/a.engine").write_bytes(b"Engine")
    with pytest.raises(FileDamaged) as caught:
        Bundle.load(path)
    assert caught.value.path == path / "engines/a.engine"


def test_a_listed_file_outside_the_bundle_is_not_read(bundle_dir: Path, tmp_path: Path) -> None:
    outside = tmp_path / "outside"
    outside.write_bytes(b"secret")
    entry = {"sha256": hashlib.sha256(b"secret").hexdigest(), "bytes": 6}
    document_with(lambda document: document["files"].update({"../outside": entry}))(bundle_dir)
    with pytest.raises(ManifestInvalid):
        Bundle.load(bundle_dir)


# --- the graph's signature


@pytest.fixture
def signature(shared_bundle: Bundle) -> Signature:
    return load_engine(shared_bundle, threads=1).signature


def test_the_graphs_own_signature_passes(shared_bundle: Bundle, signature: Signature) -> None:
    shared_bundle.check_graph(signature)


@pytest.mark.parametrize("name", ["logits", "penultimate", "scores", "accept"])
def test_a_missing_output_is_named(name: str, shared_bundle: Bundle, signature: Signature) -> None:
    outputs = {key: tensor for key, tensor in signature.outputs.items() if key != name}
    with pytest.raises(GraphMismatch, match=f"output '{name}' .* is missing"):
        shared_bundle.check_graph(dataclasses.replace(signature, outputs=outputs))


def test_a_missing_input_is_named(shared_bundle: Bundle, signature: Signature) -> None:
    with pytest.raises(GraphMismatch, match=r"input 'images' uint8 \[N, 16, 16, 3\] is missing"):
        shared_bundle.check_graph(dataclasses.replace(signature, inputs={}))


@pytest.mark.parametrize(
    ("name", "tensor"),
    [
        ("logits", Tensor("float16", (None, 3))),
        ("logits", Tensor("float32", (1, 3))),
        ("logits", Tensor("float32", (None, None))),
        ("penultimate", Tensor("float32", (None, 8, 1))),
        ("scores", Tensor("float64", (None, 6))),
        ("accept", Tensor("uint8", (None,))),
        ("accept", Tensor("bool", (None, 1))),
    ],
    ids=str,
)
def test_an_output_of_another_type_or_shape_is_named(
    name: str, tensor: Tensor, shared_bundle: Bundle, signature: Signature
) -> None:
    with pytest.raises(GraphMismatch, match=f"output '{name}': the manifest says"):
        shared_bundle.check_graph(dataclasses.replace(signature, outputs={**signature.outputs, name: tensor}))


@pytest.mark.parametrize(
    "tensor",
    [
        Tensor("float32", (None, 16, 16, 3)),
        Tensor("uint8", (1, 16, 16, 3)),
        Tensor("uint8", (None, 3, 16, 16)),
        Tensor("uint8", (None, None, None, 3)),
    ],
    ids=str,
)
def test_an_input_of_another_type_or_shape_is_named(
    tensor: Tensor, shared_bundle: Bundle, signature: Signature
) -> None:
    with pytest.raises(GraphMismatch, match="input 'images': the manifest says"):
        shared_bundle.check_graph(dataclasses.replace(signature, inputs={**signature.inputs, "images": tensor}))


def test_further_outputs_are_no_fault(shared_bundle: Bundle, signature: Signature) -> None:
    outputs = {**signature.outputs, "attention": Tensor("float32", (None, 4))}
    shared_bundle.check_graph(dataclasses.replace(signature, outputs=outputs))


# --- writing


@pytest.fixture
def manifest(shared_bundle: Bundle) -> Manifest:
    return shared_bundle.manifest


def entries(path: Path) -> set[str]:
    """Everything under a folder, hidden or not."""
    return {str(file.relative_to(path)) for file in path.rglob("*")}


def test_what_is_written_loads(manifest: Manifest, tmp_path: Path) -> None:
    written = bundle.write(tmp_path / "new", manifest, {MODEL: b"graph"}, {CARD: b"card"})
    assert Bundle.load(tmp_path / "new") == written


def test_files_are_hashed_into_the_manifest(manifest: Manifest, tmp_path: Path) -> None:
    written = bundle.write(tmp_path / "new", manifest, {MODEL: b"abc", "engines/a": b""}, {CARD: b"card"})
    assert {name: (entry.sha256, entry.bytes) for name, entry in written.manifest.files.items()} == {
        MODEL: ("ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad", 3),
        "engines/a": ("e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855", 0),
    }


def test_only_what_was_given_is_written(manifest: Manifest, tmp_path: Path) -> None:
    bundle.write(tmp_path / "new", manifest, {MODEL: b"graph", "engines/a": b"x"}, {CARD: b"card"})
    assert entries(tmp_path) == {"new", *(f"new/{name}" for name in (MANIFEST, MODEL, CARD, "engines", "engines/a"))}


def test_missing_parents_are_made(manifest: Manifest, tmp_path: Path) -> None:
    assert bundle.write(tmp_path / "a/b/c", manifest, {MODEL: b""}, {}).path.is_dir()


def test_an_empty_directory_is_used(manifest: Manifest, tmp_path: Path) -> None:
    (tmp_path / "new").mkdir()
    bundle.write(tmp_path / "new", manifest, {MODEL: b"graph"}, {})
    assert Bundle.load(tmp_path / "new").model == b"graph"


def test_a_bundle_is_replaced_whole(manifest: Manifest, tmp_path: Path) -> None:
    bundle.write(tmp_path / "b", manifest, {MODEL: b"old", "engines/a": b"x"}, {CARD: b"old"})
    bundle.write(tmp_path / "b", manifest, {MODEL: b"new"}, {})
    assert entries(tmp_path) == {"b", f"b/{MANIFEST}", f"b/{MODEL}"}
    assert Bundle.load(tmp_path / "b").model == b"new"


def test_what_is_not_the_bundles_own_stays(manifest: Manifest, tmp_path: Path) -> None:
    bundle.write(tmp_path / "b", manifest, {MODEL: b"old", "engines/a": b"x"}, {CARD: b"old", "roc.png": b"old"})
    mine = {"source.onnx": b"weights", "docs/plot.png": b"png", "engines/readme": b"text"}
    for name, data in mine.items():
        (tmp_path / "b" / name).parent.mkdir(exist_ok=True)
        (tmp_path / "b" / name).write_bytes(data)
    (tmp_path / "b/link").symlink_to("nowhere")
    bundle.write(tmp_path / "b", manifest, {MODEL: b"new"}, {})
    folders = {"b", "b/docs", "b/engines", "b/link"}
    assert entries(tmp_path) == folders | {f"b/{name}" for name in (MANIFEST, MODEL, *mine)}
    assert {name: (tmp_path / "b" / name).read_bytes() for name in mine} == mine
    assert (tmp_path / "b/link").readlink() == Path("nowhere")


def test_a_directory_of_something_else_is_left_alone(manifest: Manifest, tmp_path: Path) -> None:
    (tmp_path / "photos").mkdir()
    (tmp_path / "photos/a.jpg").write_bytes(b"mine")
    with pytest.raises(BundleError, match="exists and is not a bundle; choose another") as caught:
        bundle.write(tmp_path / "photos", manifest, {MODEL: b""}, {})
    assert caught.value.path == tmp_path / "photos"
    assert entries(tmp_path) == {"photos", "photos/a.jpg"}


def test_a_file_is_left_alone(manifest: Manifest, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("mine")
    with pytest.raises(BundleError, match="exists and is not a bundle"):
        bundle.write(tmp_path / "file", manifest, {MODEL: b""}, {})
    assert (tmp_path / "file").read_text() == "mine"


def test_a_write_that_fails_half_way_leaves_the_old_bundle(manifest: Manifest, tmp_path: Path) -> None:
    bundle.write(tmp_path / "b", manifest, {MODEL: b"old"}, {CARD: b"old"})
    before = entries(tmp_path)
    with pytest.raises(BundleError, match="can't be written"):
        bundle.write(tmp_path / "b", manifest, {MODEL: b"new"}, {CARD: b"", f"{CARD}/below-a-file": b""})
    assert entries(tmp_path) == before
    assert Bundle.load(tmp_path / "b").model == b"old"


def test_a_rename_that_fails_puts_the_old_bundle_back(
    manifest: Manifest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    bundle.write(tmp_path / "b", manifest, {MODEL: b"old"}, {})
    before = entries(tmp_path)
    replace = Path.replace

    def fail_for_the_new_one(self: Path, target: Path) -> Path:
        if (self / MODEL).read_bytes() == b"new":
            raise OSError("no space")
        return replace(self, target)

    monkeypatch.setattr(Path, "replace", fail_for_the_new_one)
    with pytest.raises(BundleError, match="no space"):
        bundle.write(tmp_path / "b", manifest, {MODEL: b"new"}, {})
    assert entries(tmp_path) == before
    assert Bundle.load(tmp_path / "b").model == b"old"


def test_the_current_directory_can_be_replaced(
    manifest: Manifest, bundle_dir: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(bundle_dir)
    bundle.write(Path(), manifest, {MODEL: b"new"}, {})
    monkeypatch.chdir(bundle_dir.parent)
    assert Bundle.load(bundle_dir).model == b"new"


def test_a_bundle_behind_a_link_is_replaced_without_a_trace(
    manifest: Manifest, bundle_dir: Path, tmp_path: Path
) -> None:
    (tmp_path / "link").symlink_to(bundle_dir)
    bundle.write(tmp_path / "link", manifest, {MODEL: b"new"}, {})
    assert Bundle.load(tmp_path / "link").model == b"new"
    assert {file.name for file in tmp_path.iterdir()} == {bundle_dir.name, "link"}


def test_a_manifest_can_be_read_without_its_files(bundle_dir: Path, shared_bundle: Bundle) -> None:
    (bundle_dir / MODEL).unlink()
    assert bundle.read_manifest(bundle_dir) == shared_bundle.manifest


def test_a_directory_with_another_kind_of_manifest_is_left_alone(tmp_path: Path, shared_bundle: Bundle) -> None:
    (tmp_path / "app").mkdir()
    (tmp_path / "app" / MANIFEST).write_text('{"name": "web app"}')
    with pytest.raises(BundleError, match="exists and is not a bundle"):
        bundle.write(tmp_path / "app", shared_bundle.manifest, {MODEL: shared_bundle.model}, {})
    assert (tmp_path / "app" / MANIFEST).read_text() == '{"name": "web app"}'


def test_documents_are_replaced_and_the_rest_stays(bundle_dir: Path) -> None:
    (bundle_dir / "notes.md").write_text("mine")
    (bundle_dir / "roc.png").write_bytes(b"of an evaluation before")
    bundle.write_documents(bundle_dir, {CARD: b"new"})
    assert not (bundle_dir / "roc.png").exists()
    assert (bundle_dir / CARD).read_text() == "new"
    assert (bundle_dir / "notes.md").read_text() == "mine"
    assert not list(bundle_dir.glob(".*"))
    Gate.load(bundle_dir, threads=1)
