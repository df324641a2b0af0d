"""How far a quantized model's answers moved, on validation, from the artifacts on disk. Imports no torch."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from lessen.artifact import Artifact, Classifier
from lessen.context import Context
from lessen.export.parity import compare
from lessen.info import Floats, ModelInfo

if TYPE_CHECKING:
    from lessen.data import Splits

MOST = 2048  # validation samples: enough to rank backends by KL, and minutes less on a large split


def judge(source: Artifact, made: Artifact, splits: Splits, ctx: Context) -> dict[str, Any]:
    """Reopen both artifacts and return how their logits and decisions on validation differ.

    Returns:
        the values of `parity.compare`, validation macro-F1 of both and its fall (a share; negative where it rose),
        and, for few samples, that accuracy cannot tell such changes.
    """
    rows = np.linspace(0, len(splits.validation) - 1, min(MOST, len(splits.validation))).round().astype(int)
    inputs, labels = [splits.validation.inputs[int(row)] for row in rows], splits.validation.labels[rows]
    before = _logits(source, inputs, ctx)
    after = _logits(made, inputs, ctx)
    f1_before, f1_after = _f1(before, labels, source.info), _f1(after, labels, made.info)
    return {
        **compare(before, after, source.info),
        "f1_macro_source": f1_before,
        "f1_macro": f1_after,
        "f1_macro_drop": f1_before - f1_after,
        "judged_on": "validation",
    }


def _logits(artifact: Artifact, inputs: list[Any], ctx: Context) -> Floats:
    ctx.check()
    device = "cpu" if artifact.manifest.runtime == "onnx" else ctx.device
    return Classifier(artifact, device).logits(inputs)


def _f1(logits: Floats, labels: np.ndarray[Any, Any], info: ModelInfo) -> float:
    from sklearn.metrics import f1_score

    decided = info.decide(info.probabilities(logits))
    return float(f1_score(labels, decided, average="macro", zero_division=0))
