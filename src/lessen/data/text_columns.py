"""Columns of tasks that generate: pairs of source and target, and documents, prompts with responses, chats."""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any

from lessen import recipe
from lessen.data.columns import TEXT_NAMES, Grid, find, missing, text_cell
from lessen.data.table import Spans, Table
from lessen.errors import DataError

SOURCE_NAMES = ("source", "src", "input", "input_text", "question", "article", "document", *TEXT_NAMES)
TARGET_NAMES = ("target_text", "translation", "summary", "highlights", "response", "answer", "completion", "tgt")
MESSAGE_NAMES = ("messages", "conversation", "conversations", "chat")
ROLES = {"system": "System", "user": "User", "assistant": "Assistant"}


def pair_columns(grid: Grid, cfg: recipe.Data) -> tuple[str, str, Sequence[Any], Sequence[Any]] | None:
    """Return the names and cells of the source and target columns, or None where the rows have labels.

    There are targets where data.target_column names them; else, unless data.label_column is given, where a column is
    named after each of data.languages, or holds objects with them ("translation"), or has a usual name of targets.
    """
    if cfg.target_column is None and (cfg.label_column is not None or cfg.label_columns):
        return None
    if cfg.target_column is None and cfg.languages is not None:
        return _by_language(grid, cfg, cfg.languages)
    lower = {name.lower() for name in grid.names}
    if cfg.target_column is None and not lower & set(TARGET_NAMES):
        return None
    target = find(grid, cfg.target_column, TARGET_NAMES, "target_column")
    source = find(grid, cfg.text_column, SOURCE_NAMES, "text_column")
    if source == target:
        raise DataError(f"column {grid.names[source]!r} is both source and target", "name two different columns")
    return grid.names[source], grid.names[target], grid.column(source), grid.column(target)


def _by_language(
    grid: Grid, cfg: recipe.Data, languages: tuple[str, str]
) -> tuple[str, str, Sequence[Any], Sequence[Any]]:
    """Return the columns named after the languages, or the parts of a column of objects by language."""
    if set(languages) <= set(grid.names):
        first, second = (grid.names.index(language) for language in languages)
        return languages[0], languages[1], grid.column(first), grid.column(second)
    cells = grid.column(find(grid, cfg.text_column, ("translation",), "target_column"))
    for row, cell in enumerate(cells, 1):
        if not isinstance(cell, dict) or not set(languages) <= set(cell):
            has = ", ".join(map(str, cell)) if isinstance(cell, dict) else type(cell).__name__
            raise DataError(
                f"row {row} of {grid.origin} holds {has}; data.languages asks for {', '.join(languages)}",
                "name the columns: --data.text_column and --data.target_column",
            )
    first_cells, second_cells = ([cell[language] for cell in cells] for language in languages)
    return languages[0], languages[1], first_cells, second_cells


def pairs(grid: Grid, source: str, target: str, sources: Sequence[Any], targets: Sequence[Any]) -> Table:
    """Return sources with their targets; a row without one of the two is missing."""
    places = [f"row {i + 1} of {grid.origin}" for i in range(len(sources))]
    return Table(
        kind="text",
        inputs=[text_cell(cell, place, grid) for cell, place in zip(sources, places, strict=True)],
        labels=[text_cell(cell, place, grid) for cell, place in zip(targets, places, strict=True)],
        places=places,
        parts=grid.parts,
        facts={"path": grid.origin, "columns": {"source": source, "target": target}, **grid.facts},
        form="pairs",
    )


def documents(grid: Grid, cfg: recipe.Data) -> Table:
    """Return the documents of a file: chats, prompts with responses, or texts.

    With `supervise: response` only answers are learned, and rows without one are missing.

    Raises:
        DataError: a column is not there, a role is unknown, or there are no responses to supervise.
    """
    only = cfg.supervise == "response"
    lower = {name.lower() for name in grid.names}
    chats = cfg.messages_column is not None or (
        cfg.text_column is None
        and cfg.target_column is None
        and not lower & set(TEXT_NAMES)
        and lower & set(MESSAGE_NAMES)
    )
    rows: list[tuple[str, Spans] | None]
    if chats:
        at = find(grid, cfg.messages_column, MESSAGE_NAMES, "messages_column")
        used = {"messages": grid.names[at]}
        places = _places(grid, len(cells := grid.column(at)))
        rows = [_chat(cell, place, grid, cfg.chat_format) for cell, place in zip(cells, places, strict=True)]
    else:
        at = find(grid, cfg.text_column, TEXT_NAMES, "text_column")
        used = {"text": grid.names[at]}
        places = _places(grid, len(cells := grid.column(at)))
        texts = [text_cell(cell, place, grid) for cell, place in zip(cells, places, strict=True)]
        rows = [None if text is None else (text, ()) for text in texts]
        if cfg.target_column is not None:
            second = find(grid, cfg.target_column, TARGET_NAMES, "target_column")
            used["response"] = grid.names[second]
            answers = [text_cell(c, place, grid) for c, place in zip(grid.column(second), places, strict=True)]
            rows = [_answered(text, answer) for text, answer in zip(texts, answers, strict=True)]
        elif only:
            raise DataError(
                f"data.supervise is response, and {grid.origin} is read as texts without responses",
                "name data.messages_column or data.target_column, or set data.supervise to all",
            )
    there = [row is not None and (not only or bool(row[1])) for row in rows]
    return Table(
        kind="text",
        inputs=[row[0] if row is not None and keep else None for row, keep in zip(rows, there, strict=True)],
        labels=["" if keep else None for keep in there],
        places=places,
        parts=grid.parts,
        facts={"path": grid.origin, "columns": used, **grid.facts},
        form="documents",
        spans=[row[1] if row is not None and only else () for row in rows],
    )


def _places(grid: Grid, rows: int) -> list[str]:
    return [f"row {i + 1} of {grid.origin}" for i in range(rows)]


def _answered(prompt: str | None, response: str | None) -> tuple[str, Spans] | None:
    """Join prompt and response as they are; what separates them belongs to either."""
    if prompt is None or response is None:
        return None
    return prompt + response, ((len(prompt), len(prompt) + len(response)),)


def _chat(cell: Any, place: str, grid: Grid, form: str) -> tuple[str, Spans] | None:
    """Return the text of a chat and the spans of the assistant's answers, up to the end of their turns.

    Raises:
        DataError: the cell is no list of {role, content}, or a role is unknown.
    """
    if missing(cell):
        return None
    if isinstance(cell, str):
        try:
            cell = json.loads(cell)
        except json.JSONDecodeError as error:
            raise DataError(f"the messages of {place} are not JSON: {error.msg}", "mend the row") from None
    if not isinstance(cell, list | tuple):
        raise DataError(f"the messages of {place} are {type(cell).__name__}", "give a list of {role, content}")
    text, spans = "", []
    for number, message in enumerate(cell, 1):
        role, content = _message(message, f"message {number} of {place}")
        before, after = (f"{ROLES[role]}:", "\n")
        if form == "chatml":
            before, after = f"<|im_start|>{role}\n", "<|im_end|>\n"
        else:
            content = f" {content}"  # the space belongs to the answer, so that a prompt ends at the colon
        start = len(text) + len(before)
        text += before + content + after
        if role == "assistant":
            spans.append((start, len(text)))
    return (text, tuple(spans)) if text_cell(text, place, grid) else None


def _message(message: Any, place: str) -> tuple[str, str]:
    if not isinstance(message, dict) or not {"role", "content"} <= set(message):
        has = ", ".join(map(str, message)) if isinstance(message, dict) else type(message).__name__
        raise DataError(f"{place} has {has or 'nothing'}", "give role and content")
    role, content = message["role"], message["content"]
    if role not in ROLES:
        raise DataError(f"{place} has the role {role!r}; allowed are {', '.join(ROLES)}", "rename the role")
    if not isinstance(content, str):
        raise DataError(f"the content of {place} is {type(content).__name__}", "contents must be strings")
    return role, content
