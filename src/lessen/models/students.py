"""Students: a shape derived from the teacher's, weights copied from it."""

from __future__ import annotations

import copy
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
import torch

from lessen.data.rows import rows_of
from lessen.errors import ModelError
from lessen.info import ModelInfo
from lessen.models import Model, presets, sources
from lessen.models.build import config_of, info_of, known_fields, module_of, wanted_shape
from lessen.models.copying import copy_
from lessen.models.family import family, family_of
from lessen.recipe import INHERITED

if TYPE_CHECKING:
    from lessen.data import Splits
    from lessen.recipe import Data, ModelSpec

OBSERVED = 64  # training rows on which the use of experts is counted
NOT_SHAPE = {"transformers_version", "architectures", "dtype", "id2label", "label2id", "problem_type"}


def student(spec: ModelSpec, teacher: Model, splits: Splits, data_cfg: Data, task: str, seed: int) -> Model:
    """Return a student as `lessen.models.student` says."""
    if spec.model == "teacher":
        return _derived(spec, teacher, splits, seed)
    if spec.model == "experts":
        return _from_experts(spec, teacher, splits)
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


def _from_experts(spec: ModelSpec, teacher: Model, splits: Splits) -> Model:
    """Return a dense student of the teacher's shape whose feed-forward parts are made of its experts.

    Without an intermediate_size each is the average of its layer's experts, weighted by how much training rows use
    them; with one, as many of the most used as it holds stand side by side.

    Raises:
        ModelError: the teacher has no experts, no dense family fits it, or the width is no multiple of an expert's.
    """
    from lessen.models.dense import dense_from_experts
    from lessen.models.moe import blocks, observe

    width = int(next(iter(blocks(teacher).values())).experts.down_proj.shape[2])  # type: ignore[union-attr, index]
    wanted = spec.intermediate_size or width
    if wanted % width:
        raise ModelError(f"student.intermediate_size is {wanted}; an expert has {width} units", "give a multiple of it")
    rows = rows_of(splits, "train", teacher.processor, None)
    chosen = np.linspace(0, len(rows) - 1, min(OBSERVED, len(rows))).astype(np.int64)
    batches = (rows.batch(chosen[at : at + 8]) for at in range(0, len(chosen), 8))
    usage = observe(teacher, ({k: torch.from_numpy(v) for k, v in batch.items()} for batch in batches))
    how: Literal["average", "concatenate"] = "average" if spec.intermediate_size is None else "concatenate"
    student = dense_from_experts(teacher, usage, how, wanted // width)
    student.facts |= {"weights": "experts", "observed_rows": len(chosen)}
    return student


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
