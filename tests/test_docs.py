"""What the documents say can be typed, and is there."""

from __future__ import annotations

import re
import shlex
from pathlib import Path

import pytest
import yaml

from lessen import errors, legacy
from lessen.cli import parser
from lessen.recipe import Recipe, parse

ROOT = Path(__file__).parents[1]
PAGES = [ROOT / "README.md", ROOT / "CONTRIBUTING.md", *sorted((ROOT / "docs").rglob("*.md"))]
COMMANDS = [
    (page.name, line.removeprefix("$ ").partition("  #")[0].partition(" > ")[0].strip())
    for page in PAGES
    for block in re.findall(r"```console\n(.*?)```", page.read_text(encoding="utf-8"), re.DOTALL)
    for line in block.splitlines()
    if line.startswith("$ lessen")
] + [
    ("help", line.partition("   ")[0].partition(" > ")[0])
    for line in parser.EXAMPLES.replace("  lessen", "lessen").splitlines()
]


@pytest.mark.parametrize(("page", "command"), COMMANDS)
def test_every_command_of_the_documents_parses(page: str, command: str) -> None:
    _, name, *words = shlex.split(command)
    one = parser.parser_of(name)
    one.parse_args(one.canonical(words))


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_links_lead_somewhere(page: Path) -> None:
    links = re.findall(r"\]\((?!http)([^)#]+)\)", page.read_text(encoding="utf-8"))
    assert [link for link in links if not (page.parent / link).exists()] == []


def test_the_tutorials_recipe_is_accepted() -> None:
    text = (ROOT / "docs" / "tutorial.md").read_text(encoding="utf-8")
    (block,) = re.findall(r"```yaml\n(.*?)```", text, re.DOTALL)
    assert parse(yaml.safe_load(block)).name == "reviews"


def test_every_old_flag_stands_in_its_table() -> None:
    text = (ROOT / "docs" / "legacy.md").read_text(encoding="utf-8")
    assert [flag.name for flag in legacy.FLAGS if f"| `--{flag.name}`" not in text] == []


def test_every_exit_code_is_documented() -> None:
    text = (ROOT / "docs" / "cli.md").read_text(encoding="utf-8")
    kinds = [k for k in vars(errors).values() if isinstance(k, type) and issubclass(k, errors.LessenError)]
    assert {kind.exit_code for kind in kinds} | {0, 130} == {
        int(code) for code in re.findall(r"^\| (\d+) \|", text, re.M)
    }


def test_settings_that_the_documents_name_exist() -> None:
    sections = set(Recipe.model_fields)
    for page in PAGES:
        for name in re.findall(r"`(?:--)?([a-z]+(?:\.[a-z_]+)+)[`: ]", page.read_text(encoding="utf-8")):
            if name.split(".")[0] in sections and not name.endswith((".py", ".json", ".html", ".jsonl")):
                value: object = Recipe(quantize={"train": {}})  # type: ignore[arg-type]
                for part in name.split("."):
                    assert hasattr(value, part), f"{page.name}: {name}"
                    value = getattr(value, part)


def test_scripts_are_executable_and_sound() -> None:
    import subprocess

    for script in [*(ROOT / "scripts").iterdir(), ROOT / ".ci" / "run"]:
        assert script.stat().st_mode & 0o111, script
        subprocess.run(["bash", "-n", str(script)], check=True)
