"""Tied weights: one parameter under several names, stored once, tied again when read."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from torch import Tensor, nn


def ties(module: nn.Module) -> list[tuple[str, ...]]:
    """Return the names of every parameter that has more than one, in the order of the state dict."""
    names: dict[int, list[str]] = {}
    for name, value in module.state_dict(keep_vars=True).items():
        if isinstance(value, nn.Parameter):
            names.setdefault(id(value), []).append(name)
    return [tuple(some) for some in names.values() if len(some) > 1]


def once(module: nn.Module) -> dict[str, Tensor]:
    """Return the state dict with every tied parameter under its first name only."""
    again = {name for tied in ties(module) for name in tied[1:]}
    return {name: value for name, value in module.state_dict().items() if name not in again}


def untie_(module: nn.Module, there: Iterable[str]) -> None:
    """Give each of these names a parameter of its own where several of them share one, in place."""
    given = set(there)
    for tied in ties(module):
        for name in [n for n in tied if n in given][1:]:
            path, _, leaf = name.rpartition(".")
            old = module.get_parameter(name)
            own = nn.Parameter(old.detach().clone(), requires_grad=old.requires_grad)
            setattr(module.get_submodule(path), leaf, own)


def every(module: nn.Module, stored: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Return stored tensors with those of tied names that `once` left out."""
    found = dict(stored)
    for tied in ties(module):
        first = next((name for name in tied if name in stored), None)
        if first is not None:
            found |= {name: stored[first] for name in tied if name not in stored}
    return found
