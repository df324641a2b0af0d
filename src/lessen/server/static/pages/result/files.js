// What can be taken away: the model that ships, reports, tables, MATLAB; and how to use it.

import { fill, h } from "../../dom.js";
import { bytes } from "../../format.js";
import { files as words } from "../../strings-result.js";
import { card, copyButton, loading, problem } from "../../widgets.js";
import * as m from "./metrics.js";

export function filesCard(report, ctx) {
  const id = encodeURIComponent(report.run_id);
  const at = (path, query) => ctx.api.url(`/runs/${id}${path}`, query);
  const link = (href, label, note, save = true) =>
    h(
      "li",
      null,
      h("a", { href, download: save ? "" : null, target: save ? null : "_blank", rel: save ? null : "noopener" }, label),
      h("span", { class: "muted small" }, ` ${note}`),
    );
  const tables = ["results_all.csv", "results_tidy.csv", "results_final.csv", "results_final.json"];
  const models = h("div", null, loading(words.loading));
  ctx.api.get(`/runs/${id}/artifacts`, {}, { signal: ctx.signal }).then(
    (found) => fill(models, artifacts(found, report, at)),
    (error) => error.name !== "AbortError" && fill(models, problem(error)),
  );
  return card(
    { title: words.title, id: "files" },
    h(
      "ul",
      { class: "downloads" },
      link(at("/download"), words.zip, words.zipNote),
      link(at("/download", { all: true }), words.zipAll, words.zipAllNote),
      link(at("/report.html"), "report.html", words.html, false),
      link(at("/files/report.json"), "report.json", words.json),
      tables.map((name) => link(at(`/files/${name}`), name, words.tables[name])),
      link(`/matlab_metrics?run_id=${id}&format=mat`, words.mat, words.matNote),
    ),
    h("h3", null, words.models),
    models,
  );
}

function artifacts(found, report, at) {
  const last = m.final(report)?.stage;
  const file = (a, f) =>
    h(
      "li",
      null,
      h(
        "a",
        { href: at(`/artifacts/${encodeURIComponent(a.stage)}/${f.name.split("/").map(encodeURIComponent).join("/")}`), download: "" },
        f.name,
      ),
      h("span", { class: "muted small" }, ` ${bytes(f.bytes)} `),
      f.sha256 ? h("code", { class: "hash", title: `SHA-256 ${f.sha256}` }, f.sha256.slice(0, 12)) : null,
    );
  const one = (a) =>
    h(
      "details",
      { open: a.stage === last },
      h(
        "summary",
        null,
        a.stage,
        a.stage === last ? h("span", { class: "badge info" }, words.ships) : null,
        h("span", { class: "muted small" }, `${a.runtime}, ${bytes(a.bytes)}`),
      ),
      h(
        "ul",
        { class: "downloads" },
        a.files.map((f) => file(a, f)),
      ),
    );
  return [
    found.map(one),
    use(
      report,
      found.find((a) => a.stage === last),
    ),
  ];
}

/** How to use what ships: each line runs as it stands, in the folder that holds the runs or beside the zip. */
function use(report, shipped) {
  if (!shipped) return null;
  const id = report.run_id;
  const image = report.task === "image-classification";
  const loader = shipped.files.some((f) => f.name === "how_to_load.py");
  const lines = [
    [words.unzip, `unzip ${id}.zip -d ${id}`],
    loader ? [words.loader, `python ${id}/${shipped.stage}/how_to_load.py ${image ? "image.png" : "'a text'"}`] : null,
    [words.predict, `lessen predict runs/${id}/${shipped.path} --input ${image ? "images/" : "new.csv"} > answers.jsonl`],
    [words.python, `import lessen; model = lessen.load("runs/${id}/${shipped.path}")`],
    [words.show, `lessen show runs/${id}`],
  ];
  return [
    h("h3", null, words.use),
    h(
      "div",
      { class: "stack" },
      lines
        .filter(Boolean)
        .map(([label, text]) =>
          h("div", null, h("p", { class: "small muted" }, label), h("div", { class: "code-row" }, h("code", null, text), copyButton(text))),
        ),
    ),
  ];
}
