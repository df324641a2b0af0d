"""The flags of the predecessor's language-model scripts, and what they mean."""

import pytest

from lessen import sar_flags
from lessen.errors import RecipeError
from lessen.recipe import parse


def recipe(**given):
    models = {"teacher_model": "scratch:gpt2-mini", "student_model": "scratch:gpt2-tiny"}
    return parse(sar_flags.translate({**models, **given}))


def test_the_defaults_are_those_of_the_first_script():
    made = recipe()
    assert made.task == "causal-lm"
    assert made.pipeline == "kd_only"
    assert made.teacher.train is None, "the predecessor never trained a teacher"
    assert made.data.path == "wikitext"
    assert made.data.hub_config == "wikitext-103-raw-v1"
    assert made.data.max_length == 1024
    train = made.distill.train
    assert (train.max_steps, train.eval_steps, train.batch_size, train.accumulate) == (1000, 200, 8, 8)
    assert (train.lr, train.weight_decay, train.clip_norm, train.schedule) == (1e-4, 0, 1.0, "constant")
    assert (made.distill.temperature, made.distill.alpha) == (2.0, pytest.approx(0.9))
    moe = made.distill.moe
    assert (moe.router_lr, moe.anchor, moe.balance, moe.entropy) == (5e-4, 1e-4, 1e-3, 1e-4)
    assert not made.distill.offload_teacher
    assert recipe(offload_teacher_to_cpu=True).distill.offload_teacher
    assert made.output_dir == "outputs/sar_kd"


def test_the_readmes_command_is_understood():
    made = recipe(model_dtype="float16", train_steps="500", student_lr="5e-6")
    assert made.distill.train.precision == "fp16"
    assert made.distill.train.max_steps == 500
    assert made.distill.train.lr == 5e-6


def test_weights_that_do_not_add_to_one_keep_their_ratio():
    assert recipe(alpha_kd="0.3", alpha_ce="0.9").distill.alpha == pytest.approx(0.25)
    assert recipe(alpha="0.7").distill.alpha == 0.7


def test_the_batch_is_micro_batch_times_accumulation():
    train = recipe(per_device_batch_size="2", grad_accum_steps="24").distill.train
    assert (train.batch_size, train.accumulate) == (48, 24)


def test_a_schedule_warms_up_over_the_steps_given():
    train = recipe(use_scheduler=True, warmup_steps="50", train_steps="200", scheduler_type="linear").distill.train
    assert (train.schedule, train.warmup_frac) == ("linear", 0.25)


def test_on_policy_learns_from_the_students_texts_by_reverse_kl():
    made = recipe(on_policy=True, router="sar")
    assert (made.distill.sequences, made.distill.objective, made.distill.router) == ("student", "reverse_kl", "sar")


@pytest.mark.parametrize(
    ("given", "told"),
    [
        ({"router_patterns": "gate"}, "routers are found by their structure"),
        ({"skip_eval_on_error": True}, "fails the run"),
        ({"alpha": "0.5", "alpha_kd": "0.5"}, "drop one"),
        ({"offload_teacher_to_cpu": True, "no_offload_teacher_to_cpu": True}, "drop one"),
        ({"model_dtype": "int8"}, "float16"),
        ({"train_steps": "many"}, "not a number"),
        ({"train_steps": "0"}, "give 1 or more"),
        ({"alpha_kd": "0", "alpha_ce": "0"}, "not both 0"),
    ],
)
def test_what_cannot_be_meant_is_refused_with_the_flag(given, told):
    with pytest.raises(RecipeError) as error:
        recipe(**given)
    assert told in f"{error.value.message}; {error.value.hint}"
    assert f"--{next(iter(given))}" in error.value.message


def test_every_flag_of_the_contract_is_there():
    wanted = """teacher_model student_model dataset_name dataset_config_name block_size per_device_batch_size
        grad_accum_steps train_batch_size eval_batch_size train_steps eval_steps save_steps student_lr
        router_lr temperature alpha_kd alpha_ce alpha router_anchor_weight router_load_balance_weight
        router_entropy_weight weight_decay max_grad_norm use_scheduler warmup_steps scheduler_type
        model_dtype offload_teacher_to_cpu clear_cache_every_step router_patterns seed output_dir
        eval_batches save_best_model early_stopping_patience eval_samples no_scheduler aggressive_memory
        debug_eval skip_eval_on_error aggressive_gc"""
    assert set(wanted.split()) <= set(sar_flags.BY_NAME)
