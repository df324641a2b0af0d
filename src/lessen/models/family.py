"""What a file of models/families states about one architecture."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, Protocol

from lessen import plugins
from lessen.errors import ModelError, UnknownNameError
from lessen.info import Task

if TYPE_CHECKING:
    from torch import Tensor, nn

    from lessen.models.cut import Group


class Family(Protocol):
    """One architecture: where its parts are and how they shrink. A family file holds one as FAMILY."""

    name: str
    model_types: tuple[str, ...]  # `model_type` of the configurations it serves
    task: Task
    fields: Mapping[str, str]  # our setting (layers, hidden_size, intermediate_size, heads) -> configuration field
    dropouts: tuple[str, ...]  # configuration fields that ModelSpec.dropout sets
    pooler_argument: bool  # whether the bare model takes add_pooling_layer

    def groups(self, module: nn.Module) -> list[Group]:
        """Return every group, residual streams (part "stream") included, with the units it has now."""
        ...

    def units(self, config: Any) -> dict[str, int]:
        """Return the units that a configuration alone gives each group."""
        ...

    def sync_(self, module: nn.Module) -> None:
        """Set head counts, and the configuration fields that can tell the widths, to what the weights are."""
        ...

    def layers(self, module: nn.Module) -> list[str]:
        """Return the paths of the layers, in order."""
        ...

    def fixed(self, module: nn.Module) -> frozenset[int]:
        """Return the layers that cannot be dropped."""
        ...

    def drop_(self, module: nn.Module, keep: Sequence[int]) -> None:
        """Keep only these layers, in order."""
        ...

    def mend_(self, module: nn.Module) -> None:
        """Set right what the architecture's stock module gets wrong for training."""
        ...

    def embeddings(self, module: nn.Module) -> int:
        """Return the number of parameters in embedding tables."""
        ...

    def readers(self, module: nn.Module) -> tuple[str, ...]:
        """Return the paths of the stock classifier's Linears, the one that gives the logits last."""
        ...

    def shape(self, module: nn.Module) -> dict[str, Any]:
        """Return layers and widths, for complexity formulas and reports."""
        ...

    def scale(self, config: Any, wanted: Mapping[str, int]) -> dict[str, Any]:
        """Return the configuration fields that give a shape; an empty `wanted` means about half the model."""
        ...

    def scratch(self, values: dict[str, Any], processor: Any) -> dict[str, Any]:
        """Return configuration values that fit a processor (vocabulary, special tokens, positions, channels)."""
        ...

    def longest(self, config: Any) -> int | None:
        """Return the most tokens that a text may have; None: no bound."""
        ...

    def example(self, module: nn.Module, batch: int, length: int) -> dict[str, Tensor]:
        """Return inputs of a batch; `length` in tokens, or in pixels a side."""
        ...


def family(name: str) -> Family:
    """Return a family by its file's name."""
    found: Family = plugins.find("models.families", name).FAMILY
    return found


def families() -> list[Family]:
    """Return every family."""
    return [family(name) for name in plugins.names("models.families")]


def family_of(model_type: str) -> Family:
    """Return the family that serves a `model_type`.

    Raises:
        ModelError: none does; the message lists those there are.
    """
    known = families()
    for one in known:
        if model_type in one.model_types:
            return one
    names = ", ".join(sorted(t for one in known for t in one.model_types))
    raise ModelError(f"the architecture {model_type!r} is not supported; there are {names}", "choose one of these")


def field_of(one: Family, setting: str, model: str) -> str:
    """Return the configuration field behind a setting.

    Raises:
        UnknownNameError: the architecture has no such width.
    """
    if setting not in one.fields:
        there = ", ".join(one.fields) or "none"
        raise UnknownNameError(
            f"{model}: {one.name} has no setting {setting!r}; it has {there}", "leave it out, or use config"
        )
    return one.fields[setting]
