"""kill -9 at any stage, then `lessen resume`: the same weights as an uninterrupted run."""

import hashlib
import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
import yaml

RECIPE = {
    "name": "killed",
    "task": "image-classification",
    "pipeline": "kd_prune",
    "data": {"source": "digits", "limit": 30, "image_size": 16},
    "teacher": {
        "model": "scratch:resnet-tiny",
        "train": {"epochs": 6, "batch_size": 8, "lr": 1e-3, "checkpoint_seconds": 0.3},
    },
    "student": {"model": "teacher", "hidden_size": 32},
    "distill": {"train": {"epochs": 6, "batch_size": 8, "lr": 1e-3, "checkpoint_seconds": 0.3}},
    "prune": {
        "remove_frac": 0.4,
        "calib_samples": 32,
        "recover": {"epochs": 6, "batch_size": 8, "lr": 1e-3, "checkpoint_seconds": 0.3},
    },
    "export": {"formats": ["safetensors"]},
    "measure": {"speed": False, "baseline": False, "bootstrap": 20},
}


def start(arguments, folder):
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "XDG_CACHE_HOME": str(folder / "cache")}
    return subprocess.Popen(
        [sys.executable, "-m", "lessen", *arguments],
        env=environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, start_new_session=True,
    )  # fmt: skip


def finish(process):
    out, err = process.communicate(timeout=300)
    assert process.returncode == 0, err[-3000:]
    return out


def weights(run):
    files = sorted((run / "stages").rglob("model.safetensors"))
    return {f.parent.name: hashlib.sha256(f.read_bytes()).hexdigest() for f in files}


def wait_for(run, stage, steps):
    """Wait until a stage has told of `steps` steps of progress."""
    for _ in range(1200):
        log = run / "events.jsonl"
        lines = log.read_text().splitlines() if log.is_file() else []
        for line in lines:
            event = json.loads(line) if line.endswith("}") else {}
            if event.get("kind") == "Progress" and event["stage"] == stage and event["step"] >= steps:
                return
        time.sleep(0.1)
    pytest.fail(f"{stage} never reached step {steps}")


@pytest.fixture(scope="module")
def uninterrupted(tmp_path_factory):
    folder = tmp_path_factory.mktemp("whole")
    recipe = folder / "recipe.yaml"
    recipe.write_text(yaml.safe_dump(RECIPE))
    finish(start(["run", str(recipe), "--output_dir", str(folder / "run")], folder))
    return recipe, weights(folder / "run")


@pytest.mark.slow
@pytest.mark.parametrize(("stage", "steps"), [("teacher", 40), ("distill", 95), ("prune", 60)])
def test_a_killed_run_resumes_to_the_same_weights(uninterrupted, tmp_path, stage, steps):
    recipe, want = uninterrupted
    run = tmp_path / "run"
    process = start(["run", str(recipe), "--output_dir", str(run)], tmp_path)
    wait_for(run, stage, steps)
    os.killpg(process.pid, signal.SIGKILL)
    process.communicate()
    before = weights(run)
    assert len(before) < len(want)
    finish(start(["resume", str(run)], tmp_path))
    assert weights(run) == want
    report = json.loads((run / "report.json").read_text())
    assert report["complete"]
    assert [r["stage"] for r in report["rows"]] == ["teacher", "distill", "prune", "export"]
    assert not list(Path(run).rglob("*.work")), "checkpoints of finished stages are removed"
