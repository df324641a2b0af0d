"""The predecessors' four model names, each a recipe at three levels: `recipe("distillBert", "demo", {...})`.

Settings are laid over the preset's. Data of one's own replaces the embedded data together with everything that belongs
to it, and a teacher of one's own comes with the settings for pretrained weights, not those for random ones.
"""

from __future__ import annotations

import copy
import difflib
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from lessen.errors import RecipeError, UnknownNameError
from lessen.info import Task
from lessen.models.presets import PREFIX
from lessen.recipe import Recipe, parse
from lessen.section import overlay
from lessen.server import preset_recipes as recipes
from lessen.server.preset_recipes import Level

LEVELS = ("demo", "balanced", "thorough")
OF_ANY_MODEL = ("train", "pooling", "vocab_size")
OF_SIZE = ("max_length", "max_target_length", "image_size", "augment")  # of data, whatever the data is
FROM_SCRATCH = "teacher and student are trained from scratch on the data given: no pretrained weights"
PRETRAINED = "the teacher starts from the weights of {}, the student from scratch"


@dataclass(frozen=True)
class Preset:
    """A model that can be compressed by its name alone."""

    model_name: str  # as the predecessors write it
    aliases: tuple[str, ...]
    title: str
    description: str
    task: Task
    architecture: str  # at full size, with random weights
    levels: Mapping[str, Level]

    def level(self, name: str) -> Level:
        """Return a level.

        Raises:
            UnknownNameError: there is none of this name.
        """
        found = self.levels.get(name.strip().lower())
        if found is None:
            raise UnknownNameError(
                f"there is no level {name[:40]!r} of {self.model_name}", f"choose one of {', '.join(self.levels)}"
            )
        return found


_ALL = (
    Preset(
        "distillBert",
        ("distilbert", "distilbert-base", "distilbert-base-uncased", "distilbert/distilbert-base-uncased"),
        "DistilBERT",
        "Transformer encoder for text classification: heads and feed-forward units are cut, then dynamic INT8.",
        "text-classification",
        "scratch:distilbert-base",
        recipes.DISTILBERT,
    ),
    Preset(
        "T5-small",
        ("t5", "google-t5/t5-small"),
        "T5-small",
        "Encoder and decoder, text to text: here it names the class of a text with a word.",
        "seq2seq",
        "scratch:t5-small",
        recipes.T5,
    ),
    Preset(
        "MobileNetV2",
        ("mobilenet", "mobilenet-v2-1.0-224", "google/mobilenet_v2_1.0_224"),
        "MobileNetV2",
        "Small convolutional network of inverted residuals: channels are cut, then static INT8.",
        "image-classification",
        "scratch:mobilenet-v2",
        recipes.MOBILENET,
    ),
    Preset(
        "ResNet-18",
        ("resnet", "microsoft/resnet-18"),
        "ResNet-18",
        "Convolutional network with skip connections: channels are cut, then static INT8.",
        "image-classification",
        "scratch:resnet-18",
        recipes.RESNET,
    ),
)
_MODELS = ("teacher", "student")
PRESETS: Mapping[str, Preset] = {preset.model_name: preset for preset in _ALL}


def _key(name: str) -> str:
    """Return a name without case, dashes, spaces and the like."""
    return "".join(c for c in name.casefold() if c.isalnum())


_BY_KEY = {_key(name): preset for preset in _ALL for name in (preset.model_name, *preset.aliases)}


def find(model_name: str) -> Preset:
    """Return a preset by its name or an alias, in any case, with or without dashes.

    Raises:
        UnknownNameError: there is none; the message lists those there are.
    """
    found = _BY_KEY.get(_key(model_name))
    if found is None:
        near = difflib.get_close_matches(_key(model_name), _BY_KEY, 1)
        raise UnknownNameError(
            f"there is no preset {model_name[:80]!r}; there are {', '.join(PRESETS)}",
            f"did you mean {_BY_KEY[near[0]].model_name}?" if near else "for other models give a recipe",
        )
    return found


def recipe(model_name: str, level: str = "demo", overrides: Mapping[str, Any] | None = None) -> Recipe:
    """Return the recipe of a preset with settings laid over it.

    Args:
        overrides: settings as in a recipe, nested or with dotted names.

    Raises:
        UnknownNameError: there is no such preset or level.
        RecipeError: a setting is unknown, out of range, or excludes another one.
    """
    preset = find(model_name)
    chosen = preset.level(level)
    given = nested(overrides or {})
    values = _known(preset, level, chosen)
    if _own_data(values, given):
        values["data"] = {k: v for k, v in values.get("data", {}).items() if k in OF_SIZE}
    if _own_teacher(values, given):
        values |= {k: copy.deepcopy(preset.levels["thorough"].recipe[k]) for k in (*_MODELS, "distill")}
    for part in _MODELS:
        if _other(values[part], given.get(part)):
            values[part] = {k: v for k, v in values[part].items() if k in OF_ANY_MODEL}
    values = overlay(values, given)
    if isinstance(given.get("data"), dict) and "label_words" in given["data"]:
        values["data"]["label_words"] = given["data"]["label_words"]  # all of them, or none
    values.setdefault("note", _note(chosen, values, same=not _other_things(given)))
    return parse(values)


def nested(values: Mapping[str, Any]) -> dict[str, Any]:
    """Return settings with dotted names as nested ones: {"prune.remove_frac": 0.3} -> {"prune": {"remove_frac": 0.3}}.

    Raises:
        RecipeError: a setting is given twice, or stands both as a value and as a section.
    """
    out: dict[str, Any] = {}
    for name, value in values.items():
        *parents, last = str(name).split(".")
        at = out
        for part in parents:
            at = at.setdefault(part, {})
            if not isinstance(at, dict):
                raise RecipeError(f"{name} is given, and {part} as a value too", "give one of them")
        if isinstance(at.get(last), dict) and isinstance(value, dict):
            value = overlay(at[last], value)
        elif last in at:
            raise RecipeError(f"{name} is given twice", "give it once")
        at[last] = value
    return out


def _known(preset: Preset, level: str, chosen: Level) -> dict[str, Any]:
    name = f"{_key(preset.model_name)}-{level.strip().lower()}"
    return {"name": name, "task": preset.task, "pipeline": "kd_prune_quant", **copy.deepcopy(dict(chosen.recipe))}


def _own_data(values: dict[str, Any], given: dict[str, Any]) -> bool:
    data = given.get("data")
    if not isinstance(data, dict):
        return False
    return data.get("path") is not None or data.get("source") not in (None, values["data"].get("source"))


def _own_teacher(values: dict[str, Any], given: dict[str, Any]) -> bool:
    """Whether the teacher brings weights, where the preset's has none."""
    teacher = given.get("teacher")
    model = teacher.get("model") if isinstance(teacher, dict) else None
    return isinstance(model, str) and not model.startswith(PREFIX) and values["teacher"]["model"].startswith(PREFIX)


def _other(known: dict[str, Any], given: Any) -> bool:
    """Whether a model is given that is not the one known."""
    return isinstance(given, dict) and given.get("model") not in (None, known["model"])


def _other_things(given: dict[str, Any]) -> bool:
    """Whether other data or models are given, so that what a level says of its own does not hold."""
    shapes = {key for part in _MODELS if isinstance(given.get(part), dict) for key in given[part]}
    return bool(given.keys() & {"task", "data"} or shapes - {"train", "dropout", "init"})


def _note(level: Level, values: dict[str, Any], *, same: bool) -> str | None:
    """Return what readers must know of the models: the level's words where its data and models are `same`."""
    if same:
        return level.note
    teacher, student = (part["model"] if isinstance(part, dict) else None for part in map(values.get, _MODELS))
    if str(teacher).startswith(PREFIX):
        return FROM_SCRATCH
    return PRETRAINED.format(teacher) if str(student).startswith(PREFIX) else None
