"""Models that generate, in every format: reopened, compared, and run by what is pasted."""

from __future__ import annotations

import json
import sys
from types import SimpleNamespace

import numpy as np
import pytest

import lessen
import tiny
import tiny_speakers
from lessen.context import Context
from lessen.errors import ArtifactError
from lessen.export import export, sequences
from lessen.recipe import Export
from lessen.runtimes.decode import Decoder

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module", params=["t5", "gpt2"])
def exported(request, tmp_path_factory):
    """An artifact, its data, and its three exports."""
    folder = tmp_path_factory.mktemp(request.param)
    source = tiny_speakers.save(request.param, folder / "m", steps=20 if request.param == "t5" else 0, spread=3.0)
    data = tiny_speakers.splits(request.param)
    ctx, formats = Context(out_dir=folder, stage="export"), ("onnx", "huggingface", "safetensors")
    made = export(source, Export(formats=formats), data, ctx, out=folder / "out")
    return source, data, dict(zip(formats, made, strict=True))


def test_logits_of_starts_steps_and_positions_and_whole_texts_are_recorded(exported):
    facts = exported[2]["onnx"].manifest.facts
    assert {name.rpartition(" ")[2] for name in facts["max_abs_difference"]} == {"start", "steps", "positions"}
    assert 0 < max(facts["max_abs_difference"].values()) <= facts["tolerance"]
    assert facts["texts_identical"] == facts["texts"] == 8


def test_the_onnx_folder_generates_the_same_texts_without_torch(exported):
    source, data, made = exported
    texts = list(data.test.inputs[:5])
    script = f"""
import json, sys, lessen
model = lessen.load({str(made["onnx"].path)!r})
print(json.dumps([model.generate({texts!r}, 10, beams) for beams in (1, 4)]))
assert not {{"torch", "transformers"}} & set(sys.modules)
"""
    got = json.loads(tiny.run([sys.executable, "-c", script]))
    model = lessen.load(source.path)
    assert got == [model.generate(texts, 10, beams) for beams in (1, 4)]
    assert len(set(got[0])) > 1


def test_every_folder_comes_with_a_loader_that_runs(exported):
    source, data, made = exported
    text = data.test.inputs[0]
    (want,) = lessen.load(source.path).generate([text])
    for name in ("onnx", "huggingface"):
        line = tiny.run([sys.executable, str(made[name].path / "how_to_load.py"), text]).splitlines()[-1]
        assert json.loads(line)["text"] == want, name


def test_the_card_names_the_hubs_task_and_the_texts(exported):
    source, _, made = exported
    text = (made["onnx"].path / "README.md").read_text()
    assert f"pipeline_tag: {'text2text' if source.info.task == 'seq2seq' else 'text'}-generation" in text
    assert "Of 8 texts generated greedily, 8 are the same token for token." in text
    assert "| labels |" not in text


def test_transformers_reads_the_hugging_face_folder_and_generates_alike(exported):
    made = exported[2]["huggingface"]
    assert (made.path / "generation_config.json").is_file()
    (difference,) = (v for k, v in made.manifest.facts["max_abs_difference"].items() if k.startswith("transformers"))
    assert difference <= 1e-5


def test_an_onnx_artifact_exports_to_onnx_unchanged(exported, tmp_path):
    _, data, made = exported
    ctx = Context(out_dir=tmp_path, stage="export")
    (again,) = export(made["onnx"], Export(), data, ctx, out=tmp_path)
    weights = {name for name in made["onnx"].manifest.files if name.endswith((".onnx", ".bin"))}
    assert {n: again.manifest.files[n] for n in weights} == {n: made["onnx"].manifest.files[n] for n in weights}


def test_without_data_made_up_tokens_are_compared(exported):
    source, _, made = exported
    found = sequences.differences(source, made["onnx"], None)
    assert 0 < max(found.values()) < 1e-4


class Altered:
    """A session whose logits are shifted for one token, after some steps."""

    def __init__(self, session: Decoder, by: float) -> None:
        self.session, self.by, self.start_id, self.vocab = (
            session,
            by,
            getattr(session, "start_id", None),
            session.vocab,
        )

    def start(self, batch):
        logits, state = self.session.start(batch)
        return logits, (state, 0)

    def step(self, state, ids):
        logits, inner = self.session.step(state[0], ids)
        logits = logits.copy()
        if state[1] == 2:
            logits[:, 7] += self.by
        return logits, (inner, state[1] + 1)


def test_another_text_is_refused_unless_the_source_hardly_prefers_its_own(exported):
    source, data, _ = exported
    session = source.open()
    artifact = lambda by: SimpleNamespace(  # noqa: E731
        path=source.path, info=source.info, processor=source.processor, open=lambda: Altered(session, by)
    )
    with pytest.raises(ArtifactError, match="generates another text than its source for validation sample 1"):
        sequences.texts(artifact(0.0), artifact(100.0), data, 1e-4)
    found = sequences.texts(artifact(0.0), artifact(100.0), data, 1e4)
    assert found["texts_identical"] == 0


def test_the_prompts_differ_in_length_and_leave_room(exported):
    source, data, _ = exported
    batch = sequences.prompts(sequences.samples(source, data), 8)
    lengths = batch["attention_mask"].sum(axis=1)
    assert len(set(lengths.tolist())) > 1
    if source.info.task == "causal-lm":
        assert (batch["attention_mask"][:, -1] == 1).all()
        assert lengths.max() <= tiny_speakers.MAX_LENGTH // 2


def test_a_model_of_another_form_is_refused_with_what_can_be_done():
    from transformers import BartConfig, BartForConditionalGeneration

    from lessen.export import tracing

    config = BartConfig(vocab_size=30, d_model=16, encoder_layers=1, decoder_layers=1, encoder_attention_heads=2,
                        decoder_attention_heads=2, encoder_ffn_dim=16, decoder_ffn_dim=16)  # fmt: skip
    model = SimpleNamespace(module=BartForConditionalGeneration(config).eval())
    with pytest.raises(ArtifactError, match=r"BartForConditionalGeneration.*huggingface or safetensors"):
        tracing.write(model, None, None)


def test_shared_tensors_are_stored_once_and_read_back(tmp_path):
    import onnx
    from onnx import helper, numpy_helper

    from lessen.export import graph

    table = np.arange(4096, dtype=np.float32)
    models = {}
    for name, own in (("a.onnx", 1.0), ("b.onnx", 2.0)):
        tensors = [numpy_helper.from_array(table, "t"), numpy_helper.from_array(table + own, "own")]
        models[name] = helper.make_model(helper.make_graph([], "g", [], [], tensors), ir_version=10)
    graph.write_together(models, tmp_path, "shared.bin")
    assert (tmp_path / "shared.bin").stat().st_size == table.nbytes
    for name, own in (("a.onnx", 1.0), ("b.onnx", 2.0)):
        assert (tmp_path / name).stat().st_size < 1.1 * table.nbytes
        read = {t.name: numpy_helper.to_array(t) for t in onnx.load(tmp_path / name).graph.initializer}
        np.testing.assert_array_equal(read["t"], table)
        np.testing.assert_array_equal(read["own"], table + own)
