"""The recipes behind the predecessors' four model names, at three levels each, and what a reader must know of them.

`demo` and `balanced` train from scratch on data that is on every machine, at a size that a processor carries in about
a minute and in a few minutes; `thorough` starts from the hub's pretrained weights at full size, and must fetch them.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

Values = dict[str, Any]


@dataclass(frozen=True)
class Level:
    """A preset's settings at one level.

    Attributes:
        note: what readers of the run must know; stands in the report.
    """

    recipe: Mapping[str, Any]
    note: str


def _train(epochs: float, lr: float, batch_size: int = 32, **more: Any) -> Values:
    """Return settings of a training that runs all its epochs."""
    return {"epochs": epochs, "batch_size": batch_size, "lr": lr, "patience": None, **more}


def _measure(seconds: float = 0.1, rounds: int = 3, **more: Any) -> Values:
    """Return settings of a short measurement: about ten calls a round and model, whatever they take."""
    return {"seconds": seconds, "rounds": rounds, "bootstrap": 500, **more}


def _scratch(what: str) -> str:
    return (
        f"trained from scratch {what}: no pretrained weights. Compare the stages with each other, not with what this "
        "architecture reaches when it is pretrained"
    )


def _pretrained(model: str, what: str) -> str:
    return f"starts from the pretrained weights of {model}, fetched from the hub unless they are here; trained {what}"


_TEXT: Values = {"token_dropout": 0.1, "embedding_lr": 2}
_DOCSTRINGS = "docstrings of six installed libraries (which one is it from?)"

DISTILBERT: dict[str, Level] = {
    "demo": Level(
        {
            "data": {"source": "docstrings", "limit": 500, "max_length": 64},
            "teacher": {
                "model": "scratch:distilbert-mini",
                "vocab_size": 4000,
                "pooling": "mean",
                "config": {"attention_dropout": 0.0},
                "train": _train(3, 1e-3, **_TEXT),
            },
            "student": {"model": "teacher", "hidden_size": 128, "intermediate_size": 512, "heads": 4},
            "distill": {"alpha": 0.8, "temperature": 2.0, "train": _train(4, 2e-3, **_TEXT)},
            "prune": {
                "method": "wanda",
                "remove_frac": 0.5,
                "calib_samples": 256,
                "recover": _train(1, 5e-4, token_dropout=0.1, warmup_frac=0.05),
            },
            "measure": _measure(),
        },
        _scratch(f"on 2,100 {_DOCSTRINGS}, as a DistilBERT of 2 layers of 256"),
    ),
    "balanced": Level(
        {
            "data": {"source": "docstrings", "max_length": 80},
            "teacher": {
                "model": "scratch:distilbert-mini",
                "layers": 4,
                "pooling": "mean",
                "config": {"attention_dropout": 0.0},
                "train": _train(3, 7e-4, **_TEXT),
            },
            "student": {"model": "teacher", "layers": 2, "hidden_size": 128, "intermediate_size": 512, "heads": 4},
            "distill": {"alpha": 0.8, "temperature": 2.0, "train": _train(4, 2e-3, **_TEXT)},
            "prune": {
                "method": "wanda",
                "remove_frac": 0.5,
                "recover": _train(1, 5e-4, token_dropout=0.1, warmup_frac=0.05),
            },
            "measure": _measure(0.3, 5),
        },
        _scratch(f"on 5,880 {_DOCSTRINGS}, as a DistilBERT of 4 layers of 256"),
    ),
    "thorough": Level(
        {
            "data": {"source": "docstrings", "max_length": 128},
            "teacher": {"model": "distilbert/distilbert-base-uncased", "train": _train(3, 5e-5, weight_decay=0.01)},
            "student": {"model": "teacher", "layers": 3},
            "distill": {"alpha": 0.8, "temperature": 2.0, "train": _train(4, 1e-4)},
            "prune": {"method": "wanda", "remove_frac": 0.3, "recover": _train(2, 5e-5, warmup_frac=0.05)},
            "measure": {"seconds": 1.0},
        },
        _pretrained("distilbert-base-uncased", f"on 5,880 {_DOCSTRINGS}"),
    ),
}

_WORDS = {
    "numpy": "array", "pandas": "table", "scipy": "science", "sklearn": "learning", "torch": "tensor",
    "transformers": "language",
}  # fmt: skip
_THREE = ("numpy", "pandas", "torch")

T5: dict[str, Level] = {
    "demo": Level(
        {
            "data": {
                "source": "docstrings",
                "labels": list(_THREE),
                "label_words": {name: _WORDS[name] for name in _THREE},
                "limit": 700,
                "prefix": "which library: ",
                "max_length": 64,
                "max_target_length": 4,
            },
            "teacher": {
                "model": "scratch:t5-mini",
                "layers": 2,
                "hidden_size": 128,
                "intermediate_size": 512,
                "heads": 4,
                "vocab_size": 4000,
                "config": {"d_kv": 32},
                "train": _train(3, 1e-3, embedding_lr=30, warmup_frac=0.05),
            },
            "student": {"model": "teacher", "layers": 1},
            "distill": {"alpha": 0.5, "train": _train(3, 1e-3, embedding_lr=10, warmup_frac=0.05)},
            "prune": {"remove_frac": 0.3, "calib_samples": 128, "recover": _train(1, 3e-4, warmup_frac=0.05)},
            "measure": _measure(generate=50, max_new_tokens=4),
        },
        _scratch(
            "on 1,470 docstrings of three installed libraries, as a T5 of 2 + 2 layers of 128 that answers with a word"
        ),
    ),
    "balanced": Level(
        {
            "data": {
                "source": "docstrings",
                "label_words": dict(_WORDS),
                "limit": 900,
                "prefix": "which library: ",
                "max_length": 64,
                "max_target_length": 4,
            },
            "teacher": {
                "model": "scratch:t5-mini",
                "layers": 2,
                "config": {"d_kv": 64},
                "train": _train(4, 1e-3, embedding_lr=30, warmup_frac=0.05),
            },
            "student": {"model": "teacher", "layers": 1},
            "distill": {"alpha": 0.5, "train": _train(4, 1e-3, embedding_lr=10, warmup_frac=0.05)},
            "prune": {"remove_frac": 0.3, "calib_samples": 256, "recover": _train(1, 3e-4, warmup_frac=0.05)},
            "measure": _measure(0.2, 5, generate=100, max_new_tokens=4),
        },
        _scratch(f"on 3,780 {_DOCSTRINGS}, as a T5 of 2 + 2 layers of 256 that answers with a word"),
    ),
    "thorough": Level(
        {
            "data": {
                "source": "docstrings",
                "label_words": dict(_WORDS),
                "prefix": "which library: ",
                "max_length": 128,
                "max_target_length": 8,
            },
            "teacher": {"model": "google-t5/t5-small", "train": _train(4, 5e-4, warmup_frac=0.05)},
            "student": {"model": "teacher", "layers": 3},
            "distill": {"alpha": 0.5, "train": _train(5, 5e-4, warmup_frac=0.05)},
            "prune": {"remove_frac": 0.25, "recover": _train(2, 2e-4, warmup_frac=0.05)},
            "measure": {"seconds": 1.0, "max_new_tokens": 8},
        },
        _pretrained("t5-small", f"on 5,880 {_DOCSTRINGS}; it answers with a word"),
    ),
}


def _vision(epochs: float, lr: float, **more: Any) -> Values:
    return _train(epochs, lr, 64, schedule="cosine", **more)


_DIGITS = "on 1,259 handwritten digits of 8 x 8 pixels"
_NARROW = {"embedding_size": 32, "hidden_sizes": [32, 64, 128, 256]}  # half of every width of a ResNet-18

MOBILENET: dict[str, Level] = {
    "demo": Level(
        {
            "data": {"source": "digits", "image_size": 32},
            "teacher": {"model": "scratch:mobilenet-v2", "train": _vision(4, 2e-3)},
            "student": {"model": "scratch:mobilenet-v2-half"},
            "distill": {"alpha": 0.9, "temperature": 4, "train": _vision(5, 3e-3)},
            "prune": {"remove_frac": 0.3, "calib_samples": 256, "recover": _vision(2, 1e-3, warmup_frac=0.05)},
            "measure": _measure(),
        },
        _scratch(f"{_DIGITS}, enlarged to 32 x 32"),
    ),
    "balanced": Level(
        {
            "data": {"source": "digits", "image_size": 64, "augment": "crop"},
            "teacher": {"model": "scratch:mobilenet-v2", "train": _vision(8, 2e-3)},
            "student": {"model": "scratch:mobilenet-v2-half"},
            "distill": {"alpha": 0.9, "temperature": 4, "train": _vision(8, 3e-3)},
            "prune": {"remove_frac": 0.4, "recover": _vision(3, 1e-3, warmup_frac=0.05)},
            "measure": _measure(0.3, 5),
        },
        _scratch(f"{_DIGITS}, enlarged to 64 x 64 and moved at random"),
    ),
    "thorough": Level(
        {
            "data": {"source": "digits", "image_size": 224, "augment": "crop"},
            "teacher": {"model": "google/mobilenet_v2_1.0_224", "train": _vision(10, 5e-4)},
            "student": {"model": "scratch:mobilenet-v2-half"},
            "distill": {"alpha": 0.9, "temperature": 4, "train": _vision(30, 2e-3)},
            "prune": {"remove_frac": 0.4, "recover": _vision(5, 5e-4, warmup_frac=0.05)},
            "measure": {"seconds": 1.0},
        },
        _pretrained("mobilenet_v2_1.0_224", f"{_DIGITS}, enlarged to 224 x 224; give data of your own for more"),
    ),
}

RESNET: dict[str, Level] = {
    "demo": Level(
        {
            "data": {"source": "digits", "image_size": 32},
            "teacher": {"model": "scratch:resnet-18", "train": _vision(3, 1e-3)},
            "student": {"model": "scratch:resnet-tiny"},
            "distill": {"alpha": 0.9, "temperature": 4, "train": _vision(6, 3e-3)},
            "prune": {"remove_frac": 0.3, "calib_samples": 256, "recover": _vision(2, 1e-3, warmup_frac=0.05)},
            "measure": _measure(),
        },
        _scratch(f"{_DIGITS}, enlarged to 32 x 32"),
    ),
    "balanced": Level(
        {
            "data": {"source": "digits", "image_size": 64, "augment": "crop"},
            "teacher": {"model": "scratch:resnet-18", "train": _vision(5, 1e-3)},
            "student": {"model": "scratch:resnet-18", "config": dict(_NARROW)},
            "distill": {"alpha": 0.9, "temperature": 4, "train": _vision(8, 2e-3)},
            "prune": {"remove_frac": 0.5, "recover": _vision(3, 5e-4, warmup_frac=0.05)},
            "measure": _measure(0.3, 5),
        },
        _scratch(f"{_DIGITS}, enlarged to 64 x 64 and moved at random"),
    ),
    "thorough": Level(
        {
            "data": {"source": "digits", "image_size": 224, "augment": "crop"},
            "teacher": {"model": "microsoft/resnet-18", "train": _vision(6, 3e-4)},
            "student": {"model": "scratch:resnet-18", "config": dict(_NARROW)},
            "distill": {"alpha": 0.9, "temperature": 4, "train": _vision(20, 1e-3)},
            "prune": {"remove_frac": 0.5, "recover": _vision(5, 3e-4, warmup_frac=0.05)},
            "measure": {"seconds": 1.0},
        },
        _pretrained("resnet-18", f"{_DIGITS}, enlarged to 224 x 224; give data of your own for more"),
    ),
}
