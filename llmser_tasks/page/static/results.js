// A run's figures: against the reference, against earlier runs, by group, and how far pseudo items are trusted.
import { csv, link, read } from "./api.js";
import { bars, forget, histogram, intervals, itemMap, waterfall } from "./charts.js";
import { bdi, card, download, el, note, select, table } from "./dom.js";
import { change, decimal, level, percent, probability, signed, tone, verdict, when, whole } from "./numbers.js";
import { listed, method, REFERENCE } from "./titles.js";

const METRICS = ["N@10", "H@10", "N@20", "H@20", "MRR"];
const KINDS = ["tail users", "head users", "tail items", "head items"];
const COLD = "cold items"; // tested, but in no comparison
const FIRST = ["all", ...KINDS, COLD];

export async function results({ run }) {
  const found = await read("results", { run: run.run_id });
  if (!found.metrics.length) return [[card(null, note("Figures appear when the run has been evaluated.")), ...omega(found.omega)], null];
  const compared = listed(found.comparisons.map((row) => row.method));
  const shown = { metric: "N@10", protocol: "full", name: compared.includes(found.method) ? found.method : compared[0] };
  const body = el("div");
  const draw = () => {
    forget();
    body.replaceChildren(...content(found, shown, run));
  };
  const protocols = [...new Set(found.metrics.map((row) => row.protocol))].sort();
  const set = (name) => (value) => {
    shown[name] = value;
    draw();
  };
  draw();
  const filters = el("div", { class: "filters" },
    compared.length > 1 && select("Method", compared.map((name) => [name, method(name).heading]), shown.name, set("name")),
    select("Metric", METRICS.map((name) => [name, name]), shown.metric, set("metric")),
    select("Protocol", protocols.map((name) => [name, name === "full" ? "full ranking" : `${name} (legacy)`]), shown.protocol, set("protocol")));
  return [[filters, body], null];
}

function content(found, { metric, protocol, name: compared }, run) {
  const of = { run: run.run_id };
  const metrics = found.metrics.filter((row) => row.protocol === protocol);
  const comparisons = found.comparisons.filter((row) => row.method === compared && row.protocol === protocol && row.metric === metric);
  const groups = ordered([...new Set(metrics.map((row) => row.user_group))]);
  const methods = listed(metrics.map((row) => row.method));
  const charted = methods.filter((name) => method(name).charted);
  const value = (group, name, figure) => metrics.find((row) => row.user_group === group && row.method === name && row.metric === figure);
  const users = (group) => metrics.find((row) => row.user_group === group)?.users;
  const grouped = (names) =>
    names.filter((group) => groups.includes(group)).map((group) => ({
      label: group,
      users: users(group),
      values: Object.fromEntries(methods.map((name) => [name, value(group, name, metric)])),
    }));
  const lengths = groups.filter((group) => group.startsWith("n"));
  const rows = ordered(comparisons.map((row) => row.user_group)).map((group) => comparisons.find((row) => row.user_group === group));
  const told = [comparisons.some((row) => row.seeds < 2) ? found.one_seed : null, found.conditional].filter(Boolean);
  const against = compared && `${method(compared).heading} against the ${method(REFERENCE).title}`;
  return [
    chosen(found),
    el("div", { class: "tiles" }, rows.filter((row) => FIRST.slice(0, 4).includes(row.user_group)).map((row) => tile(row, metric))),
    ...(rows.length ? [note([`${against}.`, ...told].join(" "))] : []),
    card("Every method, all users", methodsTable(methods, value, of, found)),
    rows.length > 0 && card(against, table(
      [
        ["Group", (row) => row.user_group, "text"],
        ["Users", (row) => whole(users(row.user_group))],
        [method(REFERENCE).heading, (row) => decimal(row.reference_mean)],
        [method(compared).heading, (row) => [decimal(row.mean), el("sup", {}, row.stars)]],
        ["Change", (row) => el("span", { class: tone(row) }, change(row.difference, row.reference_mean))],
        [heading(rows), interval],
        ["p (Holm)", (row) => probability(row.p_holm)],
      ],
      rows,
      { csv: csv("comparisons", of), caption: `${metric}. * p < .05, ** < .01, *** < .001 after Holm's correction over the run's comparisons; ▼ worse. ${[found.intervals, ...told].join(" ")}`, mark: (row) => (row.user_group === "all" ? "ours" : null) },
    )),
    el("div", { class: "figures" },
      bars("Tail and head", "Lines: sd over seeds", grouped(KINDS), charted, metric),
      rows.length > 0 && intervals("Who gains, who loses", "Filled: p < .05 after Holm's correction, over several seeds", rows.map((row) => ({ ...row, label: row.user_group })), compared, metric),
      bars("By length of the history", "n: items in the training history", grouped(lengths), charted, metric),
      ...omega(found.omega, of)),
    ...byPart(found, of),
    ...itemMaps(found, of),
    groups.includes(COLD) && card(`Cold items: ${whole(users(COLD))} of the test items`, note("Nobody had them in training. They are few, and tail items already, so there is no test of them."), methodsTable(methods, value, of, found, COLD)),
    ...searched(found, of),
    card("Against earlier runs", earlierTable(found.earlier.filter((row) => row.metric === metric), of, metric, found)),
  ].filter(Boolean);
}

const ordered = (groups) => [...FIRST.filter((group) => groups.includes(group)), ...groups.filter((group) => !FIRST.includes(group)).sort((one, two) => start(one) - start(two))];
const start = (group) => Number(/\d+/.exec(group)?.[0] ?? 0);
const heading = (rows) => `Difference, ${rows.length ? level(rows[0].level) : ""} interval`;
const interval = (row) => [signed(row.difference), el("span", { class: "sd" }, ` [${signed(row.low)}, ${signed(row.high)}]`)];

function tile(row, metric) {
  return el("section", { class: "tile" },
    el("div", { class: "kicker" }, `${row.user_group} · ${metric}`),
    el("div", { class: `big ${tone(row)}` }, change(row.difference, row.reference_mean), el("sup", {}, row.stars), el("span", { class: "word" }, ` ${verdict(row)}`)),
    el("div", { class: "muted small" }, `${decimal(row.reference_mean)} → ${decimal(row.mean)}`),
    el("div", { class: "muted small" }, interval(row), ` ${level(row.level)}`));
}

// Whose recommendations the run has, and why.
function chosen({ chosen: name, chosen_by: by, validation }) {
  if (!name) return null;
  const figures = listed(Object.keys(validation)).map((one) => `${method(one).title} ${decimal(validation[one])}`).join(", ");
  const why = by === "validation" ? `the best on validation items (N@10: ${figures})` : `as the settings say${figures && ` (N@10 on validation items: ${figures})`}`;
  return note("Recommendations are those of ", el("b", {}, method(name).title), `, ${why}.`);
}

// From the reference up to one method, part by part; of other metrics and protocols there is no such ladder.
function byPart({ rungs, by_part: told, one_seed: oneSeed, conditional }, of) {
  if (!rungs.length) return [];
  const [{ seeds, level: common }] = rungs;
  const ranked = `N@10, full ranking, from the ${method(REFERENCE).title} to ${method(rungs.at(-1).method).title}. ${told}`;
  const tested = `Lines: ${level(common)} intervals of these differences, paired over users, Holm-corrected over the ${rungs.length} comparisons shown here.`;
  const groups = FIRST.filter((group) => rungs.some((row) => row.user_group === group));
  return [
    card("What each part brought", note(`${ranked} ${tested} ${seeds < 2 ? oneSeed : "In colour: p < .05."} ${conditional} `, download(csv("rungs", of)))),
    el("div", { class: "figures" }, groups.map((group) => waterfall(group === "all" ? "All users" : "Tail users", "Lines: intervals", rungs.filter((row) => row.user_group === group)))),
  ];
}

// What training made of items.
function itemMaps({ item_maps: rows, of_item_maps: told }, of) {
  if (!rows.length) return [];
  const inOrder = listed(rows.map((row) => row.method)).map((name) => rows.find((row) => row.method === name));
  return [
    card("What items are to each model", note(`${told} `, download(csv("item-maps", of)))),
    el("div", { class: "figures three" }, inOrder.map(itemMap)),
  ];
}

// What a search on validation items tried, the best first.
function searched({ tried, told_of_search: told, shown_tried: shown }, of) {
  if (!told) return [];
  const more = tried.length - shown;
  return [card("What the search tried", table(
    [
      ["Tried", (row) => row.title, "text"],
      ["N@10", (row) => decimal(row["N@10"])],
      ["Tail users", (row) => decimal(row.tail)],
      ["Epochs", (row) => whole(row.epochs)],
      ["Best", (row) => whole(row.best_epoch)],
      ["How it ended", (row) => row.how, "text"],
    ],
    tried.slice(0, shown),
    { csv: csv("tried", of), caption: `${told}${more > 0 ? ` ${whole(more)} more were tried and were no better.` : ""}`, mark: (row) => (row.chosen ? "ours" : null) },
  ))];
}

function methodsTable(methods, value, of, { chosen: ours, conditional }, group = "all") {
  const best = Object.fromEntries(METRICS.map((metric) => [metric, Math.max(...methods.map((name) => value(group, name, metric)?.mean ?? 0))]));
  const cell = (name, metric) => {
    const found = value(group, name, metric);
    if (!found) return "–";
    return [el(found.mean === best[metric] ? "b" : "span", {}, decimal(found.mean)), found.sd ? el("span", { class: "sd" }, ` ± ${decimal(found.sd)}`) : null];
  };
  return table(
    [["Method", (name) => method(name).heading, "text"], ...METRICS.map((metric) => [metric, (name) => cell(name, metric)])],
    methods,
    { csv: csv("metrics", of), caption: `Mean ± sd over seeds; ${conditional} Bold: best of its column`, mark: (name) => (name === ours ? "ours" : null) },
  );
}

function earlierTable(rows, of, metric, { conditional, one_seed: oneSeed }) {
  if (!rows.length) return note("No earlier run of this dataset was tested on the same users and items, so none can be paired with it.");
  return table(
    [
      ["Earlier run", (row) => el("a", { href: link("run", { run: row.earlier_run }), title: row.earlier_run }, row.started_at ? when(row.started_at) : bdi(row.earlier_run)), "text"],
      ["Method", (row) => [...new Set([row.earlier_method ?? row.method, row.method])].map((name) => method(name).heading).join(" → "), "text"],
      ["Group", (row) => row.user_group, "text"],
      ["Then", (row) => decimal(row.earlier)],
      ["Now", (row) => [decimal(row.mean), el("sup", {}, row.stars)]],
      ["Change", (row) => el("span", { class: tone(row) }, change(row.difference, row.earlier))],
      [heading(rows), interval],
      ["p (Holm)", (row) => probability(row.p_holm)],
    ],
    [...rows].sort((one, two) => (two.started_at ?? "").localeCompare(one.started_at ?? "") || FIRST.indexOf(one.user_group) - FIRST.indexOf(two.user_group)),
    { csv: csv("earlier", of), caption: `What the runs recommend, then and now, ${metric}, full ranking, paired over users. ${rows.some((row) => row.seeds < 2) ? `${oneSeed} ` : ""}${conditional}` },
  );
}

function omega(rows, of) {
  if (!rows.length) return [];
  const sum = (of) => rows.reduce((total, row) => total + of(row), 0);
  const users = sum((row) => row.users);
  const compared = sum((row) => (row.outcome === "nothing" ? 0 : row.users));
  const right = sum((row) => (row.outcome === "right" ? row.users : 0));
  const mean = sum((row) => row.users * row.mean_omega) / users;
  const told = `Mean ω ${decimal(mean, 3)}; compared for ${percent(compared / users)} of users, the masked item was named for ${percent(compared ? right / compared : 0)} of these.`;
  return [histogram("How far pseudo items are trusted", el("span", {}, told, " ", of ? el("a", { class: "csv", href: csv("omega", of), download: true }, "CSV") : null), rows)];
}
