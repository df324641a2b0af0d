import json

import numpy as np
import pytest

import lessen
import tiny
from lessen import quantize as stage
from lessen.artifact import Artifact
from lessen.context import Context
from lessen.errors import ArtifactError, GateError, RecipeError
from lessen.export import export
from lessen.quantize import cpu, quantize
from lessen.recipe import Distill, Export, Quantize, Train

pytestmark = pytest.mark.slow
ONNX = ("ort_dynamic", "ort_static", "weight_int8", "weight_int4")
FEWEST_TIMES = {"ort_dynamic": 2.0, "ort_static": 2.0, "weight_int8": 2.0, "weight_int4": 2.5, "bf16": 1.8, "fp16": 1.8}


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return tmp_path_factory.mktemp("quantize")


@pytest.fixture(scope="module")
def ctx(folder):
    return Context(out_dir=folder, cache_dir=folder / "cache", stage="quantize")


@pytest.fixture(scope="module", params=["bert", "distilbert-cut", "resnet", "mobilenet_v2-cut"])
def source(request, folder, ctx):
    """An artifact, its data, and its ONNX export."""
    name, _, cut = request.param.partition("-")
    artifact = tiny.save(name, folder / request.param, cut=bool(cut))
    data = tiny.splits(artifact.processor.kind)
    (onnx,) = export(artifact, Export(), data, ctx, out=folder / f"{request.param}-export")
    return artifact, data, onnx


def served(artifact, backend):
    return stage.refuse(stage.kind_of(artifact), "cpu", Quantize(backend=backend)) is None


@pytest.fixture(params=FEWEST_TIMES)
def made(request, source, ctx, folder):
    """A backend's name, and what it made."""
    artifact, data, onnx = source
    if not served(artifact, request.param):
        pytest.skip(f"{request.param} does not serve this model or CPU")
    out = folder / f"{artifact.path.name}-{request.param}"
    if not out.exists():
        quantize(artifact, Quantize(backend=request.param), Distill(), data, ctx, out=out, key="k", onnx=onnx)
    return request.param, Artifact(out)


def test_the_reopened_model_is_smaller_and_close_to_its_source(made, source):
    name, artifact = made
    facts = artifact.manifest.facts
    assert facts["source_same_format_bytes"] / facts["bytes"] > FEWEST_TIMES[name]
    assert facts["bytes"] == stage.weight_bytes(artifact.path)
    assert facts["logit_mse_relative"] < (0.08 if name == "weight_int4" else 0.02)
    assert facts["samples"] == len(source[1].validation)
    assert {"kl_nats", "agreement", "f1_macro", "f1_macro_drop"} <= facts.keys()
    assert artifact.manifest.key == "k"
    assert artifact.manifest.history[-1] == {"stage": "quantize", "backend": name}


def test_it_answers_alone_in_a_fresh_process(made, source):
    name, artifact = made
    if name not in ONNX and artifact.info.family != "bert":
        pytest.skip("one interpreter with torch is enough")
    inputs = list(source[1].validation.inputs[:6])
    got = tiny.answer_in_a_fresh_process(artifact, inputs, without=("torch", "transformers") if name in ONNX else ())
    np.testing.assert_allclose(got, lessen.load(artifact.path).logits(inputs), atol=2e-2 * np.abs(got).max())


def test_what_stays_in_floating_point_is_listed(made):
    name, artifact = made
    weights = artifact.manifest.facts["weights"]
    assert weights["float_share"] < 0.1
    if name in ONNX:
        assert sum(weights["float_tensors"].values()) == weights["float_elements"]


def test_the_cpu_and_the_card_are_recorded(made):
    artifact = made[1]
    assert set(artifact.manifest.facts["cpu"]) == {"machine", "flags"}
    assert f"| backend | {made[0]} |" in (artifact.path / "README.md").read_text()


def test_padding_moves_an_answer_no_more_than_rounding_does(made, source):
    artifact = made[1]
    if artifact.processor.kind != "text":
        pytest.skip("images are not padded")
    session, item = artifact.open(threads=1), np.arange(6, dtype=np.int32)
    alone, padded = (session.logits(artifact.processor.collate([item], pad_to=n)) for n in (6, 30))
    spread = np.std(lessen.load(source[0].path).logits(list(source[1].validation.inputs)))
    assert np.abs(alone - padded).max() < 0.2 * spread


def test_auto_takes_dynamic_int8_for_transformers_and_static_for_cnns(source, ctx, tmp_path):
    artifact, data, onnx = source
    chosen = quantize(artifact, Quantize(), Distill(), data, ctx, out=tmp_path / "q", onnx=onnx)
    text = artifact.processor.kind == "text"
    assert chosen.manifest.facts["backend"] == ("ort_dynamic" if text else "ort_static")
    assert [f.name for f in tmp_path.iterdir()] == ["q"]


@pytest.fixture(scope="module")
def resnet(folder, ctx):
    artifact = tiny.save("resnet", folder / "one")
    data = tiny.splits("image")
    return artifact, data, export(artifact, Export(), data, ctx, out=folder / "one-export")[0]


def fall(monkeypatch, drops):
    """Make every backend's validation macro-F1 fall by what is said."""
    honest = stage.judge

    def judge(source, made, splits, ctx):
        return honest(source, made, splits, ctx) | {"f1_macro_drop": drops[made.manifest.facts["backend"]]}

    monkeypatch.setattr(stage, "judge", judge)


def test_auto_goes_on_to_the_next_candidate_where_quality_fell_and_says_so(resnet, ctx, tmp_path, monkeypatch):
    fall(monkeypatch, {"ort_static": 0.3, "weight_int8": 0.0})
    artifact, data, onnx = resnet
    made = quantize(artifact, Quantize(max_drop=0.01), Distill(), data, ctx, out=tmp_path / "q", onnx=onnx)
    assert made.manifest.facts["backend"] == "weight_int8"
    (tried,) = made.manifest.facts["tried_before"]
    assert tried["backend"] == "ort_static"
    assert "fell by 0.3000, allowed 0.01" in tried["why"]


def test_a_fall_beyond_max_drop_is_an_error_that_names_what_was_tried_and_leaves_nothing(
    resnet, ctx, tmp_path, monkeypatch
):
    fall(monkeypatch, {"ort_static": 0.3, "weight_int8": 0.2})
    artifact, data, onnx = resnet
    with pytest.raises(GateError, match=r"ort_static: .*0\.3000.*weight_int8: .*0\.2000"):
        quantize(artifact, Quantize(max_drop=0.01), Distill(), data, ctx, out=tmp_path / "q", onnx=onnx)
    assert list(tmp_path.iterdir()) == []


def test_a_refused_backend_leaves_nothing(resnet, ctx, tmp_path):
    artifact, data, onnx = resnet
    with pytest.raises(RecipeError, match="ort_dynamic: dynamic INT8 makes convolutions slower"):
        quantize(artifact, Quantize(backend="ort_dynamic"), Distill(), data, ctx, out=tmp_path / "q", onnx=onnx)
    assert list(tmp_path.iterdir()) == []


def test_few_calibration_samples_are_warned_of_and_all_come_from_training(resnet, folder, tmp_path):
    said = []
    ctx = Context(out_dir=folder, stage="quantize", emit=lambda event: said.append(event.as_dict()))
    artifact, data, onnx = resnet
    cfg = Quantize(backend="ort_static", calib_samples=20)
    made = quantize(artifact, cfg, Distill(), data, ctx, out=tmp_path / "q", onnx=onnx)
    assert any(e.get("level") == "warning" and "calibrated on 20 samples" in e["message"] for e in said)
    assert made.manifest.facts["calib_split"] == "train"


def test_without_vnni_weights_have_seven_bits(resnet, ctx, tmp_path, monkeypatch):
    monkeypatch.setattr(cpu, "flags", lambda: frozenset({"avx2"}))
    artifact, data, onnx = resnet
    made = quantize(artifact, Quantize(), Distill(), data, ctx, out=tmp_path / "q", onnx=onnx)
    assert made.manifest.facts["reduce_range"] is True


def test_static_int8_with_every_operator_is_the_trap_that_the_scale_check_catches(folder, ctx, tmp_path, monkeypatch):
    from lessen.quantize.backends import ort_static

    artifact, data = tiny.save("bert", folder / "trap"), tiny.splits("text")
    (onnx,) = export(artifact, Export(), data, ctx, out=folder / "trap-export")
    job = stage.Job(artifact, Quantize(), Distill(), data, ctx, tmp_path, tmp_path / "q", onnx)
    batches, _ = job.calibration()
    assert not all(b["attention_mask"].all() for b in batches)
    with pytest.raises(ArtifactError, match="a mask was quantized as data"):
        ort_static.to_int8(onnx.path / "model.onnx", tmp_path / "m.onnx", batches, transformer=False)


def test_a_model_that_cannot_get_smaller_is_refused(resnet, ctx, tmp_path, monkeypatch):
    artifact, data, onnx = resnet
    monkeypatch.setattr(stage, "weight_bytes", lambda folder: 1000)
    with pytest.raises(ArtifactError, match="1,000 bytes, its source in the same format 1,000"):
        quantize(artifact, Quantize(), Distill(), data, ctx, out=tmp_path / "q", onnx=onnx)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("name", ["bert", "resnet"])
def test_training_with_the_rounding_in_place_makes_an_int8_file(name, folder, ctx, tmp_path):
    artifact = tiny.save(name, folder / f"qat-{name}")
    data = tiny.splits(artifact.processor.kind)
    cfg = Quantize(backend="qat", train=Train(epochs=1, lr=1e-4, batch_size=32, precision="fp32"))
    made = quantize(artifact, cfg, Distill(cache="off"), data, ctx, out=tmp_path / "q", key="k")
    facts = made.manifest.facts
    assert facts["qat"]["fit"]["steps"] == 5
    assert facts["qat"]["ranges"] == ("dynamic" if name == "bert" else "static")
    assert facts["bits"] == {"weights": 8, "activations": 8}
    assert facts["source_same_format_bytes"] > 2 * facts["bytes"]
    assert [f.name for f in tmp_path.iterdir()] == ["q"]
    assert json.loads((made.path / "lessen.json").read_text())["runtime"] == "onnx"


def test_a_quantized_file_opens_with_the_loader_beside_it(folder, ctx, tmp_path):
    import sys

    artifact, data = tiny.save("bert", folder / "loader"), tiny.splits("text")
    made = quantize(artifact, Quantize(backend="weight_int4"), Distill(), data, ctx, out=tmp_path / "q")
    text = data.validation.inputs[0]
    line = json.loads(tiny.run([sys.executable, str(made.path / "how_to_load.py"), text]))
    (want,) = lessen.load(made.path).predict([text])
    assert line["label"] == want.label
    assert line["probabilities"] == pytest.approx(want.probabilities, abs=1e-4)
