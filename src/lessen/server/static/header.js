// The bar at the top (sections, connection, theme), the tabs of a run's pages below it, and the footer.
//
//   start()     mark(page): which section is current     tabs(run | null, page): the pages of a run     refresh() -> promise<may we enter>

import * as api from "./api.js";
import { announce } from "./announce.js";
import { byId, clear, fill, h } from "./dom.js";
import * as live from "./live.js";
import * as shortcuts from "./shortcuts.js";
import { shell as words } from "./strings.js";
import * as theme from "./theme.js";
import { button, link, say, select, stateBadge } from "./widgets.js";

const SECTIONS = ["runs", "start", "compare", "playground", "learn", "system"];
const SECTION_OF = { run: "runs", result: "runs", layers: "runs", network: "runs", bench: "runs", instructions: "learn", assessment: "learn" };
const TABS = ["run", "result", "layers", "network", "bench"];
let run = null;
let tabState = null;

export function start() {
  const toggle = button(words.menu, () => open(toggle.getAttribute("aria-expanded") !== "true"), { kind: "quiet menu", "aria-expanded": "false", "aria-controls": "sections" });
  const open = (yes) => {
    toggle.setAttribute("aria-expanded", String(yes));
    byId("sections").classList.toggle("open", yes);
  };
  const items = SECTIONS.map((name) => h("li", null, link(words.nav[name], `#/${name}`, { data: { section: name } })));
  const sections = h("nav", { id: "sections", "aria-label": words.sections }, h("ul", null, items), settings());
  sections.addEventListener("click", (event) => event.target.closest("a") && open(false));
  fill(byId("header"), brand(), connection(), toggle, sections);
  byId("skip").textContent = words.skip;
  byId("toasts").setAttribute("aria-label", words.notifications);
  byId("subnav").setAttribute("aria-label", words.ofRun);
  live.onRuns((news) => news.run_id === run?.run_id && news.state !== tabState && showState(news.state));
}

function brand() {
  return h("a", { href: "#/runs", class: "brand" }, h("img", { src: new URL("favicon.svg", import.meta.url).href, alt: "", width: 24, height: 24 }), words.name);
}

/** The server's presence, in words: the dot alone would be colour only. */
function connection() {
  const dot = h("span", { class: "dot", "aria-hidden": "true" });
  const text = h("span", { class: "connection-text" });
  const node = h("span", { class: "connection", id: "connection" }, dot, text);
  let lost = 0;
  const show = (state, detail) => {
    node.dataset.state = state;
    node.title = detail ?? "";
    text.textContent = words.connection[state];
    clearTimeout(lost);
    if (state === "online") {
      if (lost < 0) announce(words.connectionBack);
      lost = 0;
    } else if (state === "offline" && lost >= 0) {
      // A blink is no news; two seconds are.
      lost = setTimeout(() => { lost = -1; announce(words.connectionLost); }, 2000);
    }
  };
  live.onStatus(show);
  show(live.status());
  return node;
}

function settings() {
  const pick = select({
    options: theme.choices.map((name) => [name, words.themes[name]]), value: theme.choice(), "aria-label": words.theme, onChange: theme.choose,
  });
  theme.shown.onChange(() => { pick.value = theme.choice(); });
  return h("div", { class: "settings" }, pick, button("?", shortcuts.open, { kind: "quiet", "aria-label": shortcuts.label, title: shortcuts.label }));
}

export function mark(page) {
  for (const anchor of byId("sections").querySelectorAll("a")) {
    if (anchor.dataset.section === (SECTION_OF[page] ?? page)) anchor.setAttribute("aria-current", "page");
    else anchor.removeAttribute("aria-current");
  }
}

function showState(state) {
  tabState = state;
  byId("subnav").querySelector(".badge")?.replaceWith(stateBadge(state));
}

export function tabs(of, page) {
  run = of;
  const nav = byId("subnav");
  nav.hidden = !of;
  clear(nav);
  if (!of) return;
  tabState = of.state;
  const id = encodeURIComponent(of.run_id);
  const items = TABS.map((name) => h("li", null, link(words.tabs[name], `#/${name}/${id}`, { "aria-current": name === page ? "page" : null })));
  fill(nav, h("span", { class: "subnav-run" }, say(of.name || of.run_id), " ", stateBadge(of.state)), h("ul", null, items));
}

/** Ask for the version. Returns whether the server lets us in; no answer at all is for the page to say. */
export async function refresh() {
  const text = h("span", { id: "version" }, words.name);
  fill(byId("footer"), text, link(words.docs, "/docs"), h("span", { class: "muted" }, words.tagline));
  try {
    const { version } = await api.get("/version");
    text.textContent = words.version(version);
  } catch (error) {
    return error.status !== 401;
  }
  return true;
}
