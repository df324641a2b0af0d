"""ONNX: one file with dynamic batch and length, for onnxruntime and whatever else reads it.

Sequence-to-sequence models take two, an encoder and a decoder; what generates, and how, is told in `export/tracing.py`.
Attention is exported in its plain form: exact, and about 8 % faster in onnxruntime after INT8 than the fused form
(4-layer BERT, 256 wide, 128 tokens: 3.25 against 3.62 ms on one core).
"""

from __future__ import annotations

import logging
import shutil
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from lessen.export.formats import safetensors
from lessen.runtimes.onnx import FILE, SAID, SHARED, files

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
    source.processor.save(folder)
    for name in SAID if source.info.generates else ():
        if (source.path / name).is_file():
            shutil.copyfile(source.path / name, folder / name)
    if source.manifest.runtime == RUNTIME:
        for name in (*files(source.info.task), SHARED):
            if (source.path / name).is_file():
                shutil.copyfile(source.path / name, folder / name)
        return
    from lessen import models

    model = models.open_model(source, "cpu")
    if source.info.generates:
        from lessen.export import tracing

        tracing.write(model, folder, _export)
    else:
        write(model, folder / FILE)


def facts(folder: Path) -> dict[str, Any]:
    """Return what is known of the file: opset and how its weights are stored."""
    from lessen.export import graph

    parts = [graph.read(file) for file in sorted(folder.glob("*.onnx"))]
    opset = max(o.version for model in parts for o in model.opset_import if not o.domain)
    shared = (folder / SHARED).stat().st_size if (folder / SHARED).is_file() else 0
    return {"opset": opset, "weights": graph.weights(*parts), **({"shared_bytes": shared} if shared else {})}


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
    proto = _export(
        Logits(model.module, names),
        tuple(torch.from_numpy(example[name]) for name in names),
        input_names=list(names),
        output_names=["logits"],
        dynamic_shapes=(tuple(free for _ in names),),
    )
    graph.tidy_(proto)
    _name_axes_(proto, model.processor.kind)
    graph.write(proto, file)


def _export(module: Any, arguments: tuple[Any, ...], **shapes: Any) -> Any:
    """Return the ONNX model of a module; its weights are within."""
    import torch

    with _quiet():
        program: Any = torch.onnx.export(
            module.eval(), arguments, dynamo=True, opset_version=OPSET, verbose=False, external_data=False, **shapes
        )
    return program.model_proto


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
