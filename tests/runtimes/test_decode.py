"""Generation is transformers' own, token for token; ONNX files generate what torch does."""

from __future__ import annotations

import sys
from types import SimpleNamespace

import numpy as np
import onnx
import pytest
import torch

import tiny
import tiny_speakers
from lessen.data.sequences import IGNORE, Blocks
from lessen.errors import ArtifactError
from lessen.export import graph, tracing
from lessen.export.formats.onnx import _export
from lessen.runtimes import decode
from lessen.runtimes._onnx_decoder import OnnxDecoder
from lessen.runtimes.eager import EagerDecoder
from lessen.runtimes.onnx import files, open_file

NAMES = ("t5", "gpt2", "llama", "mixtral")
NEW = 10


def common_token(session, batch):
    """Return a token that the model says often, so that texts end at different lengths when it is the end token."""
    said = decode.generate(session, batch, max_new_tokens=NEW, eos_id=None, pad_id=0)
    tokens, counts = np.unique([t for row in said for t in row[2:]], return_counts=True)
    return int(tokens[counts.argmax()])


def theirs(module, batch, beams, eos):
    given = {name: torch.from_numpy(values) for name, values in batch.items()}
    found = module.generate(
        **given, do_sample=False, num_beams=beams, max_new_tokens=NEW, eos_token_id=eos, pad_token_id=0
    )
    rows = found[:, 1 if module.config.is_encoder_decoder else batch["input_ids"].shape[1] :].tolist()
    return [row[: row.index(eos)] if eos in row else row for row in rows]


@pytest.mark.parametrize("beams", [1, 4])
@pytest.mark.parametrize("name", NAMES[:3])
def test_texts_are_those_of_transformers(name, beams):
    lengths = set()
    for seed in range(8):
        module = tiny_speakers.module(name, seed)
        batch = tiny_speakers.batch(seed, left=name != "t5")
        session = EagerDecoder(module)
        eos = common_token(session, batch)
        got = decode.generate(session, batch, max_new_tokens=NEW, beams=beams, eos_id=eos, pad_id=0)
        assert got == theirs(module, batch, beams, eos), seed
        lengths |= {len(row) for row in got}
    assert min(lengths) < 5 < max(lengths)  # texts end early, and late


def test_padding_on_the_left_changes_no_text():
    session = EagerDecoder(tiny_speakers.module("gpt2"))
    batch = tiny_speakers.batch(2, left=True)
    together = decode.generate(session, batch, max_new_tokens=NEW, eos_id=None, pad_id=0)
    for row in range(len(together)):
        long = int(batch["attention_mask"][row].sum())
        alone = {name: values[row : row + 1, -long:] for name, values in batch.items()}
        assert decode.generate(session, alone, max_new_tokens=NEW, eos_id=None, pad_id=0) == [together[row]]


def test_a_text_that_ends_at_once_is_empty_and_no_token_follows_an_end():
    table = np.full((6, 6), -9.0)
    table[:, 1], table[3, 1], table[3, 4] = 0, -9, 5  # everything ends, but 3 is followed by 4 and only then by the end
    batch = {"input_ids": np.array([[2], [3]])}
    for beams in (1, 2):
        assert decode.generate(Bigram(table), batch, max_new_tokens=4, beams=beams, eos_id=1, pad_id=0) == [[], [4]]


def test_logits_that_are_no_numbers_are_an_error():
    session = SimpleNamespace(start=lambda batch: (np.full((1, 4), np.nan, dtype=np.float32), None))
    with pytest.raises(ArtifactError, match="NaN"):
        decode.generate(session, {}, max_new_tokens=2, eos_id=1, pad_id=0)


def test_tokens_that_the_tokenizer_lacks_are_never_said():
    module = tiny_speakers.module("gpt2")
    module.lm_head.bias = torch.nn.Parameter(torch.arange(60.0) * 9)  # the last rows are by far the likeliest
    said = decode.generate(EagerDecoder(module, vocab=40), tiny_speakers.batch(0, left=True), max_new_tokens=3,
                           eos_id=None, pad_id=0)  # fmt: skip
    assert {t for row in said for t in row} == {39}


@pytest.fixture(scope="module", params=NAMES)
def made(request, tmp_path_factory):
    """A module, its session, the session of its ONNX files, and their folder."""
    folder = tmp_path_factory.mktemp(request.param)
    module = tiny_speakers.module(request.param)
    tracing.write(SimpleNamespace(module=module), folder, _export)
    names = files(tiny_speakers.task(request.param))
    session = OnnxDecoder([open_file(folder / name, {}, 1) for name in names])
    return request.param, EagerDecoder(module), session, folder


@pytest.mark.slow
@pytest.mark.parametrize("beams", [1, 4])
def test_onnx_texts_are_those_of_torch(made, beams):
    name, eager, session, _ = made
    for seed in range(10):
        batch = tiny_speakers.batch(seed, left=name != "t5", rows=1 + seed % 4)
        eos = common_token(eager, batch)
        want, got = (
            decode.generate(s, batch, max_new_tokens=NEW, beams=beams, eos_id=eos, pad_id=0) for s in (eager, session)
        )
        assert got == want, seed


@pytest.mark.slow
def test_one_token_read_with_the_cache_is_the_token_read_with_all_before_it(made):
    name, _, session, _ = made
    batch = tiny_speakers.batch(1, left=name != "t5")
    logits, state = session.start(batch)
    said = [logits.argmax(axis=1)]
    logits, state = session.step(state, said[0])
    if name == "t5":
        read = np.stack([np.zeros(4, dtype=np.int64), said[0]], axis=1)
        whole = session.logits({**batch, "decoder_input_ids": read})[:, -1]
    else:  # an empty past is no past
        longer = {"input_ids": np.concatenate([batch["input_ids"], said[0][:, None]], axis=1)}
        longer["attention_mask"] = np.concatenate([batch["attention_mask"], np.ones((4, 1), dtype=np.int64)], axis=1)
        whole = session.start(longer)[0]
    np.testing.assert_allclose(logits, whole, atol=2e-5)


@pytest.mark.slow
def test_scores_and_logits_of_packed_rows_and_pairs_are_those_of_torch(made, monkeypatch):
    name, eager, session, _ = made
    rng = np.random.default_rng(0)
    if name == "t5":
        batch = tiny_speakers.batch(3, left=False)
        read = rng.integers(0, 60, (4, 11))
        targets = np.where(np.arange(11) < np.array([11, 4, 1, 7])[:, None], rng.integers(0, 60, (4, 11)), IGNORE)
        batch |= {"decoder_input_ids": read, "targets": targets}
    else:
        pieces = [rng.integers(0, 60, n + 1).astype(np.int32) for n in (9, 4, 1, 6, 1)]
        data = Blocks(SimpleNamespace(pad_id=0), pieces, [np.ones(len(p) - 1, bool) for p in pieces],
                      np.arange(5), np.arange(5), [(0, 1), (2, 3, 4)], 16)  # fmt: skip
        batch = data.batch(np.arange(2))
        assert batch["attention_mask"].ndim == 4
    monkeypatch.setattr(decode, "CHUNK", 12)  # so that scores come in several chunks
    counted = batch["targets"] != IGNORE
    np.testing.assert_allclose(session.logits(batch)[counted], eager.logits(batch)[counted], atol=2e-5)
    (nll, hit), (nll_, hit_) = session.score(batch), eager.score(batch)
    np.testing.assert_allclose(nll, nll_, atol=2e-5)
    np.testing.assert_array_equal(hit, hit_)
    assert (nll[counted] > 0).all()
    assert not nll[~counted].any()


@pytest.mark.slow
def test_the_source_is_projected_once_and_no_step_reads_it(made):
    name, _, session, folder = made
    if name != "t5":
        pytest.skip("there is no source")
    model = onnx.load(folder / "decoder.onnx")
    stored = {t.name for t in model.graph.initializer}
    stored |= {n.output[0] for n in model.graph.node if n.op_type == "Transpose" and n.input[0] in stored}
    readers: set[str] = {v.name for v in model.graph.input if v.name.startswith("cross_")}
    assert len(readers) == 4
    for node in model.graph.node:  # what comes of the source's keys and values through views alone
        if node.op_type in ("Transpose", "Reshape", "Identity") and node.input[0] in readers:
            readers.add(node.output[0])
    products = [n for n in model.graph.node if n.op_type in ("MatMul", "Gemm") and readers & set(n.input)]
    assert len(products) == 4
    assert all(not stored & set(n.input) for n in products)  # attention itself, and no projection
    calls = []
    whole, session.encoder = (
        session.encoder,
        SimpleNamespace(
            get_outputs=session.encoder.get_outputs,
            run_with_ort_values=lambda *a: (calls.append(1), whole.run_with_ort_values(*a))[1],
        ),
    )
    decode.generate(session, tiny_speakers.batch(0, left=False), max_new_tokens=5, eos_id=None, pad_id=0)
    session.encoder = whole
    assert len(calls) == 1


@pytest.mark.slow
def test_a_tied_table_is_stored_once_in_all_files(made):
    name, eager, _, folder = made
    if name not in ("t5", "gpt2"):
        pytest.skip("it is not tied")
    table = eager.module.get_input_embeddings().weight.detach().numpy()
    raw = b"".join(f.read_bytes() for f in sorted(folder.iterdir()))
    assert raw.count(table.tobytes()) + raw.count(np.ascontiguousarray(table.T).tobytes()) == 1
    weights = graph.weights(*(graph.read(f) for f in sorted(folder.glob("*.onnx"))))
    assert abs(weights["elements"] - sum(p.numel() for p in eager.module.parameters())) < 1000


@pytest.mark.slow
def test_a_mixture_reads_long_prompts_in_parts(made):
    name, eager, session, _ = made
    assert (session.tokens_per_call is not None) == (name == "mixtral")
    before, session.tokens_per_call = session.tokens_per_call, 8
    batch = tiny_speakers.batch(5, left=name != "t5")
    np.testing.assert_allclose(session.start(batch)[0], eager.start(batch)[0], atol=2e-5)
    session.tokens_per_call = before


def test_decoding_imports_no_torch():
    modules = "lessen.generator, lessen.runtimes.decode, lessen.runtimes._onnx_decoder"
    check = "assert not {'torch', 'transformers', 'onnxruntime'} & set(sys.modules)"
    tiny.run([sys.executable, "-c", f"import sys, {modules}\n{check}"])


class Bigram:
    """Answers by the last token alone; counts its steps."""

    def __init__(self, table):
        self.table, self.steps = np.asarray(table, dtype=np.float32), 0

    def start(self, batch):
        return self.table[batch["input_ids"][:, -1]], None

    def step(self, state, ids):
        self.steps += 1
        return self.table[ids], None

    def reorder(self, state, rows):
        return state


def test_search_ends_when_every_text_has_ended():
    ends = np.full((4, 4), -9.0)
    ends[:, 1] = 9
    for beams in (1, 2):
        session = Bigram(ends)
        decode.generate(session, {"input_ids": np.array([[2], [3]])}, max_new_tokens=9, beams=beams, eos_id=1, pad_id=0)
        assert session.steps <= beams


def test_an_end_outside_the_best_beams_is_not_returned():
    table = np.zeros((99, 99))  # after 3 and 4 every token has probability 1/99
    table[2] = -20
    table[2, [3, 4, 1]] = np.log([0.42, 0.38, 0.2])  # the end comes third, of which two beams keep the first two
    assert np.log(0.42 / 99) / 2 < np.log(0.2)  # by score per token it would win
    batch = {"input_ids": np.array([[2]])}
    (text,) = decode.generate(Bigram(table), batch, max_new_tokens=2, beams=2, eos_id=1, pad_id=0)
    assert text[0] == 3
