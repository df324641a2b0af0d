"""The training loop on sequences: what a step is divided by, packing, processes, failures and stalls."""

import math
import os
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from transformers import GPT2Config, GPT2LMHeadModel

from lessen.context import Context
from lessen.data.sequences import IGNORE, Blocks, pack
from lessen.distill.sequences import TokenLoss, supervised_states
from lessen.errors import RecipeError, TrainingError
from lessen.events import Log
from lessen.info import ModelInfo
from lessen.models import Model
from lessen.recipe import Train
from lessen.terms import Batch, Term
from lessen.train import fit
from lessen.watch import PATIENCE, WINDOW, Failures, Stall

VOCABULARY, BLOCK = 40, 24
INFO = ModelInfo(family="gpt2", task="causal-lm", source="test", labels=())
PROCESSOR = SimpleNamespace(pad_id=0, vocab_size=VOCABULARY, kind="text")


def blocks(seed=0, pieces=30, packed=True):
    """Pieces of unequal length in which each token follows from the one before."""
    draw = np.random.default_rng(seed)
    made = []
    for length in draw.integers(3, BLOCK, pieces):
        start = int(draw.integers(1, VOCABULARY))
        made.append(np.array([(start * 3**i) % 37 + 1 for i in range(length + 1)], dtype=np.int32))
    counted = [draw.random(len(p) - 1) < 0.8 for p in made]
    rows = pack([len(p) - 1 for p in made], BLOCK) if packed else [(i,) for i in range(pieces)]
    ids = np.array([f"{i:016x}" for i in range(pieces)])
    return Blocks(PROCESSOR, made, counted, ids, np.arange(pieces), rows, BLOCK)


def model(seed=0, dropout=0.0, **changes):
    torch.manual_seed(seed)
    config = GPT2Config(
        vocab_size=VOCABULARY, n_positions=BLOCK, n_embd=16, n_layer=2, n_head=2, bos_token_id=1, eos_token_id=1,
        resid_pdrop=dropout, embd_pdrop=dropout, attn_pdrop=dropout, **changes,
    )  # fmt: skip
    config._attn_implementation = "sdpa"
    return Model(GPT2LMHeadModel(config), PROCESSOR, INFO)


def settings(**changes):
    values = {"epochs": 1, "batch_size": 6, "lr": 0.01, "precision": "fp32", "warmup_frac": 0, "patience": None}
    return Train(**{**values, **changes})


def train(net, folder, cfg, loss=None, said=None, data=None):
    emit = (lambda event: said.append(event)) if said is not None else lambda event: None
    ctx = Context(out_dir=folder, stage="distill", emit=emit)
    data = data or blocks()
    return fit(net, data, blocks(1), loss or TokenLoss(net, chunk=7), cfg, ctx, work_dir=folder / "work")


def weights(net):
    """All weights but the bias of keys: its true gradient is 0, so that Adam takes steps by the sign of rounding."""
    named = net.module.named_parameters()
    return torch.cat([p.detach().reshape(-1) for name, p in named if not name.endswith("c_attn.bias")])


def batch(data, rows):
    inputs = {k: torch.from_numpy(v) for k, v in data.batch(np.asarray(rows)).items()}
    return Batch(inputs, inputs.pop("targets"), np.asarray(rows), 0)


def test_r16_a_step_of_unequal_rows_does_not_depend_on_its_micro_batches(tmp_path):
    whole, cut = model(), model()
    train(whole, tmp_path / "whole", settings())
    train(cut, tmp_path / "cut", settings(accumulate=5))
    assert torch.allclose(weights(whole), weights(cut), atol=1e-5)


def test_r16_the_loss_is_the_mean_over_supervised_tokens_not_over_rows(tmp_path):
    net, data = model(), blocks(packed=False)
    states, labels = supervised_states(net.module, batch(data, range(len(data))))
    logits = net.module.lm_head(states)
    want = float(torch.nn.functional.cross_entropy(logits, labels).detach())
    done = train(net, tmp_path, settings(max_steps=1, batch_size=len(data), lr=1e-9), data=data)
    assert done.history[0]["loss_label"] == pytest.approx(want, rel=1e-5)


def test_r17_packed_rows_give_the_loss_and_the_gradient_of_their_pieces_alone():
    net, data = model(), blocks()
    assert len(data) < len(data.pieces), "rows hold several pieces"
    values = []
    for some in (data, data.alone()):
        net.module.zero_grad()
        total = TokenLoss(net, chunk=5)(net.module, batch(some, range(len(some))))["label"].values
        total.backward()
        values.append((float(total.detach()), torch.cat([p.grad.reshape(-1) for p in net.module.parameters()])))
    (packed, packed_grad), (alone, alone_grad) = values
    assert packed == pytest.approx(alone, rel=1e-6)
    assert torch.allclose(packed_grad, alone_grad, atol=1e-4)


def test_r17_a_packed_piece_cannot_see_its_neighbours():
    net, data = model(), blocks()
    row = next(i for i, r in enumerate(data.rows) if len(r) > 1)
    inputs = batch(data, [row]).inputs
    length = len(data.pieces[data.rows[row][0]]) - 1
    with torch.no_grad():
        before = net.module.transformer(**inputs).last_hidden_state
        inputs["input_ids"][0, :length] = 5  # another first piece
        after = net.module.transformer(**inputs).last_hidden_state
    assert torch.equal(before[0, length:], after[0, length:])
    assert not torch.allclose(before[0, :length], after[0, :length])


def test_r11_the_shift_happens_once():
    data = blocks(packed=False)
    one = batch(data, [3])
    piece, counted = data.pieces[3], data.counted[3]
    assert one.inputs["input_ids"][0].tolist() == piece[:-1].tolist()
    assert one.labels[0].tolist() == [int(t) if on else IGNORE for t, on in zip(piece[1:], counted, strict=True)]


def test_recomputed_activations_change_nothing(tmp_path):
    plain, spare = model(), model()
    train(plain, tmp_path / "plain", settings())
    train(spare, tmp_path / "spare", settings(gradient_checkpointing=True))
    assert torch.allclose(weights(plain), weights(spare), atol=1e-6)
    assert not spare.module.is_activation_checkpointing, "and it is off again afterwards"


def test_max_steps_and_eval_steps_count_optimizer_steps(tmp_path):
    done = train(model(), tmp_path, settings(epochs=100, max_steps=7, eval_steps=3))
    assert done.steps == 7
    assert [entry["step"] for entry in done.history] == [3, 6, 7]


def test_the_best_step_of_a_language_model_is_the_one_with_the_lowest_loss(tmp_path):
    done = train(model(), tmp_path, settings(epochs=6, lr=0.3))
    assert done.best["val_loss"] == pytest.approx(min(entry["val_loss"] for entry in done.history), rel=1e-5)
    assert "val_f1_macro" not in done.best


def test_f1_is_no_score_of_tokens(tmp_path):
    with pytest.raises(RecipeError, match="f1_macro"):
        train(model(), tmp_path, settings(monitor="f1_macro"))


def test_half_precision_with_a_scaler_learns_and_resumes_with_its_scale(tmp_path):
    done = train(model(), tmp_path, settings(epochs=4, precision="fp16"))
    assert done.history[-1]["val_loss"] < done.history[0]["val_loss"]
    assert all(math.isfinite(entry["loss_label"]) for entry in done.history)


class Broken(TokenLoss):
    """A loss that is not a number at some steps."""

    def __init__(self, net, bad):
        super().__init__(net)
        self.calls, self.bad = 0, bad

    def __call__(self, module, batch):
        self.calls += 1
        terms = super().__call__(module, batch)
        if self.calls in self.bad:
            terms["label"] = Term(1.0, terms["label"].values * math.nan)
        return terms


def test_a_failed_step_is_left_out_counted_and_told(tmp_path):
    net, said = model(), []
    done = train(net, tmp_path, settings(max_steps=10, max_failed_frac=0.2), loss=Broken(net, {2, 4}), said=said)
    assert done.failed_steps == 2
    assert bool(torch.isfinite(weights(net)).all())
    told = [e.message for e in said if isinstance(e, Log) and e.level == "warning"]
    assert len(told) == 2
    assert "step 2" in told[0]


def test_too_many_failed_steps_stop_the_run(tmp_path):
    net = model()
    with pytest.raises(TrainingError, match=r"3 of 10 steps failed, train\.max_failed_frac allows 0\.2"):
        train(net, tmp_path, settings(max_steps=10, max_failed_frac=0.2), loss=Broken(net, {2, 4, 6}))


def test_without_leave_the_first_failed_step_stops_the_run():
    with pytest.raises(TrainingError, match="no good"):
        Failures(0.0, 100).add("no good", Context(out_dir=Path()))


def test_a_loss_that_sits_at_ln_of_the_vocabulary_is_named_and_then_stops_the_run():
    said = []
    ctx = Context(out_dir=Path(), emit=said.append, stage="distill")
    stall = Stall(50257)
    for _ in range(WINDOW):
        stall.see(10.8249, ctx)
    assert "ln(vocabulary of 50257)" in said[0].message
    for _ in range(PATIENCE - WINDOW - 1):
        stall.see(10.8249, ctx)
    with pytest.raises(TrainingError, match="answers uniformly"):
        stall.see(10.8249, ctx)


def test_a_loss_that_falls_from_ln_of_the_vocabulary_is_no_stall():
    said = []
    ctx = Context(out_dir=Path(), emit=said.append)
    stall = Stall(50257)
    for step in range(4 * WINDOW):
        stall.see(10.8249 - 0.01 * step, ctx)
    assert said == []


WORKER = """
import sys
from pathlib import Path
sys.path.insert(0, {here!r})
import test_train_sequences as t
net = t.model()
t.train(net, Path(sys.argv[1]) / __import__("os").environ.get("RANK", "0"), t.settings(precision="fp32"))
if __import__("os").environ.get("RANK", "0") == "0":
    t.torch.save({{"w": t.weights(net)}}, Path(sys.argv[1]) / "weights.pt")
"""


@pytest.mark.slow
def test_r16_r21_two_ranks_train_as_one_on_rows_of_unequal_tokens(tmp_path):
    script = tmp_path / "worker.py"
    script.write_text(WORKER.format(here=str(Path(__file__).parent)))
    command = [sys.executable, "-m", "torch.distributed.run", "--nproc_per_node=2", "--master_port=29533"]
    subprocess.run(
        [*command, str(script), str(tmp_path)], check=True, capture_output=True, text=True, timeout=240,
        env={**os.environ, "OMP_NUM_THREADS": "1"},
    )  # fmt: skip
    one = model()
    train(one, tmp_path / "one", settings())
    two = torch.load(tmp_path / "weights.pt", weights_only=True)["w"]
    assert torch.allclose(weights(one), two, atol=1e-5)
