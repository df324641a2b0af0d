"""The recipe: pydantic models that the shell, Python, YAML and HTTP all fill.

This is the only schema. A field's description says what it means, its unit and its range; ranges are
enforced here, so that a wrong value is refused before anything is read, trained or written.
"""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any, Literal, get_args

import yaml
from pydantic import Field, SerializerFunctionWrapHandler, ValidationError, model_serializer, model_validator

from lessen.errors import RecipeError
from lessen.info import Task, generates
from lessen.section import OF_TASK, Fraction, NonNegative, Positive, Section, overlay

Pipeline = Literal[
    "baseline", "kd_only", "prune_only", "quant_only", "kd_prune", "kd_quant", "prune_quant", "kd_prune_quant"
]
PIPELINES: tuple[str, ...] = get_args(Pipeline)
INHERITED = ("pooling", "head_width", "output")  # of the teacher or the folder, where they are not given


class Data(Section):
    """Where the labelled data comes from and how it is split."""

    source: str = Field("auto", description="a file of data/sources, or auto: chosen by the path's form")
    path: str | None = Field(None, description="a file, a folder, or a data set id of the hub")
    text_column: str | None = Field(None, description="column of the text; found by its usual names when absent")
    label_column: str | None = Field(None, description="column of the label; found by its usual names when absent")
    image_column: str | None = Field(None, description="column of the image; found by its usual names when absent")
    label_columns: tuple[str, ...] = Field((), description="two or more 0/1 columns: multi-label")
    labels: tuple[str, ...] = Field((), description="allowed labels, in the order of the model's outputs")
    encoding: str = Field("utf-8", description="text encoding of CSV, TSV and JSON files")
    hub_config: str | None = Field(None, description="configuration name of a hub data set")
    validation_path: str | None = Field(None, description="a separate file for validation")
    test_path: str | None = Field(None, description="a separate file for the test split")
    validation_frac: float = Field(0.1, gt=0, lt=1, description="share of all rows for choices (epoch, threshold)")
    test_frac: float = Field(0.2, gt=0, lt=1, description="share of all rows that only measuring may see")
    folds: Positive = Field(1, description="k > 1: every fold is run, mean and spread are reported")
    fold: int | None = Field(None, ge=0, description="which of the folds; set by the program")
    fraction: float = Field(1.0, gt=0, le=1, description="share of the rows used, drawn per label")
    seed: int | None = Field(None, ge=0, description="of the splits alone; the recipe's seed when absent")
    stratify: bool = Field(True, description="keep label shares equal across splits")
    max_length: Positive = Field(128, description="tokens a text is cut to")
    image_size: Positive | None = Field(None, description="pixels a side; the model's own when absent")
    augment: Literal["none", "crop_flip", "crop"] = Field("none", description="random views of training images")
    limit: Positive | None = Field(None, description="rows per label (causal-lm: documents) of an embedded source")
    target_column: str | None = Field(None, description="seq2seq: column of the target; causal-lm: of the response")
    messages_column: str | None = Field(None, description="causal-lm: column of chat messages ({role, content})")
    languages: tuple[str, str] | None = Field(None, description="parallel files: (source, target) file endings")
    prefix: str = Field("", description="seq2seq: text put before every source")
    label_words: dict[str, str] = Field(
        default_factory=dict, description="seq2seq with label_column: the word that stands for each label"
    )
    max_target_length: Positive = Field(128, description="seq2seq: tokens a target is cut to")
    documents: Literal["auto", "file", "line", "paragraph", "heading"] = Field(
        "auto", description="causal-lm: what one document of a text file is"
    )
    supervise: Literal["all", "response"] = Field("all", description="causal-lm chats and responses: what is learned")
    chat_format: Literal["plain", "chatml"] = Field("plain", description="causal-lm: how messages become text")
    pack: bool = Field(True, description="causal-lm: several documents share a row; none attends to another")
    held_out: dict[str, str] = Field(
        default_factory=dict, description="causal-lm: further texts by name that only measuring reads"
    )


class ModelSpec(Section):
    """A model to fetch or build."""

    model: str = Field(description="a hub id, a local folder, scratch:<preset>, or (student) teacher, experts")
    layers: Positive | None = Field(None, description="number of layers; the model's own when absent")
    hidden_size: Positive | None = Field(None, description="width of the residual stream")
    intermediate_size: Positive | None = Field(None, description="units of each feed-forward layer")
    heads: Positive | None = Field(None, description="attention heads a layer")
    config: dict[str, Any] = Field(default_factory=dict, description="further fields of the model's own configuration")
    vocab_size: Positive = Field(8000, description="entries of a tokenizer trained for scratch:<preset>")
    tokenizer: Literal["own", "teacher"] = Field("own", description="scratch students may take the teacher's tokenizer")
    pooling: Literal["cls", "mean", "max"] = Field("cls", description="how token states become one vector")
    head_width: Positive | None = Field(None, description="hidden units of the classifier head; none: the model's own")
    output: Literal["softmax", "sigmoid"] = Field(
        "softmax", description="sigmoid: one logit for two classes, one per label for multi-label"
    )
    dropout: Annotated[float, Field(ge=0, lt=1)] = Field(0.1, description="dropout while training")
    init: Literal["auto", "teacher", "random"] = Field(
        "auto", description="student weights: teacher copies layers where shapes allow; auto: the best that is possible"
    )

    @model_serializer(mode="wrap")
    def _as_given(self, dump: SerializerFunctionWrapHandler) -> dict[str, Any]:
        """Leave out what was not given and is then another model's: read back, it is not given again."""
        values: dict[str, Any] = dump(self)
        return {k: v for k, v in values.items() if k not in INHERITED or k in self.model_fields_set}


class Train(Section):
    """Settings of the one training loop."""

    epochs: Annotated[float, Field(ge=0)] = Field(10, description="passes over the training split")
    batch_size: Positive = Field(32, description="samples in an optimizer step, over all ranks and micro-batches")
    accumulate: Positive = Field(1, description="micro-batches an optimizer step is cut into")
    lr: float = Field(2e-5, gt=0, description="peak learning rate")
    weight_decay: NonNegative = Field(0.01, description="decoupled weight decay; not on biases and norms")
    warmup_frac: Fraction = Field(0.1, description="share of the steps with rising learning rate")
    schedule: Literal["linear", "cosine", "constant"] = "linear"
    clip_norm: NonNegative = Field(1.0, description="gradient norm bound; 0: none")
    patience: Positive | None = Field(5, description="evaluations without a better score before stopping; none: never")
    monitor: Literal["auto", "f1_macro", "accuracy", "loss"] = Field(
        "auto", description="validation score to be best at; auto: f1_macro, or loss (nats per token) of sequences"
    )
    precision: Literal["auto", "fp32", "bf16", "fp16"] = Field(
        "auto", description="auto: bf16 where the hardware has it; fp16: with a loss scaler"
    )
    loss: Literal["cross_entropy", "focal"] = Field("cross_entropy", description="focal: gamma below")
    focal_gamma: NonNegative = 2.0
    label_smoothing: Annotated[float, Field(ge=0, lt=1)] = 0.0
    class_weights: bool = Field(False, description="weigh classes by inverse frequency (one logit: pos_weight)")
    freeze: Literal["none", "embeddings", "encoder"] = Field("none", description="what does not train")
    token_dropout: Annotated[float, Field(ge=0, lt=1)] = Field(
        0.0, description="share of a text's tokens replaced by the mask token at each step; the teacher sees them all"
    )
    embedding_lr: float = Field(1.0, gt=0, description="learning rate of the token embeddings, as a multiple of lr")
    buckets: bool = Field(True, description="batch texts of similar length")
    tune_threshold: bool = Field(True, description="binary tasks: choose the decision threshold on validation")
    checkpoint_seconds: NonNegative = Field(60.0, description="seconds between checkpoints")
    max_steps: Positive | None = Field(None, description="optimizer steps; overrides epochs")
    eval_steps: Positive | None = Field(None, description="optimizer steps between evaluations; none: every epoch")
    max_failed_frac: Fraction = Field(0.0, description="share of steps that may fail (not finite) and be left out")
    gradient_checkpointing: bool = Field(False, description="compute activations again in the backward pass")


class Teacher(ModelSpec):
    """The model that teaches, and how it is trained on the labels."""

    model: str = Field("scratch:bert-small", description="a hub id, a local folder, or scratch:<preset>")
    train: Train | None = Field(Train(), description="none: use the teacher as given")


class Moe(Section):
    """How a mixture-of-experts teacher teaches (https://arxiv.org/abs/2502.12947)."""

    sample_frac: Fraction = Field(0.05, description="ka: probability that N-1 experts are sampled, else the top N-1")
    passes: Positive = Field(2, description="ka: teacher passes a step; their losses are averaged")
    router_lr: float = Field(1e-5, gt=0, description="sar: learning rate of the routers")
    balance: NonNegative = Field(0.01, description="sar: weight of CV(tokens)^2 + CV(probability)^2")
    anchor: NonNegative = Field(0.0, description="sar: weight of the squared distance to the first routers")
    entropy: NonNegative = Field(0.0, description="sar: weight of the negative entropy of the routing")
    clip_norm: NonNegative = Field(1.0, description="sar: gradient norm bound of the routers; 0: none")
    freeze_after: Positive | None = Field(
        None, description="sar: steps after which the routers stay, and their answers are cached"
    )


class Distill(Section):
    """Train the student on the teacher's answers."""

    objective: str = Field("kl", description="a file of distill/objectives: kl, mse, dkd, dist, jsd, reverse_kl")
    alpha: Fraction = Field(0.5, description="0: labels only, 1: teacher only")
    temperature: float = Field(2.0, gt=0, description="softens both distributions; the term is scaled by T^2")
    standardize: bool = Field(False, description="standardise logits per sample first (vision)")
    features: dict[str, NonNegative] = Field(
        default_factory=dict, description="weights of further objectives: hidden, attention, relation"
    )
    layer_map: Literal["uniform", "last"] | tuple[tuple[int, int], ...] = Field(
        "uniform", description="(student layer, teacher layer) pairs from 1, 0 enters the first; or how to choose them"
    )
    cache: Literal["auto", "on", "off"] = Field("auto", description="keep teacher outputs on disk")
    control: bool = Field(False, description="also train the same student on the labels alone, reported beside")
    teacher_margin: Fraction = Field(
        0.05,
        description="the teacher must beat the majority class by this macro-F1 (sequences: unigrams by this share)",
    )
    sequences: Literal["data", "teacher", "student"] = Field(
        "data",
        description="texts learned on: the data's, the teacher's (sequence-level), the student's own (on-policy)",
    )
    student_frac: Fraction = Field(1.0, description="sequences student: share of the steps on the student's own texts")
    max_new_tokens: Positive = Field(64, description="tokens of a generated text at most")
    prompt_tokens: Positive = Field(
        32, description="causal-lm without prompts: tokens of a document that are the prompt"
    )
    beams: Positive = Field(4, description="sequences teacher: beams of the search")
    sampling_temperature: NonNegative = Field(1.0, description="sequences student: of its sampling; 0: greedy")
    targets: Literal["auto", "dense", "top_k", "sampled"] = Field(
        "auto", description="what is kept of the teacher's distribution over tokens; auto: top_k where it is cached"
    )
    top_k: Positive = Field(64, description="targets top_k: tokens kept a position; the rest is one tail bucket")
    draws: Positive = Field(50, description="targets sampled: draws a position, with importance weights")
    skew: Annotated[float, Field(gt=0, lt=1)] = Field(0.1, description="objectives skew_*: share mixed in")
    beta: Annotated[float, Field(gt=0, lt=1)] = Field(0.5, description="objective jsd: weight of the teacher")
    chunk_tokens: Positive = Field(256, description="tokens whose logits exist at a time")
    cross_tokenizer: Literal["refuse", "align"] = Field(
        "refuse", description="align: teacher and student with different tokenizers meet at common byte spans"
    )
    router: Literal["frozen", "all", "ka", "sar"] | None = Field(
        None, description="mixture-of-experts teachers: which experts speak; sar: the router learns too"
    )
    moe: Moe = Moe()
    offload_teacher: bool = Field(False, description="the teacher leaves the accelerator between steps")
    allow_larger: bool = Field(False, description="allow a student that is not smaller than the teacher (flagged)")
    train: Train = Train(epochs=15)


class Prune(Section):
    """Cut units out of the model, or zero single weights."""

    method: str = Field("magnitude", description="a file of prune/methods: magnitude, random, taylor, wanda, sparsegpt")
    pattern: str = Field("structured", description="structured, unstructured, or N:M such as 2:4")
    remove_frac: Annotated[float, Field(ge=0, lt=1)] = Field(0.5, description="share removed, of what `of` names")
    of: Literal["units", "parameters", "flops"] = Field("units", description="what remove_frac is a share of")
    kinds: tuple[Literal["heads", "ffn", "channels", "streams", "layers"], ...] = Field(
        ("heads", "ffn", "channels"),
        description="kinds of unit that structured pruning may cut; streams: channels that residual additions share",
    )
    scope: Literal["per_layer", "global"] = "per_layer"
    layers: Literal["all", "attention", "ffn", "encoder"] = Field("all", description="which layers may be pruned")
    ignore: tuple[str, ...] = Field((), description="patterns of modules (classifier, *.layer.0.*) left alone")
    sensitivity: tuple[Annotated[float, Field(gt=0, le=1)], ...] = Field(
        (), description="shares of each layer's units to mask, one layer at a time, and measure before the cut; (): no"
    )
    schedule: Literal["one_shot", "linear", "cubic", "exponential"] = Field(
        "one_shot", description="how the removed share grows over the recovery training"
    )
    rounds: Positive = Field(4, description="structured, not one_shot: cuts made on the way")
    start_epoch: NonNegative = Field(0, description="masks, not one_shot: first epoch of the schedule")
    end_epoch: NonNegative | None = Field(None, description="masks, not one_shot: epoch at which the target is met")
    frequency: Positive = Field(100, description="masks, not one_shot: steps between mask updates")
    calib_samples: Positive = Field(512, description="training samples for importance and refitting")
    refit: bool = Field(True, description="refit the layer after the cut by least squares on calibration activations")
    recover: Train | None = Field(Train(epochs=3, lr=2e-6), description="none: no training after the cut")
    recover_from: Literal["unpruned", "labels"] = Field(
        "unpruned", description="distil from the unpruned model, or not"
    )
    control: bool = Field(False, description="also prune at random with the same budget and recovery, reported beside")

    @model_validator(mode="before")
    @classmethod
    def _share_of_pattern(cls, values: Any) -> Any:
        """Fill in the share that an N:M pattern removes, so that the resolved recipe says it and parses again."""
        from lessen.rules import pattern

        given = values.get("pattern") if isinstance(values, dict) and "remove_frac" not in values else None
        ratio = pattern(given) if isinstance(given, str) else None
        return values if ratio is None else {**values, "remove_frac": 1 - ratio[0] / ratio[1]}


class Quantize(Section):
    """Store and compute with fewer bits."""

    backend: str = Field("auto", description="auto, or a file of quantize/backends")
    calib_samples: Positive = Field(256, description="training samples for static calibration (128 or more for CNNs)")
    group_size: Positive = Field(32, description="weights that share one scale, weight-only INT4")
    ignore: tuple[str, ...] = Field((), description="patterns of modules (classifier, *.layer.0.*) that stay in float")
    train: Train | None = Field(None, description="quantization-aware recovery (backend qat)")
    max_drop: NonNegative | None = Field(
        None, description="largest allowed fall of validation macro-F1 (sequences: token accuracy) (share); else fail"
    )


class Export(Section):
    """Write the model in formats that other programs read, and compare answers."""

    formats: tuple[str, ...] = Field(("onnx",), description="files of export/formats: huggingface, onnx, safetensors")
    tolerance: float = Field(1e-4, gt=0, description="largest allowed difference of a logit")


class Measure(Section):
    """How the artifacts are measured."""

    batch_size: Positive = Field(8, description="the batch beside batch 1")
    seconds: float = Field(1.0, gt=0, description="timed seconds per artifact, batch and round")
    rounds: Positive = Field(5, description="interleaved rounds A B .. B A")
    threads: Positive | None = Field(
        1, description="threads of each runtime; none: all cores. One thread is steady where others share the machine"
    )
    bootstrap: Positive = Field(1000, description="resamples behind each 95 % interval")
    speed: bool = Field(True, description="measure latency, throughput and memory")
    baseline: bool = Field(
        True, description="score a simple model beside: TF-IDF or pixel logistic regression, n-grams, copying"
    )
    generate: Positive | None = Field(200, description="test samples that sequence models generate for; none: all")
    max_new_tokens: Positive = Field(64, description="tokens of a generated text at most")
    beams: Positive = Field(1, description="beams when measuring generated texts; 1: greedy")


class Recipe(Section):
    """One run: data, models, stages, measuring."""

    name: str = Field("run", pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]*$", description="the run's name")
    author: str | None = Field(None, description="stands in the model card")
    note: str | None = Field(None, description="what readers must know; stands among the report's warnings")
    task: Task = "text-classification"
    pipeline: Pipeline = "kd_prune_quant"
    data: Data = Data()
    teacher: Teacher = Teacher()
    student: ModelSpec = ModelSpec(model="teacher")
    distill: Distill = Distill()
    prune: Prune = Prune()
    quantize: Quantize = Quantize()
    export: Export = Export()
    measure: Measure = Measure()
    seed: int = Field(42, ge=0)
    device: str = Field("auto", description="auto, cpu, cuda, cuda:N")
    output_dir: str | None = Field(None, description="the run's folder; runs/<name> when absent")
    cache_dir: str | None = Field(None, description="caches of tokens and teacher outputs")
    legacy: dict[str, Any] = Field(
        default_factory=dict, description="flags of the predecessor as given, for its CSV columns"
    )

    @model_validator(mode="before")
    @classmethod
    def _defaults_of_task(cls, values: Any) -> Any:
        """Lay what is given over the defaults of a task that generates, so that the resolved recipe says them."""
        return overlay(OF_TASK.get(str(values.get("task")), {}), values) if isinstance(values, dict) else values

    @model_validator(mode="after")
    def _check(self) -> Recipe:
        from lessen.rules import refuse  # the rules that span sections

        refuse(self)
        return self

    @property
    def generates(self) -> bool:
        """Whether the models answer with tokens."""
        return generates(self.task)

    @property
    def distills(self) -> bool:
        """Whether the pipeline trains a student."""
        return "kd" in self.pipeline

    @property
    def prunes(self) -> bool:
        """Whether the pipeline prunes."""
        return "prune" in self.pipeline

    @property
    def quantizes(self) -> bool:
        """Whether the pipeline quantizes."""
        return "quant" in self.pipeline


def parse(values: dict[str, Any]) -> Recipe:
    """Check plain values and return the recipe.

    Raises:
        RecipeError: a key is unknown or a value out of range; the message names its path and what was given.
    """
    try:
        return Recipe.model_validate(values)
    except ValidationError as error:
        raise _one_line(error) from None


def read(path: Path) -> dict[str, Any]:
    """Return the plain values of a YAML recipe.

    Raises:
        RecipeError: the file is missing, not YAML, or not a mapping.
    """
    try:
        values = yaml.safe_load(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise RecipeError(f"no recipe at {path}", "give the path of a .yaml file") from None
    except (yaml.YAMLError, UnicodeDecodeError, OSError) as error:
        raise RecipeError(f"{path} is not a YAML recipe: {error}", "see recipes/ for examples") from None
    if not isinstance(values, dict):
        raise RecipeError(f"{path} holds {type(values).__name__}, not a mapping", "see recipes/ for examples")
    return values


def _one_line(error: ValidationError) -> RecipeError:
    first = error.errors()[0]
    where = ".".join(str(part) for part in first["loc"]) or "recipe"
    given = first.get("input")
    if first["type"] == "extra_forbidden":
        return RecipeError(f"{where} is not a setting", f"see `lessen schema` for all settings{_near(where)}")
    more = f" (and {error.error_count() - 1} more)" if error.error_count() > 1 else ""
    return RecipeError(f"{where} is {given!r}: {first['msg']}{more}", "see `lessen schema` for each setting's range")


def _near(where: str) -> str:
    import difflib

    *parents, last = where.split(".")
    model: Any = Recipe
    for name in parents:
        field = getattr(model, "model_fields", {}).get(name)
        model = (
            next((a for a in (field.annotation, *get_args(field.annotation)) if hasattr(a, "model_fields")), None)
            if field
            else None
        )
    close = difflib.get_close_matches(last, list(getattr(model, "model_fields", {})), n=1)
    return f"; did you mean {'.'.join([*parents, close[0]])}?" if close else ""
