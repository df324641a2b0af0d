"""Saved models reopen bit for bit (P2, R8), load in transformers where nothing is ours, and refuse what is damaged."""

from __future__ import annotations

import json
import subprocess
import sys

import pytest
import torch
from safetensors.torch import load_file, save_file

from lessen import plugins
from lessen.artifact import Artifact
from lessen.errors import ArtifactError
from lessen.info import generates
from lessen.models import is_stock, open_model, save
from lessen.models.family import family
from lessen.models.groups import cut_, drop_layers_, groups

FAMILIES = [n for n in plugins.names("models.families") if not generates(family(n).task)]


def write(model, path):
    return save(model, path, stage="teacher", key="k", history=(), facts={"note": 1})


def prune(model):
    """Cut groups to unequal widths, so that no configuration could say them."""
    for i, group in enumerate(groups(model, streams=True)):
        cut_(model, group, [u for u in range(group.units) if u % (2 + i % 3) != 1])


@pytest.mark.parametrize("name", FAMILIES)
@pytest.mark.parametrize("pruned", [False, True], ids=["whole", "pruned"])
@pytest.mark.parametrize("head", [{}, {"pooling": "max", "head_width": 6}], ids=["stock", "pooled"])
def test_a_saved_model_reopens_bit_equal(kit, tmp_path, name, pruned, head):
    model = kit.tiny(name, **head)
    if pruned:
        prune(model)
    artifact = write(model, tmp_path / "a")
    again = open_model(Artifact(artifact.path))
    mine, theirs = model.module.state_dict(), again.module.state_dict()
    assert mine.keys() == theirs.keys()
    assert all(torch.equal(mine[k], theirs[k]) for k in mine)
    assert again.info == model.info
    assert not again.module.training
    torch.testing.assert_close(kit.logits(again, 3), kit.logits(model, 3), rtol=1e-6, atol=1e-7)
    assert [g.units for g in groups(again, streams=True)] == [g.units for g in groups(model, streams=True)]
    assert artifact.manifest.facts["model"]["stock"] == is_stock(model) == (not head and not model.info.widths)
    artifact.verify()


@pytest.mark.slow
@pytest.mark.parametrize("name", FAMILIES)
def test_a_pruned_model_is_pruned_saved_and_reopened_again(kit, tmp_path, name):
    model = kit.tiny(name)
    prune(model)
    again = open_model(write(model, tmp_path / "a"))
    prune(again)
    third = open_model(write(again, tmp_path / "b"))
    assert third.info.widths != model.info.widths
    torch.testing.assert_close(kit.logits(third, 2), kit.logits(again, 2), rtol=1e-6, atol=1e-7)


def test_a_model_with_fewer_layers_reopens(kit, tmp_path):
    for name in ("distilbert", "resnet"):
        model = kit.tiny(name)
        drop_layers_(model, [0, 2])
        again = open_model(write(model, tmp_path / name))
        torch.testing.assert_close(kit.logits(again, 2), kit.logits(model, 2), rtol=1e-6, atol=1e-7)


@pytest.mark.slow
def test_pruned_models_answer_alike_in_a_fresh_process(kit, tmp_path):
    want = {}
    for name in FAMILIES:
        model = kit.tiny(name)
        prune(model)
        write(model, tmp_path / name)
        save_file(kit.inputs(model, 2), tmp_path / f"{name}.inputs")
        want[name] = kit.logits(model, 2)
    script = (
        "import sys, pathlib, torch; from safetensors.torch import load_file, save_file\n"
        "from lessen.artifact import Artifact; from lessen.models import open_model\n"
        "root = pathlib.Path(sys.argv[1])\n"
        "with torch.inference_mode():\n"
        "    save_file({n: open_model(Artifact(root / n)).module(**load_file(root / f'{n}.inputs')).logits"
        " for n in sys.argv[2:]}, root / 'out')\n"
    )
    subprocess.run([sys.executable, "-c", script, str(tmp_path), *FAMILIES], check=True, capture_output=True)
    got = load_file(tmp_path / "out")
    for name in FAMILIES:
        torch.testing.assert_close(got[name], want[name], rtol=1e-6, atol=1e-7)


@pytest.mark.parametrize("name", FAMILIES)
def test_a_stock_folder_loads_in_transformers_and_answers_alike(kit, tmp_path, name):
    from transformers import AutoModelForImageClassification, AutoModelForSequenceClassification, AutoTokenizer

    model = kit.tiny(name)
    for group in groups(model):
        if group.kind == "ffn":  # a width that the configuration can say
            cut_(model, group, range(16))
    assert is_stock(model)
    path = write(model, tmp_path / "a").path
    text = model.info.task == "text-classification"
    auto = AutoModelForSequenceClassification if text else AutoModelForImageClassification
    stock, report = auto.from_pretrained(path, output_loading_info=True)
    assert not any(report.values())
    assert stock.config.id2label == dict(enumerate(kit.LABELS))
    assert stock.config.label2id == {name: i for i, name in enumerate(kit.LABELS)}
    with torch.inference_mode():
        got = stock.eval()(**kit.inputs(model, 2)).logits
    torch.testing.assert_close(got, kit.logits(model, 2), rtol=1e-6, atol=1e-7)
    if text:
        texts = ["the red box", "an old list of f"]
        theirs = AutoTokenizer.from_pretrained(path)(texts)["input_ids"]
        assert theirs == [list(map(int, ids)) for ids in model.processor.encode(texts)]


@pytest.mark.parametrize("head", [{"pooling": "mean"}, {"head_width": 4}])
def test_a_head_of_ours_is_not_called_stock(kit, tmp_path, head):
    path = write(kit.tiny("bert", **head), tmp_path / "a").path
    config = json.loads((path / "config.json").read_text())
    assert config.get("architectures") is None
    assert not Artifact(path).manifest.facts["model"]["stock"]


def test_the_file_names_one_logit_after_the_positive_label(kit, tmp_path):
    model = kit.tiny("bert", labels=("no", "yes"), output="sigmoid")
    path = write(model, tmp_path / "a").path
    config = json.loads((path / "config.json").read_text())
    assert config["id2label"] == {"0": "yes"}
    assert kit.logits(open_model(Artifact(path)), 2).shape == (2, 1)


def test_weights_of_half_precision_stay_so(kit, tmp_path):
    model = kit.tiny("bert")
    model.module.to(torch.bfloat16)
    again = open_model(write(model, tmp_path / "a"))
    assert {p.dtype for p in again.module.parameters()} == {torch.bfloat16}


def test_facts_describe_the_shape(kit, tmp_path):
    facts = write(kit.tiny("bert"), tmp_path / "a").manifest.facts
    assert facts["note"] == 1
    assert facts["shape"]["layers"] == 3
    assert facts["shape"]["widths"]["layer.0.ffn"] == 48


@pytest.mark.parametrize("damage", ["widths", "unknown", "weights", "config", "missing"])
def test_a_damaged_folder_is_refused(kit, tmp_path, damage):
    artifact = write(kit.tiny("bert"), tmp_path / "a")
    manifest = json.loads((artifact.path / "lessen.json").read_text())
    if damage == "widths":
        manifest["info"]["widths"] = {"layer.0.ffn": 500}
    elif damage == "unknown":
        manifest["info"]["widths"] = {"layer.77.ffn": 4}
    elif damage == "weights":
        (artifact.path / "model.safetensors").write_bytes(b"nothing of the kind")
    elif damage == "config":
        config = json.loads((artifact.path / "config.json").read_text())
        (artifact.path / "config.json").write_text(json.dumps({**config, "num_hidden_layers": 2}))
    else:
        (artifact.path / "model.safetensors").unlink()
    (artifact.path / "lessen.json").write_text(json.dumps(manifest))
    with pytest.raises(ArtifactError):
        open_model(Artifact(artifact.path))
