"""Write a model as an artifact; rebuild it from one, bit for bit."""

from __future__ import annotations

import copy
from pathlib import Path
from typing import TYPE_CHECKING, Any

from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor

from lessen import artifact as artifacts
from lessen.artifact import Artifact, Manifest
from lessen.errors import ArtifactError
from lessen.models.build import module_of
from lessen.models.family import family
from lessen.models.groups import settle_, slice_
from lessen.models.heads import is_stock
from lessen.models.shape import describe
from lessen.models.ties import every, once, untie_

if TYPE_CHECKING:
    from lessen.models import Model

WEIGHTS = "model.safetensors"
GENERATION = "generation_config.json"


def save(
    model: Model, path: Path, *, stage: str, key: str, history: tuple[dict[str, Any], ...], facts: dict[str, Any]
) -> Artifact:
    """Write a model as a whole or not at all.

    Args:
        path: the artifact's folder.
        stage: the stage that writes it.
        key: digest under which the finished stage is found again.
        history: one entry per stage so far.
        facts: what the stage learned; how the model came to be and its shape are added.
    """
    settle_(model)
    known = {"model": {**model.facts, "stock": is_stock_folder(model)}, "shape": describe(model)}
    manifest = Manifest(
        runtime="eager", info=model.info, stage=stage, key=key, history=history, facts={**known, **facts}
    )
    return artifacts.write(path, manifest, lambda folder: fill(model, folder))


def fill(model: Model, folder: Path) -> None:
    """Write configuration, generation settings, weights (tied ones once) and processor into a folder."""
    config: Any = copy.deepcopy(model.module.config)
    config.architectures = [type(model.module).__name__] if is_stock_folder(model) else None
    config.save_pretrained(folder)
    settings: Any = getattr(model.module, "generation_config", None)
    if settings is not None:
        settings.save_pretrained(folder)
    save_file(_tensors(model), folder / WEIGHTS, metadata={"format": "pt"})
    model.processor.save(folder)


def is_stock_folder(model: Model) -> bool:
    """Whether transformers' Auto classes load the saved folder as it is."""
    return is_stock(model.info) and not model.info.widths


def open_model(artifact: Artifact, device: str = "cpu") -> Model:
    """Rebuild a model from its folder, in evaluation mode.

    The configuration gives the full shape, `info.widths` says what was cut from it, and the weights must then fit
    exactly.

    Raises:
        ArtifactError: a file is missing or does not fit the others, or the artifact is of another runtime.
    """
    from transformers import AutoConfig
    from transformers.initialization import no_init_weights

    from lessen.models import Model

    if not (artifact.path / WEIGHTS).is_file():
        raise ArtifactError(
            f"{artifact.path} has no {WEIGHTS} (runtime {artifact.manifest.runtime})", "give a torch artifact"
        )
    try:
        config = AutoConfig.from_pretrained(artifact.path, trust_remote_code=False, local_files_only=True)
        settings = _generation(artifact.path)
        tensors = load_file(artifact.path / WEIGHTS)
    except (OSError, ValueError, SafetensorError) as error:
        raise ArtifactError(f"{artifact.path} cannot be read: {error}", "make the artifact again") from None
    with no_init_weights():
        module: Any = module_of(config, artifact.info)
    if artifact.info.generates:
        module.tie_weights()  # left out where weights are not initialised
    model = Model(module, artifact.processor, artifact.info, dict(artifact.manifest.facts.get("model", {})))
    _resize_(model, artifact)
    untie_(module, tensors)
    for dtype in {t.dtype for t in tensors.values() if t.is_floating_point()}:
        module.to(dtype)
    try:
        module.load_state_dict(every(module, tensors), strict=True)
    except RuntimeError as error:
        raise ArtifactError(f"{artifact.path}: weights do not fit config.json: {error}", "make it again") from None
    if settings is not None:
        module.generation_config = settings
    module.eval()
    module.to(device)
    return model


def _generation(folder: Path) -> Any:
    from transformers import GenerationConfig

    there = (folder / GENERATION).is_file()
    return GenerationConfig.from_pretrained(folder, local_files_only=True) if there else None


def _resize_(model: Model, artifact: Artifact) -> None:
    widths = dict(artifact.info.widths)
    for group in family(model.info.family).groups(model.module):
        units = widths.pop(group.name, group.units)
        if units > group.units:
            raise ArtifactError(
                f"{artifact.path}: {group.name} has {units} units, its configuration {group.units}", "make it again"
            )
        if units < group.units:
            slice_(model.module, group, range(units))
    if widths:
        raise ArtifactError(f"{artifact.path}: there is nothing named {', '.join(widths)}", "make the artifact again")
    settle_(model)


def _tensors(model: Model) -> dict[str, Tensor]:
    return {name: t.detach().cpu().contiguous().clone() for name, t in once(model.module).items()}
