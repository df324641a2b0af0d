// The page's shell: which page module an address needs, and what that module is given.
//
// A page module (pages/<name>.js), loaded when it is first asked for:
//   export const title = "Layers";                         // or (params) => string
//   export const styles = ["pages/layers.css"];            // optional: style sheets it needs, relative to static/
//   export async function render(root, params, ctx) {...}  // optional return: a function that cleans up
// params: {id?, ...query}: "#/layers/demo-1?stage=prune" -> {id: "demo-1", stage: "prune"}. An id of "latest" is resolved before.
// ctx:
//   api, live            the modules api.js and live.js
//   go(hash)             "#/run/demo-1"; go(hash, {replace: true}) leaves no trace in the history
//   query(values)        lay values over the address's query without rendering again (null takes one out): deep links
//   announce(text)       say it to screen readers           title(text)   exchange the document's title
//   theme                {name: "light" | "dark", onChange(callback) -> unsubscribe}: what is shown now (charts redraw)
//   run                  the RunOut of params.id when the page is one of a run's pages, else null (shell draws their tabs)
//   signal               an AbortSignal that fires when the page is left: hand it to api.get
// The shell moves the focus to the page's h1 (see heading() in widgets.js) and sets document.title after render.
// Keyboard: an element with data-search gets the focus on "/".

import * as api from "./api.js";
import { announce } from "./announce.js";
import { byId, clear, h } from "./dom.js";
import { freshen } from "./format.js";
import * as header from "./header.js";
import * as live from "./live.js";
import { render as renderLogin } from "./login.js";
import * as shortcuts from "./shortcuts.js";
import { shell as words } from "./strings.js";
import * as theme from "./theme.js";
import { heading, link, loading, problem } from "./widgets.js";

const PAGES = new Set(["runs", "start", "run", "result", "layers", "network", "compare", "playground", "bench", "learn", "instructions", "assessment", "system"]);
const OF_RUN = new Set(["run", "result", "layers", "network", "bench"]);
const main = byId("main");
let leave = null; // of the page shown: cleans up after it
let turn = 0; // counts navigations, so that a slow page cannot draw over a newer one

/** Take an address apart: "#/layers/demo-1?stage=prune" -> {page, params}. */
export function parse(hash) {
  const [path, query = ""] = hash.replace(/^#\/?/, "").split("?");
  const [page = "", id] = path.split("/");
  const params = Object.fromEntries(new URLSearchParams(query));
  if (id) params.id = decodeURIComponent(id);
  return { page: page || "runs", params };
}

function go(hash, { replace = false } = {}) {
  if (hash === location.hash) show();
  else if (replace) location.replace(hash);
  else location.hash = hash;
}

function query(values) {
  const [path, old = ""] = location.hash.split("?");
  const next = new URLSearchParams(old);
  for (const [key, value] of Object.entries(values)) {
    if (value === null || value === undefined || value === "") next.delete(key);
    else next.set(key, value);
  }
  const text = next.toString();
  history.replaceState(null, "", `${path || "#/runs"}${text ? `?${text}` : ""}`);
}

function setTitle(text) {
  document.title = text ? `${text} · ${words.name}` : words.name;
}

function addStyles(names = []) {
  const wanted = names.map((name) => new URL(name, import.meta.url).href).filter((href) => !document.querySelector(`link[href="${href}"]`));
  return Promise.all(wanted.map((href) => new Promise((done) => {
    document.head.append(h("link", { rel: "stylesheet", href, on: { load: done, error: done } }));
  })));
}

function context(run, signal) {
  // A page that was left may still have a timer; the address and the title are no longer its own.
  const mine = (act) => (...values) => (signal.aborted ? undefined : act(...values));
  return { api, live, go: mine(go), query: mine(query), announce, title: mine(setTitle), theme: theme.shown, run, signal };
}

/** Show the page of the address. */
async function show({ focus = true } = {}) {
  const mine = (turn += 1);
  const { page, params } = parse(location.hash);
  finish();
  const control = new AbortController();
  leave = () => control.abort();
  header.mark(page);
  header.tabs(null);
  const root = h("div", { class: `page page-${page}` }, loading(words.loading));
  clear(main).append(root);
  try {
    const cleanup = await draw(page, params, root, control, { current: () => mine === turn, shown: () => focus && focusPage() });
    if (mine !== turn) cleanup?.();
    else leave = () => { control.abort(); cleanup?.(); };
  } catch (error) {
    if (mine !== turn || error.name === "AbortError") return;
    if (error.status === 401) return;
    setTitle(words.pageFailed);
    if (!error.status) console.error(error);
    clear(root).append(heading({ title: words.pageFailed }), problem(error, () => show()));
  }
  if (mine === turn && focus && !root.contains(document.activeElement)) focusPage();
}

async function draw(page, params, root, control, { current, shown }) {
  if (!PAGES.has(page)) {
    setTitle(words.notFound);
    clear(root).append(heading({ title: words.notFound, lead: words.notFoundHint, actions: link(words.toRuns, "#/runs", { class: "button" }) }));
    return undefined;
  }
  const [module, run] = await Promise.all([import(`./pages/${page}.js`), OF_RUN.has(page) ? api.get(`/runs/${encodeURIComponent(params.id ?? "latest")}`, {}, { signal: control.signal }) : null]);
  await addStyles(module.styles);
  if (!current()) return undefined;
  if (run) {
    params.id = run.run_id;
    header.tabs(run, page);
  }
  setTitle([typeof module.title === "function" ? module.title(params) : module.title, run?.name].filter(Boolean).join(" · "));
  clear(root);
  const drawn = module.render(root, params, context(run, control.signal));
  if (root.querySelector("h1")) shown(); // most pages have their heading at once and their numbers later
  return drawn;
}

function finish() {
  try {
    leave?.();
  } catch (error) {
    console.error(error);
  }
  leave = null;
}

function focusPage() {
  const target = main.querySelector("h1") ?? main;
  if (!target.hasAttribute("tabindex")) target.tabIndex = -1;
  // A page that put the focus somewhere on purpose keeps it.
  if (!main.contains(document.activeElement) || document.activeElement === main) target.focus({ preventScroll: true });
  window.scrollTo(0, 0);
  announce(document.title);
}

function showLogin() {
  turn += 1;
  finish();
  header.tabs(null);
  const root = h("div", { class: "page page-login" });
  clear(main).append(root);
  setTitle(renderLogin(root, enter));
}

/** Ask who is there, and only then for anything else: without a token every other request would be refused as well. */
async function enter({ focus = true } = {}) {
  if (!(await header.refresh())) return;
  live.restart();
  show({ focus });
}

function start() {
  theme.start();
  header.start();
  shortcuts.start({ go });
  api.onLoginNeeded(showLogin);
  byId("skip").addEventListener("click", (event) => {
    event.preventDefault(); // the hash belongs to the router
    focusPage();
  });
  window.addEventListener("hashchange", () => !main.querySelector(".page-login") && show());
  setInterval(() => freshen(), 10_000);
  enter({ focus: false });
}

start();
