// /docs: the OpenAPI document as a page, drawn here so that no foreign server is needed.

import { byId, clear, debounce, h, on } from "./dom.js";
import { docs as words } from "./strings.js";

const METHODS = ["get", "post", "put", "patch", "delete"];

/** Return the schema behind a $ref. */
function resolve(document_, schema) {
  if (!schema?.$ref) return schema ?? {};
  return schema.$ref.slice(2).split("/").reduce((at, name) => at[name], document_);
}

/** Return a schema as a short text: what a reader would type. */
function short(document_, schema, depth = 0) {
  if (schema?.$ref) return depth > 3 ? schema.$ref.split("/").pop() : short(document_, resolve(document_, schema), depth + 1);
  if (!schema || Object.keys(schema).length === 0) return "any";
  if (schema.const !== undefined) return JSON.stringify(schema.const);
  if (schema.enum) return schema.enum.map((value) => JSON.stringify(value)).join(" | ");
  const choices = schema.anyOf ?? schema.oneOf;
  if (choices) return choices.map((one) => short(document_, one, depth + 1)).join(" | ");
  if (schema.type === "array") return `[${short(document_, schema.items, depth + 1)}]`;
  if (schema.type === "object" && schema.properties) return object(document_, schema, depth);
  if (schema.type === "object") return "{…}";
  return [schema.type, limits(schema)].filter(Boolean).join(" ");
}

function object(document_, schema, depth) {
  if (depth > 3) return schema.title ?? "{…}";
  const pad = "  ".repeat(depth + 1);
  const required = new Set(schema.required ?? []);
  const lines = Object.entries(schema.properties).map(
    ([name, value]) => `${pad}${name}${required.has(name) ? "" : "?"}: ${short(document_, value, depth + 1)}`,
  );
  return `{\n${lines.join("\n")}\n${"  ".repeat(depth)}}`;
}

function limits(schema) {
  const low = schema.minimum ?? schema.exclusiveMinimum ?? schema.minLength;
  const high = schema.maximum ?? schema.exclusiveMaximum ?? schema.maxLength;
  if (low === undefined && high === undefined) return schema.format ?? "";
  return `${low ?? ""}..${high ?? ""}`;
}

function parameters(document_, list) {
  if (!list?.length) return null;
  const head = h("tr", {}, words.columns.map((name) => h("th", { scope: "col" }, name)));
  const rows = list.map((one) => {
    const schema = resolve(document_, one.schema);
    return h("tr", {},
      h("th", { scope: "row" }, h("code", {}, one.name), one.required ? words.required : ""),
      h("td", {}, one.in),
      h("td", {}, h("code", {}, short(document_, one.schema))),
      h("td", {}, schema.default === undefined ? "" : h("code", {}, JSON.stringify(schema.default))),
      h("td", {}, one.description ?? schema.description ?? ""));
  });
  return h("div", { class: "scroll", tabindex: "0", role: "region", "aria-label": words.parameters },
    h("table", {}, h("caption", { class: "visually-hidden" }, words.parameters), h("thead", {}, head), h("tbody", {}, rows)));
}

function shapes(document_, title, content) {
  return Object.entries(content ?? {}).map(([media, { schema }]) =>
    h("div", {}, h("p", { class: "small muted" }, `${title}: ${media}`), h("pre", { tabindex: "0" }, short(document_, schema))));
}

function curl(method, path, operation) {
  const token = operation.security?.length === 0 ? "" : ' -H "Authorization: Bearer $(cat ~/.config/lessen/token)"';
  const kind = Object.keys(operation.requestBody?.content ?? {})[0];
  const body = kind === "application/json" ? " -H 'Content-Type: application/json' -d '{}'" : kind ? " -F file=@FILE" : "";
  const verb = method === "get" ? "" : ` -X ${method.toUpperCase()}`;
  return `curl${verb}${token}${body} '${location.origin}${path}'`;
}

/** Return the first sentence of an operation's description. */
function brief(found) {
  return (found.description ?? found.summary ?? "").split(/[.;:](?:\s|$)/)[0];
}

function operation(document_, path, method, found) {
  const good = Object.entries(found.responses).filter(([status]) => /^[23]\d\d$/.test(status));
  const others = Object.entries(found.responses).filter(([status]) => /^[45]\d\d$/.test(status));
  return h("details", { data: { words: `${method} ${path} ${found.summary ?? ""} ${found.description ?? ""}`.toLowerCase() } },
    h("summary", {}, h("span", { class: "method" }, method.toUpperCase()), h("code", {}, path), ` ${brief(found)}`),
    h("div", {},
      found.description ? h("p", {}, found.description) : null,
      parameters(document_, found.parameters),
      shapes(document_, words.takes, found.requestBody?.content),
      good.map(([status, one]) => [h("p", {}, `${status}: ${one.description}`), shapes(document_, words.gives, resolve(document_, one).content)]),
      others.length ? h("p", { class: "small muted" }, others.map(([status, one]) => `${status} ${one.description}`).join(" · ")) : null,
      h("pre", { tabindex: "0" }, curl(method, path, found))));
}

function draw(document_) {
  const groups = new Map();
  for (const [path, item] of Object.entries(document_.paths)) {
    for (const method of METHODS.filter((name) => item[name])) {
      const tag = item[method].tags?.[0] ?? words.other;
      groups.set(tag, [...(groups.get(tag) ?? []), operation(document_, path, method, item[method])]);
    }
  }
  const main = clear(byId("main"));
  if (document_.info.description) main.append(h("p", {}, document_.info.description));
  for (const [tag, operations] of groups) main.append(h("section", {}, h("h2", {}, tag), operations));
}

function filter() {
  const wanted = byId("filter").value.trim().toLowerCase().split(/\s+/);
  let shown = 0;
  for (const one of document.querySelectorAll("details")) {
    one.hidden = !wanted.every((word) => one.dataset.words.includes(word));
    shown += one.hidden ? 0 : 1;
  }
  for (const section of document.querySelectorAll("main section")) {
    section.hidden = !section.querySelector("details:not([hidden])");
  }
  byId("count").textContent = words.count(shown);
}

const response = await fetch("/openapi.json");
if (response.ok) {
  draw(await response.json());
  filter();
  on(byId("filter"), "input", debounce(filter, 100));
} else {
  clear(byId("main")).append(h("p", {}, words.login));
}
