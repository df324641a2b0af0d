"""Answer texts or image files with this model: python how_to_load.py INPUT ...

Needs: lessen.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

import lessen


def main(inputs: list[str]) -> None:
    """Print one JSON line for each input: the label and the probability of every label."""
    model = lessen.load(Path(__file__).parent)
    for answer in model.predict([_read(item, model.artifact.processor.kind) for item in inputs]):
        print(json.dumps({"label": answer.label, "probabilities": answer.probabilities}, ensure_ascii=False))


def _read(item: str, kind: str) -> Any:
    if kind == "text":
        return item
    import numpy as np
    from PIL import Image

    return np.asarray(Image.open(item).convert("RGB"))


if __name__ == "__main__":
    main(sys.argv[1:])
