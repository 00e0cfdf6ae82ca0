// A small line over time that breaks where beats are missing: nothing is drawn that was not reported.

import { drawing, element } from "./dom.js";
import { age, clockTime } from "./nodes.js";

const WIDTH = 400;
const HEIGHT = 56;
// Beats come with jitter; one that is later than this many intervals was preceded by one that is missing.
const MISSING_AFTER = 1.75;

// `beats` [{at, value}] in order, value null where a beat did not say; the line ends at `now`, not at the newest beat.
export function sparkline({ title, beats, interval, now, ceiling, format }) {
  const start = beats[0].at;
  const span = Math.max(now - start, interval, 1);
  const known = beats.filter((beat) => beat.value !== null);
  const values = known.map((beat) => beat.value);
  const top = Math.max(ceiling ?? 0, ...values) || 1;
  const x = (at) => Math.min(1, (at - start) / span) * WIDTH;
  const y = (value) => HEIGHT - 1 - (value / top) * (HEIGHT - 4);
  const runs = split(known, interval);
  const gaps = missing(known, interval, start, now);
  const svg = drawing("svg", { viewBox: `0 0 ${WIDTH} ${HEIGHT}`, preserveAspectRatio: "none", role: "img", "aria-label": describe(title, values, gaps, format) });
  for (const gap of gaps) {
    const words = `Nothing reported for ${age(gap.to - gap.from)}`;
    svg.append(drawing("rect", { class: "gap", x: x(gap.from), width: Math.max(1, x(gap.to) - x(gap.from)), y: 0, height: HEIGHT }, drawing("title", {}, words)));
  }
  for (const run of runs) {
    const points = run.map((beat) => `${x(beat.at).toFixed(1)} ${y(beat.value).toFixed(1)}`);
    const [first, last] = [x(run[0].at).toFixed(1), x(run.at(-1).at).toFixed(1)];
    // A beat without neighbours is a dot: a line of no length with a round end.
    const line = run.length === 1 ? `M${points[0]}h0.01` : `M${points.join("L")}`;
    if (run.length > 1) svg.append(drawing("path", { class: "area", d: `${line}L${last} ${HEIGHT}L${first} ${HEIGHT}Z` }));
    svg.append(drawing("path", { class: run.length > 1 ? "line" : "line dot", d: line }));
  }
  const range = values.length === 0 ? "" : `${format(Math.min(...values))} to ${format(Math.max(...values))}`;
  return element("figure", { class: "spark" },
    element("figcaption", {}, element("b", {}, title), element("span", {}, range)),
    svg,
    element("p", { class: "axis" }, element("span", {}, clockTime(start)), element("span", {}, clockTime(start + span))));
}

function split(beats, interval) {
  const runs = [];
  for (const beat of beats) {
    const run = runs.at(-1);
    if (run && beat.at - run.at(-1).at <= interval * MISSING_AFTER) run.push(beat);
    else runs.push([beat]);
  }
  return runs;
}

function missing(beats, interval, start, now) {
  const edges = [start, ...beats.map((beat) => beat.at), now];
  const gaps = [];
  for (let index = 1; index < edges.length; index++) {
    const [from, to] = [edges[index - 1], edges[index]];
    if (to - from > interval * MISSING_AFTER) gaps.push({ from, to });
  }
  return gaps;
}

function describe(title, values, gaps, format) {
  if (values.length === 0) return `${title}: unknown`;
  const holes = gaps.length === 0 ? "no gaps" : gaps.length === 1 ? "one gap" : `${gaps.length} gaps`;
  return `${title}: ${format(Math.min(...values))} to ${format(Math.max(...values))}, newest ${format(values.at(-1))}, ${holes}`;
}
