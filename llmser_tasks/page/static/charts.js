// Charts in the page's own colours, light or dark. Chart.js draws on a canvas, so no text can become markup.
import { el } from "./dom.js";
import { decimal, signed, whole } from "./numbers.js";
import { method, parts, REFERENCE } from "./titles.js";

const alive = new Set();
const named = (name) => getComputedStyle(document.documentElement).getPropertyValue(`--${name}`).trim();
const colour = (name) => named(name) || named("muted");

export function forget() {
  for (const chart of alive) chart.destroy();
  alive.clear();
}

// Thin bars for a standard deviation or an interval: dataset.spans holds [low, high] or null per value.
const spans = {
  id: "spans",
  afterDatasetsDraw(chart) {
    const across = chart.options.indexAxis === "y";
    const context = chart.ctx;
    chart.data.datasets.forEach((dataset, index) => {
      if (!dataset.spans || !chart.isDatasetVisible(index)) return;
      const scale = chart.scales[across ? "x" : "y"];
      chart.getDatasetMeta(index).data.forEach((point, at) => {
        if (!dataset.spans[at]) return;
        const [low, high] = dataset.spans[at].map((value) => scale.getPixelForValue(value));
        context.save();
        context.strokeStyle = dataset.spanColour ?? colour("ink");
        context.lineWidth = dataset.spanWidth ?? 1;
        context.lineCap = "round";
        context.beginPath();
        if (across) context.moveTo(low, point.y), context.lineTo(high, point.y);
        else context.moveTo(point.x, low), context.lineTo(point.x, high);
        context.stroke();
        context.restore();
      });
    });
  },
};

function figure(title, caption, description, config, height = 280) {
  const canvas = el("canvas", { role: "img", "aria-label": description });
  const box = el("div", { class: "plot" }, canvas);
  box.style.minHeight = `${height}px`;
  const made = el("figure", { class: "card chart" }, el("h3", {}, title), box, el("figcaption", {}, caption));
  requestAnimationFrame(() => canvas.isConnected && alive.add(new Chart(canvas, finished(config))));
  return made;
}

function finished(config) {
  const font = { family: getComputedStyle(document.body).fontFamily, size: 12 };
  const axis = (given = {}) => ({
    border: { display: false },
    ...given,
    grid: { color: colour("line"), display: given.grid !== false },
    ticks: { color: colour("muted"), font, maxRotation: 0, ...given.ticks },
    title: { display: Boolean(given.title), text: given.title, color: colour("muted"), font },
  });
  const { x, y, ...rest } = config.options?.scales ?? {};
  return {
    ...config,
    plugins: [spans],
    options: {
      responsive: true,
      maintainAspectRatio: false,
      animation: false,
      ...config.options,
      scales: { ...rest, x: axis(x), y: axis(y) },
      plugins: {
        legend: { labels: { color: colour("ink"), font, boxWidth: 12, boxHeight: 12 }, ...config.options?.legend },
        tooltip: { ...config.options?.tooltip },
      },
    },
  };
}

// groups: [{ label, users, values: { method: { mean, sd } } }]
export function bars(title, caption, groups, methods, metric) {
  const datasets = methods.map((name) => ({
    label: method(name).heading,
    data: groups.map((group) => group.values[name]?.mean ?? null),
    spans: groups.map(({ values }) =>
      values[name]?.sd ? [Math.max(0, values[name].mean - values[name].sd), values[name].mean + values[name].sd] : null,
    ),
    backgroundColor: colour(method(name).colour),
    borderRadius: 3,
    maxBarThickness: 34,
  }));
  const highest = Math.max(0, ...datasets.flatMap(({ data, spans: lines }) => data.map((mean, at) => lines[at]?.[1] ?? mean ?? 0)));
  return figure(title, caption, `${metric} of ${methods.map((name) => method(name).heading).join(", ")} per group`, {
    type: "bar",
    data: { labels: groups.map((group) => [group.label, `${whole(group.users)} users`]), datasets },
    options: {
      scales: {
        x: { grid: false },
        y: { beginAtZero: true, suggestedMax: highest, title: metric, ticks: { callback: (value) => decimal(value, 3) } },
      },
      tooltip: { callbacks: { label: (item) => `${item.dataset.label} ${decimal(item.raw)}` } },
    },
  });
}

// rows: [{ label, difference, low, high, level, stars }]
export function intervals(title, caption, rows, name, metric) {
  const ours = colour(method(name).colour);
  const dataset = {
    data: rows.map((row) => ({ x: row.difference, y: row.label })),
    spans: rows.map((row) => [row.low, row.high]),
    spanColour: ours,
    spanWidth: 3,
    pointRadius: 6,
    pointHoverRadius: 7,
    borderColor: ours,
    borderWidth: 2,
    pointBackgroundColor: rows.map((row) => (row.stars ? ours : colour("card"))),
    showLine: false,
  };
  const edge = Math.max(...rows.flatMap((row) => [Math.abs(row.low), Math.abs(row.high)]), 1e-6) * 1.1;
  return figure(title, caption, `Differences in ${metric} with intervals`, {
    type: "line",
    data: { labels: rows.map((row) => row.label), datasets: [dataset] },
    options: {
      indexAxis: "y",
      legend: { display: false },
      scales: {
        x: { type: "linear", suggestedMin: -edge, suggestedMax: edge, title: `${method(name).title} − ${method(REFERENCE).title}, ${metric}`, ticks: { maxTicksLimit: 7, callback: (value) => signed(value, 3) } },
        y: { type: "category", grid: false, offset: true, ticks: { autoSkip: false } },
      },
      tooltip: {
        callbacks: {
          label: ({ dataIndex }) =>
            `${signed(rows[dataIndex].difference)} [${signed(rows[dataIndex].low)}, ${signed(rows[dataIndex].high)}]`,
        },
      },
    },
  }, Math.max(220, 34 * rows.length + 60));
}

// rows of rungs, of one group, from the reference up
export function waterfall(title, caption, rows) {
  const reached = rows.map((row) => row.mean);
  const [start, end] = [rows[0].previous_mean, reached.at(-1)];
  const added = rows.map((row) => parts(row.added).map((part) => `+\u00a0${part}`).join(" "));
  const brought = rows.map((row) => `${signed(row.difference)} [${signed(row.low)}, ${signed(row.high)}]`);
  const ends = rows.map((row) => [row.previous_mean + row.low, row.previous_mean + row.high]);
  const edge = rows.map((row) => colour(!row.stars ? "plain" : row.difference > 0 ? "ours" : "bad"));
  const dataset = {
    data: [[start, start], ...rows.map((row) => [row.previous_mean, row.mean]), [end, end]],
    spans: [null, ...ends, null],
    backgroundColor: [colour("plain"), ...rows.map((row, at) => (row.stars ? edge[at] : colour("card"))), colour("ink")],
    borderColor: [colour("plain"), ...edge, colour("ink")],
    borderWidth: 1.5,
    borderSkipped: false,
    minBarLength: 3, // a level is a line
    maxBarThickness: 60,
  };
  const said = [decimal(start), ...rows.map((row, at) => `${brought[at]}${row.stars}`), decimal(end)];
  const names = [method(REFERENCE).title, ...added, "together"];
  const written = [decimal(start), ...rows.map((row) => signed(row.difference) + row.stars), decimal(end)];
  const levels = [start, ...reached, ...ends.flat()];
  const room = 0.05 * (Math.max(...levels) - Math.min(...levels)) || 1e-4;
  return figure(title, caption, `What each part adds to N@10: ${names.map((name, at) => `${name} ${said[at]}`).join("; ")}`, {
    type: "bar",
    data: { labels: names.map((name, at) => [...lines(name, Math.max(10, 48 / names.length)), written[at]]), datasets: [dataset] },
    options: {
      legend: { display: false },
      scales: {
        x: { grid: false, ticks: { autoSkip: false } },
        y: { beginAtZero: false, min: Math.min(...levels) - room, max: Math.max(...levels) + room, title: "N@10", ticks: { includeBounds: false, callback: (value) => decimal(value) } },
      },
      tooltip: { callbacks: { title: ([item]) => names[item.dataIndex], label: (item) => said[item.dataIndex] } },
    },
  });
}

// row of item_maps: every item's place, head items over tail items
export function itemMap(row) {
  const dots = (label, isHead, name) => ({
    label,
    data: row.xs.flatMap((x, at) => (row.heads[at] === isHead ? [{ x, y: row.ys[at] }] : [])),
    backgroundColor: `${colour(name)}99`, // they lie over each other
    pointRadius: 2,
    pointHoverRadius: 2,
    borderWidth: 0,
  });
  const hidden = { display: false, min: -1.03, max: 1.03 };
  return figure(method(row.method).heading, row.told, `${method(row.method).heading}: ${row.told}`, {
    type: "scatter",
    data: { datasets: [dots("head items", true, "third"), dots("tail items", false, "ours")] }, // the first is drawn last
    options: { events: [], maintainAspectRatio: true, aspectRatio: 0.9, scales: { x: hidden, y: hidden }, tooltip: { enabled: false } }, // square, below a legend
  }, 360); // less would narrow it on a phone
}

// A text in lines of at most so many characters, where its words allow it.
function lines(text, most) {
  return text.split(" ").reduce((found, word) => {
    const longer = found.length ? `${found.at(-1)} ${word}` : word;
    return longer.length <= most ? [...found.slice(0, -1), longer] : [...found, word];
  }, []);
}

// rows of omega_histogram
export function histogram(title, caption, rows) {
  const kinds = [
    ["right", "the masked item was named", "ours"],
    ["other", "another was named", "plain"],
    ["nothing", "nothing to compare", "line"],
  ];
  const counts = Object.fromEntries(rows.map((row) => [`${row.bucket} ${row.outcome}`, row.users]));
  const buckets = Array.from({ length: 20 }, (_, bucket) => bucket);
  const datasets = kinds.map(([kind, label, name]) => ({
    label,
    data: buckets.map((bucket) => counts[`${bucket} ${kind}`] ?? 0),
    backgroundColor: colour(name),
    categoryPercentage: 1,
    barPercentage: 0.9,
  }));
  return figure(title, caption, "Histogram of the reliability ω over users", {
    type: "bar",
    data: { labels: buckets.map((bucket) => decimal(bucket / 20, 2)), datasets },
    options: {
      scales: {
        x: { stacked: true, grid: false, title: "reliability ω, from", ticks: { autoSkip: true, maxTicksLimit: 10 } },
        y: { stacked: true, title: "users", ticks: { callback: (value) => whole(value), precision: 0 } },
      },
    },
  });
}

// lines: [{ label, values, colour }] over the same labels
export function course(title, caption, labels, lines, axis, format) {
  const datasets = lines.map(({ label, values, colour: name }) => ({
    label,
    data: values,
    borderColor: colour(name),
    backgroundColor: colour(name),
    pointRadius: 4,
    borderWidth: 2,
    tension: 0,
    spanGaps: true,
  }));
  return figure(title, caption, `${axis} from run to run`, {
    type: "line",
    data: { labels, datasets },
    options: {
      interaction: { mode: "index", intersect: false },
      scales: { x: { grid: false, ticks: { autoSkip: true, autoSkipPadding: 14, maxTicksLimit: 6 } }, y: { title: axis, ticks: { callback: format } } },
      tooltip: { callbacks: { label: (item) => `${item.dataset.label} ${format(item.raw)}` } },
    },
  });
}
