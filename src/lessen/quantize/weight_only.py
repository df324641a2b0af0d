"""Weights alone in 8 or 4 bits, unpacked when the file is opened: a small file that computes in fp32.

Standard ONNX operators (DequantizeLinear per channel, or per group of `group_size` weights), so every weight counts:
matrices, embeddings and convolutions. onnxruntime unpacks them once while it opens the file (`SESSION_CONFIG`), so
the speed and the memory are those of fp32.

Chosen by measuring (BERT of 3 layers, 128 wide, hate-speech texts, one core; speed against fp32 in batches of 32):

    way                                    bytes of 5.58 M   relative logit error   speed
    INT8, unpacked on opening                      1.47 M                 3e-6      0.98
    INT8, MatMulNBits, groups of 128               3.78 M                 2e-6      0.77   embeddings stay fp32
    INT8, unpacked in every call                   1.47 M                 5e-6      0.60
    INT4, groups of 32, unpacked on opening        0.93 M                 5e-4      0.99
    INT4, MatMulNBits, groups of 32                0.93 M                 5e-4      0.65
    INT4, MatMulNBits, symmetric                   0.91 M                 1.5e-3    0.63

Imports no torch.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple, TypedDict

import numpy as np

from lessen.export import graph
from lessen.quantize.ignore import NOTHING, Ignored
from lessen.runtimes import need
from lessen.runtimes.onnx import SHARED

Array = np.ndarray[Any, Any]
SESSION_CONFIG = {"session.disable_quant_qdq": "1"}  # fold DequantizeLinear of a constant into the constant
FEWEST = 256  # elements below which scales and a node outweigh what is saved


class Packed(NamedTuple):
    """Integers, scales and zero points (None: zero), along the axis that was grouped."""

    values: Array
    scale: Array
    zero: Array | None


def pack8(weight: Array, limit: int = 127) -> Packed:
    """Quantize [outputs, inputs] symmetrically to INT8, one scale an output: q = round(w / s), s = max|w| / limit."""
    scale = np.abs(weight).max(axis=1) / limit
    scale = np.where(scale > 0, scale, 1).astype(np.float32)
    return Packed(np.clip(np.rint(weight / scale[:, None]), -limit, limit).astype(np.int8), scale, None)


def pack4(weight: Array, group: int) -> Packed:
    """Quantize [outputs, inputs] to UINT4, one scale and zero point a group of inputs: w = (q - z) s, 0 <= q <= 15.

    Returns:
        values uint8 0..15 [outputs, inputs]; scale and zero point [outputs, ceil(inputs / group)].
    """
    outputs, inputs = weight.shape
    pad = -inputs % group
    parts = np.pad(weight, ((0, 0), (0, pad)), mode="edge").reshape(outputs, -1, group)
    low, high = np.minimum(parts.min(axis=2), 0), np.maximum(parts.max(axis=2), 0)
    scale = (high - low) / 15
    scale = np.where(scale > 0, scale, 1).astype(np.float32)
    zero = np.clip(np.rint(-low / scale), 0, 15)
    values = np.clip(np.rint(parts / scale[..., None]) + zero[..., None], 0, 15)
    return Packed(values.reshape(outputs, -1)[:, :inputs].astype(np.uint8), scale, zero.astype(np.uint8))


class How(TypedDict):
    """What a conversion is told: bits of a weight, weights that share a scale (INT4), and weights that stay."""

    bits: int
    group: int
    ignored: Ignored


def convert(source: Path, target: Path, *, bits: int, group: int, ignored: Ignored = NOTHING) -> dict[str, Any]:
    """Write an fp32 ONNX file again with its weights in `bits` (8 or 4) bits; return what was done."""
    model = graph.read(source)
    stays = ignored.tensors(model)
    model = _packed(model, bits, group, stays)
    graph.write(model, target)
    return _facts(bits, group, model) | ignored.facts([model], [stays])


def convert_all(
    source: Path, target: Path, names: Sequence[str], *, bits: int, group: int, ignored: Ignored = NOTHING
) -> dict[str, Any]:
    """Write the fp32 files of a model that generates again; what several of them hold is stored once.

    Tables that the graph looks up by what it computes (T5's position buckets) stay: they are small and all depends on
    them.

    Args:
        source, target: folders.
        names: of the files.
    """
    made, stays = {}, []
    for name in names:
        model = graph.read(source / name)
        given = {node.input[0] for node in graph.lookups(model)}
        tables = {node.input[0] for node in model.graph.node if node.op_type == "Gather"}
        stays.append(ignored.tensors(model))
        made[name] = _packed(model, bits, group, stays[-1] | frozenset(tables - given))
    facts = _facts(bits, group, *made.values()) | ignored.facts(list(made.values()), stays)
    graph.write_together(made, target, SHARED)
    return facts


def _facts(bits: int, group: int, *models: Any) -> dict[str, Any]:
    return {
        "bits": {"weights": bits, "activations": 32},
        "group_size": group if bits == 4 else None,
        "session_config": SESSION_CONFIG,
        "weights": graph.weights(*models),
    }


def _packed(model: Any, bits: int, group: int, left: frozenset[str]) -> Any:
    """Return a model with its weights packed, but for those whose names are in `left`."""
    onnx = need("onnx", graph.PIP)
    said = {entry.key: entry.value for entry in model.metadata_props}
    graph.tidy_(model)
    if bits == 4:
        model = onnx.version_converter.convert_version(model, 21)  # the first opset with 4 bits and groups
        model.ir_version = max(model.ir_version, 10)
        del model.metadata_props[:]
        graph.say_(model, said)
    nodes: list[Any] = []
    for tensor, rows in list(_weights(model)):
        if tensor.name not in left:
            nodes += _replace_(model.graph, tensor, onnx.numpy_helper.to_array(tensor), rows, bits, group)
    graph.prepend_(model, nodes)
    return model


def _weights(model: Any) -> Iterator[tuple[Any, int]]:
    """Yield the weight tensors worth packing, and their outputs: so many rows; 0 where they are the last axis."""
    users: dict[str, Any] = {}
    for node in model.graph.node:
        for name in node.input:
            users.setdefault(name, node)
    for tensor in model.graph.initializer:
        size = int(np.prod(tensor.dims, dtype=np.int64))
        if tensor.data_type == 1 and len(tensor.dims) >= 2 and size >= FEWEST and tensor.name in users:
            user = users[tensor.name]
            each = tensor.dims[:-1] if user.op_type == "GatherND" else tensor.dims[:1]  # experts: [experts, outputs, :]
            yield tensor, 0 if _transposed(user) else int(np.prod(each, dtype=np.int64))


def _transposed(node: Any) -> bool:
    """Whether an operator takes its weight as [inputs, outputs]."""
    if node.op_type == "Gemm":
        return not any(a.name == "transB" and a.i for a in node.attribute)
    return bool(node.op_type == "MatMul")


def _replace_(graph_: Any, tensor: Any, weight: Array, rows: int, bits: int, group: int) -> list[Any]:
    """Replace a weight by its packed form, in place; return the nodes that unpack it under its old name."""
    onnx = need("onnx", graph.PIP)
    helper, numpy_helper = onnx.helper, onnx.numpy_helper
    rows_first = rows > 0
    flat = weight.reshape(rows, -1) if rows_first else weight.T
    packed = pack8(flat) if bits == 8 else pack4(flat, group)
    name, many = tensor.name, weight.ndim > 2
    values, scale = _turned(packed.values, rows_first), _turned(packed.scale, rows_first)
    stored = [numpy_helper.from_array(np.ascontiguousarray(scale), f"{name}_scale")]
    attributes: dict[str, int] = {"axis": 0 if rows_first else 1}
    if bits == 8:
        stored.append(numpy_helper.from_array(np.ascontiguousarray(values), f"{name}_quantized"))
    else:
        attributes = {"axis": 1 if rows_first else 0, "block_size": group}
        stored.append(_four_bits(values, f"{name}_quantized"))
    inputs = [f"{name}_quantized", f"{name}_scale"]
    if packed.zero is not None:
        stored.append(_four_bits(_turned(packed.zero, rows_first), f"{name}_zero_point"))
        inputs.append(f"{name}_zero_point")
    out = f"{name}_flat" if many else name
    nodes = [helper.make_node("DequantizeLinear", inputs, [out], name=f"{name}_unpack", **attributes)]
    if many:
        stored.append(numpy_helper.from_array(np.array(weight.shape, dtype=np.int64), f"{name}_shape"))
        nodes.append(helper.make_node("Reshape", [out, f"{name}_shape"], [name], name=f"{name}_reshape"))
    graph_.initializer.remove(tensor)
    graph_.initializer.extend(stored)
    return nodes


def _turned(array: Array, rows_first: bool) -> Array:
    return array if rows_first or array.ndim < 2 else array.T


def _four_bits(values: Array, name: str) -> Any:
    """Return a UINT4 tensor, two values a byte, the first in the low half."""
    onnx = need("onnx", graph.PIP)
    flat = np.ascontiguousarray(values).reshape(-1)
    flat = np.append(flat, np.uint8(0)) if flat.size % 2 else flat
    raw = (flat[0::2] | (flat[1::2] << 4)).astype(np.uint8).tobytes()
    return onnx.helper.make_tensor(name, onnx.TensorProto.UINT4, values.shape, raw, raw=True)
