// One run: its head, its four views, and a fresh look every few seconds while it goes on.
import { airflow, link, read } from "./api.js";
import { forget } from "./charts.js";
import { costs } from "./costs.js";
import { badge, bdi, el, show } from "./dom.js";
import { progress } from "./progress.js";
import { results } from "./results.js";
import { users } from "./users.js";
import { duration, when } from "./numbers.js";
import { backbone, method } from "./titles.js";

const LOOK_EVERY_MS = 3000;
const GOING_ON = ["running", "queued"];
const VIEWS = { progress: ["Progress", progress], results: ["Results", results], users: ["Users", users], costs: ["Cost", costs] };
const OF_ANSWERS = ["users", "costs"]; // empty where a run asks nobody; its progress says so
let looking = null;

export async function run({ run: id, view }) {
  clearTimeout(looking);
  let state = await look(id);
  const views = Object.keys(VIEWS).filter((name) => state.run.asks || !OF_ANSWERS.includes(name));
  let chosen = views.includes(view) ? view : state.going || !state.run.has_report ? "progress" : "results";
  const head = el("div");
  const body = el("div", { id: "view" });
  show(head, body);
  let current = null;

  const frame = () =>
    head.replaceChildren(
      header(state),
      el("nav", { class: "tabs", "aria-label": "Views of the run" },
        views.map((name) =>
          el("button", { "aria-current": name === chosen ? "page" : null, onclick: () => open(name) }, VIEWS[name][0])),
        state.run.has_report && el("a", { href: link(`report/${encodeURIComponent(id)}`), target: "_self" }, "Report"),
      ),
    );
  const open = async (name) => {
    chosen = name;
    history.replaceState(null, "", link("run", { run: id, view: name }));
    forget();
    frame();
    const [content, update] = await VIEWS[name][1](state, again);
    if (chosen !== name) return;
    body.replaceChildren(...content);
    current = update;
  };
  const again = async () => {
    clearTimeout(looking);
    const before = state;
    try {
      state = await look(id);
    } catch (error) {
      if (error.status !== 503 && !(error instanceof TypeError)) throw error; // away for a moment: look again
      state = { ...before, away: true };
    }
    frame();
    if (before.going && !state.going && !state.away) await open(chosen); // it has just ended: read everything again
    else current?.(state);
    next();
  };
  const next = () => {
    if (state.going && !document.hidden) looking = setTimeout(again, LOOK_EVERY_MS);
  };
  document.onvisibilitychange = () => !document.hidden && state.going && again();
  await open(chosen);
  next();
}

// The warehouse knows the figures; whether tasks are still to come, after a clear say, only Airflow knows.
async function look(id) {
  const [found, orders] = await Promise.all([
    read("run", { run: id }),
    airflow(`dagRuns/${encodeURIComponent(id)}`).catch(() => null), // not one of Airflow's, or not for this role
  ]);
  const shown = GOING_ON.includes(orders?.state) ? "running" : found.state;
  return { run: found, inAirflow: orders !== null, shown, going: shown === "running" };
}

function header({ run, shown, away }) {
  const chips = [
    ["run", bdi(run.run_id)],
    ["", backbone(run.backbone)],
    ["started", when(run.started_at)],
    [shown === "running" ? "for" : "took", duration(run.seconds)],
    ...(run.asks ? [["asks", bdi(run.endpoint ?? "–")]] : []),
    ...(run.chosen ? [["recommendations by", method(run.chosen).title]] : []),
    ...(run.published_run && run.published_run !== run.run_id
      ? [["readers have", el("a", { href: link("run", { run: run.published_run }) }, bdi(run.published_run))]]
      : []),
  ];
  return el(
    "header",
    {},
    run.synthetic && el("p", { class: "banner" }, el("strong", {}, "SYNTHETIC DATA"), " — made-up users and items: these figures say nothing about real ones."),
    el("div", { class: "top" },
      el("div", {}, el("a", { class: "kicker", href: link("") }, "← LLMSeR"), el("h1", {}, el("a", { href: link("dataset", { dataset: run.dataset }) }, bdi(run.dataset)))),
      el("div", { class: "states" }, badge(shown), run.published_run === run.run_id && el("span", { class: "badge published" }, `published, version ${run.published_version}`))),
    el("ul", { class: "chips" }, chips.map(([name, value]) => el("li", {}, name && el("span", { class: "muted" }, `${name} `), value))),
    run.message && ["failed", "interrupted"].includes(shown) && el("p", { class: "banner bad", role: "alert" }, run.message),
    run.unpublished && el("p", { class: "banner", role: "status" }, bdi(run.unpublished)),
    away && el("p", { class: "banner", role: "status" }, "Postgres is away for a moment; what is shown here may be old."),
  );
}
