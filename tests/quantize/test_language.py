"""Models that generate with fewer bits: smaller, near, tied, and judged token by token."""

from __future__ import annotations

from types import SimpleNamespace

import numpy as np
import onnx
import pytest
from onnx import numpy_helper

import lessen
import tiny_speakers
from lessen import quantize as stage
from lessen.artifact import Artifact
from lessen.context import Context
from lessen.errors import GateError, RecipeError
from lessen.export import export, graph, tracing
from lessen.export.formats.onnx import _export
from lessen.quantize import language, quantize, weight_only
from lessen.recipe import Distill, Export, Quantize
from lessen.runtimes._onnx_decoder import OnnxDecoder
from lessen.runtimes.onnx import files, open_file

pytestmark = pytest.mark.slow
BACKENDS = ("ort_dynamic", "weight_int8", "weight_int4", "bf16")
NEAR = {"ort_dynamic": 0.95, "weight_int8": 0.95, "weight_int4": 0.7, "bf16": 0.95}  # agreement of next tokens


@pytest.fixture(scope="module", params=["t5", "gpt2"])
def source(request, tmp_path_factory):
    """An artifact, its data, its ONNX export, and a folder."""
    folder = tmp_path_factory.mktemp(request.param)
    artifact = tiny_speakers.save(request.param, folder / "m", steps=60, spread=1.0 if request.param == "t5" else 3.0)
    data = tiny_speakers.splits(request.param)
    ctx = Context(out_dir=folder, stage="quantize", cache_dir=folder / "cache")
    (made,) = export(artifact, Export(), data, ctx, out=folder / "x")
    return artifact, data, made, folder, ctx


@pytest.fixture(params=BACKENDS)
def made(request, source):
    artifact, data, exported, folder, ctx = source
    if stage.refuse(stage.kind_of(artifact), "cpu", Quantize(backend=request.param)):
        pytest.skip("this CPU does not serve it")
    out = folder / request.param
    if not out.exists():
        quantize(artifact, Quantize(backend=request.param), Distill(), data, ctx, out=out, key="k", onnx=exported)
    return request.param, Artifact(out)


def test_the_files_are_smaller_and_the_next_tokens_near(made, source):
    name, artifact = made
    facts = artifact.manifest.facts
    assert facts["bytes"] < 0.6 * facts["source_same_format_bytes"]
    assert facts["agreement"] > NEAR[name]
    assert 0 < facts["kl_nats"] < 0.1
    assert facts["token_accuracy_drop"] == pytest.approx(facts["token_accuracy_source"] - facts["token_accuracy"])
    assert facts["weights"]["float_share"] < 0.02
    assert facts["samples"] >= len(source[1].validation)  # longer documents come in pieces


def test_the_judged_numbers_are_those_of_the_sessions(made, source):
    from lessen.data.encoding import sequences_of

    artifact = made[1]
    data = sequences_of(source[1], "validation", artifact.processor, None)
    data = data.alone() if hasattr(data, "alone") else data
    nll, hit = source[0].open().score(data.batch(np.arange(len(data))))
    assert artifact.manifest.facts["tokens"] == data.tokens.sum()
    assert artifact.manifest.facts["token_accuracy_source"] == pytest.approx(hit.sum() / data.tokens.sum())
    assert artifact.manifest.facts["nll_per_token_source"] == pytest.approx(nll.sum() / data.tokens.sum(), rel=1e-4)


def test_it_generates_from_its_folder(made, source):
    texts = list(source[1].test.inputs[:4])
    said = lessen.load(made[1].path).generate(texts, 6)
    assert len(said) == 4
    assert any(said)


def test_16_bit_weights_stay_tied(source):
    from safetensors import safe_open

    artifact, folder = source[0], source[3]
    if not (folder / "bf16").exists():
        pytest.skip("this CPU does not serve it")
    names = []
    for path in (artifact.path, folder / "bf16"):
        with safe_open(str(path / "model.safetensors"), framework="pt") as stream:
            names.append(sorted(stream.keys()))
    assert names[0] == names[1]
    module = Artifact(folder / "bf16").open().module
    assert module.get_input_embeddings().weight is module.get_output_embeddings().weight


def test_int8_stores_the_tied_table_once_and_its_lookup_row_by_row(made, source):
    name, artifact = made
    if name != "ort_dynamic":
        pytest.skip("only INT8 multiplies by the table")
    last = files(artifact.info.task)[-1]
    model = graph.read(artifact.path / last)
    stored = {t.name: numpy_helper.to_array(t) for t in model.graph.initializer}
    (table,) = artifact.manifest.facts["tied_bytes"]
    assert stored[f"{table}_quantized"].dtype == np.int8
    assert artifact.manifest.facts["tied_bytes"][table] == stored[f"{table}_quantized"].size
    assert stored[f"{table}_scale"].shape == (artifact.processor.vocab_size, 1)
    same = [n for n, a in stored.items() if a.dtype == np.int8 and a.size == stored[f"{table}_quantized"].size]
    assert same == [f"{table}_quantized"]
    want = {t.name: numpy_helper.to_array(t) for t in graph.read(source[2].path / last).graph.initializer}[table]
    got = stored[f"{table}_quantized"] * stored[f"{table}_scale"]
    assert np.abs(got - want).max() <= stored[f"{table}_scale"].max() * 0.51


def test_every_product_with_a_weight_is_in_8_bits_conv1d_included_and_position_buckets_are_not(made):
    name, artifact = made
    if name != "ort_dynamic":
        pytest.skip("the others keep their operators")
    for file in files(artifact.info.task):
        model = graph.read(artifact.path / file)
        stored = {t.name for t in model.graph.initializer}
        kinds = [n.op_type for n in model.graph.node]
        assert not [n for n in model.graph.node if n.op_type in ("MatMul", "Gemm") and stored & set(n.input)]
        assert kinds.count("MatMulInteger") >= 8
        left = artifact.manifest.facts["weights"]["float_tensors"]
        assert not any(key.endswith(("c_attn.weight", "c_fc.weight", "c_proj.weight")) for key in left)
        if artifact.info.family == "t5":
            assert any("relative_attention_bias" in key for key in stored)


def fall(monkeypatch, drop):
    honest = stage.judge

    def judge(*given):
        return honest(*given) | {"token_accuracy_drop": drop}

    monkeypatch.setattr(stage, "judge", judge)


def test_max_drop_is_about_the_token_accuracy(source, tmp_path, monkeypatch):
    artifact, data, exported, _, ctx = source
    fall(monkeypatch, 0.3)
    cfg = Quantize(backend="weight_int8", max_drop=0.01)
    with pytest.raises(GateError, match=r"validation token accuracy fell by 0\.3000, allowed 0\.01"):
        quantize(artifact, cfg, Distill(), data, ctx, out=tmp_path / "q", onnx=exported)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("backend", ["ort_static", "qat"])
def test_what_serves_classifiers_only_is_refused_with_what_serves(backend, source, tmp_path):
    artifact, data, exported, _, ctx = source
    with pytest.raises(RecipeError, match=r"use ort_dynamic or weight_int8"):
        quantize(artifact, Quantize(backend=backend), Distill(), data, ctx, out=tmp_path / "q", onnx=exported)
    assert stage.refuse_task(artifact.info.task, backend)
    assert stage.refuse_task("text-classification", backend) is None


@pytest.fixture(scope="module")
def mixture(tmp_path_factory):
    folder = tmp_path_factory.mktemp("mixtral")
    tracing.write(SimpleNamespace(module=tiny_speakers.module("mixtral", spread=2.0)), folder, _export)
    return folder


def answers(folder, config=()):
    session = OnnxDecoder([open_file(folder / "model.onnx", dict(config), 1)])
    assert session.tokens_per_call  # the metadata survives
    return session.start(tiny_speakers.batch(0, left=True))[0]


@pytest.mark.parametrize(("bits", "error"), [(None, 0.02), (8, 0.01), (4, 0.3)])
def test_experts_are_packed_row_by_row(mixture, bits, error, tmp_path):
    if bits is None:
        facts = language.to_int8(mixture, tmp_path, "causal-lm")
    else:
        facts = weight_only.convert_all(mixture, tmp_path, ["model.onnx"], bits=bits, group=16)
    want, got = answers(mixture), answers(tmp_path, facts.get("session_config", {}))
    assert np.mean((want - got) ** 2) / np.var(want) < error
    assert facts["weights"]["float_share"] < 0.02
    assert (tmp_path / "model.onnx").stat().st_size < 0.6 * (mixture / "model.onnx").stat().st_size


def test_routers_stay_in_floating_point(mixture, tmp_path):
    language.to_int8(mixture, tmp_path, "causal-lm")
    model = onnx.load(tmp_path / "model.onnx")
    gates = [t for t in model.graph.initializer if "gate.weight" in t.name]
    assert len(gates) == 2
    assert {t.data_type for t in gates} == {1}
