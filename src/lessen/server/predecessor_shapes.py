"""What the predecessors' endpoints take and answer: their names, with numbers and units, null with a reason."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field

from lessen.events import RunState

Name = Annotated[str, Field(min_length=1, max_length=100)]
RunId = Annotated[str, Field(min_length=1, max_length=200, description="a run's id; the latest run when absent")]


class Shape(BaseModel):
    """A body: no further keys, no NaN."""

    model_config = ConfigDict(extra="forbid", allow_inf_nan=False, protected_namespaces=())


class TrainIn(BaseModel):
    """What to train: a model by its name, and any setting of a recipe beside it, nested or with a dotted name."""

    model_config = ConfigDict(
        extra="allow",
        protected_namespaces=(),
        json_schema_extra={
            "examples": [
                {"model_name": "distillBert"},
                {"model_name": "ResNet-18", "prune.remove_frac": 0.4, "seed": 7},
            ]
        },
    )

    model_name: Name = Field("distillBert", description="distillBert, T5-small, MobileNetV2, ResNet-18; or an alias")
    preset: Annotated[str, Field(max_length=40)] = Field("demo", description="demo, balanced or thorough")


class RunIn(Shape):
    """Which run."""

    run_id: RunId | None = None


class ModelIn(Shape):
    """Which model."""

    model_name: Name = "distillBert"


class VisualizeIn(Shape):
    """Which run, and which of its stages."""

    run_id: RunId | None = None
    stage: Annotated[str, Field(min_length=1, max_length=64)] | None = Field(
        None, description="teacher, distill, prune ...; the smallest torch model when absent"
    )


class Said(Shape):
    """Whether it worked."""

    success: bool
    message: str


class Trained(Said):
    """The run that was put into the queue."""

    run_id: str
    position: int | None = Field(description="in the queue; 0 starts next, null: it runs already")
    model_name: str
    note: str | None


class CancelledOut(Said):
    """The run that was asked to stop; null where none was at work."""

    run_id: str | None
    state: RunState | None


class Line(Shape):
    """Teacher (before) and final model (after)."""

    metric: str
    before: float | None
    after: float | None
    unit: str
    reason: str | None = Field(None, description="why a number is missing")
    before_formula: str | None = None
    after_formula: str | None = None


class Evaluated(Shape):
    """The predecessors' four blocks."""

    effectiveness: list[Line]
    efficiency: list[Line]
    compression: list[Line]
    complexity: list[Line]
    run_id: str | None
    state: RunState | None
    complete: bool = Field(description="whether the run is finished and everything was measured")


class ModelMetrics(Shape):
    """One model of a run; null where `reasons` says why."""

    stage: str
    accuracy: float | None = Field(description="share")
    precision: float | None = Field(description="share, macro average")
    recall: float | None = Field(description="share, macro average")
    f1: float | None = Field(description="share, macro average")
    size_mb: float | None
    latency_ms: float | None = Field(description="median at batch 1")
    ram_usage_mb: float | None
    num_params: float | None
    nonzero_params: float | None
    sparsity: float | None = Field(description="share of zeros")
    layers: float | None
    flops: float | None
    reasons: dict[str, str]


class Effectiveness(Shape):
    """What the final model gets right, and how often it says what the teacher says."""

    accuracy: float | None
    precision: float | None
    recall: float | None
    f1: float | None
    agreement_with_teacher: float | None


class CompressionResults(Shape):
    """Final model against teacher; negative where it became worse."""

    size_reduction_percent: float | None
    latency_improvement_percent: float | None
    params_reduction_percent: float | None
    accuracy_impact_points: float | None
    sparsity_gained: float | None = Field(description="share of zeros, more than the teacher's")
    compression_ratio: float | None
    detailed_metrics: dict[str, Any]


class Results(Shape):
    """A finished run."""

    run_id: str
    model_name: str
    teacher_metrics: ModelMetrics
    student_metrics: ModelMetrics
    effectiveness_metrics: Effectiveness
    compression_results: CompressionResults
    model_trained: bool


class PreviousResults(Said):
    """The latest finished run, or null."""

    results: Results | None


class TestedModel(Said):
    """An architecture that was built with random weights and ran one sample."""

    model_name: str
    error: str | None = None
    hint: str | None = None
    architecture: str | None = None
    parameters: int | None = None
    bytes: int | None = None
    build_ms: float | None = None
    forward_ms: float | None = None
    output: list[int] | None = Field(None, description="shape of what it answered")


class VerifiedModels(Said):
    """All four models."""

    models: list[TestedModel]


class Check(Shape):
    """A metric of the report, worked out again from the stored answers."""

    stage: str
    metric: str
    reported: float
    recomputed: float
    equal: bool


class TestedMetrics(Said):
    """What is reported, and whether it follows from the answers that were stored."""

    run_id: str | None
    test_metrics: dict[str, Any] | None
    checks: list[Check]


class Running(Shape):
    """The server answers."""

    status: Literal["Server is running"]
    version: str


class Explanation(Shape):
    """A metric or setting in words."""

    description: str
    formula: str
    range: str
    interpretation: str


class Explained(Shape):
    """Every metric and term by its name."""

    success: bool
    explanations: dict[str, Explanation]


class Node(Shape):
    """A layer with weights, where to draw it, and what it holds."""

    id: str
    label: str
    kind: str
    x: float
    y: float
    z: float
    size: float = Field(description="grows with the number of parameters")
    color: str = Field(
        description="green: first, blue: last, red: units were cut or 5 % of the weights are zero, yellow: others"
    )
    opacity: float = Field(description="share of units (or weights) that is left")
    shape: list[int] | None
    parameters: int
    nonzero: int | None
    sparsity: float | None
    bits: float | None
    units_before: int | None
    units_after: int | None


class Link(Shape):
    """Two layers, one after the other in the order of the modules."""

    source: str
    target: str
    color: str


class Network(Shape):
    """Nodes and links."""

    nodes: list[Node]
    connections: list[Link]


class Visualized(Said):
    """The layers of one of a run's models."""

    data: Network
    run_id: str | None = None
    stage: str | None = None
    stages: list[str] = Field(default_factory=list, description="what else can be drawn")
    hint: str | None = None
