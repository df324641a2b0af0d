"""Runs that take seconds: on docstrings, and on a table whose label is the kind of most of a text's words."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

TRAIN = {"epochs": 3, "batch_size": 16, "lr": 5e-3}
WORDS = {"cat": ["purr", "meow", "whisker", "kitten", "paw"], "dog": ["bark", "wag", "fetch", "puppy", "bone"]}


def table(folder: Path, rows: int = 240) -> Path:
    """Write the table as CSV and return its path."""
    draw = np.random.default_rng(0)
    lines = ["Comments,HateSpeech"]
    for i in range(rows):
        label = ("cat", "dog")[i % 2]
        words = [str(w) for w in draw.choice(WORDS[label], 4)] + [str(draw.choice(WORDS["cat"] + WORDS["dog"]))]
        lines.append(f"{' '.join(words)} number {i},{label}")
    file = folder / "animals.csv"
    file.write_text("\n".join(lines) + "\n")
    return file


def values(path: Path, **changes: Any) -> dict[str, Any]:
    """Return the settings of a run on the table."""
    given: dict[str, Any] = {
        "name": "tiny",
        "pipeline": "kd_prune_quant",
        "data": {"path": str(path), "max_length": 16},
        "teacher": {"model": "scratch:bert-tiny", "vocab_size": 300, "pooling": "mean", "train": TRAIN},
        "student": {"model": "teacher", "layers": 1},
        "distill": {"train": TRAIN},
        "prune": {"remove_frac": 0.5, "calib_samples": 32, "recover": {**TRAIN, "epochs": 1, "lr": 1e-3}},
        "measure": {"speed": False, "baseline": False, "bootstrap": 50},
    }
    return {**given, **changes}


def docstrings(name: str, max_length: int = 160) -> dict[str, Any]:
    """Return the settings of a run on embedded docstrings: it learns little, and has every stage."""
    return {
        "name": name,
        "pipeline": "kd_prune_quant",
        "data": {"source": "docstrings", "limit": 40, "max_length": max_length},
        "teacher": {
            "model": "scratch:bert-mini", "layers": 2, "hidden_size": 32, "intermediate_size": 64, "heads": 4,
            "vocab_size": 400, "pooling": "mean", "train": {"epochs": 12, "lr": 5e-3, "patience": None},
        },
        "student": {"model": "teacher", "layers": 1},
        "distill": {"teacher_margin": 0.0, "train": {"epochs": 1, "lr": 1e-3}},
        "prune": {"calib_samples": 32, "recover": {"epochs": 1, "lr": 1e-4}},
        "measure": {"seconds": 0.02, "rounds": 2, "bootstrap": 20, "baseline": False, "speed": False},
    }  # fmt: skip
