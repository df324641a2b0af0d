"""ONNX files as data: what their weights are stored in, and what no deployable file may hold. Imports no torch."""

from __future__ import annotations

import logging
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np

from lessen.errors import ArtifactError
from lessen.runtimes import need

PIP = "onnx>=1.23"
WORST_SCALE = 1e3  # an activation scale this many times the median is a mask or a sentinel, not data
_SIDE = ("_scale", "_zero_point")  # what quantizing adds beside a weight


def read(file: Path) -> Any:
    """Return the model of an ONNX file."""
    return need("onnx", PIP).load(str(file))


def write(model: Any, file: Path) -> None:
    """Write a model as one file.

    Raises:
        ArtifactError: it is larger than the 2 GiB of one protobuf.
    """
    onnx = need("onnx", PIP)
    if model.ByteSize() >= onnx.checker.MAXIMUM_PROTOBUF:
        raise ArtifactError(
            f"the model takes {model.ByteSize()} bytes; an ONNX file holds 2 GiB", "use a smaller model"
        )
    onnx.save(model, str(file))


def tidy_(model: Any) -> None:
    """Drop what only a debugger reads: stack traces, source paths, and shapes that break onnxruntime's quantizer."""
    del model.graph.value_info[:]
    del model.graph.metadata_props[:]
    del model.functions[:]
    for item in [*model.graph.node, *model.graph.initializer, *model.graph.input, *model.graph.output]:
        item.doc_string = ""
        del item.metadata_props[:]


@contextmanager
def quiet() -> Iterator[None]:
    """Hold back what onnxruntime's quantizer tells the root logger: an advice that our files do not need."""
    root, silent = logging.getLogger(), logging.NullHandler()  # without a handler, logging would install one for good

    def keep(record: logging.LogRecord) -> bool:
        return "onnxruntime" not in record.pathname

    root.addHandler(silent)
    root.addFilter(keep)
    try:
        yield
    finally:
        root.removeFilter(keep)
        root.removeHandler(silent)


def weights(model: Any) -> dict[str, Any]:
    """Return how weights are stored: elements in all, by type, every tensor left in floating point, and their share.

    Scales and zero points are counted apart: they are what quantizing added, not parameters.
    """
    onnx = need("onnx", PIP)
    by_type: Counter[str] = Counter()
    left: dict[str, int] = {}
    side = 0
    for tensor in model.graph.initializer:
        elements = int(np.prod(tensor.dims, dtype=np.int64))
        if tensor.name.endswith(_SIDE):
            side += elements
            continue
        name = onnx.TensorProto.DataType.Name(tensor.data_type).lower()
        if name == "int64":
            continue  # shapes and axes
        by_type[name] += elements
        if name in ("float", "float16", "bfloat16"):
            left[tensor.name] = elements
    total = sum(by_type.values())
    return {
        "elements": total,
        "by_type": dict(by_type),
        "side_elements": side,
        "float_elements": sum(left.values()),
        "float_share": sum(left.values()) / total if total else 0.0,
        "float_tensors": dict(sorted(left.items(), key=lambda item: -item[1])),
    }


def check_scales(model: Any) -> dict[str, float]:
    """Check the activation scales of a statically quantized model, and return their median and maximum.

    A mask of float-min among the calibrated tensors gives a scale of 1e36 and a model that answers noise.

    Raises:
        ArtifactError: a scale is more than 1,000 times the median; names the tensor.
    """
    found = _activation_scales(model)
    if not found:
        return {}
    median = float(np.median([scale for _, scale in found.values()]))
    name, worst = max(found.values(), key=lambda item: item[1])
    if worst > WORST_SCALE * median:
        raise ArtifactError(
            f"the quantized tensor {name} has a scale of {worst:.3g}, {worst / median:.3g} times the median",
            "a mask was quantized as data; leave its operators out, or use backend ort_dynamic",
        )
    return {"activation_scale_median": median, "activation_scale_max": worst, "activation_scales": float(len(found))}


def _activation_scales(model: Any) -> dict[str, tuple[str, float]]:
    """Return, by the name of each stored scale, the tensor that it quantizes and its value."""
    onnx = need("onnx", PIP)
    initializers = {tensor.name: tensor for tensor in model.graph.initializer}
    found = {}
    for node in model.graph.node:
        if node.op_type == "QuantizeLinear" and node.input[1] in initializers:
            scale = onnx.numpy_helper.to_array(initializers[node.input[1]])
            found[node.input[1]] = (node.input[0], float(np.max(scale)))
    return found
