"""Other answers and inputs than the usual ones: one logit, several labels, images with random views."""

import hashlib
from dataclasses import replace

import numpy as np
import pytest
import torch

from lessen import models
from lessen.context import Context
from lessen.data import Split, Splits
from lessen.data.batches import encode
from lessen.distill import distill, teaching_loss
from lessen.evaluate import predict_logits
from lessen.recipe import Data, Distill, ModelSpec, Train

TRAIN = Train(epochs=2, batch_size=8, lr=1e-3, precision="fp32", patience=None, tune_threshold=False)
SHAPE = {"layers": 2, "hidden_size": 32, "heads": 2, "intermediate_size": 64, "vocab_size": 60}
LOUD = {"initializer_range": 0.5}


def texts(count, labels):
    lines = [f"{a} {b} {i}" for i, (a, b) in enumerate([("red", "sea"), ("blue", "sun"), ("green", "tree")] * count)]
    ids = np.array([hashlib.sha256(t.encode()).hexdigest()[:16] for t in lines])
    return lambda name: Split(name, ids, lines, labels(len(lines)))


def world_of(tmp_path, make, names, output, multi_label=False):
    splits = Splits("text-classification", names, multi_label, make("train"), make("validation"), make("test"), {}, "d")
    spec = ModelSpec(model="scratch:bert-mini", output=output, config=LOUD, **SHAPE)
    teacher = models.fetch(spec, splits, Data(max_length=16), splits.task, 0)
    saved = models.save(teacher, tmp_path / "teacher", stage="teacher", key="k", history=(), facts={})
    ctx = Context(out_dir=tmp_path, cache_dir=tmp_path / "cache", stage="distill")
    small = ModelSpec(
        model="scratch:bert-mini", output=output, tokenizer="teacher", init="random", **{**SHAPE, "layers": 1}
    )
    return splits, saved, models.student(small, teacher, splits, Data(max_length=16), splits.task, 1), ctx


def first_terms(splits, teacher, student, ctx, cfg):
    from lessen.train import Batch

    data = encode(splits.train, student.processor, None)
    loss, _, facts = teaching_loss(teacher, student, cfg, TRAIN, splits, data, ctx)
    rows = np.arange(6)
    inputs = {k: torch.from_numpy(v) for k, v in data.batch(rows).items()}
    return loss(student.module.eval(), Batch(inputs, torch.from_numpy(data.labels[rows]), rows, 0)), facts


@pytest.mark.parametrize("objective", ["kl", "mse", "jsd", "reverse_kl"])
def test_one_logit_students_learn_from_one_logit_teachers(tmp_path, objective):
    made = world_of(tmp_path, texts(4, lambda n: np.arange(n) % 2), ("no", "yes"), "sigmoid")
    terms, _ = first_terms(*made, Distill(objective=objective))
    assert terms["soft"].values.shape == terms["label"].values.shape == (6,)
    assert (terms["soft"].values > 0).all()


def test_r31_a_one_logit_teacher_and_a_two_logit_student_agree_when_their_answers_do(tmp_path):
    """R31: [0, z]; the soft loss is 0 where the two-logit student says what the one-logit teacher says."""
    make = texts(4, lambda n: np.arange(n) % 2)
    splits, teacher, _, ctx = world_of(tmp_path, make, ("no", "yes"), "sigmoid")
    twin = models.open_model(teacher)
    head = torch.nn.Linear(32, 2)
    with torch.no_grad():
        head.weight.copy_(torch.cat([torch.zeros(1, 32), twin.module.classifier.weight]))
        head.bias.copy_(torch.cat([torch.zeros(1), twin.module.classifier.bias]))
    twin.module.classifier = head
    twin.info = twin.info.model_copy(update={"output": "softmax"})
    terms, _ = first_terms(splits, teacher, twin, ctx, Distill(alpha=1.0, temperature=3.0))
    torch.testing.assert_close(terms["soft"].values, torch.zeros(6), atol=1e-5, rtol=0)


def test_several_labels_a_row(tmp_path):
    draw = np.random.default_rng(0)
    make = texts(4, lambda n: draw.integers(0, 2, (n, 3)).astype(np.float32))
    made = world_of(tmp_path, make, ("x", "y", "z"), "sigmoid", multi_label=True)
    terms, _ = first_terms(*made, Distill())
    assert (terms["soft"].values > 0).all()
    assert terms["soft"].values.shape == terms["label"].values.shape == (6,)


@pytest.mark.slow
def test_r24_images_are_distilled_with_the_teacher_on_the_same_random_views(tmp_path):
    """R24, R20: a live convolutional teacher of another family, hidden maps of other widths, crops and flips."""
    draw = np.random.default_rng(0)
    pixels = [draw.integers(0, 255, (32, 32, 3), dtype=np.uint8) for _ in range(24)]
    ids = np.array([f"{i:016x}" for i in range(24)])
    part = Split("train", ids, pixels, np.arange(24) % 2)
    splits = Splits("image-classification", ("a", "b"), False, part, part, part, {}, "d")
    data = Data(image_size=32, augment="crop_flip")
    spec = ModelSpec(model="scratch:resnet-18", config={"hidden_sizes": [8, 16, 16, 32], "embedding_size": 8})
    teacher = models.fetch(spec, splits, data, splits.task, 0)
    logits = predict_logits(teacher, encode(part, teacher.processor, None), torch.device("cpu"))
    with torch.no_grad():
        teacher.module.classifier[-1].weight.mul_(1e3)
        logits = predict_logits(teacher, encode(part, teacher.processor, None), torch.device("cpu"))
        teacher.module.classifier[-1].bias.sub_(torch.from_numpy(np.median(logits, axis=0)))
    logits = predict_logits(teacher, encode(part, teacher.processor, None), torch.device("cpu"))
    part = replace(part, labels=logits.argmax(1))
    splits = replace(splits, train=part, validation=part)
    saved = models.save(teacher, tmp_path / "teacher", stage="teacher", key="k", history=(), facts={})
    small = ModelSpec(model="scratch:resnet-18", config={"hidden_sizes": [4, 8, 8, 16], "embedding_size": 4})
    student = models.student(small, teacher, splits, data, splits.task, 1)
    ctx = Context(out_dir=tmp_path, cache_dir=tmp_path / "cache", stage="distill")
    cfg = Distill(features={"hidden": 1.0, "attention": 1.0}, train=TRAIN)
    artifact = distill(saved, student, cfg, splits, ctx, out=tmp_path / "out", key="k", augment="crop_flip")
    told = artifact.manifest.facts["distill"]
    assert told["teacher_answers"]["from"] == "live"
    assert told["features"]["hidden"]["layer_pairs"][-1] == [4, 4]
    assert told["features"]["hidden"]["projector_parameters"] > 0
