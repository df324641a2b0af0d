import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from lessen.artifact import Manifest, write
from lessen.errors import ArtifactError, UnavailableError
from lessen.info import ModelInfo
from lessen.runtimes import need
from lessen.runtimes import onnx as runtime

WEIGHT = np.arange(6, dtype=np.float32).reshape(3, 2)


@pytest.fixture
def artifact(tmp_path):
    def make(facts=None, damage=False):
        node = helper.make_node("MatMul", ["pixel_values", "w"], ["logits"])
        values = [
            helper.make_tensor_value_info(n, TensorProto.FLOAT, ["b", k])
            for n, k in (("pixel_values", 3), ("logits", 2))
        ]
        graph = helper.make_graph([node], "g", [values[0]], [values[1]], [numpy_helper.from_array(WEIGHT, "w")])
        model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 20)], ir_version=10)

        def fill(folder):
            onnx.save(model, str(folder / "model.onnx"))
            if damage:
                (folder / "model.onnx").write_bytes(b"not a model")

        info = ModelInfo(family="resnet", task="image-classification", source="test", labels=("a", "b"))
        return write(tmp_path / "a", Manifest(runtime="onnx", info=info, stage="export", facts=facts or {}), fill)

    return make


def test_a_session_answers_a_batch_and_passes_over_inputs_that_the_model_does_not_take(artifact):
    x = np.ones((4, 3), dtype=np.float32)
    logits = artifact().open(threads=1).logits({"pixel_values": x, "token_type_ids": x})
    np.testing.assert_array_equal(logits, x @ WEIGHT)
    assert logits.dtype == np.float32


def test_settings_in_the_manifest_reach_the_session(artifact):
    session = runtime.open_session(artifact({"session_config": {"session.disable_quant_qdq": "1"}}), threads=1).session
    options = session.get_session_options()
    assert options.get_session_config_entry("session.disable_quant_qdq") == "1"
    assert options.get_session_config_entry("session.intra_op.allow_spinning") == "0"
    assert options.intra_op_num_threads == 1


def test_another_device_is_refused_by_name(artifact):
    with pytest.raises(ArtifactError, match=r"not on cuda:0.*device cpu"):
        artifact().open("cuda:0")


def test_a_damaged_file_is_named(artifact):
    with pytest.raises(ArtifactError, match=r"model\.onnx cannot be opened"):
        artifact(damage=True).open()


def test_a_missing_package_names_the_pip_line():
    with pytest.raises(UnavailableError, match='nothere is not installed here; pip install "nothere>=3"'):
        need("nothere.part", "nothere>=3")


def test_a_package_that_lacks_another_names_that_one(tmp_path, monkeypatch):
    (tmp_path / "outer_package.py").write_text("import inner_package")
    monkeypatch.syspath_prepend(tmp_path)
    with pytest.raises(UnavailableError, match='inner_package is not installed here; pip install "inner_package"'):
        need("outer_package", "outer_package")


def test_a_broken_installation_is_not_taken_for_an_absent_package():
    with pytest.raises(ModuleNotFoundError):
        need("numpy.nothere", "numpy")
