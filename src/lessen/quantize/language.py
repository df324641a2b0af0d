"""INT8 for the graphs of models that generate, which onnxruntime's quantizer alone would break or bloat.

- Embeddings are looked up row by row: INT8 with a scale a row, unpacked after the lookup. Only tables that the inputs
  index count as embeddings; the lookup of T5's position buckets, which the graph computes, breaks when quantized.
- A tied output layer multiplies by the same INT8 table, transposed when the file is opened: the table is stored once.
- Experts, whose weights are gathered for each token, are treated as tables with a row per output; routers stay in fp32.

Imports no torch.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

from lessen.export import graph
from lessen.quantize import cpu
from lessen.quantize.ignore import NOTHING, Ignored, readers
from lessen.quantize.weight_only import pack8
from lessen.runtimes import need
from lessen.runtimes.onnx import PIP, SHARED, files

OPERATORS = ("MatMul", "Gemm")  # Gemm holds GPT-2's Conv1D, whose weights are [inputs, outputs]


def to_int8(source: Path, target: Path, task: str, ignored: Ignored = NOTHING) -> dict[str, Any]:
    """Quantize the fp32 files of a model's folder into another; return what was done and what stayed in fp32.

    Args:
        source, target: folders.
        task: of the model; says which files it has.
        ignored: weights that stay.
    """
    reduce_range = cpu.saturates()
    made, stays = {}, []
    tied: dict[str, int] = {}
    for name in files(task):
        model = graph.read(source / name)
        stays.append(ignored.tensors(model))
        made[name], once = _quantized(model, target / f".{name}.part", reduce_range, stays[-1])
        tied |= once
    weights, left = graph.weights(*made.values()), ignored.facts(list(made.values()), stays)
    graph.write_together(made, target, SHARED)
    return {
        "bits": {"weights": 8, "activations": 8},
        "reduce_range": reduce_range,
        "per_channel": True,
        "tied_bytes": tied,
        "weights": weights,
        **left,
    }


def _quantized(model: Any, work: Path, reduce_range: bool, stays: frozenset[str]) -> tuple[Any, dict[str, int]]:
    """Return a model in INT8, and the bytes of each table that its lookup and its output layer share.

    Args:
        work: a file that onnxruntime writes; removed.
        stays: stored weights that stay in floating point, and with a table the output layer that is tied to it.
    """
    quantization = need("onnxruntime.quantization", PIP)
    tables = {node.input[0] for node in graph.lookups(model)}
    said = {entry.key: entry.value for entry in model.metadata_props}
    graph.tidy_(model)
    tied = graph.untie_(model)
    float_too = frozenset(name for name, table in tied.items() if table in stays)
    with graph.quiet():
        quantization.quantize_dynamic(
            model,
            str(work),
            op_types_to_quantize=list(OPERATORS),
            nodes_to_exclude=[*routers(model), *readers(model, stays | float_too)],
            per_channel=True,
            reduce_range=reduce_range,
            weight_type=quantization.QuantType.QInt8,
        )
    made = graph.read(work)
    work.unlink()
    del made.metadata_props[:]
    graph.say_(made, said)
    stored = {t.name: t for t in made.graph.initializer}
    for name in [n for n in (*tables, *experts(made)) if n not in stays]:
        weight = need("onnx", graph.PIP).numpy_helper.to_array(stored[name])
        _look_up_(made, name, weight, 64 if reduce_range else 127)
    if float_too:
        graph.tie_(made)
    return made, _share_(made, {name: table for name, table in tied.items() if name not in float_too})


def experts(model: Any) -> list[str]:
    """Return the names of stored weights [experts, outputs, inputs] of which each token gathers some."""
    stored = {t.name for t in model.graph.initializer if t.data_type == 1 and len(t.dims) == 3}
    names = [n.input[0] for n in model.graph.node if n.op_type in ("Gather", "GatherND") and n.input[0] in stored]
    return list(dict.fromkeys(names))


def routers(model: Any) -> list[str]:
    """Return the names of the products that choose experts: in fp32, since a small error sends a token astray."""
    made_by = {out: node for node in model.graph.node for out in node.output}
    found = []
    for node in model.graph.node:
        if node.op_type != "TopK":
            continue
        source = made_by.get(node.input[0])
        while source is not None and source.op_type not in OPERATORS:
            source = made_by.get(source.input[0])
        if source is not None:
            found += [source.name, f"{source.name}_MatMul"]  # what onnxruntime makes of a Gemm before it looks
    return found


def _look_up_(model: Any, name: str, weight: np.ndarray[Any, Any], limit: int) -> None:
    """Store a table in INT8 and unpack the rows that are looked up, in place."""
    onnx = need("onnx", graph.PIP)
    helper = onnx.helper
    packed = pack8(weight.reshape(-1, weight.shape[-1]), limit)
    model.graph.initializer.remove(next(t for t in model.graph.initializer if t.name == name))
    for values, kind in (
        (packed.values.reshape(weight.shape), "quantized"),
        (packed.scale.reshape(*weight.shape[:-1], 1), "scale"),
    ):
        model.graph.initializer.append(onnx.numpy_helper.from_array(np.ascontiguousarray(values), f"{name}_{kind}"))
    nodes = list(model.graph.node)
    del model.graph.node[:]
    for node in nodes:
        if node.op_type not in ("Gather", "GatherND") or node.input[0] != name:
            model.graph.node.append(node)
            continue
        out = node.output[0]
        for kind in ("quantized", "scale"):
            part = model.graph.node.add()
            part.CopyFrom(node)
            part.name, part.input[0], part.output[0] = f"{out}_{kind}_rows", f"{name}_{kind}", f"{out}_{kind}"
        model.graph.node.append(helper.make_node("Cast", [f"{out}_quantized"], [f"{out}_wide"], f"{out}_cast", to=1))
        model.graph.node.append(helper.make_node("Mul", [f"{out}_wide", f"{out}_scale"], [out], f"{out}_unpack"))


def _share_(model: Any, tied: dict[str, str]) -> dict[str, int]:
    """Let tied output layers multiply by the table's own INT8 values, in place; return the bytes of each such table."""
    onnx = need("onnx", graph.PIP)
    stored = {t.name: t for t in model.graph.initializer}
    nodes, found = [], {}
    for name, table in tied.items():
        values, scale = stored[f"{table}_quantized"], onnx.numpy_helper.to_array(stored[f"{table}_scale"])
        model.graph.initializer.remove(stored[f"{name}_quantized"])
        stored[f"{name}_scale"].CopyFrom(onnx.numpy_helper.from_array(scale.reshape(-1), f"{name}_scale"))
        zero = np.zeros(len(scale), dtype=np.int8)
        stored[f"{name}_zero_point"].CopyFrom(onnx.numpy_helper.from_array(zero, f"{name}_zero_point"))
        nodes.append(
            onnx.helper.make_node(
                "Transpose", [values.name], [f"{name}_quantized"], name=f"{name}_quantized_tied", perm=[1, 0]
            )
        )
        found[table] = int(np.prod(values.dims))
    graph.prepend_(model, nodes)
    return found
