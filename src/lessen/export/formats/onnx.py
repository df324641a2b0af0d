"""ONNX: one file with dynamic batch and length, for onnxruntime and whatever else reads it.

Attention is exported in its plain form: exact, and about 8 % faster in onnxruntime after INT8 than the fused form
(4-layer BERT, 256 wide, 128 tokens: 3.25 against 3.62 ms on one core).
"""

from __future__ import annotations

import logging
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from lessen.export.formats import safetensors
from lessen.runtimes.onnx import FILE

if TYPE_CHECKING:
    from lessen.artifact import Artifact
    from lessen.models import Model

RUNTIME = "onnx"
OPSET = 20
_NOISE = "torch.onnx._internal.exporter._registration"  # says once per export that torchvision is absent


def refuse(source: Artifact) -> str | None:
    """Return why this artifact cannot be written as ONNX, or None."""
    if source.manifest.runtime == RUNTIME or safetensors.types(source.path) == {"F32"}:
        return None
    return (
        f"{source.path} holds weights of {', '.join(sorted(safetensors.types(source.path)))}, which ONNX Runtime does "
        "not compute with on a CPU; export the artifact it was made from"
    )


def fill(source: Artifact, folder: Path) -> None:
    """Write model.onnx and the processor's files into a folder."""
    if source.manifest.runtime == RUNTIME:
        (folder / FILE).write_bytes((source.path / FILE).read_bytes())
        source.processor.save(folder)
        return
    from lessen import models

    model = models.open_model(source, "cpu")
    write(model, folder / FILE)
    model.processor.save(folder)


def facts(folder: Path) -> dict[str, Any]:
    """Return what is known of the file: opset and how its weights are stored."""
    from lessen.export import graph

    model = graph.read(folder / FILE)
    return {"opset": max(o.version for o in model.opset_import if not o.domain), "weights": graph.weights(model)}


def write(model: Model, file: Path) -> None:
    """Export a model's logits as a function of the processor's inputs, batch and length dynamic."""
    import torch
    from torch import nn

    from lessen.export import graph

    class Logits(nn.Module):
        """Positional inputs in, logits out."""

        def __init__(self, module: nn.Module, names: tuple[str, ...]) -> None:
            super().__init__()
            self.module, self.names = module, names

        def forward(self, *inputs: Any) -> Any:
            return self.module(**dict(zip(self.names, inputs, strict=True))).logits

    _plain_attention_(model.module)
    names = model.processor.input_names
    example = _example(model)
    free = dict.fromkeys((0, 1) if model.processor.kind == "text" else (0,), torch.export.Dim.DYNAMIC)
    with _quiet():
        program: Any = torch.onnx.export(
            Logits(model.module, names).eval(),
            tuple(torch.from_numpy(example[name]) for name in names),
            dynamo=True,
            input_names=list(names),
            output_names=["logits"],
            dynamic_shapes=(tuple(free for _ in names),),
            opset_version=OPSET,
            verbose=False,
        )
    proto = program.model_proto
    graph.tidy_(proto)
    _name_axes_(proto, model.processor.kind)
    graph.write(proto, file)


def _example(model: Model) -> dict[str, np.ndarray[Any, Any]]:
    """Return two samples: sizes other than 1, one of them padded, so that nothing is taken for a constant."""
    processor: Any = model.processor
    if processor.kind == "text":
        ids = np.arange(9, dtype=np.int32) % processor.vocab_size
        out: dict[str, np.ndarray[Any, Any]] = processor.collate([ids, ids[:5]])
    else:
        side = (processor.size, processor.size, processor.channels)
        out = processor.collate([np.full(side, value, dtype=np.uint8) for value in (0, 128)])
    return out


def _plain_attention_(module: Any) -> None:
    for part in module.modules():
        if hasattr(part, "set_attn_implementation"):
            part.set_attn_implementation("eager")


def _name_axes_(proto: Any, kind: str) -> None:
    for value in proto.graph.input:
        dims = value.type.tensor_type.shape.dim
        dims[0].dim_param = "batch"
        if kind == "text":
            dims[1].dim_param = "length"
    proto.graph.output[0].type.tensor_type.shape.dim[0].dim_param = "batch"


@contextmanager
def _quiet() -> Iterator[None]:
    """Silence what torch's exporter says about its own insides."""
    logger = logging.getLogger(_NOISE)
    level = logger.level
    logger.setLevel(logging.ERROR)
    try:
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", message=".*treespec.*", category=FutureWarning)
            warnings.filterwarnings("ignore", message=".*axis name.*", category=UserWarning)
            yield
    finally:
        logger.setLevel(level)
