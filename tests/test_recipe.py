import json
import re

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


def numbers(shape, schema, at=()):
    """Return the paths of all settings below a shape that take a number, each with true in the number's place."""
    shape = schema["$defs"][shape["$ref"].rpartition("/")[2]] if "$ref" in shape else shape
    kind = shape.get("type")
    if kind in ("number", "integer"):
        return [(at, True)]
    if kind == "array":
        inner = [shape["items"]] if "items" in shape else shape.get("prefixItems", [])
        return [(at, [given, given]) for one in inner for _, given in numbers(one, schema, at)]
    found = [one for part in shape.get("anyOf", ()) for one in numbers(part, schema, at)]
    for name, part in shape.get("properties", {}).items():
        found += numbers(part, schema, (*at, name))
    if isinstance(more := shape.get("additionalProperties"), dict):
        found += [(at, {"hidden": given}) for _, given in numbers(more, schema, at)]
    return found


def test_true_is_no_number_wherever_a_recipe_takes_one():
    schema = Recipe.model_json_schema()
    found = numbers(schema, schema)
    paths = {".".join(at) for at, _ in found}
    assert len(paths) > 100
    assert paths >= {"seed", "distill.temperature", "distill.layer_map", "distill.features", "data.fold",
                     "teacher.train.patience", "quantize.train.lr", "distill.moe.passes"}  # fmt: skip
    for at, values in found:
        for name in reversed(at):
            values = {name: values}
        where = ".".join(at)
        with pytest.raises(RecipeError, match=rf"^{re.escape(where)} is .*Input should be a number, not true or false"):
            parse(values)


def test_numbers_may_be_written_as_text_and_whole_numbers_stand_for_fractions():
    recipe = parse({"seed": "7", "distill": {"temperature": "2.5", "alpha": 1, "layer_map": [["1", 2]]}})
    assert (recipe.seed, recipe.distill.temperature, recipe.distill.alpha) == (7, 2.5, 1.0)
    assert recipe.distill.layer_map == ((1, 2),)
    assert not parse({"data": {"stratify": False}}).data.stratify


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
