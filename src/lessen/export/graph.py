"""ONNX files as data: what their weights are stored in, and what no deployable file may hold. Imports no torch."""

from __future__ import annotations

import hashlib
import logging
from collections import Counter
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np

from lessen.errors import ArtifactError
from lessen.runtimes import need

PIP = "onnx>=1.23"
WORST_SCALE = 1e3  # an activation scale this many times the median is a mask or a sentinel, not data
PAGE = 4096  # bytes that shared tensors are aligned to, so that onnxruntime maps them from the file
FEWEST_SHARED = 4096  # bytes below which a tensor is not worth sharing
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


def write_together(models: Mapping[str, Any], folder: Path, shared: str) -> None:
    """Write models by file name; a tensor that several of them hold is stored once, in the file `shared`.

    The models are used up: what is shared has left them.

    onnxruntime maps that file into memory, so that sessions of several models share its pages too.

    Raises:
        ArtifactError: a model is larger than the 2 GiB of one protobuf.
    """
    where = {name: _digests(model) for name, model in models.items()}
    held = Counter(digest for found in where.values() for digest in set(found.values()))
    places: dict[str, tuple[int, int]] = {}
    stored = bytearray()
    for name, model in models.items():
        for tensor in model.graph.initializer:
            digest = where[name].get(tensor.name, "")
            if held[digest] < 2:
                continue
            if digest not in places:
                stored += bytes(-len(stored) % PAGE)
                places[digest] = len(stored), len(tensor.raw_data)
                stored += tensor.raw_data
            _outside_(tensor, shared, *places[digest])
    if stored:
        (folder / shared).write_bytes(stored)
    for name, model in models.items():
        write(model, folder / name)


def _digests(model: Any) -> dict[str, str]:
    """Return a digest of type, shape and content of each large tensor; contents are brought into one form."""
    onnx = need("onnx", PIP)
    found = {}
    for tensor in model.graph.initializer:
        if not tensor.HasField("raw_data"):
            tensor.CopyFrom(onnx.numpy_helper.from_array(onnx.numpy_helper.to_array(tensor), tensor.name))
        if len(tensor.raw_data) >= FEWEST_SHARED:
            content = hashlib.sha256(tensor.raw_data).hexdigest()
            found[tensor.name] = f"{tensor.data_type} {list(tensor.dims)} {content}"
    return found


def _outside_(tensor: Any, file: str, offset: int, length: int) -> None:
    """Make a tensor point to a file beside the model, in place."""
    tensor.ClearField("raw_data")
    tensor.data_location = need("onnx", PIP).TensorProto.EXTERNAL
    for key, value in (("location", file), ("offset", offset), ("length", length)):
        entry = tensor.external_data.add()
        entry.key, entry.value = key, str(value)


def say_(model: Any, what: Mapping[str, str]) -> None:
    """Write keys and values into a model's metadata, in place; an open session tells them."""
    for key, value in what.items():
        entry = model.metadata_props.add()
        entry.key, entry.value = key, value


def tie_(model: Any) -> None:
    """Store a matrix that is also there transposed only once, in place: exporters unroll a tied output layer."""
    onnx = need("onnx", PIP)
    arrays = {
        t.name: onnx.numpy_helper.to_array(t)
        for t in model.graph.initializer
        if len(t.dims) == 2 and t.data_type == 1 and min(t.dims) > 1
    }
    looked_up = {node.input[0] for node in model.graph.node if node.op_type == "Gather"}
    nodes = []
    for table in looked_up & arrays.keys():
        for name, array in arrays.items():
            if name in looked_up or array.shape != arrays[table].shape[::-1]:
                continue
            if np.array_equal(array, arrays[table].T):
                model.graph.initializer.remove(next(t for t in model.graph.initializer if t.name == name))
                nodes.append(onnx.helper.make_node("Transpose", [table], [name], name=f"{name}_tied", perm=[1, 0]))
    prepend_(model, nodes)


def untie_(model: Any) -> dict[str, str]:
    """Undo `tie_`, in place; return the table of each matrix that was tied."""
    onnx = need("onnx", PIP)
    stored = {t.name: t for t in model.graph.initializer}
    found = {}
    for node in [n for n in model.graph.node if n.op_type == "Transpose" and n.input[0] in stored]:
        name, table = node.output[0], node.input[0]
        array = np.ascontiguousarray(onnx.numpy_helper.to_array(stored[table]).T)
        model.graph.initializer.append(onnx.numpy_helper.from_array(array, name))
        model.graph.node.remove(node)
        found[name] = table
    return found


def prepend_(model: Any, nodes: list[Any]) -> None:
    """Put nodes before all others, in place."""
    ours = [*nodes, *model.graph.node]
    del model.graph.node[:]
    model.graph.node.extend(ours)


def lookups(model: Any) -> list[Any]:
    """Return the nodes that look rows of a stored table up by what the model is given: embeddings, not arithmetic.

    The positions' buckets of T5 are computed within the graph; quantizing that lookup breaks the session.
    """
    stored = {t.name for t in model.graph.initializer if t.data_type == 1 and len(t.dims) == 2}
    made_by = {out: node for node in model.graph.node for out in node.output}
    given = {value.name for value in model.graph.input}
    found = []
    for node in model.graph.node:
        if node.op_type != "Gather" or node.input[0] not in stored:
            continue
        source = node.input[1]
        while source in made_by and made_by[source].op_type in ("Cast", "Identity", "Reshape", "Unsqueeze", "Squeeze"):
            source = made_by[source].input[0]
        if source in given:
            found.append(node)
    return found


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


def weights(*models: Any) -> dict[str, Any]:
    """Return how weights are stored: elements in all, by type, every tensor left in floating point, and their share.

    Scales and zero points are counted apart: they are what quantizing added, not parameters. A large tensor that
    several models hold counts once.
    """
    onnx = need("onnx", PIP)
    by_type: Counter[str] = Counter()
    left: dict[str, int] = {}
    side = 0
    for tensor in _once(models):
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


def _once(models: tuple[Any, ...]) -> Iterator[Any]:
    seen: set[str] = set()
    for model in models:
        digests = _digests(model) if len(models) > 1 else {}
        yield from (t for t in model.graph.initializer if digests.get(t.name) not in seen)
        seen |= set(digests.values())


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
