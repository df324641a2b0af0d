import logging

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from lessen.errors import ArtifactError
from lessen.export import graph


def model(nodes, initializers):
    values = [helper.make_tensor_value_info(n, TensorProto.FLOAT, ["b", 4]) for n in ("x", "y")]
    tensors = [numpy_helper.from_array(a, n) for n, a in initializers.items()]
    made = helper.make_graph(nodes, "g", [values[0]], [values[1]], tensors)
    return helper.make_model(made, opset_imports=[helper.make_opsetid("", 20)], ir_version=10)


def quantized(scales):
    names = [f"t{i}" for i in range(len(scales))]
    nodes = [helper.make_node("QuantizeLinear", ["x", f"{n}_scale"], [n]) for n in names]
    return model(nodes, {f"{n}_scale": np.array(s, dtype=np.float32) for n, s in zip(names, scales, strict=True)})


def test_a_scale_of_a_mask_is_refused_and_named():
    with pytest.raises(ArtifactError, match=r"tensor x has a scale of 1e\+36.*ort_dynamic"):
        graph.check_scales(quantized([0.01, 0.02, 0.03, 1e36]))


def test_ordinary_scales_pass():
    found = graph.check_scales(quantized([0.01, 0.02, 0.9]))
    assert found["activation_scale_max"] == pytest.approx(0.9)


def test_what_stays_in_floating_point_is_listed_with_its_share():
    floats, ints = np.zeros((4, 4), np.float32), np.zeros((6, 8), np.int8)
    side = {"w_scale": np.ones(8, np.float32), "w_zero_point": np.zeros(8, np.int8)}
    found = graph.weights(model([], {"embedding": floats, "w_quantized": ints, **side, "axes": np.zeros(3, np.int64)}))
    assert found["elements"] == 64
    assert found["float_tensors"] == {"embedding": 16}
    assert found["float_share"] == 0.25
    assert found["side_elements"] == 16


def test_tidying_drops_stale_shapes_and_source_paths():
    made = model([helper.make_node("Identity", ["x"], ["y"])], {})
    made.graph.value_info.append(helper.make_tensor_value_info("t", TensorProto.FLOAT, [1]))
    helper.set_model_props(made, {"kept": "1"})
    entry = made.graph.node[0].metadata_props.add()
    entry.key, entry.value = "pkg.torch.onnx.stack_trace", "/home/me/model.py"
    graph.tidy_(made)
    assert not made.graph.value_info
    assert b"/home/me" not in made.SerializeToString()


def test_the_quantizers_advice_is_held_back_and_logging_is_left_as_it_was(capfd, monkeypatch):
    root = logging.getLogger()
    monkeypatch.setattr(root, "handlers", [])
    with graph.quiet():
        record = logging.LogRecord("root", logging.WARNING, "/x/onnxruntime/quantization/q.py", 1, "advice", None, None)
        assert not root.filter(record)
        root.handle(record)
    assert root.handlers == []
    assert root.filter(record)
    assert capfd.readouterr().err == ""


def test_a_written_model_reads_back(tmp_path):
    made = model([helper.make_node("Identity", ["x"], ["y"])], {})
    graph.write(made, tmp_path / "m.onnx")
    assert graph.read(tmp_path / "m.onnx") == made
    onnx.checker.check_model(made)
