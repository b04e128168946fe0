// Runs, newest first, a page at a time.
import { csv, link, read } from "./api.js";
import { badge, bdi, el, note, table } from "./dom.js";
import { change, decimal, duration, money, when } from "./numbers.js";
import { backbone } from "./titles.js";

const AT_ONCE = 25;

export async function runsTable(dataset) {
  const box = el("div");
  let rows = [];
  const more = async () => {
    const last = rows.at(-1);
    const next = await read("runs", { dataset, started: last?.started_at, before: last?.run_id });
    rows = [...rows, ...next];
    const button = next.length === AT_ONCE && el("button", { class: "plain", onclick: more }, "Earlier runs");
    box.replaceChildren(rows.length ? table(columns(dataset), rows, { csv: csv("runs"), caption: "Base and LLMSeR: N@10, full ranking, all users. Failed: batches. v: the version that readers have" }) : note("None yet."), button || "");
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

const columns = (dataset) => [
  ["Run", (run) => el("a", { href: link("run", { run: run.run_id }) }, bdi(run.run_id)), "text id"],
  ...(dataset ? [] : [["Dataset", (run) => el("a", { href: link("dataset", { dataset: run.dataset }) }, bdi(run.dataset)), "text"]]),
  ["State", (run) => [badge(run.state), published(run)], "text"],
  ["Started", (run) => when(run.started_at), "text"],
  ["Took", (run) => (run.finished_at ? duration((new Date(run.finished_at) - new Date(run.started_at)) / 1000) : "–")],
  ["Model", (run) => backbone(run.backbone), "text"],
  ["Base", (run) => decimal(run.base)],
  ["LLMSeR", (run) => decimal(run.llmser)],
  ["Change", (run) => (run.llmser === null ? "–" : change(run.llmser - run.base, run.base))],
  ["Failed", (run) => run.failed || "0"],
  ["Cost", (run) => money(run.cost)],
];
