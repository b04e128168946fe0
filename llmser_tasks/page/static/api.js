// Two servers at one origin: our routes, and Airflow's REST interface with the session of whoever is here.

const HOME = new URL(".", location.href); // …/llmser/
const AIRFLOW = new URL("../api/v2/dags/llmser/", HOME);

const query = (values) => new URLSearchParams(Object.entries(values).filter(([, value]) => value !== null && value !== undefined));

export const link = (page, values = {}) => new URL(`${page}?${query(values)}`, HOME).href.replace(/\?$/, "");
export const csv = (name, values) => link(`csv/${name}`, values);

export class Refused extends Error {
  constructor(status, text) {
    super(text);
    this.status = status;
  }
}

async function answer(response) {
  if (response.ok) return response.json();
  const body = await response.json().catch(() => ({}));
  const said = typeof body.detail === "string" ? body.detail : response.statusText;
  const text = { 401: "Your login has expired; log in to Airflow again.", 403: "Your role may not do this." };
  throw new Refused(response.status, text[response.status] ?? said ?? `HTTP ${response.status}`);
}

export const read = async (name, values = {}) => answer(await fetch(link(`api/${name}`, values)));

const posted = (body) => ({ method: "POST", headers: { "Content-Type": "application/json" }, body: JSON.stringify(body) });

export const write = async (name, body) => answer(await fetch(link(`api/${name}`), posted(body)));

export const airflow = async (path, body) => answer(await fetch(new URL(path, AIRFLOW), body && posted(body)));
