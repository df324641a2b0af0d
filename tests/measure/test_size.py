from __future__ import annotations

import gzip
import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper
from safetensors.numpy import save_file

from lessen.measure.size import compressed_bytes, run_files, size
from lessen.measure.weights import Tally, count, count_safetensors
from lessen.measure.weights_onnx import count_onnx


def tally(file: Path) -> Tally:
    out = Tally()
    (count_onnx if file.suffix == ".onnx" else count_safetensors)(file, out)
    return out


def test_file_bytes_are_those_of_the_files_needed_to_run(tmp_path: Path, make_artifact: Callable) -> None:
    artifact = make_artifact(tmp_path / "a")
    metrics, facts = size(artifact)
    names = {"model.onnx", "tokenizer.json", "lessen.json"}
    assert names <= set(facts["files"])
    assert "README.md" not in facts["files"]
    assert metrics["file_bytes"].value == sum((artifact.path / n).stat().st_size for n in facts["files"])
    want = sum(len(gzip.compress((artifact.path / n).read_bytes(), 6)) for n in facts["files"])
    assert metrics["file_bytes_compressed"].value == want
    assert compressed_bytes(run_files(artifact)) == metrics["file_bytes_compressed"].value


def test_zeros_are_counted_in_every_number_format_but_take_full_bytes(tmp_path: Path) -> None:
    weight = np.array([[0.0, -0.0, 1.0], [2.0, 0.0, -3.0]], dtype=np.float32)
    save_file({"a.weight": weight, "b.weight": weight.astype(np.float16)}, tmp_path / "model.safetensors")
    found = tally(tmp_path / "model.safetensors")
    assert (found.parameters, found.nonzero) == (12, 6)
    assert found.formats == {"fp32": 6, "fp16": 6}


def test_batch_statistics_are_no_parameters(tmp_path: Path) -> None:
    tensors = {"bn.weight": np.ones(4, np.float32), "bn.running_mean": np.ones(4, np.float32),
               "bn.num_batches_tracked": np.ones(1, np.int64)}  # fmt: skip
    save_file(tensors, tmp_path / "model.safetensors")
    assert tally(tmp_path / "model.safetensors").parameters == 4


def test_packed_int4_counts_the_numbers_it_holds(tmp_path: Path) -> None:
    packed = np.array([[0x21, 0x40]], dtype=np.uint8)  # 1, 2, 0, 4
    note = {"w.packed": json.dumps({"bits": 4, "shape": [1, 4]})}
    save_file({"w": packed, "w.scale": np.ones(1, np.float32)}, tmp_path / "m.safetensors", metadata=note)
    found = tally(tmp_path / "m.safetensors")
    assert (found.parameters, found.nonzero, found.precision) == (4, 3, "int4")


def save_onnx(path: Path, nodes: list, tensors: list) -> Path:
    graph = helper.make_graph(nodes, "g", [], [], tensors)
    onnx.save(helper.make_model(graph), path)
    return path


def test_int8_weights_are_no_zero_bytes_and_keep_their_count(tmp_path: Path) -> None:
    codes = np.array([[3, 5, 7, 3]], dtype=np.uint8)
    tensors = [
        numpy_helper.from_array(codes, "w"),
        numpy_helper.from_array(np.float32(0.1), "s"),
        numpy_helper.from_array(np.uint8(3), "z"),
        numpy_helper.from_array(np.array([2, 3], dtype=np.int64), "shape"),
        numpy_helper.from_array(np.ones(3, dtype=np.float32), "bias"),
    ]
    nodes = [helper.make_node("DequantizeLinear", ["w", "s", "z"], ["y"])]
    found = tally(save_onnx(tmp_path / "m.onnx", nodes, tensors))
    assert found.parameters == 4 + 3
    assert found.nonzero == 2 + 3  # two codes equal the zero point
    assert found.formats == {"int8": 4, "fp32": 3}


def test_int4_with_a_zero_point_a_group_counts_each_number(tmp_path: Path) -> None:
    values = np.array([[1, 2, 3, 4]], dtype=np.uint8)
    weight = helper.make_tensor("w", TensorProto.UINT4, [1, 4], values.ravel().tolist())
    zero = helper.make_tensor("z", TensorProto.UINT4, [1, 2], [1, 4])
    scale = numpy_helper.from_array(np.ones((1, 2), np.float32), "s")
    nodes = [helper.make_node("DequantizeLinear", ["w", "s", "z"], ["y"], axis=1, block_size=2)]
    found = tally(save_onnx(tmp_path / "m.onnx", nodes, [weight, scale, zero]))
    assert (found.parameters, found.nonzero, found.precision) == (4, 2, "int4")


def test_matmulnbits_counts_k_times_n(tmp_path: Path) -> None:
    packed = np.full((8, 2, 8), 0x88, dtype=np.uint8)
    packed[0, 0, 0] = 0x98
    tensors = [numpy_helper.from_array(packed, "b"), numpy_helper.from_array(np.ones(16, np.float32), "s")]
    node = helper.make_node(
        "MatMulNBits", ["a", "b", "s"], ["y"], K=32, N=8, bits=4, block_size=16, domain="com.microsoft"
    )
    found = tally(save_onnx(tmp_path / "m.onnx", [node], tensors))
    assert (found.parameters, found.nonzero) == (256, 1)


def test_weights_of_an_unknown_format_are_not_guessed(tmp_path: Path) -> None:
    assert count(tmp_path) is None
