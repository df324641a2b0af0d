"""Sources that need no network: docstrings, pydocs, digits."""

from __future__ import annotations

import re
from collections import Counter

import numpy as np
import pytest

from lessen import plugins, recipe
from lessen.data import docstring_text
from lessen.data.sources import digits, docstrings, pydocs
from lessen.errors import DataError

TEXT, IMAGE = "text-classification", "image-classification"


def test_docstrings_are_read_from_source_with_every_library_masked():
    cfg = recipe.Data(source="docstrings", labels=("jinja2", "yaml"), limit=40)
    table = docstrings.read(cfg, TEXT)
    counts = Counter(table.labels)
    assert counts["jinja2"] == 40
    assert 0 < counts["yaml"] <= 40
    assert not [t for t in table.inputs if re.search(r"jinja2|yaml", t, re.IGNORECASE)]
    assert all(docstring_text.SHORTEST <= len(t) <= docstring_text.LONGEST for t in table.inputs)
    assert len(set(table.inputs)) == len(table.inputs)
    assert list(docstrings.read(cfg, TEXT).inputs) == list(table.inputs)


@pytest.mark.parametrize(
    ("text", "masked"),
    [
        ("import numpy as np", "import library as library"),
        ("use np.array, NumPy and scikit-learn", "use library.array, library and library"),
        ("the torch_function of PyTorch", "the library_function of library"),
        ("input comparison happen", "input comparison happen"),
        ("Hugging Face transformers", "library library"),
    ],
)
def test_whole_words_are_masked_and_nothing_else(text, masked):
    names = [name for library in docstrings.LIBRARIES for name in docstrings.ALIASES[library]]
    assert docstring_text.mask(names).sub("library", text) == masked


def test_docstrings_of_modules_classes_and_functions_are_found_and_nothing_else():
    source = (
        '"""Module."""\nx = "no"\nclass A:\n    """Class."""\n    def f(self):\n        """Method."""\n        "no"\n'
    )
    assert sorted(docstring_text.docstrings_of(source)) == ["Class.", "Method.", "Module."]


def test_a_text_of_two_libraries_is_left_out(tmp_path, monkeypatch):
    shared = "def f():\n    '''This very same sentence stands in both of the libraries.'''\n"
    for name, number in (("first_lib", "one"), ("second_lib", "two")):
        (tmp_path / name).mkdir()
        own = f"def g():\n    '''This explains what only library number {number} has to say about it.'''\n"
        (tmp_path / name / "__init__.py").write_text(shared + own)
    monkeypatch.syspath_prepend(tmp_path)
    table = docstrings.read(recipe.Data(labels=("first_lib", "second_lib")), TEXT)
    assert list(table.labels) == ["first_lib", "second_lib"]
    assert not [text for text in table.inputs if "very same" in text]


def test_an_absent_library_is_named():
    with pytest.raises(DataError, match="'no_such_lib' is no installed package"):
        docstrings.read(recipe.Data(labels=("no_such_lib", "yaml")), TEXT)


@pytest.mark.slow
def test_six_libraries_give_eight_thousand_four_hundred_docstrings():
    table = docstrings.read(recipe.Data(source="docstrings"), TEXT)
    assert Counter(table.labels) == dict.fromkeys(docstrings.LIBRARIES, 1400)
    names = [name for library in docstrings.LIBRARIES for name in docstrings.ALIASES[library]]
    assert not [text for text in table.inputs if docstring_text.mask(names).search(text)]


def test_pydocs_hold_enough_of_every_family_with_module_names_masked():
    table = pydocs.read(recipe.Data(labels=("mail", "numbers")), TEXT)
    counts = Counter(table.labels)
    assert min(counts.values()) > 200
    assert not [t for t in table.inputs if re.search(r"\b(email|statistics|smtplib|random)\b", t, re.IGNORECASE)]


def test_pydocs_refuse_an_unknown_family():
    with pytest.raises(DataError, match="no family 'music'"):
        pydocs.read(recipe.Data(labels=("music",)), TEXT)


def test_no_module_belongs_to_two_families():
    modules = [module for family in pydocs.FAMILIES.values() for module in family]
    assert len(modules) == len(set(modules))


def test_digits_are_grey_images_from_black_to_white():
    table = digits.read(recipe.Data(source="digits"), IMAGE)
    assert len(table) == 1797
    assert set(table.labels) == set("0123456789")
    first = table.inputs[0]
    assert first.shape == (8, 8, 3)
    assert first.dtype == np.uint8
    assert max(int(x.max()) for x in table.inputs) == 255
    assert np.array_equal(first[..., 0], first[..., 2])
    assert Counter(digits.read(recipe.Data(limit=5), IMAGE).labels) == dict.fromkeys("0123456789", 5)


@pytest.mark.parametrize("name", plugins.names("data.sources"))
def test_every_source_reads_and_says_what_it_is(name):
    module = plugins.find("data.sources", name)
    assert callable(module.read)
    assert module.__doc__
