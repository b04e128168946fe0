// Augmented users one after the other: what they had, what was put before it, what was masked and named, ω and α.
import { csv, read } from "./api.js";
import { bdi, card, download, el, note, select } from "./dom.js";
import { decimal, whole } from "./numbers.js";
import { STEPS } from "./titles.js";

const AT_ONCE = 10;
const SOURCES = {
  strict: "the LLM's answer, as agreed",
  repaired: "the answer, its JSON mended",
  "id-pattern": "a number found in free text",
  fuzzy: "a title matched by its words",
  fill: "not picked: filled up from the pool",
  ccg: "from the pool, nobody asked",
  rcs: "first of the pool, nobody asked",
  none: "trusted without a test",
};

export async function users({ run }) {
  const list = el("div", { class: "users" });
  const more = el("button", { class: "plain", onclick: () => add() }, "More users");
  const asked = { order: "user", search: null };
  let last = null;
  const add = async () => {
    const found = await read("users", { run: run.run_id, ...asked, after: last?.user_id, omega: last?.omega });
    list.append(...found.map((user) => person(user, run)));
    last = found.at(-1) ?? last;
    more.hidden = found.length < AT_ONCE;
    if (!list.children.length) list.append(note(asked.search ? "No user has this id or a later one." : "Users appear when ω has been computed, or when something has been written about them."));
  };
  const anew = () => {
    last = null;
    list.replaceChildren();
    return add();
  };
  const search = el("input", { type: "search", placeholder: "User id", "aria-label": "User id", maxlength: "200" });
  const form = el("form", { class: "filters", onsubmit: (event) => { event.preventDefault(); asked.search = search.value.trim() || null; anew(); } },
    el("label", { class: "field" }, el("span", {}, "Begin with user"), search),
    el("button", { class: "plain" }, "Find"),
    select("Order", [["user", "by user id"], ["most", "most trusted first"], ["least", "least trusted first"]], asked.order, (value) => {
      asked.order = value;
      asked.search = null;
      search.value = "";
      anew();
    }));
  const files = el("p", { class: "muted small" }, "All users: ", [["reliability", "ω and α"], ["pseudo-items", "pseudo items"], ["histories", "histories"], ["user-texts", "what was written about them"]].map(([name, title]) => [el("a", { href: csv(name, { run: run.run_id }), download: true }, `${title} (CSV)`), " "]));
  await add();
  const legend = el("details", {}, el("summary", {}, "Where pseudo items come from"), el("dl", { class: "facts" }, Object.entries(SOURCES).map(([name, told]) => el("div", {}, el("dt", {}, name), el("dd", {}, told)))));
  return [[form, files, legend, list, more], null];
}

function person(user, run) {
  if (user.omega === null) return el("article", { class: "card person" }, el("header", {}, el("b", { class: "id" }, bdi(user.user_id))), written(user.texts));
  const tail = run.tail_threshold === null ? "" : user.n <= run.tail_threshold ? " · tail user" : " · head user";
  const right = user.named_item !== null && user.named_item === user.masked_item;
  return el(
    "article",
    { class: "card person" },
    el("header", { class: "spread" },
      el("div", {}, el("b", { class: "id" }, bdi(user.user_id)), el("span", { class: "muted" }, ` · n = ${whole(user.n)}${tail}`)),
      el("div", { class: "weights" }, weight("ω", user.omega), weight("α", user.alpha))),
    el("div", { class: "story" },
      el("div", {}, el("div", { class: "kicker" }, `Put before: ${user.pseudo.length} pseudo-prior items`),
        el("ol", {}, user.pseudo.map((item) => line(item, "pseudo", item.source)))),
      el("div", {}, el("div", { class: "kicker" }, "Real history, oldest first"),
        el("ol", {},
          user.older ? el("li", { class: "muted" }, `… ${whole(user.older)} older`) : null,
          user.history.length
            ? user.history.map((item, at) => line(item, at === user.history.length - 1 ? "masked" : "", at === user.history.length - 1 ? "masked" : null))
            : line({ item: user.masked_item, title: user.masked_title }, "masked", "masked")),
        verdict(user, right))),
    user.texts.length ? written(user.texts) : null,
    user.answers.length ? answers(user.answers) : null,
  );
}

// What a model wrote about a user.
const written = (texts) =>
  texts.map((row) =>
    el("div", { class: "written" },
      el("div", { class: "kicker" }, STEPS[row.step]?.short ?? row.step, el("span", { class: "muted" }, " · ", bdi(row.model ?? "nobody asked"))),
      el("p", {}, row.text === null ? el("i", { class: "muted" }, `none: ${row.reason}`) : bdi(row.text))));

const weight = (letter, value) => el("span", {}, `${letter} `, el("b", {}, decimal(value, 2)), el("meter", { min: "0", max: "1", value, "aria-label": letter }));

const line = ({ item, title, text }, kind, tag) =>
  el("li", { class: kind }, el("span", { class: "title", title: text ?? title ?? item }, title ? bdi(title) : el("i", {}, bdi(item), " (no title)"), text ? el("span", { class: "details" }, " ", bdi(beside(title, text))) : null), tag ? el("span", { class: "tag", title: SOURCES[tag] }, tag) : null);

// What an item's text says beside its title.
const beside = (title, text) => (text.startsWith(title) ? text.slice(title.length).replace(/^[.\s]+/, "") : text);

function verdict(user, right) {
  const named = user.named_item === null ? "No item was named" : ["Named as the masked item: ", bdi(user.named_title ?? user.named_item)];
  return el("p", { class: right ? "verdict" : "verdict no" }, named, right ? el("strong", {}, " — right") : null,
    user.source ? el("span", { class: "tag" }, ` ${user.source}`) : null, user.reason ? el("span", { class: "tag" }, ` · ${user.reason}`) : null);
}

const answers = (rows) =>
  el("details", {}, el("summary", {}, "What was answered"),
    rows.map((row) =>
      el("div", { class: "answer" },
        el("div", { class: "muted small" }, `${row.step} · `, bdi(row.model ?? "nobody asked"), row.invented ? ` · ${row.invented} named that were no candidates` : "", row.reason ? ` · ${row.reason}` : ""),
        el("pre", {}, row.content ?? row.failure ?? "–"))));
