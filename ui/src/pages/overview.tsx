import { useMemo } from "preact/hooks";
import type { FleetNode } from "../data/fleet.ts";
import { isTroubled, KINDS, type Kind, RANK, reasonWords } from "../data/kinds.ts";
import { past } from "../data/past.ts";
import { href, route } from "../data/route.ts";
import { type Counts, countKinds, isFiltered, isWaiting, matching, shownNow, shownVersion } from "../data/view.ts";
import { ago, count, plural } from "../data/words.ts";
import { FiringAlerts } from "../parts/alerts.tsx";
import { Chart } from "../parts/chart.tsx";
import { Feed } from "../parts/events.tsx";
import { Glyph, StatusWord } from "../parts/glyph.tsx";
import { timeline } from "../parts/timeline.tsx";

const DOMAINS_MAX = 12;
const TROUBLED_MAX = 8;
const EVENTS_MAX = 13;
const ALERTS_MAX = 4;
const ROLES_MAX = 6;

export function Overview() {
  const at = shownNow.value;
  const rows = useMemo(() => byWorst(matching.value, (node) => node.domain), [matching.value, shownVersion.value]);
  const roles = useMemo(() => byWorst(matching.value, (node) => node.role), [matching.value, shownVersion.value]);
  const troubled = matching.value
    .filter((node) => isTroubled(node.kind) || node.kind === "offline")
    .sort((one, other) => RANK[one.kind] - RANK[other.kind] || (other.since ?? 0) - (one.since ?? 0));
  if (isWaiting.value) return <p class="empty">Asking the server…</p>;
  return (
    <div class="page overview">
      <h1 class="unseen">Overview</h1>
      <section class="card">
        <h2>
          Domains, worst first{" "}
          <small>
            {rows.length > DOMAINS_MAX ? `${DOMAINS_MAX} of ${count(rows.length)}` : isFiltered.value ? "filtered" : ""}
          </small>
        </h2>
        <Rows rows={rows.slice(0, DOMAINS_MAX)} linkOf={(domain) => href("topology", { domain })} />
        {rows.length === 0 ? (
          <p class="none">No node {isFiltered.value ? "matches the filter" : "is registered"}.</p>
        ) : null}
        <h2>Changes of nodes</h2>
        <Changes />
        <h2>Roles</h2>
        <Rows rows={roles.slice(0, ROLES_MAX)} linkOf={(role) => href("nodes", { role })} />
      </section>
      <section class="card">
        <h2>Firing alerts</h2>
        <FiringAlerts most={ALERTS_MAX} />
        <h2>
          Needs attention{" "}
          <small>{troubled.length > TROUBLED_MAX ? `${TROUBLED_MAX} of ${count(troubled.length)}` : ""}</small>
        </h2>
        {troubled.length === 0 ? <p class="none">Nothing does.</p> : null}
        <ol class="attention">
          {troubled.slice(0, TROUBLED_MAX).map((node) => (
            <li key={node.id}>
              <Glyph kind={node.kind} />
              <p>
                <a href={href("nodes", {}, node.name)}>{node.name}</a>
                <small>
                  <StatusText node={node} />
                </small>
              </p>
              <time>{ago(node.since, at)}</time>
            </li>
          ))}
        </ol>
      </section>
      <section class="card">
        <h2>Latest events</h2>
        <Feed most={EVENTS_MAX} />
      </section>
    </div>
  );
}

function StatusText({ node }: { node: FleetNode }) {
  shownVersion.value; // a node changes in place
  const why = node.reason ? reasonWords(node.reason) : "why is not known here";
  return (
    <>
      <StatusWord kind={node.kind} /> · {node.override ? `${why} (${node.override.by})` : why} · {node.domain}
    </>
  );
}

interface Row {
  key: string;
  counts: Counts;
}

function byWorst(nodes: FleetNode[], keyOf: (node: FleetNode) => string): Row[] {
  const members = new Map<string, FleetNode[]>();
  for (const node of nodes) {
    const key = keyOf(node);
    const known = members.get(key);
    if (known) known.push(node);
    else members.set(key, [node]);
  }
  const weight = ({ lost, disconnected, degraded, total }: Counts) =>
    (1000 * lost + 100 * disconnected + 10 * degraded) / total + lost;
  return [...members]
    .map(([key, of]) => ({ key, counts: countKinds(of) }))
    .sort(
      (one, other) =>
        weight(other.counts) - weight(one.counts) ||
        other.counts.total - one.counts.total ||
        (one.key < other.key ? -1 : 1),
    );
}

const SAID: readonly Kind[] = ["lost", "disconnected", "degraded", "connecting", "offline"];

function Rows({ rows, linkOf }: { rows: Row[]; linkOf: (key: string) => string }) {
  return (
    <ul class="rows">
      {rows.map(({ key, counts }) => (
        <li key={key}>
          <a href={linkOf(key)}>
            <b>{key}</b>
            <span class="bar" aria-hidden="true">
              {KINDS.map((kind) =>
                counts[kind.key] > 0 ? (
                  <i key={kind.key} class={`b-${kind.key}`} style={{ flexGrow: counts[kind.key] }} />
                ) : null,
              )}
            </span>
            <span class="marks">
              {KINDS.filter((kind) => SAID.includes(kind.key) && counts[kind.key] > 0).map((kind) => (
                <span key={kind.key} title={kind.word}>
                  <Glyph kind={kind.key} />
                  {count(counts[kind.key])}
                  <span class="unseen"> {kind.word}</span>
                </span>
              ))}
            </span>
            <span class="num">
              {count(counts.total)}
              <span class="unseen"> {plural(counts.total, "node").replace(/^\S+ /, "")}</span>
            </span>
          </a>
        </li>
      ))}
    </ul>
  );
}

function Changes() {
  const counted = timeline.value;
  const data = useMemo(() => {
    if (!counted) return null;
    const column = (key: string) => counted.counts[key] ?? [];
    return {
      x: counted.at.map((time) => Date.parse(time) / 1000),
      lines: [
        { label: "Went offline", colour: "--st-lost", values: column("node_down"), isStepped: true },
        { label: "Other changes", colour: "--st-degraded", values: column("node_changed"), isStepped: true },
        { label: "Came online", colour: "--st-online", values: column("node_up"), isStepped: true },
      ],
    };
  }, [counted]);
  if (!data || !counted) return <p class="none">Not known yet.</p>;
  const per = counted.bin_s === 60 ? "minute" : plural(counted.bin_s / 60, "minute");
  return (
    <Chart
      title={`Events per ${per}, last ${(route.value.params.range ?? "1h").replace(/(\d+)(\w)/, "$1 $2")}`}
      x={data.x}
      lines={data.lines}
      format={(value) => (value === null ? "–" : count(value))}
      ceiling={4}
      height={150}
      mark={past.value?.at ?? null}
    />
  );
}
