from __future__ import annotations

import subprocess
from pathlib import Path

import pytest

from lessen.measure import environment, provenance


def git(folder: Path, *words: str) -> None:
    author = ("-c", "user.name=a", "-c", "user.email=a@b.c", "-c", "commit.gpgsign=false")
    subprocess.run(["git", "-C", str(folder), *author, *words], check=True, capture_output=True)


@pytest.fixture
def repository(tmp_path: Path) -> Path:
    git(tmp_path, "init", "-q")
    (tmp_path / "recipe.yaml").write_text("name: one\n", encoding="utf-8")
    git(tmp_path, "add", ".")
    git(tmp_path, "commit", "-q", "-m", "one")
    return tmp_path


def test_a_commit_is_told_with_whether_kept_files_are_changed(repository: Path) -> None:
    (repository / "runs").mkdir()
    (repository / "runs" / "new").write_text("git does not keep it", encoding="utf-8")
    clean = provenance.commit(repository / "runs")
    assert clean is not None
    assert len(clean["commit"]) == 40
    assert clean["dirty"] is False
    (repository / "recipe.yaml").write_text("name: two\n", encoding="utf-8")
    assert provenance.commit(repository) == {"commit": clean["commit"], "dirty": True}


def test_without_repository_commit_or_git_there_is_no_commit(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("GIT_CEILING_DIRECTORIES", str(tmp_path.parent))
    assert provenance.commit(tmp_path) is None
    git(tmp_path, "init", "-q")
    assert provenance.commit(tmp_path) is None
    monkeypatch.setenv("PATH", str(tmp_path))
    assert provenance.code() == {"folder": None, "lessen": None}


def test_a_package_in_a_folder_that_git_does_not_keep_is_no_checkout(
    repository: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    installed = repository / "venv" / "lessen" / "measure"
    installed.mkdir(parents=True)
    (installed.parent / "__init__.py").write_text("", encoding="utf-8")
    monkeypatch.setattr(provenance, "__file__", str(installed / "provenance.py"))
    monkeypatch.chdir(repository)
    found = provenance.code()
    assert found["lessen"] is None
    assert found["folder"] is not None
    git(repository, "add", "venv")
    assert (provenance.code()["lessen"] or {})["dirty"] is True


def test_the_environment_names_everything_that_computes() -> None:
    found = environment()
    for name in ("torch", "transformers", "tokenizers", "onnx", "onnxruntime", "numpy", "scikit-learn", "safetensors"):
        assert found["versions"][name]
    assert found["gpu"] is None
    assert set(found["code"]) == {"folder", "lessen"}
