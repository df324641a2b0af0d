import json

import pytest
import yaml
from hypothesis import given, settings
from hypothesis import strategies as st

from lessen.errors import RecipeError
from lessen.recipe import PIPELINES, Recipe, parse, read


def test_an_unknown_key_is_named_with_its_path_and_the_near_one():
    with pytest.raises(RecipeError, match=r"prune\.remove_frak.*did you mean prune\.remove_frac"):
        parse({"prune": {"remove_frak": 0.3}})


@pytest.mark.parametrize(
    ("values", "path"),
    [
        ({"prune": {"remove_frac": 1.5}}, "prune.remove_frac is 1.5"),
        ({"teacher": {"train": {"lr": -1}}}, "teacher.train.lr is -1"),
        ({"pipeline": "kd"}, "pipeline is 'kd'"),
        ({"data": {"folds": 0}}, "data.folds is 0"),
        ({"name": "../x"}, "name is '../x'"),
    ],
)
def test_a_bad_value_is_named_with_its_path(values, path):
    with pytest.raises(RecipeError) as error:
        parse(values)
    assert path in error.value.message
    assert "\n" not in str(error.value)


@settings(deadline=None)  # machines are shared
@given(st.sampled_from(PIPELINES), st.floats(0.01, 0.99), st.integers(0, 2**31))
def test_a_recipe_survives_json_and_yaml(pipeline, frac, seed):
    recipe = parse({"pipeline": pipeline, "prune": {"remove_frac": frac}, "seed": seed})
    assert parse(json.loads(recipe.model_dump_json())) == recipe
    assert parse(yaml.safe_load(yaml.safe_dump(recipe.model_dump(mode="json")))) == recipe


def test_yaml_learning_rates_without_a_dot_are_numbers(tmp_path):
    file = tmp_path / "r.yaml"
    file.write_text("teacher: {train: {lr: 3e-4}}\n")
    assert parse(read(file)).teacher.train.lr == 3e-4


@pytest.mark.parametrize("text", ["- a\n- b\n", "{a: ", "\tx: 1"])
def test_what_is_not_a_recipe_says_so(tmp_path, text):
    file = tmp_path / "r.yaml"
    file.write_text(text)
    with pytest.raises(RecipeError, match=r"r\.yaml"):
        read(file)


def test_a_recipe_cannot_be_changed_behind_the_programs_back():
    with pytest.raises(ValueError, match="frozen"):
        Recipe().seed = 1


def test_an_n_m_pattern_says_its_share_in_the_resolved_recipe_which_parses_again():
    recipe = parse({"pipeline": "prune_only", "prune": {"pattern": "1:4"}})
    assert recipe.prune.remove_frac == 0.75
    assert parse(json.loads(recipe.model_dump_json())) == recipe


def test_what_a_student_inherits_is_still_inherited_after_a_round_trip() -> None:
    """A recipe.json names every setting; what was not given must not become given by being read back."""
    first = parse({"teacher": {"pooling": "mean", "head_width": 32}, "student": {"model": "teacher", "layers": 1}})
    again = parse(json.loads(first.model_dump_json()))
    assert "pooling" not in again.student.model_fields_set
    assert (again.teacher.pooling, again.teacher.head_width) == ("mean", 32)
    asked = parse({"student": {"model": "teacher", "pooling": "cls"}})
    assert "pooling" in parse(asked.model_dump(mode="json")).student.model_fields_set
    assert again == first
