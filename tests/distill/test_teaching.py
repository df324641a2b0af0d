"""The combined loss against real, tiny models, and through the real training loop."""

from dataclasses import replace

import numpy as np
import pytest
import torch

from lessen import models
from lessen.context import Context
from lessen.data.batches import Encoded, encode
from lessen.distill import teaching_loss
from lessen.errors import Cancelled, ModelError, RecipeError, TrainingError
from lessen.loss import label_loss
from lessen.recipe import Distill, Train
from lessen.runtime import Runtime, runtime
from lessen.train import Batch, fit

TRAIN = Train(epochs=2, batch_size=16, lr=1e-3, precision="fp32", patience=None, tune_threshold=False)
ALL = {"hidden": 1.0, "attention": 1.0, "relation": 1.0}


def lesson(world, student, cfg, train=TRAIN, **more):
    return teaching_loss(world.teacher, student, cfg, train, world.splits, world.encoded(student), world.ctx, **more)


def a_batch(data, rows=range(8), epoch=0):
    rows = np.array(rows)
    inputs = {k: torch.from_numpy(v) for k, v in data.batch(rows).items()}
    return Batch(inputs, torch.from_numpy(data.labels[rows]), rows, epoch)


def total(terms):
    return torch.stack([t.weight * t.values for t in terms.values()]).sum(0)


def trained(world, student, cfg, name, train=TRAIN, ctx=None):
    loss, attachments, _ = lesson(world, student, cfg, train)
    data = world.encoded(student)
    validation = encode(world.splits.validation, student.processor, None)
    work = world.folder / name
    return fit(student, data, validation, loss, train, ctx or world.ctx, work_dir=work, attachments=attachments)


def weights(model):
    return {k: v.clone() for k, v in model.module.state_dict().items()}


def same(a, b, **close):
    assert a.keys() == b.keys()
    for key, value in a.items():
        torch.testing.assert_close(value, b[key], **(close or {"rtol": 0, "atol": 0}), msg=key)


def test_the_terms_are_weighed_as_the_recipe_says(world):
    student = world.student()
    loss, _, _ = lesson(world, student, Distill(alpha=0.3, features={"hidden": 2.0, "relation": 0.0}))
    batch = a_batch(world.encoded(student))
    terms = loss(student.module.eval(), batch)
    assert {k: t.weight for k, t in terms.items()} == {"label": 0.7, "soft": 0.3, "hidden": 2.0}
    logits = student.module(**batch.inputs).logits
    want = label_loss(student.info, TRAIN, None)(logits, batch.labels)
    torch.testing.assert_close(terms["label"].values, want)


@pytest.mark.parametrize(("alpha", "names"), [(1.0, {"soft", "hidden"}), (0.0, {"label", "hidden"})])
def test_a_term_of_weight_zero_is_absent(world, alpha, names):
    student = world.student()
    loss, _, _ = lesson(world, student, Distill(alpha=alpha, features={"hidden": 1.0}))
    assert set(loss(student.module, a_batch(world.encoded(student)))) == names


def test_r03_the_teacher_itself_as_student_has_no_soft_and_no_feature_loss(world):
    """R3 on the whole path: cache, label map, layers, attention."""
    twin = models.open_model(world.teacher)
    for features in ({}, ALL):
        loss, _, _ = lesson(world, twin, Distill(alpha=1.0, features=features))
        values = total(loss(twin.module.eval(), a_batch(world.encoded(twin))))
        assert float(values.detach().abs().max()) < 1e-5


def test_r28_stored_and_live_answers_give_the_same_loss_at_step_zero(world):
    """R28: and the second run takes every answer from the disk."""
    student = world.student()
    batch = a_batch(world.encoded(student))
    student.module.eval()
    terms, facts = {}, {}
    for cache in ("on", "off", "auto"):
        loss, _, facts[cache] = lesson(world, student, Distill(cache=cache, temperature=3.0))
        terms[cache] = loss(student.module, batch)["soft"].values
    torch.testing.assert_close(terms["on"], terms["off"], rtol=1e-4, atol=1e-5)
    torch.testing.assert_close(terms["on"], terms["auto"], rtol=0, atol=0)
    assert facts["on"]["teacher_answers"]["computed"] == 48
    assert facts["auto"]["teacher_answers"]["hits"] == 48
    assert facts["off"]["teacher_answers"]["from"] == "live"


def test_r23_answers_of_another_precision_are_computed_anew(world):
    """R23: dtype is in the fingerprint."""
    student = world.student()
    _, _, first = lesson(world, student, Distill())
    _, _, second = lesson(world, student, Distill(), TRAIN.model_copy(update={"precision": "bf16"}))
    assert [f["teacher_answers"]["dtype"] for f in (first, second)] == ["float32", "bfloat16"]
    assert second["teacher_answers"]["hits"] == 0


def test_r24_the_cache_with_random_views_is_refused(world):
    """R24: a stored answer would belong to another view."""
    with pytest.raises(RecipeError, match=r"cache is on, but data\.augment is crop"):
        lesson(world, world.student(), Distill(cache="on"), augment="crop")


def test_r24_random_views_make_the_teacher_answer_live_and_an_event_says_so(world):
    """R24: auto never caches what changes."""
    _, _, facts = lesson(world, world.student(), Distill(), augment="crop")
    assert facts["teacher_answers"]["from"] == "live"
    assert any("answers live: data.augment is crop" in line for line in world.lines())


def test_r24_a_view_that_nobody_announced_is_not_answered_from_the_store(world):
    """R24: the guard holds in the loss itself."""
    student = world.student()
    loss, _, _ = lesson(world, student, Distill())
    with pytest.raises(TrainingError, match="random views"):
        loss(student.module, replace(a_batch(world.encoded(student)), view=5))


def test_r24_teacher_and_student_see_the_same_view(resnet, mobilenet, cpu):
    """R24: the teacher's own processor is given the rows and the view of the student's batch."""
    from lessen.distill.features import Features
    from lessen.distill.outputs import Frozen
    from lessen.distill.teaching import _Live
    from lessen.processors import ImageProcessor

    pixels = [np.random.default_rng(i).integers(0, 255, (32, 32, 3), dtype=np.uint8) for i in range(4)]
    ids, labels = np.array(list("abcd")), np.zeros(4, dtype=np.int64)
    own, other = ImageProcessor(32), ImageProcessor(32, mean=(0.1,) * 3, std=(0.9,) * 3)
    student, teacher = (Encoded(p, p.encode(pixels), ids, labels, "crop_flip") for p in (own, other))
    model = resnet()
    rows = np.array([2, 0])
    batch = Batch({k: torch.from_numpy(v) for k, v in student.batch(rows, 7).items()}, torch.zeros(2), rows, 0, 7)
    told = _Live(Frozen(model, cpu), teacher, False, Features())(batch).logits
    shown = (batch.inputs["pixel_values"] * 0.5 + 0.5 - 0.1) / 0.9  # the student's own pixels, the teacher's norm
    torch.testing.assert_close(told, model(pixel_values=shown).logits, rtol=1e-3, atol=1e-4)
    plain = torch.from_numpy(teacher.batch(rows)["pixel_values"])
    assert not torch.allclose(told, model(pixel_values=plain).logits, atol=1e-4)


def test_the_cache_with_features_is_refused_and_auto_says_why_it_is_live(world):
    with pytest.raises(RecipeError, match="hidden compares what only the running teacher gives"):
        lesson(world, world.student(), Distill(cache="on", features={"hidden": 1.0}))


def test_defect_41_a_run_whose_teacher_has_no_say_is_refused(world):
    """R33: weight 0 in effect, features of weight 0 included."""
    with pytest.raises(RecipeError, match="nothing would be learned from the teacher"):
        lesson(world, world.student(), Distill(alpha=0.0, features={"hidden": 0.0}))


def test_r33_gradient_shares_are_measured_each_epoch_and_add_up(world):
    """R33: shares of the gradient norm, at the first step of an epoch, over all trained parameters."""
    student = world.student()
    loss, _, _ = lesson(world, student, Distill(features={"hidden": 1.0}))
    data = world.encoded(student)
    terms = loss(student.module.eval(), a_batch(data))
    trained = [*student.module.parameters(), *loss.features.modules[0].parameters()]
    norms = {}
    for name, term in loss(student.module, a_batch(data)).items():
        grads = torch.autograd.grad((term.weight * term.values).mean(), trained, retain_graph=True, allow_unused=True)
        norms[name] = float(torch.cat([g.flatten() for g in grads if g is not None]).norm())
    shares = loss.shares.facts()["first"]
    assert set(shares) == set(terms)
    assert sum(shares.values()) == pytest.approx(1.0)
    for name, share in shares.items():
        assert share == pytest.approx(norms[name] / sum(norms.values()), rel=1e-3)
    assert len([line for line in world.lines() if "gradient shares" in line]) == 1
    loss(student.module, a_batch(data, epoch=1))
    assert len([line for line in world.lines() if "gradient shares" in line]) == 2


def test_r33_a_teacher_without_influence_is_warned_of(world):
    """R33: a KD share of about 0 does not pass in silence."""
    student = world.student()
    loss, _, _ = lesson(world, student, Distill(alpha=1e-7))
    loss(student.module, a_batch(world.encoded(student)))
    assert any("moves the student by 0.00%" in line for line in world.lines("warning"))


def test_measuring_shares_leaves_the_gradient_alone(world):
    student = world.student()
    loss, _, _ = lesson(world, student, Distill())
    batch = a_batch(world.encoded(student))
    grads = []
    for _ in range(2):  # the first call measures, the second does not
        student.module.eval().zero_grad()
        total(loss(student.module, batch)).sum().backward()
        grads.append({n: p.grad.clone() for n, p in student.module.named_parameters()})
    same(*grads)


@pytest.mark.parametrize("objective", ["kl", "dkd", "mse"])
def test_r16_the_loss_of_a_step_does_not_depend_on_how_it_is_cut(world, objective):
    """R16: 1 × 8 = 4 × 2, features included."""
    student = world.student()
    loss, _, _ = lesson(world, student, Distill(objective=objective, features=ALL))
    data = world.encoded(student)
    student.module.eval()
    whole = loss(student.module, a_batch(data))
    parts = [loss(student.module, a_batch(data, range(i, i + 2))) for i in range(0, 8, 2)]
    for name, term in whole.items():
        torch.testing.assert_close(
            term.values, torch.cat([p[name].values for p in parts]), rtol=1e-3, atol=1e-5, msg=name
        )


@pytest.mark.slow
def test_r16_training_does_not_depend_on_micro_batches(world):
    """R16 through the training loop: same weights for accumulate 1 and 4."""
    ends = []
    for cut in (1, 4):
        student = world.student(dropout=0.0)
        trained(world, student, Distill(), f"cut{cut}", TRAIN.model_copy(update={"accumulate": cut, "epochs": 1}))
        ends.append(weights(student))
    same(*ends, rtol=1e-3, atol=2e-5)


def test_r16_dist_is_refused_when_a_batch_is_cut(world):
    """R16: DIST is a statistic of the whole batch."""
    with pytest.raises(RecipeError, match="cut into 2 parts"):
        lesson(world, world.student(), Distill(objective="dist"), TRAIN.model_copy(update={"accumulate": 2}))


def test_r18_nothing_of_the_teacher_is_trained_or_checkpointed(world):
    """R18: no optimizer state, not in the student's state, unchanged after training."""
    student = world.student()
    before = set(student.module.state_dict())
    loss, attachments, _ = lesson(world, student, Distill(features=ALL))
    kept = loss.answers.frozen.module
    was = {k: v.clone() for k, v in kept.state_dict().items()}
    data = world.encoded(student)
    validation = encode(world.splits.validation, student.processor, None)
    fit(student, data, validation, loss, TRAIN, world.ctx, work_dir=world.folder / "w", attachments=attachments)
    assert set(student.module.state_dict()) == before
    same(was, kept.state_dict())
    assert not kept.training
    ids = {id(p) for p in kept.parameters()}
    assert not any(id(p) in ids for m in (student.module, *attachments) for p in m.parameters())


@pytest.mark.slow
def test_r34_a_killed_run_resumes_to_the_same_weights_projectors_included(world):
    """R34: N steps = k + resume + (N − k), bit for bit on a CPU."""
    cfg = Distill(features={"hidden": 1.0})
    straight = world.student()
    done = trained(world, straight, cfg, "straight")
    calls = []

    def stop():
        calls.append(1)
        if len(calls) == 5:
            raise Cancelled("killed")

    with pytest.raises(Cancelled):
        trained(world, world.student(), cfg, "killed", ctx=replace(world.ctx, check=stop))
    resumed = world.student()
    again = trained(world, resumed, cfg, "killed")
    assert again.steps == done.steps == 6
    assert any("resumed at step 4" in line for line in world.lines())
    same(weights(straight), weights(resumed))


def test_r34_projectors_are_trained(world):
    """R34: they are in the optimizer."""
    student = world.student()
    loss, attachments, _ = lesson(world, student, Distill(features={"hidden": 1.0}))
    start = {k: v.detach().clone() for k, v in attachments[0].named_parameters()}
    assert start
    data = world.encoded(student)
    validation = encode(world.splits.validation, student.processor, None)
    fit(student, data, validation, loss, TRAIN, world.ctx, work_dir=world.folder / "w", attachments=attachments)
    assert all(not torch.equal(v, start[k]) for k, v in attachments[0].named_parameters())


def test_r35_the_students_dropout_is_on_while_training_and_stated(world):
    """R35."""
    student = world.student(dropout=0.25)
    loss, _, facts = lesson(world, student, Distill())
    assert facts["student_dropout"] == 0.25
    batch = a_batch(world.encoded(student))
    student.module.train()
    first, second = (total(loss(student.module, batch)) for _ in range(2))
    assert not torch.allclose(first, second)


def test_r35_frozen_layers_do_not_decay(world):
    """R35: a frozen encoder keeps its weights to the bit under weight decay."""
    student = world.student()
    before = weights(student)
    frozen = TRAIN.model_copy(update={"freeze": "encoder", "weight_decay": 0.5, "epochs": 1})
    trained(world, student, Distill(), "frozen", frozen)
    after = weights(student)
    changed = {k for k in before if not torch.equal(before[k], after[k])}
    assert changed == {"classifier.weight", "classifier.bias"}


def test_r36_precision_is_bf16_where_the_hardware_has_it_else_fp32_and_fp16_only_where_asked_for(world, monkeypatch):
    """R36: fp16 comes with a loss scaler (tests/test_train_sequences.py), and never by itself."""
    import lessen.runtime

    assert runtime(world.ctx, "fp16").dtype == torch.float16
    for has, dtype in ((True, torch.bfloat16), (False, torch.float32)):
        monkeypatch.setattr(lessen.runtime, "has_bf16", lambda device, has=has: has)
        assert runtime(world.ctx, "auto").dtype == dtype


def test_r36_the_loss_is_finite_and_fp32_in_a_bf16_region(world):
    """R36, R4: features too."""
    student = world.student()
    bf16 = TRAIN.model_copy(update={"precision": "bf16"})
    loss, _, _ = lesson(world, student, Distill(features=ALL), bf16)
    with Runtime(torch.device("cpu"), torch.bfloat16).autocast():
        terms = loss(student.module, a_batch(world.encoded(student)))
    assert {t.values.dtype for t in terms.values()} == {torch.float32}
    total(terms).sum().backward()
    assert all(torch.isfinite(p.grad).all() for p in student.module.parameters())


def test_r31_a_student_with_its_labels_in_another_order_learns_the_same_names(world):
    """R31 on the whole path."""
    plain, turned = world.student(), world.student()
    turned.info = turned.info.model_copy(update={"labels": ("c", "b", "a")})
    with torch.no_grad():
        for p in (turned.module.classifier.weight, turned.module.classifier.bias):
            p.copy_(p.flip(0).clone())
    values = []
    for student in (plain, turned):
        loss, _, facts = lesson(world, student, Distill(alpha=1.0))
        values.append(loss(student.module.eval(), a_batch(world.encoded(student)))["soft"].values)
    torch.testing.assert_close(*values)
    assert facts["labels_permuted"]


def test_r32_other_tokens_are_fine_for_answers_and_aligned_by_characters_for_hidden_states(world):
    """R32: two inputs per sample, each with its own tokenizer; the same sample on both sides."""
    student = world.student(tokenizer="own", vocab_size=60)
    assert student.processor.digest != world.teacher.processor.digest
    loss, _, facts = lesson(world, student, Distill(alpha=1.0))
    batch = a_batch(world.encoded(student))
    torch.testing.assert_close(loss.answers(batch).logits.argmax(1), batch.labels)
    loss, _, facts = lesson(world, student, Distill(alpha=1.0, features={"hidden": 1.0}))
    assert facts["features"]["hidden"]["aligned_by"] == "character spans"
    torch.testing.assert_close(loss.answers(batch).logits.argmax(1), batch.labels)
    values = loss(student.module, batch)["hidden"].values
    assert torch.isfinite(values).all()
    assert (values > 0).all()


@pytest.mark.parametrize("feature", ["attention", "relation"])
def test_r32_other_tokens_are_refused_where_positions_are_compared(world, feature):
    """R32: the message names what works."""
    student = world.student(tokenizer="own", vocab_size=60)
    with pytest.raises(RecipeError, match=feature) as caught:
        lesson(world, student, Distill(features={feature: 1.0}))
    assert "hidden, which is aligned by characters" in caught.value.hint


def test_r32_aligned_states_are_those_under_the_same_characters(world):
    """R32, R13: a student with the same tokens in another tokenizer object gets the teacher's states one to one."""
    from lessen.distill.features import _aligned

    processor = models.open_model(world.teacher).processor
    texts = list(world.splits.train.inputs[:3])
    spans = processor.offsets(texts)
    states = {1: torch.randn(3, max(map(len, spans)) + 2, 4)}
    real = torch.zeros(3, states[1].shape[1], dtype=torch.bool)
    for row, span in enumerate(spans):
        real[row, : len(span)] = True
    aligned, seen = _aligned((spans, spans), states, real, np.arange(3))
    assert torch.equal(seen, real)
    torch.testing.assert_close(aligned[1][real], states[1][real])


def test_a_layer_that_does_not_exist_is_refused_before_training(world):
    with pytest.raises(RecipeError, match=r"pair \(3, 3\); the student has layers 0 to 2, the teacher 0 to 3"):
        lesson(world, world.student(), Distill(features={"hidden": 1.0}, layer_map=((3, 3),)))


@pytest.mark.parametrize(
    ("cfg", "message"),
    [
        (Distill(objective="hidden"), "compares features, not answers"),
        (Distill(features={"kl": 1.0}), "which is no feature"),
    ],
)
def test_a_feature_as_objective_and_the_other_way_round_are_refused(world, cfg, message):
    with pytest.raises(RecipeError, match=message):
        lesson(world, world.student(), cfg)


@pytest.mark.parametrize(
    ("labels", "output", "cfg", "message"),
    [
        (("a", "b"), "sigmoid", Distill(objective="dkd"), "answer yes or no"),
        (("a", "b"), "sigmoid", Distill(standardize=True), "standardize compares classes"),
        (("a", "b"), "softmax", Distill(objective="dkd"), "needs 3 classes, the data have 2"),
        (("a", "b"), "softmax", Distill(standardize=True), "standardize needs 3 classes"),
    ],
)
def test_objectives_that_say_nothing_about_two_classes_are_refused(world, cpu, labels, output, cfg, message):
    from lessen.distill.teaching import soft_file

    info = world.teacher.info.model_copy(update={"labels": labels, "output": output})
    with pytest.raises(RecipeError, match=message):
        soft_file(cfg, info, TRAIN, cpu)


def test_rows_of_another_split_are_refused(world):
    student = world.student(tokenizer="own", vocab_size=60)
    part = encode(world.splits.train.take(range(8)), student.processor, None)
    with pytest.raises(ModelError, match="whole training split"):
        teaching_loss(world.teacher, student, Distill(), TRAIN, world.splits, part, world.ctx)


def test_a_part_of_the_training_split_is_fine_where_the_tokens_are_the_same(world):
    student = world.student()
    part = encode(world.splits.train.take([5, 3, 9]), student.processor, None)
    loss, _, facts = teaching_loss(world.teacher, student, Distill(), TRAIN, world.splits, part, world.ctx)
    assert facts["teacher_answers"]["rows"] == 3
    batch = a_batch(part, range(3))
    torch.testing.assert_close(loss.answers(batch).logits.argmax(1), batch.labels)


def test_nothing_is_written_outside_the_cache_folder(world):
    ctx = Context(out_dir=world.folder / "out", cache_dir=world.folder / "cache")
    student = world.student()
    teaching_loss(world.teacher, student, Distill(), TRAIN, world.splits, world.encoded(student), ctx)
    assert {p.name for p in world.folder.iterdir()} == {"cache"}
