// One dataset: how its figures move from run to run.
import { csv, link, read } from "./api.js";
import { course } from "./charts.js";
import { bdi, card, el, note, show, table } from "./dom.js";
import { published } from "./published.js";
import { runsTable } from "./runs.js";
import { decimal, money, percent, signed, when, whole } from "./numbers.js";
import { backbone } from "./titles.js";

export async function dataset({ dataset: name }) {
  const [drift, readers, list] = await Promise.all([read("drift", { dataset: name }), read("published", { dataset: name }), runsTable(name)]);
  show(
    el("header", { class: "top" }, el("div", {}, el("a", { class: "kicker", href: link("") }, "← LLMSeR"), el("h1", {}, bdi(name)))),
    published(readers, name),
    ...panels(drift, name),
    card("Its runs", list),
  );
}

// What is known of a dataset beyond its runs stands here, a panel each.
function panels(drift, name) {
  if (drift.length < 2) return [card("Drift", note("Drift shows from the second run on that succeeded."))];
  const labels = drift.map((run) => new Date(run.started_at).toLocaleString("en-GB", { day: "numeric", month: "short", hour: "2-digit", minute: "2-digit" }));
  const line = (label, field, colour) => ({ label, values: drift.map((run) => run[field]), colour });
  return [
    el(
      "div",
      { class: "figures three" },
      course("Quality", "N@10, full ranking, all users, mean over seeds", labels, [line("Base", "base N@10", "base"), line("LLMSeR", "LLMSeR N@10", "llmser")], "NDCG@10", (value) => decimal(value, 4)),
      course("Trust in pseudo items", "Mean ω over the users scored", labels, [line("ω", "omega", "third")], "ω", (value) => decimal(value, 3)),
      course("Size", "Users and items in training", labels, [line("Users", "users", "llmser"), line("Items", "items", "base")], "", whole),
    ),
    card(
      null,
      table(
        [
          ["Run", (run) => el("a", { href: link("run", { run: run.run_id }) }, when(run.started_at)), "text"],
          ["Model", (run) => backbone(run.backbone), "text"],
          ["Base N@10", (run) => decimal(run["base N@10"])],
          ["LLMSeR N@10", (run) => decimal(run["LLMSeR N@10"])],
          ["Change", (run) => signed(run["LLMSeR N@10 change"])],
          ["LLMSeR H@10", (run) => decimal(run["LLMSeR H@10"])],
          ["Users", (run) => [whole(run.users), delta(run.users_change)]],
          ["Items", (run) => [whole(run.items), delta(run.items_change)]],
          ["Mean ω", (run) => decimal(run.omega, 3)],
          ["Hallucinated", (run) => percent(run.hallucination_rate)],
          ["Calls", (run) => whole(run.calls)],
          ["Cost", (run) => money(run.cost)],
        ],
        [...drift].reverse(),
        { csv: csv("drift", { dataset: name }), caption: "Drift: each run that succeeded, and its change from the one before" },
      ),
    ),
  ];
}

const delta = (value) => (value ? el("span", { class: "sd" }, ` ${value > 0 ? "+" : "−"}${whole(Math.abs(value))}`) : null);
