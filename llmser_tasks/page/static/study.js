// Studies, and one: how far its cells are, and its main table so far.
import { csv, link, read } from "./api.js";
import { badge, bdi, card, el, note, show, table } from "./dom.js";
import { decimal, duration, when } from "./numbers.js";
import { backbone, method, REFERENCE } from "./titles.js";

const LOOK_AGAIN_MS = 5000;
const STATES = ["succeeded", "running", "failed", "open"];

export async function studies() {
  const found = await read("studies");
  const columns = [
    ["Study", (row) => el("a", { href: link("study", { study: row.study }) }, bdi(row.study)), "text id"],
    ["Title", (row) => bdi(row.title), "text wrap"],
    ["Cells", (row) => row.cells],
    ...STATES.map((state) => [state[0].toUpperCase() + state.slice(1), (row) => row[state] || "0"]),
    ["Last moved", (row) => when(row.moved_at), "text"],
  ];
  show(
    head("Studies", link(""), "← LLMSeR"),
    card(null, found.length ? table(columns, found, { csv: csv("studies"), caption: "Each cell is a run" }) : note("No study yet. Start one with llmser study quick, or trigger the DAG llmser_study.")),
  );
}

export async function study({ study: name }) {
  const found = await read("study", { study: name });
  const cells = found.cells.filter((cell) => cell.wanted);
  show(
    head(bdi(found.title), link("studies"), "← Studies", el("p", { class: "muted" }, bdi(name))),
    progress(cells),
    card("Main table", figures(found.figures, name), found.figures.length > 0 && note(found.conditional)),
    card("Cells", table(columns, found.cells, { csv: csv("cells", { study: name }), caption: "In the order in which they run; each is a run, which its name leads to" })),
  );
  if (cells.some((cell) => cell.state === "running")) again(name);
}

// Look again as long as something runs and this page is open.
function again(name) {
  const here = location.href;
  setTimeout(() => {
    if (location.href === here) study({ study: name }).catch(() => again(name));
  }, LOOK_AGAIN_MS);
}

const head = (title, href, back, more) => el("header", { class: "top" }, el("div", {}, el("a", { class: "kicker", href }, back), el("h1", {}, title), more));

function progress(cells) {
  const count = (...states) => cells.filter((cell) => states.includes(cell.state)).length;
  const done = count("succeeded");
  const failed = count("failed", "interrupted");
  const facts = [["Cells", cells.length], ["Succeeded", done], ["Running", count("running")], ["Failed", failed], ["Open", count("open")]];
  return card(
    null,
    el("progress", { max: Math.max(cells.length, 1), value: done, "aria-label": `${done} of ${cells.length} cells have succeeded` }),
    el("dl", { class: "facts" }, facts.map(([label, value]) => el("div", {}, el("dt", {}, label), el("dd", {}, String(value))))),
    failed > 0 && el("p", { class: "banner bad", role: "status" }, `${failed} ${failed === 1 ? "cell has" : "cells have"} failed. The same study, started again, takes up what is open.`),
  );
}

// Methods × datasets and backbones: N@10 of all and of tail users, mean ± sd over seeds.
function figures(rows, name) {
  if (!rows.length) return note("Figures show once a cell of the base has succeeded.");
  const places = [...new Set(rows.map((row) => JSON.stringify([row.dataset, row.backbone])))].map((place) => JSON.parse(place));
  const methods = [...new Set(rows.map((row) => row.method))];
  const best = (dataset, name_, field) => Math.max(...rows.filter((row) => row.dataset === dataset && row.backbone === name_).map((row) => row[field] ?? -1));
  return places.map(([dataset, of]) => {
    const here = methods.map((name_) => rows.find((row) => row.dataset === dataset && row.backbone === of && row.method === name_)).filter(Boolean);
    const value = (field) => (row) => [el(row[field] === best(dataset, of, field) ? "b" : "span", {}, decimal(row[field])), row[`${field} sd`] === null ? null : el("span", { class: "sd" }, ` ± ${decimal(row[`${field} sd`])}`)];
    return table(
      [
        ["Method", (row) => bdi(method(row.method).heading), "text"],
        ["N@10, all users", value("N@10")],
        ["N@10, tail users", value("N@10 tail")],
        ["Seeds", (row) => row.seeds],
      ],
      here,
      { csv: csv("main-table", { study: name }), caption: [bdi(dataset), `, ${backbone(of)}: full ranking, mean ± sd over seeds`], mark: (row) => (row.method === REFERENCE ? null : "") },
    );
  });
}

const changed = (cell) => Object.entries(cell.changed).map(([setting, value]) => `${setting} ${Array.isArray(value) ? value.join("+") : value}`).join(", ");

const columns = [
  ["State", (cell) => [badge(cell.state), !cell.wanted && el("span", { class: "tag" }, " no longer in the file")], "text"],
  ["Run", (cell) => (cell.started_at ? el("a", { href: link("run", { run: cell.run_id }) }, bdi(cell.run_id)) : bdi(cell.run_id)), "text id"],
  ["Dataset", (cell) => bdi(cell.dataset), "text"],
  ["Model", (cell) => backbone(cell.backbone), "text"],
  ["Method", (cell) => bdi(method(cell.method).heading), "text"],
  ["Seed", (cell) => cell.seed],
  ["Varied", (cell) => bdi(changed(cell)), "text wrap"],
  ["Took", (cell) => (cell.finished_at ? duration((new Date(cell.finished_at) - new Date(cell.started_at)) / 1000) : "–")],
  ["Why", (cell) => cell.message && cell.state !== "succeeded" && el("span", { class: "clamp bad" }, bdi(cell.message)), "text wrap"],
];
