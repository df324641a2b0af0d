"""The module tree of a model: what is in it, what each module adds up to, and which modules look alike."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any, TypeVar

from lessen.bench.stored import Stored

ROOT = "model"  # id of the whole: its path is empty
Row = dict[str, Any]
Number = TypeVar("Number", int, float)


@dataclass
class Sum:
    """What some weights add up to."""

    parameters: int = 0
    nonzero: int = 0
    bytes: int = 0
    bits: int = 0  # of all weights together
    squares: float = 0.0  # of the errors of `compared` weights
    compared: int = 0

    def add(self, stored: Stored, error: float | None = None) -> None:
        """Add a tensor; `error` is the mean square of its numbers minus their source's."""
        self.parameters += stored.size
        self.nonzero += stored.nonzero
        self.bytes += stored.bytes
        self.bits += stored.size * stored.bits
        if error is not None:
            self.squares += error * stored.size
            self.compared += stored.size

    def join(self, other: Sum) -> None:
        """Add another sum."""
        for name in ("parameters", "nonzero", "bytes", "bits", "squares", "compared"):
            setattr(self, name, getattr(self, name) + getattr(other, name))

    def row(self) -> Row:
        """Return the numbers of a layer."""
        there = self.parameters > 0
        return {
            "parameters": self.parameters,
            "nonzero": self.nonzero,
            "sparsity": 1 - self.nonzero / self.parameters if there else None,
            "bits": self.bits / self.parameters if there else None,
            "bytes": self.bytes,
            "error": self.squares / self.compared if self.compared else None,
        }


@dataclass
class Node:
    """A module."""

    path: str
    kind: str
    shape: list[int] | None
    own: list[str]  # names of its parameters
    children: list[Node] = field(default_factory=list)
    sum: Sum = field(default_factory=Sum)

    @property
    def id(self) -> str:
        """The path, or the name of the whole."""
        return self.path or ROOT


def tree(module: Any) -> Node:
    """Return the tree of a torch module; a parameter that several modules share belongs to the first."""
    first = {name for name, _ in module.named_parameters()}
    nodes: dict[str, Node] = {}
    for path, part in module.named_modules():
        own = [n for n, _ in part.named_parameters(path, recurse=False) if n in first]
        weight: Any = getattr(part, "weight", None)
        shape = list(weight.shape) if hasattr(weight, "shape") else None
        nodes[path] = Node(path, type(part).__name__, shape, own)
        if path:
            nodes[path.rpartition(".")[0]].children.append(nodes[path])
    return nodes[""]


def tree_of_names(names: Iterable[str], shapes: Mapping[str, list[int]]) -> Node:
    """Return a tree made of the dots in parameter names, where there is no torch module."""
    root = Node("", "Model", None, [])
    nodes = {"": root}
    for name in names:
        owner, _, _ = name.rpartition(".")
        for end in [i for i, c in enumerate(f"{owner}.") if c == "." and owner]:
            path = owner[:end]
            if path not in nodes:
                nodes[path] = Node(path, "Module", None, [])
                nodes[path.rpartition(".")[0]].children.append(nodes[path])
        nodes[owner].own.append(name)
        if owner and nodes[owner].shape is None and len(shapes[name]) > 1:
            nodes[owner].shape = shapes[name]
    return root


def walk(node: Node) -> Iterable[Node]:
    """Yield a node and all below it, parents first."""
    yield node
    for child in node.children:
        yield from walk(child)


def add_up(node: Node, own: Mapping[str, tuple[Stored, float | None]]) -> Sum:
    """Fill in the sums of a node and all below it."""
    node.sum = Sum()
    for name in node.own:
        if name in own:
            node.sum.add(*own[name])
    for child in node.children:
        node.sum.join(add_up(child, own))
    return node.sum


def rows(root: Node, flops: Mapping[str, int], shares: Mapping[str, float], units: Mapping[str, Row]) -> list[Row]:
    """Return a row a module, parents first; modules without weights and computation are left out.

    Args:
        flops, shares, units: by path; units_before and units_after of the modules that make units.
    """
    signatures: dict[str, str] = {}
    _sign(root, signatures)
    flops, shares = _of_lists(root, flops), _of_lists(root, shares)
    out: list[Row] = []

    def put(node: Node, parent: Node | None, depth: int) -> None:
        if parent is not None and not node.sum.parameters and not flops.get(node.path):
            return
        out.append({
            "id": node.id, "name": node.path.rpartition(".")[2] or node.kind, "parent": parent.id if parent else None,
            "kind": node.kind, "depth": depth, "fold": signatures[node.path], "shape": node.shape,
            **node.sum.row(),
            "flops": flops.get(node.path, 0) if flops else None,
            "latency_share": shares.get(node.path), **units.get(node.path, {"units_before": None, "units_after": None}),
        })  # fmt: skip
        for child in node.children:
            put(child, node, depth + 1)

    put(root, None, 0)
    return out


def _of_lists(root: Node, known: Mapping[str, Number]) -> dict[str, Number]:
    """Return numbers by path, with those of lists of modules, which are never called themselves, added up."""
    out = dict(known)
    for node in reversed(list(walk(root))):
        within = [out[child.path] for child in node.children if child.path in out]
        if node.path not in out and within:
            out[node.path] = sum(within[1:], start=within[0])
    return out


def _sign(node: Node, out: dict[str, str]) -> str:
    parts = [node.kind, str(node.shape), str(node.sum.parameters)]
    parts += [f"{child.path.rpartition('.')[2]}={_sign(child, out)}" for child in node.children]
    out[node.path] = hashlib.sha256("|".join(parts).encode()).hexdigest()[:12]
    return out[node.path]
