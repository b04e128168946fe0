// All datasets with their latest run, and all runs.
import { csv, link, read } from "./api.js";
import { badge, bdi, card, download, el, note, show } from "./dom.js";
import { runsTable } from "./runs.js";
import { change, decimal, duration, level, money, signed, tone, verdict, when, whole } from "./numbers.js";
import { backbone, method, REFERENCE } from "./titles.js";

export async function overview() {
  const [{ datasets, conditional }, list] = await Promise.all([read("overview"), runsTable()]);
  show(
    el("header", { class: "top" }, el("h1", {}, "LLMSeR"), el("span", { class: "spread" }, el("a", { href: link("studies") }, "Studies"), download(csv("datasets")))),
    datasets.length
      ? el("div", { class: "tiles wide" }, datasets.map(tile))
      : card(null, note("No run yet. Trigger the DAG llmser with a dataset, and it appears here.")),
    datasets.some((dataset) => dataset.difference !== null) && note(conditional),
    card("All runs", list),
  );
}

function tile(dataset) {
  const seconds = dataset.finished_at && (new Date(dataset.finished_at) - new Date(dataset.started_at)) / 1000;
  return el(
    "section",
    { class: "tile" },
    el("div", { class: "spread" }, el("a", { class: "name", href: link("dataset", { dataset: dataset.dataset }) }, bdi(dataset.dataset)), badge(dataset.state)),
    dataset.synthetic && el("span", { class: "tag" }, "synthetic data"),
    figures(dataset),
    dataset.succeeded && dataset.succeeded !== dataset.run_id && el("p", { class: "muted small" }, "Figures of the ", el("a", { href: link("run", { run: dataset.succeeded }) }, "last run that succeeded")),
    dataset.message && el("p", { class: "clamp bad" }, dataset.message),
    el("dl", { class: "facts" },
      fact("Latest run", el("a", { href: link("run", { run: dataset.run_id }) }, when(dataset.started_at))),
      fact("Took", seconds ? duration(seconds) : "–"),
      fact("Users tested", whole(dataset.users)),
      fact("Calls", whole(dataset.calls)),
      fact("Cost", money(dataset.cost)),
      fact("Readers have", dataset.published_run ? [el("a", { href: link("run", { run: dataset.published_run }) }, `version ${dataset.published_version}`), dataset.published_run === dataset.run_id ? ", the latest run" : null] : "nothing yet"),
      fact("Model", backbone(dataset.backbone)),
      dataset.chosen && fact("Recommendations by", method(dataset.chosen).heading),
    ),
  );
}

// The method that stands beside the reference, or the reference alone.
function figures(dataset) {
  const { reference_mean: before, mean: now, difference } = dataset;
  const reference = method(REFERENCE).title;
  if (before === null) return el("p", { class: "muted" }, "no figures yet");
  if (now === null) return el("div", {}, el("div", { class: "big" }, decimal(before)), el("div", { class: "muted" }, `N@10 of the ${reference}`));
  return el(
    "div",
    {},
    el("div", { class: `big ${tone(dataset)}` }, change(now - before, before), el("sup", {}, dataset.stars), difference === null ? null : el("span", { class: "word" }, ` ${verdict(dataset)}`)),
    el("div", { class: "muted" }, `N@10 ${reference} ${decimal(before)} → ${method(dataset.method).title} ${decimal(now)}`),
    difference === null ? null : el("div", { class: "muted small" }, `difference ${signed(difference)} [${signed(dataset.low)}, ${signed(dataset.high)}] ${level(dataset.level)}`),
  );
}

const fact = (name, value) => el("div", {}, el("dt", {}, name), el("dd", {}, value));
