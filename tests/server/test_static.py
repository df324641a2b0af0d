"""The dashboard's files: small, from this server alone, every sentence in the files of strings, licences beside."""

from __future__ import annotations

import gzip
import re
from collections.abc import Iterator
from html.parser import HTMLParser
from pathlib import Path

import pytest

import lessen.server

STATIC = Path(lessen.server.__file__).parent / "static"
VENDOR = STATIC / "vendor"
SCRIPTS = sorted(p for p in STATIC.rglob("*.js") if VENDOR not in p.parents)
STYLES = sorted(p for p in STATIC.rglob("*.css") if VENDOR not in p.parents)
OURS = [*SCRIPTS, *STYLES, STATIC / "index.html", STATIC / "favicon.svg"]
PAGES = sorted((STATIC / "pages").glob("*.js"))
PAGE_BYTES = 150_000  # gzipped JavaScript that opening a page may cost, shell and libraries with it
ALL_BYTES = 260_000  # of every page together; nobody loads them all
STYLE_BYTES = 40_000
ADDRESS = re.compile(r"""(?:https?:|wss?:)?//[a-z0-9.-]+\.[a-z]{2,}""", re.IGNORECASE)
NAMESPACES = ("http://www.w3.org/2000/svg", "http://www.w3.org/1998/Math/MathML", "http://www.w3.org/1999/xhtml")
IMPORT = re.compile(
    r"""^(?:import|export)\s[^"';()]*?from\s+["'](\.[^"']+)["']|^import\s+["'](\.[^"']+)["']""", re.MULTILINE
)
# A file that chart.js asks for when the first chart is drawn.
LATER = {"chart.js": VENDOR / "uPlot.iife.min.js"}


def relative(path: Path) -> str:
    return path.relative_to(STATIC).as_posix()


def gzipped(path: Path) -> int:
    return len(gzip.compress(path.read_bytes(), 9))


def without_comments(text: str) -> str:
    return re.sub(r"/\*.*?\*/|(?<![:\"'`])//[^\n]*", "", text, flags=re.DOTALL)


def imported(path: Path) -> list[Path]:
    found = [
        (path.parent / (one or other)).resolve() for one, other in IMPORT.findall(path.read_text(encoding="utf-8"))
    ]
    return [*found, LATER[path.name]] if path.name in LATER else found


def needed(*roots: Path) -> set[Path]:
    """Return the scripts that these import, directly or not."""
    seen: set[Path] = set()
    left = list(roots)
    while left:
        path = left.pop()
        if path not in seen:
            seen.add(path)
            left += imported(path)
    return seen


@pytest.mark.parametrize("page", PAGES, ids=lambda p: p.stem)
def test_a_page_costs_little(page: Path) -> None:
    files = needed(STATIC / "app.js", STATIC / "boot.js", page)
    assert sum(map(gzipped, files)) <= PAGE_BYTES, sorted((gzipped(p), relative(p)) for p in files)


def test_all_scripts_and_styles_stay_small() -> None:
    assert sum(map(gzipped, STATIC.rglob("*.js"))) <= ALL_BYTES
    assert sum(map(gzipped, STATIC.rglob("*.css"))) <= STYLE_BYTES


def test_every_import_leads_to_a_file_of_ours() -> None:
    broken = [f"{relative(p)} -> {q.name}" for p in SCRIPTS for q in imported(p) if not q.is_file()]
    outside = [relative(p) for p in SCRIPTS if re.search(r"""\bfrom\s+["'](?!\.)""", p.read_text(encoding="utf-8"))]
    assert (broken, outside) == ([], [])


def test_every_page_of_the_router_has_its_module() -> None:
    names = re.search(r"const PAGES = new Set\(\[(.*?)\]\)", (STATIC / "app.js").read_text(encoding="utf-8"), re.DOTALL)
    assert names
    assert set(re.findall(r'"(\w+)"', names[1])) == {p.stem for p in PAGES}
    for page in PAGES:
        text = page.read_text(encoding="utf-8")
        assert re.search(r"^export const title\b|^export function title\b", text, re.MULTILINE), page
        assert re.search(r"^export (async )?function render\(", text, re.MULTILINE), page


@pytest.mark.parametrize("path", OURS, ids=relative)
def test_nothing_is_fetched_from_another_server(path: Path) -> None:
    text = path.read_text(encoding="utf-8")
    for known in NAMESPACES:
        text = text.replace(known, "")
    assert not ADDRESS.findall(text), path


def tags() -> Iterator[tuple[str, dict[str, str | None]]]:
    found: list[tuple[str, dict[str, str | None]]] = []

    class Reader(HTMLParser):
        def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
            found.append((tag, dict(attrs)))

        def handle_data(self, data: str) -> None:
            inside = found[-1][0] if found else ""
            assert inside not in {"style"}, "an inline style sheet"
            assert inside != "script" or not data.strip(), "an inline script"

    Reader().feed((STATIC / "index.html").read_text(encoding="utf-8"))
    yield from found


def test_the_page_has_no_inline_script_or_style() -> None:
    for tag, attributes in tags():
        assert tag != "style"
        assert tag != "script" or attributes.get("src"), "an inline script"
        assert not [name for name in attributes if name == "style" or name.startswith("on")], attributes


def test_the_page_names_files_that_exist_and_its_language() -> None:
    names = [a.get("src") or a.get("href") or "" for tag, a in tags() if tag in {"script", "link"}]
    assert [n for n in names if not (STATIC.parent / n).is_file()] == []
    assert ("html", {"lang": "en"}) in list(tags())


@pytest.mark.parametrize("path", SCRIPTS, ids=relative)
def test_scripts_make_no_markup_of_text_and_no_style_attribute(path: Path) -> None:
    text = without_comments(path.read_text(encoding="utf-8"))
    for forbidden in ("innerHTML", "outerHTML", "insertAdjacentHTML", "document.write", "eval(", "new Function"):
        assert forbidden not in text, forbidden
    assert not re.search(r"""setAttribute\(\s*["']style["']""", text), "the content policy refuses it"
    assert not re.search(r"""\bstyle:\s*["'`]""", text), "the content policy refuses it; give an object"


# Words that stand in code: names of keys and header fields, and the like.
KEYS = {
    "Accept", "Content-Type", "Retry-After", "Enter", "Escape", "Tab", "Home", "End", "PageUp", "PageDown",
    "Space", "Backspace", "Delete", "ArrowLeft", "ArrowRight", "ArrowUp", "ArrowDown", "Shift", "Control",
    "Alt", "Meta", "AbortError", "ApiError", "Python", "Error", "Infinity", "NaN", "Progress", "Log",
    "StageStarted", "StageFinished", "StageSkipped", "RowMeasured", "RunFinished", "RunStateChanged", "SELECT",
    "INPUT", "TEXTAREA", "GET", "POST", "DELETE", "ResNet-18", "T5-small", "MobileNetV2",
}  # fmt: skip
LITERAL = re.compile(r'"((?:[^"\\\n]|\\.)*)"|`((?:[^`\\]|\\.)*)`')


def sentences(text: str) -> list[str]:
    """Return the literals that read as English: two words or more with a capital or a stop, or one capitalised word."""
    out = []
    for double, back in LITERAL.findall(without_comments(text)):
        literal = re.sub(r"\$\{(?:[^{}]|\{[^{}]*\})*\}", " ", double or back).strip()
        words = re.findall(r"[A-Za-z]{2,}", literal)
        prose = len(words) >= 3 and re.search(r"[a-z] [a-z]", literal) and re.search(r"[A-Z]|[.,;:!?](\s|$)", literal)
        title = re.fullmatch(r"[A-Z][a-z]+(?: [a-z]+)*[.:?!…]?", literal) and literal not in KEYS
        if (prose or title) and not re.search(r"[{}()=<>#]|--|px|rem|\bvar\b", literal):
            out.append(literal)
    return out


@pytest.mark.parametrize("path", [p for p in SCRIPTS if not p.name.startswith("strings")], ids=relative)
def test_every_sentence_stands_in_the_files_of_strings(path: Path) -> None:
    assert sentences(path.read_text(encoding="utf-8")) == []


def test_the_search_for_sentences_finds_them() -> None:
    assert sentences('const a = "The run has failed.";') == ["The run has failed."]
    assert sentences('h("p", null, "Cancel")') == ["Cancel"]
    assert sentences("toast(`Deleted ${name} for good.`)") == ["Deleted   for good."]
    assert sentences('h("div", { class: "card wide live" }); // Not a sentence that counts.') == []


@pytest.mark.parametrize(
    ("library", "licence", "holder"),
    [
        ("uPlot.iife.min.js", "LICENSE.uPlot.txt", "Leon Sorokin"),
        ("socket.io.esm.min.js", "LICENSE.socket.io-client.txt", "Guillermo Rauch"),
    ],
)
def test_vendored_libraries_come_with_their_licences(library: str, licence: str, holder: str) -> None:
    assert (VENDOR / library).stat().st_size > 10_000
    text = (VENDOR / licence).read_text(encoding="utf-8")
    assert holder in text
    assert "Permission is hereby granted, free of charge" in text


def test_everything_vendored_is_known() -> None:
    assert {p.name for p in VENDOR.iterdir()} == {
        "LICENSE.socket.io-client.txt", "LICENSE.uPlot.txt", "socket.io.esm.min.js",
        "uPlot.iife.min.js", "uPlot.min.css",
    }  # fmt: skip


@pytest.mark.parametrize("path", SCRIPTS, ids=relative)
def test_files_stay_readable(path: Path) -> None:
    lines = path.read_text(encoding="utf-8").splitlines()
    assert len(lines) <= (600 if path.name.startswith("strings") else 400)
    assert lines[0].startswith("//"), "say at the top what the file is for"
