from __future__ import annotations

import hashlib
import json
from dataclasses import replace

import numpy as np
import pytest
import torch
from safetensors.torch import load_file

from lessen import models
from lessen.artifact import Artifact
from lessen.context import Context
from lessen.data import Split, Splits
from lessen.errors import Cancelled, ModelError, RecipeError
from lessen.evaluate import predict_logits
from lessen.finetune import finetune
from lessen.models.groups import groups
from lessen.processors import ImageProcessor, train_text_processor
from lessen.prune import control, prune, stage
from lessen.recipe import Distill, Prune, Train

RECOVER = Train(epochs=2, lr=1e-3, batch_size=16, precision="fp32", checkpoint_seconds=0)
CPU = torch.device("cpu")


class Untouchable:
    """The test split: whoever looks at it fails."""

    def __getattr__(self, name):
        raise AssertionError(f"pruning looked at the test split ({name})")


def part(name, inputs, labels):
    ids = np.array([hashlib.sha256(str(x).encode()).hexdigest()[:16] for x in inputs])
    return Split(name, ids, inputs, np.asarray(labels, dtype=np.int64))


def text_splits():
    rng = np.random.default_rng(0)
    words = [f"word{i}" for i in range(30)]
    texts, labels = [], []
    for i in range(128):
        label = i % 3
        marked = [*rng.choice(words, rng.integers(2, 9)), f"mark{label}"]
        texts.append(f"{i} " + " ".join(rng.permutation(marked)))
        labels.append(label)
    return Splits(
        "text-classification", ("a", "b", "c"), False, part("train", texts[:96], labels[:96]),
        part("validation", texts[96:], labels[96:]), Untouchable(), {}, "digest",
    )  # fmt: skip


def image_splits():
    rng = np.random.default_rng(0)
    labels = [i % 3 for i in range(96)]
    images = []
    for label in labels:
        image = rng.integers(0, 90, (32, 32), dtype=np.uint8)
        image[10 * label : 10 * label + 10] += 150
        images.append(np.repeat(image[:, :, None], 3, axis=2))
    return Splits(
        "image-classification", ("a", "b", "c"), False, part("train", images[:64], labels[:64]),
        part("validation", images[64:], labels[64:]), Untouchable(), {}, "digest",
    )  # fmt: skip


@pytest.fixture(scope="module")
def trained(tmp_path_factory, model):
    """Return (source artifact, splits, context) of a family; each is trained once."""
    root, made = tmp_path_factory.mktemp("prune"), {}

    def get(family):
        if family not in made:
            images = family in ("resnet", "mobilenet_v2")
            splits = image_splits() if images else text_splits()
            if images:
                source = model(family)
                source.processor = ImageProcessor(32, 1, mean=(0.5,), std=(0.5,))
            else:
                processor = train_text_processor(splits.train.inputs, vocab_size=120, max_length=16)
                source = model(family, vocab_size=processor.vocab_size)
                source.processor = processor
            ctx = Context(out_dir=root, cache_dir=root / "cache", stage="teacher")
            cfg = Train(epochs=3, lr=3e-3, batch_size=16, precision="fp32")
            artifact = finetune(source, cfg, splits, ctx, out=root / family, key="teacher")
            made[family] = (artifact, splits, ctx.at("prune"))
        return made[family]

    return get


def run(trained, family, out, *, distill=None, ctx=None, work=prune, **settings):
    source, splits, base = trained(family)
    cfg = Prune(**{"calib_samples": 64, "recover": RECOVER, **settings})
    return work(source, cfg, distill or Distill(), splits, ctx or base, out=out, key="key")


def logits(artifact, splits):
    model = models.open_model(artifact)
    from lessen.data.batches import encode

    return predict_logits(model, encode(splits.validation, model.processor, None), CPU)


def zero_share(artifact, modules):
    weights = load_file(artifact.path / "model.safetensors")
    return {m: float((weights[f"{m}.weight"] == 0).float().mean()) for m in modules}


@pytest.mark.parametrize(
    "family", ["bert", *(pytest.param(f, marks=pytest.mark.slow) for f in ("distilbert", "resnet", "mobilenet_v2"))]
)
def test_p2_p6_units_are_really_gone_and_the_folder_reopens_bit_for_bit(family, trained, tmp_path):
    source, splits, _ = trained(family)
    small = run(trained, family, tmp_path / "small")
    before, after = models.open_model(source), models.open_model(small)
    was = {g.name: g.units for g in groups(before)}
    for group in groups(after):
        assert group.units == max(1, was[group.name] // 2)
    weights = load_file(small.path / "model.safetensors")
    assert all(torch.equal(v, weights[k]) for k, v in after.module.state_dict().items())
    assert np.array_equal(logits(small, splits), logits(small, splits))
    facts = small.manifest.facts
    for kind, row in facts["achieved"].items():
        assert row["before"] > row["after"] > 0, kind
        assert row["fraction"] == pytest.approx(1 - row["after"] / row["before"])
        assert row["of"]
    assert facts["achieved"]["parameters"]["after"] == sum(p.numel() for p in after.module.parameters())
    assert facts["asked"] == {"remove_frac": 0.5, "of": "units", "kinds": ["heads", "ffn", "channels"]}
    assert facts["rounds"][0]["oracle_error"] <= facts["rounds"][0]["oracle_tolerance"]
    assert facts["rounds"][0]["calibration_samples"] == 64
    assert facts["rounds"][0]["recovery"]["fit"]["history"]
    json.dumps(facts)
    assert not [p for p in tmp_path.iterdir() if p.name != "small"]


def test_p2_a_pruned_model_can_be_pruned_again_and_remembers_both(trained, tmp_path):
    source, splits, ctx = trained("bert")
    once = run(trained, "bert", tmp_path / "once", recover=None)
    cfg = Prune(calib_samples=64, recover=None)
    twice = prune(once, cfg, Distill(), splits, ctx, out=tmp_path / "twice", key="again")
    assert [g.units for g in groups(models.open_model(twice))] == [1, 6, 1, 6]
    assert len(twice.manifest.history) == len(source.manifest.history) + 2


def test_p3_head_counts_and_configuration_agree_with_the_weights(trained, tmp_path):
    model = models.open_model(run(trained, "bert", tmp_path / "small", recover=None))
    layer = model.module.bert.encoder.layer[0]
    assert layer.attention.self.num_attention_heads * layer.attention.self.attention_head_size == 8
    assert layer.attention.self.query.out_features == layer.attention.self.query.weight.shape[0] == 8
    assert layer.attention.output.dense.in_features == 8
    assert model.module.config.intermediate_size == layer.intermediate.dense.out_features == 12


def test_p4_tied_embeddings_stay_as_they_were_and_are_not_masked(trained, tmp_path):
    source, _, _ = trained("bert")
    masked = run(trained, "bert", tmp_path / "masked", pattern="unstructured", recover=None)
    old, new = (load_file(a.path / "model.safetensors") for a in (source, masked))
    for name in old:
        if "embeddings" in name:
            assert torch.equal(old[name], new[name])


@pytest.mark.parametrize("of", ["parameters", "flops"])
@pytest.mark.parametrize("scope", ["per_layer", "global"])
@pytest.mark.parametrize("family", ["bert", "resnet"])
def test_a_budget_is_met_by_less_than_one_step_of_units_too_many(family, of, scope, trained, tmp_path):
    small = run(trained, family, tmp_path / "small", of=of, scope=scope, remove_frac=0.15, recover=None, refit=False)
    row = small.manifest.facts["achieved"][of]
    source = models.open_model(trained(family)[0])
    largest = max(
        sum(
            getattr(source.module.get_submodule(c.module), c.leaf).numel() / g.units * g.multiple
            for c in (*g.producers, *g.consumers)
            if getattr(source.module.get_submodule(c.module), c.leaf) is not None
        )
        for g in groups(source)
    )
    assert row["fraction"] >= 0.15
    if of == "parameters":
        assert row["before"] - row["after"] - largest < 0.15 * row["before"]
    else:
        assert row["fraction"] < 0.15 + 0.12


@pytest.mark.slow
def test_whole_layers_are_dropped_and_the_rest_is_cut_by_units(trained, tmp_path):
    source, splits, _ = trained("bert")
    small = run(trained, "bert", tmp_path / "small", kinds=("layers", "ffn"))
    model = models.open_model(small)
    assert [(g.name, g.units) for g in groups(model)] == [("layer.0.heads", 4), ("layer.0.ffn", 12)]
    assert small.manifest.facts["achieved"]["layers"]["fraction"] == 0.5
    assert model.module.config.num_hidden_layers == 1
    assert np.isfinite(logits(small, splits)).all()
    assert len(groups(models.open_model(source))) == 4


@pytest.mark.parametrize("of", ["parameters", "flops"])
def test_layers_go_until_a_budget_is_met_or_it_is_refused(of, trained, tmp_path):
    small = run(trained, "bert", tmp_path / "small", kinds=("layers",), of=of, remove_frac=0.1, recover=None)
    assert small.manifest.facts["achieved"][of]["fraction"] >= 0.1
    with pytest.raises(RecipeError, match="out of reach"):
        run(trained, "bert", tmp_path / "smaller", kinds=("layers",), of=of, remove_frac=0.9, recover=None)
    assert not (tmp_path / "smaller").exists()


def test_residual_streams_are_cut_only_when_asked(trained, tmp_path):
    inner = run(trained, "resnet", tmp_path / "inner", recover=None)
    outer = run(trained, "resnet", tmp_path / "outer", recover=None, kinds=("channels", "streams"))
    flops = [a.manifest.facts["achieved"]["flops"]["after"] for a in (inner, outer)]
    assert flops[1] < 0.7 * flops[0]


@pytest.mark.parametrize(
    "layers", [("attention", {"heads"}), ("ffn", {"ffn"}), ("encoder", {"heads", "ffn"}), ("all", {"heads", "ffn"})]
)
def test_the_layer_filter_names_what_may_be_cut(layers, trained, tmp_path):
    small = run(trained, "bert", tmp_path / "small", layers=layers[0], recover=None)
    was = {g.name: g.units for g in groups(models.open_model(trained("bert")[0]))}
    assert {g.kind for g in groups(models.open_model(small)) if g.units < was[g.name]} == layers[1]


def test_r1_a_cut_that_differs_from_its_mask_stops_the_run_and_leaves_nothing(trained, tmp_path, monkeypatch):
    from lessen.prune import structured

    real = structured.cut_

    def wrong(model, group, keep):
        real(model, group, [*keep[:-1], next(i for i in range(group.units) if i not in keep)])

    monkeypatch.setattr(structured, "cut_", wrong)
    with pytest.raises(ModelError, match="differs from the masked one"):
        run(trained, "bert", tmp_path / "small")
    assert not (tmp_path / "small").exists()


def test_r10_a_request_that_removes_nothing_is_an_error(trained, tmp_path):
    with pytest.raises(RecipeError, match="takes no unit away"):
        run(trained, "bert", tmp_path / "small", remove_frac=0.01)
    with pytest.raises(RecipeError, match="no unit"):
        run(trained, "resnet", tmp_path / "small", kinds=("heads",))
    with pytest.raises(RecipeError, match="no weight"):
        run(trained, "resnet", tmp_path / "small", pattern="unstructured", layers="attention")
    assert not (tmp_path / "small").exists()


def test_r14_only_training_samples_are_used_to_choose_and_refit(trained, tmp_path):
    source, splits, ctx = trained("bert")
    cfg = Prune(calib_samples=10_000, recover=None, method="taylor")
    blind = replace(splits, validation=Untouchable())
    small = prune(source, cfg, Distill(), blind, ctx, out=tmp_path / "small", key="key")
    assert small.manifest.facts["rounds"][0]["calibration_samples"] == len(splits.train)


@pytest.mark.slow
def test_pruning_twice_gives_the_same_weights(trained, tmp_path):
    a, b = (run(trained, "bert", tmp_path / name, method="taylor") for name in ("a", "b"))
    assert a.manifest.files["model.safetensors"] == b.manifest.files["model.safetensors"]


def test_least_squares_brings_the_answers_closer_to_those_of_the_unpruned_model(trained, tmp_path):
    source, splits, _ = trained("bert")
    want = logits(source, splits)
    far, near = (
        np.linalg.norm(logits(run(trained, "bert", tmp_path / str(refit), recover=None, refit=refit), splits) - want)
        for refit in (False, True)
    )
    assert near < far


def test_p8_a_cut_cnn_without_recovery_has_recalibrated_batchnorm(trained, tmp_path):
    small = run(trained, "resnet", tmp_path / "small", recover=None)
    model = models.open_model(small)
    norms = [m for m in model.module.modules() if isinstance(m, torch.nn.BatchNorm2d)]
    assert small.manifest.facts["rounds"][0]["batchnorm_recalibrated"] == len(norms)
    assert all(int(n.num_batches_tracked) == 2 for n in norms)  # 64 samples in batches of 32, from a clean start


@pytest.mark.slow
def test_p12_the_control_has_the_same_budget_and_other_units(trained, tmp_path):
    chosen = run(trained, "bert", tmp_path / "chosen")
    drawn = run(trained, "bert", tmp_path / "drawn", work=control)
    a, b = (x.manifest.facts for x in (chosen, drawn))
    assert b["method"] == "random"
    assert a["achieved"] == b["achieved"]
    assert [r["kept_digest"] for r in a["widths"]] != [r["kept_digest"] for r in b["widths"]]


@pytest.mark.slow
def test_kept_indices_after_rounds_are_those_of_the_unpruned_model(trained, tmp_path):
    still = RECOVER.model_copy(update={"lr": 1e-12, "weight_decay": 0.0})
    small = run(trained, "bert", tmp_path / "small", schedule="linear", rounds=2, recover=still, refit=False)
    old, new = (load_file(a.path / "model.safetensors") for a in (trained("bert")[0], small))
    for row in small.manifest.facts["widths"]:
        if row["kind"] == "ffn":
            name = f"bert.encoder.layer.{row['layer']}.intermediate.dense.weight"
            torch.testing.assert_close(new[name], old[name][row["kept"]], rtol=0, atol=1e-6)


@pytest.mark.slow
def test_rounds_cut_more_and_more_and_end_where_one_shot_ends(trained, tmp_path):
    small = run(trained, "bert", tmp_path / "small", schedule="cubic", rounds=2)
    facts = small.manifest.facts
    assert [r["due"] for r in facts["rounds"]] == [0.4375, 0.5]
    assert [g.units for g in groups(models.open_model(small))] == [2, 12, 2, 12]
    assert all(r["recovery"]["epochs"] == 1 for r in facts["rounds"])
    for row in facts["widths"]:
        assert len(row["kept"]) == row["after"]
        assert set(row["kept"]) <= set(range(row["before"]))


@pytest.mark.slow
def test_recovery_can_use_labels_alone(trained, tmp_path):
    small = run(trained, "bert", tmp_path / "small", recover_from="labels")
    last = small.manifest.facts["rounds"][0]["recovery"]
    assert last["from"] == "labels"
    assert "loss_label" in last["fit"]["history"][0]
    assert "loss_soft" not in last["fit"]["history"][0]
    taught = run(trained, "bert", tmp_path / "taught").manifest.facts["rounds"][0]["recovery"]
    assert "loss_soft" in taught["fit"]["history"][0]


MASKED = {
    "magnitude": {"pattern": "unstructured"},
    "global": {"pattern": "unstructured", "scope": "global", "layers": "encoder", "remove_frac": 0.7},
    "wanda": {"pattern": "unstructured", "method": "wanda", "layers": "ffn", "remove_frac": 0.6},
    "taylor 2:4": {"pattern": "2:4", "method": "taylor"},
    "1:4": {"pattern": "1:4"},
    "cubic": {"pattern": "unstructured", "schedule": "cubic", "frequency": 2},
    "linear 2:4": {"pattern": "2:4", "schedule": "linear", "frequency": 2},
    "exponential": {"pattern": "unstructured", "schedule": "exponential", "frequency": 2, "scope": "global"},
}

FAST = ("magnitude", "cubic")


@pytest.mark.parametrize(
    "settings", [pytest.param(v, id=k, marks=() if k in FAST else pytest.mark.slow) for k, v in MASKED.items()]
)
def test_p6_p7_masked_weights_are_zero_in_the_saved_file_after_recovery_exactly_as_many_as_asked(
    settings, trained, tmp_path
):
    small = run(trained, "bert", tmp_path / "small", **settings)
    facts = small.manifest.facts["masks"]
    weights = load_file(small.path / "model.safetensors")
    for row in facts["layers"]:
        assert row["zeros"] == int((weights[f"{row['module']}.weight"] == 0).sum()) >= row["masked"]
    kept, of = map(int, settings["pattern"].split(":")) if ":" in settings["pattern"] else (None, None)
    frac = 1 - kept / of if kept else settings.get("remove_frac", 0.5)
    assert facts["masked"] == sum(r["masked"] for r in facts["layers"])
    assert abs(facts["masked"] - frac * facts["weights"]) <= len(facts["layers"])
    if kept:
        for row in facts["layers"]:
            blocks = weights[f"{row['module']}.weight"].reshape(-1, of)
            assert int((blocks != 0).sum(dim=1).max()) <= kept
    assert "embeddings" in facts["denominator"]
    assert facts["fraction_of_parameters"] < facts["fraction"]


def test_p11_zeros_change_no_shape_and_the_facts_name_both_denominators(trained, tmp_path):
    source, _, _ = trained("bert")
    small = run(trained, "bert", tmp_path / "small", pattern="unstructured", recover=None)
    old, new = (load_file(a.path / "model.safetensors") for a in (source, small))
    assert {k: v.shape for k, v in old.items()} == {k: v.shape for k, v in new.items()}
    facts = small.manifest.facts["masks"]
    assert facts["parameters"] == sum(p.numel() for p in models.open_model(small).module.parameters())
    assert small.info.masks["target"] == 0.5
    assert small.info.masks["pattern"] == "unstructured"


def test_layers_that_n_m_cannot_divide_are_refused_with_the_reason(trained, tmp_path):
    small = run(trained, "bert", tmp_path / "small", pattern="3:12", recover=None)
    facts = small.manifest.facts
    assert facts["refused"]
    assert all("16 inputs are not a multiple of 12" in reason for reason in facts["refused"].values())
    assert {r["module"] for r in facts["masks"]["layers"]} == {f"bert.encoder.layer.{i}.output.dense" for i in (0, 1)}


@pytest.mark.slow
def test_an_evaluation_before_the_target_is_never_the_best(trained, tmp_path):
    recover = RECOVER.model_copy(update={"epochs": 3})
    small = run(
        trained, "bert", tmp_path / "small", pattern="unstructured", schedule="linear", end_epoch=2.5, frequency=1,
        recover=recover, remove_frac=0.9,
    )  # fmt: skip
    assert small.manifest.facts["recovery"]["fit"]["best"]["epoch"] == 3


@pytest.mark.parametrize(
    "settings",
    [
        pytest.param({"schedule": "linear", "rounds": 2}, id="rounds"),
        pytest.param({"pattern": "unstructured", "schedule": "cubic", "frequency": 2}, id="masks"),
    ],
)
@pytest.mark.parametrize("stop", [1, 5, 9])
@pytest.mark.slow
def test_a_killed_prune_continues_and_ends_with_the_weights_of_an_uninterrupted_one(settings, stop, trained, tmp_path):
    whole = run(trained, "bert", tmp_path / "whole", **settings)
    _, _, ctx = trained("bert")
    calls = [0]

    def check():
        calls[0] += 1
        if calls[0] == stop:
            raise Cancelled("stopped", "")

    with pytest.raises(Cancelled):
        run(trained, "bert", tmp_path / "parts", ctx=replace(ctx, check=check), **settings)
    assert not (tmp_path / "parts").exists()
    parts = run(trained, "bert", tmp_path / "parts", **settings)
    assert parts.manifest.files["model.safetensors"] == whole.manifest.files["model.safetensors"]


@pytest.mark.slow
def test_a_finished_round_is_not_made_again(trained, tmp_path, monkeypatch):
    _, _, ctx = trained("bert")
    calls, cuts = [0], []

    def check():
        calls[0] += 1
        if calls[0] == 9:
            raise Cancelled("stopped", "")

    real = stage.structured.cut_units_
    monkeypatch.setattr(stage.structured, "cut_units_", lambda *a, **k: cuts.append(1) or real(*a, **k))
    with pytest.raises(Cancelled):
        run(trained, "bert", tmp_path / "parts", ctx=replace(ctx, check=check), schedule="linear", rounds=2)
    first = len(cuts)
    run(trained, "bert", tmp_path / "parts", schedule="linear", rounds=2)
    assert first >= 1
    assert len(cuts) == 2


def test_pruned_masked_and_source_are_artifacts_that_verify(trained, tmp_path):
    small = run(trained, "bert", tmp_path / "small", recover=None)
    Artifact(small.path).verify()
    assert small.manifest.stage == "prune"
    assert small.manifest.key == "key"


def test_the_facts_say_what_was_left_alone_and_what_each_layer_alone_costs(trained, tmp_path):
    settings = {"ignore": ("*.layer.0.*",), "sensitivity": (0.5,), "recover": None}
    done = run(trained, "bert", tmp_path / "cut", **settings)
    facts = done.manifest.facts
    assert facts["ignored"]["patterns"] == ["*.layer.0.*"]
    assert len(facts["ignored"]["left"]) == 2
    assert all(row["layer"] != 0 for row in facts["widths"])
    assert "prune.ignore does not name" in facts["achieved"]["ffn"]["of"]
    rows = facts["sensitivity"]["layers"]
    assert [(row["kind"], ".layer.1." in row["module"]) for row in rows] == [("heads", True), ("ffn", True)]
    assert facts["sensitivity"]["n"] == 32
    random = run(trained, "bert", tmp_path / "random", work=control, **settings).manifest.facts
    assert "sensitivity" not in random
    assert random["ignored"]["left"]
    masked = run(trained, "bert", tmp_path / "masked", pattern="unstructured", **settings).manifest.facts
    assert masked["ignored"]["left"]
    assert {row["kind"] for row in masked["sensitivity"]["layers"]} == {"weights"}


def test_a_pattern_that_matches_nothing_or_all_stops_before_anything_is_written(trained, tmp_path):
    for ignore, why in ((("clasifier",), "did you mean classifier"), (("*",), "leaves no unit")):
        with pytest.raises(RecipeError, match=r"prune\.ignore") as error:
            run(trained, "bert", tmp_path / "out", ignore=ignore)
        assert why in str(error.value)
    assert not (tmp_path / "out").exists()
