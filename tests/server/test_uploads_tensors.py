"""Safetensors by their header: what is sound is read, what lies is refused, and nothing else is opened."""

from __future__ import annotations

import json
import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from safetensors import SafetensorError
from safetensors.numpy import load_file, save, save_file

from lessen.errors import ModelError
from lessen.server import tensors
from lessen.server.tensors import check_tensors

DTYPES = st.sampled_from([np.float32, np.float16, np.int64, np.uint8, np.bool_])
SHAPES = st.lists(st.integers(0, 4), max_size=3).map(tuple)


@pytest.fixture(scope="module")
def file(tmp_path_factory):
    return tmp_path_factory.mktemp("tensors") / "model.safetensors"


def write(file, header, data=b""):
    raw = header if isinstance(header, bytes) else json.dumps(header).encode()
    file.write_bytes(len(raw).to_bytes(8, "little") + raw + data)


@settings(max_examples=100, deadline=None)
@given(st.dictionaries(st.text(min_size=1, max_size=8), st.tuples(DTYPES, SHAPES), min_size=1, max_size=6))
def test_what_safetensors_writes_is_sound(file, shapes):
    made = {name: np.zeros(shape, dtype=dtype) for name, (dtype, shape) in shapes.items() if name != "__metadata__"}
    if not made:
        return
    save_file(made, file, metadata={"format": "pt"})
    counts = check_tensors(file, file.name)
    assert counts == {"tensors": len(made), "parameters": sum(a.size for a in made.values())}


SOUND = save({"a": np.arange(6, dtype=np.float32).reshape(2, 3), "b": np.ones(4, dtype=np.uint8)})


@settings(max_examples=300, deadline=None)
@given(st.data())
def test_a_damaged_file_is_refused_or_safetensors_reads_it_too(file, data):
    raw = bytearray(SOUND)
    for _ in range(data.draw(st.integers(1, 3))):
        raw[data.draw(st.integers(0, len(raw) - 1))] = data.draw(st.integers(0, 255))
    file.write_bytes(raw[: data.draw(st.integers(0, len(raw)))])
    try:
        check_tensors(file, file.name)
    except ModelError:
        return
    try:
        load_file(file)
    except SafetensorError as error:  # it knows rules of its own, such as alignment
        pytest.fail(f"taken here, refused there: {error}")


FIELDS = st.one_of(st.none(), st.booleans(), st.integers(-(2**70), 2**70), st.text(max_size=5), st.floats(),
                   st.lists(st.integers(-3, 2**66), max_size=4))  # fmt: skip


@settings(max_examples=200, deadline=None)
@given(
    st.fixed_dictionaries(
        {
            "dtype": st.one_of(st.sampled_from(["F32", "U8", "F4", "PICKLE"]), FIELDS),
            "shape": FIELDS,
            "data_offsets": FIELDS,
        },
        optional={"more": FIELDS},
    ),
    st.binary(max_size=64),
)
def test_any_header_is_read_or_refused(file, told, data):
    write(file, json.dumps({"a": told}).encode(), data)
    try:
        counts = check_tensors(file, file.name)
    except ModelError:
        return
    item = tensors.ITEM_BYTES[told["dtype"]]
    assert counts["parameters"] == math.prod(told["shape"])
    assert counts["parameters"] * item == len(data)


def one(**told):
    return {"a": {"dtype": "F32", "shape": [2], "data_offsets": [0, 8], **told}}


@pytest.mark.parametrize(
    ("header", "data"),
    [
        (one(), b"1234567"),
        (one(), b"123456789"),
        (one(shape=[3]), b"12345678"),
        (one(data_offsets=[8, 0]), b"12345678"),
        (one(data_offsets=[1, 9]), b"123456789"),
        (one(shape=[2**40, 2**40]), b"12345678"),
        (one(shape=[True, 2]), b"12345678"),
        (one(shape=[2] + [1] * 40), b"12345678"),
        (one() | {"b": one()["a"]}, b"12345678"),
        ({}, b""),
        ({"__metadata__": {"a": 1}}, b""),
        ({"__metadata__": {"a": {"b": "c"}}, **one()}, b"12345678"),
        (b"[]", b""),
        (b'{"a": {}, "a": {}}', b""),
        (b"{" * 3000 + b"}" * 3000, b""),
        (b'{"a": ' + b"[" * 100_000 + b"]" * 100_000 + b"}", b""),
        (b'{"a": ' + b"9" * 10_000 + b"}", b""),
        (b"\xff\xfe{}", b""),
        (b"{}" + b" " * 100, b""),
    ],
)
def test_headers_that_lie(file, header, data):
    write(file, header, data)
    with pytest.raises(ModelError, match="no sound safetensors file"):
        check_tensors(file, "model.safetensors")


def test_the_header_is_bounded_before_it_is_read(file):
    file.write_bytes((1 << 40).to_bytes(8, "little") + b"{}")
    with pytest.raises(ModelError, match="header"):
        check_tensors(file, "x")
    write(file, b"{" + b" " * (tensors.MAX_HEADER_BYTES + 1) + b"}")
    with pytest.raises(ModelError, match="header"):
        check_tensors(file, "x")


def test_no_more_tensors_than_allowed(file):
    empty = {"dtype": "F32", "shape": [0], "data_offsets": [0, 0]}
    write(file, {str(i): empty for i in range(tensors.MAX_TENSORS)})
    assert check_tensors(file, "x")["tensors"] == tensors.MAX_TENSORS
    write(file, {str(i): empty for i in range(tensors.MAX_TENSORS + 1)})
    with pytest.raises(ModelError, match="20001 tensors"):
        check_tensors(file, "x")
