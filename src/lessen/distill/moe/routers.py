"""The routers of a mixture of experts, found by what they do.

A few tokens are sent through the model. A module holds experts if it has weights of its own with three dimensions, one
entry an expert (or one part an expert), and is told which of them to use; the router is the innermost module that made
this choice, by the very same tensor, and has a matrix with as many rows as there are experts. Names decide nothing: the
`gate_proj` of a feed-forward layer is no router, whatever its shape.
"""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from lessen.errors import ModelError
from lessen.models.modes import evaluating

TOKENS = 4  # sent through the model
PROBES = 64  # random states that a router is tried on
SPREAD = 2.0  # standard deviation of the logits they get
TOLERANCE = 0.02  # of weights that add up to 1: half precision, and a softmax told from anything else

ANOTHER_FORM = "does not answer with logits, weights and the experts chosen for each token"
NO_SOFTMAX = "weighs experts by something else than a softmax of its logits"


@dataclass(frozen=True, eq=False)
class Router:
    """What chooses among the experts of one layer.

    Attributes:
        path: of the module, from the model.
        layer: its number.
        experts, top_k: how many there are; how many a token is sent to.
        shape: of its matrix, (experts, width).
        normalized: the weights of the experts chosen add up to `scale`; else each is scale x its probability.
        scale: factor of the weights (DeepSeek's routed_scaling_factor), as measured.
        refusal: why its choice cannot be changed, or none: it can.
    """

    path: str
    layer: int
    experts: int
    top_k: int
    module: nn.Module
    shape: tuple[int, ...]
    normalized: bool = True
    scale: float = 1.0
    refusal: str | None = None

    @property
    def parameters(self) -> dict[str, nn.Parameter]:
        """Its parameters, by their path from the model."""
        return {f"{self.path}.{name}": parameter for name, parameter in self.module.named_parameters()}


def routers(module: nn.Module) -> list[Router]:
    """Return the routers of a language model, in the order in which a token passes them.

    The model runs once, in evaluation mode, which is put back; no random number is drawn from torch's own generator.

    Raises:
        ModelError: there are none: the model is dense, or chooses in a way that is not understood.
    """
    with evaluating(module), torch.no_grad():
        made = [_router(module, path, told) for path, told in dict(_choices(module)).items()]
    if not made:
        raise ModelError(
            f"{_name(module)} has no routers: no module's choice reaches a module of experts", "use router: null"
        )
    return made


def describe(found: Sequence[Router]) -> str:
    """Return a line for people, such as "4 routers of 8 experts, [8, 256] each, top-2"."""
    kinds = Counter((r.experts, r.shape, r.top_k) for r in found)
    parts = [
        f"{count} router{'s' if count > 1 else ''} of {experts} experts, {list(shape)}"
        f"{' each' if count > 1 else ''}, top-{k}"
        for (experts, shape, k), count in kinds.items()
    ]
    return "; ".join(parts)


def fingerprint(found: Sequence[Router]) -> str:
    """Return the SHA-256 (64 hex digits) of the routers' weights in fp32, their paths and shapes."""
    return hashed({path: p for router in found for path, p in router.parameters.items()})


def hashed(tensors: dict[str, Any]) -> str:
    """Return the SHA-256 (64 hex digits) of tensors by name, in fp32 and in order of names."""
    found = hashlib.sha256()
    for name in sorted(tensors):
        values = tensors[name].detach().float().cpu().contiguous()
        found.update(f"{name}{list(values.shape)}".encode())
        found.update(values.numpy().tobytes())
    return found.hexdigest()


def refuse_unchangeable(found: Sequence[Router], how: str) -> None:
    """Raise ModelError where a router's choice cannot be changed, or one expert is all there is."""
    for router in found:
        if router.refusal is not None:
            raise ModelError(
                f"distill.router is {how}; the router {router.path} ({type(router.module).__name__}) {router.refusal}",
                "use router: frozen",
            )
        if router.experts < 2:
            raise ModelError(f"distill.router is {how}; {router.path} has one expert", "use router: frozen")


@dataclass(frozen=True, eq=False)
class _Told:
    """What a module of experts was told: the choice, and what the router answered."""

    experts: int
    answer: Any


def _choices(module: nn.Module) -> Iterator[tuple[str, _Told]]:
    """Yield (path of the router, what its experts were told), in the order of the calls."""
    made: list[tuple[str, set[int], Any]] = []  # who answered which choices
    taken: list[tuple[int, set[int]]] = []  # how many experts took which choices
    kept: list[Any] = []  # alive, so that no address comes twice
    paths = {part: path for path, part in module.named_modules()}

    def before(part: nn.Module, args: Any, kwargs: Any) -> None:
        kept.append((args, kwargs))
        experts = _experts(part)
        if experts and (told := _marks((*args, *kwargs.values()))):
            taken.append((experts, told))

    def after(part: nn.Module, args: Any, answer: Any) -> None:
        kept.append(answer)
        if told := _marks(answer if isinstance(answer, tuple) else (answer,)):
            made.append((paths[part], told, answer))

    with _hooked(paths, before, after):
        _run(module)
    for experts, told in taken:
        for path, said, answer in made:  # the innermost answers first
            if told & said and _matrix(module.get_submodule(path), experts) is not None:
                yield path, _Told(experts, answer)
                break


def _run(module: Any) -> None:
    """Send a few tokens through a model."""
    device = next(module.parameters()).device
    ids = torch.arange(TOKENS, device=device)[None] % int(module.config.get_text_config().vocab_size)
    inputs = {"input_ids": ids, "attention_mask": torch.ones_like(ids)}
    if module.config.is_encoder_decoder:
        inputs["decoder_input_ids"] = ids
    module(**inputs, use_cache=False)


@contextmanager
def _hooked(parts: Any, before: Any, after: Any) -> Iterator[None]:
    handles = []
    try:
        for part in parts:
            handles.append(part.register_forward_pre_hook(before, with_kwargs=True))
            handles.append(part.register_forward_hook(after))
        yield
    finally:
        for handle in handles:
            handle.remove()


def _marks(values: Any) -> set[int]:
    """Return what tells choices apart: the memory of integer tensors (views share it), lists of integers."""
    found = set()
    for value in values:
        if isinstance(value, Tensor) and value.ndim and value.dtype in (torch.int64, torch.int32):
            found.add(value.untyped_storage().data_ptr())
        elif isinstance(value, list) and value and all(isinstance(v, int) for v in value):
            found.add(id(value))
    return found


def _experts(part: nn.Module) -> int:
    """Return how many experts a module holds; 0: it holds none."""
    stacks = {len(p) for p in part.parameters(recurse=False) if p.ndim == 3}
    if len(stacks) == 1:
        return stacks.pop()
    if isinstance(part, nn.ModuleList | nn.ModuleDict) and len({type(child) for child in part.children()}) == 1:
        return len(part)
    return 0


def _matrix(part: nn.Module, experts: int) -> nn.Parameter | None:
    """Return the matrix of a router: one row an expert."""
    return next((p for p in part.parameters() if p.ndim == 2 and len(p) == experts), None)


def _router(module: nn.Module, path: str, told: _Told) -> Router:
    part, experts = module.get_submodule(path), told.experts
    matrix = _matrix(part, experts)
    assert matrix is not None  # noqa: S101  _choices saw it
    layer = next((int(name) for name in path.split(".") if name.isdigit()), 0)
    if not _plain(told.answer, experts):
        top_k = int(getattr(part, "top_k", 1))
        return Router(path, layer, experts, top_k, part, tuple(matrix.shape), refusal=ANOTHER_FORM)
    top_k = int(told.answer[2].shape[-1])
    normalized, scale, refusal = _gate(part, matrix)
    return Router(path, layer, experts, top_k, part, tuple(matrix.shape), normalized, scale, refusal)


def _plain(answer: Any, experts: int) -> bool:
    """Whether a router answers (logits [n, experts], weights [n, k], chosen [n, k])."""
    if not (isinstance(answer, tuple) and len(answer) == 3 and all(isinstance(a, Tensor) for a in answer)):
        return False
    logits, weights, chosen = answer
    return (
        logits.ndim == 2
        and logits.shape[1] == experts
        and weights.shape == chosen.shape
        and len(weights) == len(logits)
        and logits.is_floating_point()
        and weights.is_floating_point()
        and not chosen.is_floating_point()
    )


def _gate(part: nn.Module, matrix: Tensor) -> tuple[bool, float, str | None]:
    """Return whether the weights of chosen experts are normalized, their factor, and why they are no softmax."""
    draw = torch.Generator().manual_seed(0)
    states = torch.randn(PROBES, matrix.shape[1], generator=draw).to(matrix)
    spread = float(part(states.clone())[0].float().std())
    if not spread > 0:
        return True, 1.0, "gives all experts the same logit, whatever it reads"
    logits, weights, chosen = part(states * (SPREAD / spread))
    p, w = logits.float().softmax(dim=-1).gather(1, chosen), weights.float()
    total, mass = w.sum(dim=1), p.sum(dim=1)
    if float((w / total[:, None] - p / mass[:, None]).abs().max()) > TOLERANCE:
        return True, 1.0, NO_SOFTMAX
    for normalized, sums in ((True, total), (False, total / mass)):
        mean = float(sums.mean())
        if float((sums - mean).abs().max()) <= TOLERANCE * mean:
            return normalized, 1.0 if abs(mean - 1) < TOLERANCE else mean, None
    return True, 1.0, NO_SOFTMAX


def _name(module: nn.Module) -> str:
    config: Any = getattr(module, "config", None)
    return str(getattr(config, "model_type", "") or type(module).__name__)
