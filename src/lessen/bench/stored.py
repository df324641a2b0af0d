"""The weights that a file holds, as numbers: what is stored in few bits is multiplied out."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

Array = np.ndarray[Any, Any]
CODES = {"int8": (-128, 127), "uint8": (0, 255), "int4": (-8, 7), "uint4": (0, 15)}
_BITS = {"float64": 64, "float32": 32, "float16": 16, "bfloat16": 16, "int8": 8, "uint8": 8, "int4": 4, "uint4": 4}
_NO_WEIGHTS = ("INT64", "INT32", "BOOL", "STRING")
_SIDES = ("_scale", "_zero_point", "_scales", "_zero_points", "_zp")


@dataclass(frozen=True)
class Grid:
    """How codes stand for numbers: (code - zero) * scale."""

    bits: int
    scale: Array  # one, or one a channel or group
    zero: Array  # as many
    low: int
    high: int

    def values(self) -> tuple[list[float], float, float]:
        """Return what can be stored with the median scale, that scale, and its zero point."""
        at = int(np.argsort(self.scale, axis=None, kind="stable")[self.scale.size // 2])
        scale, zero = float(self.scale.ravel()[at]), float(self.zero.ravel()[at if self.zero.size > 1 else 0])
        return [(code - zero) * scale for code in range(self.low, self.high + 1)], scale, zero


@dataclass(frozen=True)
class Stored:
    """One weight tensor of a file."""

    name: str
    values: Array  # fp32
    nonzero: int
    bytes: int  # of the codes or numbers, and of their scales and zero points
    bits: int  # of one weight
    grid: Grid | None = None

    @property
    def size(self) -> int:
        """Number of weights."""
        return int(self.values.size)


def of_module(module: Any) -> dict[str, Stored]:
    """Return the parameters of a torch module by name, tied ones once."""
    import torch

    out = {}
    for name, tensor in module.named_parameters():
        bits = 8 * tensor.element_size()
        values = tensor.detach().to(torch.float32).numpy()
        out[name] = Stored(name, values, int(np.count_nonzero(values)), tensor.numel() * tensor.element_size(), bits)
    return out


def of_onnx(files: list[Path]) -> list[Stored]:
    """Return the weights of ONNX files; what two of them share is returned once. Shapes, axes and scales are none."""
    import onnx

    seen: set[tuple[str, int]] = set()
    out: list[Stored] = []
    for file in files:
        bare = onnx.load(str(file), load_external_data=False)
        outside = {t.name: place for t in bare.graph.initializer if (place := _place(t)) is not None}
        model = onnx.load(str(file))
        shared = {name for name, place in outside.items() if place in seen}
        seen |= set(outside.values())
        out += [w for w in _weights(model) if w.name not in shared and f"{w.name}_quantized" not in shared]
    return out


def _place(tensor: Any) -> tuple[str, int] | None:
    said = {entry.key: entry.value for entry in tensor.external_data}
    return (said["location"], int(said.get("offset", 0))) if "location" in said else None


def _weights(model: Any) -> Iterator[Stored]:
    from onnx import TensorProto, numpy_helper

    tensors = {t.name: t for t in model.graph.initializer} | _constants(model)
    axes = _axes(model)
    for name, tensor in tensors.items():
        kind = TensorProto.DataType.Name(tensor.data_type)
        if name.endswith(_SIDES) or int(np.prod(tensor.dims, dtype=np.int64)) <= 1:
            continue
        stem = name.removesuffix("_quantized")
        scale, zero = (_side(tensors, name, end) for end in ("_scale", "_zero_point"))
        if scale is not None and stem != name:
            found = _unpacked(stem, numpy_helper.to_array(tensor), zero, scale, axes.get(name, (None, 0)))
            shape = tensors.get(f"{stem}_shape")  # stored as a matrix
            yield found if shape is None else replace(found, values=found.values.reshape(numpy_helper.to_array(shape)))
        elif kind not in _NO_WEIGHTS:
            raw = numpy_helper.to_array(tensor)
            values = raw.astype(np.float32)
            bits = _BITS.get(str(raw.dtype), 8 * raw.itemsize)
            yield Stored(name, values, int(np.count_nonzero(values)), raw.size * bits // 8, bits)


def _side(tensors: dict[str, Any], name: str, end: str) -> Array | None:
    """Return the scales or zero points of a weight: of a bias they are named after its codes, of others after it."""
    from onnx import numpy_helper

    tensor = tensors.get(f"{name.removesuffix('_quantized')}{end}", tensors.get(f"{name}{end}"))
    return None if tensor is None else np.asarray(numpy_helper.to_array(tensor)).astype(np.float32)


def _constants(model: Any) -> dict[str, Any]:
    return {
        node.output[0]: a.t
        for node in model.graph.node
        if node.op_type == "Constant"
        for a in node.attribute
        if a.name == "value"
    }


def _axes(model: Any) -> dict[str, tuple[int | None, int]]:
    """Return the axis along which a quantized weight has several scales, and the size of its groups (0: none)."""
    out: dict[str, tuple[int | None, int]] = {}
    for node in model.graph.node:
        if node.op_type == "DequantizeLinear":
            said = {a.name: a.i for a in node.attribute}
            out[node.input[0]] = (said.get("axis", 1), said.get("block_size", 0))
        elif node.op_type == "ConvInteger":
            out[node.input[1]] = (0, 0)
        elif node.op_type == "MatMulInteger":
            out[node.input[1]] = (-1, 0)
    return out


def _unpacked(name: str, codes: Array, zero: Array | None, scale: Array | None, at: tuple[int | None, int]) -> Stored:
    """Multiply codes out: (code - zero) * scale."""
    kind = str(codes.dtype)
    bits = _BITS.get(kind, 8 * codes.itemsize)
    low, high = CODES.get(kind, (-(1 << (bits - 1)), (1 << (bits - 1)) - 1))
    scales = np.ones(1, np.float32) if scale is None else scale
    zeros = np.zeros(1, np.float32) if zero is None else zero
    plain = codes.astype(np.float32)
    moved = plain - _spread(zeros, plain.shape, *at)
    values = moved * _spread(scales, plain.shape, *at)
    side = scales.size * 4 + (0 if zero is None else -(-zeros.size * bits // 8))
    grid = Grid(bits, scales, zeros, low, high) if bits <= 8 else None  # biases have 32
    return Stored(name, values, int(np.count_nonzero(moved)), codes.size * bits // 8 + side, bits, grid)


def _spread(side: Array, shape: tuple[int, ...], axis: int | None, group: int) -> Array:
    """Return scales or zero points so that they fit the weights: one for all, one a channel, or one a group."""
    if side.size == 1:
        return side.reshape(())
    if side.ndim == len(shape):
        along = (axis or 0) % len(shape)
        return np.repeat(side, group or -(-shape[along] // side.shape[along]), axis=along).take(
            range(shape[along]), axis=along
        )
    chosen = axis % len(shape) if axis is not None and shape[axis] == side.size else shape.index(side.size)
    return side.reshape([side.size if i == chosen else 1 for i in range(len(shape))])
