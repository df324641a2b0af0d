"""Texts that models make: the same alone and in a batch, ended, counted exactly, found again on disk."""

from __future__ import annotations

from dataclasses import replace
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from transformers import (
    GenerationConfig,
    GPT2Config,
    GPT2LMHeadModel,
    LlamaConfig,
    LlamaForCausalLM,
    MixtralConfig,
    MixtralForCausalLM,
    T5Config,
    T5ForConditionalGeneration,
)

from lessen.context import Context
from lessen.data.sequences import IGNORE, Blocks, Pairs
from lessen.distill import teacher_texts
from lessen.distill.generate import (
    OnPolicy,
    continuations,
    evaluating,
    examples,
    own_step,
    prompt_of,
    prompts_in,
    respond,
)  # fmt: skip
from lessen.distill.moe import Sar, SarSide, fingerprint, routed
from lessen.distill.sequences import SequenceTeaching
from lessen.distill.sides import Live
from lessen.distill.teacher_texts import taught, teach_sequences
from lessen.errors import ArtifactError, Cancelled, RecipeError
from lessen.info import ModelInfo
from lessen.models import Model, language
from lessen.recipe import Distill, Train
from lessen.runtime import Runtime
from lessen.terms import Batch, Prepares
from lessen.train import fit

VOCAB, EOS = 30, 1
CPU = Runtime(torch.device("cpu"), torch.float32)


class Tokenizer:
    """Token 0 pads, token 1 ends."""

    pad_id, eos_id, vocab_size, max_length, digest = 0, EOS, VOCAB, 40, "p1"

    def collate(self, items, pad_to=None):
        width = max(map(len, items))
        ids, mask = np.zeros((2, len(items), width), dtype=np.int64)
        for row, item in enumerate(items):
            ids[row, : len(item)], mask[row, : len(item)] = item, 1
        return {"input_ids": ids, "attention_mask": mask}


TOKENS = Tokenizer()


def tokens(**changes):
    return SimpleNamespace(**{**vars(Tokenizer), **changes})


def llama(seed=0, vocab=VOCAB, **more):
    torch.manual_seed(seed)
    config = LlamaConfig(
        vocab_size=vocab, hidden_size=16, intermediate_size=24, num_hidden_layers=2, num_attention_heads=2,
        max_position_embeddings=48, initializer_range=0.5, pad_token_id=0, eos_token_id=EOS, bos_token_id=None, **more,
    )  # fmt: skip
    config._attn_implementation = "sdpa"
    return LlamaForCausalLM(config).eval()


def gpt2():
    torch.manual_seed(0)
    config = GPT2Config(
        vocab_size=VOCAB, n_embd=16, n_layer=2, n_head=2, n_positions=48, initializer_range=0.5, eos_token_id=EOS,
        bos_token_id=EOS,
    )  # fmt: skip
    config._attn_implementation = "sdpa"
    return GPT2LMHeadModel(config)


def t5():
    torch.manual_seed(0)
    config = T5Config(
        vocab_size=VOCAB, d_model=16, d_kv=8, d_ff=24, num_layers=2, num_heads=2, decoder_start_token_id=0,
        eos_token_id=EOS, pad_token_id=0, tie_word_embeddings=False, dropout_rate=0.1,
    )  # fmt: skip
    module = T5ForConditionalGeneration(config)
    with torch.no_grad():
        for parameter in module.parameters():  # else it repeats one token
            if parameter.ndim > 1:
                parameter.add_(0.4 * torch.randn_like(parameter))
    return module


MODELS = {"llama": llama, "gpt2": gpt2, "t5": t5}


def prompts(count=5):
    draw = np.random.default_rng(0)
    return [draw.integers(2, VOCAB, 2 + (3 * i) % 7, dtype=np.int32) for i in range(count)]


def ending(module):
    """Return a prompt, a token that its greedy text has at some place past the first and not before, and that place."""
    for prompt in prompts(9):
        (text,) = continuations(module, tokens(eos_id=None), [prompt], max_new_tokens=8)
        new = [i for i in range(1, 7) if text[i] not in text[:i]]
        if new:
            return prompt, int(text[new[-1]]), new[-1]
    raise AssertionError("no such text")


@pytest.mark.parametrize("name", MODELS)
def test_prompts_of_unequal_lengths_give_the_same_texts_as_alone(name):
    module = MODELS[name]()
    found = continuations(module, TOKENS, prompts(), max_new_tokens=9)
    for prompt, text in zip(prompts(), found, strict=True):
        (alone,) = continuations(module, TOKENS, [prompt], max_new_tokens=9)
        assert text.tolist() == alone.tolist()
    assert len({tuple(t) for t in found}) > 1


@pytest.mark.parametrize("name", ["llama", "gpt2"])
def test_greedy_texts_are_those_of_the_likeliest_token_by_hand(name):
    module = MODELS[name]().eval()
    for prompt, text in zip(prompts(), continuations(module, TOKENS, prompts(), max_new_tokens=6), strict=True):
        ids = prompt.tolist()
        while len(ids) < len(prompt) + 6 and (len(ids) == len(prompt) or ids[-1] != EOS):
            with torch.no_grad():
                ids.append(int(module(torch.tensor([ids])).logits[0, -1].argmax()))
        assert text.tolist() == ids[len(prompt) :]


@pytest.mark.parametrize("name", MODELS)
@pytest.mark.parametrize("pads_with_end", [False, True])
def test_a_text_ends_with_its_first_end_token_which_counts(name, pads_with_end):
    module = MODELS[name]()
    module.generation_config.eos_token_id = None
    prompt, end, at = ending(module)
    reads = tokens(eos_id=end, pad_id=end if pads_with_end else 0)
    others = prompts(9)[3:6]
    texts = continuations(module, reads, [prompt, *others], max_new_tokens=8)
    assert len(texts[0]) == at + 1
    assert texts[0][-1] == end
    assert all((text[:-1] != end).all() for text in texts)
    assert len({len(text) for text in texts}) > 1
    made = respond(module, reads, [prompt, *others], max_new_tokens=8, temperature=0, seeds=[0] * 4)
    said = made["targets"] != IGNORE
    assert said.sum(axis=1).tolist() == [len(t) for t in texts]
    assert [made["targets"][i][said[i]].tolist() for i in range(4)] == [t.tolist() for t in texts]


def test_end_tokens_that_the_model_came_with_end_a_text_too():
    module = llama()
    module.generation_config.eos_token_id = None
    prompt, end, at = ending(module)
    module.generation_config.eos_token_id = [end, 40]
    (text,) = continuations(module, tokens(eos_id=None), [prompt], max_new_tokens=8)
    assert text[-1] == end
    assert len(text) == at + 1


def test_the_models_own_settings_are_left_aside_and_stay():
    module = llama()
    want = [t.tolist() for t in continuations(module, TOKENS, prompts(), max_new_tokens=8)]
    own = GenerationConfig(
        repetition_penalty=5.0, temperature=0.2, do_sample=True, top_k=1, no_repeat_ngram_size=1, max_length=3,
        min_new_tokens=8, suppress_tokens=list(range(20)), eos_token_id=EOS,
    )  # fmt: skip
    module.generation_config = own
    assert [t.tolist() for t in continuations(module, TOKENS, prompts(), max_new_tokens=8)] == want
    assert module.generation_config is own


def test_rows_beyond_the_tokenizers_vocabulary_are_never_said():
    module = llama(vocab=64)
    with torch.no_grad():
        module.lm_head.weight[VOCAB:] *= 5
    for temperature in (0.0, 1.0):
        found = respond(module, TOKENS, prompts(), max_new_tokens=9, temperature=temperature, seeds=range(5))
        assert found["targets"].max() < VOCAB
    for text in continuations(module, TOKENS, prompts(), max_new_tokens=6, beams=3):
        assert text.max() < VOCAB


def test_rows_that_no_token_has_change_no_search():
    small, large = llama(), llama(vocab=64)
    with torch.no_grad():
        for name, parameter in small.named_parameters():
            large.get_parameter(name)[: len(parameter)] = parameter
        large.lm_head.weight[VOCAB:] *= 3
    for prompt in prompts(9):
        a, b = (continuations(m, TOKENS, [prompt], max_new_tokens=8, beams=4)[0].tolist() for m in (small, large))
        assert a == b


def test_each_token_has_its_own_draw():
    module = llama()
    with torch.no_grad():
        module.lm_head.weight.zero_()  # every token is as likely, whatever came before
    module.generation_config.eos_token_id = None
    found = continuations(module, tokens(eos_id=None), prompts(), max_new_tokens=12, temperature=1.0, seeds=range(5))
    assert min(len(set(text.tolist())) for text in found) > 5


@pytest.mark.parametrize("name", MODELS)
def test_only_what_was_said_is_a_target_and_the_shift_is_right(name):
    module = MODELS[name]().eval()
    made = respond(module, TOKENS, prompts(), max_new_tokens=6, temperature=0, seeds=[0] * 5)
    inputs = {k: torch.from_numpy(v) for k, v in made.items() if k != "targets"}
    with torch.no_grad():
        likeliest = module(**inputs).logits.argmax(dim=-1).numpy()
    said = made["targets"] != IGNORE
    assert said.any(axis=1).all()
    assert (likeliest == made["targets"])[said].all()  # each target is what the model says there
    if name == "t5":
        assert (made["decoder_input_ids"][:, 0] == 0).all()
        assert said[:, 0].all()
    else:
        lengths = np.array([len(p) for p in prompts()])
        assert (said.argmax(axis=1) == lengths - 1).all()
        assert (made["attention_mask"].sum(axis=1) == lengths - 1 + said.sum(axis=1)).all()
        assert (made["position_ids"] == np.arange(said.shape[1]) * made["attention_mask"]).all()


def test_a_batch_by_hand():
    some = [np.array([5, 6, 7], dtype=np.int32), np.array([8], dtype=np.int32)]
    made = examples(some, [np.array([9, 1]), np.array([10, 11, 12])], TOKENS)
    assert made["input_ids"].tolist() == [[5, 6, 7, 9], [8, 10, 11, 0]]
    assert made["attention_mask"].tolist() == [[1, 1, 1, 1], [1, 1, 1, 0]]
    assert made["position_ids"].tolist() == [[0, 1, 2, 3], [0, 1, 2, 0]]
    assert made["targets"].tolist() == [[IGNORE, IGNORE, 9, 1], [10, 11, 12, IGNORE]]
    pairs = examples(some, [np.array([9, 1]), np.array([10, 11, 12])], TOKENS, start_id=3)
    assert pairs["input_ids"].tolist() == [[5, 6, 7], [8, 0, 0]]
    assert pairs["decoder_input_ids"].tolist() == [[3, 9, 0], [3, 10, 11]]
    assert pairs["targets"].tolist() == [[9, 1, IGNORE], [10, 11, 12]]


@pytest.mark.parametrize("name", MODELS)
def test_a_seed_and_its_prompt_decide_the_text(name):
    module = MODELS[name]()

    def said(which, seeds):
        return [
            t.tolist() for t in continuations(module, TOKENS, which, max_new_tokens=9, temperature=1.0, seeds=seeds)
        ]

    state = torch.get_rng_state()
    first = said(prompts(), range(5))
    assert torch.equal(torch.get_rng_state(), state)
    torch.manual_seed(99)
    assert said(prompts(), range(5)) == first
    assert said(prompts(), range(5, 10)) != first
    assert said(prompts()[::-1], range(5)[::-1]) == first[::-1]  # whatever stands beside it
    assert said(prompts()[2:3], [2]) == first[2:3]


def test_tokens_are_drawn_as_often_as_the_model_says():
    module, prompt = llama(), np.array([3, 7], dtype=np.int32)
    with torch.no_grad():
        logits = module(torch.from_numpy(prompt)[None].long()).logits[0, -1].double()
    for temperature in (1.0, 2.0):
        found = continuations(
            module, TOKENS, [prompt] * 3000, max_new_tokens=1, temperature=temperature, seeds=range(3000)
        )
        share = np.bincount([t[0] for t in found], minlength=VOCAB) / 3000
        p = (logits / temperature).softmax(-1).numpy()
        assert np.abs(share - p).max() < 4 * np.sqrt(0.25 / 3000)
        assert np.abs(share - p).sum() / 2 < 0.06


@pytest.mark.parametrize("name", MODELS)
def test_the_student_is_in_evaluation_mode_meanwhile_and_each_part_as_before_after(name):
    module = MODELS[name]().train()
    part = next(p for p in module.modules() if isinstance(p, torch.nn.Dropout | torch.nn.Linear))
    part.eval()
    modes = []
    module.register_forward_pre_hook(lambda *_: modes.append(module.training))
    continuations(module, TOKENS, prompts(), max_new_tokens=3)
    assert modes
    assert not any(modes)
    assert module.training
    assert not part.training
    with pytest.raises(ValueError, match="inside"), evaluating(module):
        raise ValueError("inside")
    assert module.training
    assert not part.training


def test_more_than_the_table_of_positions_is_refused():
    with pytest.raises(RecipeError, match="prompt of 40 tokens and 10 new ones are more than the 48 positions"):
        continuations(gpt2(), TOKENS, [np.full(40, 3, dtype=np.int32)], max_new_tokens=10)
    assert len(continuations(gpt2(), TOKENS, [np.full(40, 3, dtype=np.int32)], max_new_tokens=9)[0]) <= 9


def blocks(packed=True):
    pieces = [np.arange(2, 2 + n, dtype=np.int32) % VOCAB for n in (8, 5, 12, 3)]
    counted = [np.arange(len(p) - 1) >= before for p, before in zip(pieces, (3, 0, 5, 0), strict=True)]
    rows = [(2, 1), (0, 3)] if packed else [(i,) for i in range(4)]
    names = np.asarray([f"piece{i}" for i in range(4)])
    return Blocks(TOKENS, pieces, counted, names, np.array([0, 1, 1, 2]), rows, 16)


def pairs():
    targets = [np.array([3 + i, 4, EOS], dtype=np.int32) for i in range(5)]
    return Pairs(TOKENS, prompts(), targets, np.asarray([f"pair{i}" for i in range(5)]), np.full(5, -1), 0)


def test_prompts_are_sources_or_what_comes_before_what_counts():
    data = blocks()
    assert [(n, len(ids)) for n, ids in prompts_in(data, np.array([1, 0]), 3)] == [
        ("piece0", 4), ("piece3", 1), ("piece2", 6), ("piece1", 2),
    ]  # fmt: skip
    whole = np.ones(20, dtype=bool)
    assert len(prompt_of(np.arange(21), whole, 3)) == 3
    assert len(prompt_of(np.arange(21), whole, 64)) == 10
    assert [(n, ids.tolist()) for n, ids in prompts_in(pairs(), np.array([3]), 3)] == [("pair3", prompts()[3].tolist())]


def on_policy(data, student, **settings):
    cfg = Distill(sequences="student", max_new_tokens=6, alpha=1.0, temperature=1.0, prompt_tokens=3, **settings)
    live = Live(SimpleNamespace(module=llama(seed=5), processor=TOKENS), CPU)
    live.model.module.requires_grad_(False)
    return OnPolicy(live, data, TOKENS, CPU, cfg, seed=7)


def given(data, rows):
    arrays = {k: torch.from_numpy(v) for k, v in data.batch(np.asarray(rows)).items()}
    labels = arrays.pop("targets")
    return Batch(arrays, labels, np.asarray(rows), 0, None, float((labels != IGNORE).sum()))


def test_on_policy_replaces_the_texts_and_the_teacher_judges_them():
    data, student = blocks(), llama()
    side = on_policy(data, student)
    teaching = SequenceTeaching(
        side.cfg, SimpleNamespace(module=student, processor=TOKENS), side, SimpleNamespace(due=lambda epoch: False)
    )  # fmt: skip
    assert isinstance(teaching, Prepares)
    (made,) = teaching.prepare(student, [given(data, [0, 1])], 3)
    said = made.labels != IGNORE
    assert made.labels.shape[0] == 4  # one text a piece
    assert made.amount == float(said.sum()) > 0
    assert made.inputs["input_ids"][0, :6].tolist() == data.pieces[2][:6].tolist()
    term = teaching(student, made)["soft"]
    p, q = (m(**made.inputs).logits[said].log_softmax(-1) for m in (side.side.model.module, student))
    assert float(term.values.detach()) == pytest.approx(float((p.exp() * (p - q)).sum().detach()), rel=1e-4)
    term.values.backward()
    assert all(p.grad is not None for p in student.parameters())
    assert side.facts() == {
        "steps": 1, "texts": 4, "tokens": int(said.sum()), "ended": int((made.labels == EOS).any(1).sum()),
    }  # fmt: skip


def test_on_policy_texts_depend_on_step_and_prompt_not_on_micro_batches():
    data, student = blocks(), llama()

    def texts(parts, step):
        made = on_policy(data, student).prepare(student, [given(data, rows) for rows in parts], step)
        return [[t for t in row if t != IGNORE] for b in made for row in b.labels.tolist()]

    assert texts([[0, 1]], 3) == texts([[0], [1]], 3) == texts([[0, 1]], 3)
    assert texts([[0, 1]], 3) != texts([[0, 1]], 4)
    twice = texts([[1, 1]], 3)
    assert twice[:2] != twice[2:]  # the same prompt twice is answered twice


def sar_run(folder, check=lambda: None):
    """Train on own texts with routers that learn; return the router's fingerprint and the student's weights."""
    torch.manual_seed(4)
    config = MixtralConfig(
        vocab_size=VOCAB, hidden_size=16, intermediate_size=16, num_hidden_layers=1, num_attention_heads=2,
        num_key_value_heads=2, num_local_experts=4, max_position_embeddings=48, initializer_range=0.5,
    )  # fmt: skip
    info = ModelInfo(family="llama", task="causal-lm", source="test", labels=())
    teacher, student = (Model(m, TOKENS, info) for m in (MixtralForCausalLM(config), llama()))
    cfg = Distill(
        sequences="student", router="sar", max_new_tokens=5, prompt_tokens=3, alpha=1.0, temperature=1.0,
        objective="reverse_kl", student_frac=0.7, moe={"router_lr": 0.01},
    )  # fmt: skip
    found, opens = routed(teacher.module, cfg)
    sar = Sar(teacher, cfg.moe, CPU, found=found)
    side = SarSide(sar, Live(teacher, CPU, routing=opens), language.head(student))
    loss = SequenceTeaching(
        cfg, student, OnPolicy(side, blocks(), TOKENS, CPU, cfg, seed=0), SimpleNamespace(due=lambda epoch: False)
    )  # fmt: skip
    ctx = Context(out_dir=folder, stage="distill", check=check)
    settings = Train(max_steps=6, eval_steps=2, batch_size=2, lr=0.01, precision="fp32", patience=None, accumulate=2)
    start = sar.fingerprint()
    done = fit(student, blocks(), blocks(), loss, settings, ctx, work_dir=folder / "work", attachments=[sar])
    assert done.steps == 6
    assert sar.fingerprint() == fingerprint(found) != start
    return sar.fingerprint(), torch.cat([p.detach().reshape(-1) for p in student.module.parameters()])


@pytest.mark.slow
def test_a_run_that_is_killed_and_resumed_is_the_same(tmp_path):
    whole = sar_run(tmp_path / "whole")
    left = [3]

    def check():
        left[0] -= 1
        if left[0] < 0:
            raise Cancelled("stop")

    with pytest.raises(Cancelled):
        sar_run(tmp_path / "cut", check)
    again = sar_run(tmp_path / "cut")
    assert again[0] == whole[0]
    assert torch.equal(again[1], whole[1])


def test_on_policy_of_pairs():
    data, student = pairs(), t5()
    cfg = Distill(sequences="student", max_new_tokens=6)
    side = OnPolicy(SimpleNamespace(prepare=lambda m, b, s: list(b)), data, TOKENS, CPU, cfg, seed=0)
    (made,) = side.prepare(student, [given(data, [1, 4])], 0)
    assert set(made.inputs) == {"input_ids", "attention_mask", "decoder_input_ids"}
    assert made.inputs["input_ids"][1, : len(data.sources[4])].tolist() == data.sources[4].tolist()
    assert language.states(student, made.inputs).shape[:2] == made.labels.shape


def test_the_seed_chooses_a_share_of_the_steps():
    steps = [own_step(3, step, 0.3) for step in range(2000)]
    assert sum(steps) / 2000 == pytest.approx(0.3, abs=0.04)
    assert steps == [own_step(3, step, 0.3) for step in range(2000)]
    assert steps != [own_step(4, step, 0.3) for step in range(2000)]
    assert all(own_step(3, step, 1.0) for step in range(100))
    assert not any(own_step(3, step, 0.0) for step in range(100))
    data, student = blocks(), llama()
    side = on_policy(data, student, student_frac=0.5)
    before = given(data, [0])
    kept = [side.prepare(student, [before], step)[0] is before for step in range(12)]
    assert kept == [not own_step(7, step, 0.5) for step in range(12)]
    assert 0 < sum(kept) < 12


@pytest.fixture
def ctx(tmp_path):
    said = []
    return Context(out_dir=tmp_path, cache_dir=tmp_path, emit=said.append), said


TEACHER = SimpleNamespace(digest="t1", processor=TOKENS)
CFG = Distill(sequences="teacher", beams=3, max_new_tokens=6, prompt_tokens=3)


def opened(module):
    return SimpleNamespace(module=module, processor=TOKENS)


@pytest.mark.parametrize("name", MODELS)
def test_teacher_texts_are_those_of_transformers_beam_search(name, ctx):
    module = MODELS[name]().eval()
    data: Any = pairs() if name == "t5" else blocks()
    found = teach_sequences(TEACHER, opened(module), data, CFG, CPU, ctx[0])
    asked = [ids for _, ids in prompts_in(data, np.arange(len(data)), 3)]
    for prompt, text in zip(asked, found, strict=True):
        out = module.generate(
            input_ids=torch.from_numpy(prompt)[None].long(), attention_mask=torch.ones(1, len(prompt)).long(),
            num_beams=3, max_new_tokens=6, do_sample=False, pad_token_id=0, eos_token_id=EOS,
        )  # fmt: skip
        want = out[0, (1 if name == "t5" else len(prompt)) :].tolist()
        want = want[: want.index(EOS) + 1] if EOS in want else want
        assert text.tolist() == want


def counting(module):
    calls = []
    own = module.generate

    def generate(**given):
        calls.append(len(given["input_ids"]))
        return own(**given)

    module.generate = generate
    return calls


def test_teacher_texts_are_generated_once_and_found_by_content(ctx):
    module, data = llama(), blocks()
    calls = counting(module)
    first = teach_sequences(TEACHER, opened(module), data, CFG, CPU, ctx[0])
    assert sum(calls) == 4
    other = replace(data, rows=[(3,), (0, 1, 2)])  # packed in another way
    again = teach_sequences(TEACHER, opened(module), other, CFG, CPU, ctx[0])
    assert sum(calls) == 4
    order = [2, 1, 0, 3]
    by_piece = dict(zip(order, first, strict=True))
    assert all(np.array_equal(by_piece[p], t) for p, t in zip([3, 0, 1, 2], again, strict=True))
    for cfg, teacher in (
        (CFG.model_copy(update={"beams": 2}), TEACHER),
        (CFG.model_copy(update={"max_new_tokens": 5}), TEACHER),
        (CFG.model_copy(update={"prompt_tokens": 2}), TEACHER),
        (CFG, SimpleNamespace(digest="t2")),
    ):
        before = sum(calls)
        teach_sequences(teacher, opened(module), data, cfg, CPU, ctx[0])
        assert sum(calls) == before + 4
    before = sum(calls)
    teach_sequences(TEACHER, opened(module), data, CFG, CPU, ctx[0], router="all")
    assert sum(calls) == before + 4


def test_an_interrupted_run_goes_on_where_it_stopped(ctx):
    module, data = llama(), blocks()
    want = teach_sequences(
        TEACHER, opened(module), data, CFG, CPU, replace(ctx[0], cache_dir=ctx[0].cache_dir / "other")
    )  # fmt: skip
    calls = counting(module)
    left = [2]

    def check():
        if not left[0]:
            raise Cancelled("stop")
        left[0] -= 1

    with pytest.raises(Cancelled):
        teach_sequences(TEACHER, opened(module), data, CFG, CPU, replace(ctx[0], check=check), batch=1)
    assert calls == [1, 1]
    found = teach_sequences(TEACHER, opened(module), data, CFG, CPU, ctx[0], batch=1)
    assert calls == [1, 1, 1, 1]
    assert all(np.array_equal(a, b) for a, b in zip(found, want, strict=True))


def test_a_damaged_shard_is_generated_again_and_another_teachers_folder_refused(ctx):
    module, data = llama(), blocks()
    first = teach_sequences(TEACHER, opened(module), data, CFG, CPU, ctx[0])
    (file,) = ctx[0].cache_dir.rglob("shard-*.safetensors")
    raw = file.read_bytes()
    file.write_bytes(raw[:-1] + bytes([raw[-1] ^ 1]))
    calls = counting(module)
    again = teach_sequences(TEACHER, opened(module), data, CFG, CPU, ctx[0])
    assert sum(calls) == 4
    assert any("damaged" in e.message for e in ctx[1] if e.kind == "Log" and e.level == "warning")
    assert all(np.array_equal(a, b) for a, b in zip(first, again, strict=True))
    manifest = next(ctx[0].cache_dir.rglob("manifest.json"))
    manifest.write_text(manifest.read_text().replace('"t1"', '"t9"'))
    with pytest.raises(ArtifactError, match="fingerprint"):
        teach_sequences(TEACHER, opened(module), data, CFG, CPU, ctx[0])


def test_texts_are_written_in_shards(ctx, monkeypatch):
    monkeypatch.setattr(teacher_texts, "SHARD_TEXTS", 2)
    teach_sequences(TEACHER, opened(llama()), blocks(), CFG, CPU, ctx[0], batch=1)
    assert len(list(ctx[0].cache_dir.rglob("shard-*.safetensors"))) == 2


@pytest.mark.parametrize("packed", [True, False])
def test_taught_documents_are_prompt_and_text_and_only_the_text_counts(packed):
    data = blocks(packed)
    asked = prompts_in(data, np.arange(len(data)), 3)
    texts = [np.array([20 + i, 21, EOS], dtype=np.int32) for i in range(3)] + [np.arange(2, 22, dtype=np.int32)]
    made = taught(data, texts, 3)
    assert isinstance(made, Blocks)
    order = [p for row in data.rows for p in row]
    for i, ((_, prompt), text) in enumerate(zip(asked, texts, strict=True)):
        whole = [*prompt.tolist(), *text.tolist()][:17]
        assert made.pieces[i].tolist() == whole
        assert made.pieces[i][1:][made.counted[i]].tolist() == whole[len(prompt) :]
    assert made.document.tolist() == [int(data.document[p]) for p in order]
    assert sorted(p for row in made.rows for p in row) == [0, 1, 2, 3]
    assert int(made.lengths.max()) <= 16
    assert (int(made.tokens.sum()), len(set(made.piece_ids))) == (sum(len(c.nonzero()[0]) for c in made.counted), 4)
    assert set(made.piece_ids).isdisjoint(data.piece_ids)


def test_taught_pairs_have_the_teachers_targets_and_ids_of_their_own():
    data = pairs()
    texts = [np.array([20 + i, EOS], dtype=np.int32) for i in range(5)]
    made, other = taught(data, texts, 3), taught(data, [*texts[:4], np.array([EOS])], 3)
    assert isinstance(made, Pairs)
    assert made.batch(np.array([1]))["targets"].tolist() == [[21, EOS]]
    assert made.batch(np.array([1]))["decoder_input_ids"].tolist() == [[0, 21]]
    assert set(made.ids).isdisjoint(data.ids)
    assert [a == b for a, b in zip(made.ids, other.ids, strict=True)] == [True] * 4 + [False]
