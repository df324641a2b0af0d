// Files of one's own: drop or choose a CSV, a zip of images, a model; then say what it is for.

import * as api from "../../api.js";
import { fill, h, table } from "../../dom.js";
import { bytes, integer, moment } from "../../format.js";
import { uploads as words } from "../../strings-start.js";
import { attempt, badge, button, card, facts, meter, problem, say, select, field } from "../../widgets.js";


/** The card; `use(path, value)` writes a setting of the form. */
export function uploadsCard({ use }) {
  const list = h("ul", { class: "plain stack" });
  const busy = h("div", { role: "status" });
  const input = h("input", { type: "file", id: "upload", multiple: true, on: { change: () => send(input.files) } });
  const zone = h("div", { class: "dropzone" }, h("label", { for: "upload" }, words.drop), input, h("p", { class: "help" }, words.help), busy);
  zone.addEventListener("dragover", (event) => { event.preventDefault(); zone.classList.add("over"); });
  zone.addEventListener("dragleave", () => zone.classList.remove("over"));
  zone.addEventListener("drop", (event) => { event.preventDefault(); zone.classList.remove("over"); send(event.dataTransfer.files); });

  async function send(files) {
    if (!files.length) return;
    // The files of a model belong together; anything else is one upload each.
    const together = [...files].some((file) => file.name.endsWith(".safetensors")) ? [[...files]] : [...files].map((file) => [file]);
    for (const parts of together) {
      const name = parts.map((file) => file.name).join(", ");
      const bar = meter({ label: words.sending(name), share: 0, text: words.sending(name) });
      fill(busy, bar);
      try {
        const done = await api.upload(parts, { onProgress: (share) => bar.update({ share, text: `${words.sending(name)} ${Math.floor(share * 100)} %` }) });
        fill(busy);
        list.prepend(item(done, use, true));
      } catch (error) {
        fill(busy, problem(error));
      }
    }
    input.value = "";
  }

  attempt(api.get("/uploads").then(({ uploads }) => list.append(...uploads.map((one) => item(one, use, false)))));
  return card({ title: words.title }, h("p", { class: "muted" }, words.lead), zone, list);
}

function item(upload, use, fresh) {
  const id = upload.file_path;
  const teacher = upload.kind === "model";
  const node = h("li", { class: "upload", tabindex: -1 });
  const chosen = h("div");
  const take = () => {
    use(teacher ? "teacher.model" : "data.path", id);
    if (upload.kind === "table") fill(chosen, columns(upload, use));
    fill(mark, badge(teacher ? words.isTeacher : words.isData, "good"));
  };
  const drop = async () => {
    const gone = await attempt(api.remove(`/uploads/${encodeURIComponent(upload.upload_id)}`).then(() => true));
    if (gone) node.remove();
  };
  const mark = h("span");
  node.append(
    h("div", { class: "row between" }, h("strong", null, say(upload.name ?? id)), h("span", { class: "row" }, mark, badge(words.kinds[upload.kind] ?? upload.kind))),
    facts([[words.size, bytes(upload.bytes)], ...Object.entries(upload.facts).filter(([key]) => key !== "preview").map(([key, value]) => [key.replaceAll("_", " "), fact(value)]), [words.expires, moment(upload.expires)]]),
    preview(upload),
    chosen,
    h("div", { class: "actions" }, button(teacher ? words.useTeacher : words.useData, take, { kind: fresh ? "primary" : "" }), button(words.remove, drop, { kind: "quiet" })),
  );
  return node;
}

function fact(value) {
  if (typeof value === "number") return integer(value);
  if (Array.isArray(value)) return say(value.map((one) => (typeof one === "object" ? JSON.stringify(one) : one)).slice(0, 12).join(", "));
  if (value && typeof value === "object") return say(Object.entries(value).map(([key, one]) => `${key} ${one}`).join(", "));
  return say(value);
}

/** The first rows of a table, so that a wrong separator or encoding is seen at once. */
function preview({ name, facts: { columns: names, preview: rows } }) {
  if (!rows?.length || !names?.length) return null;
  const shown = names.map((title, index) => ({ key: index, title: String(title), render: (row) => say(String(row[index] ?? "")) }));
  return h("details", null, h("summary", null, words.preview), table({ caption: words.previewOf(name), columns: shown, rows, hideCaption: true }));
}

/** Which column is the text, which the label: the file's own names to choose from. */
function columns(upload, use) {
  const names = upload.facts?.columns;
  if (!Array.isArray(names) || !names.length) return null;
  const options = [["", words.auto], ...names.map((name) => [String(name?.name ?? name), String(name?.name ?? name)])];
  const pick = (path, label) => field({ label, control: select({ options, onChange: (value) => use(path, value || null) }) });
  return h("div", { class: "grid two" }, pick("data.text_column", words.textColumn), pick("data.label_column", words.labelColumn));
}
