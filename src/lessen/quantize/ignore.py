"""Weights that stay in floating point: modules that quantize.ignore names, found again in a file of ONNX.

An exporter names weights as it likes and stores some of them transposed, so they are found by their name or by their
content. Imports no torch by itself.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np

from lessen.errors import ArtifactError, RecipeError
from lessen.export import graph
from lessen.models.names import matching
from lessen.runtimes import need

if TYPE_CHECKING:
    from lessen.artifact import Artifact
    from lessen.models import Model

SETTING = "quantize.ignore"
_WRAPPED = "module."  # before the names of weights: what the exporter was given holds the model


@dataclass(frozen=True)
class Ignored:
    """The modules to leave, and the weights of the model by name, as digests of what may be stored of them."""

    patterns: tuple[str, ...] = ()
    modules: frozenset[str] = frozenset()
    left: Mapping[str, frozenset[str]] = field(default_factory=dict)  # matrices and kernels of those modules
    others: Mapping[str, frozenset[str]] = field(default_factory=dict)  # those of all others

    def tensors(self, model: Any) -> frozenset[str]:
        """Return the names of the stored weights of an ONNX model that stay as they are.

        Raises:
            ArtifactError: a weight to leave is not found, and one that is there cannot be told.
        """
        if not self.patterns:
            return frozenset()
        names = {f"{_WRAPPED}{name}": True for name in self.left} | {f"{_WRAPPED}{n}": False for n in self.others}
        known = dict.fromkeys((d for some in self.others.values() for d in some), False)
        known |= dict.fromkeys((d for some in self.left.values() for d in some), True)  # tied: left if either is
        found, unknown = set(), []
        for tensor in model.graph.initializer:
            if tensor.data_type != 1 or len(tensor.dims) < 2:
                continue
            stays = known.get(_digest(need("onnx", graph.PIP).numpy_helper.to_array(tensor)), names.get(tensor.name))
            if stays:
                found.add(tensor.name)
            elif stays is None and int(np.prod(tensor.dims, dtype=np.int64)) > max(tensor.dims):
                unknown.append(tensor.name)
        if unknown and not found:
            raise ArtifactError(
                f"no weight of {SETTING} {', '.join(self.patterns)} is found in the ONNX file; {unknown[0]} is unknown",
                f"leave {SETTING} out, or use another backend",
            )
        return frozenset(found)

    def facts(self, made: Sequence[Any], stays: Sequence[frozenset[str]]) -> dict[str, Any]:
        """Return what was left: patterns, weights of the model by name, and the tensors that hold them.

        Args:
            made: the ONNX models that were written.
            stays: the tensors of each that had to stay.

        Raises:
            ArtifactError: one of them is not in floating point.
        """
        if not self.patterns:
            return {}
        for model, names in zip(made, stays, strict=True):
            kinds = {tensor.name: tensor.data_type for tensor in model.graph.initializer}
            lost = [name for name in sorted(names) if kinds.get(name) != 1]
            if lost:
                raise ArtifactError(f"{lost[0]} should stay in floating point and does not", "please report it")
        tensors = sorted(set().union(*stays))
        return {"ignored": {"patterns": list(self.patterns), "weights": sorted(self.left), "tensors": tensors}}


NOTHING = Ignored()


def ignored(source: Artifact, patterns: Sequence[str]) -> Ignored:
    """Return what patterns name in the model of an artifact; it is opened where there are any.

    Raises:
        RecipeError: the artifact runs in ONNX, a pattern matches nothing, or nothing or all would be left.
    """
    if not patterns:
        return NOTHING
    if not (source.path / "model.safetensors").is_file():
        raise RecipeError(
            f"{source.path} runs in {source.manifest.runtime}, which does not know the modules of {SETTING}",
            "quantize the stage before the export",
        )
    from lessen import models

    return of_model(models.open_model(source), tuple(patterns))


def of_model(model: Model, patterns: tuple[str, ...]) -> Ignored:
    """Return what patterns name in a model.

    Raises:
        RecipeError: see `ignored`.
    """
    modules = matching((name for name, _ in model.module.named_modules(remove_duplicate=False)), patterns, SETTING)
    left: dict[str, frozenset[str]] = {}
    others: dict[str, frozenset[str]] = {}
    for name, weight in model.module.named_parameters(remove_duplicate=False):
        if weight.dim() >= 2:
            array = weight.detach().float().cpu().numpy()
            some = left if name.rpartition(".")[0] in modules else others
            some[name] = frozenset((_digest(array), _digest(np.swapaxes(array, -1, -2))))
    if not left or not others:
        what = "no weight that is quantized" if not left else "every weight"
        raise RecipeError(f"{SETTING} {', '.join(patterns)} names {what}", "name modules such as classifier")
    return Ignored(patterns, modules, left, others)


def readers(model: Any, tensors: frozenset[str]) -> list[str]:
    """Return the names of the nodes that read some stored tensors, as onnxruntime's quantizer may call them."""
    found = [node.name for node in model.graph.node if tensors & set(node.input)]
    return found + [f"{name}_MatMul" for name in found]  # what it makes of a Gemm before it looks


def _digest(array: np.ndarray[Any, Any]) -> str:
    whole = np.ascontiguousarray(array, dtype=np.float32)
    return f"{whole.shape} {hashlib.sha256(whole.tobytes()).hexdigest()}"
