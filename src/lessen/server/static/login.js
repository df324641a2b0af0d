// The screen that asks for the server's token. The server answers with a cookie that no script can read.

import * as api from "./api.js";
import { h } from "./dom.js";
import { login as words } from "./strings.js";
import { card, copyButton, field, heading } from "./widgets.js";

/** Draw the screen; `done` is called when the server took the token. Returns the document's title. */
export function render(root, done) {
  const input = h("input", { type: "password", autocomplete: "current-password", required: true, spellcheck: "false" });
  const row = field({ label: words.token, control: input });
  const submit = h("button", { class: "button primary", type: "submit" }, words.submit);
  const form = h("form", { on: { submit: async (event) => {
    event.preventDefault();
    submit.disabled = true;
    row.fail("");
    try {
      await api.login(input.value.trim());
      done();
    } catch (error) {
      row.fail(error.status === 401 ? words.wrong : [error.message, error.hint].filter(Boolean).join(" "));
      input.focus();
    } finally {
      submit.disabled = false;
    }
  } } }, row, submit);
  const command = h("div", { class: "code-row" }, h("code", null, words.command), copyButton(words.command));
  root.append(heading({ title: words.title, lead: words.lead }), card({}, form, h("p", { class: "help" }, words.tokenHelp), command));
  input.focus();
  return words.title;
}
