// The address says which page this is.
import { Refused } from "./api.js";
import { forget } from "./charts.js";
import { el, show } from "./dom.js";
import { dataset } from "./dataset.js";
import { overview } from "./overview.js";
import { run } from "./run.js";
import { studies, study } from "./study.js";

const PAGES = { "": overview, dataset, run, studies, study };

async function open() {
  forget();
  const name = location.pathname.split("/").pop();
  const given = Object.fromEntries(new URLSearchParams(location.search));
  try {
    await (PAGES[name] ?? overview)(given);
  } catch (error) {
    show(el("p", { class: "banner", role: "alert" }, error instanceof Refused ? error.message : `This page cannot be shown: ${error.message}`));
    if (!(error instanceof Refused)) throw error;
  }
}

addEventListener("themed", open);
open();
