"""What cannot work is refused when the recipe is parsed."""

from __future__ import annotations

from typing import Any

import pytest

from lessen.errors import RecipeError, UnknownNameError
from lessen.recipe import Recipe, parse
from lessen.rules import pattern

IMAGES = {
    "task": "image-classification",
    "teacher": {"model": "scratch:resnet-18"},
    "student": {"model": "scratch:mobilenet-v2"},
}


def test_the_default_recipe_can_be_carried_out() -> None:
    assert isinstance(parse({}), Recipe)


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"distill": {"objective": "nothing"}}, "distill.objectives has no 'nothing'.*kl"),
        ({"distill": {"features": {"nothing": 1}}}, "distill.objectives has no 'nothing'"),
        ({"prune": {"method": "nothing"}}, "prune.methods has no 'nothing'.*wanda"),
        ({"quantize": {"backend": "nothing"}}, "quantize.backends has no 'nothing'.*ort_dynamic"),
        ({"export": {"formats": ["nothing"]}}, "export.formats has no 'nothing'.*onnx"),
        ({"data": {"source": "nothing"}}, "data.sources has no 'nothing'"),
        (
            {"teacher": {"model": "scratch:bert-smal"}},
            "there is no preset 'bert-smal'.*did you mean scratch:bert-small",
        ),
    ],
)
def test_an_unknown_name_is_refused_with_those_there_are(values: dict[str, Any], message: str) -> None:
    with pytest.raises(UnknownNameError, match=message):
        parse(values)


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"prune": {"pattern": "4:2"}}, "prune.pattern is '4:2'"),
        ({"prune": {"pattern": "half"}}, "prune.pattern is 'half'"),
        ({"data": {"folds": 3, "test_path": "t.csv"}}, "data.folds is 3 and data.test_path is given"),
        ({"data": {"validation_frac": 0.6, "test_frac": 0.5}}, "leave no training rows"),
        ({"data": {"augment": "crop"}}, "augment is for images"),
        ({"data": {"label_columns": ["a"]}}, "names one column"),
        ({"data": {"label_columns": ["a", "b"]}}, "teacher.output is softmax; set teacher.output to sigmoid"),
        ({"teacher": {"output": "sigmoid"}, "student": {"model": "scratch:bert-mini"}}, "cannot be compared"),
        ({"teacher": {"model": "teacher"}}, "only student.model may be teacher"),
        ({"teacher": {"model": "weights.pt"}}, "weights.pt: a pickle"),
        ({"teacher": {"model": "scratch:resnet-18"}}, "scratch:resnet-18, for image-classification"),
        ({"distill": {"alpha": 0}}, "nothing would be learned from the teacher"),
        ({"distill": {"objective": "dist", "train": {"accumulate": 2}}}, "distill.train.accumulate is 2"),
        ({"distill": {"objective": "hidden"}}, "compares features"),
        ({"distill": {"features": {"dkd": 1}}}, "compares answers; set distill.objective to dkd"),
        ({"distill": {"objective": "dkd"}, "teacher": {"output": "sigmoid"}}, "dkd compares classes"),
        ({"distill": {"standardize": True}, "teacher": {"output": "sigmoid"}}, "standardize compares classes"),
        ({**IMAGES, "data": {"augment": "crop"}, "distill": {"cache": "on"}}, "belongs to another view"),
        ({"student": {"model": "scratch:bert-small"}}, "nothing would get smaller"),
        ({"prune": {"schedule": "cubic", "recover": None}}, "prune.schedule"),
        ({"device": "gpu"}, "device is 'gpu'; allowed are auto, cpu, cuda, cuda:N"),
        ({**IMAGES, "quantize": {"backend": "ort_dynamic"}}, "slower.*ort_static"),
        ({"device": "cuda", "quantize": {"backend": "ort_dynamic"}}, "INT8 kernels run on the CPU"),
    ],
)
def test_settings_that_exclude_each_other_are_refused(values: dict[str, Any], message: str) -> None:
    with pytest.raises(RecipeError, match=message):
        parse(values)


@pytest.mark.parametrize(
    "values",
    [
        {"pipeline": "prune_only", "distill": {"alpha": 0}},
        {"pipeline": "kd_only", **IMAGES, "quantize": {"backend": "ort_dynamic"}},
        {"distill": {"alpha": 0, "features": {"hidden": 1.0}}},
        {"student": {"model": "scratch:bert-small"}, "distill": {"allow_larger": True}},
        {"student": {"model": "scratch:bert-small", "layers": 2}},
        {"data": {"label_columns": ["a", "b"]}, "teacher": {"output": "sigmoid"}},
    ],
)
def test_what_has_no_effect_or_is_wanted_is_accepted(values: dict[str, Any]) -> None:
    assert parse(values).name == "run"


def test_patterns_name_what_is_kept() -> None:
    assert pattern("2:4") == (2, 4)
    assert pattern("structured") is pattern("unstructured") is None


def test_a_section_given_in_part_keeps_the_rest_of_its_default() -> None:
    found = parse({"prune": {"recover": {"batch_size": 8}}, "distill": {"train": {"lr": "3e-4"}}})
    assert found.prune.recover is not None
    assert (found.prune.recover.epochs, found.prune.recover.lr, found.prune.recover.batch_size) == (3, 2e-6, 8)
    assert (found.distill.train.epochs, found.distill.train.lr) == (15, 3e-4)


def test_a_resolved_recipe_parses_to_itself() -> None:
    recipe = parse({"prune": {"pattern": "2:4"}, "student": {"layers": 2}, "distill": {"layer_map": [[0, 1]]}})
    assert parse(recipe.model_dump(mode="json")) == recipe
