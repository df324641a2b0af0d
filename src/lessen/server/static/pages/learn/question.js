// A question with choices: radio buttons in a fieldset. Used by the cards ("predict, then reveal") and the assessment.

import { fill, h } from "../../dom.js";
import { learn as words } from "../../strings-learn.js";
import { button, freshId, toast } from "../../widgets.js";

/** Radio buttons for choices; order: indices of `choices` as they are shown; onChange(index). */
export function choices({ legend, choices: all, order, chosen = null, onChange = () => {} }) {
  const name = freshId("choice");
  const items = order.map((index) => {
    const box = h("input", { type: "radio", name, value: String(index), id: freshId("option"), checked: index === chosen, on: { change: () => onChange(index) } });
    return h("div", { class: "lp-choice" }, box, h("label", { for: box.id }, all[index]));
  });
  return h("fieldset", { class: "lp-choices" }, h("legend", null, legend), items);
}

/** "Predict, then reveal": the answer comes only after a choice. */
export function prediction({ ask, choices: all, why }, order) {
  let chosen = null;
  const told = h("div", { role: "status" });
  const reveal = button(words.reveal, () => {
    if (chosen === null) {
      toast(words.choose);
      return;
    }
    const right = chosen === 0;
    fill(told, h("p", { class: right ? "notice" : "notice warning" }, h("strong", null, right ? `✓ ${words.right}` : `✕ ${words.wrong}`), " ", right ? "" : `${words.answerIs(all[0])}. `, why));
  });
  return h("div", { class: "stack lp-predict" }, choices({ legend: `${words.predict}: ${ask}`, choices: all, order, onChange: (index) => { chosen = index; } }), h("div", { class: "actions" }, reveal), told);
}
