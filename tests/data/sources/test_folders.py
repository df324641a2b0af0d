"""Folders of images, of tables, and copies of hub data sets."""

from __future__ import annotations

import numpy as np
import pytest
from PIL import Image

from lessen import data, recipe
from lessen.data import auto
from lessen.errors import DataError, UnavailableError

TEXT, IMAGE = "text-classification", "image-classification"


def picture(path, seed: int, size=(6, 7)) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    pixels = np.random.default_rng(seed).integers(0, 256, (*size, 3), dtype=np.uint8)
    Image.fromarray(pixels).save(path)


def load(path, task=IMAGE, **more) -> data.Splits:
    return data.load(recipe.Data(path=str(path), **more), task, 42)


@pytest.fixture
def pets(tmp_path):
    for i in range(10):
        picture(tmp_path / "pets" / ("cat", "dog")[i % 2] / f"{i}.png", i)
    (tmp_path / "pets" / "cat" / "notes.txt").write_text("not an image")
    return tmp_path / "pets"


def test_the_subfolder_is_the_class(pets):
    splits = load(pets)
    assert splits.labels == ("cat", "dog")
    assert splits.facts["source"] == "image_folder"
    assert splits.facts["rows_read"] == 10
    assert splits.facts["other_files"] == 1
    for split in (splits.train, splits.validation, splits.test):
        for image, label, place in zip(split.inputs, split.labels, split.inputs.places, strict=True):
            assert image.shape == (6, 7, 3)
            assert f"/{splits.labels[label]}/" in place


def test_copies_of_an_image_are_removed_before_splitting(pets):
    (pets / "cat" / "copy.png").write_bytes((pets / "cat" / "0.png").read_bytes())
    (pets / "dog" / "claimed.png").write_bytes((pets / "cat" / "2.png").read_bytes())
    facts = load(pets).facts
    assert facts["rows_read"] == 12
    assert facts["duplicates_removed"] == 2
    assert facts["conflicting_texts_dropped"] == 1
    assert facts["rows_used"] == 9


@pytest.mark.parametrize("content", [b"", b"no image at all", None])
def test_a_broken_image_is_named_before_anything_is_trained(pets, content):
    good = (pets / "dog" / "1.png").read_bytes()
    (pets / "dog" / "broken.png").write_bytes(good[: len(good) // 2] if content is None else content)
    with pytest.raises(DataError, match=r"dog/broken\.png is a broken image"):
        load(pets)


def test_train_and_test_folders_are_kept_apart(tmp_path):
    for i in range(12):
        picture(tmp_path / "train" / "ab"[i % 2] / f"{i}.png", i)
    for i in range(4):
        picture(tmp_path / "test" / "ab"[i % 2] / f"{i}.jpg", 100 + i)
    (tmp_path / "test" / "a" / "leak.png").write_bytes((tmp_path / "train" / "a" / "0.png").read_bytes())
    splits = load(tmp_path)
    assert len(splits.test) == 5
    assert all("/test/" in place for place in splits.test.inputs.places)
    assert splits.facts["removed_from_train"] == 1
    assert len(splits.train) + len(splits.validation) == 11


def test_classes_that_are_called_test_and_other_are_just_classes(tmp_path):
    for i in range(8):
        picture(tmp_path / ("test", "other")[i % 2] / f"{i}.png", i)
    assert load(tmp_path).labels == ("other", "test")


def test_a_folder_of_tables_is_read_by_its_file_names(tmp_path):
    rows = "".join(f"text {i}\t{i % 2}\n" for i in range(20))
    (tmp_path / "train.tsv").write_text(rows)
    (tmp_path / "dev.tsv").write_text("held out\t0\nheld in\t1\nagain\t0\n")
    splits = load(tmp_path, TEXT)
    assert set(splits.validation.inputs) == {"held out", "held in", "again"}
    assert len(splits.train) + len(splits.test) == 20
    assert splits.facts["files"] == ["dev.tsv", "train.tsv"]


def test_a_folder_with_a_single_table_is_split(tmp_path):
    (tmp_path / "data").mkdir()
    (tmp_path / "data" / "reviews.csv").write_text("text,label\n" + "".join(f"t {i},{i % 2}\n" for i in range(20)))
    assert len(load(tmp_path, TEXT).test) == 4


def test_several_tables_of_unknown_role_are_refused(tmp_path):
    for name in ("a.csv", "b.csv"):
        (tmp_path / name).write_text("text,label\nx,1\n")
    with pytest.raises(DataError, match=r"none is named train: a\.csv, b\.csv"):
        load(tmp_path, TEXT)


def test_a_copy_written_by_save_to_disk_is_read_with_its_class_names(tmp_path):
    import datasets

    features = datasets.Features(
        {"sentence": datasets.Value("string"), "label": datasets.ClassLabel(names=["neg", "pos"])}
    )
    train = {"sentence": [f"s {i}" for i in range(20)], "label": [i % 2 for i in range(20)]}
    parts = {
        "train": datasets.Dataset.from_dict(train, features=features),
        "test": datasets.Dataset.from_dict({"sentence": ["t 1", "t 2"], "label": [1, 0]}, features=features),
        "unsupervised": datasets.Dataset.from_dict({"sentence": ["u"], "label": [-1]}, features=features),
    }
    datasets.DatasetDict(parts).save_to_disk(tmp_path / "copy")
    splits = load(tmp_path / "copy", TEXT)
    assert splits.labels == ("neg", "pos")
    assert dict(zip(splits.test.inputs, splits.test.labels.tolist(), strict=True)) == {"t 1": 1, "t 2": 0}
    assert splits.facts["splits_left_out"] == {"unsupervised": 1}


def test_images_of_a_hub_copy_stay_files_until_they_are_used(tmp_path):
    import datasets

    for i in range(8):
        picture(tmp_path / f"{i}.png", i)
    paths = [str(tmp_path / f"{i}.png") for i in range(8)]
    made = datasets.Dataset.from_dict({"img": paths, "label": [i % 2 for i in range(8)]})
    made.cast_column("img", datasets.Image()).save_to_disk(tmp_path / "copy")
    splits = load(tmp_path / "copy")
    assert splits.train.inputs[0].shape == (6, 7, 3)


@pytest.mark.parametrize("name", ["imdb", "stanfordnlp/sst2"])
def test_a_hub_id_that_cannot_be_had_says_what_else_there_is(name, tmp_path, monkeypatch):
    import datasets

    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(datasets.config, "HF_HUB_OFFLINE", True)
    monkeypatch.setattr(datasets.config, "HF_DATASETS_CACHE", tmp_path)
    with pytest.raises(UnavailableError) as error:
        load(name, TEXT)
    assert error.value.exit_code == 4
    assert name in error.value.message
    assert "local CSV" in error.value.hint
    assert "docstrings" in error.value.hint


@pytest.mark.parametrize(
    ("path", "source"),
    [("imdb", "hub"), ("stanfordnlp/sst2", "hub"), ("docstrings", "docstrings"), ("pydocs", "pydocs")],
)
def test_what_is_no_path_is_a_hub_id_or_an_embedded_source(path, source, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert auto.choose(recipe.Data(path=path)) == source


@pytest.mark.parametrize("path", ["data/reviews.csv", "./imdb", "/nowhere/data", "a/b/c", "reviews.tsv"])
def test_what_looks_like_a_path_is_never_taken_for_a_hub_id(path, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(DataError, match="there is no file or folder"):
        auto.choose(recipe.Data(path=path))
