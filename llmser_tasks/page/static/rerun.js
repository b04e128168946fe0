// "Rerun failed batches": exactly the failed map indices and what follows.
import { asked, clear, failedBatches, follows, NONE } from "./clearing.js";
import { ASKING } from "./titles.js";
import { el } from "./dom.js";

export function rerun(state, again) {
  const failed = state.run.batches.filter((batch) => batch.state === "failed").length;
  if (!failed || state.going) return null;
  if (!state.inAirflow) return el("span", { class: "muted small" }, "Not one of Airflow's runs: continue it with `llmser run`.");
  if (!state.run.may_clear) return el("span", { class: "muted small" }, "Your role may look, not rerun.");
  const title = "Rerun failed batches";
  return el("button", { class: "primary", onclick: () => asked(title, "Rerun", () => prepare(state.run.run_id), again) }, title);
}

async function prepare(id) {
  const failed = await failedBatches(id);
  if (!failed.length) return [[NONE]];
  const list = ASKING.filter((step) => failed.some(([task]) => task === step)).map((step) =>
    el("li", {}, el("b", {}, step), ` ${failed.filter(([task]) => task === step).map(([, index]) => index).sort((a, b) => a - b).join(", ")}`),
  );
  const said = [
    el("p", {}, `${failed.length} failed ${failed.length === 1 ? "batch runs" : "batches run"} again, by map index:`),
    el("ul", {}, list),
    await follows(id, failed),
    el("p", { class: "muted small" }, "Answers that are there stay: only users without one are asked again, and nothing is paid for twice."),
  ];
  return [said, () => clear(id, failed, { dry: false })];
}
