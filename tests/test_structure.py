"""The shape of the code: imports point down, the shell is light, files and functions stay small."""

from __future__ import annotations

import ast
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
SOURCE = ROOT / "src" / "lessen"
FILES = sorted(SOURCE.rglob("*.py"))
FORBIDDEN = {"utils", "util", "helpers", "helper", "common", "base", "core", "manager", "misc"}
HEAVY = {"torch", "transformers", "datasets", "onnxruntime", "onnx", "torchao", "pandas", "sklearn", "scipy"}

# From the ground up; a file may import what stands in its own line or above it.
LAYERS = (
    {"errors", "plugins", "events", "eventlog", "sink", "birth", "info", "context", "token"},
    {"rules", "sequence_rules"},
    {"section", "recipe"},
    {"legacy", "sar_flags"},
    {"processors", "data"},
    {"artifact", "generator"},
    {"folder"},
    {"models"},
    {"runtimes"},
    {"runtime", "checkpoint", "loss", "terms", "watch", "optimizer", "evaluate", "train"},
    {"finetune", "distill", "prune", "quantize", "export"},
    {"measure"},
    {"report"},
    {"stages"},
    {"plan", "plan_memory", "plan_time", "progress", "loggers"},
    {"runner", "folds"},
    {"ablation", "doctor"},
    {"store", "client"},
    {"jobs", "bench"},
    {"server"},
    {"cli"},
    {"__init__", "__main__"},
)
LEVEL = {name: level for level, names in enumerate(LAYERS) for name in names}

# Looks upward on purpose: the rules of a recipe ask the parts themselves what they refuse, when a recipe is parsed.
ASKS = {("rules", "prune"), ("rules", "quantize"), ("rules", "models"), ("rules", "distill")}


def top(path: Path) -> str:
    return path.relative_to(SOURCE).parts[0].removesuffix(".py")


def imports(path: Path) -> Iterator[str]:
    """Yield the lessen modules that a file imports when it runs, those within functions too."""
    tree = ast.parse(path.read_text(encoding="utf-8"))
    skipped = {
        id(node)
        for test in ast.walk(tree)
        if isinstance(test, ast.If) and "TYPE_CHECKING" in ast.dump(test.test)
        for child in test.body
        for node in ast.walk(child)
    }
    for node in ast.walk(tree):
        if id(node) in skipped:
            continue
        if isinstance(node, ast.ImportFrom) and node.module == "lessen":
            yield from (alias.name for alias in node.names if alias.name in LEVEL)
        elif isinstance(node, ast.ImportFrom) and (node.module or "").startswith("lessen."):
            yield str(node.module).split(".")[1]
        elif isinstance(node, ast.Import):
            yield from (a.name.split(".")[1] for a in node.names if a.name.startswith("lessen."))


def test_every_module_has_its_place_in_the_layers() -> None:
    assert {top(path) for path in FILES} <= set(LEVEL)


def test_imports_point_down_only() -> None:
    upward = [
        f"{path.relative_to(ROOT)} imports lessen.{name}"
        for path in FILES
        for name in imports(path)
        if LEVEL[name] > LEVEL[top(path)] and (top(path), name) not in ASKS
    ]
    assert upward == []


def test_no_file_is_named_for_nothing_in_particular() -> None:
    assert [path for path in FILES if path.stem in FORBIDDEN] == []


def test_files_have_at_most_400_lines() -> None:
    assert {path.name: n for path in FILES if (n := len(path.read_text(encoding="utf-8").splitlines())) > 400} == {}


def test_functions_have_at_most_60_lines() -> None:
    long = [
        f"{path.relative_to(ROOT)}:{node.lineno} {node.name} ({length})"
        for path in FILES
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8")))
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)
        and (length := (node.end_lineno or node.lineno) - node.lineno + 1) > 60
    ]
    assert long == []


def test_nothing_reads_a_pickle() -> None:
    calls = [
        f"{path.relative_to(ROOT)}:{node.lineno}"
        for path in FILES
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8")))
        if (isinstance(node, ast.Import) and any(a.name in ("pickle", "dill", "joblib") for a in node.names))
        or (isinstance(node, ast.Attribute) and node.attr == "load" and ast.unparse(node.value) == "torch")
    ]
    assert calls == []


LEAN = {
    "import lessen": "import lessen",
    "lessen --help": "from lessen.cli import main; main(['--help'])",
    "lessen run --help": "from lessen.cli import main; main(['run', '--help'])",
    "lessen list": "from lessen.cli import main; main(['list'])",
    "lessen models": "from lessen.cli import main; main(['models'])",
    "lessen schema": "from lessen.cli import main; main(['schema'])",
    "the data part": "import lessen.data, lessen.processors",
}


@pytest.mark.parametrize("what", LEAN)
def test_nothing_heavy_is_imported_for(what: str, tmp_path: Path) -> None:
    barred = HEAVY if "data" not in what else {"torch", "transformers", "onnxruntime"}
    code = f"{LEAN[what]}\nimport sys\nprint('IMPORTED', *sorted({barred!r} & set(sys.modules)))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, cwd=tmp_path, check=True)
    assert done.stdout.splitlines()[-1].strip() == "IMPORTED"


def test_help_needs_no_pydantic(tmp_path: Path) -> None:
    code = "from lessen.cli import main; main(['--help'])\nimport sys\nprint('pydantic' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, cwd=tmp_path, check=True)
    assert done.stdout.splitlines()[-1] == "False"


def test_a_recipe_is_refused_without_torch() -> None:
    code = (
        "from lessen.recipe import parse\nfrom lessen.errors import LessenError\nimport sys\n"
        "parse({})\n"
        "try:\n    parse({'prune': {'method': 'nothing'}})\nexcept LessenError as e:\n    print(e.message)\n"
        "print('torch' in sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.splitlines() == ["prune.methods has no 'nothing'", "False"]
