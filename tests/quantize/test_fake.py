import numpy as np
import onnx
import pytest
import torch
from onnx import TensorProto, helper, numpy_helper
from torch import nn

from lessen.export import graph
from lessen.quantize.backends import ort_dynamic
from lessen.quantize.fake import FakeActivation, FakeWeight, Rounding


def test_weights_round_as_onnxruntime_stores_them(tmp_path, monkeypatch):
    monkeypatch.setattr("lessen.quantize.cpu.saturates", lambda: False)
    torch.manual_seed(0)
    weight = torch.randn(32, 16)
    tensors = [numpy_helper.from_array(weight.T.contiguous().numpy(), "w")]
    values = [helper.make_tensor_value_info(n, TensorProto.FLOAT, ["b", k]) for n, k in (("x", 16), ("y", 32))]
    made = helper.make_graph([helper.make_node("MatMul", ["x", "w"], ["y"])], "g", [values[0]], [values[1]], tensors)
    onnx.save(helper.make_model(made, opset_imports=[helper.make_opsetid("", 20)], ir_version=10), tmp_path / "a.onnx")
    ort_dynamic.to_int8(tmp_path / "a.onnx", tmp_path / "b.onnx")
    stored = {t.name: numpy_helper.to_array(t) for t in graph.read(tmp_path / "b.onnx").graph.initializer}
    theirs = (stored["w_quantized"] * stored["w_scale"]).T
    np.testing.assert_allclose(FakeWeight(127)(weight).numpy(), theirs, atol=1e-6)


def test_activations_round_to_256_levels_that_include_zero():
    x = torch.linspace(0.5, 4.0, 1000)
    y = FakeActivation("dynamic")(x)
    assert len(y.unique()) <= 256
    assert float((x - y).abs().max()) <= 4.0 / 255 / 2 + 1e-6
    assert float(FakeActivation("dynamic")(torch.tensor([-1.0, 0.0, 3.0]))[1]) == 0


def test_the_gradient_passes_straight_through():
    weight = torch.randn(4, 6, requires_grad=True)
    FakeWeight(127)(weight).sum().backward()
    assert torch.equal(weight.grad, torch.ones(4, 6))


@pytest.mark.parametrize("x", [torch.zeros(3, 3), torch.full((2, 2), 5.0)])
def test_a_constant_activation_stays_finite(x):
    assert torch.allclose(FakeActivation("dynamic")(x), x)


def test_static_ranges_are_learned_in_training_and_fixed_afterwards():
    fake = FakeActivation("static")
    fake(torch.tensor([-1.0, 1.0]))
    fake(torch.tensor([-3.0, 2.0]))
    assert float(fake.low) == pytest.approx(-(0.95 * 1 + 0.05 * 3))
    fake.eval()
    assert float(fake(torch.tensor([9.0]))[0]) == pytest.approx(float(fake.high), abs=0.02)
    assert int(fake.seen) == 2


def network():
    torch.manual_seed(0)
    return nn.Sequential(nn.Conv2d(2, 4, 3), nn.BatchNorm2d(4), nn.Flatten(), nn.Linear(16, 3)).eval()


@pytest.mark.parametrize("ranges", ["dynamic", "static"])
def test_rounding_changes_answers_a_little_and_comes_off_without_a_trace(ranges):
    module, x = network(), torch.randn(5, 2, 4, 4)
    before, names = module(x), set(module.state_dict())
    rounding = Rounding(module, ranges)
    during = module(x)
    rounding.remove_()
    assert not torch.equal(before, during)
    assert float((before - during).detach().abs().max()) < 0.1
    assert torch.equal(module(x), before)
    assert set(module.state_dict()) == names


def test_training_through_the_rounding_moves_the_weights_underneath():
    module, x = network(), torch.randn(5, 2, 4, 4)
    rounding = Rounding(module, "dynamic")
    optimizer = torch.optim.SGD(module.parameters(), lr=0.1)
    module(x).square().sum().backward()
    optimizer.step()
    rounding.remove_()
    moved = [not torch.equal(a, b) for a, b in zip(module.parameters(), network().parameters(), strict=True)]
    assert all(moved)


def test_embeddings_round_and_conv_linear_embedding_are_all_found():
    module = nn.Sequential(nn.Embedding(50, 8), nn.Linear(8, 2))
    ids = torch.arange(50)
    before = module[0](ids)
    rounding = Rounding(module, "dynamic")
    assert len(rounding.rounded) == 2
    assert len(rounding.activations) == 1
    assert len(module[0](ids).unique()) <= 256 < len(before.unique())
