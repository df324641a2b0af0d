import numpy as np
import onnx
import onnxruntime
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays
from onnx import TensorProto, helper, numpy_helper

from lessen.quantize import weight_only

matrices = arrays.arrays(
    np.float32, st.tuples(st.integers(1, 5), st.integers(1, 40)), elements=st.floats(-100, 100, width=32)
)


@given(matrices)
@settings(max_examples=60, deadline=None)
def test_eight_bits_are_half_a_step_away_at_most(weight):
    values, scale, zero = weight_only.pack8(weight)
    assert zero is None
    assert np.all(np.abs(values * scale[:, None] - weight) <= scale[:, None] * 0.5001)


@given(matrices, st.sampled_from([4, 16, 32]))
@settings(max_examples=60, deadline=None)
def test_four_bits_are_one_step_away_at_most(weight, group):
    values, scale, zero = weight_only.pack4(weight, group)
    assert values.max() <= 15
    assert scale.shape == zero.shape == (len(weight), -(-weight.shape[1] // group))
    wide = lambda a: np.repeat(a, group, axis=1)[:, : weight.shape[1]].astype(np.float32)  # noqa: E731
    error = np.abs((values - wide(zero)) * wide(scale) - weight)
    assert np.all(error <= wide(scale) * 1.001)


def test_a_weight_of_zeros_stays_zero():
    zeros = np.zeros((2, 8), np.float32)
    assert not weight_only.pack8(zeros).values.any()
    packed = weight_only.pack4(zeros, 4)
    assert np.array_equal(packed.values, np.repeat(packed.zero, 4, axis=1))


@pytest.fixture
def files(tmp_path):
    """A graph with a weight in every place that one can have, the inputs groups do not divide."""
    rng = np.random.default_rng(0)
    draw = lambda *shape: rng.normal(size=shape).astype(np.float32)  # noqa: E731
    weights = {
        "table": draw(50, 24), "matrix": draw(24, 36), "gemm": draw(20, 36), "gemm_t": draw(20, 44),
        "conv": draw(16, 1, 3, 3), "depth": draw(32, 1, 3, 3), "bias": draw(36),
    }  # fmt: skip
    nodes = [
        helper.make_node("Gather", ["table", "ids"], ["a"]),
        helper.make_node("MatMul", ["a", "matrix"], ["b"]),
        helper.make_node("Add", ["b", "bias"], ["c"]),
        helper.make_node("Gemm", ["c", "gemm"], ["d"], transB=1),
        helper.make_node("Gemm", ["d", "gemm_t"], ["e"]),
        helper.make_node("Unsqueeze", ["e", "axes"], ["f"]),
        helper.make_node("Conv", ["f", "conv"], ["g"], pads=[1, 1, 1, 1]),
        helper.make_node("Concat", ["g", "g"], ["h"], axis=1),
        helper.make_node("Conv", ["h", "depth"], ["logits"], group=32, pads=[1, 1, 1, 1]),
    ]
    tensors = [numpy_helper.from_array(w, n) for n, w in weights.items()]
    tensors.append(numpy_helper.from_array(np.array([0, 1]), "axes"))
    graph = helper.make_graph(
        nodes, "g", [helper.make_tensor_value_info("ids", TensorProto.INT64, ["b"])],
        [helper.make_tensor_value_info("logits", TensorProto.FLOAT, [1, 32, "b", 44])], tensors,
    )  # fmt: skip
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 20)], ir_version=10)
    onnx.checker.check_model(model)
    onnx.save(model, tmp_path / "a.onnx")
    return tmp_path / "a.onnx", tmp_path / "b.onnx"


def answer(file, config=()):
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 3
    for name, value in dict(config).items():
        options.add_session_config_entry(name, value)
    session = onnxruntime.InferenceSession(str(file), options, providers=["CPUExecutionProvider"])
    return session.run(None, {"ids": np.array([3, 0, 49, 7])})[0]


@pytest.mark.parametrize(("bits", "error"), [(8, 1e-3), (4, 0.2)])
def test_every_kind_of_weight_is_packed_and_unpacked(files, bits, error):
    facts = weight_only.convert(*files, bits=bits, group=16)
    want, got = answer(files[0]), answer(files[1], facts["session_config"])
    assert np.mean((want - got) ** 2) / np.var(want) < error
    assert set(facts["weights"]["float_tensors"]) == {"bias", "conv"}  # too few numbers to gain
    np.testing.assert_allclose(answer(files[1]), got, rtol=1e-2, atol=1e-2 * np.abs(got).max())


@pytest.mark.parametrize(("bits", "share"), [(8, 0.5), (4, 0.4)])
def test_the_file_is_really_smaller(files, bits, share):
    weight_only.convert(*files, bits=bits, group=16)
    assert files[1].stat().st_size < share * files[0].stat().st_size


def test_four_bits_round_by_onnxs_own_rule(files):
    weight_only.convert(*files, bits=4, group=16)
    model = onnx.load(files[1])
    stored = {t.name: numpy_helper.to_array(t) for t in model.graph.initializer}
    values, scale, zero = weight_only.pack4(numpy_helper.to_array(_weight(files[0], "table")), 16)
    np.testing.assert_array_equal(stored["table_quantized"].astype(np.uint8), values)
    np.testing.assert_array_equal(stored["table_zero_point"].astype(np.uint8), zero)
    np.testing.assert_array_equal(stored["table_scale"], scale)


def _weight(file, name):
    return next(t for t in onnx.load(file).graph.initializer if t.name == name)
