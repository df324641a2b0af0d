"""What /api/v1 answers and takes: one class a shape, units in the names or beside the numbers, never NaN."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field

from lessen.events import RunState

Text = Annotated[str, Field(max_length=20_000)]
RunId = Annotated[str, Field(min_length=1, max_length=200, description="a run's id, or latest")]
StageName = Annotated[str, Field(min_length=1, max_length=64, pattern=r"^[a-z0-9_-]+$")]


class Shape(BaseModel):
    """A body of /api/v1: no further keys; numbers that are not finite become null."""

    model_config = ConfigDict(extra="forbid", ser_json_inf_nan="null", protected_namespaces=())


class ProgressOut(Shape):
    """How far a run is; null where it is not known."""

    percent: float | None = Field(description="0..100 of the work of the whole run; only grows")
    phase: str | None
    stage: str | None
    stage_index: int | None
    stage_total: int | None
    step: int | None
    total_steps: int | None
    unit: str | None
    eta_s: float | None
    elapsed_s: float | None


class ErrorOut(Shape):
    """Why a run stopped."""

    message: str
    hint: str = ""
    exit_code: int | None = None
    signal: str | int | None = None
    stderr: str | None = None


class RunOut(Shape):
    """A run as lists and pages show it."""

    run_id: str
    name: str
    task: str
    pipeline: str
    state: RunState
    origin: str
    model_name: str | None
    attempt: int
    created: str
    started: str | None
    finished: str | None
    position: int | None = Field(description="in the queue; 0 starts next")
    seq: int = Field(description="of the last event that is stored")
    progress: ProgressOut
    error: ErrorOut | None
    summary: dict[str, Any]
    resumable: bool
    deleted: bool
    note: str | None
    disk_bytes: int | None = Field(description="of the files in its folder when it ended; null while it is live")


class RunList(Shape):
    """A page of runs."""

    runs: list[RunOut]
    total: int


class RunIn(Shape):
    """What to run: a preset, a recipe, or a recipe laid over a preset."""

    model_name: str | None = Field(None, max_length=100, description="distillBert, T5-small, MobileNetV2, ResNet-18")
    preset: str | None = Field(None, max_length=40, description="demo (when absent), balanced, thorough")
    recipe: dict[str, Any] | None = Field(None, description="settings laid over the preset, or a whole recipe")
    name: str | None = Field(None, max_length=100, pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]*$")


class EventsOut(Shape):
    """Stored events of a run: each is a line of events.jsonl as it is."""

    run_id: str
    events: list[dict[str, Any]]
    next: int = Field(description="ask for events after this seq")
    state: RunState
    more: bool = Field(description="whether further events are stored already")


class SeriesOut(Shape):
    """Numbers over steps, thinned to their minima and maxima."""

    run_id: str
    series: dict[str, dict[str, list[list[float | None]]]] = Field(description="stage, key: [step, value]")
    attempts: list[int]


class LogLine(Shape):
    """A line for people."""

    seq: int
    ts: float
    level: str
    stage: str
    message: str


class LogOut(Shape):
    """Lines of a run's log."""

    run_id: str
    lines: list[LogLine]
    next: int
    more: bool


class ResourceSample(Shape):
    """What a run's processes used."""

    ts: float
    cpu_percent: float | None
    rss_bytes: int | None
    gpu_bytes: int | None


class ResourcesOut(Shape):
    """Recent samples, oldest first."""

    run_id: str
    samples: list[ResourceSample]


class RecipeOut(Shape):
    """A run's resolved recipe."""

    run_id: str
    recipe: dict[str, Any]
    yaml: str


class GateOut(Shape):
    """One bound and how it was met."""

    name: str
    bound: float | None
    value: float | None
    met: bool
    text: str


class GatesOut(Shape):
    """All bounds."""

    run_id: str
    stage: str | None
    met: bool
    gates: list[GateOut]


class StageOut(Shape):
    """A stage of a run."""

    stage: str
    index: int
    state: Literal["waiting", "running", "done", "skipped", "failed"]
    started_ts: float | None
    seconds: float | None
    artifact: str | None
    runtime: str | None
    role: str | None


class StagesOut(Shape):
    """The stages of a run, in order."""

    run_id: str
    stages: list[StageOut]


class FileOut(Shape):
    """A file of an artifact."""

    name: str
    bytes: int
    sha256: str | None


class ArtifactOut(Shape):
    """A stage's model folder."""

    stage: str
    path: str
    runtime: str
    bytes: int
    digest: str
    files: list[FileOut]


class Told(Shape):
    """A stage's answer to a sample."""

    label: str | None
    probability: float | None = Field(description="of the label; null where several labels hold")
    probabilities: dict[str, float] | None = Field(None, description="where several labels hold: of each")
    text: str | None = None


class SampleOut(Shape):
    """A test sample and what the stages say of it."""

    id: str
    index: int
    label: str | None
    text: str | None
    image_url: str | None
    reference: str | None = Field(None, description="the reference text of a sequence")
    predictions: dict[str, Told]


class SamplesOut(Shape):
    """A page of test samples."""

    run_id: str
    reference: str
    candidate: str
    stages: list[str]
    labels: list[str]
    total: int
    samples: list[SampleOut]


class MetricOut(Shape):
    """A number of a point."""

    value: float | None
    unit: str
    ci95: list[float] | None = None
    reason: str | None = None


class Point(Shape):
    """A stage of a run among others."""

    run_id: str
    stage: str
    role: str
    device: str
    runtime: str
    final: bool
    metrics: dict[str, MetricOut]
    comparable: str = Field(description="speeds may be compared within one group only")
    comparable_quality: str = Field(description="scores may be compared within one group only: same data and split")


class MetricName(Shape):
    """A metric that points have."""

    name: str
    title: str
    unit: str
    better: Literal["higher", "lower"] | None


class Differs(Shape):
    """A setting that runs do not share."""

    path: str
    values: dict[str, Any]


class CompareOut(Shape):
    """Several runs side by side."""

    runs: list[RunOut]
    points: list[Point]
    metrics: list[MetricName]
    comparisons: dict[str, list[dict[str, Any]]] = Field(description="paired tests as in report.json, by run")
    config_diff: list[Differs]
    remarks: list[str]


class PredictIn(Shape):
    """What to ask the stages of a run."""

    run_id: RunId = "latest"
    inputs: list[Text] | None = Field(None, min_length=1, max_length=32, description="texts")
    images: list[Annotated[str, Field(max_length=12_000_000)]] | None = Field(
        None, min_length=1, max_length=8, description="PNG or JPEG, base64"
    )
    stages: list[StageName] | None = Field(None, max_length=16, description="all when absent")


class AnswerOut(Shape):
    """An answer of a stage."""

    label: str | list[str] | None = None
    text: str | None = None
    probabilities: dict[str, float] | None = None
    latency_ms: float | None


class StageAnswers(Shape):
    """What one stage says."""

    stage: str
    runtime: str
    answers: list[AnswerOut]
    latency_ms: float | None = Field(description="median over the inputs, one at a time, after a warm-up")
    error: str | None


class PredictOut(Shape):
    """What every stage says, side by side."""

    run_id: str
    task: str
    threads: int
    stages: list[StageAnswers]
    agreement: dict[str, float | None] = Field(description="share of answers equal to the teacher's, by stage")
