"""The layers of an artifact: counted in the files that ship, laid over the module tree of the torch model."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

from lessen.artifact import Artifact
from lessen.bench import modules
from lessen.bench.histogram import spread
from lessen.bench.matching import match
from lessen.bench.modules import Node, Row
from lessen.bench.opened import Opened
from lessen.bench.stored import Stored, of_module, of_onnx
from lessen.errors import NotFoundError

FOLDED = ".weight_bias"  # what exporters call the bias that a folded BatchNorm leaves
OTHER = "constants"  # weights that belong to no module
COLUMNS = (
    ("parameters", "count", "parameters"), ("nonzero", "count", "non-zero"), ("sparsity", "share", "zeros"),
    ("bits", "bits", "bits a weight"), ("bytes", "bytes", "bytes"), ("flops", "FLOP", "FLOPs"),
    ("latency_share", "share", "share of the time"), ("units_before", "count", "units before"),
    ("units_after", "count", "units after"), ("error", "mean square", "rounding error"),
)  # fmt: skip
Own = dict[str, tuple[Stored, float | None]]


@dataclass
class Layered:
    """An artifact's weights by module.

    Attributes:
        artifact: whose files are counted.
        of: the torch artifact that gives the module tree: itself, or the one it was made from; None: there is none.
    """

    artifact: Artifact
    of: Artifact | None

    @cached_property
    def model(self) -> Any:
        """The torch model, None where there is none."""
        from lessen.models import open_model

        return open_model(self.of) if self.of else None

    @property
    def exported(self) -> bool:
        """Whether the files are not those of a torch model."""
        return self.artifact.manifest.runtime == "onnx"

    @cached_property
    def source(self) -> dict[str, Stored]:
        """The parameters of the torch model."""
        return of_module(self.model.module) if self.model else {}

    @cached_property
    def _placed(self) -> tuple[Own, list[Stored]]:
        if not self.exported:
            stored = of_module(self._itself.module)
            compare = self.of is not None and self.of.path != self.artifact.path
            return {n: (s, _error(s, self.source.get(n)) if compare else None) for n, s in stored.items()}, []
        stored_all = of_onnx(sorted(self.artifact.path.rglob("*.onnx")))
        if not self.source:
            return {s.name.removeprefix("module."): (s, None) for s in stored_all}, []
        found, left = match(stored_all, self.source)
        names = {s.name.removeprefix("module."): s for s in left if s.name.endswith(FOLDED)}
        folded = {name: s for name, s in names.items() if name.removesuffix("_bias") in self.source}
        own: Own = {n: (m.stored, None if f"{n}_bias" in folded else m.error) for n, m in found.items()}
        own |= {name: (s, None) for name, s in folded.items()}
        return own, [s for s in left if s.name.removeprefix("module.") not in folded]

    @cached_property
    def _itself(self) -> Any:
        from lessen.models import open_model

        same = self.of is not None and self.of.path == self.artifact.path
        return self.model if same else open_model(self.artifact)

    @property
    def own(self) -> Own:
        """Stored weights by the parameter they stand for, with their mean square error (None: not compared)."""
        return self._placed[0]

    @property
    def left(self) -> list[Stored]:
        """Stored weights that belong to no parameter."""
        return self._placed[1]

    @cached_property
    def root(self) -> Node:
        """The module tree with its sums."""
        if self.exported and self.model is None:
            names = {name: list(stored.values.shape) for name, (stored, _) in self.own.items()}
            root = modules.tree_of_names(names, names)
        else:
            root = modules.tree((self.model if self.exported else self._itself).module)
        nodes = {node.path: node for node in modules.walk(root)}
        for name in self.own if self.source else ():
            if name not in self.source and name.endswith(FOLDED):
                nodes[name.rpartition(".")[0]].own.append(name)
        if self.left:
            extra = [f"{OTHER}.{i}" for i in range(len(self.left))]
            root.children.append(Node(OTHER, "Constants", None, extra))
        modules.add_up(root, {**self.own, **{f"{OTHER}.{i}": (s, None) for i, s in enumerate(self.left)}})
        return root

    @cached_property
    def widths(self) -> list[Row]:
        """What the pruning that led to this artifact says of each group of units: name, kind, before, after, kept."""
        for artifact in (self.artifact, self.of):
            found = artifact.manifest.facts.get("widths") if artifact else None
            if isinstance(found, list):
                return found
        return []


def layered(folder: str, source: str | None) -> Layered:
    """Return an artifact with the torch model that gives its tree."""
    artifact = Artifact(Path(folder))
    if source is not None:
        return Layered(artifact, Artifact(Path(source)))
    return Layered(artifact, None if artifact.manifest.runtime == "onnx" else artifact)


def layers(
    opened: Opened, folder: str, source: str | None = None, lengths: Sequence[int] | None = None
) -> dict[str, Any]:
    """Return a row a module, the columns' units, and what is not known and why.

    Args:
        lengths: of the input that FLOPs and times are taken of: tokens or pixels a side, and tokens of the target; the
            processor's longest when absent.
    """
    found = layered(folder, source)
    flops, shares, remarks = _computed(found, opened.threads, lengths)
    table = modules.rows(found.root, flops, shares, _units(found))
    if found.left:
        remarks.append(
            f"{len(found.left)} tensors of the graph belong to no module of the source and stand under {OTHER}"
        )
    unsure = [name for name, (_, error) in found.own.items() if error is None]
    if found.exported and found.source and unsure:
        remarks.append(
            f"{len(unsure)} tensors are not the numbers of their source (a BatchNorm was folded in): they have no error"
        )
    return {
        "columns": _columns(found, bool(flops), bool(shares)),
        "layers": table,
        "totals": table[0],
        "remarks": remarks,
    }


def histogram(
    opened: Opened, folder: str, layer: str, bins: int = 60, source: str | None = None, against: str | None = None,
    against_source: str | None = None,
) -> dict[str, Any]:  # fmt: skip
    """Return how the weights below one module are spread; see HistogramOut.

    Raises:
        NotFoundError: there is no such layer, or it has no weights.
    """
    found = layered(folder, source)
    chosen = _weights(found, layer)
    if not chosen:
        raise NotFoundError(f"there is no layer {layer!r} with weights in {found.artifact.path.name}", "see its layers")
    other = _weights(layered(against, against_source), layer) if against else []
    out = spread([stored for stored, _ in chosen], [stored for stored, _ in other], bins)
    errors = [(error, stored.size) for stored, error in chosen if error is not None]
    if out["quant"] is not None and errors:
        out["quant"]["error_mean_square"] = sum(e * n for e, n in errors) / sum(n for _, n in errors)
    if against and not other:
        out["remarks"].append(f"{Path(against).name} has no layer {layer}")
    return {**out, **_cut(found, layer, out["remarks"])}


def _weights(found: Layered, layer: str) -> list[tuple[Stored, float | None]]:
    node = next((n for n in modules.walk(found.root) if n.id == layer), None)
    if node is None:
        return []
    if node.path == OTHER:
        return [(stored, None) for stored in found.left]
    names = [name for n in modules.walk(node) for name in n.own if name in found.own]
    each = [found.own[name] for name in names]
    return [e for e in each if e[0].values.ndim > 1] or each  # biases and norms alone where there is nothing else


def _computed(
    found: Layered, threads: int, lengths: Sequence[int] | None
) -> tuple[dict[str, int], dict[str, float], list[str]]:
    """Return FLOPs and shares of the time by module, and what the numbers rest on."""
    model = found.model or (None if found.exported else found._itself)
    if model is None:
        return {}, {}, ["the torch model that this was made from is not in the run's folder: no modules, no FLOPs"]
    import torch

    from lessen.bench.timing import shares as timed
    from lessen.measure.complexity import flops_of_modules

    torch.set_num_threads(threads)
    batch = _sample(model, lengths)
    paths = [node.path for node in modules.walk(found.root) if node.path != OTHER]
    spent = {} if found.exported else timed(model.module, batch, paths)
    shape = ", ".join(f"{name} {list(values.shape)}" for name, values in batch.items())
    counted = flops_of_modules(model.module, {name: values.numpy() for name, values in batch.items()})
    remarks = [f"FLOPs {'and times ' if spent else ''}of one forward pass of one sample: {shape}"]
    return counted, spent, remarks


def _sample(model: Any, lengths: Sequence[int] | None) -> dict[str, Any]:
    """Return one sample; of a sequence-to-sequence model source and target have lengths of their own."""
    from lessen.models.shape import example

    if not lengths:
        return dict(example(model, 1))
    source, target = lengths[0], lengths[-1]
    batch = dict(example(model, 1, max(lengths)))
    if model.info.task == "image-classification":
        return batch
    return {name: v[:, : target if name.startswith("decoder") else source] for name, v in batch.items()}


def _columns(found: Layered, flops: bool, shares: bool) -> list[Row]:
    reasons: dict[str, str] = {}
    if not shares:
        reasons["latency_share"] = "ONNX Runtime fuses modules: their times are not apart"
    if not flops:
        reasons["flops"] = "the torch model that it was made from is not there"
    elif found.exported:
        reasons["flops"] = "of the fp32 source: not counted in onnx"
    if not any(error is not None for _, error in found.own.values()):
        reasons["error"] = "not made by rounding another stage's weights, or that stage is not there"
    return [{"key": key, "unit": unit, "title": title, "reason": reasons.get(key)} for key, unit, title in COLUMNS]


def _units(found: Layered) -> dict[str, Row]:
    """Return units before and after by the module that makes them; before equals after where nothing was cut."""
    told = {row["name"]: row for row in found.widths}
    out: dict[str, Row] = {}
    for group in _groups(found):
        row = told.get(group.name, {})
        now = {"units_before": row.get("before", group.units), "units_after": row.get("after", group.units)}
        for cut in group.producers:
            out.setdefault(cut.module, now)
    return out


def _groups(found: Layered) -> list[Any]:
    from lessen.models import groups

    model = found.model or (None if found.exported else found._itself)
    return groups.groups(model) if model is not None else []


def _cut(found: Layered, layer: str, remarks: list[str]) -> Row:
    """Return which units of a layer stayed and which went, where the manifest lists them."""
    told: Mapping[str, Row] = {row["name"]: row for row in found.widths}
    group = next((g for g in _groups(found) if any(c.module == layer for c in g.producers)), None)
    row = told.get(group.name) if group is not None else None
    none: Row = {"units": None, "kept": None, "removed": None}
    if group is None or row is None:
        return none
    if row.get("kept") is None:
        if row["before"] != row["after"]:
            remarks.append(
                f"{row['before'] - row['after']} of {row['before']} {group.kind} were cut; the manifest lists the "
                "units of narrow layers alone"
            )
        return {**none, "units": group.kind}
    kept = sorted(int(i) for i in row["kept"])
    return {"units": group.kind, "kept": kept, "removed": [i for i in range(int(row["before"])) if i not in set(kept)]}


def _error(stored: Stored, source: Stored | None) -> float | None:
    if source is None or source.values.shape != stored.values.shape:
        return None
    import numpy as np

    return float(np.square(stored.values - source.values, dtype=np.float64).mean())
