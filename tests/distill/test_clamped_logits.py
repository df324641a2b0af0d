"""A predecessor clamped logits to ±10. GPT-2's lie near −35, so that every answer became uniform: its loss stood at

0.9 · ln(50257) = 9.7453 for 500 steps (0.9 was the weight of the labels). Here the same happens in small, and the same
model learns the same data with our loss.
"""

import itertools
import math
import sys
from pathlib import Path

import pytest
import torch
from torch.nn import functional

from lessen.context import Context
from lessen.data.sequences import IGNORE
from lessen.distill.tokens.linear import DenseTeacher, fused_loss
from lessen.errors import TrainingError
from lessen.events import Log
from lessen.models import language
from lessen.terms import Term
from lessen.train import fit

sys.path.insert(0, str(Path(__file__).parents[1]))
import test_train_sequences as small

UNIFORM = math.log(small.VOCABULARY)
TEMPERATURE, ALPHA = 2.0, 0.1  # of the predecessor's script


def shifted(net):
    """Move a model's logits to about −35, as GPT-2's are, without changing its answers."""
    with torch.no_grad():
        direction = torch.zeros(net.module.config.n_embd)
        direction[0] = 1.0
        net.module.transformer.wte.weight[:, 0] = 3.0  # every token has the same component along it
        net.module.transformer.ln_f.weight[0] = 0.0
        net.module.transformer.ln_f.bias[0] = -35 / 3.0
    return net


@pytest.fixture(scope="module")
def teacher():
    net = shifted(small.model(seed=7))
    for parameter in net.module.parameters():
        parameter.requires_grad_(False)
    return net


def clamped(teacher):
    """The predecessor's loss: both models' logits clamped to ±10, then KL and cross-entropy."""

    def loss(module, batch):
        chosen = batch.labels != IGNORE
        ours = module(**batch.inputs).logits[chosen].clamp(-10, 10)
        theirs = teacher.module(**batch.inputs).logits[chosen].clamp(-10, 10)
        log_q = functional.log_softmax(ours / TEMPERATURE, dim=-1)
        p = functional.softmax(theirs / TEMPERATURE, dim=-1)
        kd = TEMPERATURE**2 * functional.kl_div(log_q, p, reduction="sum")
        ce = functional.cross_entropy(ours, batch.labels[chosen], reduction="sum")
        return {"label": Term(1 - ALPHA, ce), "soft": Term(ALPHA, kd)}

    return loss


def ours(teacher, student):
    def loss(module, batch):
        chosen = batch.labels != IGNORE
        states = language.states(module, batch.inputs)[chosen]
        with torch.no_grad():
            told = DenseTeacher(language.states(teacher.module, batch.inputs)[chosen], language.head(teacher))
        made = fused_loss(
            states, language.head(student), batch.labels[chosen], alpha=ALPHA, temperature=TEMPERATURE, teacher=told
        )
        return {"label": Term(1 - ALPHA, made.ce), "soft": Term(ALPHA, (made.total - (1 - ALPHA) * made.ce) / ALPHA)}

    return loss


def train(net, loss, folder, steps, said=None):
    cfg = small.settings(max_steps=steps, eval_steps=10, lr=0.01)
    ctx = Context(out_dir=folder, stage="distill", emit=(said if said is not None else []).append)
    return fit(net, small.blocks(), small.blocks(1), loss, cfg, ctx, work_dir=folder / "work")


def test_the_models_answers_lie_where_gpt2s_do(teacher):
    inputs = small.batch(small.blocks(), [0]).inputs
    logits = teacher.module(**inputs).logits
    assert -45 < float(logits.min()) < float(logits.max()) < -25


@pytest.mark.slow
def test_d42_clamped_logits_stand_still_at_ln_of_the_vocabulary(teacher, tmp_path):
    student, said = shifted(small.model(seed=3)), []
    before = small.weights(student)
    done = train(student, clamped(teacher), tmp_path, 60, said)
    for entry in done.history:
        assert entry["loss_label"] == pytest.approx(0.9 * UNIFORM, abs=1e-5)
        assert entry["grad_norm"] == 0.0
    student = shifted(small.model(seed=3))
    ctx = Context(out_dir=tmp_path, stage="distill")
    cfg = small.settings(max_steps=20, lr=0.01, weight_decay=0)
    fit(student, small.blocks(), small.blocks(1), clamped(teacher), cfg, ctx, work_dir=tmp_path / "again")
    assert torch.equal(small.weights(student), before), "nothing was learned"
    told = [e.message for e in said if isinstance(e, Log) and e.level == "warning"]
    assert any("ln(vocabulary of 40)" in message for message in told), "and the stall is named"


@pytest.mark.slow
def test_d42_a_run_that_stands_still_is_stopped(teacher, tmp_path):
    with pytest.raises(TrainingError, match="answers uniformly and learns nothing"):
        train(shifted(small.model(seed=3)), clamped(teacher), tmp_path, 400)


@pytest.mark.slow
def test_d42_our_loss_falls_on_the_same_model_and_data(teacher, tmp_path):
    student = shifted(small.model(seed=3))
    done = train(student, ours(teacher, student), tmp_path, 60)
    labels = [entry["loss_label"] / 0.9 for entry in done.history]
    assert all(later < earlier for earlier, later in itertools.pairwise(labels))
    assert labels[-1] < 0.9 * UNIFORM
