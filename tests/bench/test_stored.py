"""Codes multiplied out, matched to the parameters they stand for, and spread over bins."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from lessen.bench.histogram import spread
from lessen.bench.matching import match
from lessen.bench.modules import add_up, rows, tree_of_names
from lessen.bench.stored import Stored, of_onnx
from lessen.measure import weights

RNG = np.random.default_rng(0)


def model(folder: Path, tensors: dict[str, np.ndarray], nodes: list[onnx.NodeProto]) -> Path:
    graph = helper.make_graph(nodes, "g", [], [], [numpy_helper.from_array(v, n) for n, v in tensors.items()])
    file = folder / "model.onnx"
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 21)]), file)
    return file


def stored(name: str, values: np.ndarray) -> Stored:
    return Stored(name, values.astype(np.float32), int(np.count_nonzero(values)), values.size * 4, 32)


def test_one_scale_and_zero_point_for_a_table_that_is_looked_up(tmp_path: Path) -> None:
    codes = RNG.integers(0, 256, (6, 4), dtype=np.uint8)
    codes[0] = 100
    tensors = {"t_quantized": codes, "t_scale": np.float32(0.5), "t_zero_point": np.uint8(100)}
    file = model(tmp_path, {k: np.asarray(v) for k, v in tensors.items()},
                 [helper.make_node("Gather", ["t_quantized", "ids"], ["out"])])  # fmt: skip
    (found,) = of_onnx([file])
    np.testing.assert_array_equal(found.values, (codes.astype(np.float32) - 100) * 0.5)
    assert found.nonzero == np.count_nonzero(codes != 100)
    assert (found.bits, found.bytes) == (8, 24 + 4 + 1)
    tally = weights.count(tmp_path)
    assert tally is not None
    assert (tally.parameters, tally.nonzero) == (found.size, found.nonzero)


@pytest.mark.parametrize(("op", "axis"), [("MatMulInteger", 1), ("ConvInteger", 0)])
def test_one_scale_a_channel_of_a_square_matrix(tmp_path: Path, op: str, axis: int) -> None:
    codes = RNG.integers(-128, 128, (5, 5), dtype=np.int8)
    scale = np.linspace(0.1, 0.5, 5, dtype=np.float32)
    file = model(
        tmp_path, {"w_quantized": codes, "w_scale": scale}, [helper.make_node(op, ["x", "w_quantized"], ["y"])]
    )
    (found,) = of_onnx([file])
    wanted = codes * (scale[None, :] if axis else scale[:, None])
    np.testing.assert_allclose(found.values, wanted, rtol=1e-6)
    assert found.grid is not None
    grid, median, zero = found.grid.values()
    assert (len(grid), grid[128], zero) == (256, 0.0, 0.0)
    assert median == pytest.approx(0.3)


def test_groups_whose_last_one_is_not_full(tmp_path: Path) -> None:
    codes = RNG.integers(0, 16, (2, 48), dtype=np.uint8)
    scale, zero = np.array([[1, 2], [3, 4]], np.float32), np.array([[8, 0], [1, 15]], np.uint8)
    tensors = [
        _four_bits("w_quantized", codes), _four_bits("w_zero_point", zero), numpy_helper.from_array(scale, "w_scale")
    ]  # fmt: skip
    node = helper.make_node(
        "DequantizeLinear", ["w_quantized", "w_scale", "w_zero_point"], ["w"], axis=1, block_size=32
    )
    graph = helper.make_graph([node], "g", [], [], tensors)
    file = tmp_path / "model.onnx"
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 21)]), file)
    (found,) = of_onnx([file])
    group = np.arange(48) // 32
    wanted = (codes.astype(np.float32) - zero[:, group]) * scale[:, group]
    np.testing.assert_array_equal(found.values, wanted)
    tally = weights.count(tmp_path)
    assert tally is not None
    assert tally.nonzero == found.nonzero == np.count_nonzero(wanted)
    assert found.bits == 4


def _four_bits(name: str, values: np.ndarray) -> onnx.TensorProto:
    flat = values.ravel()
    raw = (flat[0::2] | (flat[1::2] << 4)).astype(np.uint8).tobytes()
    return helper.make_tensor(name, TensorProto.UINT4, values.shape, raw, raw=True)


def test_shapes_axes_and_single_numbers_are_no_weights(tmp_path: Path) -> None:
    tensors = {
        "shape": np.array([1, 2, 3], np.int64), "axis": np.array([1, 2], np.int32), "one": np.ones(1, np.float32),
        "mask": np.array([True, False]), "w": np.ones((2, 2), np.float32),
    }  # fmt: skip
    assert [s.name for s in of_onnx([model(tmp_path, tensors, [])])] == ["w"]


def test_weights_are_found_by_name_by_number_and_by_order() -> None:
    a, b, c, d = (RNG.normal(size=(4, 6)) for _ in range(4))
    square = RNG.normal(size=(5, 5))
    parameters = {
        "x.weight": stored("x.weight", a), "y.weight": stored("y.weight", b), "z.weight": stored("z.weight", c),
        "q.weight": stored("q.weight", square), "n.bias": stored("n.bias", np.arange(4.0)),
    }  # fmt: skip
    files = [
        stored("module.x.weight", a + 1e-3),  # by name
        stored("val_1", c.T + 1e-3),  # by its numbers, transposed
        stored("val_2", square.T),  # square: the orientation is told by the numbers
        stored("val_3", d),  # a folded convolution: only its shape is left
        stored("else", RNG.normal(size=7)),
    ]
    found, left = match(files, parameters)
    assert {n: (m.stored.name, m.turned) for n, m in found.items()} == {
        "x.weight": ("module.x.weight", False), "z.weight": ("val_1", True), "q.weight": ("val_2", True),
        "y.weight": ("val_3", False),
    }  # fmt: skip
    assert found["x.weight"].error == pytest.approx(1e-6, rel=1e-3)
    assert found["q.weight"].error == 0.0
    assert found["y.weight"].error is None  # they are not the same numbers: there is no rounding to tell of
    assert [s.name for s in left] == ["else"]


def test_parts_add_up_and_lists_get_what_is_within() -> None:
    names = ["enc.layer.0.w", "enc.layer.1.w", "head.w"]
    shapes = {n: [2, 2] for n in names}
    root = tree_of_names(names, shapes)
    own = {n: (stored(n, np.array([[1.0, 0.0], [2.0, 3.0]])), 0.5 if "enc" in n else None) for n in names}
    add_up(root, own)
    table = {r["id"]: r for r in rows(root, {"": 30, "enc.layer.0": 10, "enc.layer.1": 15}, {}, {})}
    assert [table[i]["parameters"] for i in ("model", "enc", "enc.layer", "head")] == [12, 8, 8, 4]
    assert table["enc"]["nonzero"] == 6
    assert table["enc"]["sparsity"] == 0.25
    assert table["model"]["error"] == 0.5  # of the weights that were compared
    assert table["head"]["error"] is None
    assert table["enc.layer"]["flops"] == 25
    assert table["enc.layer.0"]["fold"] == table["enc.layer.1"]["fold"]


def test_a_histogram_leaves_out_what_is_not_finite_and_says_so() -> None:
    values = np.array([[0.0, 1.0], [np.nan, -1.0]])
    found = spread([stored("w", values)], [stored("v", np.array([3.0, 0.5]))], 4)
    assert (found["n"], sum(found["counts"]), sum(found["against_counts"])) == (3, 3, 2)
    assert (found["min"], found["max"]) == (-1.0, 1.0)
    assert (found["edges"][0], found["edges"][-1]) == (-1.0, 3.0)
    assert "1 weights are not finite" in found["remarks"][0]
    flat = spread([stored("w", np.zeros(3))], [], 2)
    assert sum(flat["counts"]) == 3
    assert flat["zeros"] == 3
