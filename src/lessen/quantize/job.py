"""What a quantization backend is given and what it gives back. Imports no torch."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import numpy as np

from lessen.artifact import Artifact
from lessen.context import Context
from lessen.errors import ArtifactError
from lessen.info import ModelInfo
from lessen.quantize.ignore import Ignored, ignored

if TYPE_CHECKING:
    from lessen.data import Splits
    from lessen.recipe import Distill, Quantize

Kind = Literal["transformer", "cnn"]
CALIB_BATCH = 8  # shuffled, so that texts of unequal length pad each other: a mask that is never used hides its trap


@dataclass(frozen=True)
class Converted:
    """What a backend made: its runtime, facts for the manifest, and the ModelInfo where it changed."""

    runtime: str
    facts: dict[str, Any] = field(default_factory=dict)
    info: ModelInfo | None = None


@dataclass
class Job:
    """One model to quantize."""

    source: Artifact
    cfg: Quantize
    distill_cfg: Distill
    splits: Splits
    ctx: Context
    work: Path  # scratch, removed afterwards
    out: Path  # the artifact's final folder: long work keeps its checkpoints beside it
    ready: Artifact | None = None  # the source's ONNX export, where there is one

    def onnx(self) -> Artifact:
        """Return the source as an fp32 ONNX artifact, exported when first asked for."""
        if self.source.manifest.runtime == "onnx":
            return self.source
        if self.ready is None:
            self.ready = self.to_onnx(self.source, "fp32")
        return self.ready

    def ignored(self, artifact: Artifact | None = None) -> Ignored:
        """Return what quantize.ignore names in the source, or in another artifact of the same model."""
        return ignored(artifact or self.source, self.cfg.ignore)

    def to_onnx(self, artifact: Artifact, name: str) -> Artifact:
        """Return an artifact's checked ONNX export, below the scratch folder."""
        from lessen.export import export
        from lessen.recipe import Export

        return export(
            artifact, Export.model_validate({"formats": ["onnx"]}), self.splits, self.ctx, out=self.work / name
        )[0]

    def calibration(self) -> tuple[list[dict[str, np.ndarray[Any, Any]]], dict[str, Any]]:
        """Return collated batches of training samples, drawn by the run's seed, and what they were.

        Raises:
            ArtifactError: the training split is empty.
        """
        train, processor = self.splits.train, self.source.processor
        n = min(self.cfg.calib_samples, len(train))
        if not n:
            raise ArtifactError("there are no training samples to calibrate on", "give data")
        rows = np.random.default_rng(self.ctx.seed).choice(len(train), n, replace=False)
        items = processor.encode([train.inputs[int(row)] for row in rows])
        batches = [processor.collate(items[at : at + CALIB_BATCH]) for at in range(0, n, CALIB_BATCH)]
        return batches, {"calib_samples": n, "calib_split": "train", "calib_seed": self.ctx.seed}
