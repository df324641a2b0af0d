"""Language models as ONNX graphs that read a few tokens and what was computed for earlier ones.

What the graphs are called, take and give: `runtimes/_onnx_decoder.py`. Attention is exported in its plain form; the
fused form does not trace with a cache. Experts are traced in transformers' batched form, which gathers the weights of
the experts that each token chose: exact, and lean for the one token of a step, but reading many tokens at once would
gather gigabytes, so the file says how many tokens a call may read.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn
from transformers.cache_utils import Cache, DynamicLayer, EncoderDecoderCache

from lessen.errors import ArtifactError
from lessen.export import graph
from lessen.runtimes._onnx_decoder import START, TOKENS
from lessen.runtimes.onnx import DECODER, ENCODER, FILE, SHARED

if TYPE_CHECKING:
    from lessen.models import Model

EXPERT_BYTES = 1 << 28  # gathered weights of experts in one call, at most
ROWS, READ, PAST, SOURCE = 2, 3, 4, 5  # sizes of the example: all different, none 0 or 1, so that none is a constant
Export = Callable[..., Any]  # torch.onnx.export with what all files share


def write(model: Model, folder: Path, export: Export) -> None:
    """Write the files of a generating model into a folder.

    Args:
        export: (module, arguments, dynamic_shapes=, input_names=, output_names=) -> the ONNX model.

    Raises:
        ArtifactError: the architecture cannot be traced; says which and why.
    """
    module: Any = model.module
    with _traceable(module):
        try:
            made = _pair(module, export) if module.config.is_encoder_decoder else {FILE: _causal(module, export)}
        except torch.onnx.errors.OnnxExporterError as error:
            raise ArtifactError(
                f"{type(module).__name__} cannot be traced: {_reason(error)}",
                "use format huggingface or safetensors",
            ) from error
    for proto in made.values():
        graph.tidy_(proto)
        graph.tie_(proto)
    graph.write_together(made, folder, SHARED)


def _reason(error: BaseException) -> str:
    while error.__cause__ is not None:
        error = error.__cause__
    return f"{type(error).__name__}: {str(error).strip().splitlines()[0]}" if str(error).strip() else repr(error)


@contextmanager
def _traceable(module: Any) -> Iterator[None]:
    """Compute attention and experts in forms that trace, for as long as this lasts."""
    before: tuple[str, str | None] = (module.config._attn_implementation, module.config._experts_implementation)
    module.set_attn_implementation("eager")
    if _experts(module):
        module.set_experts_implementation("batched_mm")
    try:
        yield
    finally:
        module.set_attn_implementation(before[0])
        if _experts(module):
            module.set_experts_implementation(before[1])


def _experts(module: nn.Module) -> list[Any]:
    return [part for part in module.modules() if hasattr(part, "down_proj") and hasattr(part, "num_experts")]


class _Past(DynamicLayer):  # type: ignore[misc]
    """Keys and values of one layer; their length is a free dimension, 0 included."""

    def __init__(self, keys: Tensor, values: Tensor) -> None:
        super().__init__()
        self.dtype, self.device = keys.dtype, keys.device
        self.keys, self.values, self.is_initialized = keys, values, True

    def get_seq_length(self) -> int:
        return int(self.keys.shape[-2]) if isinstance(self.keys.shape[-2], int) else self.keys.shape[-2]


def _cache(flat: Sequence[Tensor]) -> Cache:
    return Cache(layers=[_Past(key, value) for key, value in zip(flat[0::2], flat[1::2], strict=True)])


def _flat(cache: Cache) -> tuple[Tensor, ...]:
    layers: list[Any] = list(cache.layers)
    return tuple(tensor for layer in layers for tensor in (layer.keys, layer.values))


class _Encoder(nn.Module):
    """Source in; keys and values that every decoder layer reads of it out."""

    def __init__(self, module: Any) -> None:
        super().__init__()
        self.module = module

    def forward(self, ids: Tensor, mask: Tensor) -> tuple[Tensor, ...]:
        """Return key and value [b, heads, s, size] of each layer."""
        sources = self.module.get_encoder()(input_ids=ids, attention_mask=mask).last_hidden_state
        found = []
        for block in self.module.get_decoder().block:
            attention = block.layer[1].EncDecAttention
            for read in (attention.k, attention.v):
                many = read(sources).view(*sources.shape[:2], -1, attention.key_value_proj_dim)
                found.append(many.transpose(1, 2))
        return tuple(found)


class _Decoder(nn.Module):
    """Tokens, and what was computed for earlier ones and for the source, in; logits and the cache out."""

    def __init__(self, module: Any) -> None:
        super().__init__()
        self.module = module

    def forward(
        self, ids: Tensor, mask: Tensor, past: tuple[Tensor, ...], cross: tuple[Tensor, ...]
    ) -> tuple[Tensor, ...]:
        """Return logits [b, q, vocab], then key and value [b, heads, p + q, size] of each layer."""
        own = _cache(past)
        cache = EncoderDecoderCache(own, _cache(cross))
        cache.is_updated = dict.fromkeys(range(len(cross) // 2), True)  # the source is not read again
        width = self.module.config.d_model
        only_shape = torch.zeros((ids.shape[0], mask.shape[1], width), dtype=cross[0].dtype)
        out = self.module(
            encoder_outputs=(only_shape,),
            attention_mask=mask,
            decoder_input_ids=ids,
            past_key_values=cache,
            use_cache=True,
        )
        return (out.logits, *_flat(own))


class _Causal(nn.Module):
    """Tokens, and what was computed for earlier ones, in; logits at the wanted positions and the cache out."""

    def __init__(self, module: Any) -> None:
        super().__init__()
        self.module = module

    def forward(
        self, ids: Tensor, places: Tensor, mask: Tensor, wanted: Tensor, past: tuple[Tensor, ...]
    ) -> tuple[Tensor, ...]:
        """Return logits [b, n, vocab], then key and value [b, heads, p + q, size] of each layer."""
        cache = _cache(past)
        out = self.module(
            input_ids=ids,
            attention_mask=mask,
            position_ids=places,
            past_key_values=cache,
            use_cache=True,
            logits_to_keep=wanted,
        )
        return (out.logits, *_flat(cache))


def _pair(module: Any, export: Export) -> dict[str, Any]:
    """Return the encoder's and the decoder's graphs.

    Raises:
        ArtifactError: the decoder's layers are not T5's.
    """
    blocks = getattr(module.get_decoder(), "block", ())
    if not blocks or not all(hasattr(block.layer[1], "EncDecAttention") for block in blocks):
        raise ArtifactError(
            f"{type(module).__name__} has no cross-attention of T5's form",
            "export it in format huggingface or safetensors",
        )
    ids, mask, free = *_ids(module, SOURCE), torch.export.Dim.DYNAMIC
    mask[-1, -2:] = 0
    with torch.no_grad():
        cross = tuple(t.clone() for t in _Encoder(module)(ids, mask))
        out = module(input_ids=ids, attention_mask=mask, decoder_input_ids=_ids(module, PAST)[0], use_cache=True)
    past = tuple(t.clone() for t in _flat(out.past_key_values.self_attention_cache))
    rows, long = {0: free, 1: free}, {0: free, 2: free}
    names = _names("cross", len(cross))
    encoder = export(
        _Encoder(module), (ids, mask), dynamic_shapes=(rows, rows), input_names=["input_ids", "attention_mask"],
        output_names=names,
    )  # fmt: skip
    decoder = export(
        _Decoder(module),
        (_ids(module, READ)[0], mask, past, cross),
        dynamic_shapes=(rows, rows, (long,) * len(past), (long,) * len(cross)),
        input_names=["input_ids", "attention_mask", *_names("past", len(past)), *names],
        output_names=["logits", *_names("present", len(past))],
    )
    from lessen.runtimes.eager import start_id

    graph.say_(decoder, {START: str(start_id(module))})
    axes = {"input_ids": "source", "attention_mask": "source", "cross": "source"}
    _name_axes_(encoder, axes)
    _name_axes_(decoder, {**axes, "input_ids": "read", "past": "past", "logits": "read", "present": "all"})
    return {ENCODER: encoder, DECODER: decoder}


def _causal(module: Any, export: Export) -> Any:
    """Return the graph of a causal language model."""
    free = torch.export.Dim.DYNAMIC
    earlier, whole = _ids(module, PAST)
    with torch.no_grad():
        out = module(input_ids=earlier, attention_mask=whole, use_cache=True)
    past = tuple(t.clone() for t in _flat(out.past_key_values))
    ids, _ = _ids(module, READ)
    mask = torch.ones((ROWS, PAST + READ), dtype=torch.int64)
    mask[-1, :2] = 0
    places = (mask.cumsum(1) - 1).clamp(min=0)[:, PAST:]
    rows, long = {0: free, 1: free}, {0: free, 2: free}
    proto = export(
        _Causal(module),
        (ids, places, mask, torch.arange(READ - 1), past),
        dynamic_shapes=(rows, rows, rows, {0: free}, (long,) * len(past)),
        input_names=["input_ids", "position_ids", "attention_mask", "positions", *_names("past", len(past))],
        output_names=["logits", *_names("present", len(past))],
    )
    axes = {"input_ids": "read", "position_ids": "read", "attention_mask": "all", "past": "past", "present": "all"}
    _name_axes_(proto, {**axes, "positions": "wanted", "logits": "wanted"})
    gathered = [_gathered(part) for part in _experts(module)]
    if gathered:
        graph.say_(proto, {TOKENS: str(max(1, EXPERT_BYTES // (max(gathered) * _top_k(module))))})
    return proto


def _gathered(experts: Any) -> int:
    """Return the bytes of one expert's larger matrix in fp32."""
    return 4 * max(int(p[0].numel()) for p in experts.parameters())


def _top_k(module: nn.Module) -> int:
    counts: list[Any] = [getattr(part, "top_k", None) for part in module.modules()]
    return max((count for count in counts if isinstance(count, int)), default=1)


def _ids(module: Any, length: int) -> tuple[Tensor, Tensor]:
    ids = torch.arange(ROWS * length).reshape(ROWS, length) % int(module.config.vocab_size)
    return ids, torch.ones_like(ids)


def _names(kind: str, count: int) -> list[str]:
    return [f"{kind}_{part}_{i}" for i in range(count // 2) for part in ("key", "value")]


def _name_axes_(proto: Any, axes: dict[str, str]) -> None:
    """Name the free dimensions of inputs and outputs: rows, and the length that a name's beginning has."""
    for value in (*proto.graph.input, *proto.graph.output):
        dims = value.type.tensor_type.shape.dim
        name = next(axis for start, axis in axes.items() if value.name.startswith(start))
        if value.name == "positions":
            dims[0].dim_param = name
            continue
        dims[0].dim_param = "batch"
        dims[2 if len(dims) == 4 else 1].dim_param = name
