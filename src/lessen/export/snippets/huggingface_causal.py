"""Continue texts with this model: python how_to_load.py "a text" ["another text" ...]

Needs: torch, transformers.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path

import torch
from transformers import AutoModelForCausalLM, AutoTokenizer

HERE = Path(__file__).resolve().parent


def main(texts: list[str]) -> None:
    """Print one JSON line a text: its continuation, of 64 tokens at most."""
    tokenizer = AutoTokenizer.from_pretrained(HERE)
    model = AutoModelForCausalLM.from_pretrained(HERE)
    start = tokenizer.eos_token_id if tokenizer.bos_token_id is None else tokenizer.bos_token_id
    longest = tokenizer.model_max_length
    for text in texts:  # the model has learned that a text begins with the start token
        said = tokenizer(text, add_special_tokens=False, verbose=False)["input_ids"]
        ids = torch.tensor([[start, *said[-max(longest - 65, longest // 2 - 1, 1) :]]])
        found = model.generate(
            input_ids=ids, attention_mask=torch.ones_like(ids), do_sample=False,
            max_new_tokens=max(1, min(64, longest - ids.shape[1])), pad_token_id=tokenizer.pad_token_id,
        )  # fmt: skip
        print(
            json.dumps(
                {"text": tokenizer.decode(found[0, ids.shape[1] :], skip_special_tokens=True)}, ensure_ascii=False
            )
        )


if __name__ == "__main__":
    main(sys.argv[1:])
