"""The HTML report as a browser draws it."""

import re
import shutil
import subprocess

import numpy as np
import pytest
from PIL import Image

from lessen.report import write

pytestmark = pytest.mark.slow
FLAGS = (
    "--headless", "--no-sandbox", "--disable-gpu", "--no-first-run", "--disable-background-networking",
    "--disable-component-update", "--disable-sync", "--hide-scrollbars", "--virtual-time-budget=2000",
)  # fmt: skip


def chromium(folder, *arguments):
    found = shutil.which("chromium")
    if found is None:
        pytest.skip("chromium is not installed")
    done = subprocess.run(
        [found, *FLAGS, f"--user-data-dir={folder / 'profile'}", *arguments],
        capture_output=True, text=True, timeout=120, cwd=folder,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr[-1000:]
    return done.stdout


@pytest.fixture
def page(make_report, tmp_path):
    write(make_report(), tmp_path)
    return tmp_path / "report.html"


@pytest.mark.parametrize("width", [360, 1280])
def test_the_report_is_drawn_at_phone_and_desk_width(page, tmp_path, width):
    shot = tmp_path / "shot.png"
    chromium(tmp_path, f"--screenshot={shot}", f"--window-size={width},2400", page.as_uri())
    pixels = np.asarray(Image.open(shot).convert("RGB")).astype(int)
    background = pixels[2, 2]
    drawn = np.abs(pixels - background).sum(axis=2) > 60
    assert 0.02 < drawn.mean() < 0.6
    assert drawn[:400].any()
    assert drawn[-400:].any()


def test_the_report_asks_for_nothing_beyond_its_file(page, tmp_path):
    document = chromium(tmp_path, "--dump-dom", page.as_uri())
    assert document.count("<svg") >= 5
    assert not re.search(r"""(?:src|href)=["'](?!#|data:|\.|[\w/-]+\.(?:json|csv|html)|stages/)""", document)
    assert "NaN" not in re.sub(r"<style.*?</style>", "", document, flags=re.DOTALL)
