"""How long an answer takes, and images that are refused."""

from __future__ import annotations

import base64
import io
import time

import pytest
from PIL import Image

from lessen.bench import answers
from lessen.errors import DataError


def test_the_first_call_warms_up_and_does_not_count() -> None:
    calls: list[int] = []

    def call() -> int:
        calls.append(len(calls))
        time.sleep(0.3 if len(calls) == 1 else 0.002)
        return calls[-1]

    found, ms = answers._timed(call, 3)
    assert found == 3
    assert len(calls) == 4
    assert 2 <= ms < 200


def _encoded(kind: str, side: int = 3) -> str:
    stream = io.BytesIO()
    Image.new("RGB", (side, side), (9, 8, 7)).save(stream, format=kind)
    return base64.b64encode(stream.getvalue()).decode()


def test_images_become_pixels() -> None:
    assert answers._image(_encoded("PNG"), 0)[0, 0].tolist() == [9, 8, 7]
    assert answers._image(f"data:image/png;base64,{_encoded('PNG')}", 0).shape == (3, 3, 3)


@pytest.mark.parametrize("text", [_encoded("GIF"), _encoded("BMP"), "AAAA", "%%%", "", _encoded("PNG")[:40]])
def test_other_formats_and_broken_files_are_refused(text: str) -> None:
    with pytest.raises(DataError, match="image 2 cannot be read"):
        answers._image(text, 2)


def test_an_image_is_refused_for_its_pixels_before_it_is_unpacked(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(answers, "PIXELS", 8)
    with pytest.raises(DataError, match="3 x 3 pixels; 8 are allowed"):
        answers._image(_encoded("PNG"), 0)
