// The table: one row per node, kept by id. Of a long list only the rows in view and some around them are in the document.

import { setAttribute, setHidden, setText } from "./dom.js";
import { ago, figuresOf, kindOf, lastSeen, fullTime, mebibytes, milliseconds, noteOf, percent, reasonOf } from "./nodes.js";

const WINDOWED_FROM = 300;
const AROUND = 15;

export class NodeTable {
  #region;
  #table;
  #body;
  #head;
  #template;
  #above = padding();
  #below = padding();
  #rows = new Map(); // id -> Row, those in the document
  #nodes = [];
  #now = 0;
  #selected = null;
  #current = null; // the row that the keyboard is on
  #linkTo;
  #frame = null;
  #rowHeight; // pixels, as the style sheet has it for this width

  // `onOpen(node)`: a row was chosen; `linkTo(node)`: the address that chooses it.
  constructor({ region, table, body, template, onOpen, linkTo }) {
    this.#region = region;
    this.#table = table;
    this.#body = body;
    this.#head = table.tHead;
    this.#template = template;
    this.#linkTo = linkTo;
    body.append(this.#above, this.#below);
    region.addEventListener("scroll", () => this.#drawSoon(), { passive: true });
    this.#measure();
    new ResizeObserver(() => {
      this.#measure();
      this.#drawSoon();
    }).observe(region);
    body.addEventListener("click", (event) => this.#clicked(event, onOpen));
    region.addEventListener("keydown", (event) => this.#pressed(event));
    body.addEventListener("focusin", (event) => {
      this.#current = event.target.closest("tr").dataset.id ?? null;
      this.#drawSoon();
    });
  }

  show(nodes, { now, selected }) {
    this.#nodes = nodes;
    this.#now = now;
    this.#selected = selected;
    setAttribute(this.#table, "aria-rowcount", String(nodes.length + 1));
    this.#draw();
  }

  // The ages again, by the clock's new time.
  tick(now) {
    this.#now = now;
    for (const row of this.#rows.values()) row.tick(now);
  }

  focusRow(id) {
    const index = this.#nodes.findIndex((node) => node.id === id);
    if (index >= 0) this.#focusIndex(index);
  }

  #measure() {
    this.#rowHeight = Number.parseFloat(getComputedStyle(this.#region).getPropertyValue("--row-height"));
  }

  #drawSoon() {
    this.#frame ??= requestAnimationFrame(() => {
      this.#frame = null;
      this.#draw();
    });
  }

  #draw() {
    const [start, end] = this.#range();
    const focused = this.#body.contains(document.activeElement) ? document.activeElement : null;
    const shown = this.#nodes.slice(start, end);
    const kept = new Set(shown.map((node) => node.id));
    for (const [id, row] of this.#rows) {
      if (!kept.has(id)) {
        row.element.remove();
        this.#rows.delete(id);
      }
    }
    const tabbable = kept.has(this.#current) ? this.#current : shown[0]?.id;
    let next = this.#above.nextSibling;
    shown.forEach((node, index) => {
      let row = this.#rows.get(node.id);
      if (!row) {
        row = new Row(this.#template);
        this.#rows.set(node.id, row);
      }
      if (row.element === next) next = next.nextSibling;
      else this.#body.insertBefore(row.element, next);
      row.show(node, this.#now, { link: this.#linkTo(node), tabbable: node.id === tabbable, selected: node.id === this.#selected });
      setAttribute(row.element, "aria-rowindex", String(start + index + 2));
    });
    pad(this.#above, start * this.#rowHeight);
    pad(this.#below, (this.#nodes.length - end) * this.#rowHeight);
    // A row that was moved has lost the focus; one that is gone leaves it to the region, where the arrow keys go on.
    if (focused && document.activeElement !== focused) (focused.isConnected ? focused : this.#region).focus({ preventScroll: true });
  }

  #range() {
    const total = this.#nodes.length;
    if (total <= WINDOWED_FROM) return [0, total];
    const height = this.#rowHeight;
    const first = Math.floor(this.#region.scrollTop / height);
    const start = Math.max(0, Math.min(first, total) - AROUND);
    return [start, Math.min(total, first + Math.ceil(this.#region.clientHeight / height) + AROUND)];
  }

  #clicked(event, onOpen) {
    const id = event.target.closest("tr")?.dataset.id;
    const onLink = event.target.closest("a") !== null;
    if (!id || event.metaKey || event.ctrlKey || event.shiftKey || event.altKey) return;
    // Whoever marks text to copy it does not want the panel.
    if (!onLink && !getSelection().isCollapsed) return;
    event.preventDefault();
    this.#current = id;
    onOpen(this.#rows.get(id).node);
  }

  #pressed(event) {
    const onRow = event.target === this.#region || this.#body.contains(event.target);
    if (!onRow || event.metaKey || event.ctrlKey || event.altKey || this.#nodes.length === 0) return;
    const page = Math.max(1, Math.floor(this.#region.clientHeight / this.#rowHeight) - 2);
    const last = this.#nodes.length - 1;
    const at = this.#nodes.findIndex((node) => node.id === this.#current);
    const to = { ArrowDown: at + 1, ArrowUp: at - 1, PageDown: at + page, PageUp: at - page, Home: 0, End: last }[event.key];
    if (to === undefined) return;
    event.preventDefault();
    this.#focusIndex(Math.max(0, Math.min(last, to)));
  }

  #focusIndex(index) {
    const height = this.#rowHeight;
    const head = this.#head.offsetHeight;
    const top = index * height;
    const view = this.#region.clientHeight - head;
    if (top < this.#region.scrollTop) this.#region.scrollTop = top;
    else if (top + height > this.#region.scrollTop + view) this.#region.scrollTop = top + height - view;
    this.#current = this.#nodes[index].id;
    this.#draw();
    this.#rows.get(this.#current)?.focus();
  }
}

class Row {
  node = null;
  #kind = null;
  #cells = {};

  constructor(template) {
    this.element = template.content.firstElementChild.cloneNode(true);
    const find = (selector) => this.element.querySelector(selector);
    this.#cells = {
      use: find("use"), glyph: find(".glyph"), word: find(".word"), note: find(".c-status .note"), name: find("a"),
      role: find(".c-role"), domain: find(".c-domain"), level: find(".level"), bar: find(".bar"), cpu: find(".figure"),
      memory: find(".c-memory"), latency: find(".c-latency"), seen: find(".c-seen"), reason: find(".c-reason"),
      tag: find(".tag"), why: find(".why"), since: find(".since"),
    };
    this.element.addEventListener("animationend", () => this.element.classList.remove("changed"));
  }

  show(node, now, { link, tabbable, selected }) {
    const cells = this.#cells;
    const kind = kindOf(node);
    if (this.#kind !== kind) {
      this.element.classList.toggle("changed", this.#kind !== null);
      this.#kind = kind;
      this.element.dataset.kind = kind.key;
      this.element.dataset.status = kind.status;
      cells.use.setAttribute("href", `#glyph-${kind.key}`);
      cells.glyph.setAttribute("class", `glyph kind-${kind.key}`);
      setText(cells.word, kind.word);
    }
    this.node = node;
    setAttribute(this.element, "data-id", node.id);
    setAttribute(this.element, "data-name", node.name);
    setAttribute(this.element, "aria-current", selected ? "true" : null);
    setText(cells.note, noteOf(node, kind));
    setText(cells.name, node.name);
    setAttribute(cells.name, "title", node.name);
    setAttribute(cells.name, "href", link);
    setAttribute(cells.name, "tabindex", tabbable ? "0" : "-1");
    for (const field of ["role", "domain"]) {
      setText(cells[field], node[field]);
      setAttribute(cells[field], "title", node[field]);
    }
    this.tick(now);
  }

  // Everything that also changes by time passing.
  tick(now) {
    const cells = this.#cells;
    const beat = figuresOf(this.node, now);
    const load = beat?.cpu_load ?? null;
    setText(cells.cpu, percent(load));
    setAttribute(cells.level, "width", String(Math.min(100, load ?? 0)));
    setAttribute(cells.bar, "class", load === null ? "bar unknown" : load >= 90 ? "bar high" : "bar");
    setText(cells.memory, mebibytes(beat?.mem_used_mb));
    setText(cells.latency, milliseconds(beat?.latency_ms));
    const seen = lastSeen(this.node);
    setText(cells.seen, ago(seen, now));
    setAttribute(cells.seen, "title", seen === null ? "Not heard yet" : fullTime(seen));
    const { why, rest, help, tagged } = reasonOf(this.node, now);
    setHidden(cells.tag, !tagged);
    setText(cells.why, why);
    setText(cells.since, rest);
    setAttribute(cells.reason, "title", help);
  }

  focus() {
    this.#cells.name.focus({ preventScroll: true });
  }
}

// Stands for the rows above or below that are not in the document.
function padding() {
  const row = document.createElement("tr");
  row.className = "padding";
  row.setAttribute("aria-hidden", "true");
  const cell = document.createElement("td");
  cell.colSpan = 9;
  row.append(cell);
  row.hidden = true;
  return row;
}

function pad(row, height) {
  setHidden(row, height === 0);
  const text = `${height}px`;
  if (row.style.height !== text) row.style.height = text;
}
