"""Models that are open, the ones used last."""

from __future__ import annotations

from collections import OrderedDict
from pathlib import Path
from typing import TYPE_CHECKING

from lessen.artifact import Artifact, Classifier

if TYPE_CHECKING:
    from lessen.data import Splits
    from lessen.generator import Generator


class Opened:
    """Artifacts open for answering, by digest; at most `most` at a time.

    Args:
        threads: of each runtime.
    """

    def __init__(self, most: int = 8, threads: int = 1) -> None:
        self.threads, self._most = threads, most
        self.splits: dict[str, Splits] = {}  # of data that recipes were planned on
        self._models: OrderedDict[str, Classifier | Generator] = OrderedDict()

    def __len__(self) -> int:
        return len(self._models)

    def get(self, folder: Path) -> Classifier | Generator:
        """Return an artifact's model, opened where it is not yet; its files are checked against the manifest first.

        Raises:
            ArtifactError: a file is missing or changed, or cannot be opened.
        """
        artifact = Artifact(folder)
        key = artifact.digest
        model = self._models.pop(key, None)
        if model is None:
            while len(self._models) >= self._most:
                self._models.popitem(last=False)
            artifact.verify()
            model = self._open(artifact)
        self._models[key] = model
        return model

    def clear(self) -> None:
        """Close all."""
        self._models.clear()
        self.splits.clear()

    def _open(self, artifact: Artifact) -> Classifier | Generator:
        if artifact.info.generates:
            from lessen.generator import Generator

            return Generator(artifact, "cpu", self.threads)
        return Classifier(artifact, "cpu", self.threads)
