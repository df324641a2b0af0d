"""What lessen.load gives for a model that generates."""

from __future__ import annotations

import numpy as np
import pytest

import lessen
import tiny_speakers
from lessen.data.encoding import sequences_of
from lessen.errors import ArtifactError, RecipeError
from lessen.generator import Generator

WORDS = ("ant", "bee", "cat dog")


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return tmp_path_factory.mktemp("generator")


@pytest.fixture(scope="module")
def gpt2(folder):
    tiny_speakers.save("gpt2", folder / "gpt2")
    return lessen.load(folder / "gpt2")


@pytest.fixture(scope="module")
def t5(folder):
    tiny_speakers.save("t5", folder / "t5", words=WORDS)
    return lessen.load(folder / "t5")


def test_load_gives_a_generator(gpt2):
    assert isinstance(gpt2, Generator)


def test_texts_are_answered_in_their_order_whatever_the_batch(gpt2, t5):
    texts = list(tiny_speakers.splits("t5").test.inputs[:7])
    for model in (gpt2, t5):
        alone = [model.generate([text], 5)[0] for text in texts]
        assert model.generate(texts, 5, batch_size=3) == alone
        assert len(set(alone)) > 2


def test_a_prompt_begins_with_the_start_token_and_an_answer_leaves_it_out(gpt2):
    import torch

    module, text = gpt2.session.module, "kan om"
    ids = torch.tensor([[1, *gpt2.processor.tokens([text])[0][0]]])
    for beams in (1, 3):
        said = module.generate(
            input_ids=ids, attention_mask=torch.ones_like(ids), do_sample=False, num_beams=beams, max_new_tokens=6
        )[0, ids.shape[1] :]
        assert gpt2.generate([text], 6, beams) == [gpt2.processor.decode(said.tolist())]


def test_of_a_long_prompt_the_end_is_read(gpt2):
    long = "alpha beta gamma delta epsilon zeta eta theta iota kappa lambda mu"
    ids = gpt2.processor.tokens([long])[0][0]
    assert len(ids) > tiny_speakers.MAX_LENGTH
    (prompt,) = gpt2._prompts([long], 8)
    assert len(prompt) == tiny_speakers.MAX_LENGTH - 8
    assert prompt[0] == 1
    np.testing.assert_array_equal(prompt[1:], ids[-(len(prompt) - 1) :])
    half = gpt2._prompts([long], 1000)  # half the longest text is read, the rest is room for the answer
    assert (len(half[0]), gpt2._room(half)) == (16, 16)
    assert gpt2.generate([long], 1000) == gpt2.generate([long], 16)


def test_numbers_below_one_are_refused(gpt2):
    with pytest.raises(RecipeError, match="beams is 0"):
        gpt2.generate(["a"], 3, beams=0)


def test_a_label_is_the_likeliest_word_by_all_its_tokens(t5):
    import torch

    texts = list(tiny_speakers.splits("t5").test.inputs[:5])
    scores = t5.label_scores(texts, batch_size=4)
    for row, text in enumerate(texts[:2]):
        for column, word in enumerate(WORDS):
            target = [int(i) for i in t5.processor.encode([word])[0]]
            assert target[-1] == 1
            source = torch.tensor(np.array(t5.processor.encode([text])), dtype=torch.int64)
            with torch.no_grad():
                logits = t5.session.module(input_ids=source, decoder_input_ids=torch.tensor([[0, *target[:-1]]])).logits
            want = logits.log_softmax(-1)[0, range(len(target)), target].sum()
            assert scores[row, column] == pytest.approx(float(want), abs=1e-3)
    answers = t5.predict(texts)
    assert [a.label for a in answers] == [WORDS[i] for i in scores.argmax(axis=1)]
    assert sum(answers[0].probabilities.values()) == pytest.approx(1, abs=1e-5)


def test_a_model_without_label_words_predicts_nothing(gpt2):
    with pytest.raises(ArtifactError, match="use generate"):
        gpt2.predict(["a"])


def test_perplexity_is_that_of_every_token_and_the_end(gpt2):
    data = tiny_speakers.splits("gpt2")
    blocks = sequences_of(data, "test", gpt2.processor, None)
    nll, _ = gpt2.session.score(blocks.batch(np.arange(len(blocks))))
    want = np.exp(nll.sum() / blocks.tokens.sum())
    texts = list(data.test.inputs)
    assert gpt2.perplexity(texts) == pytest.approx(want, rel=1e-5)
    assert gpt2.perplexity(texts, batch_size=1) == pytest.approx(want, rel=1e-5)


def test_texts_alone_have_no_perplexity_for_a_model_that_answers_sources(t5):
    with pytest.raises(ArtifactError, match="use generate"):
        t5.perplexity(["a"])


def test_what_stood_before_sources_in_training_is_put_before_those_that_are_given(folder, t5):
    from dataclasses import replace

    from lessen import models
    from lessen.recipe import ModelSpec

    splits = tiny_speakers.splits("t5")
    asked = replace(splits, settings=splits.settings.model_copy(update={"prefix": "kan om: "}))
    spec = ModelSpec(model=str(folder / "t5"))
    taken = models.fetch(spec, asked, asked.settings, "seq2seq", 0)
    student = models.student(ModelSpec(model="teacher", layers=1), taken, asked, asked.settings, "seq2seq", 0)
    assert (taken.info.prefix, student.info.prefix) == ("kan om: ", "kan om: ")
    models.save(taken, folder / "prefixed", stage="teacher", key="", history=(), facts={})
    texts = list(splits.test.inputs[:4])
    with_prefix = lessen.load(folder / "prefixed").generate(texts, 5)
    assert with_prefix == t5.generate([f"kan om: {text}" for text in texts], 5)
    assert with_prefix != t5.generate(texts, 5)
