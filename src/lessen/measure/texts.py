"""How near generated texts are to their references: BLEU and chrF (sacrebleu), ROUGE-L (rouge-score), exact matches.

BLEU and chrF are functions of sums over sentences, so a bootstrap over sentences resamples those sums. ROUGE-L splits
words at everything that is no letter or digit of any script; rouge-score's own splitting knows a to z alone, and scores
other scripts zero. On ASCII texts the two are the same.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from lessen.measure import stats
from lessen.measure.metric import Metrics, measured, missing

Reals = NDArray[np.float64]
UNITS = {"bleu": "points", "chrf": "points", "rouge_l": "share", "exact_match": "share"}
_TOKENIZERS = {"zh": "zh", "ja": "char", "ko": "char"}  # sacrebleu's for ja and ko need further programs
_WORD = re.compile(r"[^\W_]+")


@dataclass(frozen=True, eq=False)
class Overlap:
    """Statistics of each generated text against its reference, [n, ...]; sums of rows give corpus scores."""

    bleu: Reals
    chrf: Reals
    rouge_l: Reals  # F1, [n]
    exact: Reals  # 0 or 1, [n]

    def __len__(self) -> int:
        """Return the number of texts."""
        return len(self.exact)


class _Words:
    """What rouge_score asks for words."""

    def tokenize(self, text: str) -> list[str]:
        return _WORD.findall(text.lower())


def overlap(hypotheses: Sequence[str], references: Sequence[str], language: str = "") -> Overlap:
    """Count what BLEU, chrF, ROUGE-L and exact matching need, for each pair of texts.

    Args:
        language: of the references, such as de or zh: decides how BLEU splits words.
    """
    from rouge_score.rouge_scorer import RougeScorer

    bleu, chrf = _bleu(language), _chrf()
    scorer = RougeScorer(["rougeL"], tokenizer=_Words())
    rouge = [scorer.score(r, h)["rougeL"].fmeasure for h, r in zip(hypotheses, references, strict=True)]
    exact = [float(h.strip() == r.strip()) for h, r in zip(hypotheses, references, strict=True)]
    return Overlap(
        np.asarray(bleu._extract_corpus_statistics(list(hypotheses), [list(references)]), dtype=np.float64),
        np.asarray(chrf._extract_corpus_statistics(list(hypotheses), [list(references)]), dtype=np.float64),
        np.asarray(rouge, dtype=np.float64),
        np.asarray(exact, dtype=np.float64),
    )


def corpus_bleu(sums: Reals) -> Reals:
    """Return BLEU, 0 to 100, of summed statistics [draws, 10]; smoothing as sacrebleu's default."""
    scorer = _bleu("")
    return np.asarray([scorer._compute_score_from_stats([int(v) for v in row]).score for row in sums])


def corpus_chrf(sums: Reals) -> Reals:
    """Return chrF, 0 to 100, of summed statistics [draws, 18]."""
    scorer = _chrf()
    return np.asarray([scorer._compute_score_from_stats([int(v) for v in row]).score for row in sums])


def metrics(found: Overlap, *, bootstrap: int, seed: int) -> Metrics:
    """Return corpus BLEU and chrF, mean ROUGE-L F1 and the share of exact matches, with intervals over sentences."""
    n = len(found)
    if not n:
        return {name: missing(unit, "no text was generated") for name, unit in UNITS.items()}
    draws = bootstrap if n > 1 else 0
    values = {
        "bleu": corpus_bleu(stats.resampled_sums(found.bleu, draws, seed)),
        "chrf": corpus_chrf(stats.resampled_sums(found.chrf, draws, seed)),
        "rouge_l": stats.resampled_sums(found.rouge_l[:, None], draws, seed)[:, 0] / n,
        "exact_match": stats.resampled_sums(found.exact[:, None], draws, seed)[:, 0] / n,
    }
    return {
        name: measured(float(v[0]), UNITS[name], n=n, ci95=stats.interval(v[1:]) if draws else None)
        for name, v in values.items()
    }


def signatures(language: str = "") -> dict[str, str]:
    """Return how BLEU, chrF and ROUGE-L were computed, sacrebleu's signatures included."""
    bleu, chrf = _bleu(language), _chrf()
    for scorer in (bleu, chrf):
        scorer.corpus_score(["a"], [["a"]])  # a signature knows its references only then
    return {
        "bleu": str(bleu.get_signature()),
        "chrf": str(chrf.get_signature()),
        "rouge_l": "rouge-score rougeL F1, words of letters and digits of any script, lower case, no stemming",
    }


def _bleu(language: str) -> Any:
    from sacrebleu.metrics import BLEU

    return BLEU(tokenize=_TOKENIZERS.get(language.lower()[:2], "13a"), force=True)


def _chrf() -> Any:
    from sacrebleu.metrics import CHRF

    return CHRF()
