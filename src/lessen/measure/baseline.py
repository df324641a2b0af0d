"""What a simple model reaches on the same splits: logistic regression on word and character n-grams, or on pixels.

Fitted on the training split, scored on the test split. A teacher that does not beat it is not worth distilling.
"""

from __future__ import annotations

import time
import warnings
from typing import TYPE_CHECKING, Any

import numpy as np

from lessen.info import ModelInfo
from lessen.measure import quality
from lessen.measure.metric import Metrics, measured

if TYPE_CHECKING:
    from lessen.data import Split, Splits
    from lessen.recipe import Measure

PIXELS = 32  # images are averaged down to at most this many a side


def score_baseline(splits: Splits, cfg: Measure, seed: int = 42) -> tuple[Metrics, dict[str, Any]]:
    """Fit the simple model on train, score it on test.

    Returns:
        The quality metrics, and facts: the method, seconds to fit, confusion matrix and scores per class.
    """
    start = time.monotonic()
    text = isinstance(splits.train.inputs[0], str)
    model = _text_model(seed) if text else _image_model(seed)
    prepare = list if text else _pixels
    with warnings.catch_warnings():
        # stopping at max_iter is good enough for a reference; sparse one-class labels are handled by the estimator
        warnings.simplefilter("ignore")
        fitted = _several(model) if splits.multi_label else model
        fitted.fit(prepare(splits.train.inputs), splits.train.labels.astype(np.int64))
        info = _info(splits)
        answers = _answers(fitted, prepare(splits.test.inputs), splits.test, info)
    metrics = quality.score(info, splits.test.labels, answers, bootstrap=cfg.bootstrap, seed=seed)
    metrics["fit_s"] = measured(time.monotonic() - start, "s", n=1)
    method = "TF-IDF of words and characters, logistic regression" if text else "pixels, logistic regression"
    return metrics, {"method": method, **quality.details(info, splits.test.labels, answers)}


def _text_model(seed: int) -> Any:
    from sklearn.feature_extraction.text import TfidfVectorizer
    from sklearn.linear_model import LogisticRegression
    from sklearn.pipeline import make_pipeline, make_union

    words = TfidfVectorizer(ngram_range=(1, 2), min_df=2, max_features=30_000, sublinear_tf=True)
    characters = TfidfVectorizer(
        analyzer="char_wb", ngram_range=(2, 4), min_df=2, max_features=30_000, sublinear_tf=True
    )
    return make_pipeline(make_union(words, characters), LogisticRegression(C=10, max_iter=60, random_state=seed))


def _image_model(seed: int) -> Any:
    from sklearn.linear_model import LogisticRegression
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import StandardScaler

    return make_pipeline(StandardScaler(), LogisticRegression(C=0.1, max_iter=100, random_state=seed))


def _several(model: Any) -> Any:
    from sklearn.multiclass import OneVsRestClassifier

    return OneVsRestClassifier(model)


def _pixels(images: Any) -> np.ndarray[Any, Any]:
    from PIL import Image

    rows = []
    for image in images:
        array = np.asarray(image)
        side = min(PIXELS, *array.shape[:2])
        small = Image.fromarray(array.squeeze() if array.shape[-1] == 1 else array).resize((side, side))
        rows.append(np.asarray(small, dtype=np.float32).ravel() / 255)
    return np.stack(rows)


def _info(splits: Splits) -> ModelInfo:
    task: Any = splits.task
    return ModelInfo(
        family="baseline",
        task=task,
        source="baseline",
        labels=splits.labels,
        output="sigmoid" if splits.multi_label else "softmax",
        multi_label=splits.multi_label,
    )


def _answers(fitted: Any, rows: Any, test: Split, info: ModelInfo) -> quality.Answers:
    p = np.asarray(fitted.predict_proba(rows), dtype=np.float64)
    full = np.zeros((len(test), len(info.labels)))
    seen = range(p.shape[1]) if info.multi_label else fitted.classes_
    full[:, list(seen)] = p
    tiny = np.finfo(np.float64).tiny
    logits = np.log(full + tiny) - (np.log1p(-full + tiny) if info.multi_label else 0)
    probabilities = full.astype(np.float32)
    return quality.Answers(probabilities, info.decide(probabilities), logits.astype(np.float32))
