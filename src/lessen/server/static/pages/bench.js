// The test bench: one question, the answers of all stages of a run.

import { fill, h } from "../dom.js";
import { bench as words } from "../strings-learn.js";
import { states } from "../strings.js";
import { attempt, button, card, empty, field, heading, link, loading, problem, say } from "../widgets.js";
import { answersOf, compared, told } from "./bench/answers.js";
import { sheet } from "./bench/drawing.js";
import { dataUrl, sampleImage } from "./bench/files.js";

export const title = words.title;
export const styles = ["svg.css", "learn.css"];

const EXAMPLES = 6;
const MOST_BYTES = 8_000_000;
const asked = new Map(); // run -> what was asked in this session, newest first; kept while the page's tab lives

export async function render(root, params, ctx) {
  const { run } = ctx;
  const head = heading({ title: words.title, lead: words.lead });
  if (run.state !== "succeeded") {
    fill(root, head, empty({ title: words.none, text: words.unfinished(states[run.state] ?? run.state), actions: link(words.toRun, `#/run/${run.run_id}`, { class: "button" }) }));
    return;
  }
  const images = run.task === "image-classification";
  const view = { answers: h("div", { class: "stack" }), history: h("div"), shown: h("div") };
  const ask = (question) => answer(view, ctx, question);
  const form = images ? await imageForm(ctx, ask) : textForm(run, ask);
  fill(
    root, head,
    h("div", { class: "columns" },
      h("div", { class: "stack" }, card({ title: images ? words.image : words.text }, form), card({ title: words.answers }, view.shown, view.answers)),
      h("div", { class: "stack" }, card({ title: words.examples }, await examples(ctx, ask, form)), card({ title: words.history }, view.history))),
  );
  fill(view.answers, h("p", { class: "muted" }, words.nothing));
  showHistory(view, ctx);
}

/** question: {text} or {image: data URL, name}. */
async function answer(view, ctx, question) {
  const { run } = ctx;
  fill(view.shown, preview(question));
  fill(view.answers, loading(words.asking));
  try {
    const body = question.text === undefined ? { images: [question.image] } : { inputs: [question.text] };
    const reply = await ctx.api.post("/predictions", { run_id: run.run_id, ...body }, { signal: ctx.signal });
    const list = asked.get(run.run_id) ?? [];
    asked.set(run.run_id, [{ question, reply }, ...list.filter((one) => keyOf(one.question) !== keyOf(question))].slice(0, 20));
    fill(view.answers, answersOf(reply));
    ctx.announce(summary(reply));
    showHistory(view, ctx);
  } catch (error) {
    if (error.name !== "AbortError") fill(view.answers, problem(error, () => answer(view, ctx, question)));
  }
}

function summary(reply) {
  const { teacher, differs, final } = compared(reply);
  const first = final ? `${words.answer}: ${told(final.answers[0])}. ` : "";
  return teacher ? first + (differs.length ? words.disagree(differs.join(", ")) : words.allAgree) : first;
}

const keyOf = (question) => question.text ?? question.image;

function preview({ text, image, name }) {
  if (text !== undefined) return h("blockquote", { class: "lp-question" }, say(text));
  return h("figure", { class: "lp-question" }, h("img", { src: image, alt: `${words.picture}: ${name}`, class: "lp-pixels" }), h("figcaption", { class: "help" }, name));
}

function textForm(run, ask) {
  const area = h("textarea", { rows: 4, dir: "auto", "data-search": "" });
  const send = () => area.value.trim() && ask({ text: area.value.trim() });
  area.addEventListener("keydown", (event) => event.key === "Enter" && (event.ctrlKey || event.metaKey) && send());
  const node = h("form", { class: "stack", on: { submit: (event) => { event.preventDefault(); send(); } } },
    field({ label: words.text, control: area, help: words.textHelp[run.task], hideLabel: true }),
    h("div", { class: "actions" }, h("button", { type: "submit", class: "button primary" }, words.ask)));
  node.take = (text) => { area.value = text; };
  return node;
}

async function imageForm(ctx, ask) {
  const input = h("input", { type: "file", accept: "image/png,image/jpeg" });
  const box = field({ label: words.choose, control: input, help: words.drop });
  const take = async (file) => {
    const wrong = !file ? "" : !/^image\/(png|jpeg)$/.test(file.type) ? words.notImage : file.size > MOST_BYTES ? words.tooLarge : "";
    box.fail(wrong);
    if (file && !wrong) ask({ image: await dataUrl(file), name: file.name });
  };
  input.addEventListener("change", () => take(input.files[0]));
  const node = h("div", { class: "lp-drop stack" }, box);
  node.addEventListener("dragover", (event) => { event.preventDefault(); node.classList.add("over"); });
  node.addEventListener("dragleave", () => node.classList.remove("over"));
  node.addEventListener("drop", (event) => {
    event.preventDefault();
    node.classList.remove("over");
    take(event.dataTransfer.files[0]);
  });
  const { recipe } = await ctx.api.get(`/runs/${ctx.run.run_id}/recipe`, {}, { signal: ctx.signal });
  if (recipe.data?.source === "digits") {
    const paper = sheet((image) => ask({ image, name: words.drawingName }));
    ctx.signal.addEventListener("abort", ctx.theme.onChange(() => paper.redraw()));
    node.append(paper);
  }
  return node;
}

/** Samples of the run's own test split; where the run keeps none, the server's reason. */
async function examples(ctx, ask, form, offset = 0) {
  const node = h("div", { class: "stack" });
  const load = async (from) => {
    try {
      const { samples, total } = await ctx.api.get(`/runs/${ctx.run.run_id}/samples`, { limit: EXAMPLES, offset: from }, { signal: ctx.signal });
      const next = from + EXAMPLES < total ? from + EXAMPLES : 0;
      fill(node, samples.length ? h("ul", { class: "plain lp-examples" }, samples.map((one) => h("li", null, example(one, ask, form)))) : h("p", null, words.noExamples), total > EXAMPLES ? button(words.more, () => load(next)) : null);
    } catch (error) {
      if (error.name !== "AbortError") fill(node, h("p", { class: "muted" }, error.message), error.hint ? h("p", { class: "help" }, error.hint) : null);
    }
  };
  await load(offset);
  return node;
}

function example(sample, ask, form) {
  const label = h("span", { class: "muted" }, words.exampleOf(sample.label ?? sample.reference ?? "–"));
  if (sample.text !== null) {
    const act = () => { form.take(sample.text); ask({ text: sample.text }); };
    return h("button", { type: "button", class: "lp-example", on: { click: act } }, say(sample.text.slice(0, 160)), label);
  }
  if (!sample.image_url) return label;
  const name = `${words.sample(sample.index + 1)}, ${words.exampleOf(sample.label)}`;
  const act = async () => {
    const image = await attempt(sampleImage(sample.image_url));
    if (image) ask({ image, name });
  };
  return h("button", { type: "button", class: "lp-example", on: { click: act } }, h("img", { src: sample.image_url, alt: name, class: "lp-pixels", loading: "lazy" }), label);
}

function showHistory(view, ctx) {
  const list = asked.get(ctx.run.run_id) ?? [];
  const rows = list.map(({ question, reply }) => {
    const { differs, final } = compared(reply);
    const what = question.text ?? question.name;
    const again = () => {
      fill(view.shown, preview(question));
      fill(view.answers, answersOf(reply));
    };
    const sign = differs.length ? `≠ ${differs.length}/${reply.stages.length}` : "✓";
    return h("li", null, h("button", { type: "button", class: "lp-example", on: { click: again } },
      h("span", { class: "visually-hidden" }, words.historyAgain),
      h("span", null, question.image ? h("img", { src: question.image, alt: "", class: "lp-pixels small" }) : say(what.slice(0, 80))),
      h("span", { class: "muted" }, `${final ? told(final.answers[0]) : words.failed} ${sign}`)));
  });
  fill(view.history, rows.length ? h("ul", { class: "plain lp-examples" }, rows) : h("p", { class: "muted" }, words.historyNone));
}
