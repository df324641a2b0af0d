"""A byte-level BPE tokenizer, the same in every run: any text survives it. Imports no torch.

Source: Radford et al. 2019, Language Models are Unsupervised Multitask Learners, section 2.2.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from lessen.errors import RecipeError

SPECIAL = ("<pad>", "</s>", "<unk>")
BYTES = 256
SEEN = 2  # times a pair is seen before it is merged


def train(texts: Sequence[str], vocab_size: int) -> Any:
    """Return a `tokenizers.Tokenizer`: no normalization, every byte has a token, text </s>.

    The library's byte-pair trainer breaks ties by token id and not by the order of a hash map, and the alphabet is
    that of all bytes; texts are sorted besides, so that nothing is left that their order could change.

    Args:
        texts: in any order; the result does not depend on it.
        vocab_size: most entries, special tokens included.

    Raises:
        RecipeError: there is no room for the bytes.
    """
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers, processors, trainers

    if vocab_size < BYTES + len(SPECIAL):
        raise RecipeError(
            f"vocab_size is {vocab_size}; bytes and special tokens alone take {BYTES + len(SPECIAL)}",
            f"give {BYTES + len(SPECIAL)} or more",
        )
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=vocab_size,
        min_frequency=SEEN,
        special_tokens=list(SPECIAL),
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    tokenizer.train_from_iterator(sorted(texts), trainer)
    end = SPECIAL[1]
    tokenizer.post_processor = processors.TemplateProcessing(
        single=f"$A {end}",
        pair=f"$A {end} $B:1 {end}:1",
        special_tokens=[(end, tokenizer.token_to_id(end))],
    )
    return tokenizer
