import dataclasses
import os
import subprocess
import sys
from types import SimpleNamespace

import numpy as np
import psutil
import pytest
import torch
from torch import nn

from lessen.context import Context
from lessen.errors import Cancelled, RecipeError, TrainingError
from lessen.info import ModelInfo
from lessen.loss import label_loss
from lessen.recipe import Train
from lessen.train import Term, fit

N, FEATURES, LABELS = 48, 6, 3
INFO = ModelInfo(family="net", task="image-classification", source="test", labels=("a", "b", "c"))


class Table:
    """What `fit` needs of an Encoded, over plain vectors."""

    def __init__(self, seed):
        draw = np.random.default_rng(seed)
        self.x = draw.normal(size=(N, FEATURES)).astype(np.float32)
        self.labels = (self.x[:, :LABELS].argmax(axis=1)).astype(np.int64)
        self.ids = np.array([f"{i:016x}" for i in range(N)])
        self.lengths = np.ones(N, dtype=np.int64)

    def __len__(self):
        return N

    def batch(self, rows, view=None):
        return {"x": self.x[rows]}


class Net(nn.Module):
    def __init__(self, dropout=0.0):
        super().__init__()
        self.layers = nn.Sequential(nn.Linear(FEATURES, 16), nn.ReLU(), nn.Dropout(dropout), nn.Linear(16, LABELS))

    def forward(self, x):
        return SimpleNamespace(logits=self.layers(x))


def model(dropout=0.0):
    torch.manual_seed(0)
    return SimpleNamespace(module=Net(dropout), info=INFO)


def loss(module, batch):
    return {"label": Term(1.0, label_loss(INFO, Train(), None)(module(**batch.inputs).logits, batch.labels))}


def settings(**changes):
    values = {"epochs": 4, "batch_size": 12, "lr": 0.05, "precision": "fp32", "warmup_frac": 0.1, "patience": None}
    return Train(**{**values, **changes})


def train(net, folder, cfg, check=lambda: None, loss=loss, **more):
    ctx = Context(out_dir=folder, check=check, stage="teacher")
    return fit(net, Table(0), Table(1), loss, cfg, ctx, work_dir=folder / "work", **more)


def weights(net):
    return torch.cat([p.detach().reshape(-1) for p in net.module.parameters()])


def test_training_learns_the_rule_and_keeps_the_best_epoch(tmp_path):
    net = model()
    done = train(net, tmp_path, settings(epochs=30))
    assert done.best["val_accuracy"] > 0.8
    assert done.best["val_f1_macro"] == pytest.approx(max(e["val_f1_macro"] for e in done.history), abs=1e-6)
    assert done.history[-1]["loss_label"] < done.history[0]["loss_label"] / 2


def test_progress_tells_the_memory_that_training_holds_and_the_history_does_not(tmp_path):
    said = []
    ctx = Context(out_dir=tmp_path, emit=said.append, stage="teacher")
    done = fit(model(), Table(0), Table(1), loss, settings(epochs=1), ctx, work_dir=tmp_path / "work")
    steps = [e.values for e in said if getattr(e, "values", None) and "val_loss" not in e.values]
    mine = psutil.Process().memory_info().rss
    assert steps
    assert all(mine / 4 < values["rss_bytes"] < mine * 4 for values in steps)
    assert all("gpu_bytes" not in values for values in steps)  # on a CPU
    assert all("rss_bytes" not in entry for entry in done.history)


@pytest.mark.parametrize("accumulate", [2, 3, 5])
def test_r16_a_step_does_not_depend_on_the_micro_batches_it_is_cut_into(tmp_path, accumulate):
    whole, cut = model(), model()
    train(whole, tmp_path / "whole", settings())
    train(cut, tmp_path / "cut", settings(accumulate=accumulate))
    torch.testing.assert_close(weights(whole), weights(cut), rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize("stop", [1, 4, 7, 15])
@pytest.mark.parametrize("checkpoint_seconds", [0.0, 1e9])
def test_r34_a_stopped_and_resumed_training_ends_with_the_same_bits(tmp_path, stop, checkpoint_seconds):
    cfg = settings(checkpoint_seconds=checkpoint_seconds)
    straight, broken = model(dropout=0.5), model(dropout=0.5)
    want = train(straight, tmp_path / "straight", cfg)
    calls = []

    def check():
        calls.append(1)
        if len(calls) == stop + 1:
            raise Cancelled("stopped")

    with pytest.raises(Cancelled):
        train(broken, tmp_path / "broken", cfg, check)
    fresh = model(dropout=0.5)
    got = train(fresh, tmp_path / "broken", cfg)
    assert torch.equal(weights(straight), weights(fresh))
    assert [e["val_loss"] for e in want.history] == [e["val_loss"] for e in got.history]
    assert want.steps == got.steps == 16


def test_a_kill_between_checkpoints_repeats_the_lost_steps_exactly(tmp_path):
    straight, broken = model(dropout=0.5), model(dropout=0.5)
    train(straight, tmp_path / "straight", settings())

    def killed(module, batch):
        if batch.epoch == 2:
            raise KeyboardInterrupt
        return loss(module, batch)

    with pytest.raises(KeyboardInterrupt):
        train(broken, tmp_path / "broken", settings(), loss=killed)
    fresh = model(dropout=0.5)
    train(fresh, tmp_path / "broken", settings())
    assert torch.equal(weights(straight), weights(fresh))


def test_a_loss_that_is_not_finite_stops_with_the_step_and_the_term(tmp_path):
    def broken(module, batch):
        terms = loss(module, batch)
        values = terms["label"].values
        return {"label": terms["label"], "soft": Term(1.0, values * float("nan") if batch.epoch == 1 else values)}

    with pytest.raises(TrainingError, match=r"soft.*not finite at step 5") as error:
        train(model(), tmp_path, settings(), loss=broken)
    assert "label," not in error.value.message


def test_patience_stops_when_validation_no_longer_improves(tmp_path):
    net = model()
    done = train(net, tmp_path, settings(epochs=50, patience=2, lr=1e-9, warmup_frac=0))
    assert done.stopped_early
    assert len(done.history) == 3


def test_no_epoch_before_select_from_is_kept(tmp_path):
    done = train(model(), tmp_path, settings(epochs=6, lr=1e-9), select_from=4)
    assert done.best["epoch"] >= 4


def test_frozen_parts_do_not_move_and_may_move_again_afterwards(tmp_path):
    net = model()
    net.module.base_model = net.module.layers[0]
    before = net.module.layers[0].weight.clone()
    train(net, tmp_path, settings(freeze="encoder"))
    assert torch.equal(net.module.layers[0].weight, before)
    assert all(p.requires_grad for p in net.module.parameters())
    net.module.base_model = net.module.layers
    with pytest.raises(RecipeError, match="nothing to train"):
        train(net, tmp_path / "all", settings(freeze="encoder"))


class Clamp(nn.Module):
    """An attachment that holds one weight at zero and counts in its buffer."""

    def __init__(self, net):
        super().__init__()
        self.register_buffer("count", torch.zeros((), dtype=torch.int64))
        self.net = [net]

    def after_step(self, step, total_steps, steps_per_epoch):
        self.count += 1
        with torch.no_grad():
            self.net[0].module.layers[0].weight[0, 0] = 0


def test_attachments_act_after_every_step_and_are_checkpointed(tmp_path):
    net = model()
    clamp = Clamp(net)
    train(net, tmp_path, settings(), attachments=[clamp])
    assert net.module.layers[0].weight.detach()[0, 0].item() == 0
    assert 0 < int(clamp.count) <= 16


def test_vectors_are_not_decayed_and_matrices_are(tmp_path):
    def flat(module, batch):
        return {"label": Term(1.0, module(**batch.inputs).logits.sum(dim=1) * 0.0)}

    net = model()
    matrix, bias = (p.detach().clone() for p in (net.module.layers[0].weight, net.module.layers[0].bias))
    train(net, tmp_path, settings(weight_decay=0.5, monitor="loss"), loss=flat)
    assert torch.equal(net.module.layers[0].bias, bias)
    assert net.module.layers[0].weight.detach().norm() < matrix.detach().norm()


class Words(Table):
    """Texts of 3 to 8 token ids; id 1 is the mask token."""

    processor = SimpleNamespace(mask_id=1)

    def batch(self, rows, view=None):
        lengths = 3 + rows % 6
        mask = (np.arange(8)[None] < lengths[:, None]).astype(np.int64)
        return {"input_ids": np.where(mask == 1, 10 + np.arange(8)[None], 0), "attention_mask": mask}


def test_token_dropout_masks_inner_tokens_alone_at_its_rate(tmp_path):
    seen = []
    net = model()

    def watch(module, batch):
        seen.append((batch.inputs["input_ids"].clone(), batch.inputs["attention_mask"]))
        return {"label": Term(1.0, module(torch.zeros(len(batch.rows), FEATURES)).logits.sum(dim=1) * 0.0)}

    ctx = Context(out_dir=tmp_path, stage="teacher")
    cfg = settings(token_dropout=0.3, epochs=20)
    fit(net, Words(0), Table(1), watch, cfg, ctx, work_dir=tmp_path / "work")
    ids, mask = (torch.cat([pair[i] for pair in seen]) for i in (0, 1))
    position = torch.arange(8).expand_as(ids)
    inner = (position > 0) & (position < mask.sum(dim=1, keepdim=True) - 1)
    assert torch.equal(ids[~inner], torch.where(mask == 1, 10 + position, 0)[~inner])
    assert set(ids[inner].unique().tolist()) <= {1, *range(11, 17)}
    assert (ids[inner] == 1).float().mean().item() == pytest.approx(0.3, abs=0.03)


def test_embeddings_may_have_their_own_learning_rate(tmp_path):
    moved = []
    for scale in (1.0, 3.0):
        net = model()
        net.module.table = nn.Embedding(4, LABELS)
        before = net.module.table.weight.detach().clone()

        def look(module, batch):
            logits = module(**batch.inputs).logits + module.table.weight.sum(dim=0)
            return {"label": Term(1.0, label_loss(INFO, Train(), None)(logits, batch.labels))}

        cfg = settings(epochs=0.25, embedding_lr=scale, warmup_frac=0, weight_decay=0, monitor="loss")
        train(net, tmp_path / str(scale), cfg, loss=look)
        moved.append((net.module.table.weight.detach() - before).abs().max().item())
    assert moved[1] == pytest.approx(3 * moved[0], rel=1e-3)


def test_the_learning_rate_rises_and_falls_to_nothing(tmp_path):
    done = train(model(), tmp_path, settings(epochs=10, schedule="linear", warmup_frac=0.5, lr=1.0))
    rates = [e["lr"] for e in done.history]
    assert rates.index(max(rates)) in (4, 5)
    assert rates[0] < rates[4]
    assert rates[-1] == pytest.approx(1 / 20)


RANKS = """
import sys, pathlib, torch
sys.path.insert(0, {tests!r})
import test_train as t
folder = pathlib.Path({folder!r}) / ("rank" + __import__("os").environ.get("RANK", "0"))
net = t.model()
t.train(net, folder, t.settings(accumulate=2))
torch.manual_seed(0)
(folder / "weights.txt").write_text(" ".join(repr(float(x)) for x in t.weights(net)))
"""


@pytest.mark.slow
def test_r16_r21_two_processes_of_torchrun_compute_what_one_does(tmp_path):
    script = tmp_path / "ranks.py"
    script.write_text(RANKS.format(tests=os.path.dirname(__file__), folder=str(tmp_path)))
    command = [sys.executable, "-m", "torch.distributed.run", "--nproc_per_node=2", "--master_port=0"]
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    done = subprocess.run(
        [*command, "--rdzv_backend=c10d", "--rdzv_endpoint=localhost:0", str(script)],
        env=environment, capture_output=True, text=True, timeout=240,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr[-2000:]
    one = model()
    train(one, tmp_path / "one", settings())
    ranks = [np.array((tmp_path / f"rank{r}" / "weights.txt").read_text().split(), dtype=float) for r in (0, 1)]
    np.testing.assert_array_equal(ranks[0], ranks[1])
    np.testing.assert_allclose(ranks[0], weights(one).numpy(), rtol=1e-4, atol=1e-6)


def test_a_fit_is_plain_facts(tmp_path):
    done = train(model(), tmp_path, settings(epochs=1))
    assert set(done.facts()) == {f.name for f in dataclasses.fields(done)}
