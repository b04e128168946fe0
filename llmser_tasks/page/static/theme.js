// Light or dark, before anything is drawn: as set in Airflow's page, else as the system is.
"use strict";
(() => {
  const dark = matchMedia("(prefers-color-scheme: dark)");
  const chosen = () => {
    try {
      return localStorage.getItem("theme"); // where Airflow's page keeps it; same origin
    } catch {
      return null; // storage is off
    }
  };
  const apply = () => {
    const theme = ["light", "dark"].includes(chosen()) ? chosen() : dark.matches ? "dark" : "light";
    if (document.documentElement.dataset.theme === theme) return;
    document.documentElement.dataset.theme = theme;
    dispatchEvent(new Event("themed"));
  };
  apply();
  dark.addEventListener("change", apply);
  addEventListener("storage", apply);
})();
