"""Answer texts with this model: python how_to_load.py "a text" ["another text" ...]

Needs: torch, transformers.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path

from transformers import AutoModelForSeq2SeqLM, AutoTokenizer

HERE = Path(__file__).resolve().parent


def main(texts: list[str]) -> None:
    """Print one JSON line a text: the answer, of 64 tokens at most."""
    tokenizer = AutoTokenizer.from_pretrained(HERE)
    model = AutoModelForSeq2SeqLM.from_pretrained(HERE)
    inputs = tokenizer(texts, padding=True, truncation=True, return_tensors="pt")
    found = model.generate(
        input_ids=inputs["input_ids"], attention_mask=inputs["attention_mask"], do_sample=False, max_new_tokens=64
    )
    for text in tokenizer.batch_decode(found, skip_special_tokens=True):
        print(json.dumps({"text": text}, ensure_ascii=False))


if __name__ == "__main__":
    main(sys.argv[1:])
