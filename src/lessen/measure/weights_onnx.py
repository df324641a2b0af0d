"""Count the weights in an ONNX model's initializers.

Scales, zero points, shape constants and single numbers are no weights. A quantized weight counts once, with the code
of its zero point as its zero.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from lessen.measure.weights import Tally

# inputs that hold scales or zero points, by operator
_SCALE_INPUTS = {
    "QuantizeLinear": (1, 2), "DequantizeLinear": (1, 2), "MatMulInteger": (2, 3), "ConvInteger": (2, 3),
    "DynamicQuantizeMatMul": (2, 3), "MatMulIntegerToFloat": (2, 3, 4, 5), "MatMulNBits": (2, 3),
    "GatherBlockQuantized": (2, 3), "QLinearConv": (1, 2, 4, 5, 6, 7), "QLinearMatMul": (1, 2, 4, 5, 6, 7),
    "QGemm": (1, 2, 4, 5, 7, 8), "QLinearAdd": (1, 2, 4, 5, 6, 7), "DynamicQuantizeLSTM": (8, 9, 10, 11),
}  # fmt: skip
# which input is the zero point of which weight input
_ZERO_OF = {
    "DequantizeLinear": {0: 2}, "MatMulInteger": {1: 3}, "ConvInteger": {1: 3}, "DynamicQuantizeMatMul": {1: 3},
    "MatMulIntegerToFloat": {1: 5}, "QLinearConv": {3: 5}, "QLinearMatMul": {3: 5}, "QGemm": {3: 5},
}  # fmt: skip
_FORMATS = {
    "float32": "fp32",
    "float16": "fp16",
    "bfloat16": "bf16",
    "float64": "fp64",
    "int8": "int8",
    "uint8": "int8",
}
_PACKED_OPS = {"MatMulNBits": 1, "GatherBlockQuantized": 0}
_SUFFIXES = ("_scale", "_zero_point", "_scales", "_zp", "_zero_points")


@dataclass(frozen=True)
class _Uses:
    """What the nodes say about initializers: which are no weights, packed widths, zero points."""

    skip: frozenset[str]
    packed: dict[str, tuple[int, int]]  # name -> (bits, logical elements)
    zeros: dict[str, str]
    blocks: dict[str, int]  # weights that share a scale, where not all of a channel do


def count_onnx(file: Path, tally: Tally, seen: set[tuple[str, int]] | None = None) -> None:
    """Add the weights of an ONNX file, external data included, to a tally.

    Args:
        seen: where (file, offset) external data was counted already; two graphs may share a table. Added to.
    """
    import onnx
    from onnx import numpy_helper

    seen = set() if seen is None else seen
    outside = _outside(onnx.load(str(file), load_external_data=False))
    model = onnx.load(str(file))
    tensors = {t.name: t for t in model.graph.initializer} | _constants(model)
    uses = _uses(model, tensors)
    for name, tensor in tensors.items():
        if name in uses.skip or name.endswith(_SUFFIXES) or outside.get(name) in seen:
            continue
        seen |= {outside[name]} if name in outside else set()
        kind = onnx.TensorProto.DataType.Name(tensor.data_type)
        if name in uses.packed:
            bits, logical = uses.packed[name]
            codes = _unpack(numpy_helper.to_array(tensor), bits)
            tally.add(logical, min(logical, int(np.count_nonzero(codes != 1 << (bits - 1)))), f"int{bits}")
            continue
        elements = int(np.prod(tensor.dims, dtype=np.int64))
        if elements <= 1 or kind in ("INT64", "BOOL", "STRING") or (kind == "INT32" and name not in uses.zeros):
            continue  # shapes, axes, indices, flags
        values = _numbers(numpy_helper.to_array(tensor))
        zero = _zero(tensors.get(uses.zeros.get(name) or _zero_name(name)), values, uses.blocks.get(name, 0))
        tally.add(elements, int(np.count_nonzero(values != zero)), _format(kind, values))


def _zero_name(name: str) -> str:
    """Return what quantizers call the zero point of a weight; a table that is looked up first names it nowhere else."""
    return f"{name.removesuffix('_quantized')}_zero_point"


def _outside(model: Any) -> dict[str, tuple[str, int]]:
    """Return (file, offset) of every tensor that lies outside of its graph's file."""
    found = {}
    for tensor in model.graph.initializer:
        place = {entry.key: entry.value for entry in tensor.external_data}
        if "location" in place:
            found[tensor.name] = (place["location"], int(place.get("offset", 0)))
    return found


def _uses(model: Any, tensors: dict[str, Any]) -> _Uses:
    skip: set[str] = set()
    packed: dict[str, tuple[int, int]] = {}
    zeros: dict[str, str] = {}
    blocks: dict[str, int] = {}
    for node in model.graph.node:
        names = list(node.input)
        skip.update(names[i] for i in _SCALE_INPUTS.get(node.op_type, ()) if i < len(names))
        for weight, zero in _ZERO_OF.get(node.op_type, {}).items():
            if weight < len(names):
                zeros[names[weight]] = names[zero] if zero < len(names) else ""
        at = _PACKED_OPS.get(node.op_type)
        if at is not None and names[at] in tensors:
            entry = _packed_entry(node, tensors[names[at]])
            if entry:
                packed[names[at]] = entry
        blocks |= dict.fromkeys(names[:1], next((int(a.i) for a in node.attribute if a.name == "block_size"), 0))
    return _Uses(frozenset(skip), packed, zeros, blocks)


def _packed_entry(node: Any, tensor: Any) -> tuple[int, int] | None:
    given = {a.name: a.i for a in node.attribute}
    bits = int(given.get("bits", 4))
    if node.op_type == "MatMulNBits":
        return bits, int(given["K"]) * int(given["N"])
    if tensor.data_type != 2 or bits == 8:  # UINT8 is how 4-bit codes are packed; INT4 tensors say their own size
        return None
    return bits, int(np.prod(tensor.dims, dtype=np.int64)) * (8 // bits)


def _constants(model: Any) -> dict[str, Any]:
    found = {}
    for node in model.graph.node:
        if node.op_type == "Constant":
            for attribute in node.attribute:
                if attribute.name == "value":
                    found[node.output[0]] = attribute.t
    return found


def _zero(tensor: Any, values: Any, block: int) -> Any:
    from onnx import numpy_helper

    if tensor is None:
        return np.zeros((), dtype=values.dtype)
    zero = _numbers(numpy_helper.to_array(tensor))
    if zero.ndim == 0 or zero.size == 1:
        return zero.reshape(())
    if zero.ndim == values.ndim:  # one a group of weights
        for i, (want, have) in enumerate(zip(values.shape, zero.shape, strict=True)):
            each = 1 if want == have else block or -(-want // have)
            zero = np.repeat(zero, each, axis=i).take(range(want), axis=i)
        return zero
    axis = [i for i, d in enumerate(values.shape) if d == zero.size]
    if not axis or not zero.any():
        return np.zeros((), dtype=values.dtype)
    shape = [1] * values.ndim
    shape[axis[0]] = zero.size
    return zero.reshape(shape)


def _numbers(values: Any) -> Any:
    """Return values in a type that numpy itself knows: 4-bit integers as int8, bfloat16 as float32."""
    name = str(values.dtype)
    if name in ("int4", "uint4", "int2", "uint2"):
        return values.astype(np.int8)
    return values.astype(np.float32) if name.startswith(("bfloat", "float8")) else values


def _unpack(data: Any, bits: int) -> Any:
    raw = np.asarray(data, dtype=np.uint8).ravel()
    return np.concatenate([(raw >> shift) & ((1 << bits) - 1) for shift in range(0, 8, bits)]) if bits < 8 else raw


def _format(kind: str, values: Any) -> str:
    if kind in ("INT4", "UINT4", "BFLOAT16"):
        return {"BFLOAT16": "bf16"}.get(kind, "int4")
    return _FORMATS.get(str(values.dtype), kind.lower())
