// The live page: what the address asks for, what the feed knows, and the parts that show it.

import { element, glyph, setAttribute, setHidden, setText } from "./dom.js";
import { Feed, PERIOD_MS, SHOWN_MAX } from "./feed.js";
import { KIND, KINDS, NEEDS_ATTENTION, SORTS, UNKNOWN, clockTime, count, fullTime, holds, kindOf, readQuery, sorted } from "./nodes.js";
import { Panel } from "./panel.js";
import { logOut, readSession } from "./session.js";
import { NodeTable } from "./table.js";

const part = (id) => document.getElementById(id);
const TICK_MS = 1000;

let view = readAddress();

const feed = new Feed({ onAnswer: render, onState: renderState });
const panel = new Panel(part("panel"));
const table = new NodeTable({
  region: part("region"),
  table: part("nodes"),
  body: part("rows"),
  template: part("row"),
  onOpen: (node) => openPanel(node.name),
  linkTo: (node) => address({ ...view, node: node.name }),
});
const chips = makeChips();

// The address: #q=gpu&status=lost,degraded&sort=-cpu&node=worker-1

function readAddress() {
  const given = new URLSearchParams(location.hash.slice(1));
  const kinds = (given.get("status") ?? "").split(",").flatMap((word) => KINDS.filter((kind) => kind.key === word || kind.status === word));
  const sort = given.get("sort") ?? "";
  const key = sort.replace(/^-/, "");
  return {
    query: given.get("q") ?? "",
    kinds: new Set(kinds.map((kind) => kind.key)),
    sort: key in SORTS ? { key, falls: sort.startsWith("-") } : { key: "status", falls: false },
    node: given.get("node"),
  };
}

function address({ query, kinds, sort, node }) {
  const parts = new URLSearchParams();
  if (query.trim()) parts.set("q", query);
  if (kinds.size > 0) parts.set("status", [...kinds].join(","));
  if (sort.key !== "status" || sort.falls) parts.set("sort", (sort.falls ? "-" : "") + sort.key);
  if (node !== null) parts.set("node", node);
  return `#${parts.toString().replaceAll("%2C", ",")}`;
}

function change(changes, { step = false } = {}) {
  view = { ...view, ...changes };
  const target = address(view) === "#" ? location.pathname : address(view);
  history[step ? "pushState" : "replaceState"](null, "", target);
  render();
}

// Parts

function makeChips() {
  return KINDS.map((kind) => {
    const figure = element("b", {}, UNKNOWN);
    const button = element("button", { type: "button", class: "chip", title: kind.help, "data-kind": kind.key, "aria-pressed": "false" },
      glyph(kind), figure, element("span", {}, kind.label));
    button.addEventListener("click", () => {
      const kinds = new Set(view.kinds);
      if (!kinds.delete(kind.key)) kinds.add(kind.key);
      change({ kinds });
    });
    part("chips").append(button);
    return { kind, figure, button };
  });
}

function openPanel(name) {
  if (name === view.node) return;
  change({ node: name }, { step: true });
  panel.focus();
}

function closePanel() {
  const node = feed.nodes.find((one) => one.name === view.node);
  change({ node: null }, { step: true });
  if (node) table.focusRow(node.id);
}

// Drawing

function render() {
  panel.open(view.node);
  document.body.classList.toggle("with-panel", view.node !== null);
  const filter = part("filter");
  if (filter.value !== view.query && document.activeElement !== filter) filter.value = view.query;
  for (const head of part("nodes").tHead.rows[0].cells) {
    const own = head.dataset.sort === view.sort.key;
    setAttribute(head, "aria-sort", own ? (view.sort.falls ? "descending" : "ascending") : null);
  }
  for (const chip of chips) setAttribute(chip.button, "aria-pressed", String(view.kinds.has(chip.kind.key)));
  renderState();
  if (feed.asOf === null) return;
  const terms = readQuery(view.query);
  const found = feed.nodes.filter((node) => (view.kinds.size === 0 || view.kinds.has(kindOf(node).key)) && holds(node, terms));
  const shown = feed.nodes.find((node) => node.name === view.node);
  table.show(sorted(found, view.sort, feed.now), { now: feed.now, selected: shown?.id ?? null });
  panel.show(shown, { now: feed.now, complete: !feed.more, live: feed.state === "live" });
  renderCounts();
  renderFound(found.length);
}

function renderCounts() {
  const counts = new Map(KINDS.map((kind) => [kind.key, 0]));
  for (const node of feed.nodes) counts.set(kindOf(node).key, counts.get(kindOf(node).key) + 1);
  for (const { kind, figure, button } of chips) {
    setText(figure, count(counts.get(kind.key)));
    button.classList.toggle("none", counts.get(kind.key) === 0);
  }
  const total = feed.nodes.length;
  setText(part("total"), feed.more ? `${count(total)}+` : count(total));
  setText(part("total-word"), total === 1 ? "node" : "nodes");
  const attention = NEEDS_ATTENTION.reduce((sum, key) => sum + counts.get(key), 0);
  const needy = attention === 0 ? "none needs attention" : attention === 1 ? "1 needs attention" : `${count(attention)} need attention`;
  setText(part("attention"), feed.more ? `of these, ${needy}` : needy);
  part("attention").classList.toggle("calm", attention === 0);
  const spoken = KINDS.filter((kind) => counts.get(kind.key) > 0).map((kind) => `${counts.get(kind.key)} ${kind.label.toLowerCase()}`);
  setText(part("counts"), spoken.join("; "));
}

function renderFound(found) {
  const total = feed.nodes.length;
  const filtered = view.kinds.size > 0 || view.query.trim() !== "";
  setText(part("found"), filtered ? `${count(found)} of ${count(total)} shown` : "");
  setHidden(part("clear"), !filtered);
  setHidden(part("more"), !feed.more);
  setText(part("more"), feed.more ? `There are more: only the first ${count(SHOWN_MAX)} by name are shown, counted and searched here.` : "");
  setHidden(part("empty"), found > 0);
  setText(part("empty"), total === 0 ? "No node is registered." : "No node matches the filter.");
}

function renderState() {
  const { state } = feed;
  const known = feed.asOf !== null;
  setAttribute(document.body, "data-feed", state);
  const isStale = state === "stale" || state === "never";
  strip("stale", isStale,
    known ? `Stale since ${clockTime(feed.asOf)}` : "Nothing is known yet",
    `The server gives nothing new: ${feed.problem}. ${known ? "All below is as it was then. " : ""}Trying again every ${PERIOD_MS / 1000} s.`);
  const isAway = feed.awaySince !== null;
  strip("away", isAway,
    isAway ? `The store is away since ${clockTime(feed.awaySince)}` : "",
    "No change is taken, and no node is declared silent, until it is back. What is shown may lag behind.");
  const held = feed.guards.reduce((sum, guard) => sum + guard.held, 0);
  strip("guard", feed.guards.length > 0,
    `Guard engaged: ${feed.guards.map((guard) => guard.scope).join(", ")}`,
    `Many nodes fell silent at once. ${count(held)} of them ${held === 1 ? "is" : "are"} held back and shown as before, ` +
      `for ${Math.max(0, ...feed.guards.map((guard) => guard.max_delay_s))} s at most.`);
  setText(part("feed-word"), { waiting: "Asking", never: "No answer", stale: "Stale", live: isAway ? "Store away" : "Live" }[state]);
  setText(part("feed-time"), known ? clockTime(feed.asOf) : "");
  setText(part("feed-revision"), known ? `r${count(feed.revision)}` : "");
  const title = `${isStale ? "Stale: " : ""}Thunderline`;
  if (document.title !== title) document.title = title;
}

function strip(id, shown, headline, rest) {
  const [bold, span] = part(id).children;
  setText(bold, shown ? headline : "");
  setText(span, shown ? rest : "");
  setHidden(part(id), !shown);
}

// Who is logged in, where anybody has to be.
async function renderWho() {
  if (document.hidden) return;
  const who = await readSession().catch(() => null);
  if (who === null) {
    setTimeout(renderWho, PERIOD_MS);
    return;
  }
  const { session } = who;
  setText(part("who-name"), session?.name ?? "");
  setAttribute(part("who-name"), "title", session && `scope ${session.scopes.join(", ")}; until ${fullTime(Date.parse(session.expires_at))}`);
  setHidden(part("who"), session === null);
}

async function leave() {
  setText(part("who-problem"), "");
  try {
    await logOut();
    location.reload();
  } catch {
    setText(part("who-problem"), "Not logged out: the server did not take it. Try again.");
  }
}

// What people do

part("logout").addEventListener("click", leave);
document.addEventListener("visibilitychange", renderWho);
part("filter").addEventListener("input", (event) => change({ query: event.target.value }));
part("clear").addEventListener("click", () => {
  part("filter").value = "";
  change({ query: "", kinds: new Set() });
  part("filter").focus();
});
part("panel-close").addEventListener("click", closePanel);
part("nodes").tHead.addEventListener("click", (event) => {
  const key = event.target.closest("th")?.dataset.sort;
  if (!key) return;
  const falls = view.sort.key === key ? !view.sort.falls : SORTS[key].falls === true;
  change({ sort: { key, falls } });
});
document.addEventListener("keydown", (event) => {
  if (event.metaKey || event.ctrlKey || event.altKey) return;
  if (event.key === "/" && event.target !== part("filter")) {
    event.preventDefault();
    part("filter").select();
  } else if (event.key === "Escape" && event.target !== part("filter") && view.node !== null) {
    closePanel();
  }
});
window.addEventListener("popstate", () => {
  view = readAddress();
  part("filter").value = view.query;
  render();
});

part("filter").value = view.query;
render();
feed.start();
renderWho();
setInterval(() => {
  if (feed.asOf === null) return;
  table.tick(feed.now);
  panel.tick(feed.now);
}, TICK_MS);
