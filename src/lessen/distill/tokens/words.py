"""What tokens stand for, in bytes: where they lie in a text, and which ones two vocabularies share."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import Tensor

from lessen.errors import ModelError

if TYPE_CHECKING:
    from lessen.processors import TextProcessor

Array = np.ndarray[Any, Any]
SPACE = "▁"  # how sentencepiece writes a space
BYTE = re.compile(r"<0x([0-9A-F]{2})>")
LOSSY = ("WordPiece", "BertPreTokenizer", "WhitespaceSplit", "Whitespace")  # spaces are gone, or guessed when decoding


def byte_offsets(ids: Array, words: Sequence[bytes | None], text: str) -> Array:
    """Return the bytes of a text that each token covers, int64 [tokens, 2]; special tokens cover none.

    A space that the tokenizer puts before the text is taken off its first token.

    Args:
        ids: the tokens of the whole text.
        words: see `token_bytes`.

    Raises:
        ModelError: the tokens do not spell the text.
    """
    spelled = [words[int(i)] or b"" for i in ids]
    whole, wanted = b"".join(spelled), text.encode()
    sizes = np.asarray([len(s) for s in spelled], dtype=np.int64)
    if whole != wanted and whole == b" " + wanted:
        sizes[np.flatnonzero(sizes)[0]] -= 1
    elif whole != wanted:
        at = next(
            (i for i, (a, b) in enumerate(zip(whole, wanted, strict=False)) if a != b), min(len(whole), len(wanted))
        )
        raise ModelError(
            f"the tokens do not spell the text: at byte {at} they say {whole[at : at + 12]!r}, the text "
            f"{wanted[at : at + 12]!r} (a tokenizer that loses or normalizes something)",
            "cross_tokenizer align needs tokenizers that give the text back, as byte-level ones do",
        )
    ends = np.cumsum(sizes)
    return np.stack([ends - sizes, ends], axis=1)


def token_bytes(processor: TextProcessor) -> list[bytes | None]:
    """Return the bytes that each token id stands for; None: special tokens and ids without one.

    Raises:
        ModelError: the tokenizer loses spaces, so its tokens do not say the text.
    """
    form = json.loads(processor.tokenizer.to_str())
    kinds = set(_kinds(form.get("pre_tokenizer"))) | set(_kinds(form.get("decoder"))) | {form["model"].get("type")}
    lossy = kinds & set(LOSSY)
    if lossy and not kinds & {"ByteLevel", "Metaspace"}:
        raise ModelError(
            f"a tokenizer of this kind ({', '.join(sorted(map(str, lossy)))}) does not give the text back",
            "cross_tokenizer align needs byte-level or sentencepiece tokenizers on both sides",
        )
    added = {token["id"]: token for token in form.get("added_tokens", ())}
    words: list[bytes | None] = [None] * processor.vocab_size
    for token, number in processor.tokenizer.get_vocab(with_added_tokens=True).items():
        if number in added:
            words[number] = None if added[number]["special"] else token.encode()
        elif "ByteLevel" in kinds:
            words[number] = bytes(_LETTERS[c] for c in token) if all(c in _LETTERS for c in token) else None
        else:
            byte = BYTE.fullmatch(token)
            words[number] = bytes([int(byte[1], 16)]) if byte else token.replace(SPACE, " ").encode()
    return words


@dataclass(frozen=True, eq=False)
class Vocabularies:
    """The tokens that two vocabularies share; the i-th of `student` has the bytes of the i-th of `teacher`.

    Attributes:
        student, teacher: ids, int64 [shared].
        student_size, teacher_size: tokens of each vocabulary.
    """

    student: Tensor
    teacher: Tensor
    student_size: int
    teacher_size: int

    @cached_property
    def student_rest(self) -> Tensor:
        """Ids that only the student has, int64."""
        return _rest(self.student, self.student_size)

    @cached_property
    def teacher_rest(self) -> Tensor:
        """Ids that only the teacher has, int64."""
        return _rest(self.teacher, self.teacher_size)

    @cached_property
    def pairs(self) -> Array:
        """The teacher's id of each of the student's, −1 where it has none, int64 [student_size]."""
        out = np.full(self.student_size, -1, dtype=np.int64)
        out[self.student.numpy()] = self.teacher.numpy()
        return out

    def same(self, student_ids: Array, teacher_ids: Array) -> Array:
        """Whether tokens are the same shared one, bool."""
        return np.asarray(self.pairs[student_ids] == teacher_ids)


def shared(
    teacher: Sequence[bytes | None], student: Sequence[bytes | None], ends: tuple[int | None, int | None] = (None, None)
) -> Vocabularies:
    """Return the tokens that two vocabularies share.

    Of several tokens with the same bytes (a letter and its fallback byte) the last one counts; the others are no part
    of the shared vocabulary.

    Args:
        teacher, student: the bytes of each token; see `token_bytes`.
        ends: the end tokens of teacher and student, which mean the same.

    Raises:
        ModelError: there is none.
    """
    theirs = {word: number for number, word in enumerate(teacher) if word}
    ours = {word: number for number, word in enumerate(student) if word}
    both = [(number, theirs[word]) for word, number in ours.items() if word in theirs]
    if not both:
        raise ModelError(
            "teacher and student share no token", "cross_tokenizer align needs some; distill on sequences: teacher"
        )
    if ends[0] is not None and ends[1] is not None:
        both = [pair for pair in both if pair[0] != ends[1] and pair[1] != ends[0]] + [(ends[1], ends[0])]
    table = torch.tensor(sorted(both), dtype=torch.int64)
    return Vocabularies(table[:, 0], table[:, 1], len(student), len(teacher))


def vocabularies(teacher: TextProcessor, student: TextProcessor) -> Vocabularies:
    """Return the tokens that two tokenizers share, end tokens included.

    Raises:
        ModelError: they are the same tokenizer, share nothing, or lose part of the text.
    """
    if teacher.tokenizer.get_vocab(with_added_tokens=True) == student.tokenizer.get_vocab(with_added_tokens=True):
        raise ModelError(
            "teacher and student have the same vocabulary", "leave distill.cross_tokenizer out: it is exact and faster"
        )
    ends = (getattr(teacher, "eos_id", None), getattr(student, "eos_id", None))
    return shared(token_bytes(teacher), token_bytes(student), ends)


def _rest(ids: Tensor, size: int) -> Tensor:
    there = torch.ones(size, dtype=torch.bool)
    there[ids] = False
    return there.nonzero()[:, 0]


def _kinds(part: Any) -> Iterator[str]:
    """Yield the types of a tokenizer's part, those within a sequence too."""
    if isinstance(part, dict):
        yield str(part.get("type"))
        for inner in (*part.get("pretokenizers", ()), *part.get("decoders", ())):
            yield from _kinds(inner)


def _letters() -> dict[str, int]:
    """Return the byte that each letter of a byte-level vocabulary stands for (GPT-2): visible Latin-1 as itself."""
    plain = [b for b in range(256) if 33 <= b <= 126 or 161 <= b <= 172 or 174 <= b <= 255]
    hidden = [b for b in range(256) if b not in plain]
    return {chr(b): b for b in plain} | {chr(256 + i): b for i, b in enumerate(hidden)}


_LETTERS = _letters()
