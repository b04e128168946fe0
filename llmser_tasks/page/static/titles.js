// Titles of what runs name; asked for once, before anything is shown.
import { read } from "./api.js";

// If this cannot be read, nothing else can, and whatever is read next says why.
const found = await read("titles").catch(() => ({ methods: {}, reference: null, parts: {}, backbones: {}, steps: {} }));

export const REFERENCE = found.reference; // the method that the others are compared with
export const STEPS = found.steps; // those that ask the LLM, in their order: name → { short, asks }
export const ASKING = Object.keys(STEPS);
export const backbone = (name) => found.backbones[name] ?? name ?? "–";

// { title, heading, colour, charted }; a method that no longer exists keeps the name that its runs gave it.
export const method = (name) =>
  Object.hasOwn(found.methods, name) ? found.methods[name] : { title: name ?? "–", heading: name ?? "–", colour: "muted", charted: true };

// The parts that a method's name joins by +: item tables, what is added to scores, methods.
export const parts = (name) => name.split("+").map((part) => (Object.hasOwn(found.parts, part) ? found.parts[part] : method(part).title));

// Methods, each once, as tables list them.
export function listed(names) {
  const there = new Set(names);
  const known = Object.keys(found.methods).filter((name) => there.has(name));
  return [...known, ...[...there].filter((name) => !known.includes(name)).sort()];
}
