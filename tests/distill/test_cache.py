import json
from dataclasses import replace

import numpy as np
import pytest
import torch
from safetensors.numpy import load_file

from lessen.context import Context
from lessen.distill import cache as caches
from lessen.distill.cache import fingerprint, open_cache
from lessen.errors import ArtifactError, Cancelled, TrainingError

PARTS = {"teacher": "t1", "processor": "p1", "dtype": "float32"}


class Data:
    """Ten samples; the teacher's answer depends on the sample alone."""

    def __init__(self, order=range(10)):
        self.ids = np.array([f"{i:016x}" for i in order])
        self.lengths = np.array([3 + (7 * i) % 5 for i in order])

    def __len__(self):
        return len(self.ids)


class Teacher:
    def __init__(self, data, scale=1.0):
        self.data, self.scale, self.asked = data, scale, []

    def __call__(self, rows):
        self.asked += [str(self.data.ids[i]) for i in rows]
        return np.array([[int(self.data.ids[i], 16), -self.scale] for i in rows], dtype=np.float32)


@pytest.fixture
def ctx(tmp_path):
    said = []
    return Context(out_dir=tmp_path, cache_dir=tmp_path, emit=said.append), said


@pytest.fixture(autouse=True)
def small_shards(monkeypatch):
    monkeypatch.setattr(caches, "SHARD_ROWS", 4)
    monkeypatch.setattr(caches, "BATCH_ROWS", 2)


def built(ctx, data, parts=PARTS):
    cache, teacher = open_cache(ctx.cache_dir, parts, ctx), Teacher(data)
    cache.fill(data, teacher, ctx)
    return cache, teacher


def test_r22_rows_are_found_by_content_whatever_the_order_or_the_part(ctx):
    """R22: shuffling, another fold or another rank's share moves no row and asks nothing twice."""
    ctx, _ = ctx
    built(ctx, Data())
    shuffled = Data([7, 2, 9, 0])
    cache, teacher = built(ctx, shuffled)
    assert teacher.asked == []
    assert cache.table(shuffled.ids)[:, 0].tolist() == [7, 2, 9, 0]


def test_the_teacher_reads_rows_sorted_by_length(ctx):
    ctx, _ = ctx
    data = Data()
    _, teacher = built(ctx, data)
    length = dict(zip(data.ids, data.lengths, strict=True))
    asked = [length[i] for i in teacher.asked]
    assert asked == sorted(asked)
    assert len(set(teacher.asked)) == 10


def test_r23_the_fingerprint_changes_with_teacher_precision_and_libraries(world, monkeypatch):
    """R23: weights, configuration and processor (by digest), dtype, versions."""
    ours = fingerprint(world.teacher, torch.float32)
    assert fingerprint(world.teacher, torch.bfloat16) != ours
    other = world.save(world.student(), "other")
    assert fingerprint(other, torch.float32)["teacher"] != ours["teacher"]
    assert ours["processor"] == world.teacher.processor.digest
    monkeypatch.setattr(caches, "version", lambda name: "0")
    assert fingerprint(world.teacher, torch.float32) != ours


def test_r23_another_teacher_has_another_cache(ctx):
    """R23: nothing of one teacher's answers is ever taken for another's."""
    ctx, _ = ctx
    built(ctx, Data())
    _, teacher = built(ctx, Data(), {**PARTS, "teacher": "t2"})
    assert len(teacher.asked) == 10


def test_r23_a_foreign_cache_is_an_error_that_names_both_fingerprints(ctx):
    """R23: a mismatch is no warning."""
    ctx, _ = ctx
    mine, _ = built(ctx, Data())
    other, _ = built(ctx, Data(), {**PARTS, "teacher": "t2"})
    (mine.path / "manifest.json").write_bytes((other.path / "manifest.json").read_bytes())
    with pytest.raises(ArtifactError) as caught:
        open_cache(ctx.cache_dir, PARTS, ctx)
    assert mine.fingerprint in caught.value.message
    assert other.fingerprint in caught.value.message
    assert "teacher" in caught.value.message


def test_r23_a_manifest_that_was_edited_is_refused(ctx):
    """R23: the parts must be those of the fingerprint."""
    ctx, _ = ctx
    mine, _ = built(ctx, Data())
    body = json.loads((mine.path / "manifest.json").read_text())
    (mine.path / "manifest.json").write_text(json.dumps({**body, "of": {**PARTS, "dtype": "bfloat16"}}))
    with pytest.raises(ArtifactError, match="dtype"):
        open_cache(ctx.cache_dir, PARTS, ctx)


def test_r25_raw_logits_are_stored_so_every_temperature_is_exact(ctx):
    """R25: fp32 logits as the teacher gave them, not probabilities of one temperature."""
    ctx, _ = ctx
    cache, _ = built(ctx, Data())
    stored = [load_file(f)["logits"] for f in cache.path.glob("*.safetensors")]
    assert {t.dtype for t in stored} == {np.dtype("float32")}
    assert sorted(np.concatenate(stored)[:, 0].tolist()) == list(range(10))


def test_r28_verify_scores_random_rows_again_and_finds_a_wrong_cache(ctx):
    """R28: cached and live agree, or the run stops."""
    ctx, _ = ctx
    data = Data()
    cache, teacher = built(ctx, data)
    teacher.asked.clear()
    assert cache.verify(data, teacher, count=3) == 0
    assert len(teacher.asked) == 3
    with pytest.raises(ArtifactError, match="differs from the teacher"):
        cache.verify(data, Teacher(data, scale=1.5))
    with pytest.raises(ArtifactError, match="differs"):
        cache.verify(data, lambda rows: np.full((len(rows), 2), np.nan, dtype=np.float32))


def test_r29_an_interrupted_build_goes_on_where_it_stopped(ctx):
    """R29: complete shards are kept, the rest is computed, nothing twice."""
    ctx, _ = ctx
    data, calls = Data(), []

    def stop():
        calls.append(1)
        if len(calls) > 3:
            raise Cancelled("stop")

    with pytest.raises(Cancelled):
        built(replace(ctx, check=stop), data)
    cache = open_cache(ctx.cache_dir, PARTS, ctx)
    assert len(cache.rows) == 4
    teacher = Teacher(data)
    assert cache.fill(data, teacher, ctx) == 6
    assert len(teacher.asked) == 6
    assert cache.table(data.ids)[:, 0].tolist() == list(range(10))


def test_r29_a_damaged_shard_is_computed_again_with_a_warning(ctx):
    """R29: checksums; half a file or a flipped byte never becomes a target."""
    ctx, said = ctx
    data = Data()
    cache, _ = built(ctx, data)
    shard = sorted(cache.path.glob("*.safetensors"))[0]
    raw = bytearray(shard.read_bytes())
    raw[-1] ^= 1
    shard.write_bytes(bytes(raw))
    again, teacher = built(ctx, data)
    assert 0 < len(teacher.asked) <= 4
    assert any(e.kind == "Log" and e.level == "warning" and "damaged" in e.message for e in said)
    assert again.table(data.ids)[:, 0].tolist() == list(range(10))


def test_r29_a_shard_without_its_list_is_not_read(ctx):
    """R29: the list is written last; without it the shard does not exist."""
    ctx, _ = ctx
    data = Data()
    cache, _ = built(ctx, data)
    sorted(cache.path.glob("shard-*.json"))[0].unlink()
    _, teacher = built(ctx, data)
    assert 0 < len(teacher.asked) <= 4


def test_r29_nothing_but_safetensors_and_json_is_written(ctx):
    """R29: no pickle."""
    ctx, _ = ctx
    cache, _ = built(ctx, Data())
    assert {f.suffix for f in cache.path.iterdir()} == {".safetensors", ".json"}


def test_an_answer_that_is_not_finite_is_never_stored(ctx):
    ctx, _ = ctx
    cache = open_cache(ctx.cache_dir, PARTS, ctx)
    with pytest.raises(TrainingError, match="not finite for 4 samples"):
        cache.fill(Data(), lambda rows: np.full((len(rows), 2), np.inf), ctx)
    assert list(cache.path.glob("shard-*")) == []
