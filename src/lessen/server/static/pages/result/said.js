// What the run showed, in words: the result, what each stage did or did not do, warnings, how the weights began.

import { h } from "../../dom.js";
import { stages as stageNames } from "../../strings.js";
import { outcomes, said as words } from "../../strings-result.js";
import { card, say } from "../../widgets.js";

const SIGNS = { helped: "✓", "made worse": "✕", "no detectable change": "=", mixed: "±", unknown: "?" };
const KINDS = { helped: "good", "made worse": "bad", "no detectable change": "neutral", mixed: "warning", unknown: "neutral" };

/** The sentence that sums the run up, or what is known so far. */
export function lead(report) {
  const result = report.verdicts.find((v) => v.subject === "result");
  return result?.text ?? (report.rows.length ? words.soFar : words.nothing);
}

/** Notices above everything: not complete, trained from scratch, warnings. */
export function notices(report, run) {
  const out = [];
  if (!report.complete) out.push(notice(words.partial, "warning"));
  const note = run?.note ?? scratch(report);
  if (note) out.push(notice(note, "", words.note));
  for (const warning of report.warnings) {
    if (warning.message !== note) out.push(notice(warning.message, "warning", stageNames[warning.stage] ?? warning.stage));
  }
  return out;
}

function scratch(report) {
  const weights = report.rows.find((r) => r.stage === "teacher")?.facts.model?.weights;
  return weights === "random" ? words.scratch : null;
}

function notice(text, kind, before) {
  return h("div", { class: `notice ${kind}`.trim() }, before ? h("strong", null, `${before}: `) : null, say(text));
}

/** Every verdict of the report, stage by stage. */
export function verdicts(report) {
  const list = report.verdicts.filter((v) => v.subject !== "result");
  if (!list.length) return null;
  return card(
    { title: words.title, id: "verdicts" },
    h(
      "ul",
      { class: "verdicts" },
      list.map((v) =>
        h(
          "li",
          null,
          h(
            "span",
            { class: `badge ${KINDS[v.outcome] ?? "neutral"}` },
            h("span", { "aria-hidden": "true" }, SIGNS[v.outcome] ?? "•"),
            outcomes[v.outcome] ?? v.outcome,
          ),
          h(
            "span",
            { class: "what" },
            h("strong", null, `${stageNames[v.stage] ?? v.stage}, ${words.subjects[v.subject] ?? v.subject}. `),
            say(v.text),
          ),
        ),
      ),
    ),
  );
}
