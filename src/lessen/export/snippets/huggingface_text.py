"""Answer texts with this model: python how_to_load.py "a text" ["another text" ...]

Needs: torch, transformers.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path

from transformers import pipeline


def main(texts: list[str]) -> None:
    """Print one JSON line a text: the score of every label, the highest first."""
    answer = pipeline("text-classification", model=str(Path(__file__).resolve().parent), top_k=None)
    for scores in answer(texts, truncation=True):
        print(json.dumps({one["label"]: round(one["score"], 6) for one in scores}, ensure_ascii=False))


if __name__ == "__main__":
    main(sys.argv[1:])
