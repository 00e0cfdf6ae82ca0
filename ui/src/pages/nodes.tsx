import { useEffect, useLayoutEffect, useMemo, useRef, useState } from "preact/hooks";
import type { FleetNode } from "../data/fleet.ts";
import { KIND, RANK, reasonWords } from "../data/kinds.ts";
import { isListed, streamsBeats } from "../data/live.ts";
import { go, href, route, set } from "../data/route.ts";
import { isFiltered, isPast, isStale, isWaiting, matching, nodes, shownNow, shownVersion } from "../data/view.ts";
import { ago, count, fullTime, mebibytes, milliseconds, percent, plural, UNKNOWN } from "../data/words.ts";
import { StatusWord } from "../parts/glyph.tsx";

const AROUND = 8;
const FACET_MAX = 10;

interface Column {
  key: string;
  word: string;
  /** What rows are ordered by; null last, whichever way. */
  value: (node: FleetNode) => string | number | null;
  /** Whether the largest comes first when it is first clicked. */
  falls?: boolean;
}

const figure = (field: "cpu" | "memory" | "latency") => (node: FleetNode) =>
  isPast.value || !node.hasFigures(shownNow.value) ? null : node[field];
const COLUMNS: Column[] = [
  { key: "status", word: "Status", value: (node) => RANK[node.kind] },
  { key: "name", word: "Name", value: (node) => node.name },
  { key: "role", word: "Role", value: (node) => node.role },
  { key: "domain", word: "Domain", value: (node) => node.domain },
  { key: "cpu", word: "CPU", value: figure("cpu"), falls: true },
  { key: "memory", word: "Memory", value: figure("memory"), falls: true },
  { key: "latency", word: "Latency", value: figure("latency"), falls: true },
  { key: "seen", word: "Last seen", value: (node) => node.seenAt, falls: true },
  { key: "reason", word: "Reason", value: (node) => node.reason || null },
];
const NAMES = new Intl.Collator("en", { numeric: true });

function readSort(): { column: Column; falls: boolean } {
  const given = route.value.params.sort ?? "status";
  const column = COLUMNS.find(({ key }) => key === given.replace(/^-/, "")) ?? (COLUMNS[0] as Column);
  return { column, falls: given.startsWith("-") };
}

function sorted(of: FleetNode[]): FleetNode[] {
  const { column, falls } = readSort();
  const way = falls ? -1 : 1;
  const keyed = of.map((node) => ({ node, value: column.value(node) }));
  keyed.sort((one, other) => {
    if (one.value === null || other.value === null)
      return Number(one.value === null) - Number(other.value === null) || NAMES.compare(one.node.name, other.node.name);
    const order =
      typeof one.value === "string" ? NAMES.compare(one.value, String(other.value)) : one.value - Number(other.value);
    return way * order || NAMES.compare(one.node.name, other.node.name);
  });
  return keyed.map(({ node }) => node);
}

export function Nodes() {
  const rows = useMemo(() => sorted(matching.value), [matching.value, shownVersion.value, route.value.params.sort]);
  return (
    <div class="split">
      <aside class="facets" aria-label="Filters">
        <Facet word="Domain" field="domain" />
        <Facet word="Role" field="role" />
      </aside>
      <section class={`list${isStale.value && !isPast.value ? " faded" : ""}`} aria-label="Nodes">
        <div class="listbar">
          <h1>{isWaiting.value ? "Nodes" : plural(rows.length, "node")}</h1>
          {isFiltered.value ? (
            <>
              <span class="muted">of {count(nodes.value.length)}</span>
              <button
                type="button"
                class="ghost"
                onClick={() => set({ q: null, status: null, domain: null, role: null })}
              >
                Clear filters
              </button>
            </>
          ) : null}
          <span class="grow" />
          {isPast.value ? (
            <span class="muted">Figures and reasons of the past are on the node's own page</span>
          ) : !isListed.value ? (
            <span class="muted">Loading all fields…</span>
          ) : streamsBeats.value ? null : (
            <span class="muted">Figures are read every 30 s</span>
          )}
          <a class="ghost" href={href("topology")}>
            In the topology
          </a>
          <button type="button" class="ghost" onClick={() => save(rows)}>
            Save as CSV
          </button>
        </div>
        <Table rows={rows} />
      </section>
    </div>
  );
}

function Facet({ word, field }: { word: string; field: "domain" | "role" }) {
  const [isWhole, setWhole] = useState(false);
  const values = useMemo(() => {
    const sums = new Map<string, number>();
    for (const node of nodes.value) sums.set(node[field], (sums.get(node[field]) ?? 0) + 1);
    return [...sums].sort((one, other) => other[1] - one[1] || NAMES.compare(one[0], other[0]));
  }, [nodes.value, shownVersion.value]);
  const chosen = route.value.params[field];
  const listed = isWhole ? values : values.filter(([value], index) => index < FACET_MAX || value === chosen);
  return (
    <section aria-label={word}>
      <h2>{word}</h2>
      {listed.map(([value, sum]) => (
        <button
          key={value}
          type="button"
          class="facet"
          aria-pressed={chosen === value}
          onClick={() => set({ [field]: chosen === value ? null : value })}
        >
          <span>{value}</span>
          <span class="num">{count(sum)}</span>
        </button>
      ))}
      {values.length > listed.length ? (
        <button type="button" class="ghost" onClick={() => setWhole(true)}>
          {count(values.length - listed.length)} more
        </button>
      ) : null}
    </section>
  );
}

/** Only the rows in view are in the document. */
function Table({ rows }: { rows: FleetNode[] }) {
  const region = useRef<HTMLDivElement>(null);
  const [top, setTop] = useState(0);
  const [height, setHeight] = useState(600);
  // As the style sheet has it for this width.
  const [rowPx, setRowPx] = useState(34);
  const [current, setCurrent] = useState(0);
  const { column, falls } = readSort();
  useEffect(() => {
    const box = region.current as HTMLDivElement;
    const resizing = new ResizeObserver(() => {
      setHeight(box.clientHeight);
      setRowPx(Number.parseFloat(getComputedStyle(box).getPropertyValue("--row-height")));
    });
    resizing.observe(box);
    return () => resizing.disconnect();
  }, []);
  const first = Math.max(0, Math.floor(top / rowPx) - AROUND);
  const last = Math.min(rows.length, Math.ceil((top + height) / rowPx) + AROUND);
  const at = shownNow.value;
  const focused = useRef(false);
  // At once: a second key must not find the focus still on its way.
  useLayoutEffect(() => {
    if (!focused.current) return;
    focused.current = false;
    region.current?.querySelector<HTMLElement>(`[data-index="${current}"] a`)?.focus({ preventScroll: true });
  });
  const move = (to: number) => {
    const index = Math.max(0, Math.min(rows.length - 1, to));
    const box = region.current as HTMLDivElement;
    const above = index * rowPx;
    if (above < box.scrollTop) box.scrollTop = above;
    else if (above + 2 * rowPx > box.scrollTop + box.clientHeight) box.scrollTop = above + 2 * rowPx - box.clientHeight;
    focused.current = true;
    setTop(box.scrollTop);
    setCurrent(index);
  };
  const page = Math.max(1, Math.floor(height / rowPx) - 2);
  const keys: Record<string, number> = {
    ArrowDown: current + 1,
    ArrowUp: current - 1,
    PageDown: current + page,
    PageUp: current - page,
    Home: 0,
    End: rows.length - 1,
  };
  const tabbable = current >= first && current < last ? current : first;
  return (
    <div
      class="table"
      ref={region}
      role="table"
      aria-label="Nodes"
      aria-rowcount={rows.length + 1}
      tabIndex={-1}
      onScroll={(event) => setTop(event.currentTarget.scrollTop)}
      onKeyDown={(event) => {
        const to = keys[event.key];
        if (
          to === undefined ||
          event.ctrlKey ||
          event.metaKey ||
          event.altKey ||
          !(event.target as HTMLElement).closest("[data-index], .table")
        )
          return;
        if ((event.target as HTMLElement).closest(".head")) return;
        event.preventDefault();
        move(to);
      }}
    >
      <div role="rowgroup" class="headgroup">
        <div role="row" class="row head" aria-rowindex={1}>
          {COLUMNS.map((one) => (
            <span
              key={one.key}
              role="columnheader"
              class={`c-${one.key}`}
              aria-sort={one === column ? (falls ? "descending" : "ascending") : undefined}
            >
              <button
                type="button"
                onClick={() =>
                  set(
                    {
                      sort:
                        one === column
                          ? falls
                            ? one.key
                            : `-${one.key}`
                          : one.falls
                            ? `-${one.key}`
                            : one.key === "status"
                              ? null
                              : one.key,
                    },
                    { step: false },
                  )
                }
              >
                {one.word}
                {one === column ? <i aria-hidden="true">{falls ? "↓" : "↑"}</i> : null}
              </button>
            </span>
          ))}
        </div>
      </div>
      <div role="rowgroup" class="body" style={{ height: `${rows.length * rowPx}px` }}>
        {rows.slice(first, last).map((node, offset) => {
          const index = first + offset;
          return (
            <Row
              key={node.id}
              node={node}
              index={index}
              at={at}
              rowPx={rowPx}
              isTabbable={index === tabbable}
              onFocus={() => setCurrent(index)}
            />
          );
        })}
      </div>
      {rows.length === 0 ? (
        <p class="empty">
          {isWaiting.value
            ? "Asking the server…"
            : isFiltered.value
              ? "No node matches the filter."
              : "No node is registered."}
        </p>
      ) : null}
    </div>
  );
}

function Row({
  node,
  index,
  at,
  rowPx,
  isTabbable,
  onFocus,
}: {
  node: FleetNode;
  index: number;
  at: number;
  rowPx: number;
  isTabbable: boolean;
  onFocus: () => void;
}) {
  shownVersion.value; // a node changes in place
  const hasFigures = !isPast.value && node.hasFigures(at);
  const link = href("nodes", {}, node.name);
  return (
    // biome-ignore lint/a11y/useKeyWithClickEvents: the row's link is what the keyboard has
    <div
      role="row"
      class="row"
      data-index={index}
      data-name={node.name}
      data-kind={node.kind}
      aria-rowindex={index + 2}
      style={{ transform: `translateY(${index * rowPx}px)` }}
      onFocusIn={onFocus}
      onClick={(event) => {
        const isOther =
          event.ctrlKey || event.metaKey || event.shiftKey || (event.target as HTMLElement).closest("a") !== null;
        if (!isOther && getSelection()?.isCollapsed !== false) go(link);
      }}
    >
      <span role="cell" class="c-status">
        <StatusWord
          kind={node.kind}
          note={node.override ? "override" : node.record?.flapping ? "flapping" : undefined}
        />
      </span>
      <span role="rowheader" class="c-name">
        <a href={link} tabIndex={isTabbable ? 0 : -1} title={node.name}>
          {node.name}
        </a>
      </span>
      <span role="cell" class="c-role">
        {node.role}
      </span>
      <span role="cell" class="c-domain">
        {node.domain}
      </span>
      <span role="cell" class="c-cpu">
        <Meter value={hasFigures ? node.cpu : null} />
      </span>
      <span role="cell" class="c-memory">
        {hasFigures ? mebibytes(node.memory) : UNKNOWN}
      </span>
      <span role="cell" class="c-latency">
        {hasFigures ? milliseconds(node.latency) : UNKNOWN}
      </span>
      <span role="cell" class="c-seen" title={node.seenAt === null ? undefined : fullTime(node.seenAt)}>
        {isPast.value ? UNKNOWN : ago(node.seenAt, at)}
      </span>
      <span
        role="cell"
        class="c-reason"
        title={node.override ? `${node.reason}: ${node.override.status} by ${node.override.by}` : node.reason}
      >
        {node.reason ? reasonWords(node.reason) : UNKNOWN}
        {node.override ? <small> by {node.override.by}</small> : null}
      </span>
    </div>
  );
}

function Meter({ value }: { value: number | null }) {
  if (value === null) return <>{UNKNOWN}</>;
  return (
    <>
      <span class="meter" aria-hidden="true">
        <i class={value > 90 ? "watch" : ""} style={{ width: `${Math.min(100, value)}%` }} />
      </span>
      {percent(value)}
    </>
  );
}

/** What is listed, as a file of the browser's. */
function save(rows: FleetNode[]): void {
  const cell = (value: string | number | null) => {
    const text = value === null ? "" : String(value);
    // A sheet takes what begins like this for a formula.
    const tame = /^[=+\-@\t\r]/.test(text) && typeof value === "string" ? `'${text}` : text;
    return /[",\n\r]/.test(tame) ? `"${tame.replaceAll('"', '""')}"` : tame;
  };
  const at = shownNow.value;
  const lines = rows.map((node) => {
    const hasFigures = !isPast.value && node.hasFigures(at);
    const figures = hasFigures ? [node.cpu, node.memory, node.latency] : [null, null, null];
    const seen = node.seenAt === null || isPast.value ? null : new Date(node.seenAt).toISOString();
    return [
      node.name,
      KIND[node.kind].status,
      KIND[node.kind].word,
      node.role,
      node.domain,
      ...figures,
      seen,
      node.reason,
    ]
      .map(cell)
      .join(",");
  });
  const head = "name,status,kind,role,domain,cpu_percent,memory_mib,latency_ms,last_seen,reason";
  const url = URL.createObjectURL(new Blob([`${head}\n${lines.join("\n")}\n`], { type: "text/csv" }));
  const link = document.createElement("a");
  link.href = url;
  link.download = `thunderline-nodes-${new Date(at).toISOString().slice(0, 19).replaceAll(":", "")}.csv`;
  link.click();
  URL.revokeObjectURL(url);
}
