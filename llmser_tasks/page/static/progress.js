// How far a run is: its steps, its batches, and what can be done about batches that failed.
import { csv } from "./api.js";
import { batches } from "./batches.js";
import { card, download, el, note } from "./dom.js";
import { duration, money, rate, whole } from "./numbers.js";
import { method } from "./titles.js";

const OVER = ["done", "unchanged", "skipped"];

export async function progress(state, again) {
  const tiles = el("div", { class: "tiles" });
  const without = el("div");
  const steps = el("ol", { class: "steps" });
  const grid = state.run.asks ? batches(state, again) : { element: card("LLM batches", nobody(state.run)), update: () => {} };
  const update = (now) => {
    tiles.replaceChildren(...summary(now.run));
    without.replaceChildren(...untitled(now.run), ...accepted(now.run));
    steps.replaceChildren(...now.run.steps.map((step) => line(step, now.run)));
    grid.update(now);
  };
  update(state);
  const head = el("div", { class: "spread" }, el("h2", {}, "Steps"), download(csv("steps", { run: state.run.run_id })));
  return [[tiles, without, grid.element, el("section", { class: "card" }, head, steps)], update];
}

function nobody(run) {
  const titles = run.methods.map((name) => method(name).title);
  return note(`No LLM is asked: ${titles.join(", ")} ${titles.length === 1 ? "needs" : "need"} no answers. So there are no batches, no users to go through and no cost.`);
}

function untitled(run) {
  const askable = run.askable;
  if (!askable || Object.values(askable.steps).every((users) => users === askable.users)) return [];
  const asked = Object.entries(askable.steps).map(([step, users]) => `${whole(users)} of ${whole(askable.users)} users in ${step}`).join(", ");
  const few = Math.min(...Object.values(askable.steps), askable.gaining ?? askable.users) * 2 < askable.users;
  return [el("p", { class: few ? "banner" : "muted" }, el("strong", {}, "Can be asked"), `: ${asked}. ${whole(askable.titled)} of ${whole(askable.items)} items have a title; about the others there is nothing to ask.`)];
}

function accepted(run) {
  const steps = Object.entries(run.accepted);
  const all = steps.reduce((total, [, users]) => total + users, 0);
  if (!all) return [];
  const where = steps.map(([step, users]) => `${whole(users)} in ${step}`).join(", ");
  return [el("p", { class: "banner" }, el("strong", {}, `${whole(all)} ${all === 1 ? "user" : "users"} accepted without an answer`), `: ${where}. Someone let the run go on without them; they count as users without a usable answer.`)];
}

function summary(run) {
  const sum = (field) => run.batches.reduce((total, batch) => total + (batch[field] ?? 0), 0);
  const priced = run.batches.some((batch) => batch.cost !== null);
  const over = run.steps.filter((step) => OVER.includes(step.state)).length;
  const failed = run.batches.filter((batch) => batch.state === "failed").length;
  const tile = (title, value, more, kind = "") =>
    el("section", { class: "tile" }, el("div", { class: "kicker" }, title), el("div", { class: `big ${kind}` }, value), el("div", { class: "muted small" }, more));
  const steps = tile("Steps", `${over} of ${run.steps.length}`, `${run.steps.filter((step) => step.state === "unchanged").length} unchanged, skipped`);
  if (!run.asks) return [steps];
  return [
    steps,
    tile("Failed batches", whole(failed), `of ${whole(run.batches.length)} begun`, failed ? "down" : ""),
    tile("Answered", whole(sum("answered")), `${whole(sum("failed"))} users without an answer`),
    tile("Calls", whole(sum("calls")), `${whole(sum("prompt_tokens") + sum("completion_tokens"))} tokens`),
    tile("Cost", priced ? money(sum("cost")) : "–", run.budget === null ? "no budget set" : `budget ${money(run.budget)}`),
  ];
}

function line(step, run) {
  const { state, done, total, unit } = step;
  const share = total ? Math.min(1, done / total) : null;
  const parts = [];
  if (state === "unchanged") parts.push("unchanged, skipped");
  if (state === "skipped") parts.push("nothing to do");
  if (step.parts > 1) parts.push(`${step.parts_done} of ${Math.max(step.parts, run.planned[step.step] ?? 0)} parts`);
  if (unit && state !== "unchanged") parts.push(total ? `${whole(done)} of ${whole(total)} ${unit}` : `${whole(done)} ${unit}`);
  if (state === "running") parts.push(rate(step.rate, unit), step.seconds_left === null ? "" : `${duration(step.seconds_left)} left`);
  if (step.note && ["running", "failed"].includes(state)) parts.push(step.note);
  const bar = el("progress", { max: "1", value: state === "waiting" ? "0" : OVER.includes(state) ? "1" : share, "aria-label": step.title });
  return el(
    "li",
    { class: state },
    el("span", { class: "mark", title: state, "aria-label": state }, { done: "✔", unchanged: "✔", skipped: "–", running: "▶", failed: "✘" }[state] ?? "·"),
    el("span", { class: "title" }, step.title),
    bar,
    el("span", { class: "muted detail" }, parts.filter(Boolean).join(" · ")),
    el("span", { class: "muted took" }, ["waiting", "skipped"].includes(state) ? "" : duration(step.seconds)),
  );
}
