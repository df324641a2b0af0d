"""quantize.ignore: what it names stays in floating point, bit for bit, and the rest is quantized."""

from __future__ import annotations

from types import SimpleNamespace

import numpy as np
import onnx
import pytest
import torch
from onnx import TensorProto, helper, numpy_helper

import tiny
from lessen import models, quantize
from lessen.artifact import Artifact
from lessen.context import Context
from lessen.errors import ArtifactError, RecipeError
from lessen.export import export, graph
from lessen.quantize import fake, ignore, language, weight_only
from lessen.quantize.backends import ort_dynamic, ort_static
from lessen.quantize.job import Job
from lessen.recipe import Distill, Export, Quantize, Recipe, parse
from lessen.runtimes.onnx import open_file

FILES = ("ort_dynamic", "ort_static", "weight_int8", "weight_int4")


class Net(torch.nn.Module):
    """Two layers alike and a head."""

    def __init__(self):
        super().__init__()
        torch.manual_seed(0)
        self.table = torch.nn.Embedding(40, 32)
        self.body = torch.nn.Sequential(torch.nn.Linear(32, 32, bias=False), torch.nn.Linear(32, 32, bias=False))
        self.head = torch.nn.Linear(32, 16)


@pytest.fixture
def net():
    return SimpleNamespace(module=Net())


def written(net, file):
    """Write the net as an exporter would: weights transposed and without their names, but for the head's."""
    weights = {n: p.detach().numpy() for n, p in net.module.named_parameters()}
    stored = {
        "module.table.weight": weights["table.weight"],
        "val_1": weights["body.0.weight"].T,
        "val_2": weights["body.1.weight"].T,
        "module.head.weight": weights["head.weight"] * 2,  # folded into
    }
    nodes = [
        helper.make_node("Gather", ["module.table.weight", "ids"], ["a"], name="look"),
        helper.make_node("MatMul", ["a", "val_1"], ["b"], name="one"),
        helper.make_node("MatMul", ["b", "val_2"], ["c"], name="two"),
        helper.make_node("Gemm", ["c", "module.head.weight"], ["logits"], name="out", transB=1),
    ]
    tensors = [numpy_helper.from_array(np.ascontiguousarray(w), n) for n, w in stored.items()]
    return save(nodes, tensors, 16, file)


def save(nodes, tensors, outputs, file):
    given = helper.make_tensor_value_info("ids", TensorProto.INT64, ["n"])
    said = helper.make_tensor_value_info("logits", TensorProto.FLOAT, ["n", outputs])
    model = helper.make_model(
        helper.make_graph(nodes, "net", [given], [said], tensors),
        opset_imports=[helper.make_opsetid("", 20)], ir_version=10,
    )  # fmt: skip
    onnx.save(model, str(file))
    return model


def floats(file):
    """Return the stored matrices of a file that are in floating point."""
    return {
        t.name: numpy_helper.to_array(t)
        for t in graph.read(file).graph.initializer
        if t.data_type == 1 and len(t.dims) >= 2 and not t.name.endswith("_scale")
    }


def convert(backend, source, target, ignored, batches=()):
    if backend == "ort_dynamic":
        return ort_dynamic.to_int8(source, target, ignored)
    if backend == "ort_static":
        return ort_static.to_int8(
            source, target, list(batches), transformer="pixel_values" not in batches[0], ignored=ignored
        )
    return weight_only.convert(source, target, bits=int(backend[-1]), group=16, ignored=ignored)


@pytest.mark.parametrize("backend", FILES)
@pytest.mark.parametrize(
    ("pattern", "left"), [("body.1", "val_2"), ("head", "module.head.weight"), ("table", "module.table.weight")]
)
def test_weights_are_found_by_content_or_name_and_only_they_stay(backend, pattern, left, net, tmp_path):
    model = written(net, tmp_path / "a.onnx")
    ignored = ignore.of_model(net, (pattern,))
    facts = convert(backend, tmp_path / "a.onnx", tmp_path / "b.onnx", ignored, [{"ids": np.arange(40)}])
    (before,) = [numpy_helper.to_array(t) for t in model.graph.initializer if t.name == left]
    after = floats(tmp_path / "b.onnx")
    assert set(after) == {left}
    assert np.array_equal(after[left], before) or np.array_equal(after[left].T, before)
    assert facts["ignored"] == {"patterns": [pattern], "weights": [f"{pattern}.weight"], "tensors": [left]}


@pytest.mark.parametrize("backend", ["ort_dynamic", "weight_int8"])
@pytest.mark.parametrize(("pattern", "tied"), [("out", True), ("table", True), ("body.0", False)])
def test_a_table_that_the_output_layer_shares_stays_once_where_either_is_named(backend, pattern, tied, net, tmp_path):
    net.module.out = torch.nn.Linear(32, 40, bias=False)
    net.module.out.weight = net.module.table.weight
    nodes = [
        helper.make_node("Gather", ["module.out.weight", "ids"], ["a"], name="look"),
        helper.make_node("MatMul", ["a", "val_1"], ["b"], name="one"),
        helper.make_node("Transpose", ["module.out.weight"], ["val_2"], name="tied", perm=[1, 0]),
        helper.make_node("MatMul", ["b", "val_2"], ["logits"], name="out"),
    ]
    weights = {"module.out.weight": net.module.out.weight, "val_1": net.module.body[0].weight.T}
    tensors = [numpy_helper.from_array(np.ascontiguousarray(w.detach().numpy()), n) for n, w in weights.items()]
    save(nodes, tensors, 40, tmp_path / "model.onnx")
    ignored, target = ignore.of_model(net, (pattern,)), tmp_path / "q"
    target.mkdir()
    if backend == "ort_dynamic":
        facts = language.to_int8(tmp_path, target, "causal-lm", ignored)
    else:
        facts = weight_only.convert_all(tmp_path, target, ["model.onnx"], bits=8, group=16, ignored=ignored)
    left = "module.out.weight" if tied else "val_1"
    before, after = floats(tmp_path / "model.onnx"), floats(target / "model.onnx")
    assert set(after) == {left} == set(facts["ignored"]["tensors"])
    assert np.array_equal(after[left], before[left])
    config = facts.get("session_config", {}).items()
    said = [answer(tmp_path / "model.onnx"), answer(target / "model.onnx", config)]
    assert 0 < np.abs(said[0] - said[1]).max() < 0.05 * np.abs(said[0]).max()


def answer(file, config=()):
    return open_file(file, dict(config), threads=1).run(["logits"], {"ids": np.arange(40)})[0]


@pytest.mark.parametrize(
    ("patterns", "why"),
    [
        (("hed",), "no module of this model matches 'hed'; did you mean head"),
        (("*",), "names every weight"),
    ],
)
def test_patterns_that_name_nothing_or_all_are_refused(patterns, why, net):
    with pytest.raises(RecipeError, match=r"quantize.ignore") as error:
        ignore.of_model(net, patterns)
    assert why in str(error.value)


def test_weights_that_cannot_be_told_apart_are_an_error_not_quantized_in_silence(net, tmp_path):
    model = written(net, tmp_path / "a.onnx")
    with torch.no_grad():
        net.module.body[0].weight.mul_(3)
    with pytest.raises(ArtifactError, match=r"quantize.ignore body.0 is found in the ONNX file; val_1 is unknown"):
        ignore.of_model(net, ("body.0",)).tensors(model)


def test_what_should_have_stayed_and_did_not_is_an_error(net, tmp_path):
    model = written(net, tmp_path / "a.onnx")
    ignored = ignore.of_model(net, ("head",))
    model.graph.initializer[-1].data_type = TensorProto.INT32
    with pytest.raises(ArtifactError, match=r"module.head.weight should stay in floating point"):
        ignored.facts([model], [frozenset({"module.head.weight"})])


def test_training_with_rounding_leaves_ignored_modules_exact():
    module = Net()
    rounding = fake.Rounding(module, "dynamic", left=frozenset({"head", "body.1"}))
    assert {id(p) for p in rounding.rounded} == {id(module.table), id(module.body[0])}


@pytest.mark.parametrize("backend", ["bf16", "fp16"])
def test_sixteen_bits_are_all_or_nothing_and_refused_when_the_recipe_is_read(backend):
    values = {"device": "cuda", "pipeline": "quant_only", "quantize": {"backend": backend, "ignore": ["classifier"]}}
    with pytest.raises(RecipeError, match=r"quantize.ignore is classifier; use ort_dynamic"):
        parse(values)
    assert Recipe.model_validate(values | {"quantize": {"backend": backend}})


def test_a_file_of_onnx_does_not_know_its_modules(tmp_path):
    source = SimpleNamespace(path=tmp_path, manifest=SimpleNamespace(runtime="onnx"))
    assert ignore.ignored(source, ()) is ignore.NOTHING
    with pytest.raises(RecipeError, match="quantize the stage before the export"):
        ignore.ignored(source, ("classifier",))


@pytest.fixture(scope="module", params=["bert", "resnet"])
def exported(request, tmp_path_factory):
    folder = tmp_path_factory.mktemp(request.param)
    artifact = tiny.save(request.param, folder / "m")
    data, ctx = tiny.splits(artifact.processor.kind), Context(out_dir=folder, cache_dir=folder / "c", stage="quantize")
    return artifact, data, ctx, export(artifact, Export(), data, ctx, out=folder / "x")[0]


@pytest.mark.slow
def test_exported_models_keep_the_named_layers_and_quantize_the_others(exported, tmp_path):
    artifact, data, ctx, made = exported
    text = artifact.processor.kind == "text"
    pattern = "*.layer.0.*" if text else "*.stages.0.*"
    cfg = Quantize(ignore=(pattern, "classifier"), calib_samples=16)
    job = Job(artifact, cfg, Distill(), data, ctx, tmp_path, tmp_path / "out", made)
    before, batches = floats(made.path / "model.onnx"), job.calibration()[0]
    named = ignore.of_model(models.open_model(artifact), cfg.ignore).left
    for backend in FILES if text else FILES[1:]:
        facts = convert(backend, made.path / "model.onnx", tmp_path / backend, job.ignored(), batches)
        left, after = facts["ignored"]["tensors"], floats(tmp_path / backend)
        assert len(left) == len(named) == (7 if text else 3), backend
        same = [np.array_equal(after[n], before[n]) or np.array_equal(after[n].T, before[n]) for n in left]
        assert all(same), backend
        others = set(after) - set(left)
        assert all(after[n].size < weight_only.FEWEST for n in others), (backend, others)


@pytest.mark.slow
def test_the_stage_says_what_was_left_and_opens(exported, tmp_path):
    artifact, data, ctx, made = exported
    cfg = Quantize(ignore=("classifier*",), calib_samples=16)
    out = quantize.quantize(artifact, cfg, Distill(), data, ctx, out=tmp_path / "q", key="k", onnx=made)
    facts = Artifact(out.path).manifest.facts
    assert facts["ignored"]["patterns"] == ["classifier*"]
    assert set(facts["ignored"]["tensors"]) <= set(facts["weights"]["float_tensors"])
    with pytest.raises(RecipeError, match="no module of this model matches 'clasifier'"):
        quantize.quantize(
            artifact, Quantize(ignore=("clasifier",)), Distill(), data, ctx, out=tmp_path / "n", key="k", onnx=made
        )
    assert not (tmp_path / "n").exists()
