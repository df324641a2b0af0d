"""What a simple model reaches on the same splits: logistic regression on word and character n-grams, or on pixels.

Language models: a trigram model of the teacher's tokens; translation: the source, copied. Fitted on the training split,
scored on the test split. A teacher that does not beat it is not worth distilling.
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
    from lessen.processors import Processor
    from lessen.recipe import Measure

PIXELS = 32  # images are averaged down to at most this many a side


def score_baseline(
    splits: Splits, cfg: Measure, seed: int = 42, processor: Processor | None = None
) -> tuple[Metrics, dict[str, Any]]:
    """Fit the simple model on train, score it on test.

    Args:
        processor: the teacher's, whose tokens a language model's baseline counts.

    Returns:
        The quality metrics, and facts: the method, seconds to fit, confusion matrix and scores per class.
    """
    if splits.task == "causal-lm" and processor is not None:
        return _counted(splits, processor, cfg, seed)
    if splits.task == "seq2seq" and not splits.labels:
        return _copied(splits, cfg, seed)
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


def _counted(splits: Splits, processor: Any, cfg: Measure, seed: int) -> tuple[Metrics, dict[str, Any]]:
    """Score the test documents, and every held-out text, by a trigram model of the training documents."""
    from lessen.data.encoding import sequences_of
    from lessen.measure import tokens
    from lessen.measure.ngram import Trigram

    start = time.monotonic()
    train: Any = sequences_of(splits, "train", processor, None)
    model = Trigram(train.pieces, processor.vocab_size)
    seconds = time.monotonic() - start
    metrics: Metrics = {}
    for part in ("test", *splits.held_out):
        split = splits.test if part == "test" else splits.held_out[part]
        data: Any = sequences_of(splits, part, processor, None)
        n = len(split)
        nll, counted = np.zeros(n), np.zeros(n, dtype=np.int64)
        for document, mask, p in zip(data.document, data.counted, model.probabilities(data.pieces), strict=True):
            nll[document] -= float(np.log(p[mask]).sum())
            counted[document] += int(mask.sum())
        texts = tokens.scored_texts(splits, split, data)
        size = np.asarray([len(t.encode()) if counted[i] else 0 for i, t in enumerate(texts)], dtype=np.int64)
        scored = tokens.Scored(nll, np.zeros(n, dtype=np.int64), counted, size)
        found = tokens.metrics(scored, bootstrap=cfg.bootstrap, seed=seed)
        del found["token_accuracy"]
        metrics |= found if part == "test" else {tokens.of_text(name, part): m for name, m in found.items()}
    metrics["fit_s"] = measured(seconds, "s", n=1)
    return metrics, {"runtime": "counts", "method": "interpolated Kneser-Ney trigrams of the teacher's tokens"}


def _copied(splits: Splits, cfg: Measure, seed: int) -> tuple[Metrics, dict[str, Any]]:
    """Score the sources as if they were the translations, on the samples that the models generate for."""
    from lessen.measure import texts, tokens

    first = min(len(splits.test), cfg.generate or len(splits.test))
    sources = [str(text).removeprefix(splits.settings.prefix) for text in splits.test.inputs[:first]]
    references = tokens.target_texts(splits, splits.test)[:first]
    language = (splits.settings.languages or ("", ""))[1]
    found = texts.overlap(sources, references, language)
    return texts.metrics(found, bootstrap=cfg.bootstrap, seed=seed), {
        "runtime": "copying",
        "method": "the source, copied",
    }


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
