"""Count weights in files: safetensors read directly, ONNX through its own library."""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

BUFFERS = ("running_mean", "running_var", "num_batches_tracked", "position_ids", "token_type_ids")
_BITS = {
    "F64": 64, "I64": 64, "U64": 64, "F32": 32, "I32": 32, "U32": 32, "F16": 16, "BF16": 16, "I16": 16, "U16": 16,
    "F8_E4M3": 8, "F8_E5M2": 8, "I8": 8, "U8": 8, "BOOL": 8, "F4": 4,
}  # fmt: skip
_NAMES = {"F64": "fp64", "F32": "fp32", "F16": "fp16", "BF16": "bf16", "I8": "int8", "U8": "int8"}
_CHUNK = 1 << 22  # elements


@dataclass
class Tally:
    """Logical weights, those that are not zero, and how many are stored in which number format."""

    parameters: int = 0
    nonzero: int = 0
    formats: dict[str, int] = field(default_factory=dict)

    def add(self, elements: int, nonzero: int, number_format: str) -> None:
        """Count one tensor."""
        self.parameters += elements
        self.nonzero += nonzero
        self.formats[number_format] = self.formats.get(number_format, 0) + elements

    @property
    def precision(self) -> str:
        """The number format of most weights."""
        return max(self.formats, key=lambda name: self.formats[name]) if self.formats else "none"


def count(folder: Path) -> Tally | None:
    """Count the weights of all .safetensors or .onnx files of a folder; None where there are none.

    Where a folder holds both, the ONNX files are counted: they are what its runtime reads.
    """
    onnx_files = sorted(folder.rglob("*.onnx"))
    tensor_files = sorted(folder.rglob("*.safetensors"))
    if not onnx_files and not tensor_files:
        return None
    tally = Tally()
    if onnx_files:
        from lessen.measure.weights_onnx import count_onnx

        seen: set[tuple[str, int]] = set()
        for file in onnx_files:
            count_onnx(file, tally, seen)
        return tally
    for file in tensor_files:
        count_safetensors(file, tally)
    return tally


def count_safetensors(file: Path, tally: Tally) -> None:
    """Count the tensors of a safetensors file, buffers such as batch statistics left out.

    A weight that is stored packed is described by an entry `<name>.packed` of the file's metadata:
    {"bits": 4, "shape": [out, in]}; its companions `<name>.scale`, `<name>.zero_point` are not weights.
    """
    header, start = read_header(file)
    packed = _packed(header.pop("__metadata__", {}) or {})
    companions = {f"{name}{end}" for name in packed for end in ("_scale", "_zero_point", ".scale", ".zero_point")}
    raw = np.memmap(file, dtype=np.uint8, mode="r", offset=0)
    for name, entry in header.items():
        if name.rsplit(".", 1)[-1] in BUFFERS or name in companions:
            continue
        low, high = entry["data_offsets"]
        data = raw[start + low : start + high]
        elements = int(np.prod(entry["shape"], dtype=np.int64))
        if name in packed:
            bits, shape = packed[name]
            logical = int(np.prod(shape, dtype=np.int64))
            tally.add(logical, min(logical, count_nonzero_packed(data, bits)), f"int{bits}")
        else:
            tally.add(elements, count_nonzero(data, entry["dtype"]), _NAMES.get(entry["dtype"], entry["dtype"].lower()))


def read_header(file: Path) -> tuple[dict[str, Any], int]:
    """Return the header of a safetensors file and the offset at which its data start."""
    with file.open("rb") as stream:
        length = int.from_bytes(stream.read(8), "little")
        return json.loads(stream.read(length)), 8 + length


def count_nonzero(data: NDArray[np.uint8], dtype: str) -> int:
    """Count numbers other than zero in raw little-endian bytes; negative zero is zero."""
    bits = _BITS.get(dtype, 8)
    if bits == 4:
        return count_nonzero_packed(data, 4)
    whole = data.view(f"<u{bits // 8}") if data.size % (bits // 8) == 0 and _aligned(data, bits) else None
    total = 0
    step = _CHUNK * (bits // 8)
    for begin in range(0, data.size, step):
        part = whole[begin // (bits // 8) : (begin + step) // (bits // 8)] if whole is not None else None
        if part is None:
            part = np.frombuffer(data[begin : begin + step].tobytes(), dtype=f"<u{bits // 8}")
        if dtype.startswith(("F", "BF")):
            part = part & part.dtype.type((1 << (bits - 1)) - 1)  # the sign bit away
        total += int(np.count_nonzero(part))
    return total


def count_nonzero_packed(data: NDArray[np.uint8], bits: int, zero: int = 0) -> int:
    """Count packed numbers of 2 or 4 bits that differ from the code that stands for zero."""
    mask = (1 << bits) - 1
    return sum(int(np.count_nonzero(((data >> shift) & mask) != zero)) for shift in range(0, 8, bits))


def _aligned(data: NDArray[np.uint8], bits: int) -> bool:
    return int(data.ctypes.data) % (bits // 8) == 0


def _packed(metadata: dict[str, str]) -> dict[str, tuple[int, list[int]]]:
    out = {}
    for key, text in metadata.items():
        if key.endswith(".packed"):
            entry = json.loads(text)
            out[key.removesuffix(".packed")] = (int(entry["bits"]), list(entry["shape"]))
    return out
