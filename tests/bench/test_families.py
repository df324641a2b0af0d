"""Layers of every kind of artifact, held against the counter that reports use."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

import tiny
import tiny_speakers
from lessen.artifact import Artifact
from lessen.bench.layers import layered, layers
from lessen.bench.opened import Opened
from lessen.context import Context
from lessen.export import export
from lessen.measure import weights
from lessen.quantize import quantize
from lessen.recipe import Distill, Export, Quantize

BACKENDS = {
    "distilbert": ("ort_dynamic", "weight_int4"), "mobilenet_v2": ("ort_static", "weight_int8"), "t5": ("ort_dynamic",),
}  # fmt: skip
pytestmark = pytest.mark.slow


@pytest.fixture(scope="module", params=list(BACKENDS))
def forms(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Artifact]:
    """A torch artifact, its ONNX export, and quantized forms of it."""
    name, root = request.param, tmp_path_factory.mktemp(request.param)
    speaks = name in tiny_speakers.SHAPES
    source = tiny_speakers.save(name, root / "m") if speaks else tiny.save(name, root / "m", cut=name == "distilbert")
    data = tiny_speakers.splits(name) if speaks else tiny.splits(source.processor.kind)
    ctx = Context(out_dir=root, stage="quantize", cache_dir=root / "cache")
    (made,) = export(source, Export(), data, ctx, out=root / "x")
    found = {"source": source, "onnx": made}
    for backend in BACKENDS[name]:
        cfg, out = Quantize(backend=backend), root / backend
        found[backend] = quantize(source, cfg, Distill(), data, ctx, out=out, key="k", onnx=made)
    return found


def _layers(artifact: Artifact, source: Artifact) -> dict[str, Any]:
    same = artifact.path == source.path
    return layers(Opened(), str(artifact.path), None if same else str(source.path))


def test_totals_are_those_of_the_counter_in_every_form(forms: dict[str, Artifact]) -> None:
    for name, artifact in forms.items():
        tally = weights.count(artifact.path)
        assert tally is not None
        totals = _layers(artifact, forms["source"])["totals"]
        assert (name, totals["parameters"], totals["nonzero"]) == (name, tally.parameters, tally.nonzero)


def test_every_weight_finds_its_module(forms: dict[str, Artifact]) -> None:
    for artifact in forms.values():
        found = layered(str(artifact.path), str(forms["source"].path))
        assert not [s.name for s in found.left if "inv_freq" not in s.name]
        matrices = {n for n, s in found.source.items() if s.values.ndim > 1}
        assert matrices <= set(found.own)


def test_an_exact_copy_has_no_error_and_fewer_bits_have_more(forms: dict[str, Artifact]) -> None:
    exact = _layers(forms["onnx"], forms["source"])["totals"]
    assert exact["error"] in (0.0, None)
    for name, artifact in forms.items():
        totals = _layers(artifact, forms["source"])["totals"]
        if name not in ("source", "onnx"):
            assert totals["error"] > 0
            assert totals["bits"] < 10 < exact["bits"]
            assert totals["bytes"] < exact["bytes"] / 2


def test_folded_convolutions_have_no_rounding_error(forms: dict[str, Artifact]) -> None:
    if "ort_static" not in forms:
        return  # BatchNorm is for convolutional networks
    found = _layers(forms["ort_static"], forms["source"])
    first = next(r for r in found["layers"] if r["id"].endswith("first_conv.convolution"))
    assert first["error"] is None
    assert first["bits"] < 12
    assert any("BatchNorm was folded" in text for text in found["remarks"])


def test_without_its_source_a_file_shows_what_its_names_tell(forms: dict[str, Artifact]) -> None:
    found = layers(Opened(), str(forms["onnx"].path), None)
    assert found["totals"]["parameters"] == weights.count(forms["onnx"].path).parameters  # type: ignore[union-attr]
    assert {r["flops"] for r in found["layers"]} == {None}
    assert any("not in the run's folder" in text for text in found["remarks"])
    assert Path(forms["onnx"].path).is_dir()
