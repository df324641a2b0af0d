"""How far a quantized model's answers moved, on validation, from the artifacts on disk. Imports no torch.

Models that generate are compared token by token, both reading the true text.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from lessen.artifact import Artifact, Classifier
from lessen.context import Context
from lessen.data.sequences import IGNORE, Blocks
from lessen.export.parity import compare
from lessen.info import Floats, ModelInfo
from lessen.runtimes.decode import log_softmax

if TYPE_CHECKING:
    from lessen.data import Splits

MOST = 2048  # validation samples: enough to rank backends by KL, and minutes less on a large split
MOST_TEXTS = 64  # validation texts of models that generate: some thousand tokens
NUMBERS = 1 << 24  # logits that exist at a time


def judge(source: Artifact, made: Artifact, splits: Splits, ctx: Context) -> dict[str, Any]:
    """Reopen both artifacts and return how their logits and decisions on validation differ.

    Returns:
        the values of `parity.compare`, validation macro-F1 of both and its fall (a share; negative where it rose),
        and, for few samples, that accuracy cannot tell such changes. Models that generate: see `_by_token`.
    """
    if source.info.generates:
        return _by_token(source, made, splits, ctx)
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


def _by_token(source: Artifact, made: Artifact, splits: Splits, ctx: Context) -> dict[str, Any]:
    """Return how two models' next tokens differ.

    Returns:
        samples, tokens; kl_nats (mean over tokens of KL(source || made)), agreement (share of tokens on which both
        have the same likeliest), token accuracy and negative log-probability per token of both, the fall of the
        accuracy (a share; negative where it rose).
    """
    from lessen.export.sequences import samples

    before, after = (_opened(artifact, ctx) for artifact in (source, made))
    data = samples(source, splits, before)
    data = data.alone() if isinstance(data, Blocks) else data
    rows = np.linspace(0, len(data) - 1, min(MOST_TEXTS, len(data))).round().astype(int)
    longest = int(data.lengths[rows].max())
    count = max(1, NUMBERS // (longest * before.vocab))
    sums = np.zeros(7)
    for at in range(0, len(rows), count):
        ctx.check()
        batch = data.batch(rows[at : at + count])
        counted = batch["targets"] != IGNORE
        said = batch["targets"][counted]
        p, q = (log_softmax(s.logits(batch)[counted].astype(np.float64)) for s in (before, after))
        first, second, true = p.argmax(axis=1), q.argmax(axis=1), np.arange(len(said))
        kl = (np.exp(p) * (p - q)).sum()
        hits = (first == said).sum(), (second == said).sum()
        sums += [len(said), kl, (first == second).sum(), *hits, -p[true, said].sum(), -q[true, said].sum()]
    tokens, kl, agreed, hit_before, hit_after, nll_before, nll_after = (float(x) for x in sums)
    return {
        "samples": float(len(rows)),
        "tokens": tokens,
        "kl_nats": kl / tokens,
        "agreement": agreed / tokens,
        "token_accuracy_source": hit_before / tokens,
        "token_accuracy": hit_after / tokens,
        "token_accuracy_drop": (hit_before - hit_after) / tokens,
        "nll_per_token_source": nll_before / tokens,
        "nll_per_token": nll_after / tokens,
        "judged_on": "validation",
    }


def _opened(artifact: Artifact, ctx: Context) -> Any:
    return artifact.open("cpu" if artifact.manifest.runtime == "onnx" else ctx.device)


def _logits(artifact: Artifact, inputs: list[Any], ctx: Context) -> Floats:
    ctx.check()
    device = "cpu" if artifact.manifest.runtime == "onnx" else ctx.device
    return Classifier(artifact, device).logits(inputs)


def _f1(logits: Floats, labels: np.ndarray[Any, Any], info: ModelInfo) -> float:
    from sklearn.metrics import f1_score

    decided = info.decide(info.probabilities(logits))
    return float(f1_score(labels, decided, average="macro", zero_division=0))
