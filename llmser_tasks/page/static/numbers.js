// Numbers as the papers and the report write them.

export const decimal = (value, places = 4) =>
  value === null || value === undefined ? "–" : value.toFixed(places).replace(/^(-?)0\./, "$1.").replace("-", "−");
export const signed = (value, places = 4) =>
  value === null || value === undefined ? "–" : (value >= 0 ? "+" : "") + decimal(value, places);
export const whole = (value) => (value === null || value === undefined ? "–" : Math.round(value).toLocaleString("en"));
export const percent = (share, places = 1) =>
  share === null || share === undefined ? "–" : `${(100 * share).toFixed(places)} %`.replace("-", "−");
export const change = (difference, before) => {
  if (!before) return "–";
  const shown = Math.abs((100 * difference) / before).toFixed(1);
  return `${shown === "0.0" ? "±" : difference > 0 ? "+" : "−"}${shown} %`;
};
export const money = (value) =>
  value === null || value === undefined ? "–" : value === 0 ? "0" : Number(value.toPrecision(3)).toString();
// The colour of a difference and its verdict: both from the stars that its row has in the warehouse.
export const tone = (row) => (!row.stars ? "" : row.difference > 0 ? "up" : "down");
export const verdict = (row) => (row.seeds < 2 ? "one seed" : row.stars ? "significant" : "not significant");
export const level = (value) => {
  const places = 1 - Math.floor(Math.log10(100 * (1 - value)));
  return `${Number((100 * value).toFixed(places))} %`;
};
export const probability = (p) => (p === null || p === undefined ? "–" : p < 0.001 ? "< .001" : decimal(p, 3));

export function duration(seconds) {
  if (seconds === null || seconds === undefined) return "–";
  const rounded = Math.round(seconds);
  const two = (value) => String(value).padStart(2, "0");
  if (rounded < 60) return `${rounded} s`;
  if (rounded < 3600) return `${Math.floor(rounded / 60)} min ${two(rounded % 60)} s`;
  return `${Math.floor(rounded / 3600)} h ${two(Math.floor((rounded % 3600) / 60))} min`;
}

export const rate = (value, unit) =>
  value ? `${value >= 10 ? whole(value) : Number(value.toPrecision(2))} ${unit ?? ""}/s` : "";

export const when = (moment) =>
  moment ? new Date(moment).toLocaleString("en-GB", { dateStyle: "medium", timeStyle: "short" }) : "–";
