"""Shapes of /api/v1 that speak of layers and weights."""

from __future__ import annotations

from pydantic import Field

from lessen.server.v1.shapes import Shape


class Column(Shape):
    """A number that layers have."""

    key: str
    unit: str
    title: str
    reason: str | None = Field(None, description="why no layer has it")


class LayerOut(Shape):
    """A module of a model, or a group of them: the numbers are those of all below it."""

    id: str = Field(description="path of the module; the empty path is the whole model and has the id model")
    name: str
    parent: str | None
    kind: str
    depth: int
    fold: str = Field(description="siblings with the same signature look alike")
    shape: list[int] | None
    parameters: int
    nonzero: int | None
    sparsity: float | None
    bits: float | None = Field(description="of a stored weight, on average")
    bytes: int
    flops: int | None
    latency_share: float | None
    units_before: int | None
    units_after: int | None
    error: float | None = Field(description="mean square of stored minus source weights")


class LayersOut(Shape):
    """The module tree of an artifact with its numbers."""

    run_id: str
    stage: str
    against: str | None
    stages: list[str]
    columns: list[Column]
    layers: list[LayerOut]
    totals: LayerOut
    against_layers: list[LayerOut]
    remarks: list[str]


class QuantOut(Shape):
    """How a layer's weights are rounded."""

    bits: int
    scale: float | None = Field(description="the median one, where there are several")
    zero_point: float | None
    scales: int = Field(description="how many there are: one a tensor, channel or group")
    grid: list[float] = Field(description="values that can be stored, of the median scale")
    error_mean_square: float | None


class RowsOut(Shape):
    """A sample of a matrix: rows (outputs) at even distances, and of each the weights at even distances."""

    of: tuple[int, int] = Field(description="rows and columns of the whole matrix")
    values: list[list[float]] = Field(description="48 rows of 48 weights at most")


class HistogramOut(Shape):
    """How a layer's weights are spread, before and after."""

    run_id: str
    stage: str
    against: str | None
    layer: str
    edges: list[float]
    counts: list[int]
    against_counts: list[int] | None = Field(description="of the same edges")
    n: int
    min: float
    max: float
    mean: float
    std: float
    zeros: int
    quant: QuantOut | None
    units: str | None = Field(description="what kept and removed count: heads, ffn, channels")
    kept: list[int] | None
    removed: list[int] | None
    rows: RowsOut | None = Field(None, description="of the largest matrix: units to prune, channels to round")
    remarks: list[str]
