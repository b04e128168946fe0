// What runs name, as people know it; asked for once, before anything is shown.
import { read } from "./api.js";

// Where this cannot be read, nothing else can, and whatever is read next says why.
const found = await read("titles").catch(() => ({ models: {}, backbones: {}, steps: {} }));

export const MODELS = found.models; // name → { title, colour, charted }, as tables list them
export const CHARTED = Object.keys(MODELS).filter((name) => MODELS[name].charted);
export const STEPS = found.steps; // those that ask the LLM, in their order: name → { short, asks }
export const ASKING = Object.keys(STEPS);
export const backbone = (name) => found.backbones[name] ?? name ?? "–";
