"""A WordPiece vocabulary, the same in every run. Imports no torch.

The library's own WordPiece trainer numbers pieces in the order of a randomly seeded hash map, so that two runs
over the same texts disagree. Its byte-pair trainer does not: here it is run on words that begin with a marker, and
its merges are written as WordPiece ("▁wo" becomes "wo", "rd" becomes "##rd").
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence
from typing import Any

SPECIAL = ("[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]")
START = "▁"
ALPHABET = 1000  # most characters that get pieces of their own; rarer ones are unknown
SEEN = 2  # times a pair is seen before it is merged


def train(texts: Sequence[str], vocab_size: int) -> Any:
    """Return a `tokenizers.Tokenizer`: NFC, lower case, split at white space and punctuation, [CLS] text [SEP].

    Args:
        texts: in any order; the result does not depend on it.
        vocab_size: most entries, special tokens included.
    """
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers, processors

    vocabulary = {piece: i for i, piece in enumerate(_pieces(texts, vocab_size))}
    tokenizer = Tokenizer(models.WordPiece(vocabulary, unk_token="[UNK]", max_input_chars_per_word=100))  # noqa: S106
    tokenizer.normalizer = _normalizer()
    tokenizer.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    tokenizer.decoder = decoders.WordPiece()
    tokenizer.add_special_tokens(list(SPECIAL))
    tokenizer.post_processor = processors.TemplateProcessing(
        single="[CLS] $A [SEP]",
        pair="[CLS] $A [SEP] $B:1 [SEP]:1",
        special_tokens=[("[CLS]", vocabulary["[CLS]"]), ("[SEP]", vocabulary["[SEP]"])],
    )
    return tokenizer


def _normalizer() -> Any:
    from tokenizers import normalizers

    return normalizers.Sequence([normalizers.NFC(), normalizers.Lowercase()])  # accents and joiners stay


def _pieces(texts: Sequence[str], vocab_size: int) -> list[str]:
    """Return the vocabulary in the order of its ids: special tokens, characters, merges as they were found."""
    from tokenizers import Tokenizer, models, trainers

    words = _words(texts)
    alphabet = _alphabet(words)
    trainer = trainers.BpeTrainer(vocab_size=vocab_size, min_frequency=SEEN, show_progress=False)
    learner = Tokenizer(models.BPE())
    learner.train_from_iterator(_marked(words, set(alphabet)), trainer)
    learned = sorted(learner.get_vocab().items(), key=lambda item: item[1])
    merges = (_as_wordpiece(piece) for piece, _ in learned if len(piece.removeprefix(START)) > 1)
    single = [form for character in alphabet for form in (character, f"##{character}")]
    pieces = list(dict.fromkeys([*SPECIAL, *single, *merges]))
    return pieces[: max(vocab_size, len(SPECIAL))]


def _words(texts: Sequence[str]) -> Counter[str]:
    from tokenizers import pre_tokenizers

    normalizer, splitter = _normalizer(), pre_tokenizers.BertPreTokenizer()
    counts: Counter[str] = Counter()
    for text in texts:
        counts.update(word for word, _ in splitter.pre_tokenize_str(normalizer.normalize_str(text)))
    return counts


def _alphabet(words: Counter[str]) -> list[str]:
    counts: Counter[str] = Counter()
    for word, count in words.items():
        for character in word:
            counts[character] += count
    kept = sorted(counts, key=lambda character: (-counts[character], character))[:ALPHABET]
    return sorted(kept)


def _marked(words: Counter[str], alphabet: set[str]) -> Iterator[str]:
    """Yield each word with its marker as often as it occurs; words of unknown characters are left out."""
    for word, count in sorted(words.items()):
        if START not in word and alphabet.issuperset(word):
            for _ in range(count):
                yield START + word


def _as_wordpiece(piece: str) -> str:
    return piece.removeprefix(START) if piece.startswith(START) else f"##{piece}"
