"""Students: a shape derived from the teacher's, weights copied from it."""

from __future__ import annotations

import copy
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from lessen.errors import ModelError
from lessen.info import ModelInfo
from lessen.models import Model, presets, sources
from lessen.models.build import config_of, info_of, known_fields, module_of, wanted_shape
from lessen.models.copying import copy_
from lessen.models.family import family, family_of

if TYPE_CHECKING:
    from lessen.data import Splits
    from lessen.recipe import Data, ModelSpec

INHERITED = ("pooling", "head_width", "output")
NOT_SHAPE = {"transformers_version", "architectures", "dtype", "id2label", "label2id", "problem_type"}


def student(spec: ModelSpec, teacher: Model, splits: Splits, data_cfg: Data, task: str, seed: int) -> Model:
    """Return a student as `lessen.models.student` says."""
    if spec.model == "teacher":
        return _derived(spec, teacher, splits, seed)
    if not spec.model.startswith(presets.PREFIX):
        if spec.init != "auto":
            raise ModelError(f"init is {spec.init}, but {spec.model} has weights of its own", "use init: auto")
        return sources.fetch(spec, splits, data_cfg, task, seed)
    preset = presets.find(spec.model)
    shared = spec.tokenizer == "teacher" or preset.task == "image-classification"
    if shared and preset.task != teacher.info.task:
        raise ModelError(
            f"{spec.model} is for {preset.task}, its teacher for {teacher.info.task}", "see `lessen models`"
        )
    processor = teacher.processor if shared else None
    model = sources.scratch(spec, splits, data_cfg, task, seed, processor)
    if spec.init != "random":
        _initialise_(model, teacher, must=spec.init == "teacher")
    return model


def reshape(
    source: Model, wanted: Mapping[str, int], config: Mapping[str, Any], info: ModelInfo, seed: int, *, random: bool
) -> Model:
    """Return a model of another shape with the source's weights where they fit.

    Args:
        wanted: widths by our names; empty, and no `config` either: about half the model.
        config: further fields of the configuration.
        random: copy nothing.
    """
    one = family(source.info.family)
    old: Any = source.module.config
    scaled = one.scale(old, wanted) if wanted or not config else {}
    values = {**shape_fields(old), **scaled, **config}
    with sources.seeded(seed):
        made = config_of(old.model_type, values, info)
        module = module_of(made, info)
    facts = {"source": info.source, "weights": "random", "seed": seed}
    model = Model(module.eval(), source.processor, info.model_copy(update={"widths": {}, "masks": {}}), facts)
    settings = getattr(source.module, "generation_config", None)
    if settings is not None:
        model.module.generation_config = copy.deepcopy(settings)
    if not random:
        _initialise_(model, source, must=False)
    return model


def _derived(spec: ModelSpec, teacher: Model, splits: Splits, seed: int) -> Model:
    one = family(teacher.info.family)
    inherited = {k: getattr(teacher.info, k) for k in INHERITED if k not in spec.model_fields_set}
    info = info_of(spec.model_copy(update=inherited), one, splits.labels, splits.multi_label)
    wanted = wanted_shape(spec, one)
    model = reshape(teacher, wanted, spec.config, info, seed, random=spec.init == "random")
    if spec.init == "teacher" and not model.facts.get("copied_parameters"):
        raise _nothing(model)
    return model


def _initialise_(model: Model, teacher: Model, *, must: bool) -> None:
    report = copy_(model, teacher)
    model.facts |= report
    if report["copied_parameters"]:
        model.facts["weights"] = "teacher"
    elif must:
        raise _nothing(model)


def _nothing(model: Model) -> ModelError:
    return ModelError(
        f"init is teacher, but nothing of the teacher fits {model.info.source}: {model.facts.get('not_copied', '')}",
        "use init: auto or random, or model: teacher",
    )


def shape_fields(config: Any) -> dict[str, Any]:
    """Return the fields of a configuration that are not about labels, dropout, files or versions."""
    known = known_fields(config.model_type) - NOT_SHAPE - set(family_of(config.model_type).dropouts)
    return {k: copy.deepcopy(v) for k, v in config.to_dict().items() if k in known}
