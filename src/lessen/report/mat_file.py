"""A mapping of plain JSON values as a MATLAB file (version 5, compressed), shaped as decoded JSON would be."""

from __future__ import annotations

import io
import math
import unicodedata
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from numpy.typing import NDArray


def to_mat(mapping: Mapping[str, Any]) -> bytes:
    """Return the mapping as the bytes of a .mat file, one variable a key.

    Lists of mappings with the same keys become struct arrays, of numbers column vectors, of rows of equal length
    matrices, of strings cell columns; an empty mapping becomes [], null NaN. The format keeps no text but ASCII
    reliably: other letters are replaced by their nearest ASCII ones, or by their code points, `U+0995` (the JSON form
    has them as they are).

    Raises:
        ValueError: a list mixes kinds, or its mappings differ in their keys.
    """
    from scipy.io import savemat

    stream = io.BytesIO()
    variables = {k: _value(v) for k, v in mapping.items()}
    savemat(stream, variables, format="5", long_field_names=True, do_compression=True)
    return stream.getvalue()


def ascii_of(text: str) -> str:
    """Return text in ASCII: accents off, known signs spelled out, any other letter as its code point."""
    out = []
    for sign in unicodedata.normalize("NFKD", text.translate(_SIGNS)):
        if sign.isascii():
            out.append(sign)
        elif not unicodedata.combining(sign) or unicodedata.category(sign) != "Mn" or ord(sign) > 0x36F:
            out.append(f"U+{ord(sign):04X}")
    return "".join(out)


_SIGNS = {ord("−"): "-", ord("–"): "-", ord("—"): "-", ord("×"): "x", ord("…"): "...", ord("’"): "'"}


def _value(value: Any) -> Any:
    import numpy as np

    if isinstance(value, Mapping):
        return {k: _value(v) for k, v in value.items()} if value else np.zeros((0, 0))  # isfield([], ...) is false
    if isinstance(value, list | tuple):
        return _list(list(value))
    if isinstance(value, bool):
        return np.bool_(value)
    if isinstance(value, str):
        return ascii_of(value)
    return np.float64(math.nan if value is None else value)


def _list(values: list[Any]) -> NDArray[Any]:
    import numpy as np

    if not values:
        return np.zeros((0, 0))
    if all(isinstance(v, str) for v in values):
        cells = np.empty((len(values), 1), dtype=object)
        cells[:, 0] = [ascii_of(v) for v in values]
        return cells
    if all(isinstance(v, Mapping) for v in values):
        return _structs(values)
    if all(v is None or isinstance(v, int | float) for v in values):
        return np.array([[math.nan if v is None else v] for v in values], dtype=np.float64)
    rows = [_list(v) if isinstance(v, list) else None for v in values]
    shapes = {row.shape for row in rows if row is not None and row.dtype == np.float64}
    if len(shapes) != 1 or any(row is None or row.dtype != np.float64 for row in rows):
        raise ValueError("a list for MATLAB holds numbers, texts, mappings, or rows of numbers of one length")
    return np.stack([row.reshape(row.shape[0]) if row.shape[1:] == (1,) else row for row in rows if row is not None])


def _structs(values: list[Mapping[str, Any]]) -> NDArray[Any]:
    import numpy as np

    names = list(values[0])
    if any(list(v) != names for v in values):
        raise ValueError("the mappings of a list for MATLAB have the same keys in the same order")
    out = np.empty((len(values), 1), dtype=[(name, object) for name in names])
    for i, one in enumerate(values):
        for name in names:
            out[name][i, 0] = _value(one[name])
    return out
