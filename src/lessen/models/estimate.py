"""How many parameters a model would have, from its configuration alone."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn
from torch.utils.flop_counter import FlopCounterMode

from lessen.errors import ModelError, UnavailableError
from lessen.info import generates
from lessen.models import hub, presets
from lessen.models.build import config_of, info_of, label_, module_of, wanted_shape
from lessen.models.family import Family, family, family_of
from lessen.models.shape import count
from lessen.models.sources import shaped
from lessen.models.students import shape_fields

if TYPE_CHECKING:
    from lessen.info import ModelInfo
    from lessen.recipe import ModelSpec, Recipe

EXPERT_FIELDS = ("num_local_experts", "num_experts", "n_routed_experts", "moe_num_experts")
UNKNOWN_LABELS = ("0", "1")  # where the recipe does not name them: a row of the classifier weighs next to nothing


@dataclass(frozen=True)
class _Planned:
    """A tokenizer or image processor that is not there yet."""

    vocab_size: int
    max_length: int
    size: int
    channels: int = 3
    pad_id: int = 0
    eos_id: int | None = 1
    bos_id: int | None = None
    tokenizer: None = None
    config: Mapping[str, str] = field(default_factory=dict)


def parameters(recipe: Recipe, spec: ModelSpec) -> int:
    """Return the parameters of a model of a recipe; nothing is fetched and no weights are made.

    Args:
        spec: the recipe's teacher or student.

    Raises:
        UnavailableError: the model is not on this machine.
        ModelError, UnknownNameError: its shape does not fit.
    """
    config, info = configured(recipe, spec)
    with torch.device("meta"):
        return count(module_of(config, info))


def outline(recipe: Recipe, spec: ModelSpec) -> dict[str, int]:
    """Return parameters, layers, hidden_size and vocab_size of a language model of a recipe; no weights are made.

    Raises:
        UnavailableError, ModelError, UnknownNameError: as for `parameters`.
    """
    config, info = configured(recipe, spec)
    fields = family(info.family).fields
    with torch.device("meta"):
        total = count(module_of(config, info))
    shape = {name: int(getattr(config, fields[name])) for name in ("layers", "hidden_size")}
    return {"parameters": total, **shape, "vocab_size": int(config.vocab_size)}


def sketch(
    recipe: Recipe, spec: ModelSpec, length: int, device: str
) -> tuple[nn.Module, Callable[[int], dict[str, Tensor]]]:
    """Return a recipe's model with random weights on a device, and the inputs of a batch of so many rows.

    Args:
        length: tokens, or pixels a side; cut to the positions that the model knows.

    Raises:
        UnavailableError, ModelError, UnknownNameError: as for `parameters`.
    """
    config, info = configured(recipe, spec)
    one = family(info.family)
    known = int(getattr(config, "max_position_embeddings", None) or length)
    with torch.random.fork_rng(devices=[]), torch.device(device):
        module = module_of(config, info)

    def inputs(batch: int) -> dict[str, Tensor]:
        with torch.device(device):
            given = one.example(module, batch, min(length, known))
        if recipe.task == "seq2seq":
            given["decoder_input_ids"] = given["decoder_input_ids"][:, : recipe.data.max_target_length]
        return given

    return module, inputs


def flops(recipe: Recipe, spec: ModelSpec, length: int) -> float:
    """Return the FLOPs of one row forward, counted without weights; what is only looked up counts nothing.

    Args:
        length: tokens, or pixels a side.

    Raises:
        UnavailableError, UnknownNameError: as for `parameters`.
        ModelError: as for `parameters`; or a forward pass needs values, as routing to experts does.
    """
    module, inputs = sketch(recipe, spec, length, "meta")
    for part in {id(m): m for m in (module, getattr(module, "base_model", module))}.values():
        change: Any = getattr(part, "set_attn_implementation", None)
        if change is not None:
            change("eager")  # the fused kernel is counted as nothing
    counter = FlopCounterMode(display=False)
    given = {name: values for name, values in inputs(1).items() if not name.endswith("mask")}  # all ones
    try:
        with torch.no_grad(), torch.device("meta"), counter:
            module.eval()(**given)
    except (RuntimeError, NotImplementedError) as error:
        raise ModelError(f"the FLOPs of {spec.model} cannot be counted without weights", "run it") from error
    return float(counter.get_total_flops())


def experts(model: str) -> int:
    """Return the experts a layer of a model has, by its configuration; 0: it is dense.

    Args:
        model: scratch:<preset>, a local folder, or a hub id that is on this machine.

    Raises:
        UnavailableError: the model is not on this machine.
    """
    if model.startswith(presets.PREFIX):
        values: Mapping[str, Any] = presets.find(model).config
    else:
        from transformers import AutoConfig

        folder = hub.folder(model)
        values = AutoConfig.from_pretrained(folder, trust_remote_code=False, local_files_only=True).to_dict()
    return max((int(values.get(name) or 0) for name in EXPERT_FIELDS), default=0)


def configured(recipe: Recipe, spec: ModelSpec) -> tuple[Any, ModelInfo]:
    """Return the configuration of a recipe's model and what its outputs mean; no weights are made.

    Raises:
        UnavailableError, ModelError, UnknownNameError: as for `parameters`.
    """
    if spec.model == "experts":
        raise ModelError("a student made of experts has a size once they are counted", "run the recipe")
    if spec.model == "teacher":
        old, above = configured(recipe, recipe.teacher)
        one = family(above.family)
        info = above.model_copy(update={"source": "teacher"})
        return _reshaped(old, spec, one, info, always=True), info
    if spec.model.startswith(presets.PREFIX):
        preset = presets.find(spec.model)
        one = family(preset.family)
        info = _info(recipe, spec, one)
        shared = spec.tokenizer == "teacher" and recipe.teacher.model.startswith(presets.PREFIX)
        words = recipe.teacher.vocab_size if shared else spec.vocab_size
        size = recipe.data.image_size or preset.image_size or 0
        planned = _Planned(words, recipe.data.max_length, size)
        return config_of(preset.model_type, one.scratch(shaped(preset, spec, one, info), planned), info), info
    from transformers import AutoConfig

    folder = hub.on_disk(spec.model)
    if folder is None:
        raise UnavailableError(f"{spec.model} is not on this machine", hub.OPTIONS)
    config = AutoConfig.from_pretrained(folder, trust_remote_code=False, local_files_only=True)
    one = family_of(config.model_type)
    info = _info(recipe, spec, one)
    label_(config, info)
    return _reshaped(config, spec, one, info, always=False), info


def _reshaped(config: Any, spec: ModelSpec, one: Family, info: ModelInfo, *, always: bool) -> Any:
    wanted = wanted_shape(spec, one)
    if not (wanted or spec.config or always):
        return config
    scaled = one.scale(config, wanted) if wanted or not spec.config else {}
    return config_of(config.model_type, {**shape_fields(config), **scaled, **spec.config}, info)


def _info(recipe: Recipe, spec: ModelSpec, one: Family) -> ModelInfo:
    if generates(one.task):
        return info_of(spec, one, (), False)
    many = len(recipe.data.label_columns) > 1
    labels = recipe.data.label_columns if many else recipe.data.labels or UNKNOWN_LABELS
    return info_of(spec, one, labels, many)
