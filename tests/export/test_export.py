import json
import sys

import numpy as np
import pytest
from PIL import Image

import lessen
import tiny
from lessen.context import Context
from lessen.errors import ArtifactError, UnknownNameError
from lessen.export import export
from lessen.recipe import Export

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return tmp_path_factory.mktemp("export")


@pytest.fixture(scope="module")
def ctx(folder):
    return Context(out_dir=folder, stage="export")


@pytest.fixture(scope="module", params=["bert", "distilbert-cut", "resnet-cut", "mobilenet_v2"])
def exported(request, folder, ctx):
    """An artifact, its data, and its ONNX export."""
    name, _, cut = request.param.partition("-")
    source = tiny.save(name, folder / request.param, cut=bool(cut))
    data = tiny.splits(source.processor.kind)
    made = export(
        source, Export(formats=("onnx", "safetensors")), data, ctx, out=folder / f"{request.param}-export", key="k"
    )
    return source, data, made


def test_onnx_answers_as_its_source_in_a_process_without_torch(exported):
    source, data, (made, _) = exported
    inputs = list(data.validation.inputs[:9])
    got = tiny.answer_in_a_fresh_process(made, inputs, without=("torch", "transformers"))
    want = lessen.load(source.path).logits(inputs)
    np.testing.assert_allclose(got, want, atol=1e-4)
    assert np.ptp(want) > 0.1  # answers that differ, so that the comparison means something


def test_the_difference_at_three_shapes_and_the_tolerance_are_recorded(exported):
    facts = exported[2][0].manifest.facts
    assert len(facts["max_abs_difference"]) == 3
    assert max(facts["max_abs_difference"].values()) <= facts["tolerance"] == 1e-4
    assert facts["opset"] >= 18
    assert facts["weights"]["float_share"] == pytest.approx(1, abs=1e-3)


def test_batch_and_length_are_free(exported):
    source, _, (made, _) = exported
    processor = source.processor
    a, b = source.open(threads=1), made.open(threads=1)
    for batch, length in ((1, 2), (5, 7), (2, tiny.MAX_LENGTH)):
        if processor.kind == "text":
            items = [np.arange(length, dtype=np.int32) + i for i in range(batch)]
            items[-1] = items[-1][: max(1, length // 2)]
        else:
            items = [np.full((tiny.SIDE, tiny.SIDE, 1), 40 * i, dtype=np.uint8) for i in range(batch)]
        inputs = processor.collate(items)
        np.testing.assert_allclose(b.logits(inputs), a.logits(inputs), atol=1e-4)


def test_padding_changes_no_answer(exported):
    source, _, (made, _) = exported
    if source.processor.kind != "text":
        pytest.skip("images are not padded")
    item, session = np.arange(5, dtype=np.int32), made.open(threads=1)
    alone, padded = (session.logits(source.processor.collate([item], pad_to=n)) for n in (5, 20))
    np.testing.assert_allclose(alone, padded, atol=1e-5)


def test_the_onnx_folder_is_one_weight_file_with_processor_manifest_card_and_loader(exported):
    names = {f.name for f in exported[2][0].path.iterdir()}
    processor = (
        {"tokenizer.json", "tokenizer_config.json"} if "tokenizer.json" in names else {"preprocessor_config.json"}
    )
    assert names == {"lessen.json", "model.onnx", "README.md", "how_to_load.py"} | processor


def test_safetensors_reopens_to_the_same_bits(exported):
    source, data, (_, made) = exported
    inputs = list(data.validation.inputs[:9])
    np.testing.assert_array_equal(lessen.load(made.path).logits(inputs), lessen.load(source.path).logits(inputs))
    assert made.info == source.info


def test_the_loader_prints_what_lessen_predicts(exported, tmp_path):
    source, data, made = exported
    inputs = list(data.validation.inputs[:3])
    given = inputs
    if source.processor.kind == "image":
        given = [str(tmp_path / f"{i}.png") for i in range(3)]
        for image, file in zip(inputs, given, strict=True):
            Image.fromarray(image).save(file)
    want = lessen.load(source.path).predict(inputs)
    onnx, folder = made
    for artifact in (onnx, folder) if source.info.family == "bert" else (onnx,):  # the second starts torch
        lines = tiny.run([sys.executable, str(artifact.path / "how_to_load.py"), *given]).splitlines()
        for line, answer in zip(map(json.loads, lines), want, strict=True):
            assert line["label"] == answer.label
            assert line["probabilities"] == pytest.approx(answer.probabilities, abs=1e-4)


def test_the_card_shows_files_labels_and_stages(exported):
    text = (exported[2][0].path / "README.md").read_text()
    size = (exported[2][0].path / "model.onnx").stat().st_size
    assert f"| model.onnx | {size:,} bytes |" in text
    assert "`ant`, `bee`, `cat`" in text
    assert "1. teacher\n2. export (format onnx)" in text


def test_an_onnx_artifact_exports_to_onnx_unchanged_and_to_nothing_else(exported, ctx, tmp_path):
    made = exported[2][0]
    (again,) = export(made, Export(), exported[1], ctx, out=tmp_path)
    assert (again.path / "model.onnx").read_bytes() == (made.path / "model.onnx").read_bytes()
    with pytest.raises(ArtifactError, match=r"format safetensors.*no torch weights"):
        export(made, Export(formats=("safetensors",)), exported[1], ctx, out=tmp_path / "x")


@pytest.fixture(scope="module", params=["bert", "resnet"])
def stock(request, folder, ctx):
    source = tiny.save(request.param, folder / f"stock-{request.param}")
    data = tiny.splits(source.processor.kind)
    (made,) = export(source, Export(formats=("huggingface",)), data, ctx, out=folder / f"hf-{request.param}")
    return source, data, made


def test_a_hugging_face_folder_is_read_by_the_auto_classes(stock):
    difference = stock[2].manifest.facts["max_abs_difference"]
    assert len(difference) == 4
    assert any(name.startswith("transformers AutoModelFor") for name in difference)
    assert max(difference.values()) <= 1e-4


def test_a_hugging_face_folder_says_its_labels(stock):
    assert json.loads((stock[2].path / "config.json").read_text())["id2label"] == {"0": "ant", "1": "bee", "2": "cat"}


def test_the_hugging_face_loader_scores_as_lessen_does(stock, tmp_path):
    source, data, made = stock
    given = image = data.validation.inputs[0]
    if source.processor.kind == "image":
        given = str(tmp_path / "i.png")
        Image.fromarray(image).save(given)
    line = json.loads(tiny.run([sys.executable, str(made.path / "how_to_load.py"), given]).splitlines()[-1])
    assert line == pytest.approx(lessen.load(source.path).predict([image])[0].probabilities, abs=1e-4)


@pytest.mark.parametrize(
    ("cut", "info", "reason"),
    [
        (True, {}, "was cut where its configuration cannot say so.*safetensors"),
        (False, {"pooling": "mean"}, "pooling mean.*safetensors"),
        (False, {"head_width": 8}, "a head of 8 hidden units.*safetensors"),
    ],
)
def test_a_shape_that_transformers_lacks_is_refused_before_anything_is_written(cut, info, reason, ctx, tmp_path):
    source = tiny.save("bert", tmp_path / "m", cut=cut, **info)
    with pytest.raises(ArtifactError, match=reason):
        export(source, Export(formats=("safetensors", "huggingface")), tiny.splits("text"), ctx, out=tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_answers_outside_the_tolerance_leave_nothing_behind(ctx, tmp_path):
    source = tiny.save("resnet", tmp_path / "m")
    with pytest.raises(ArtifactError, match=r"onnx answers differ .* allowed is 1e-12"):
        export(source, Export(tolerance=1e-12), tiny.splits("image"), ctx, out=tmp_path / "out")
    assert list((tmp_path / "out").iterdir()) == []


def test_an_unknown_format_lists_those_there_are(ctx, tmp_path):
    source = tiny.save("resnet", tmp_path / "m")
    with pytest.raises(UnknownNameError, match="huggingface, onnx, safetensors"):
        export(source, Export(formats=("tflite",)), None, ctx, out=tmp_path / "out")


def test_the_same_model_gives_the_same_onnx_bytes(ctx, tmp_path):
    source = tiny.save("resnet", tmp_path / "m")
    one, two = (export(source, Export(), None, ctx, out=tmp_path / n)[0] for n in ("1", "2"))
    assert one.manifest.files["model.onnx"] == two.manifest.files["model.onnx"]
