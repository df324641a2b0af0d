"""Models from a preset, a Hugging Face folder or hub id, or an artifact."""

from __future__ import annotations

import contextlib
import dataclasses
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from torch import nn

from lessen.artifact import MANIFEST, Artifact
from lessen.errors import ArtifactError, ModelError
from lessen.info import ModelInfo, generates
from lessen.models import Model, hub, language, presets
from lessen.models.build import check_fields, config_of, info_of, module_of, stock_class, wanted_shape
from lessen.models.family import Family, family, family_of
from lessen.models.folders import open_model
from lessen.models.heads import attention, is_stock
from lessen.models.labels import flip_, last_linear, output_names, relabel_

if TYPE_CHECKING:
    from lessen.data import Splits
    from lessen.processors import Processor
    from lessen.recipe import Data, ModelSpec

PIXEL_MEAN = PIXEL_STD = 0.5  # of image models from scratch: pixels from -1 to 1


def fetch(spec: ModelSpec, splits: Splits, data_cfg: Data, task: str, seed: int) -> Model:
    """Return a model as `lessen.models.fetch` says."""
    if spec.model == "teacher":
        raise ModelError("model: teacher is for students", "give a hub id, a local folder, or scratch:<preset>")
    if spec.model.startswith(presets.PREFIX):
        return scratch(spec, splits, data_cfg, task, seed)
    folder = hub.folder(spec.model)
    if (folder / MANIFEST).is_file():
        model = _artifact(spec, folder, splits, data_cfg, task, seed)
    else:
        model = _pretrained(spec, folder, splits, data_cfg, task, seed)
    wanted = wanted_shape(spec, family(model.info.family))
    if wanted:
        from lessen.models.students import reshape

        full, model = model, reshape(model, wanted, {}, model.info, seed, random=False)
        model.facts["from"] = full.facts
    _check_length(model, data_cfg)
    return model


def scratch(
    spec: ModelSpec, splits: Splits, data_cfg: Data, task: str, seed: int, processor: Processor | None = None
) -> Model:
    """Build a preset with random weights.

    Args:
        processor: the tokenizer or image processor to use; none: one is made for the training split.

    Raises:
        ModelError: the preset is for another task, or a width does not fit.
    """
    preset = presets.find(spec.model)
    one = family(preset.family)
    _check_task(spec, one, task)
    info = info_of(spec, one, splits.labels, splits.multi_label)
    values = shaped(preset, spec, one, info)
    if processor is None:
        processor = _new_processor(spec, splits, data_cfg, preset)
    with seeded(seed):
        module = module_of(config_of(preset.model_type, one.scratch(values, processor), info), info)
    language.tokens_(module, processor)
    return Model(module.eval(), processor, info, {"source": spec.model, "weights": "random", "seed": seed})


def shaped(preset: presets.Preset, spec: ModelSpec, one: Family, info: ModelInfo) -> dict[str, Any]:
    """Return a preset's configuration values with what a spec changes; widths not given follow in proportion."""
    wanted = wanted_shape(spec, one)
    values = dict(preset.config)
    if wanted:
        values |= one.scale(config_of(preset.model_type, values, info), wanted)
    return {**values, **spec.config}


@contextlib.contextmanager
def seeded(seed: int) -> Iterator[None]:
    """Draw random weights from a seed inside; the global generator is as before outside."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        yield


def _new_processor(spec: ModelSpec, splits: Splits, data_cfg: Data, preset: presets.Preset) -> Processor:
    from lessen import processors

    if preset.task == "text-classification":
        return processors.train_text_processor(
            list(splits.train.inputs), vocab_size=spec.vocab_size, max_length=data_cfg.max_length
        )
    if generates(preset.task):
        return processors.train_bpe_processor(
            [*splits.train.inputs, *_targets(splits, preset.task)],
            vocab_size=spec.vocab_size,
            max_length=data_cfg.max_length,
        )
    size = data_cfg.image_size or preset.image_size or 224
    channels = int(spec.config.get("num_channels", 3))
    mean, std = (PIXEL_MEAN,) * channels, (PIXEL_STD,) * channels
    return processors.ImageProcessor(size=size, channels=channels, mean=mean, std=std)


def _targets(splits: Splits, task: str) -> list[str]:
    """Return what a seq2seq model shall answer: the targets, or the words that stand for the labels."""
    if task != "seq2seq":
        return []
    if splits.labels:
        return [str(splits.labels[int(i)]) for i in splits.train.labels]
    return [str(target) for target in splits.train.labels]


def _pretrained(spec: ModelSpec, folder: Path, splits: Splits, data_cfg: Data, task: str, seed: int) -> Model:
    from transformers import AutoConfig

    try:
        config = AutoConfig.from_pretrained(folder, trust_remote_code=False, local_files_only=True)
    except (OSError, ValueError, KeyError) as error:
        raise _unsupported(folder, error) from None
    one = family_of(config.model_type)
    _check_task(spec, one, task)
    info = info_of(spec, one, splits.labels, splits.multi_label)
    for field in one.dropouts:
        setattr(config, field, spec.dropout)
    _override_(config, spec)
    have, words = _trained_labels(config), int(getattr(config, "vocab_size", 0))
    with seeded(seed):
        module, missing = _load(folder, config, one, spec)
        facts = {"source": spec.model, "weights": "pretrained", "new": missing}
        if info.generates:
            pass
        elif is_stock(info):
            facts |= relabel_(module, one.readers(module)[-1], have, info)
        else:
            module = _pooled(module, info)
            facts |= {"labels": "new head"}
        one.mend_(module)
    processor = _their_processor(folder, spec, data_cfg, task, words)
    language.tokens_(module, processor)
    return Model(module.eval(), processor, info, facts)


def _load(folder: Path, config: Any, one: Family, spec: ModelSpec) -> tuple[nn.Module, list[str]]:
    """Load the stock class; only a classifier's head may be missing from the file."""
    try:
        with _quiet():
            module, report = stock_class(one.task).from_pretrained(
                folder,
                config=config,
                dtype=torch.float32,
                use_safetensors=True,
                trust_remote_code=False,
                local_files_only=True,
                output_loading_info=True,
                **attention(one),
            )
    except (OSError, RuntimeError, ValueError) as error:
        raise ModelError(f"{spec.model} cannot be loaded: {_line(error)}", "check the folder's config.json") from None
    missing = sorted(report["missing_keys"])
    lost = [name for name in missing if generates(one.task) or not name.startswith(one.readers(module))]
    if lost:
        raise ModelError(
            f"{spec.model} lacks {len(lost)} weights of its architecture, {lost[0]} among them",
            "check that config.json and model.safetensors belong together",
        )
    return module, missing


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
    """Keep transformers from reporting what is missing in a file; what matters of it is raised or stands in facts."""
    from transformers.utils import logging

    level, bars = logging.get_verbosity(), logging.is_progress_bar_enabled()
    logging.set_verbosity_error()
    logging.disable_progress_bar()
    try:
        yield
    finally:
        logging.set_verbosity(level)
        if bars:
            logging.enable_progress_bar()


def _pooled(stock: nn.Module, info: ModelInfo) -> nn.Module:
    """Return our head over the encoder of a stock model."""
    module = module_of(stock.config, info)
    encoder: Any = module.base_model
    wanted = encoder.state_dict().keys()
    theirs: Any = stock.base_model
    encoder.load_state_dict({k: v for k, v in theirs.state_dict().items() if k in wanted}, strict=True)
    return module


def _artifact(spec: ModelSpec, folder: Path, splits: Splits, data_cfg: Data, task: str, seed: int) -> Model:
    artifact = Artifact(folder)
    artifact.verify()
    model = open_model(artifact)
    one = family(model.info.family)
    _check_task(spec, one, task)
    if spec.config:
        raise ModelError(f"{spec.model} is finished; config cannot change it", "leave config out")
    for name in ("pooling", "head_width"):
        if name in spec.model_fields_set and getattr(spec, name) != getattr(model.info, name):
            raise ModelError(f"{spec.model} has {name} {getattr(model.info, name)}", f"leave {name} out")
    output = spec.output if "output" in spec.model_fields_set else model.info.output
    fresh = info_of(spec.model_copy(update={"output": output}), one, splits.labels, splits.multi_label)
    keep = {k: getattr(model.info, k) for k in ("pooling", "head_width", "widths", "masks", "dropout")}
    info = fresh.model_copy(update=keep)
    if info.generates:
        return _said(model, info, spec, data_cfg)
    have = output_names(model.info) if _same_kind(model.info, info) else None
    with seeded(seed):
        if have is not None and info.one_logit and model.info.labels == info.labels[::-1]:
            facts = flip_(model.module, info)
        else:
            facts = relabel_(model.module, last_linear(model.module), have, info)
    if facts["labels"] == "kept":
        info = info.model_copy(update={"threshold": model.info.threshold})
    processor = _sized(model.processor, data_cfg)
    return Model(model.module.eval(), processor, info, {"source": spec.model, "weights": "artifact", **facts})


def _said(model: Model, info: ModelInfo, spec: ModelSpec, data_cfg: Data) -> Model:
    """Return a model of ours that generates: its answers are tokens, whatever the data's labels."""
    facts = {"source": spec.model, "weights": "artifact"}
    return Model(model.module.eval(), _sized(model.processor, data_cfg), info, facts)


def _sized(processor: Any, data_cfg: Data) -> Processor:
    """Return a processor with the recipe's longest text or image size."""
    from lessen import processors

    fitting: Processor = processor
    if isinstance(processor, processors.TextProcessor):
        if processor.max_length != data_cfg.max_length:
            fitting = processors.TextProcessor(
                processor.tokenizer, processor.config, data_cfg.max_length, processor.pad_id
            )
    elif data_cfg.image_size not in (None, processor.size):
        share = data_cfg.image_size / processor.size
        shorter = None if processor.shorter is None else round(processor.shorter * share)
        fitting = dataclasses.replace(processor, size=data_cfg.image_size, shorter=shorter)
    return fitting


def _same_kind(one: ModelInfo, other: ModelInfo) -> bool:
    return one.multi_label == other.multi_label and one.one_logit == other.one_logit


def _their_processor(folder: Path, spec: ModelSpec, data_cfg: Data, task: str, words: int) -> Processor:
    from lessen import processors
    from lessen.data.image_processor import IMAGES

    if task == "image-classification":
        try:
            return _sized(processors.load_processor(folder), data_cfg)
        except ArtifactError:
            raise ModelError(f"{spec.model} has no {IMAGES}", "add it: the size, mean and std") from None
    from transformers import AutoTokenizer

    try:
        tokenizer = AutoTokenizer.from_pretrained(folder, trust_remote_code=False, local_files_only=True)
    except (OSError, ValueError, ImportError, KeyError) as error:
        raise ModelError(f"{spec.model} has no tokenizer to be read: {_line(error)}", "add tokenizer.json") from None
    if generates(task) and tokenizer.pad_token is None:
        tokenizer.pad_token = tokenizer.eos_token  # GPT-2 has none; masks and losses go by lengths
    processor = processors.text_processor_from_hub(tokenizer, data_cfg.max_length)
    if processor.vocab_size > words:
        raise ModelError(
            f"{spec.model}: its tokenizer has {processor.vocab_size} entries, its embeddings {words}",
            "use the tokenizer that the model was trained with",
        )
    return processor


def _trained_labels(config: Any) -> tuple[str, ...] | None:
    """Return the labels of a checkpoint that has a trained classifier, else None."""
    heads = ("ForSequenceClassification", "ForImageClassification")
    classifies = any(str(name).endswith(heads) for name in config.architectures or ())
    return tuple(str(config.id2label[i]) for i in sorted(config.id2label)) if classifies else None


def _override_(config: Any, spec: ModelSpec) -> None:
    from huggingface_hub.errors import StrictDataclassError

    check_fields(config.model_type, spec.config)
    for name, value in spec.config.items():
        try:
            setattr(config, name, value)
        except (TypeError, ValueError, StrictDataclassError) as error:
            raise ModelError(f"config.{name} is {value!r}: {error}", "see the architecture's configuration") from None


def _check_task(spec: ModelSpec, one: Family, task: str) -> None:
    if one.task != task:
        raise ModelError(
            f"{spec.model} ({one.name}) is for {one.task}, the recipe's task is {task}", "see `lessen models`"
        )


def _check_length(model: Model, data_cfg: Data) -> None:
    longest = family(model.info.family).longest(model.module.config)
    if longest is not None and data_cfg.max_length > longest:
        raise ModelError(
            f"{model.info.source} reads at most {longest} tokens; data.max_length is {data_cfg.max_length}",
            f"set data.max_length to {longest} or less",
        )


def _unsupported(folder: Path, error: Exception) -> ModelError:
    from lessen.models.family import families

    names = ", ".join(sorted(t for one in families() for t in one.model_types))
    return ModelError(f"{folder / 'config.json'} is not supported: {_line(error)}", f"the architectures are {names}")


def _line(error: Exception) -> str:
    return next((line.strip() for line in str(error).splitlines() if line.strip()), type(error).__name__)
