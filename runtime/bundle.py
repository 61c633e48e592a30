"""A bundle on disk: a directory with manifest.json, model.onnx, pipeline.onnx, golden/ and card.md; data only."""

from __future__ import annotations

import dataclasses
import hashlib
import json
import shutil
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from runtime import atomic
from runtime.exceptions import BundleError, BundleNotFound, FileDamaged, GraphMismatch, ManifestInvalid, NotCalibrated
from runtime.manifest import FileEntry, GateSpec, Manifest

MANIFEST = "manifest.json"
MODEL = "model.onnx"
PIPELINE = "pipeline.onnx"
CARD = "card.md"
EVALUATION, HISTOGRAM, ROC, RISK_COVERAGE = "evaluation.json", "histogram.png", "roc.png", "risk_coverage.png"
FIGURES = (EVALUATION, HISTOGRAM, ROC, RISK_COVERAGE)  # what an evaluation adds


@dataclass(frozen=True)
class Tensor:
    """Element type in numpy's words, and shape; a dynamic dimension is None."""

    dtype: str
    shape: tuple[int | None, ...]

    def __str__(self) -> str:
        return f"{self.dtype} [{', '.join('N' if size is None else str(size) for size in self.shape)}]"


@dataclass(frozen=True)
class Signature:
    """A graph's face.

    Attributes:
        inputs, outputs: by name.
        manifest: what it carries; None if it carries none.
        built: whether this is an engine built from the graph, in which thresholds are constants and no inputs.
    """

    inputs: Mapping[str, Tensor]
    outputs: Mapping[str, Tensor]
    manifest: str | None
    built: bool = False


@dataclass(frozen=True)
class Bundle:
    """A verified bundle in memory.

    Attributes:
        path: its directory.
        manifest: what it says of itself.
        model: the bytes of model.onnx, whose hash is the manifest's.
    """

    path: Path
    manifest: Manifest
    model: bytes

    @classmethod
    def load(cls, path: str | Path) -> Bundle:
        """Read a bundle and check every file that the manifest lists against its size and SHA-256.

        Raises:
            BundleError: one of its subclasses, naming the file, what was expected and what was found.
        """
        path = Path(path)
        manifest = read_manifest(path)
        if MODEL not in manifest.files:
            raise ManifestInvalid(path / MANIFEST, f"files: expected an entry for {MODEL}, found none")
        model = _read_verified(path / MODEL, manifest.files[MODEL])
        for name, entry in manifest.files.items():
            if name != MODEL:
                _read_verified(path / name, entry)
        return cls(path, manifest, model)

    def gate(self, alpha: float | None = None) -> GateSpec:
        """The decision rule, at its default operating point or at that of `alpha`.

        Raises:
            NotCalibrated: it has none.
            UnknownOperatingPoint: none is stored for `alpha`.
        """
        gate = self.manifest.gate
        if gate is None:
            raise NotCalibrated(self.path / MANIFEST, "no threshold yet: run oodgate calibrate BUNDLE SOURCE")
        return gate if alpha is None else gate.at(alpha)

    def check_graph(self, signature: Signature) -> None:
        """Check that the graph's inputs, outputs and embedded manifest are those of manifest.json.

        An engine that was built from the graph has neither the inputs of thresholds nor a manifest.

        Raises:
            GraphMismatch: naming the tensor or the field.
        """
        spec, manifest = self.manifest.input, self.manifest
        inputs = {"images": Tensor("uint8", (None, spec.height, spec.width, 3))}
        if not signature.built:
            inputs["threshold"] = Tensor("float32", ())
            if manifest.gate and manifest.gate.class_conditional:
                inputs["class_thresholds"] = Tensor("float32", (len(manifest.labels),))
            if manifest.gate and manifest.gate.max_error:
                inputs["selection_threshold"] = Tensor("float32", ())
        logits = {"logits": Tensor("float32", (None, len(manifest.labels)))} if manifest.labels else {}
        outputs = {
            **logits,
            "penultimate": Tensor("float32", (None, manifest.model.features)),
            "scores": Tensor("float32", (None, len(manifest.scores))),
            "accept": Tensor("bool", (None,)),
        }
        for kind, expected, found in (
            ("input", inputs, signature.inputs),
            ("output", outputs, signature.outputs),
        ):
            for name, tensor in expected.items():
                if name not in found:
                    raise self._mismatch(f"{kind} {name!r} {tensor} is missing; the graph has {sorted(found)}")
                if found[name] != tensor:
                    raise self._mismatch(f"{kind} {name!r}: the manifest says {tensor}, the graph has {found[name]}")
        if signature.built:
            return
        if signature.manifest is None:
            raise self._mismatch("no manifest in the graph's metadata; export the bundle again")
        try:
            embedded = Manifest.from_json(signature.manifest)
        except ValueError as error:
            raise self._mismatch(f"the manifest in the graph's metadata is invalid: {error}") from error
        if embedded == manifest.embedded:
            return
        theirs = embedded.to_dict()
        for name, value in manifest.embedded.to_dict().items():
            if theirs[name] != value:
                raise self._mismatch(
                    f"{name} in the graph's metadata is not that of {MANIFEST}; one of them was edited"
                )

    def read(self, name: str) -> bytes:
        """The bytes of one of the manifest's files, checked against its size and SHA-256.

        Raises:
            BundleNotFound, FileDamaged
        """
        return _read_verified(self.path / name, self.manifest.files[name])

    def _mismatch(self, problem: str) -> GraphMismatch:
        return GraphMismatch(self.path / MODEL, problem)


def read_manifest(path: Path) -> Manifest:
    """The manifest of the bundle at `path`, without a look at its other files.

    Raises:
        BundleNotFound, ManifestInvalid
    """
    file = path / MANIFEST
    try:
        return Manifest.from_json(file.read_bytes())
    except OSError as error:
        raise BundleNotFound(file, f"not found; is {path} the directory of a bundle? ({error.strerror})") from error
    except ValueError as error:
        raise ManifestInvalid(file, str(error)) from error


def write(path: Path, manifest: Manifest, files: Mapping[str, bytes], documents: Mapping[str, bytes]) -> Bundle:
    """Write a bundle to a temporary sibling and rename it into place, replacing the bundle that was there.

    Of that go its documents and what its manifest lists; any other file stays. See :func:`runtime.atomic.writing` for what a
    killed process leaves.

    Args:
        path: the bundle's directory; must not exist, or be empty, or be a bundle.
        manifest: its `files` are replaced by the sizes and hashes of `files`, and of its `engines` those among these stay.
        files: what the runtime reads, by name, :data:`MODEL` among them; hashed into the manifest.
        documents: what people read, by name; free to be edited, so not hashed.

    Raises:
        BundleError: `path` is something else, which is then left alone, or can't be written.
    """
    path = path.resolve()
    replaced = check_place(path)
    engines = {name: spec for name, spec in manifest.engines.items() if name in files}
    manifest = dataclasses.replace(manifest, files={name: entry(data) for name, data in files.items()}, engines=engines)
    try:
        with atomic.writing(path) as folder:
            for name, data in {**documents, **files, MANIFEST: document(manifest)}.items():
                (folder / name).parent.mkdir(parents=True, exist_ok=True)
                (folder / name).write_bytes(data)
            _carry_over(path, folder, replaced)
    except OSError as error:
        raise BundleError(path, f"can't be written ({error.strerror or error})") from error
    return Bundle(path, manifest, files[MODEL])


def check_place(path: Path) -> set[str]:
    """The names of the files of a bundle that one written to a directory would replace.

    Raises:
        BundleError: something else is there.
    """
    replaced = _own_files(path)
    if replaced is None:
        raise BundleError(path.resolve(), "exists and is not a bundle; choose another directory")
    return replaced


def entry(data: bytes) -> FileEntry:
    """The manifest's entry for a file with these bytes."""
    return FileEntry(hashlib.sha256(data).hexdigest(), len(data))


def update(bundle: Bundle, manifest: Manifest, added: Mapping[str, bytes]) -> Bundle:
    """Give a bundle another manifest and further files, in place; a process killed meanwhile leaves a bundle that loads.

    The manifest is replaced once the files are there, and what it no longer lists is deleted last.

    Args:
        bundle: as it is.
        manifest: what it becomes: `files` lists what is added, and nothing that is there changes.
        added: the bytes of new files, by name.

    Raises:
        BundleError: the directory can't be written.
    """
    for name, data in added.items():
        _replace(bundle.path / name, data)
    _replace(bundle.path / MANIFEST, document(manifest))
    for name in bundle.manifest.files.keys() - manifest.files.keys():
        (bundle.path / name).unlink(missing_ok=True)
    return dataclasses.replace(bundle, manifest=manifest)


def write_documents(path: Path, documents: Mapping[str, bytes]) -> None:
    """Replace documents of a bundle, each by a rename; figures of an evaluation before that are not among them go.

    Raises:
        BundleError: the directory can't be written.
    """
    for name, data in documents.items():
        _replace(path / name, data)
    for name in set(FIGURES) - documents.keys():
        (path / name).unlink(missing_ok=True)


def document(manifest: Manifest) -> bytes:
    """The bytes of manifest.json."""
    return (manifest.to_json(indent=1) + "\n").encode()


def _replace(file: Path, data: bytes) -> None:
    """Write a file to a temporary sibling and rename it into place."""
    try:
        file.parent.mkdir(exist_ok=True)
        atomic.replace(file, data)
    except OSError as error:
        raise BundleError(file, f"can't be written ({error.strerror})") from error


def _own_files(path: Path) -> set[str] | None:
    """The names of a bundle's own files, of whatever schema version; none where nothing is, None of what is no bundle."""
    if not path.exists() or (path.is_dir() and not any(path.iterdir())):
        return set()
    try:
        found = json.loads((path / MANIFEST).read_bytes())
    except (OSError, ValueError):
        return None
    if not isinstance(found, dict) or "schema_version" not in found or not isinstance(found.get("files"), dict):
        return None
    return {MANIFEST, CARD, *FIGURES, *found["files"]}


def _carry_over(path: Path, folder: Path, replaced: set[str]) -> None:
    """Copy what is at a bundle's path and is not replaced into the folder that takes its place."""
    for file in path.rglob("*"):
        name = file.relative_to(path)
        if (file.is_file() or file.is_symlink()) and name.as_posix() not in replaced and not (folder / name).exists():
            (folder / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy2(file, folder / name, follow_symlinks=False)


def _read_verified(file: Path, entry: FileEntry) -> bytes:
    try:
        data = file.read_bytes()
    except OSError as error:
        raise BundleNotFound(file, f"the manifest lists it, but it can't be read ({error.strerror})") from error
    if len(data) != entry.bytes:
        raise FileDamaged(file, f"expected {entry.bytes:,} bytes, found {len(data):,}; copy or export the bundle again")
    digest = hashlib.sha256(data).hexdigest()
    if digest != entry.sha256:
        raise FileDamaged(
            file,
            f"expected SHA-256 {entry.sha256[:16]}.., found {digest[:16]}..; the file was changed, export it again",
        )
    return data
