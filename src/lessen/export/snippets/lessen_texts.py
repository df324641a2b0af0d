"""Generate texts with this model: python how_to_load.py "a text" ["another text" ...]

Needs: lessen.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

import lessen


def main(texts: list[str]) -> None:
    """Print one JSON line a text: the answer or continuation; the label and its probability where there are labels."""
    model: Any = lessen.load(Path(__file__).parent)
    if model.artifact.info.labels:
        for answer in model.predict(texts):
            print(json.dumps({"label": answer.label, "probabilities": answer.probabilities}, ensure_ascii=False))
        return
    for text in model.generate(texts, max_new_tokens=64, beams=1):
        print(json.dumps({"text": text}, ensure_ascii=False))


if __name__ == "__main__":
    main(sys.argv[1:])
