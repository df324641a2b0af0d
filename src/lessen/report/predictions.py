"""predictions.json: what each stage answered to each test sample, so that changed answers can be looked at.

Layout::

    schema_version, task, labels, multi_label
    ids        content hashes of the test samples, in their order
    previews   the text of each sample, cut to 400 characters; null for images, which lie in images/NNNNNN.png
    truth      label indices (0/1 flags where several labels hold); null where the answer is a text
    references the texts that were wanted; null for classes
    stages     name -> {labels: decided indices (or flags), probabilities: of what was decided, texts: what was said}

At most 5,000 samples are kept, the first ones; images of the first 1,000.
"""

from __future__ import annotations

import io
import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from lessen.context import write_atomic

if TYPE_CHECKING:
    from lessen.data import Splits
    from lessen.measure import Answers, Said

FILE = "predictions.json"
IMAGES = "images"
SCHEMA_VERSION = 1
SAMPLES = 5_000
PICTURES = 1_000
CHARACTERS = 400


class Predictions:
    """Collects the answers of a run's stages and keeps the file up to date.

    Args:
        folder: the run's folder.
    """

    def __init__(self, splits: Splits, folder: Path) -> None:
        test = splits.test
        self._folder = folder
        self._n = min(len(test), SAMPLES)
        self._splits = splits
        pictures = splits.task == "image-classification"
        indexed = test.labels.dtype != object
        self._body: dict[str, Any] = {
            "schema_version": SCHEMA_VERSION,
            "task": splits.task,
            "labels": list(splits.labels),
            "multi_label": splits.multi_label,
            "ids": [str(i) for i in test.ids[: self._n]],
            "previews": [None if pictures else _cut(test.inputs[i]) for i in range(self._n)],
            "truth": test.labels[: self._n].astype(int).tolist() if indexed else None,
            "references": None,
            "images": None,
            "stages": {},
        }
        if splits.task == "seq2seq" and not indexed:
            self._body["references"] = [_cut(t) for t in test.labels[: self._n]]
        if pictures:
            self._draw()

    def add(self, stage: str, answers: Answers | Said) -> None:
        """Keep what a stage answered and write the file."""
        decided: Any = getattr(answers, "decisions", answers)
        entry: dict[str, Any] = {}
        if decided is not None and hasattr(decided, "decided"):
            entry["labels"] = decided.decided[: self._n].astype(int).tolist()
            entry["probabilities"] = _of_decided(decided)[: self._n]
        said = getattr(answers, "hypotheses", ())
        if said:
            entry["texts"] = [_cut(text) for text in said[: self._n]]
        if entry:
            self._body["stages"][stage] = entry
            write_atomic(self._folder / FILE, json.dumps(self._body, ensure_ascii=False) + "\n")

    def _draw(self) -> None:
        """Write the first images as PNG, once: a resumed run has the same ones."""
        from PIL import Image

        folder = self._folder / IMAGES
        self._body["images"] = f"{IMAGES}/%06d.png"
        for index in range(min(self._n, PICTURES)):
            path = folder / f"{index:06d}.png"
            if not path.is_file():
                stream = io.BytesIO()
                Image.fromarray(self._splits.test.inputs[index]).save(stream, format="PNG")
                write_atomic(path, stream.getvalue())


def read_predictions(folder: Path) -> dict[str, Any] | None:
    """Return the predictions of a run, None where it kept none (a run of an older version, or not measured yet)."""
    file = folder / FILE
    if not file.is_file():
        return None
    body: dict[str, Any] = json.loads(file.read_text(encoding="utf-8"))
    return body


def _of_decided(answers: Answers) -> list[float | list[float]]:
    """Return the probability of what was decided; several labels: of each label."""
    probabilities = np.nan_to_num(np.asarray(answers.probabilities, dtype=np.float64))
    if answers.decided.ndim == 2:
        return [[round(float(p), 6) for p in row] for row in probabilities]
    chosen = probabilities[np.arange(len(probabilities)), answers.decided]
    return [round(float(p), 6) for p in chosen]


def _cut(text: Any) -> str:
    words = str(text)
    return words if len(words) <= CHARACTERS else words[: CHARACTERS - 1] + "…"
