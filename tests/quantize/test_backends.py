import sys
from types import SimpleNamespace

import pytest

import tiny
from lessen import plugins, quantize
from lessen.quantize import cpu
from lessen.recipe import Quantize, Train

NAMES = plugins.names("quantize.backends")
VNNI, OLD = frozenset({"avx2", "avx512_vnni"}), frozenset({"avx2"})


def reason(backend, kind, device, **more):
    return quantize.refuse(kind, device, Quantize(backend=backend, **more))


@pytest.mark.parametrize("name", NAMES)
def test_every_backend_says_in_words_what_serves_instead(name, monkeypatch):
    monkeypatch.setattr(cpu, "flags", lambda: OLD)
    said = {kind: reason(name, kind, device) for kind in ("transformer", "cnn") for device in ("cpu", "cuda")}
    assert all(text is None or " use " in text or " give " in text for text in said.values())


@pytest.mark.parametrize("kind", ["transformer", "cnn"])
@pytest.mark.parametrize("device", ["cpu", "auto", "cuda", "cuda:1"])
def test_auto_serves_every_kind_everywhere(kind, device):
    assert reason("auto", kind, device) is None


def test_dynamic_int8_on_a_cnn_is_refused_for_its_slowness():
    assert "slower (measured 0.39 to 0.79" in reason("ort_dynamic", "cnn", "cpu")
    assert reason("ort_dynamic", "transformer", "cpu") is None


@pytest.mark.parametrize("name", ["ort_dynamic", "ort_static", "weight_int8", "weight_int4"])
def test_onnxruntime_files_are_refused_for_a_gpu_with_what_runs_there(name):
    assert "bf16 or fp16" in reason(name, "transformer", "cuda:0")


@pytest.mark.parametrize(
    ("name", "flags", "serves"),
    [
        ("bf16", {"avx512_bf16"}, True),
        ("bf16", {"avx2"}, False),
        ("bf16", None, True),
        ("fp16", {"avx512_fp16"}, True),
        ("fp16", {"avx512_bf16"}, False),
        ("fp16", None, False),
    ],
)
def test_sixteen_bits_need_a_cpu_that_computes_in_them(name, flags, serves, monkeypatch):
    monkeypatch.setattr(cpu, "flags", lambda: None if flags is None else frozenset(flags))
    assert (reason(name, "transformer", "cpu") is None) is serves
    assert reason(name, "transformer", "cuda") is None


def test_fp16_names_bf16_where_it_is_refused(monkeypatch):
    monkeypatch.setattr(cpu, "flags", lambda: OLD)
    assert "use bf16" in reason("fp16", "cnn", "cpu")


def test_training_aware_quantization_needs_training_settings():
    assert "quantize.train is not given" in reason("qat", "cnn", "cpu")
    assert reason("qat", "cnn", "cpu", train=Train(epochs=1)) is None
    assert "bf16 or fp16" in reason("qat", "cnn", "cuda", train=Train(epochs=1))


@pytest.mark.parametrize(
    ("machine", "flags", "saturates"),
    [("x86_64", VNNI, False), ("x86_64", OLD, True), ("x86_64", None, True), ("aarch64", OLD, False)],
)
def test_weights_have_seven_bits_where_products_saturate(machine, flags, saturates, monkeypatch):
    monkeypatch.setattr(cpu, "flags", lambda: flags)
    monkeypatch.setattr(cpu.platform, "machine", lambda: machine)
    assert cpu.saturates() is saturates


def test_refusing_loads_neither_torch_nor_onnxruntime():
    tiny.run(
        [
            sys.executable,
            "-c",
            "import sys\nfrom lessen import plugins, quantize\nfrom lessen.recipe import Quantize\n"
            f"for name in {NAMES!r}:\n    quantize.refuse('cnn', 'cpu', Quantize(backend=name))\n"
            "heavy = {'torch', 'onnxruntime', 'onnx', 'sklearn', 'scipy'} & set(sys.modules)\nassert not heavy, heavy",
        ]
    )


def test_kinds_follow_the_task():
    info = SimpleNamespace(task="image-classification")
    assert quantize.kind_of(SimpleNamespace(info=info)) == "cnn"
