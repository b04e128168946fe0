// Batches of LLM questions as a grid, coloured by state; a batch tells more when it is chosen.
import { accept } from "./accept.js";
import { csv } from "./api.js";
import { download, el, note, select } from "./dom.js";
import { rerun } from "./rerun.js";
import { money, when, whole } from "./numbers.js";
import { ASKING, STEPS } from "./titles.js";

const titled = (step) => `${STEPS[step].short}: ${STEPS[step].asks}`;
const ROOMY = 60; // so many batches of a step or fewer have room for their figures
const STATES = ["failed", "running", "done", "waiting"];

// What can be done about failed batches: a button each, made from the run's state and what to do afterwards.
const ACTIONS = [rerun, accept];

export function batches(state, again) {
  const grid = el("div");
  const detail = el("div", { class: "chosen", "aria-live": "polite" });
  const actions = el("div", { class: "actions" });
  const filter = { step: "", state: "" };
  let chosen = null;
  let now = state;
  const draw = () => {
    const shown = all(now.run).filter((batch) => (!filter.step || batch.step === filter.step) && (!filter.state || batch.state === filter.state));
    grid.replaceChildren(...groups(shown, chosen, choose), shown.length ? "" : note(now.run.batches.length ? "No batch matches." : "No question has been asked yet."));
    const current = chosen && all(now.run).find((batch) => key(batch) === chosen);
    detail.replaceChildren(...(current ? details(current) : []));
    actions.replaceChildren(...ACTIONS.map((action) => action(now, again)).filter(Boolean));
  };
  const choose = (batch) => {
    chosen = chosen === key(batch) ? null : key(batch);
    draw();
  };
  const set = (name) => (value) => {
    filter[name] = value;
    draw();
  };
  const element = el(
    "section",
    { class: "card" },
    el("div", { class: "spread" }, el("h2", {}, "LLM batches"), download(csv("batches", { run: state.run.run_id }))),
    el("div", { class: "filters" },
      select("Step", [["", "all"], ...ASKING.map((step) => [step, STEPS[step].short])], "", set("step")),
      select("State", [["", "all"], ...STATES.map((name) => [name, name])], "", set("state")),
      actions),
    el("ul", { class: "legend" }, STATES.map((name) => el("li", {}, el("i", { class: `cell ${name}` }), name))),
    grid,
    detail,
  );
  return { element, update: (next) => ((now = next), draw()) };
}

const key = (batch) => `${batch.step} ${batch.batch}`;

// Those that have begun, and those that are planned.
function all(run) {
  const waiting = Object.entries(run.planned).flatMap(([step, planned]) => {
    const begun = new Set(run.batches.filter((batch) => batch.step === step).map((batch) => batch.batch));
    return Array.from({ length: planned }, (_, batch) => ({ step, batch, state: "waiting", label: `batch ${batch}` })).filter((one) => !begun.has(one.batch));
  });
  return [...run.batches, ...waiting].sort((one, two) => ASKING.indexOf(one.step) - ASKING.indexOf(two.step) || one.batch - two.batch);
}

function groups(shown, chosen, choose) {
  return ASKING.flatMap((step) => {
    const cells = shown.filter((batch) => batch.step === step);
    if (!cells.length) return [];
    const count = (name) => cells.filter((batch) => batch.state === name).length;
    const told = STATES.filter(count).map((name) => `${whole(count(name))} ${name}`).join(", ");
    return [
      el("h3", {}, titled(step), el("span", { class: "muted small" }, ` ${told}`)),
      el("div", { class: cells.length > ROOMY ? "grid" : "grid roomy" }, cells.map((batch) => cell(batch, chosen === key(batch), choose))),
    ];
  });
}

function cell(batch, chosen, choose) {
  const told = batch.state === "waiting" ? "waiting" : `${batch.label}: ${batch.state}, ${batch.answered} of ${batch.users} answered, ${without(batch)}`;
  return el(
    "button",
    { class: `cell ${batch.state}`, title: told, "aria-label": `${batch.step} ${told}`, "aria-pressed": String(chosen), onclick: () => choose(batch) },
    el("b", {}, batch.label.replace(/^users /, "")),
    batch.state === "waiting" ? null : el("span", {}, `${whole(batch.answered)} of ${whole(batch.users)}`),
    batch.failed ? el("span", {}, without(batch)) : null,
    batch.cost === null || batch.cost === undefined ? null : el("span", {}, `cost ${money(batch.cost)}`),
  );
}

const without = (batch) => batch.accepted ? `${whole(batch.accepted)} accepted` : `${whole(batch.failed)} failed`;

function details(batch) {
  if (batch.state === "waiting") return [note(`${titled(batch.step)}, batch ${batch.batch}: has not begun.`)];
  const facts = [
    ["State", batch.state],
    ["Answered", `${whole(batch.answered)} of ${whole(batch.users)} users`],
    ["Failed", `${whole(batch.failed)} users`],
    ...(batch.accepted_at ? [["Accepted", `${batch.accepted ? `${whole(batch.accepted)} users` : "nobody yet"}, ${when(batch.accepted_at)}`]] : []),
    ["Calls", whole(batch.calls)],
    ["Tokens", `${whole(batch.prompt_tokens)} + ${whole(batch.completion_tokens)}`],
    ["Cost", money(batch.cost)],
    ["Lost at most", money(batch.lost)],
    ["Updated", when(batch.updated_at)],
  ];
  return [
    el("h3", {}, `${titled(batch.step)} · map index ${batch.batch}, ${batch.label}`),
    el("dl", { class: "facts" }, facts.map(([name, value]) => el("div", {}, el("dt", {}, name), el("dd", {}, value)))),
    batch.message ? el("p", { class: "message" }, batch.message) : "",
  ];
}
