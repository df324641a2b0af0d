"""Answers of several models to the same inputs, timed one at a time."""

from __future__ import annotations

import base64
import binascii
import io
import statistics
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from lessen.artifact import Artifact, Classifier
from lessen.bench.opened import Opened
from lessen.errors import DataError, LessenError, RecipeError

TIMED = 3  # calls of which the median counts, after one that does not
PIXELS = 25_000_000  # of an image at most
FORMATS = ("PNG", "JPEG")
NEW_TOKENS = 64
Reply = dict[str, Any]


def predict(
    opened: Opened,
    stages: Mapping[str, str],
    inputs: Sequence[str] | None = None,
    images: Sequence[str] | None = None,
) -> Reply:
    """Answer texts or images with every stage; a stage that fails says so and the others answer.

    A time is that of one input from its text or pixels to its label, the processor included: the median of three
    calls after one that warms up (generated texts: of one).

    Args:
        stages: model folders by stage.
        images: PNG or JPEG, base64.

    Raises:
        DataError: an image cannot be read.
    """
    given: Sequence[Any] = (
        list(inputs) if inputs is not None else [_image(text, i) for i, text in enumerate(images or ())]
    )
    kind = "text" if inputs is not None else "image"
    found = [_stage(opened, name, Path(folder), given, kind) for name, folder in stages.items()]
    return {"threads": opened.threads, "stages": found}


def _stage(opened: Opened, name: str, folder: Path, given: Sequence[Any], kind: str) -> Reply:
    out: Reply = {"stage": name, "runtime": "", "answers": [], "latency_ms": None, "error": None}
    try:
        artifact = Artifact(folder)
        out["runtime"] = artifact.manifest.runtime
        wanted = "image" if artifact.info.task == "image-classification" else "text"
        if wanted != kind:
            raise RecipeError(f"a {artifact.info.task} model takes no {kind}s", f"give {wanted}s")
        model = opened.get(folder)
        out["answers"] = [_answer(model, one) for one in given]
        out["latency_ms"] = statistics.median(a["latency_ms"] for a in out["answers"])
    except LessenError as error:
        out["error"] = str(error)
    except Exception as error:  # one runtime's trouble must not silence the others
        out["error"] = f"{type(error).__name__}: {error}"
    return out


def _answer(model: Any, one: Any) -> Reply:
    if not isinstance(model, Classifier) and not _says_labels(model):
        texts, ms = _timed(lambda: model.generate([one], max_new_tokens=NEW_TOKENS), 1)
        return {"label": None, "text": texts[0], "probabilities": None, "latency_ms": ms}
    answers, ms = _timed(lambda: model.predict([one]), TIMED)
    first = answers[0]
    return {"label": first.label, "text": None, "probabilities": first.probabilities, "latency_ms": ms}


def _says_labels(model: Any) -> bool:
    info = model.artifact.info
    return info.task == "seq2seq" and bool(info.labels)


def _timed(call: Callable[[], Any], times: int) -> tuple[Any, float]:
    call()
    spent = []
    for _ in range(times):
        start = time.perf_counter()
        out = call()
        spent.append(time.perf_counter() - start)
    return out, 1e3 * statistics.median(spent)


def _image(text: str, index: int) -> np.ndarray[Any, Any]:
    """Return an image as uint8 RGB [height, width, 3]."""
    from PIL import Image, UnidentifiedImageError

    text = text.partition(",")[2] if text.startswith("data:") else text
    try:
        raw = base64.b64decode(text, validate=True)
        with Image.open(io.BytesIO(raw), formats=FORMATS) as image:
            if image.width * image.height > PIXELS:
                raise DataError(
                    f"image {index} has {image.width} x {image.height} pixels; {PIXELS:,} are allowed", "shrink it"
                )
            return np.asarray(image.convert("RGB"), dtype=np.uint8)
    except (binascii.Error, UnidentifiedImageError, Image.DecompressionBombError, OSError, ValueError) as error:
        raise DataError(f"image {index} cannot be read: {error}", "give a PNG or JPEG in base64") from None
