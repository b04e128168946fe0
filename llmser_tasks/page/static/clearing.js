// Failed batches, cleared through Airflow's own REST interface with the session of whoever is here. So Airflow decides
// who may, and its audit log knows who did. Nothing is changed before a dialog has said what will be.
import { airflow } from "./api.js";
import { el } from "./dom.js";
import { ASKING } from "./titles.js";

const AT_ONCE = 100;

// [task, map index] of every batch whose task has failed for good.
export async function failedBatches(id) {
  const found = [];
  for (let offset = 0; ; offset += AT_ONCE) {
    const page = await airflow(`dagRuns/${encodeURIComponent(id)}/taskInstances?state=failed&limit=${AT_ONCE}&offset=${offset}`);
    found.push(...page.task_instances);
    if (!page.task_instances.length || offset + AT_ONCE >= page.total_entries) break;
  }
  return found.filter((task) => ASKING.includes(task.task_id) && task.map_index >= 0).map((task) => [task.task_id, task.map_index]);
}

// Exactly these, and what waits for them.
export const clear = (id, failed, { dry }) =>
  airflow("clearTaskInstances", {
    dag_run_id: id,
    task_ids: failed,
    include_downstream: true,
    only_failed: true,
    reset_dag_runs: true,
    dry_run: dry,
  });

export async function follows(id, failed) {
  const chosen = new Set(failed.map(String));
  const cleared = await clear(id, failed, { dry: true });
  const after = cleared.task_instances.filter((task) => !chosen.has(String([task.task_id, task.map_index])));
  return el("p", {}, after.length ? `What waits for them follows: ${[...new Set(after.map((task) => task.task_id))].join(", ")}.` : "Nothing else is cleared.");
}

// Asks before it acts: prepare() → [what is said, what is done then, if anything can be].
export async function asked(title, verb, prepare, again) {
  const text = el("div", {}, el("p", {}, "Looking …"));
  const confirm = el("button", { class: "primary", disabled: true }, verb);
  const cancel = el("button", { class: "plain" }, "Cancel");
  const dialog = el("dialog", { "aria-label": title }, el("h2", {}, title), text, el("div", { class: "actions" }, cancel, confirm));
  cancel.addEventListener("click", () => dialog.close());
  dialog.addEventListener("close", () => dialog.remove());
  document.body.append(dialog);
  dialog.showModal();
  const told = (error) => text.replaceChildren(el("p", { class: "bad", role: "alert" }, error.message));
  try {
    const [said, act] = await prepare();
    text.replaceChildren(...said);
    if (!act) return;
    confirm.disabled = false;
    confirm.addEventListener("click", async () => {
      confirm.disabled = true;
      try {
        await act();
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

export const NONE = el("p", {}, "Airflow has no failed batch of this run; it may be retrying by itself right now.");
