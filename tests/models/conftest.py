"""Tiny models of every family, random weights and BatchNorm statistics that are not 0 and 1."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest
import torch

from lessen.info import ModelInfo, generates
from lessen.models import Model
from lessen.models.build import config_of, module_of
from lessen.models.family import family
from lessen.models.groups import cut_, groups
from lessen.models.language import tokens_
from lessen.processors import ImageProcessor, train_bpe_processor, train_text_processor

LABELS = ("ham", "spam", "eggs")
TEXTS = [f"the {a} {b} of the {c}" for a in ("red", "blue", "old") for b in ("box", "sum", "list") for c in "abcdef"]
SIZE = 32  # pixels
LENGTH = 12  # tokens
GATED = {"feed_forward_proj": "gated-gelu", "scale_decoder_outputs": False}
BERT = {"hidden_size": 32, "num_hidden_layers": 3, "num_attention_heads": 4, "intermediate_size": 48}
SHAPES: dict[str, dict[str, Any]] = {
    "bert": BERT,
    "electra": {**BERT, "embedding_size": 16},
    "roberta": BERT,
    "distilbert": {"dim": 32, "n_layers": 3, "n_heads": 4, "hidden_dim": 48},
    "resnet": {"embedding_size": 8, "hidden_sizes": [8, 16], "depths": [2, 2], "layer_type": "basic"},
    "mobilenet_v2": {"depth_multiplier": 0.25},
    "t5": {"d_model": 32, "d_kv": 8, "num_heads": 4, "d_ff": 48, "num_layers": 3, "num_decoder_layers": 3},
    "llama": {**BERT, "num_key_value_heads": 2},
    "qwen3_moe": {
        **BERT,
        "num_key_value_heads": 2,
        "head_dim": 6,
        "num_experts": 4,
        "num_experts_per_tok": 2,
        "moe_intermediate_size": 24,
        "mlp_only_layers": [0],
    },
    "gpt2": {"n_embd": 32, "n_head": 4, "n_layer": 3, "n_inner": 48},
}


def text_processor():
    return train_text_processor(TEXTS, vocab_size=60, max_length=LENGTH)


def bpe_processor():
    return train_bpe_processor(TEXTS, vocab_size=280, max_length=LENGTH)


def splits(labels=LABELS, multi_label=False, inputs=TEXTS):
    return SimpleNamespace(labels=labels, multi_label=multi_label, train=SimpleNamespace(inputs=inputs))


def tiny(name: str, seed: int = 0, shape: dict[str, Any] | None = None, **info: Any) -> Model:
    """Build a tiny model of a family in evaluation mode."""
    one = family(name)
    labels = () if generates(one.task) else LABELS
    about = ModelInfo(**{"family": name, "task": one.task, "source": "tiny", "labels": labels, "dropout": 0.1, **info})
    makers = {"text-classification": text_processor, "image-classification": lambda: ImageProcessor(SIZE)}
    processor = makers.get(one.task, bpe_processor)()
    values = one.scratch(dict(shape or SHAPES[name]), processor)
    generator = torch.Generator().manual_seed(seed)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        module = module_of(config_of(one.model_types[0], values, about), about)
    stored = module.state_dict()  # rotary tables are not
    for tensor in [*module.parameters(), *(b for n, b in module.named_buffers() if n in stored)]:
        if tensor.is_floating_point():
            noise = torch.randn(tensor.shape, generator=generator)
            if tensor.ndim == 4:  # deep networks of small weights would answer every image alike
                tensor.data = noise * (2 / tensor[0].numel()) ** 0.5
            else:
                tensor.data = tensor.data + (0.2 * noise.abs() if tensor.ndim == 1 else 0.05 * noise)
    if about.generates:
        tokens_(module, processor)
    return Model(module.eval(), processor, about)


def inputs_of(model: Model, batch: int) -> dict[str, torch.Tensor]:
    """Return a batch of texts of unequal length, padded, or of random images."""
    if model.processor.kind == "text":
        texts = [" ".join(TEXTS[i].split()[: 2 + i % 5]) for i in range(batch)]
        arrays = model.processor.collate(model.processor.encode(texts))
        assert batch == 1 or (arrays["attention_mask"] == 0).any()
        inputs = {name: torch.from_numpy(value) for name, value in arrays.items()}
        if model.info.task == "seq2seq":
            inputs["decoder_input_ids"] = torch.arange(batch * 5).reshape(batch, 5) % 40 + 3
            inputs["decoder_input_ids"][:, 0] = model.processor.pad_id
        return inputs
    generator = torch.Generator().manual_seed(batch)
    return {"pixel_values": torch.randn(batch, 3, SIZE, SIZE, generator=generator)}


def logits(model: Model, batch: int) -> torch.Tensor:
    """Return logits, in inference mode."""
    with torch.inference_mode():
        return model.module(**inputs_of(model, batch)).logits.clone()


def language(kind: str = "t5", **info: Any) -> Model:
    """Build a tiny model that generates."""
    name, more = {"t5-gated": ("t5", GATED)}.get(kind, (kind, {}))
    return tiny(name, shape={**SHAPES[name], **more}, **info)


def uneven(model: Model) -> None:
    """Cut every group to another width, so that no configuration could say them."""
    for i, group in enumerate(groups(model)):
        cut_(model, group, [u for u in range(group.units) if u % (2 + i % 3) != 1])


def tied(model: Model) -> bool:
    """Whether the last layer and all tables of tokens are one parameter."""
    module: Any = model.module
    table = module.get_input_embeddings().weight
    parts = [m.weight for m in module.modules() if isinstance(m, torch.nn.Embedding) and m.weight.shape == table.shape]
    return module.get_output_embeddings().weight is table and all(weight is table for weight in parts)


@pytest.fixture
def kit():
    """The functions above; test modules of this folder cannot import each other."""
    return SimpleNamespace(
        tiny=tiny, logits=logits, inputs=inputs_of, splits=splits, LABELS=LABELS, LENGTH=LENGTH, SIZE=SIZE,
        SHAPES=SHAPES, text_processor=text_processor, bpe_processor=bpe_processor, TEXTS=TEXTS,
        language=language, uneven=uneven, tied=tied,
    )  # fmt: skip
