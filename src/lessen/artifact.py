"""A model folder: weights, widths and a manifest that says what it is, where it came from and how to check it.

Layout of a folder::

    lessen.json         the manifest (format, runtime, ModelInfo, history, SHA-256 of every other file)
    config.json         the transformers configuration (torch artifacts)
    model.safetensors   weights (torch artifacts); model.onnx (onnx artifacts)
    tokenizer.json, tokenizer_config.json | preprocessor_config.json

Imports no torch, so that a shipped artifact answers without it.
"""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np
from pydantic import BaseModel, ConfigDict, ValidationError

from lessen import plugins
from lessen.context import digest, file_digest, write_atomic
from lessen.errors import ArtifactError
from lessen.info import Floats, ModelInfo

if TYPE_CHECKING:
    from lessen.generator import Generator
    from lessen.processors import Processor

MANIFEST = "lessen.json"
CARD = "README.md"  # for people: nothing is computed from it, and it may be written anew (`recard`)
FORMAT = 1


class Manifest(BaseModel):
    """The manifest of a model folder."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    format: int = FORMAT
    runtime: str  # a file of runtimes/
    info: ModelInfo
    stage: str  # the stage that wrote it
    key: str = ""  # digest of source, settings, data and code version: unchanged, it need not be made again
    history: tuple[dict[str, Any], ...] = ()  # one entry per stage, oldest first
    facts: dict[str, Any] = {}  # what the stage learned: losses, epochs, widths before and after, seconds ...
    files: dict[str, str] = {}  # name -> SHA-256


class Session(Protocol):
    """An open artifact: answers batches in its own runtime. Those that generate do more: `runtimes.decode.Decoder`."""

    def logits(self, batch: dict[str, np.ndarray[Any, Any]]) -> Floats:
        """Return logits [batch, outputs] of a collated batch (processor.collate).

        Models that generate: [batch, positions, tokens] of a batch of `data.sequences`.
        """
        ...


@dataclass(frozen=True)
class Artifact:
    """A complete model folder on disk."""

    path: Path

    @cached_property
    def manifest(self) -> Manifest:
        """The manifest.

        Raises:
            ArtifactError: the folder is missing, not an artifact, or of a newer format.
        """
        file = self.path / MANIFEST
        if not file.is_file():
            raise ArtifactError(
                f"{self.path} is not a lessen model folder (no {MANIFEST})", "give a stage's folder of a run"
            )
        try:
            values = json.loads(file.read_text(encoding="utf-8"))
            if values.get("format", 0) > FORMAT:
                raise ArtifactError(
                    f"{file} has format {values['format']}, this version reads up to {FORMAT}", "upgrade lessen"
                )
            return Manifest.model_validate(values)
        except (ValueError, ValidationError) as error:
            raise ArtifactError(f"{file} cannot be read: {error}", "make the artifact again") from None

    @property
    def info(self) -> ModelInfo:
        """What the outputs mean."""
        return self.manifest.info

    @cached_property
    def processor(self) -> Processor:
        """The tokenizer or image processor of this model."""
        from lessen.processors import load_processor

        return load_processor(self.path)

    @property
    def digest(self) -> str:
        """SHA-256 over the weights, the configuration and the processor: what the answers depend on.

        Where a model came from does not count: one that is named by its folder is the same.
        """
        files = {name: of for name, of in self.manifest.files.items() if name != CARD}
        return digest({"files": files, "info": self.info.model_dump(mode="json", exclude={"source"})})

    def open(self, device: str = "cpu", threads: int | None = None) -> Session:
        """Open the model in its own runtime."""
        session: Session = plugins.find("runtimes", self.manifest.runtime).open_session(self, device, threads)
        return session

    def verify(self) -> None:
        """Check every file against the manifest; of the model card only that it is there.

        Raises:
            ArtifactError: a file is missing or changed.
        """
        for name, want in self.manifest.files.items():
            file = self.path / name
            if not file.is_file():
                raise ArtifactError(f"{file} is missing", "make the artifact again: lessen resume")
            if name != CARD and file_digest(file) != want:
                raise ArtifactError(f"{file} differs from its manifest", "make the artifact again: lessen resume")


def write(path: Path, manifest: Manifest, fill: Callable[[Path], None]) -> Artifact:
    """Write a model folder as a whole or not at all.

    Args:
        path: the folder; an older one is replaced once the new one is complete.
        manifest: all but `files`, which is filled in here.
        fill: writes the folder's files into the path it is given.
    """
    partial = path.with_name(f".{path.name}.partial")
    shutil.rmtree(partial, ignore_errors=True)
    partial.mkdir(parents=True)
    fill(partial)
    files = {str(f.relative_to(partial)): file_digest(f) for f in sorted(partial.rglob("*")) if f.is_file()}
    complete = manifest.model_copy(update={"files": files})
    write_atomic(partial / MANIFEST, complete.model_dump_json(indent=2) + "\n")
    if path.exists():
        shutil.rmtree(path)
    os.replace(partial, path)
    return Artifact(path)


def recard(artifact: Artifact, text: str) -> None:
    """Write the model card anew, and its SHA-256 into the manifest; nothing else changes."""
    write_atomic(artifact.path / CARD, text)
    files = {**artifact.manifest.files, CARD: file_digest(artifact.path / CARD)}
    complete = artifact.manifest.model_copy(update={"files": files})
    write_atomic(artifact.path / MANIFEST, complete.model_dump_json(indent=2) + "\n")


def load(path: str | Path) -> Classifier | Generator:
    """Open a model folder for answering; files are checked first. Models that generate open as a Generator.

    Example:
        >>> import lessen
        >>> model = lessen.load("runs/demo/final")          # doctest: +SKIP
        >>> model.predict(["Return the mean of an array."])  # doctest: +SKIP
    """
    artifact = Artifact(Path(path))
    artifact.verify()
    if artifact.info.generates:
        from lessen.generator import Generator

        return Generator(artifact)
    return Classifier(artifact)


@dataclass(frozen=True)
class Answer:
    """One answer: the decided label(s) and the probability of every label."""

    label: str | list[str]
    probabilities: dict[str, float]


class Classifier:
    """An artifact that answers texts or images."""

    def __init__(self, artifact: Artifact, device: str = "cpu", threads: int | None = None) -> None:
        self.artifact = artifact
        self.session = artifact.open(device, threads)

    def logits(self, inputs: Sequence[Any], batch_size: int = 32) -> Floats:
        """Return logits, shape [n, outputs], in the order of the inputs.

        Args:
            inputs: texts, or uint8 RGB images [height, width, 3].
        """
        processor = self.artifact.processor
        items = processor.encode(list(inputs))
        order = (
            np.argsort([len(item) for item in items], kind="stable")
            if processor.kind == "text"
            else np.arange(len(items))
        )
        out = np.zeros((len(items), self.artifact.info.logits), dtype=np.float32)
        for start in range(0, len(items), batch_size):
            rows = order[start : start + batch_size]
            out[rows] = self.session.logits(processor.collate([items[i] for i in rows]))
        return out

    def predict(self, inputs: Sequence[Any], batch_size: int = 32) -> list[Answer]:
        """Answer texts or images, in their order."""
        info = self.artifact.info
        probabilities = info.probabilities(self.logits(inputs, batch_size))
        return [
            Answer(_label(info, decided), dict(zip(info.labels, map(float, row), strict=True)))
            for decided, row in zip(info.decide(probabilities), probabilities, strict=True)
        ]


def _label(info: ModelInfo, decided: Any) -> str | list[str]:
    if info.multi_label:
        return [name for name, on in zip(info.labels, decided, strict=True) if on]
    return info.labels[int(decided)]
