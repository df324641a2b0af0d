"""Each kind of bad input: one clear line, exit 2, and nothing half-written."""

import numpy as np
import pytest
from PIL import Image

from lessen.cli import main

GOOD = "text,label\n" + "".join(f"word{i} here,{'yes' if i % 2 else 'no'}\n" for i in range(40))


DIGITS = ("--task", "image-classification", "--data.source", "digits", "--teacher.model", "scratch:resnet-tiny")


def csv(folder, text, encoding="utf-8"):
    file = folder / "data.csv"
    file.write_bytes(text.encode(encoding))
    return ["--data.path", str(file)]


def broken_image(folder):
    for label in ("cat", "dog"):
        (folder / "images" / label).mkdir(parents=True)
        for i in range(5):
            pixels = np.random.default_rng(i).integers(0, 255, (8, 8, 3), dtype=np.uint8)
            Image.fromarray(pixels).save(folder / "images" / label / f"{i}.png")
    (folder / "images" / "dog" / "4.png").write_bytes(b"not an image")
    return [
        "--task",
        "image-classification",
        "--data.path",
        str(folder / "images"),
        "--teacher.model",
        "scratch:resnet-tiny",
    ]


KINDS = {
    "a file that is not there": (lambda d: ["--data.path", str(d / "absent.csv")], ["absent.csv"]),
    "an empty file": (lambda d: csv(d, ""), ["empty"]),
    "no text column": (lambda d: csv(d, GOOD.replace("text,", "words_x,")), ["words_x", "text"]),
    "a column that does not exist": (lambda d: [*csv(d, GOOD), "--data.label_column", "lable"], ["lable", "label"]),
    "one class only": (lambda d: csv(d, GOOD.replace("yes", "no")), ["'no'"]),
    "empty texts only": (lambda d: csv(d, "text,label\n,yes\n ,no\n"), ["text"]),
    "an unknown label": (
        lambda d: [*csv(d, GOOD + "odd one,perhaps\n"), "--data.labels", "no,yes"],
        ["perhaps", "yes"],
    ),
    "a wrong encoding": (lambda d: csv(d, GOOD + "caf\u00e9,yes\n", "latin-1"), ["encoding"]),
    "a broken image": (broken_image, ["4.png"]),
    "a label too rare to split": (lambda d: csv(d, GOOD + "lonely,maybe\n"), ["maybe"]),
    "a preset that does not exist": (
        lambda d: [*csv(d, GOOD), "--teacher.model", "scratch:bert-smal"],
        ["bert-small"],
    ),
    "a value out of range": (lambda d: [*csv(d, GOOD), "--prune.remove_frac", "1.5"], ["prune.remove_frac", "1.5"]),
    "a flag that does not exist": (lambda d: [*csv(d, GOOD), "--prune.remove_frak", "0.5"], ["remove_frac"]),
    "a pickled model": (lambda d: [*csv(d, GOOD), "--teacher.model", "model.pt"], ["model.pt", "safetensors"]),
    "dynamic INT8 of a CNN": (
        lambda d: [*DIGITS, "--pipeline", "quant_only", "--quantize.backend", "ort_dynamic"],
        ["ort_dynamic", "ort_static"],
    ),
    "heads that do not divide the width": (lambda d: [*csv(d, GOOD), "--teacher.heads", "7"], ["7"]),
    "a device that is not here": (lambda d: [*csv(d, GOOD), "--device", "cuda:77"], ["cuda:77", "cpu"]),
}  # fmt: skip


@pytest.mark.parametrize("kind", KINDS)
def test_bad_input_is_one_line_exit_2_and_leaves_nothing(kind, tmp_path, capsys):
    make, words = KINDS[kind]
    out = tmp_path / "out"
    code = main(["run", *make(tmp_path), "--output_dir", str(out), "--cache_dir", str(tmp_path / "cache")])
    lines = [line for line in capsys.readouterr().err.splitlines() if line.strip()]
    errors = [line for line in lines if line.startswith("error:")]
    assert code == 2, lines
    assert len(errors) == 1, lines
    assert all(word in errors[0] for word in words), errors[0]
    assert "Traceback" not in "".join(lines)
    assert not out.exists()
