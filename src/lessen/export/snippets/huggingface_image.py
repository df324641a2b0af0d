"""Answer image files with this model: python how_to_load.py image.png ["another.png" ...]

Needs: numpy, pillow, torch, transformers.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image
from transformers import AutoModelForImageClassification

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


def main(files: list[str]) -> None:
    """Print one JSON line an image: the score of every label, the highest first."""
    model = AutoModelForImageClassification.from_pretrained(HERE)
    with torch.inference_mode():
        logits = model(pixel_values=torch.from_numpy(pixels(files)["pixel_values"]).to(model.dtype)).logits.float()
    several = model.config.problem_type == "multi_label_classification"
    for row in torch.sigmoid(logits) if several else torch.softmax(logits, dim=1):
        scores = {model.config.id2label[int(i)]: round(float(row[i]), 6) for i in row.argsort(descending=True)}
        print(json.dumps(scores, ensure_ascii=False))


if __name__ == "__main__":
    main(sys.argv[1:])
