"""Models fetched from presets, Hugging Face folders, the hub's cache, and artifacts."""

from __future__ import annotations

import json

import pytest
import torch
from safetensors.torch import load_file, save_file

from lessen import models
from lessen.errors import ArtifactError, ModelError, UnavailableError, UnknownNameError
from lessen.info import ModelInfo
from lessen.models import hub
from lessen.models.labels import order
from lessen.processors import train_text_processor
from lessen.recipe import Data, ModelSpec

TEXT, IMAGE = "text-classification", "image-classification"


@pytest.fixture
def fetch(kit):
    def go(model, labels=kit.LABELS, *, task=TEXT, multi_label=False, seed=1, length=kit.LENGTH, size=None, **spec):
        data = Data(max_length=length, image_size=size)
        return models.fetch(ModelSpec(model=str(model), **spec), kit.splits(labels, multi_label), data, task, seed)

    return go


@pytest.fixture
def folder(kit, tmp_path):
    """A Hugging Face folder that transformers wrote: a tiny BERT with labels ham, spam, eggs."""

    def write(name="bert", **changes):
        model = kit.tiny(name)
        path = tmp_path / name
        model.module.save_pretrained(path)
        model.processor.save(path)
        config = json.loads((path / "config.json").read_text())
        (path / "config.json").write_text(json.dumps({**config, **changes}))
        return path, model

    return write


def test_a_preset_trains_its_tokenizer_on_the_training_texts(kit, fetch):
    model = fetch("scratch:bert-tiny", vocab_size=60)
    config = model.module.config
    assert config.vocab_size == model.processor.vocab_size <= 60
    assert config.max_position_embeddings == kit.LENGTH
    assert config.pad_token_id == model.processor.pad_id
    assert kit.logits(model, 2).shape == (2, 3)
    assert model.facts["weights"] == "random"


@pytest.mark.parametrize("name", ["roberta-mini", "electra-small", "distilbert-mini"])
def test_the_longest_text_fits_every_text_preset(kit, fetch, name):
    model = fetch(f"scratch:{name}", layers=1, vocab_size=60)
    ids = torch.full((1, kit.LENGTH), 7)
    assert torch.isfinite(model.module(input_ids=ids, attention_mask=torch.ones_like(ids)).logits).all()


def test_an_image_preset_takes_the_size_of_the_data(kit, fetch):
    model = fetch("scratch:mobilenet-v2-half", task=IMAGE, size=16)
    assert model.processor.size == model.module.config.image_size == 16
    assert fetch("scratch:resnet-tiny", task=IMAGE).processor.size == 32


def test_weights_depend_on_the_seed_alone_and_leave_the_generator_alone(kit, fetch):
    torch.manual_seed(5)
    want = torch.rand(1)
    torch.manual_seed(5)
    one = fetch("scratch:bert-tiny", vocab_size=60)
    assert torch.equal(torch.rand(1), want)
    two, other = fetch("scratch:bert-tiny", vocab_size=60), fetch("scratch:bert-tiny", vocab_size=60, seed=2)
    assert torch.equal(kit.logits(one, 2), kit.logits(two, 2))
    assert not torch.equal(kit.logits(one, 2), kit.logits(other, 2))


def test_a_preset_of_the_other_task_is_refused(fetch):
    with pytest.raises(ModelError, match="is for image-classification"):
        fetch("scratch:resnet-tiny")


def test_one_logit_for_three_labels_is_refused(fetch):
    with pytest.raises(ModelError, match="3 exclusive labels"):
        fetch("scratch:bert-tiny", output="sigmoid", vocab_size=60)


@pytest.mark.parametrize("name", ["bert", "distilbert", "electra", "roberta", "resnet", "mobilenet_v2"])
def test_a_folder_of_transformers_answers_as_it_did(kit, fetch, folder, name):
    path, model = folder(name)
    got = fetch(path, task=model.info.task)
    assert torch.equal(kit.logits(got, 2), kit.logits(model, 2))
    assert got.facts["labels"] == "kept"
    assert got.processor.digest == model.processor.digest


def test_labels_in_another_order_permute_the_outputs_r31(kit, fetch, folder):
    path, model = folder("electra")
    got = fetch(path, ("eggs", "ham", "spam"))
    torch.testing.assert_close(kit.logits(got, 2), kit.logits(model, 2)[:, [2, 0, 1]])
    assert got.module.config.id2label == {0: "eggs", 1: "ham", 2: "spam"}
    assert got.facts["labels"] == "permuted by name"


def test_other_labels_get_a_new_head_and_say_so(kit, fetch, folder):
    path, model = folder("bert")
    got = fetch(path, ("yes", "no"))
    assert kit.logits(got, 2).shape == (2, 2)
    assert (got.facts["labels"], got.facts["labels_before"]) == ("new head", list(kit.LABELS))
    assert torch.equal(got.module.bert.pooler.dense.weight, model.module.bert.pooler.dense.weight)
    assert got.module.num_labels == got.module.config.num_labels == 2


def test_a_checkpoint_without_a_classifier_gets_one(kit, fetch, folder):
    path, _ = folder("bert", architectures=["BertModel"])
    weights = load_file(path / "model.safetensors")
    bare = {k: v for k, v in weights.items() if not k.startswith(("classifier", "bert.pooler"))}
    save_file(bare, path / "model.safetensors", metadata={"format": "pt"})
    got = fetch(path)
    assert got.facts["labels"] == "new head"
    assert "bert.pooler.dense.weight" in got.facts["new"]
    assert torch.equal(
        got.module.bert.embeddings.word_embeddings.weight, weights["bert.embeddings.word_embeddings.weight"]
    )


def test_a_checkpoint_that_lacks_other_weights_is_refused(fetch, folder):
    path, _ = folder("bert")
    weights = load_file(path / "model.safetensors")
    del weights["bert.encoder.layer.1.output.dense.weight"]
    save_file(weights, path / "model.safetensors", metadata={"format": "pt"})
    with pytest.raises(ModelError, match=r"lacks 1 weights .*layer\.1\.output\.dense"):
        fetch(path)


def test_weights_of_another_shape_are_refused_not_made_anew(fetch, folder):
    path, _ = folder("bert", intermediate_size=24)
    with pytest.raises(ModelError, match="cannot be loaded"):
        fetch(path)


def test_our_head_sits_on_the_pretrained_encoder(kit, fetch, folder):
    path, model = folder("bert")
    got = fetch(path, pooling="mean", head_width=4)
    assert torch.equal(
        got.module.bert.encoder.layer[0].output.dense.weight, model.module.bert.encoder.layer[0].output.dense.weight
    )
    assert got.facts["labels"] == "new head"


def test_pretrained_models_take_the_recipe_s_dropout_and_fields(fetch, folder):
    path, _ = folder("bert")
    config = fetch(path, dropout=0.3, config={"hidden_act": "relu"}).module.config
    assert (config.hidden_dropout_prob, config.attention_probs_dropout_prob, config.hidden_act) == (0.3, 0.3, "relu")
    with pytest.raises(UnknownNameError, match="did you mean hidden_act"):
        fetch(path, config={"hidden_actt": "relu"})


def test_fewer_layers_of_a_pretrained_model_keep_their_weights(fetch, folder):
    path, model = folder("bert")
    got = fetch(path, layers=1)
    last = model.module.bert.encoder.layer[2]
    assert torch.equal(got.module.bert.encoder.layer[0].output.dense.weight, last.output.dense.weight)
    assert got.facts["layer_map"] == [2]
    assert got.facts["copied_frac"] == 1.0


def test_texts_longer_than_the_position_table_are_refused(kit, fetch, folder):
    path, _ = folder("roberta")
    with pytest.raises(ModelError, match=f"at most {kit.LENGTH} tokens; data.max_length is 64"):
        fetch(path, length=64)


@pytest.mark.parametrize(
    ("spoil", "error", "words"),
    [
        ("bin", ModelError, "convert it to safetensors"),
        ("empty", UnavailableError, "no \\*.safetensors"),
        ("config", ModelError, "no config.json"),
        ("type", ModelError, "the architecture 'bloom' is not supported; there are bert, "),
        ("unheard", ModelError, "the architectures are bert, "),
        ("tokenizer", ModelError, "tokenizer"),
        ("words", ModelError, "its tokenizer has 7\\d entries, its embeddings 58"),
    ],
)
def test_r30_a_folder_that_cannot_be_used_says_why(kit, fetch, folder, spoil, error, words):
    path, _ = folder("bert")
    if spoil == "bin":
        (path / "model.safetensors").rename(path / "pytorch_model.bin")
    elif spoil == "empty":
        (path / "model.safetensors").unlink()
    elif spoil == "config":
        (path / "config.json").unlink()
    elif spoil == "words":
        train_text_processor([*kit.TEXTS, *["quiz vex"] * 9], vocab_size=99, max_length=12).save(path)
    elif spoil == "tokenizer":
        (path / "tokenizer.json").unlink()
    else:
        kind = "bloom" if spoil == "type" else "never-heard-of"
        (path / "config.json").write_text(json.dumps({"model_type": kind}))
    with pytest.raises(error, match=words):
        fetch(path)


@pytest.fixture
def hub_cache(tmp_path, monkeypatch):
    """An empty hub cache and no network."""
    import huggingface_hub.constants as constants

    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path / "hub"))
    (tmp_path / "hub").mkdir()
    return tmp_path / "hub"


def test_a_hub_id_that_is_not_here_names_the_other_ways_and_exits_4(fetch, hub_cache):
    with pytest.raises(
        UnavailableError, match=r"some/model is not on this machine.*local folder.*scratch:<preset>"
    ) as e:
        fetch("some/model")
    assert e.value.exit_code == 4


def test_without_a_route_to_the_hub_it_is_not_asked(fetch, hub_cache, monkeypatch):
    import huggingface_hub.constants as constants

    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", False)
    monkeypatch.setattr(constants, "ENDPOINT", "http://127.0.0.1:9")  # nobody listens at discard
    monkeypatch.setattr(hub.urllib.request, "getproxies", dict)
    with pytest.raises(UnavailableError, match="cannot be reached"):
        fetch("some/model")


def test_a_hub_id_in_the_cache_needs_no_network(kit, fetch, folder, hub_cache):
    path, model = folder("bert")
    repo = hub_cache / "models--some--model"
    commit = "0" * 40
    (repo / "refs").mkdir(parents=True)
    (repo / "refs" / "main").write_text(commit)
    (repo / "snapshots").mkdir()
    path.rename(repo / "snapshots" / commit)
    assert torch.equal(kit.logits(fetch("some/model"), 2), kit.logits(model, 2))


@pytest.mark.parametrize("name", ["./nowhere", "/no/such/folder", "a/b/c", "not a model!"])
def test_what_is_neither_a_folder_nor_a_hub_id_is_refused(fetch, hub_cache, name):
    with pytest.raises(ModelError, match="folder"):
        fetch(name)


@pytest.fixture
def artifact(kit, tmp_path):
    def write(**info):
        model = kit.tiny("bert", **info)
        models.save(model, tmp_path / "a", stage="teacher", key="", history=(), facts={})
        return tmp_path / "a", model

    return write


def test_an_artifact_of_ours_is_taken_with_its_head(kit, fetch, artifact):
    path, model = artifact(pooling="mean", head_width=4, threshold=0.5)
    got = fetch(path, ("spam", "eggs", "ham"))
    torch.testing.assert_close(kit.logits(got, 2), kit.logits(model, 2)[:, [1, 2, 0]])
    assert (got.info.pooling, got.info.head_width) == ("mean", 4)
    with pytest.raises(ModelError, match="has pooling mean"):
        fetch(path, pooling="max")


def test_one_logit_of_two_labels_in_the_other_order_changes_sign(kit, fetch, artifact):
    path, model = artifact(labels=("no", "yes"), output="sigmoid", threshold=0.4)
    got = fetch(path, ("yes", "no"))
    torch.testing.assert_close(kit.logits(got, 2), -kit.logits(model, 2))
    assert fetch(path, ("no", "yes")).info.threshold == 0.4


def test_a_changed_artifact_is_not_taken(fetch, artifact):
    path, _ = artifact()
    (path / "config.json").write_text("{}")
    with pytest.raises(ArtifactError, match="differs from its manifest"):
        fetch(path)


def test_labels_are_ordered_by_name_or_not_at_all():
    assert order(("a", "b", "c"), ("c", "a", "b")) == [2, 0, 1]
    assert order(("a", "b"), ("a", "c")) is None
    assert order(("a", "b", "c"), ("a", "b")) is None
    assert order(("LABEL_0", "LABEL_1"), ("no", "yes")) is None


def test_info_is_what_the_recipe_says(fetch):
    info = fetch("scratch:bert-tiny", ("no", "yes"), output="sigmoid", pooling="max", dropout=0.2, vocab_size=60).info
    assert info == ModelInfo(
        family="bert", task=TEXT, source="scratch:bert-tiny", labels=("no", "yes"), output="sigmoid",
        pooling="max", dropout=0.2,
    )  # fmt: skip


def test_a_pretrained_image_model_takes_the_size_of_the_data(kit, fetch, folder):
    path, model = folder("resnet")
    assert fetch(path, task=IMAGE).processor.digest == model.processor.digest
    got = fetch(path, task=IMAGE, size=16)
    assert (got.processor.size, got.processor.mean) == (16, model.processor.mean)


def test_an_artifact_takes_the_length_of_the_data(kit, fetch, artifact):
    path, _ = artifact()
    assert fetch(path, length=8).processor.max_length == 8


def test_loading_prints_nothing(fetch, folder, capfd):
    path, _ = folder("bert", architectures=["BertModel"])
    capfd.readouterr()
    fetch(path)
    assert capfd.readouterr() == ("", "")
