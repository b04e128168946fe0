// Runs, newest first, a page at a time.
import { csv, link, read } from "./api.js";
import { badge, bdi, el, note, table } from "./dom.js";
import { change, decimal, duration, money, when } from "./numbers.js";
import { backbone, method, REFERENCE } from "./titles.js";

const AT_ONCE = 25;
const CAPTION =
  `N@10, full ranking, all users: of the ${method(REFERENCE).title}, and of the method whose recommendations the run has; where that is the` +
  ` ${method(REFERENCE).title}, of the best other one, in brackets. Failed: batches. v: the version that readers have`;

export async function runsTable(dataset) {
  const box = el("div");
  let rows = [];
  const more = async () => {
    const last = rows.at(-1);
    const next = await read("runs", { dataset, started: last?.started_at, before: last?.run_id });
    rows = [...rows, ...next];
    const button = next.length === AT_ONCE && el("button", { class: "plain", onclick: more }, "Earlier runs");
    box.replaceChildren(rows.length ? table(columns(dataset), rows, { csv: csv("runs"), caption: CAPTION }) : note("None yet."), button || "");
  };
  await more();
  return box;
}

const published = (run) =>
  run.published_version !== null
    ? [" ", el("span", { class: "badge published", title: `Published: version ${run.published_version}` }, `v${run.published_version}`)]
    : run.kept_back
      ? [" ", el("span", { class: "tag" }, "kept back")]
      : null;

const named = (run) => (run.method === run.chosen ? method(run.method).heading : `(${method(run.method).heading})`);

const columns = (dataset) => [
  ["Run", (run) => el("a", { href: link("run", { run: run.run_id }) }, bdi(run.run_id)), "text id"],
  ...(dataset ? [] : [["Dataset", (run) => el("a", { href: link("dataset", { dataset: run.dataset }) }, bdi(run.dataset)), "text"]]),
  ["State", (run) => [badge(run.state), published(run)], "text"],
  ["Started", (run) => when(run.started_at), "text"],
  ["Took", (run) => (run.finished_at ? duration((new Date(run.finished_at) - new Date(run.started_at)) / 1000) : "–")],
  ["Model", (run) => backbone(run.backbone), "text"],
  [method(REFERENCE).heading, (run) => decimal(run.reference_mean)],
  ["Method", (run) => (run.mean === null ? "–" : [el("span", { class: "sd" }, `${named(run)} `), decimal(run.mean)])],
  ["Change", (run) => (run.mean === null ? "–" : change(run.mean - run.reference_mean, run.reference_mean))],
  ["Failed", (run) => run.failed || "0"],
  ["Cost", (run) => money(run.cost)],
];
