"""Tiny models of real families and small data, for tests of what is done with a finished model."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np

from lessen.artifact import Artifact
from lessen.data import Split, Splits
from lessen.info import ModelInfo
from lessen.processors import ImageProcessor, train_text_processor

LABELS = ("ant", "bee", "cat")
TEXT_SHAPES: dict[str, dict[str, Any]] = {
    "bert": {"hidden_size": 48, "num_hidden_layers": 2, "num_attention_heads": 4, "intermediate_size": 96},
    "distilbert": {"dim": 48, "n_layers": 2, "n_heads": 4, "hidden_dim": 96},
}
IMAGE_SHAPES: dict[str, dict[str, Any]] = {
    "resnet": {"embedding_size": 16, "hidden_sizes": [16, 32], "depths": [1, 1], "layer_type": "basic"},
    "mobilenet_v2": {"depth_multiplier": 0.35, "min_depth": 8, "expand_ratio": 4, "tf_padding": False},
}
MAX_LENGTH, SIDE = 33, 32


def texts(count: int, seed: int = 0) -> list[str]:
    """Return texts of 1 to 40 made-up words, some of them longer than MAX_LENGTH tokens."""
    rng = np.random.default_rng(seed)
    words = ["".join(rng.choice(list("abdeiklmnorstu"), rng.integers(2, 7))) for _ in range(150)]
    return [" ".join(rng.choice(words, rng.integers(1, 40))) for _ in range(count)]


def splits(kind: str, train: int = 140, rest: int = 40) -> Splits:
    """Return random data of a kind, text or image."""
    rng = np.random.default_rng(1)
    total = train + 2 * rest
    images = list(rng.integers(0, 256, (total, SIDE, SIDE, 3), dtype=np.uint8))
    inputs: list[Any] = texts(total) if kind == "text" else images
    labels, ids = rng.integers(0, len(LABELS), total), np.array([f"{i:04d}" for i in range(total)])
    bounds = {"train": (0, train), "validation": (train, train + rest), "test": (train + rest, total)}
    parts = {n: Split(n, ids[a:b], inputs[a:b], labels[a:b].astype(np.int64)) for n, (a, b) in bounds.items()}
    return Splits(f"{kind}-classification", LABELS, False, **parts, facts={}, digest=kind)


def save(name: str, folder: Path, *, cut: bool = False, **info: Any) -> Artifact:
    """Write an artifact of a family with weights spread out enough that its answers differ.

    Args:
        cut: heads, units or channels of the first group of each kind are cut, so that layers differ.
        info: further fields of ModelInfo.
    """
    import torch

    from lessen import models
    from lessen.models import groups
    from lessen.models.build import config_of, module_of

    torch.manual_seed(0)
    kind = "text" if name in TEXT_SHAPES else "image"
    facts = {"family": name, "task": f"{kind}-classification", "source": "test", "labels": LABELS, **info}
    said = ModelInfo(**facts)
    if kind == "text":
        processor: Any = train_text_processor(texts(400), vocab_size=300, max_length=MAX_LENGTH)
        values = {**TEXT_SHAPES[name], "vocab_size": processor.vocab_size, "max_position_embeddings": MAX_LENGTH}
    else:
        processor = ImageProcessor(SIDE, 1, (0.5,), (0.5,))
        values = {**IMAGE_SHAPES[name], "num_channels": 1}
    model = models.Model(module_of(config_of(name, values, said), said).eval(), processor, said)
    for part in model.module.modules():
        if isinstance(part, torch.nn.Linear | torch.nn.Embedding):
            part.weight.data.mul_(4)
        if isinstance(part, torch.nn.BatchNorm2d):
            part.running_mean.normal_(0, 0.1)
            part.running_var.uniform_(0.02, 0.2)
    if cut:
        seen: set[str] = set()
        for group in groups.groups(model):
            if group.kind not in seen:
                seen.add(group.kind)
                groups.cut_(model, group, range(group.units // 2))
    return models.save(model, folder, stage="teacher", key="", history=({"stage": "teacher"},), facts={})


def answer_in_a_fresh_process(artifact: Artifact, inputs: list[Any], without: tuple[str, ...] = ()) -> np.ndarray:
    """Return the logits of an artifact opened by another interpreter, which must not have imported `without`."""
    kind = artifact.processor.kind
    given = artifact.path.parent / "inputs.json"
    given.write_text(json.dumps([i if kind == "text" else np.asarray(i).tolist() for i in inputs]))
    script = f"""
import json, sys
import numpy as np
import lessen
inputs = json.load(open({str(given)!r}))
inputs = inputs if {kind == "text"} else [np.array(i, dtype=np.uint8) for i in inputs]
logits = lessen.load({str(artifact.path)!r}).logits(inputs)
loaded = [name for name in {without!r} if name in sys.modules]
assert not loaded, loaded
print(json.dumps(logits.tolist()))
"""
    done = run([sys.executable, "-c", script])
    return np.array(json.loads(done.splitlines()[-1]), dtype=np.float32)


def run(command: list[str]) -> str:
    """Return the output of a command that must succeed."""
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    done = subprocess.run(command, capture_output=True, text=True, env=environment, timeout=120, check=False)
    assert done.returncode == 0, done.stderr
    return done.stdout
