"""The predecessor's flags keep their meaning."""

from __future__ import annotations

import pytest

from lessen import legacy
from lessen.cli.flags import build
from lessen.errors import RecipeError
from lessen.recipe import PIPELINES, Recipe


def recipe(**flags: object) -> Recipe:
    """Build a recipe of the predecessor's flags alone, as `lessen run --dataset_path ...` does."""
    shared = {k: str(flags.pop(k)) for k in ("pipeline", "seed", "output_dir", "cache_dir") if k in flags}
    return build(None, shared, {"dataset_path": "data.csv", "teacher_path": "scratch:bert-mini", **flags})


def test_the_defaults_are_those_of_the_predecessor() -> None:
    found = recipe(teacher_path="csebuetnlp/banglabert")
    assert (found.pipeline, found.data.folds, found.data.max_length, found.seed) == ("kd_only", 5, 128, 42)
    assert found.student.model == "distilbert-base-multilingual-cased"
    assert (found.distill.alpha, found.distill.temperature, found.distill.train.epochs) == (0.7, 4.0, 15)
    assert found.teacher.train is not None
    assert (found.teacher.train.epochs, found.teacher.train.lr, found.teacher.train.batch_size) == (10, 2e-5, 32)
    assert (found.output_dir, found.cache_dir) == ("./compressed_models", "./cache")
    assert found.student.head_width == found.teacher.head_width == 256
    assert found.student.output == found.teacher.output == "sigmoid"


def test_recovery_trains_at_a_tenth_of_the_learning_rate_and_without_early_stopping() -> None:
    found = recipe(lr="3e-4", fine_tune_epochs="7").prune.recover
    assert found is not None
    assert found.lr == pytest.approx(3e-5)
    assert (found.epochs, found.patience) == (7, None)


def test_no_fine_tuning_means_no_recovery() -> None:
    assert recipe(no_fine_tune_after_prune=True, batch="8").prune.recover is None


@pytest.mark.parametrize("name", PIPELINES)
def test_every_pipeline_is_known_under_both_programs_names(name: str) -> None:
    other = "baseline" if name == "baseline" else f"baseline_{name.removesuffix('_only')}"
    assert legacy.pipeline(name) == legacy.pipeline(other) == name


@pytest.mark.parametrize(
    ("method", "features"),
    [("logit", {}), ("hidden", {"hidden": 0.3}), ("attention", {"attention": 0.5}),
     ("multi_level", {"hidden": 0.3, "attention": 0.5})],
)  # fmt: skip
def test_kd_methods_become_features_with_their_weights(method: str, features: dict[str, float]) -> None:
    values = legacy.translate({"kd_method": method, "attention_loss_weight": "0.5"}, complete=True)
    assert values["distill"]["features"] == features


@pytest.mark.parametrize(
    ("method", "pattern", "name"),
    [("magnitude", "unstructured", "magnitude"), ("wanda", "unstructured", "wanda"),
     ("gradual", "unstructured", "magnitude"), ("structured", "structured", "magnitude")],
)  # fmt: skip
def test_pruning_methods_keep_their_meaning(method: str, pattern: str, name: str) -> None:
    found = recipe(prune_method=method, prune_sparsity="0.3", prune_layers="ffn", pipeline="prune_only").prune
    assert (found.pattern, found.method, found.remove_frac, found.layers) == (pattern, name, 0.3, "ffn")


def test_gradual_pruning_is_followed_by_fine_tuning() -> None:
    found = recipe(prune_method="gradual", prune_end_epoch="4", fine_tune_epochs="2", prune_schedule="linear").prune
    assert found.recover is not None
    assert (found.schedule, found.start_epoch, found.end_epoch, found.recover.epochs) == ("linear", 0, 4, 6)


def test_gradual_pruning_without_fine_tuning_still_trains_while_it_prunes() -> None:
    found = recipe(prune_method="gradual", prune_end_epoch="4", no_fine_tune_after_prune=True).prune
    assert found.recover is not None
    assert found.recover.epochs == found.end_epoch == 4


def test_a_flag_of_the_sibling_program_selects_its_defaults() -> None:
    found = build(None, {}, {"dataset_path": "d.csv", "model_path": "scratch:bert-mini", "epochs": "3"})
    assert (found.pipeline, found.output_dir) == ("baseline", "./outputs")
    assert found.teacher.train is not None
    assert (found.teacher.train.epochs, found.teacher.train.class_weights) == (3, False)


def test_one_program_weighs_classes_always_and_the_other_when_asked() -> None:
    assert recipe().distill.train.class_weights
    asked = {"dataset_path": "d", "model_path": "scratch:bert-mini", "use_class_weights": True}
    assert build(None, {}, asked).distill.train.class_weights


def test_a_trained_teacher_is_not_trained_again(tmp_path: object) -> None:
    found = recipe(teacher_checkpoint=str(tmp_path), batch="4", lr="1e-3")
    assert found.teacher.model == str(tmp_path)
    assert found.teacher.train is None


def test_a_pickled_checkpoint_is_refused_and_safetensors_named() -> None:
    with pytest.raises(RecipeError, match=r"teacher\.pt.*model\.safetensors"):
        recipe(teacher_checkpoint="teacher.pt")


def test_mlflow_is_refused_with_what_there_is_instead() -> None:
    with pytest.raises(RecipeError, match=r"MLflow.*report\.json"):
        recipe(mlflow_experiment_name="x")


def test_a_dtype_that_contradicts_the_method_is_refused() -> None:
    with pytest.raises(RecipeError, match="--quant_method int4"):
        recipe(quant_method="dynamic", quant_dtype="int4")
    assert recipe(quant_method="int4", quant_dtype="int4").quantize.backend == "weight_int4"


def test_static_calibration_counts_samples() -> None:
    assert recipe(quant_method="static", quant_calibration_batches="10", batch="16").quantize.calib_samples == 160


@pytest.mark.parametrize(
    ("flag", "value"),
    [("batch", "0"), ("lr", "0"), ("num_folds", "0"), ("dropout", "1"), ("warmup_ratio", "1.5"), ("kd_alpha", "-0.1"),
     ("prune_sparsity", "1"), ("data_fraction", "0"), ("max_length", "0"), ("kd_temperature", "0")],
)  # fmt: skip
def test_ranges_are_held_and_the_message_names_the_flag(flag: str, value: str) -> None:
    with pytest.raises(RecipeError, match=f"--{flag}"):
        recipe(**{flag: value})


@pytest.mark.parametrize(("flag", "value"), [("batch", "many"), ("kd_method", "logits"), ("pooling_type", "sum")])
def test_a_value_of_the_wrong_kind_is_refused(flag: str, value: str) -> None:
    with pytest.raises(RecipeError, match=rf"--{flag} is '{value}'"):
        recipe(**{flag: value})


def test_flags_are_recorded_for_the_csv_columns() -> None:
    found = recipe(lr="3e-4", author_name="Ada").legacy
    assert (found["lr"], found["author_name"], found["kd_alpha"]) == (3e-4, "Ada", 0.7)


def test_with_a_recipe_only_what_is_given_changes(tmp_path: object) -> None:
    path = tmp_path / "r.yaml"  # type: ignore[operator]
    path.write_text("teacher: {model: scratch:bert-mini, train: {epochs: 2}}\nprune: {recover: null}\n")
    found = build(path, {}, {"batch": "8"})
    assert found.teacher.train is not None
    assert (found.teacher.train.batch_size, found.teacher.train.epochs) == (8, 2)
    assert found.distill.temperature == 2.0
    assert found.prune.recover is None
    assert found.legacy == {"batch": 8}


def test_every_flag_has_help_and_no_flag_stands_twice() -> None:
    assert all(flag.help for flag in legacy.FLAGS)
    assert len(legacy.BY_NAME) == len(legacy.FLAGS)


def test_every_flag_changes_the_recipe_or_is_documented_as_having_no_effect() -> None:
    plain = recipe(pipeline="kd_prune_quant").model_dump(exclude={"legacy"})
    values = {"text": "other/model", "int": "2", "float": "0.25", "switch": True}
    second = {"stratification_type": "none", "kd_method": "hidden", "prune_layers": "ffn", "quant_method": "int4"}
    silent = {"fine_tune_after_prune", "save_all_stages", "save_huggingface", "run_ablation", "ablation_pipelines",
              "quant_dtype", "mlflow_experiment_name", "model_path", "hidden_loss_weight", "attention_loss_weight",
              "prune_schedule", "prune_start_epoch", "prune_end_epoch", "prune_frequency", "quant_calibration_batches",
              "skip_baseline", "use_class_weights"}  # fmt: skip
    for flag in legacy.FLAGS:
        if flag.name in silent:
            continue
        value = second.get(flag.name) or (flag.choices[-1] if flag.choices else values[flag.kind])
        try:
            changed = recipe(**{"pipeline": "kd_prune_quant", flag.name: value}).model_dump(exclude={"legacy"})
        except RecipeError as error:
            pytest.fail(f"--{flag.name} {value}: {error}")
        assert changed != plain, flag.name


def test_a_teacher_from_scratch_gets_a_learning_rate_that_teaches_it() -> None:
    pretrained = legacy.translate({"dataset_path": "x.csv"}, complete=True)
    scratch = legacy.translate({"dataset_path": "x.csv", "teacher_path": "scratch:bert-mini"}, complete=True)
    told = legacy.translate({"dataset_path": "x.csv", "teacher_path": "scratch:bert-mini", "lr": 1e-4}, complete=True)
    rates = [v["teacher"]["train"]["lr"] for v in (pretrained, scratch, told)]
    assert rates == [2e-5, 5e-4, 1e-4]
    assert "token_dropout" not in pretrained["teacher"]["train"]
    assert scratch["distill"]["train"]["token_dropout"] > 0
    assert scratch["prune"]["recover"]["lr"] == pytest.approx(5e-5)
