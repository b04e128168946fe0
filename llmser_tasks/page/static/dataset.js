// One dataset: how its figures move from run to run.
import { csv, link, read } from "./api.js";
import { course } from "./charts.js";
import { bdi, card, el, note, show, table } from "./dom.js";
import { published } from "./published.js";
import { runsTable } from "./runs.js";
import { decimal, money, percent, signed, when, whole } from "./numbers.js";
import { backbone, listed, method, REFERENCE } from "./titles.js";

export async function dataset({ dataset: name }) {
  const [drift, readers, list] = await Promise.all([read("drift", { dataset: name }), read("published", { dataset: name }), runsTable(name)]);
  show(
    el("header", { class: "top" }, el("div", {}, el("a", { class: "kicker", href: link("") }, "← LLMSeR"), el("h1", {}, bdi(name)))),
    published(readers, name),
    ...panels(drift, name),
    card("Its runs", list),
  );
}

// What is known of a dataset beyond its runs, a panel each.
function panels(drift, name) {
  if (drift.length < 2) return [card("Drift", note("Drift shows once a second run has succeeded."))];
  const labels = drift.map((run) => new Date(run.started_at).toLocaleString("en-GB", { day: "numeric", month: "short", hour: "2-digit", minute: "2-digit" }));
  const line = (label, field, colour) => ({ label, values: drift.map((run) => run[field]), colour });
  const quality = listed(drift.flatMap((run) => Object.keys(run.methods))).map((name) => ({
    label: method(name).heading,
    values: drift.map((run) => run.methods[name] ?? null),
    colour: method(name).colour,
  }));
  const trusted = drift.some((run) => run.omega !== null);
  const asked = drift.some((run) => run.hallucination_rate !== null);
  return [
    el(
      "div",
      { class: trusted ? "figures three" : "figures" },
      course("Quality", "N@10, full ranking, all users, mean over seeds", labels, quality, "NDCG@10", (value) => decimal(value, 4)),
      trusted && course("Trust in pseudo items", "Mean ω over the users scored", labels, [line("ω", "omega", "third")], "ω", (value) => decimal(value, 3)),
      course("Size", "Users and items in training", labels, [line("Users", "users", "ours"), line("Items", "items", "plain")], "", whole),
    ),
    card(
      null,
      table(
        [
          ["Run", (run) => el("a", { href: link("run", { run: run.run_id }) }, when(run.started_at)), "text"],
          ["Model", (run) => backbone(run.backbone), "text"],
          [`${method(REFERENCE).heading} N@10`, (run) => decimal(run["reference N@10"])],
          ["Method", (run) => method(run.method).heading, "text"],
          ["N@10", (run) => decimal(run["N@10"])],
          ["Change", (run) => signed(run["N@10 change"])],
          ["H@10", (run) => decimal(run["H@10"])],
          ["Users", (run) => [whole(run.users), delta(run.users_change)]],
          ["Items", (run) => [whole(run.items), delta(run.items_change)]],
          ...(trusted ? [["Mean ω", (run) => decimal(run.omega, 3)]] : []),
          ...(asked ? [["Hallucinated", (run) => percent(run.hallucination_rate)]] : []),
          ["Calls", (run) => whole(run.calls)],
          ["Cost", (run) => money(run.cost)],
        ],
        [...drift].reverse(),
        { csv: csv("drift", { dataset: name }), caption: "Drift: each run that succeeded, the method whose recommendations it has, and its change from the run before" },
      ),
    ),
  ];
}

const delta = (value) => (value ? el("span", { class: "sd" }, ` ${value > 0 ? "+" : "−"}${whole(Math.abs(value))}`) : null);
