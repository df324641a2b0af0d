"""Answer texts with this model: python how_to_load.py "a text" ["another text" ...]

Needs: numpy, onnxruntime, tokenizers. Neither torch nor lessen.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime
from tokenizers import Tokenizer

HERE = Path(__file__).resolve().parent


def read(name: str) -> dict[str, Any]:
    """Return the values of a JSON file beside this one."""
    values: dict[str, Any] = json.loads((HERE / name).read_text(encoding="utf-8"))
    return values


def tokens(texts: list[str]) -> dict[str, Any]:
    """Return ids and mask [texts, longest]."""
    settings, tokenizer = read("tokenizer_config.json"), Tokenizer.from_file(str(HERE / "tokenizer.json"))
    pad = settings["pad_token"]["content"] if isinstance(settings["pad_token"], dict) else settings["pad_token"]
    tokenizer.enable_truncation(int(settings["model_max_length"]))
    tokenizer.enable_padding(pad_id=tokenizer.token_to_id(pad), pad_token=pad)
    read_ = tokenizer.encode_batch(texts)
    ids, mask = (np.array([getattr(r, name) for r in read_], dtype=np.int64) for name in ("ids", "attention_mask"))
    return {"input_ids": ids, "attention_mask": mask}


def probabilities(logits: Any, info: dict[str, Any]) -> Any:
    """Return the probability of every label, [texts, labels]."""
    z = logits.astype(np.float64)
    if info["output"] == "sigmoid":
        p = 1 / (1 + np.exp(-z))
        return p if info["multi_label"] else np.concatenate([1 - p, p], axis=1)
    e = np.exp(z - z.max(axis=1, keepdims=True))
    return e / e.sum(axis=1, keepdims=True)


def label(p: Any, info: dict[str, Any]) -> Any:
    """Return the label of one text; a list of labels where several may hold."""
    names = info["labels"]
    if info["multi_label"]:
        return [name for name, value in zip(names, p, strict=True) if value >= info["threshold"]]
    return names[int(p[1] >= info["threshold"])] if len(names) == 2 else names[int(p.argmax())]


def main(texts: list[str]) -> None:
    """Print one JSON line a text."""
    manifest = read("lessen.json")
    info, options = manifest["info"], onnxruntime.SessionOptions()
    for name, value in manifest["facts"].get("session_config", {}).items():
        options.add_session_config_entry(name, value)
    session = onnxruntime.InferenceSession(str(HERE / "model.onnx"), options, providers=["CPUExecutionProvider"])
    (logits,) = session.run(None, tokens(texts))
    for p in probabilities(logits, info):
        known = {name: round(float(value), 6) for name, value in zip(info["labels"], p, strict=True)}
        print(json.dumps({"label": label(p, info), "probabilities": known}, ensure_ascii=False))


if __name__ == "__main__":
    main(sys.argv[1:])
