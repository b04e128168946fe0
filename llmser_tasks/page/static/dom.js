// Elements. Texts become text nodes and nothing else: titles and answers come from strangers.

export function el(tag, attributes = {}, ...children) {
  const made = document.createElement(tag);
  for (const [name, value] of Object.entries(attributes)) {
    if (value === null || value === undefined || value === false) continue;
    if (name.startsWith("on")) made.addEventListener(name.slice(2), value);
    else if (name === "class") made.className = value;
    else made.setAttribute(name, value === true ? "" : value);
  }
  made.append(...children.flat(Infinity).filter((child) => child !== null && child !== undefined && child !== false));
  return made;
}

export const bdi = (text) => el("bdi", {}, text); // a title keeps its own direction

export function show(...children) {
  document.getElementById("page").replaceChildren(...children.flat().filter(Boolean));
}

// A table of rows; columns are [heading, row → content, class?].
export function table(columns, rows, { csv, caption, mark } = {}) {
  const head = el("tr", {}, columns.map(([name, , kind]) => el("th", { class: kind, scope: "col" }, name)));
  const body = rows.map((row) =>
    el("tr", { class: mark?.(row) }, columns.map(([, of, kind]) => el("td", { class: kind }, of(row) ?? ""))),
  );
  return el(
    "figure",
    { class: "table" },
    caption || csv ? el("figcaption", {}, el("span", {}, caption ?? ""), csv && download(csv)) : null,
    el("div", { class: "scroll", tabindex: "0" }, el("table", {}, el("thead", {}, head), el("tbody", {}, body))),
  );
}

export const download = (href) => el("a", { class: "csv", href, download: true }, "CSV");

export function card(title, ...children) {
  return el("section", { class: "card" }, title ? el("h2", {}, title) : null, children);
}

export const note = (...text) => el("p", { class: "muted" }, text);

export const badge = (state) => el("span", { class: `badge ${state}` }, state);

export function select(label, options, chosen, changed) {
  const list = el("select", { onchange: (event) => changed(event.target.value) });
  for (const [value, text] of options) list.append(el("option", { value, selected: value === chosen }, text));
  return el("label", { class: "field" }, el("span", {}, label), list);
}
