// "Go on without N users": failed batches run again and ask nothing, so the run goes on without those users.
import { read, write } from "./api.js";
import { asked, clear, failedBatches, follows, NONE } from "./clearing.js";
import { ASKING } from "./titles.js";
import { el } from "./dom.js";
import { whole } from "./numbers.js";

export function accept(state, again) {
  const failed = state.run.batches.filter((batch) => batch.state === "failed");
  if (!failed.length || state.going || !state.inAirflow || !state.run.may_clear) return null;
  const title = `Go on without ${people(failed)}`;
  return el("button", { class: "plain", onclick: () => asked(title, "Go on", () => prepare(state.run.run_id), again) }, title);
}

async function prepare(id) {
  const [failed, { batches }] = await Promise.all([failedBatches(id), read("run", { run: id })]);
  const names = new Set(failed.map(String));
  const parts = batches.filter((batch) => names.has(String([batch.step, batch.batch])));
  if (!parts.length) return [[failed.length ? el("p", {}, "No failed batch has begun yet; rerun them first.") : NONE]];
  const listed = parts.map((batch) => [batch.step, batch.batch]);
  const said = [
    el("p", {}, `At most ${people(parts)} go without an answer, of ${parts.length} failed ${parts.length === 1 ? "batch" : "batches"}:`),
    el("ul", {}, ASKING.filter((step) => parts.some((batch) => batch.step === step)).map((step) => of(step, parts.filter((batch) => batch.step === step)))),
    await follows(id, listed),
    el("p", { class: "muted small" }, "Nothing more is asked for these batches. Answers that are there count; for users without one the pseudo items have no weight (α = 0). ", el("code", {}, "llmser accept RUN --revoke"), " takes it back."),
  ];
  return [said, () => act(id, listed)];
}

const of = (step, parts) =>
  el("li", {}, el("b", {}, step), ` ${parts.map((batch) => `${batch.batch} (${batch.label}, ${whole(missing([batch]))} without)`).join("; ")}`);

async function act(id, listed) {
  const accepted = await write("accept", { run: id, batches: listed });
  await clear(id, accepted.map((part) => [part.step, part.batch]), { dry: false });
}

const missing = (batches) => batches.reduce((sum, batch) => sum + batch.users - batch.answered, 0);
const people = (batches) => `${whole(missing(batches))} ${missing(batches) === 1 ? "user" : "users"}`;
