"""The plain PyTorch session."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from lessen.artifact import Artifact
from lessen.info import ModelInfo
from lessen.models import Model, save
from lessen.models.build import config_of, module_of
from lessen.processors import ImageProcessor

SHAPE = {"embedding_size": 8, "hidden_sizes": [8, 16], "depths": [1, 1], "layer_type": "basic"}


@pytest.fixture
def model():
    info = ModelInfo(family="resnet", task="image-classification", source="tiny", labels=("a", "b", "c"))
    return Model(module_of(config_of("resnet", SHAPE, info), info).eval(), ImageProcessor(16), info)


@pytest.fixture
def batch():
    return {"pixel_values": np.random.default_rng(0).normal(size=(2, 3, 16, 16)).astype(np.float32)}


def write(model, path):
    return save(model, path, stage="teacher", key="", history=(), facts={})


def test_a_session_answers_as_the_model_did(model, batch, tmp_path):
    session = Artifact(write(model, tmp_path / "a").path).open()
    got = session.logits(batch)
    with torch.inference_mode():
        want = model.module(pixel_values=torch.from_numpy(batch["pixel_values"])).logits.numpy()
    np.testing.assert_allclose(got, want, rtol=1e-6, atol=1e-7)
    assert got.dtype == np.float32
    assert not session.module.training


def test_a_session_answers_twice_alike_and_leaves_batchnorm_alone(model, batch, tmp_path):
    session = write(model, tmp_path / "a").open()
    np.testing.assert_array_equal(session.logits(batch), session.logits(batch))


def test_half_precision_weights_answer_in_fp32(model, batch, tmp_path):
    model.module.to(torch.bfloat16)
    got = write(model, tmp_path / "a").open().logits(batch)
    assert got.dtype == np.float32
    assert np.isfinite(got).all()


def test_the_number_of_threads_is_set_when_given(model, batch, tmp_path):
    before = torch.get_num_threads()
    try:
        artifact = write(model, tmp_path / "a")
        artifact.open(threads=1)
        assert torch.get_num_threads() == 1
    finally:
        torch.set_num_threads(before)
