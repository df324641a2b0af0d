"""Answer image files with this model: python how_to_load.py image.png ["another.png" ...]

Needs: numpy, onnxruntime, pillow. Neither torch nor lessen.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime
from PIL import Image

HERE = Path(__file__).resolve().parent


def read(name: str) -> dict[str, Any]:
    """Return the values of a JSON file beside this one."""
    values: dict[str, Any] = json.loads((HERE / name).read_text(encoding="utf-8"))
    return values


def pixels(files: list[str]) -> dict[str, Any]:
    """Return normalised pixels [files, channels, side, side]."""
    settings = read("preprocessor_config.json")
    images = np.stack([resized(Image.open(file).convert("RGB"), settings) for file in files]).astype(np.float32)
    mean, std = (np.array(settings[name], dtype=np.float32) for name in ("image_mean", "image_std"))
    return {"pixel_values": np.ascontiguousarray(((images / np.float32(255) - mean) / std).transpose(0, 3, 1, 2))}


def resized(image: Image.Image, settings: dict[str, Any]) -> Any:
    """Return uint8 pixels [side, side, channels]: resized as a whole, or its centre."""
    image = image.convert("L") if settings["channels"] == 1 else image
    how, size = Image.Resampling(settings["resample"]), settings["size"]
    side = size.get("height", size.get("shortest_edge"))
    if "height" in size:
        image = image if image.size == (side, side) else image.resize((side, side), how)
    else:
        edge, short = int(side / settings["crop_pct"]), min(image.size)
        image = image.resize((int(image.width * edge / short), int(image.height * edge / short)), how)
        left, top = (image.width - side) // 2, (image.height - side) // 2
        image = image.crop((left, top, left + side, top + side))
    return np.asarray(image, dtype=np.uint8).reshape(side, side, settings["channels"])


def probabilities(logits: Any, info: dict[str, Any]) -> Any:
    """Return the probability of every label, [files, labels]."""
    z = logits.astype(np.float64)
    if info["output"] == "sigmoid":
        p = 1 / (1 + np.exp(-z))
        return p if info["multi_label"] else np.concatenate([1 - p, p], axis=1)
    e = np.exp(z - z.max(axis=1, keepdims=True))
    return e / e.sum(axis=1, keepdims=True)


def label(p: Any, info: dict[str, Any]) -> Any:
    """Return the label of one image; a list of labels where several may hold."""
    names = info["labels"]
    if info["multi_label"]:
        return [name for name, value in zip(names, p, strict=True) if value >= info["threshold"]]
    return names[int(p[1] >= info["threshold"])] if len(names) == 2 else names[int(p.argmax())]


def main(files: list[str]) -> None:
    """Print one JSON line an image."""
    manifest = read("lessen.json")
    info, options = manifest["info"], onnxruntime.SessionOptions()
    for name, value in manifest["facts"].get("session_config", {}).items():
        options.add_session_config_entry(name, value)
    session = onnxruntime.InferenceSession(str(HERE / "model.onnx"), options, providers=["CPUExecutionProvider"])
    (logits,) = session.run(None, pixels(files))
    for p in probabilities(logits, info):
        known = {name: round(float(value), 6) for name, value in zip(info["labels"], p, strict=True)}
        print(json.dumps({"label": label(p, info), "probabilities": known}, ensure_ascii=False))


if __name__ == "__main__":
    main(sys.argv[1:])
