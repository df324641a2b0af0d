"""Feature objectives on real (tiny) models."""

import pytest
import torch

from lessen import plugins
from lessen.distill.outputs import answer
from lessen.errors import ModelError

FILES = {name: plugins.find("distill.objectives", name) for name in plugins.names("distill.objectives")}
FEATURES = sorted(name for name, file in FILES.items() if hasattr(file, "Match"))
PAIRS = ((1, 1), (2, 3))


def match(name, student, teacher, pairs=PAIRS, images=False):
    return plugins.find("distill.objectives", name).Match(pairs, student, teacher, images=images)


def seen(name, model, batch, images=False):
    need = plugins.find("distill.objectives", name).needs(images)
    out = answer(model, batch, (need,))
    return out.hidden if need == "hidden" else out.attentions


def mask(batch):
    return batch["attention_mask"].bool()


@pytest.fixture
def two(bert):
    return bert(layers=2, width=16, heads=2), bert(layers=3, width=24, heads=3, seed=1)


def test_there_is_a_file_for_every_feature_that_recipes_name():
    assert FEATURES == ["attention", "hidden", "relation"]


@pytest.mark.parametrize("name", FEATURES)
def test_every_feature_gives_one_positive_fp32_value_per_sample_that_trains_the_student(name, two, texts):
    student, teacher = two
    batch = texts()
    a, b = seen(name, student, batch), seen(name, teacher, batch)
    out = match(name, a, b)(a, b, mask(batch))
    assert out.shape == (3,)
    assert out.dtype == torch.float32
    assert (out > 0).all()
    out.sum().backward()
    assert student.bert.encoder.layer[0].attention.self.query.weight.grad.abs().sum() > 0
    assert all(p.grad is None for p in teacher.parameters())


@pytest.mark.parametrize("name", FEATURES)
def test_r13_padding_changes_no_feature_value(name, two, texts):
    """R13: real tokens only; attention over real query and key pairs."""
    student, teacher = two
    short, long = texts(7), texts(15)
    torch.manual_seed(0)
    a, b = seen(name, student, short), seen(name, teacher, short)
    compare = match(name, a, b)
    want = compare(a, b, mask(short))
    got = compare(seen(name, student, long), seen(name, teacher, long), mask(long))
    torch.testing.assert_close(got, want, rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize("name", FEATURES)
def test_r13_each_text_counts_by_its_own_real_tokens(name, two, texts):
    """R13, R16: a text's value alone is its value in the batch."""
    student, teacher = two
    batch = texts()
    a, b = seen(name, student, batch), seen(name, teacher, batch)
    compare = match(name, a, b)
    whole = compare(a, b, mask(batch))
    for i, length in enumerate((5, 3, 7)):
        alone = {k: v[i : i + 1, :length] for k, v in batch.items()}
        got = compare(seen(name, student, alone), seen(name, teacher, alone), mask(alone))
        torch.testing.assert_close(got, whole[i : i + 1], rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize("name", FEATURES)
def test_r15_a_sample_without_real_tokens_costs_nothing_and_keeps_the_graph(name, two, texts):
    """R15: 0 with a live graph and finite gradients, never 0/0."""
    student, teacher = two
    batch = texts()
    a, b = seen(name, student, batch), seen(name, teacher, batch)
    real = mask(batch).clone()
    real[1] = False
    out = match(name, a, b)(a, b, real)
    assert float(out[1].detach()) == 0
    out.sum().backward()
    grads = [p.grad for p in student.parameters() if p.grad is not None]
    assert grads
    assert all(torch.isfinite(g).all() for g in grads)


@pytest.mark.parametrize("name", FEATURES)
def test_r03_a_copy_of_the_teacher_costs_nothing(name, bert, texts):
    """R3 for features: 0 and no gradient at equality, with dropout off."""
    model, batch = bert(layers=3), texts()
    twin = bert(layers=3)
    a, b = seen(name, model, batch), seen(name, twin, batch)
    out = match(name, a, b, ((1, 1), (3, 3)))(a, b, mask(batch))
    torch.testing.assert_close(out, torch.zeros(3), atol=1e-6, rtol=0)
    out.sum().backward()
    assert max(float(p.grad.abs().max()) for p in model.parameters() if p.grad is not None) < 1e-5


@pytest.mark.parametrize("kind", [torch.float16, torch.bfloat16])
@pytest.mark.parametrize("name", FEATURES)
def test_r04_features_are_compared_in_fp32(name, kind):
    """R4: half-precision states give fp32 values and finite gradients; so does a state of zeros."""
    maker = torch.Generator().manual_seed(0)
    shape = (2, 2, 5, 5) if name == "attention" else (2, 5, 8)
    raw = [torch.randn(shape, generator=maker) * 30 for _ in range(2)]
    if name == "attention":
        raw = [torch.log_softmax(r, -1) for r in raw]
    else:
        raw[0][0, 0] = 0
    student, teacher = raw[0].to(kind).requires_grad_(), raw[1].to(kind)
    out = match(name, {1: student}, {1: teacher}, ((1, 1),))({1: student}, {1: teacher}, None)
    assert out.dtype == torch.float32
    out.sum().backward()
    assert torch.isfinite(student.grad).all()


def test_attention_of_equal_head_counts_is_compared_head_by_head(bert, texts):
    batch = texts()
    a, b = seen("attention", bert(layers=2), batch), seen("attention", bert(layers=2, seed=1), batch)
    out = match("attention", a, b, ((1, 1),))(a, b, mask(batch))
    p, q = b[1][0, :, :5, :5].exp(), a[1][0, :, :5, :5].exp()
    torch.testing.assert_close(out[0], (p * (p / q).log()).sum(-1).mean())


def test_attention_of_unequal_head_counts_is_compared_as_the_mean_over_heads(two, texts):
    batch = texts()
    a, b = (seen("attention", m, batch) for m in two)
    out = match("attention", a, b, ((1, 1),))(a, b, mask(batch))
    p, q = b[1][2].exp().mean(0), a[1][2].exp().mean(0)
    torch.testing.assert_close(out[2], (p * (p / q).log()).sum(-1).mean())


def test_relations_ignore_rotation_and_scale_and_see_order(texts):
    maker = torch.Generator().manual_seed(0)
    x = torch.randn(2, 5, 8, generator=maker)
    turn = torch.linalg.qr(torch.randn(8, 8, generator=maker))[0]
    compare = match("relation", {1: x}, {1: x}, ((1, 1),))
    assert compare({1: 3 * x @ turn}, {1: x}, None).abs().max() < 1e-6
    assert (compare({1: x.flip(1)}, {1: x}, None) > 1e-3).all()


def test_a_projector_starts_at_the_least_squares_fit_and_none_is_made_for_equal_widths():
    maker = torch.Generator().manual_seed(0)
    x = torch.randn(8, 6, 5, generator=maker)
    y = x @ torch.randn(5, 9, generator=maker) + torch.randn(9, generator=maker)
    compare = match("hidden", {1: x, 2: x}, {1: y, 2: x}, ((1, 1), (2, 2)))
    shapes = [tuple(p.shape) for p in compare.parameters()]
    assert shapes == [(9, 5), (9,)]
    before = compare({1: x, 2: x}, {1: y, 2: x}, None).mean()
    compare.start_({1: x, 2: x}, {1: y, 2: x}, None)
    after = compare({1: x, 2: x}, {1: y, 2: x}, None).mean()
    assert after < 1e-4 < before


def test_hidden_loss_is_the_share_of_the_teachers_variance_that_is_not_explained():
    """So a weight means the same for a layer of large states as for one of small ones."""
    maker = torch.Generator().manual_seed(0)
    x, y = (torch.randn(4, 6, 5, generator=maker) for _ in range(2))
    values = []
    for scale in (1.0, 1e3):
        compare = match("hidden", {1: x}, {1: y * scale}, ((1, 1),))
        compare.start_({1: x}, {1: y * scale}, None)
        values.append(compare({1: y.flatten(0, 1).mean(0).expand_as(x) * scale}, {1: y * scale}, None))
    torch.testing.assert_close(*values, rtol=1e-4, atol=1e-5)
    torch.testing.assert_close(values[0].mean(), torch.tensor(1.0))


def test_r13_masked_keys_of_either_kind_add_nothing():
    """R13: one model fills padding with the least float, the other with −inf."""
    real = torch.tensor([[True, True, False]])
    scores = torch.zeros(1, 1, 3, 3)
    told = torch.log_softmax(scores.masked_fill(~real[:, None, None], torch.finfo(torch.float32).min), -1)
    ours = torch.log_softmax(scores.masked_fill(~real[:, None, None], -torch.inf), -1).requires_grad_()
    out = match("attention", {1: ours}, {1: told}, ((1, 1),))({1: ours}, {1: told}, real)
    assert out.tolist() == [0.0]
    out.sum().backward()
    assert torch.isfinite(ours.grad).all()


def test_the_least_squares_start_leaves_padding_out():
    x, y = torch.randn(2, 4, 3), torch.randn(2, 4, 5)
    real = torch.tensor([[True, True, True, False], [True, True, False, False]])
    starts = []
    for filler in (0.0, 1e3):
        a, b = x.masked_fill(~real[..., None], filler), y.masked_fill(~real[..., None], filler)
        compare = match("hidden", {1: a}, {1: b}, ((1, 1),))
        compare.start_({1: a}, {1: b}, real)
        starts.append(compare.projectors["1-1"].weight.clone())
    torch.testing.assert_close(*starts)


@pytest.mark.parametrize("name", FEATURES)
def test_maps_of_other_widths_and_sizes_are_compared(name, resnet, mobilenet):
    batch = {"pixel_values": torch.randn(2, 3, 64, 64)}
    student, teacher = mobilenet().train(), resnet((8, 12, 16))
    a, b = seen(name, student, batch, images=True), seen(name, teacher, batch, images=True)
    pairs = ((max(a) - 1, 3), (max(a) - 2, 2))
    out = match(name, a, b, pairs, images=True)(a, b, None)
    assert out.shape == (2,)
    assert (out > 0).all()
    out.sum().backward()
    assert next(student.parameters()).grad.abs().sum() > 0


@pytest.mark.parametrize("name", ["attention", "relation"])
def test_comparing_the_places_of_maps_with_one_place_is_refused(name):
    one = {1: torch.randn(2, 4, 1, 1)}
    with pytest.raises(ModelError, match="one place each"):
        match(name, one, one, ((1, 1),), images=True)


@pytest.mark.parametrize("name", FEATURES)
def test_tokens_against_maps_are_refused(name):
    tokens, maps = {1: torch.randn(2, 4, 3)}, {1: torch.randn(2, 4, 3, 3)}
    with pytest.raises(ModelError, match="cannot be compared"):
        match(name, tokens, maps, ((1, 1),), images=True)(tokens, maps, None)
