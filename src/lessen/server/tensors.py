"""Is this a safetensors file? Read from its header, before anything else opens it.

Layout: 8 bytes with the header's length (little endian), the header (JSON: name -> dtype, shape, data_offsets), then
the tensors without holes. A file that is cut short, has room between its tensors, or claims more than it holds is
refused; so is everything that only bears the name, such as a pickle.
"""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any

from lessen.errors import LessenError, ModelError

MAX_HEADER_BYTES = 16 << 20
MAX_TENSORS = 20_000
MAX_MARKS = 500_000  # brackets and commas of a header: what reading it takes follows from them
MAX_DIMENSIONS = 16
ITEM_BYTES = {
    "BOOL": 1, "U8": 1, "I8": 1, "F8_E4M3": 1, "F8_E5M2": 1, "I16": 2, "U16": 2, "F16": 2, "BF16": 2, "I32": 4,
    "U32": 4, "F32": 4, "I64": 8, "U64": 8, "F64": 8,
}  # fmt: skip
HINT = "save it again with safetensors"


def check_tensors(path: Path, name: str) -> dict[str, int]:
    """Return {"tensors", "parameters"} of a safetensors file whose header fits its bytes.

    Args:
        name: of the file, for messages.

    Raises:
        ModelError: it is none, or its header is wrong.
    """
    size = path.stat().st_size
    with path.open("rb") as stream:
        length = int.from_bytes(stream.read(8), "little")
        if size < 8 or not 2 <= length <= min(MAX_HEADER_BYTES, size - 8):
            raise _wrong(name, f"its header would have {length} of {size} bytes (at most {MAX_HEADER_BYTES})")
        raw = stream.read(length)
    header = _parsed(raw, name)
    metadata = header.pop("__metadata__", {})
    if not isinstance(metadata, dict) or not all(isinstance(value, str) for value in metadata.values()):
        raise _wrong(name, "its metadata is not text")
    if not header or len(header) > MAX_TENSORS:
        raise _wrong(name, f"it has {len(header)} tensors; allowed are 1 to {MAX_TENSORS}")
    spans = sorted((_span(name, tensor, told) for tensor, told in header.items()), key=lambda s: (s[0], s[1]))
    end = 0
    for start, stop, _ in spans:
        if start != end:
            raise _wrong(name, f"its tensors overlap or leave a hole at byte {end}")
        end = stop
    if end != size - 8 - length:
        raise _wrong(name, f"its tensors have {end} bytes, and {size - 8 - length} follow the header")
    return {"tensors": len(spans), "parameters": sum(count for _, _, count in spans)}


def _parsed(raw: bytes, name: str) -> dict[str, Any]:
    if not raw.startswith(b"{") or sum(raw.count(mark) for mark in (b"{", b"[", b",")) > MAX_MARKS:
        raise _wrong(name, "its header is no JSON object of a sensible size")
    try:
        found = json.loads(raw.decode("utf-8"), object_pairs_hook=_once)
    except (ValueError, RecursionError):  # UnicodeDecodeError is a ValueError
        raise _wrong(name, "its header is not JSON, or names something twice") from None
    if not isinstance(found, dict):
        raise _wrong(name, "its header is no JSON object")
    return found


def _once(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) < len(pairs):
        raise ValueError("a key stands twice")
    return found


def _span(name: str, tensor: str, told: Any) -> tuple[int, int, int]:
    """Return where a tensor begins and ends among the data, and how many numbers it has."""
    shown = f"tensor {tensor[:80]!r}"
    if not isinstance(told, dict) or told.keys() != {"dtype", "shape", "data_offsets"}:
        raise _wrong(name, f"{shown} has other fields than dtype, shape and data_offsets")
    item = ITEM_BYTES.get(told["dtype"]) if isinstance(told["dtype"], str) else None
    if item is None:
        raise _wrong(name, f"{shown} is of dtype {str(told['dtype'])[:20]!r}; known are {', '.join(ITEM_BYTES)}")
    shape, offsets = told["shape"], told["data_offsets"]
    if not _sizes(shape) or len(shape) > MAX_DIMENSIONS or not _sizes(offsets) or len(offsets) != 2:
        raise _wrong(name, f"{shown} has a shape or offsets that are no sizes")
    count = math.prod(shape)
    if offsets[1] - offsets[0] != count * item:
        raise _wrong(name, f"{shown} of shape {str(shape)[:80]} does not fit its bytes")
    return offsets[0], offsets[1], count


def _sizes(values: Any) -> bool:
    return isinstance(values, list) and all(type(v) is int and 0 <= v < 1 << 62 for v in values)


def _wrong(name: str, why: str) -> LessenError:
    return ModelError(f"{name} is no sound safetensors file: {why}", HINT)
