// What readers of a dataset have, and had; runs that were kept from them, and why. Only the command line changes it.
import { csv, link } from "./api.js";
import { bdi, card, el, note, table } from "./dom.js";
import { decimal, when } from "./numbers.js";
import { method } from "./titles.js";

const HOW = { run: "by itself, when it was complete", hand: "llmser publish", rollback: "llmser rollback" };

export function published({ versions, kept_back: keptBack }, name) {
  if (!versions.length && !keptBack.length) return card("Published", note("Readers have nothing of this dataset yet."));
  return card("Published", versions.length ? switches(versions, name) : note("Readers have nothing of this dataset yet."), kept(keptBack, name), commands(versions, name));
}

const switches = (versions, name) =>
  table(
    [
      ["Version", (one) => [one.version, one.current && [" ", el("span", { class: "badge published" }, "readers have it")]], "text"],
      ["Run", (one) => el("a", { href: link("run", { run: one.run_id }) }, bdi(one.run_id)), "text id"],
      ["Switched", (one) => when(one.published_at), "text"],
      ["By", (one) => HOW[one.how] ?? one.how, "text"],
      ["Method", (one) => method(one.method).heading, "text"],
      ["Validation N@10", (one) => decimal(one.validation)],
    ],
    versions,
    { csv: csv("published", { dataset: name }), caption: "Each switch of what readers have, newest first", mark: (one) => (one.current ? "ours" : null) },
  );

const kept = (runs, name) =>
  runs.length > 0 && [
    el("div", { class: "spread kept" }, el("h3", {}, "Not published"), el("a", { class: "csv", href: csv("kept-back", { dataset: name }), download: true }, "CSV")),
    el("ul", { class: "reasons" }, runs.map((run) => el("li", {}, el("a", { href: link("run", { run: run.run_id }) }, when(run.started_at)), " ", bdi(run.unpublished)))),
  ];

// As text: whoever may look here may not for that reason switch.
const commands = (versions, name) =>
  el("p", { class: "muted small" }, "On the command line ",
    new Set(versions.map((one) => one.run_id)).size > 1 && [el("code", {}, `llmser rollback ${quoted(name)}`), " goes back to the run before, "],
    el("code", {}, "llmser publish RUN"), " publishes another run.");

const quoted = (text) => (/^[\w@%+=:,./-]+$/.test(text) ? text : `'${text.replaceAll("'", `'"'"'`)}'`);
