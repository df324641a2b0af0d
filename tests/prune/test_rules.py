from __future__ import annotations

import subprocess
import sys

import pytest

from lessen.errors import RecipeError, UnknownNameError
from lessen.prune.rules import end_epoch, refuse
from lessen.recipe import Prune, Train

BAD = {
    "method": ({"method": "hessian"}, "hessian"),
    "pattern": ({"pattern": "4:2"}, "4:2"),
    "nothing": ({"remove_frac": 0.0}, "remove_frac is 0"),
    "no recovery": ({"schedule": "cubic", "recover": None}, "there is none"),
    "no kinds": ({"kinds": ()}, "kinds is empty"),
    "layers in rounds": ({"kinds": ("layers",), "schedule": "linear"}, "one shot only"),
    "layers and units": ({"kinds": ("layers", "ffn"), "of": "flops"}, "cannot be shared out"),
    "zeros save no flops": ({"pattern": "unstructured", "of": "flops"}, "save no FLOPs"),
    "wanda across layers": ({"pattern": "unstructured", "method": "wanda", "scope": "global"}, "one output row"),
    "sparsegpt of units": ({"method": "sparsegpt"}, "does not rank units"),
    "sparsegpt in steps": (
        {"method": "sparsegpt", "pattern": "2:4", "schedule": "cubic"},
        "goes through the model once",
    ),
    "sparsegpt across layers": (
        {"method": "sparsegpt", "pattern": "unstructured", "scope": "global"},
        "no weights across layers",
    ),
    "pattern and share": ({"pattern": "1:4", "remove_frac": 0.5}, "removes 0.75"),
    "end after training": ({"pattern": "unstructured", "schedule": "cubic", "end_epoch": 9}, "from epoch 0 to 9 of 3"),
}


@pytest.mark.parametrize(("values", "words"), BAD.values(), ids=BAD)
def test_settings_that_contradict_each_other_are_refused_with_both_named(values, words):
    with pytest.raises((RecipeError, UnknownNameError), match=words):
        refuse(Prune(**values))


@pytest.mark.parametrize(
    "values",
    [
        {},
        {"pattern": "2:4"},
        {"method": "sparsegpt", "pattern": "2:4"},
        {"method": "sparsegpt", "pattern": "unstructured"},
        {"pattern": "1:4", "remove_frac": 0.75},
        {"kinds": ("layers",)},
    ],
)
def test_settings_that_make_sense_pass(values):
    refuse(Prune(**values))


def test_a_schedule_without_an_end_leaves_a_third_of_the_training_for_the_final_masks():
    cfg = Prune(pattern="unstructured", schedule="cubic", recover=Train(epochs=6))
    assert end_epoch(cfg) == pytest.approx(4)
    assert end_epoch(Prune()) == 0


def test_the_rules_import_no_torch():
    code = "import sys, lessen.prune, lessen.prune.rules; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
