// What the questions cost, and how far the answers could be used.
import { csv, read } from "./api.js";
import { bdi, card, el, note, table } from "./dom.js";
import { money, percent, whole } from "./numbers.js";

export async function costs({ run }) {
  const found = await read("costs", { run: run.run_id });
  const of = { run: run.run_id };
  const later = note("Counted once the answers of the whole run are in.");
  const quality = found["answer-quality"];
  return [
    [
      el("div", { class: "tiles" }, quality.filter((row) => row.invented !== null).map(rates)),
      card("By step", found.costs.length ? table(
        [
          ["Step", (row) => row.step, "text"],
          ["Users", (row) => whole(row.users)],
          ["Answered", (row) => whole(row.answered)],
          ["Unanswered", (row) => whole(row.failed)],
          ["Calls", (row) => whole(row.calls)],
          ["Prompt tokens", (row) => whole(row.prompt_tokens)],
          ["Completion tokens", (row) => whole(row.completion_tokens)],
          ["Cost", (row) => money(row.cost)],
          ["Lost at most", (row) => money(row.lost)],
        ],
        found.costs,
        { csv: csv("costs", of), caption: run.budget === null ? "No budget is set. – means that no price is known" : `Budget ${money(run.budget)}` },
      ) : note("Nothing has been asked.")),
      card("By group of users", found["group-costs"].length ? table(
        [
          ["Step", (row) => row.step, "text"],
          ["Group", (row) => row.user_group, "text"],
          ["Users", (row) => whole(row.users)],
          ["Answers paid", (row) => whole(row.answers_paid)],
          ["Prompt tokens", (row) => whole(row.prompt_tokens)],
          ["Completion tokens", (row) => whole(row.completion_tokens)],
          ["Cost", (row) => money(row.cost)],
          ["A user", (row) => money(row.cost_per_user)],
        ],
        found["group-costs"],
        { csv: csv("group-costs", of), caption: "A question that several users share is paid once, and they share its cost" },
      ) : later),
      card("Answers", quality.length ? table(
        [
          ["Step", (row) => row.step, "text"],
          ["Answered by", (row) => bdi(row.answered_by ?? "–"), "text"],
          ["Users", (row) => whole(row.users)],
          ["Hallucinated", (row) => percent(row.hallucination_rate, 2)],
          ["Mended", (row) => percent(row.repair_rate, 2)],
          ["Unusable", (row) => percent(row.unusable_rate, 2)],
          ["As agreed", (row) => whole(row.strict)],
          ["JSON mended", (row) => whole(row.repaired)],
          ["Number found", (row) => whole(row.id_pattern)],
          ["Title matched", (row) => whole(row.fuzzy)],
          ["Filled", (row) => whole(row.fill)],
          ["Invented", (row) => whole(row.invented)],
        ],
        quality,
        { csv: csv("answer-quality", of), caption: "Hallucinated: of all that was named, what is no candidate. Mended: of all picks, those not in the agreed form. Unusable: users without a pick" },
      ) : later),
    ],
    null,
  ];
}

const rates = (row) =>
  el("section", { class: "tile" },
    el("div", { class: "kicker" }, `${row.step} · hallucinated`),
    el("div", { class: `big ${row.hallucination_rate > 0.05 ? "down" : ""}` }, percent(row.hallucination_rate, 2)),
    el("div", { class: "muted small" }, `${percent(row.repair_rate, 2)} mended · ${percent(row.unusable_rate, 2)} of users without a pick`));
