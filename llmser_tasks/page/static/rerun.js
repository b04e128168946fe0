// "Rerun failed batches": clears exactly the failed map indices and what follows, through Airflow's own REST interface
// with the session of whoever is here. So Airflow decides who may, and its audit log knows who did.
import { airflow } from "./api.js";
import { el } from "./dom.js";

const ASKING = ["snf", "reason"];
const AT_ONCE = 100;

export function rerun(state, again) {
  const failed = state.run.batches.filter((batch) => batch.state === "failed").length;
  if (!failed || state.going) return null;
  if (!state.inAirflow) return el("span", { class: "muted small" }, "Not a run of Airflow: take it up again with `llmser run`.");
  if (!state.run.may_clear) return el("span", { class: "muted small" }, "Your role may look, not rerun.");
  return el("button", { class: "primary", onclick: () => ask(state.run.run_id, again) }, "Rerun failed batches");
}

async function ask(id, again) {
  const text = el("div", {}, el("p", {}, "Looking …"));
  const confirm = el("button", { class: "primary", disabled: true }, "Rerun");
  const cancel = el("button", { class: "plain" }, "Cancel");
  const dialog = el("dialog", { "aria-label": "Rerun failed batches" }, el("h2", {}, "Rerun failed batches"), text, el("div", { class: "actions" }, cancel, confirm));
  cancel.addEventListener("click", () => dialog.close());
  dialog.addEventListener("close", () => dialog.remove());
  document.body.append(dialog);
  dialog.showModal();
  const told = (error) => text.replaceChildren(el("p", { class: "bad", role: "alert" }, error.message));
  try {
    const failed = await failedBatches(id);
    if (!failed.length) return text.replaceChildren(el("p", {}, "Airflow has no failed batch of this run; it may be tried again by itself just now."));
    const cleared = await clear(id, failed, true);
    text.replaceChildren(...plan(failed, cleared));
    confirm.disabled = false;
    confirm.addEventListener("click", async () => {
      confirm.disabled = true;
      try {
        await clear(id, failed, false);
        dialog.close();
        await again();
      } catch (error) {
        told(error);
      }
    });
  } catch (error) {
    told(error);
  }
}

// [task, map index] of every batch whose task has failed for good.
async function failedBatches(id) {
  const found = [];
  for (let offset = 0; ; offset += AT_ONCE) {
    const page = await airflow(`dagRuns/${encodeURIComponent(id)}/taskInstances?state=failed&limit=${AT_ONCE}&offset=${offset}`);
    found.push(...page.task_instances);
    if (!page.task_instances.length || offset + AT_ONCE >= page.total_entries) break;
  }
  return found.filter((task) => ASKING.includes(task.task_id) && task.map_index >= 0).map((task) => [task.task_id, task.map_index]);
}

const clear = (id, failed, dry) =>
  airflow("clearTaskInstances", {
    dag_run_id: id,
    task_ids: failed,
    include_downstream: true,
    only_failed: true,
    reset_dag_runs: true,
    dry_run: dry,
  });

function plan(failed, cleared) {
  const chosen = new Set(failed.map(String));
  const after = cleared.task_instances.filter((task) => !chosen.has(String([task.task_id, task.map_index])));
  const list = ASKING.filter((step) => failed.some(([task]) => task === step)).map((step) =>
    el("li", {}, el("b", {}, step), ` ${failed.filter(([task]) => task === step).map(([, index]) => index).sort((a, b) => a - b).join(", ")}`),
  );
  return [
    el("p", {}, `${failed.length} failed ${failed.length === 1 ? "batch runs" : "batches run"} again, by map index:`),
    el("ul", {}, list),
    el("p", {}, after.length ? `What waits for them follows: ${[...new Set(after.map((task) => task.task_id))].join(", ")}.` : "Nothing else is cleared."),
    el("p", { class: "muted small" }, "Answers that are there stay: only users without one are asked again, and nothing is paid for twice."),
  ];
}
