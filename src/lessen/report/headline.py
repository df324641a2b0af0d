"""The number that heads a task's report, which way it is better, and how a change of it is told.

Classification: macro-F1 (also of labels put into words); translation: BLEU; language models: perplexity, which is
better when lower, and whose paired test is of the NLL: a change of d nats a token is a perplexity exp(d) times as high.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

from lessen.info import generates
from lessen.measure.metric import Comparison
from lessen.report.numbers import points, title
from lessen.report.rows import Report

MINUS = "−"


@dataclass(frozen=True)
class Headline:
    """A metric that heads reports.

    Attributes:
        columns: what tables show of quality, the metric first.
        scores: what the predecessor's sections and tables call accuracy and the like, by their name there.
        accuracy: the share of right answers: samples, or tokens.
    """

    metric: str
    columns: tuple[str, ...]
    scores: dict[str, str]
    accuracy: str = "accuracy"
    lower_is_better: bool = False

    @property
    def title(self) -> str:
        """Its name for people."""
        return title(self.metric)

    def better(self, value: float, than: float) -> bool:
        """Whether a value is better than another."""
        return value < than if self.lower_is_better else value > than


CLASSES = Headline(
    "f1_macro",
    ("f1_macro", "agreement_with_teacher"),
    {"accuracy": "accuracy", "precision": "precision_macro", "recall": "recall_macro", "f1_score": "f1_macro"},
)
TRANSLATION = Headline(
    "bleu",
    ("bleu", "chrf", "rouge_l", "agreement_with_teacher"),
    {"bleu": "bleu", "chrf": "chrf", "rouge_l": "rouge_l", "accuracy": "token_accuracy", "perplexity": "perplexity"},
    accuracy="token_accuracy",
)
LANGUAGE = Headline(
    "perplexity",
    ("perplexity", "bits_per_byte", "agreement_with_teacher"),
    {"perplexity": "perplexity", "bits_per_byte": "bits_per_byte", "accuracy": "token_accuracy"},
    accuracy="token_accuracy",
    lower_is_better=True,
)


def headline(report: Report) -> Headline:
    """Return what heads this report."""
    if report.task == "causal-lm":
        return LANGUAGE
    if generates(report.task) and not any("f1_macro" in row.metrics for row in report.rows):
        return TRANSLATION
    return CLASSES


def change(found: Comparison) -> str:
    """Return the change of a paired test with its unit, signed: '−1.40 points macro-F1'."""
    return f"{_signed(found, found.change)} {_WHAT.get(found.metric, title(found.metric))}{_more(found)}"


def interval(found: Comparison) -> str:
    """Return the 95 % interval of a paired test's change: '[−2.20, −0.50]'."""
    low, high = (_signed(found, v).removesuffix(" points") for v in found.ci95)
    return f"[{low}, {high}]"


def tile(found: Comparison) -> tuple[str, str, str]:
    """Return name, value and interval of a change for a tile: perplexity in percent, others in their points."""
    if found.metric == "nll_per_token":
        low, high = (percent(v) for v in found.ci95)
        return "perplexity", percent(found.change), f"[{low}, {high}]"
    ends = interval(found) + (" points" if found.unit == "share" else "")
    name = {"f1_macro": "macro-F1, in points"}.get(found.metric, title(found.metric))
    return name, _signed(found, found.change).removesuffix(" points"), ends


def percent(nats: float) -> str:
    """Return by how much perplexity rises with the NLL, signed: '+3.2 %'."""
    share = math.expm1(nats) if nats < 700 else math.inf
    return f"{share * 100:+,.1f} %".replace("-", MINUS)


_WHAT = {"bleu": "BLEU", "nll_per_token": "nats a token", "bits_per_byte": "bits a byte", "f1_macro": "macro-F1"}


def _more(found: Comparison) -> str:
    return f" (perplexity {percent(found.change)})" if found.metric == "nll_per_token" else ""


def _signed(found: Comparison, value: float) -> str:
    if found.unit == "share":
        return points(value)
    return f"{value:+.2f}".replace("-", MINUS) if found.unit == "points" else f"{value:+.4f}".replace("-", MINUS)
