"""The 1,797 handwritten digits that come with scikit-learn: 8 x 8 pixels, classes 0 to 9. Needs no network."""

from __future__ import annotations

from collections import Counter

import numpy as np

from lessen import recipe
from lessen.data.table import Table, holds

EMBEDDED = True
BRIGHTEST = 16  # the data set counts from 0 to 16


def read(cfg: recipe.Data, task: str) -> Table:
    """Return the digits as uint8 RGB images [8, 8, 3]; grey level 16 becomes 255.

    Args:
        cfg: `limit` keeps the first rows of each class.

    Source: Alpaydin and Kaynak 1998, UCI optical recognition of handwritten digits, test set.
    """
    from sklearn.datasets import load_digits

    holds("image", task, "digits")
    digits = load_digits()
    grey = np.round(digits.images * (255 / BRIGHTEST)).astype(np.uint8)
    seen: Counter[str] = Counter()
    rows = []
    for row, label in enumerate(digits.target.tolist()):
        seen[str(label)] += 1
        if cfg.limit is None or seen[str(label)] <= cfg.limit:
            rows.append(row)
    return Table(
        kind="image",
        inputs=[np.repeat(grey[row][:, :, None], 3, axis=2) for row in rows],
        labels=[str(digits.target[row]) for row in rows],
        places=[f"digit {row + 1}" for row in rows],
        facts={"path": "scikit-learn load_digits"},
    )
