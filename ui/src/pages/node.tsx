// One node: its own page, and the panel beside the topology.

import { useEffect, useMemo, useState } from "preact/hooks";
import {
  ask,
  type NodeRecord,
  Refusal,
  type Series,
  type SessionRecord,
  type Span,
  type StatusHistory,
  words,
} from "../data/api.ts";
import type { FleetNode } from "../data/fleet.ts";
import { KIND, kindOf, reasonWords } from "../data/kinds.ts";
import { fleet as liveFleet, now } from "../data/live.ts";
import { past } from "../data/past.ts";
import { href, lookAt, RANGES, range, route } from "../data/route.ts";
import { isPast, isStale, isWaiting, shown, shownNow, shownVersion } from "../data/view.ts";
import {
  age,
  ago,
  clock,
  count,
  fullTime,
  mebibytes,
  milliseconds,
  moment,
  percent,
  plural,
  UNKNOWN,
} from "../data/words.ts";
import { Actions } from "../parts/actions.tsx";
import { Chart } from "../parts/chart.tsx";
import { Glyph, Icon, StatusWord } from "../parts/glyph.tsx";
import { timeline } from "../parts/timeline.tsx";

const CELLS = 60;
const AGAIN_MS = 10_000;
const SPANS_SHOWN = 12;
const BUCKETS_MAX = 9_000;

interface Loaded {
  series: Series | null;
  cells: Series | null;
  history: StatusHistory | null;
  sessions: SessionRecord[];
  problem: string | null;
}

/** A length of buckets that the API has and that holds a beat of the node each. */
function resolution(seconds: number): number {
  return [5, 10, 15, 30, 60].find((one) => one >= seconds) ?? 60 * Math.ceil(seconds / 60);
}

function useNode(id: string, intervalMs: number): Loaded {
  const [loaded, setLoaded] = useState<Loaded>({
    series: null,
    cells: null,
    history: null,
    sessions: [],
    problem: null,
  });
  const window = RANGES[range.value];
  const at = past.value?.at ?? null;
  useEffect(() => {
    const leaving = new AbortController();
    const read = async () => {
      const until = at ?? now.value;
      const minutes = (window + Math.max(0, now.value - until)) / 60_000 + 1;
      const finest = (minutes * 60) / BUCKETS_MAX;
      const step = resolution(Math.max((1.5 * intervalMs) / 1000, window / 1000 / 360, finest));
      const cell = resolution(Math.max(window / 1000 / CELLS, finest));
      const path = `/api/nodes/${id}`;
      const figures = (wanted: number) =>
        ask<Series>(`${path}/series?minutes=${minutes.toFixed(2)}&resolution=${wanted}`, leaving.signal);
      const oldest = timeline.value?.oldest ? Date.parse(timeline.value.oldest) : null;
      // Without `from` the window is a day, or as far back as the log reaches.
      const from =
        window <= RANGES["24h"] || oldest === null
          ? ""
          : `&from=${encodeURIComponent(new Date(Math.max(oldest, until - window)).toISOString())}`;
      const to = at === null ? "" : `&to=${encodeURIComponent(new Date(at).toISOString())}`;
      try {
        const [series, cells, history, sessions] = await Promise.all([
          figures(step),
          figures(cell),
          ask<StatusHistory>(`${path}/history?limit=200${from}${to}`, leaving.signal),
          at === null
            ? ask<{ sessions: SessionRecord[] }>(`${path}?load=sessions`, leaving.signal).catch(() => null)
            : null,
        ]);
        setLoaded({
          series: cut(series.body, until - window, until),
          cells: cut(cells.body, until - window, until),
          history: history.body,
          sessions: sessions?.body.sessions ?? [],
          problem: null,
        });
      } catch (error) {
        if (!leaving.signal.aborted)
          setLoaded((known) => ({
            ...known,
            problem: error instanceof Refusal && error.status === 404 ? "the server knows nothing of it" : words(error),
          }));
      }
    };
    void read();
    const timer = at === null ? setInterval(() => document.hidden || void read(), AGAIN_MS) : 0;
    return () => {
      leaving.abort();
      clearInterval(timer);
    };
  }, [id, at, window, intervalMs]);
  return loaded;
}

/** What lies between two moments. */
function cut(series: Series, from: number, until: number): Series {
  const first = series.at.findIndex((time) => Date.parse(time) >= from - series.resolution_s * 1000);
  let last = series.at.length;
  while (last > 0 && Date.parse(series.at[last - 1] as string) > until) last -= 1;
  const part = <T,>(column: T[]) => column.slice(Math.max(0, first), last);
  const figures = (column: Series["cpu_load"]) => ({
    min: part(column.min),
    mean: part(column.mean),
    max: part(column.max),
  });
  return {
    ...series,
    at: part(series.at),
    beats: part(series.beats),
    status: part(series.status),
    cpu_load: figures(series.cpu_load),
    mem_used_mb: figures(series.mem_used_mb),
    latency_ms: figures(series.latency_ms),
  };
}

export function NodePage({ name }: { name: string }) {
  shownVersion.value;
  const node = shown.value?.named.get(name) ?? null;
  // What was registered then and is not any more, or the other way round.
  const present = liveFleet.value?.named.get(name) ?? null;
  if (isWaiting.value) return <p class="empty">Asking the server…</p>;
  if (node === null) {
    return (
      <div class="page">
        <section class="card full">
          <h1>{name}</h1>
          <p>
            {isPast.value
              ? present === null
                ? "There was no node of this name at this moment."
                : "This node was not registered at this moment."
              : "There is no node of this name: it was never registered, or was deregistered."}{" "}
            <a href={href("nodes", { q: name })}>Search for it</a>
          </p>
        </section>
      </div>
    );
  }
  return <Whole key={node.id} node={node} />;
}

function Whole({ node }: { node: FleetNode }) {
  shownVersion.value; // a node changes in place
  const record = node.record ?? liveFleet.value?.nodes.get(node.id)?.record ?? null;
  const loaded = useNode(node.id, record?.heartbeat_interval_ms ?? 10_000);
  return (
    <div class={`page node${isStale.value && !isPast.value ? " faded" : ""}`}>
      <section class="card full title">
        <a href={href("nodes")} class="muted">
          Nodes /
        </a>
        <h1>{node.name}</h1>
        <StatusWord kind={node.kind} note={node.record?.flapping ? "flapping" : undefined} />
        <span class="grow" />
        <a class="button" href={href("topology", { node: node.name })}>
          Show in topology
        </a>
        <Actions node={node} />
      </section>
      {loaded.problem ? (
        <p class="banner stale full" role="alert">
          History and figures are not shown, because {loaded.problem}.
        </p>
      ) : null}
      <section class="card">
        <StatusFacts node={node} history={loaded.history} />
        <Facts node={node} record={record} />
        <Links node={node} max={14} />
        {isPast.value ? null : <Sessions sessions={loaded.sessions} />}
      </section>
      <section class="card charts">
        <Strip loaded={loaded} />
        <Figures loaded={loaded} height={128} />
        <History history={loaded.history} />
      </section>
    </div>
  );
}

export function NodePanel({ node, onClose }: { node: FleetNode; onClose: () => void }) {
  shownVersion.value;
  const record = node.record ?? liveFleet.value?.nodes.get(node.id)?.record ?? null;
  const loaded = useNode(node.id, record?.heartbeat_interval_ms ?? 10_000);
  return (
    <aside class="side" aria-label={`Node ${node.name}`}>
      <header>
        <div>
          <h2>{node.name}</h2>
          <StatusWord kind={node.kind} />
        </div>
        <a class="button" href={href("nodes", {}, node.name)}>
          Open
        </a>
        <button type="button" class="square" aria-label="Close" title="Close (Escape)" onClick={onClose}>
          <Icon name="close" />
        </button>
      </header>
      {loaded.problem ? <p class="refused">History and figures are not shown, because {loaded.problem}.</p> : null}
      <StatusFacts node={node} history={loaded.history} />
      <Strip loaded={loaded} />
      <Figures loaded={loaded} height={88} />
      <Links node={node} max={8} />
      <Actions node={node} />
    </aside>
  );
}

type Fact = [term: string, fact: preact.ComponentChildren];

function List({ facts }: { facts: Fact[] }) {
  return (
    <dl class="facts">
      {facts.map(([term, fact]) => (
        <div key={term}>
          <dt>{term}</dt>
          <dd>{fact}</dd>
        </div>
      ))}
    </dl>
  );
}

/** Why the node has its status; of the past, as its history has it. */
function StatusFacts({ node, history }: { node: FleetNode; history: StatusHistory | null }) {
  shownVersion.value; // a node changes in place
  const at = shownNow.value;
  const span = isPast.value ? (history?.spans.at(-1) ?? null) : null;
  const record = node.record;
  const facts: Fact[] = [
    ["Domain", <a href={href("topology", { domain: node.domain })}>{node.domain}</a>],
    ["Role", node.role],
  ];
  if (record) {
    facts.push(
      ["Reason", reasonWords(record.status_reason)],
      ["Since", <time title={fullTime(Date.parse(record.status_since))}>{ago(node.since, at)}</time>],
    );
    if (record.override) {
      facts.push(
        ["Override", `${record.override.status}, by ${record.override.by}`],
        ["Observed", `${record.observed_status}: ${reasonWords(record.observed_reason)}`],
      );
      if (record.override.expires_at) facts.push(["Override ends", fullTime(Date.parse(record.override.expires_at))]);
    }
    facts.push(
      ["Last seen", ago(node.seenAt, at)],
      ["Last heartbeat", ago(node.beatAt, at)],
      ["Beats every", `${record.heartbeat_interval_ms / 1000} s`],
    );
  } else if (span) {
    facts.push(["Reason", reasonWords(span.reason)], ["Since", ago(Date.parse(span.since), at)]);
    if (span.override) facts.push(["Override", span.override], ["Observed", span.observed_status]);
  } else facts.push(["Reason", UNKNOWN]);
  const ratio = history?.uptime.ratio;
  if (ratio !== null && ratio !== undefined)
    facts.push([`Up, ${range.value === "7d" ? "7 d" : "24 h"}`, `${(Math.floor(ratio * 10_000) / 100).toFixed(2)} %`]);
  return <List facts={facts} />;
}

/** The record's other fields. A past graph does not have them. */
function Facts({ node, record }: { node: FleetNode; record: NodeRecord | null }) {
  shownVersion.value; // a node changes in place
  if (record === null) return <p class="none">Its other fields are not known here.</p>;
  const capabilities = Object.entries(record.capabilities);
  const labels = Object.entries(record.labels);
  const facts: Fact[] = [
    [
      "Id",
      <>
        <code title={record.id}>{record.id}</code>
        <button
          type="button"
          class="square small"
          aria-label="Copy the id"
          title="Copy the id"
          onClick={() => void navigator.clipboard?.writeText(record.id)}
        >
          <Icon name="copy" />
        </button>
      </>,
    ],
    ["Address", record.address ?? UNKNOWN],
    ["Cluster", record.cluster_type.replaceAll("_", " ")],
    ["Groups", record.groups.join(", ") || UNKNOWN],
    ["Process", record.incarnation === 1 ? "the first" : `number ${count(record.incarnation)}`],
    ["Registered", fullTime(Date.parse(record.inserted_at))],
    ["Revision", count(record.revision)],
  ];
  if (record.peer_id) facts.push(["Peer id", record.peer_id]);
  if (record.did) facts.push(["DID", record.did]);
  return (
    <>
      {isPast.value ? <p class="none">As of now, not of the past:</p> : null}
      <List facts={facts} />
      <h2>Capabilities</h2>
      {capabilities.length === 0 ? <p class="none">None.</p> : null}
      <ul class="tags">
        {capabilities.map(([key, { value, enabled }]) => (
          <li key={key} class={enabled ? "" : "off"}>
            {key}
            {value === null ? "" : `=${value}`}
            {enabled ? "" : " (off)"}
          </li>
        ))}
      </ul>
      <h2>Labels</h2>
      {labels.length === 0 ? <p class="none">None.</p> : null}
      <ul class="tags">
        {labels.map(([key, value]) => (
          <li key={key}>
            {key}={value}
          </li>
        ))}
      </ul>
      <h2>Metadata</h2>
      {Object.keys(node.meta).length === 0 ? (
        <p class="none">None.</p>
      ) : (
        // biome-ignore lint/a11y/noNoninteractiveTabindex: what scrolls must be reached by the keyboard
        <pre tabIndex={0}>{JSON.stringify(node.meta, null, 2)}</pre>
      )}
    </>
  );
}

function Links({ node, max }: { node: FleetNode; max: number }) {
  shownVersion.value; // a node changes in place
  const fleet = shown.value;
  const links = fleet?.linksOf(node.id) ?? [];
  const rows = links
    .map((link) => ({
      link,
      other: fleet?.nodes.get((link.source === node.id ? fleet.targetOf(link) : link.source) ?? "") ?? null,
    }))
    .sort((one, other) =>
      one.link.type === other.link.type
        ? (one.other?.name ?? "").localeCompare(other.other?.name ?? "")
        : one.link.type === "registry"
          ? -1
          : 1,
    );
  return (
    <>
      <h2>
        Links <small>{count(links.length)}</small>
      </h2>
      {links.length === 0 ? <p class="none">None.</p> : null}
      <ul class="links">
        {rows.slice(0, max).map(({ link, other }) => (
          <li key={link.id}>
            {other === null ? <i class="dot" /> : <Glyph kind={other.kind} />}
            {other === null ? (
              <span>{link.controller ?? "a node that is gone"}</span>
            ) : (
              <a
                href={
                  route.value.page === "topology"
                    ? href("topology", { ...route.value.params, node: other.name })
                    : href("nodes", {}, other.name)
                }
              >
                {other.name}
              </a>
            )}
            <span class="muted">
              {link.session_type}, {link.connection}
              {link.status === "established" ? "" : `, ${link.status}`}
            </span>
            <span class="num">{milliseconds(link.latency)}</span>
          </li>
        ))}
      </ul>
      {links.length > max ? <p class="none">and {count(links.length - max)} more</p> : null}
    </>
  );
}

function Sessions({ sessions }: { sessions: SessionRecord[] }) {
  return (
    <>
      <h2>
        Sessions <small>{count(sessions.length)}</small>
      </h2>
      {sessions.length === 0 ? <p class="none">None is open.</p> : null}
      <ul class="sessions">
        {sessions.map((session) => (
          <li key={session.session_id}>
            <code title={session.session_id}>{session.session_id}</code>
            <small>
              {session.session_type}, {session.connection_type}, {session.status}
              {session.established_at ? ` since ${moment(Date.parse(session.established_at), now.value)}` : ""}
              {session.controller ? `, held by ${session.controller}` : ""}
            </small>
          </li>
        ))}
      </ul>
    </>
  );
}

/** The last hour in 60 cells, or the range that is chosen. */
function Strip({ loaded: { cells, history } }: { loaded: Loaded }) {
  if (!cells) return <div class="beats waiting" />;
  const shownCells = cells.at.slice(-CELLS).map((time, offset) => {
    const index = Math.max(0, cells.at.length - CELLS) + offset;
    return { at: Date.parse(time), beats: cells.beats[index] ?? 0, status: cells.status[index] ?? null };
  });
  const step = cells.resolution_s * 1000;
  const until = shownNow.value;
  const stateOf = ({ at, beats, status }: (typeof shownCells)[number]) => {
    if (beats > 0) return status === "degraded" ? "degraded" : status === "offline" ? "goodbye" : "good";
    // Nothing can be missed before the node was registered, or where it had left on purpose.
    const spans =
      history?.spans.filter(
        (span) => Date.parse(span.since) < at + step && (span.until === null || Date.parse(span.until) > at),
      ) ?? [];
    if (spans.length === 0 || at + step > until) return "none";
    return spans.every(
      (span) => span.status === "connecting" || (span.status === "offline" && span.reason === "goodbye"),
    )
      ? "none"
      : "missed";
  };
  const states = shownCells.map(stateOf);
  const missed = states.filter((state) => state === "missed").length;
  const words: Record<string, string> = {
    good: "beats came",
    degraded: "beats said degraded",
    goodbye: "the node said goodbye",
    missed: "no beat came",
    none: "no beat was due",
  };
  return (
    <>
      <h2>
        Heartbeats <small>{age(step)} a cell</small>
      </h2>
      <div
        class="beats"
        role="img"
        aria-label={`Heartbeats in ${plural(shownCells.length, "cell")} of ${age(step)}: ${missed === 0 ? "none missed" : `missed in ${missed}`}`}
      >
        {shownCells.map((cell, index) => (
          <i
            key={cell.at}
            class={states[index]}
            title={`${moment(cell.at, until)}: ${words[states[index] as string]}${cell.beats > 0 ? ` (${count(cell.beats)})` : ""}`}
          />
        ))}
      </div>
      <p class="ends">
        <span>{shownCells[0] ? moment(shownCells[0].at, until) : ""}</span>
        <span>{isPast.value ? clock(until) : "now"}</span>
      </p>
    </>
  );
}

function Figures({ loaded: { series }, height }: { loaded: Loaded; height: number }) {
  const data = useMemo(() => {
    if (!series) return null;
    const line = (label: string, colour: string, values: (number | null)[]) => [{ label, colour, values }];
    return {
      x: series.at.map((time) => Date.parse(time) / 1000),
      cpu: line("CPU", "--c1", series.cpu_load.mean),
      memory: line("Memory", "--c2", series.mem_used_mb.mean),
      latency: line("Latency", "--c3", series.latency_ms.mean),
    };
  }, [series]);
  if (!data) return <p class="none">Asking for the figures…</p>;
  if (!series?.beats.some((beats) => beats > 0)) return <p class="none">No heartbeat is known of this time.</p>;
  return (
    <>
      <Chart title="CPU" x={data.x} lines={data.cpu} format={percent} ceiling={100} height={height} syncKey="node" />
      <Chart
        title="Memory"
        x={data.x}
        lines={data.memory}
        format={mebibytes}
        isBinary
        ceiling={64}
        height={height}
        syncKey="node"
      />
      <Chart
        title="Heartbeat latency"
        x={data.x}
        lines={data.latency}
        format={milliseconds}
        ceiling={1}
        height={height}
        syncKey="node"
      />
    </>
  );
}

function History({ history }: { history: StatusHistory | null }) {
  const [isWhole, setWhole] = useState(false);
  if (!history) return null;
  const spans = history.spans.toReversed();
  const at = shownNow.value;
  const kind = (span: Span) =>
    kindOf(span.status, span.override === null ? null : { status: span.override }, span.reason);
  return (
    <>
      <h2>
        Status history <small>{plural(spans.length, "span")}</small>
      </h2>
      <table class="history">
        <thead>
          <tr>
            <th scope="col">Status</th>
            <th scope="col">Reason</th>
            <th scope="col">From</th>
            <th scope="col">For</th>
            <th scope="col">By</th>
            <th scope="col">
              <span class="unseen">Look at it</span>
            </th>
          </tr>
        </thead>
        <tbody>
          {spans.slice(0, isWhole ? spans.length : SPANS_SHOWN).map((span) => {
            const since = Date.parse(span.since);
            return (
              <tr key={span.since + span.status}>
                <td>
                  <StatusWord kind={kind(span)} note={span.override ? "override" : undefined} />
                </td>
                <td>{reasonWords(span.reason)}</td>
                <td title={fullTime(since)}>{moment(since, at)}</td>
                <td>{age((span.until === null ? at : Date.parse(span.until)) - since)}</td>
                <td>{span.actor ?? UNKNOWN}</td>
                <td>
                  <button
                    type="button"
                    class="ghost"
                    aria-label={`Show then: ${KIND[kind(span)].word} at ${clock(since)}`}
                    onClick={() => lookAt(since)}
                  >
                    Show then
                  </button>
                </td>
              </tr>
            );
          })}
        </tbody>
      </table>
      {spans.length > SPANS_SHOWN && !isWhole ? (
        <button type="button" class="ghost" onClick={() => setWhole(true)}>
          {count(spans.length - SPANS_SHOWN)} more
        </button>
      ) : null}
      {history.earlier === null ? null : (
        <p class="none">Before {fullTime(Date.parse(history.earlier))} there is more, which is not shown.</p>
      )}
    </>
  );
}
