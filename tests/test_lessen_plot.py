"""matlab/lessen_plot.m as GNU Octave runs it: from JSON, from a .mat file, from a server; what it draws and returns."""

import json
import os
import shutil
import subprocess
import threading
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from lessen import report as reports
from lessen.eventlog import EventLog
from lessen.events import Log, Progress, RunStateChanged
from lessen.folder import EVENTS, RunFolder, lock, prepare
from lessen.recipe import parse
from lessen.report.matlab import matlab_metrics, nothing_measured, to_mat
from report.conftest import build as classifier
from report.runs_of_text import report_of
from served import eventually, serving

SCRIPT = Path(__file__).parents[1] / "matlab"
FIGURES = ["before_after", "pareto", "loss", "confusion", "layers", "latency"]
TOKEN = "a-token-of-a-test-0123456789-0123456789-012"
SHAPES = {
    "teacher": {"layer0.heads": 4, "layer0.ffn": 512, "layer1.heads": 4, "layer1.ffn": 512, "layer2.ffn": 512},
    "distill": {"layer0.heads": 4, "layer0.ffn": 512, "layer1.heads": 4, "layer1.ffn": 512},
    "prune": {"layer0.heads": 2, "layer0.ffn": 256, "layer1.heads": 2, "layer1.ffn": 288},
}


def octave(folder, code, **env):
    """Run code in Octave without a screen and with a home of its own; return (status, standard output, errors)."""
    found = shutil.which("octave")
    if found is None:
        pytest.skip("octave is not installed")
    hidden = ("DISPLAY", "WAYLAND_DISPLAY", "LESSEN_TOKEN", "LESSEN_TOKEN_FILE", "XDG_CONFIG_HOME", "http_proxy")
    plain = {k: v for k, v in os.environ.items() if k not in hidden}
    done = subprocess.run(
        [found, "--no-gui", "--quiet", "--norc", "--path", str(SCRIPT), "--eval", code],
        capture_output=True, text=True, timeout=300, cwd=folder, env=plain | {"HOME": str(folder)} | env,
    )  # fmt: skip
    return done.returncode, done.stdout, done.stderr


def checked(folder, code, **env):
    status, out, errors = octave(folder, code, **env)
    assert status == 0, errors
    return out


def mapping_of(task="text-classification"):
    report = classifier() if task == "text-classification" else report_of(task)
    for stage, widths in SHAPES.items():
        report.row(stage).facts["shape"] = {"widths": widths}
    return matlab_metrics(report, model_name="DistilBERT")


def source_of(folder, mapping, ending):
    file = folder / f"run.{ending}"
    if ending == "mat":
        file.write_bytes(to_mat(mapping))
    else:
        file.write_text(json.dumps(mapping, ensure_ascii=False), encoding="utf-8")
    return file


@contextmanager
def answering(mapping, token=TOKEN):
    """Serve a mapping as /matlab_metrics does, for one run of the name 'a run/1', with /test open."""
    asked = []

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self):
            asked.append((self.path, self.headers.get("Authorization")))
            if self.path == "/test":
                self.answer(200, {"status": "Server is running"})
            elif token and self.headers.get("Authorization") != f"Bearer {token}":
                self.answer(401, {"error": "no token"})
            elif self.path in ("/matlab_metrics", "/matlab_metrics?run_id=a%20run%2F1"):
                self.answer(200, mapping)
            else:
                self.answer(404, {"error": "there is no such run"})

        def answer(self, status, body):
            raw = json.dumps(body).encode()
            self.send_response(status)
            self.send_header("Content-Type", "application/json")
            self.send_header("Content-Length", str(len(raw)))
            self.end_headers()
            self.wfile.write(raw)

        def log_message(self, *_):
            pass

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        try:
            yield f"http://127.0.0.1:{server.server_address[1]}", asked
        finally:
            server.shutdown()
            thread.join()


def looked_at(file):
    """Assert that a picture shows something: many colours, ink in all four quarters, margins left white."""
    with Image.open(file) as picture:
        pixels = np.asarray(picture.convert("RGB")).astype(int)
    colours = {tuple(c) for c in pixels[::2, ::2].reshape(-1, 3)}
    assert len(colours) > 50, file.name
    ink = (pixels < 250).any(axis=2)
    assert 0.01 < ink.mean() < 0.8, file.name
    half, middle = ink.shape[0] // 2, ink.shape[1] // 2
    for part in (ink[:half, :middle], ink[:half, middle:], ink[half:, :middle], ink[half:, middle:]):
        assert part.any(), file.name
    assert not ink[:4].any(), f"{file.name}: something runs off the upper edge"
    assert not ink[-2:].any(), f"{file.name}: something runs off the lower edge"
    assert not ink[:, :2].any(), f"{file.name}: something runs off the left edge"
    assert not ink[:, -2:].any(), f"{file.name}: something runs off the right edge"


def equal(mine, theirs, where=""):
    """Assert that what Octave gives back, saved as JSON by Octave, holds the same numbers and texts."""
    if isinstance(mine, dict) and mine:
        assert set(mine) == set(theirs), where
        for key, value in mine.items():
            equal(value, theirs[key], f"{where}.{key}")
    elif isinstance(mine, list):
        numbers = [v for row in mine for v in (row if isinstance(row, list) else [row])]
        if numbers and all(v is None or isinstance(v, int | float) for v in numbers):
            back = np.array(theirs, dtype=float).ravel()  # null is NaN there, a single number no list
            np.testing.assert_allclose(back, np.array(numbers, dtype=float), rtol=1e-12, atol=0, err_msg=where)
        else:
            theirs = theirs if isinstance(theirs, list) else [theirs]
            assert len(theirs) == len(mine), where
            for i, (one, other) in enumerate(zip(mine, theirs, strict=True)):
                equal(one, other, f"{where}[{i}]")
    elif isinstance(mine, str):
        assert (theirs or "") == mine, where
    elif mine is None:
        assert theirs in (None, []), where
    elif mine != {}:
        assert float(theirs) == pytest.approx(float(mine), rel=1e-12, abs=0), where


def saved(name="s"):
    return f"file = fopen('back.json', 'w'); fprintf(file, '%s', jsonencode({name})); fclose(file);"


@pytest.mark.slow
@pytest.mark.parametrize("ending", ["json", "mat"])
def test_all_figures_are_drawn_from_a_file_and_the_numbers_are_the_reports(tmp_path, ending):
    mapping = mapping_of()
    file = source_of(tmp_path, mapping, ending)
    checked(tmp_path, f"[s, files] = lessen_plot('{file}', 'out', 'pictures'); disp(numel(files)); {saved()}")
    assert sorted(p.name for p in (tmp_path / "pictures").iterdir()) == sorted(f"{name}.png" for name in FIGURES)
    for name in FIGURES:
        looked_at(tmp_path / "pictures" / f"{name}.png")
    equal(mapping, json.loads((tmp_path / "back.json").read_text(encoding="utf-8")))


@pytest.mark.slow
@pytest.mark.parametrize("task", ["causal-lm", "seq2seq"])
def test_runs_on_texts_have_other_scores_and_no_confusion(tmp_path, task):
    file = source_of(tmp_path, mapping_of(task), "json")
    out = checked(tmp_path, f"lessen_plot('{file}', 'out', '.');")
    assert "no figure confusion: this task decides no single class" in out
    assert {p.stem for p in tmp_path.glob("*.png")} == {*FIGURES} - {"confusion"}
    for picture in tmp_path.glob("*.png"):
        looked_at(picture)


@pytest.mark.slow
def test_runs_that_lack_numbers_are_drawn_as_far_as_they_go(tmp_path):
    report = classifier(timed=False, complete=False)
    report.row("prune").facts |= {
        "widths": [],
        "masks": {"layers": [{"module": f"l.{i}", "weights": 100, "masked": 50, "zeros": 50 + i} for i in range(4)]},
    }
    labels = ["a rather long label 0", "ঘৃণামূলক বক্তব্য", "সাধারণ", "a_b", "{x}^2", "Ärger"]  # no markup, no torn letters
    for row in report.rows:
        row.facts["labels"] = labels
    file = source_of(tmp_path, matlab_metrics(report), "json")
    out = checked(tmp_path, f"lessen_plot('{file}', 'out', '.');")
    assert "no figure latency: nothing was timed" in out
    assert {p.stem for p in tmp_path.glob("*.png")} == {*FIGURES} - {"latency"}
    for picture in tmp_path.glob("*.png"):
        looked_at(picture)


@pytest.mark.slow
def test_one_stage_and_one_epoch_are_enough(tmp_path):
    report = classifier()
    alone = report.model_copy(update={"rows": report.rows[:1], "comparisons": [], "pipeline": "baseline"})
    alone.rows[0].facts["fit"]["history"] = alone.rows[0].facts["fit"]["history"][:1]
    file = source_of(tmp_path, matlab_metrics(alone), "json")
    checked(tmp_path, f"lessen_plot('{file}', 'out', '.');")
    assert {p.stem for p in tmp_path.glob("*.png")} == {*FIGURES} - {"layers"}


@pytest.mark.slow
def test_two_devices_are_drawn_apart(tmp_path):
    mapping = mapping_of()
    mapping["latency"]["device"][-1] = mapping["stages"]["device"][-1] = "cuda"
    mapping["latency"]["speedup"][-1] = None
    file = source_of(tmp_path, mapping, "json")
    checked(tmp_path, f"lessen_plot('{file}', 'out', '.', 'figures', {{'latency', 'pareto'}});")
    with Image.open(tmp_path / "latency.png") as two, Image.open(tmp_path / "pareto.png") as one:
        assert two.size[1] > 1.5 * one.size[1]
    looked_at(tmp_path / "latency.png")


def test_octave_decodes_matrices_struct_arrays_and_columns_as_meant(tmp_path):
    file = source_of(tmp_path, mapping_of(), "json")
    mat = source_of(tmp_path, mapping_of(), "mat")
    code = f"""
        a = jsondecode(fileread('{file}')); b = load('{mat}');
        for s = {{a, b}}
            s = s{{1}};
            assert(class(s.stages.f1_macro), 'double'); assert(size(s.stages.f1_macro), [7 1]);
            assert(iscellstr(s.stages.stage)); assert(size(s.stages.stage), [7 1]);
            assert(class(s.matlab_data.efficiency), 'struct'); assert(size(s.matlab_data.efficiency), [3 1]);
            assert(class(s.matlab_data.effectiveness), 'struct'); assert(size(s.matlab_data.effectiveness), [4 1]);
            assert(class(s.matlab_data.complexity), 'struct');
            assert(class(s.history), 'struct'); assert(size(s.history), [4 1]);
            assert(size(s.history(3).val_loss), [10 1]); assert(isempty(s.history(1).best_epoch), false);
            assert(size(s.confusion.matrices(2).counts), [6 6]); assert(class(s.confusion.matrices), 'struct');
            assert(size(s.layers.units), [5 3]); assert(isnan(s.layers.units(5, 2:3)), [true true]);
            assert(class(s.comparisons.change), 'double'); assert(class(s.per_class), 'struct');
            assert(class(s.complete), 'double'); assert(logical(s.success));
            assert(isnan(s.stages.agreement_with_teacher), logical([1 0 0 0 0 0 0]'));
        end
        assert(isequaln(a.confusion, b.confusion)); assert(isequaln(a.layers, b.layers));
        assert(isequal(a.stages.source, b.stages.source)); assert(isequal(fieldnames(a.stages), fieldnames(b.stages)));
        assert(a.stages.latency_p50_ms, b.stages.latency_p50_ms, -1e-14);  % jsondecode rounds the last digit
        assert(a.history(2).val_loss, b.history(2).val_loss, -1e-14);
    """
    checked(tmp_path, code)


@pytest.mark.slow
def test_a_server_is_asked_with_the_token_from_its_file(tmp_path):
    mapping = mapping_of()
    (tmp_path / ".config" / "lessen").mkdir(parents=True)
    (tmp_path / ".config" / "lessen" / "token").write_text(f"{TOKEN}\n")
    with answering(mapping) as (url, asked):
        checked(tmp_path, f"s = lessen_plot('{url}', 'run_id', 'a run/1', 'out', 'pictures'); {saved()}")
    assert asked == [("/matlab_metrics?run_id=a%20run%2F1", f"Bearer {TOKEN}")]
    assert {p.stem for p in (tmp_path / "pictures").iterdir()} == {*FIGURES}
    equal(mapping, json.loads((tmp_path / "back.json").read_text(encoding="utf-8")))


@pytest.mark.parametrize("how", ["LESSEN_TOKEN", "LESSEN_TOKEN_FILE", "XDG_CONFIG_HOME", "option"])
def test_the_token_is_found_where_the_other_clients_find_it(tmp_path, how):
    file = tmp_path / "lessen" / "token"
    file.parent.mkdir()
    file.write_text(TOKEN)
    env = {"LESSEN_TOKEN": TOKEN, "LESSEN_TOKEN_FILE": str(file), "XDG_CONFIG_HOME": str(tmp_path), "option": ""}
    option = f", 'token', '{TOKEN}'" if how == "option" else ""
    with answering(mapping_of()) as (url, _):
        code = f"s = lessen_plot('{url}/', 'figures', {{}}{option}); disp(s.run_id)"
        out = checked(tmp_path, code, **({how: env[how]} if env[how] else {}))
    assert "docstrings-20260101" in out


def test_a_token_from_a_file_goes_to_no_other_machine(tmp_path):
    (tmp_path / "token").write_text(TOKEN)
    with answering(mapping_of(), token="") as (url, asked):
        there = url.replace("127.0.0.1", "0.0.0.0")  # the same server, by a name that is not loopback's
        checked(tmp_path, f"lessen_plot('{there}', 'figures', {{}});", LESSEN_TOKEN_FILE=str(tmp_path / "token"))
    assert asked == [("/matlab_metrics", None)]


@pytest.mark.parametrize(
    ("options", "env", "text"),
    [
        ("", {}, "unauthorized (401)"),
        ("", {}, "wants a token and none was found"),
        ("", {"LESSEN_TOKEN": "wrong"}, "refused the token"),
        (", 'run_id', 'nobody'", {"LESSEN_TOKEN": TOKEN}, "has no run for /matlab_metrics?run_id=nobody"),
        (", 'run_id', 'nobody'", {"LESSEN_TOKEN": "wrong"}, "refused the token"),
    ],
)
def test_what_the_server_refuses_is_told(tmp_path, options, env, text):
    with answering(mapping_of()) as (url, _):
        status, _, errors = octave(tmp_path, f"lessen_plot('{url}'{options});", **env)
    assert status == 1
    assert text in errors
    assert TOKEN not in errors


def test_no_server_is_told(tmp_path):
    status, _, errors = octave(tmp_path, "lessen_plot('http://127.0.0.1:9');")
    assert status == 1
    assert "no lessen server answers at http://127.0.0.1:9" in errors
    assert "lessen serve" in errors


def test_nothing_measured_is_told_and_returned(tmp_path):
    with answering(nothing_measured("no model has been trained yet"), token="") as (url, _):
        out = checked(tmp_path, f"[s, files] = lessen_plot('{url}'); disp(s.success); disp(size(files))")
    assert "nothing to plot: no model has been trained yet" in out
    assert out.split("\n")[1:3] == ["0", "   0   0"]
    assert list(tmp_path.glob("*.png")) == []


@pytest.mark.parametrize(
    ("code", "text"),
    [
        ("lessen_plot('nowhere.json')", "no file nowhere.json"),
        ("lessen_plot('other.json')", "is not an answer of /matlab_metrics"),
        ("lessen_plot('broken.json')", "does not hold JSON; it begins: <html>"),
        ("lessen_plot('other.json', 'colour', 'red')", "no such option"),
        ("lessen_plot('other.json', 'figures', 'radar')", "no figure radar"),
        ("lessen_plot('other.json', 'out')", "options come in pairs"),
        ("lessen_plot('other.json', 'start', '--no-such-flag')", "failed with exit code"),
    ],
)
def test_mistakes_are_told(tmp_path, code, text):
    (tmp_path / "other.json").write_text('{"rows": []}')
    (tmp_path / "broken.json").write_text("<html>")
    status, _, errors = octave(tmp_path, f"{code};")
    assert status == 1
    assert text in errors


def test_the_script_keeps_to_what_both_programs_know():
    """No double quotes (R2017a), no operators, comments, block ends or functions that only one of the two has."""
    text = (SCRIPT / "lessen_plot.m").read_text(encoding="ascii")
    lines = [line.split("%")[0] for line in text.splitlines()]  # not exact for '%' in texts, which hides no code here
    code = "\n".join(lines)
    for word in ("endif", "endfor", "endwhile", "endfunction", "!=", "+=", "++", '"', "printf(", "strsplit("):
        assert word not in code.replace("fprintf(", "").replace("sprintf(", ""), word
    for newer in (
        "sgtitle", "tiledlayout", "exportgraphics", "confusionchart", "datetime(", "table(", "string(", "websave",
        "xtickangle", "isfile(", "isfolder(", "readtable", "xticks(", "yline(", "arguments",
    ):  # fmt: skip
        assert f" {newer}" not in code, newer
        assert f"= {newer}" not in code, newer


@pytest.mark.slow
def test_a_live_server_is_plotted_and_its_events_are_followed(tmp_path):
    """The whole way: a run's folder, `lessen serve`, its token file, Octave."""
    report = classifier()
    with serving(tmp_path / "server") as server:
        empty = checked(tmp_path, f"lessen_plot('{server.url}');", LESSEN_TOKEN_FILE=str(tmp_path / "server" / "token"))
        assert "nothing to plot: no model has been trained yet" in empty
        folder = server.root / "shown"
        prepare(folder, parse({"name": "shown"}), "shown", origin="cli")
        reports.write(report, folder)
        with lock(folder), EventLog(folder / EVENTS) as log:
            log.append(RunStateChanged(state="running"))
            log.append(Progress(stage="teacher", step=3, total_steps=9, loss=0.25))
            log.append(Log(stage="teacher", message="a line", level="warning"))
            RunFolder(folder, "shown").set_state("succeeded")
            log.append(RunStateChanged(state="succeeded"))
        eventually(lambda: server.get("/matlab_metrics").json()["success"])
        eventually(lambda: server.get("/api/v1/runs/shown").json()["state"] == "succeeded")
        status, _, errors = octave(tmp_path, f"lessen_plot('{server.url}');", LESSEN_TOKEN="x" * 43)
        assert (status, "refused the token" in errors) == (1, True)
        code = f"""
            s = lessen_plot('{server.url}', 'run_id', 'shown', 'out', 'pictures'); {saved()}
            e = lessen_plot('events', '{server.url}', 'run_id', 'shown', 'wait', 1); disp(numel(e.events));
        """
        out = checked(tmp_path, code, LESSEN_TOKEN_FILE=str(tmp_path / "server" / "token"))
    for name in FIGURES:
        if name != "layers":
            looked_at(tmp_path / "pictures" / f"{name}.png")
    back = json.loads((tmp_path / "back.json").read_text(encoding="utf-8"))
    equal(
        matlab_metrics(reports.read(folder)) | {"run_id": "shown"},
        back | {"model_name": matlab_metrics(report)["model_name"]},
    )
    lines = [line.split() for line in out.strip().splitlines()]
    assert ["2", "Progress", "teacher", "3", "of", "9", "steps", "loss", "0.25"] in lines
    assert ["3", "Log", "teacher", "a", "line"] in lines
    assert lines[-1] == ["4"]
