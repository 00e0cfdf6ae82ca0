// Events in words, as a line of a feed.

import { useEffect, useState } from "preact/hooks";
import { type Alert, summaryWords } from "../data/alerts.ts";
import { ask, type LogEvent, type NodeRecord, type SessionRecord, words } from "../data/api.ts";
import { DEREGISTERED } from "../data/fleet.ts";
import { KIND, type Kind, kindOf, reasonWords } from "../data/kinds.ts";
import { recent } from "../data/live.ts";
import { past } from "../data/past.ts";
import { href } from "../data/route.ts";
import { isPast, shown, shownNow } from "../data/view.ts";
import { ago, fullTime } from "../data/words.ts";
import { Glyph } from "./glyph.tsx";

export interface Told {
  /** The status after it, of events about one. */
  kind: Kind | null;
  what: string;
  why: string;
  /** The node's name, where there is one. */
  node: string | null;
}

const WORDS: Record<string, string> = {
  "cluster.node.registered": "Registered",
  "cluster.node.updated": "Changed",
  "cluster.node.deregistered": "Deregistered",
  "cluster.link.established": "Link up",
  "cluster.link.updated": "Link changed",
  "cluster.link.closed": "Link closed",
  "cluster.group.created": "Group made",
  "cluster.group.updated": "Group changed",
  "cluster.group.removed": "Group removed",
  "cluster.group.joined": "Joined a group",
  "cluster.group.left": "Left a group",
  "cluster.capability.added": "Capability added",
  "cluster.capability.updated": "Capability changed",
  "cluster.capability.removed": "Capability removed",
  "cluster.guard.engaged": "Guard engaged",
  "cluster.guard.released": "Guard released",
  "cluster.capacity.exceeded": "Over capacity",
  "cluster.capacity.restored": "Within capacity again",
  "alert.fired": "Alert fires",
  "alert.acknowledged": "Alert taken on",
  "alert.resolved": "Alert resolved",
};

export function tell(event: LogEvent): Told {
  const other = WORDS[event.type] ?? event.type.replace(/^cluster\./, "").replaceAll(/[._]/g, " ");
  if (event.entitykind === "node") {
    const record = event.data as NodeRecord;
    const kind = kindOf(record.status, record.override, record.observed_reason);
    const isStatus = /\.(online|offline|status_changed)$/.test(event.type);
    const by = record.override && isStatus ? ` (${record.override.by})` : "";
    return {
      kind: event.type === DEREGISTERED ? null : kind,
      what: isStatus ? KIND[kind].word : other,
      why: isStatus
        ? `${reasonWords(record.status_reason)}${by}`
        : event.actor.startsWith("system:")
          ? ""
          : `by ${event.actor}`,
      node: record.name,
    };
  }
  if (event.entitykind === "link") {
    const session = event.data as SessionRecord;
    const nameOf = (id: string) => shown.value?.nodes.get(id)?.name ?? "a node";
    const to =
      session.remote_node_id === null ? (session.controller ?? "the registry") : nameOf(session.remote_node_id);
    return {
      kind: null,
      what: `${other} to ${to}`,
      why: session.status_reason.replaceAll("_", " "),
      node: event.subject,
    };
  }
  if (event.entitykind === "alert") {
    const alert = event.data as Alert;
    const { labels, acknowledged } = alert;
    const told = summaryWords(alert);
    const why =
      alert.resolved_at !== null
        ? alert.rule // what it said holds no longer
        : labels.node && told.startsWith(`${labels.node} `)
          ? told.slice(labels.node.length + 1) // the line begins with the node's name already
          : told;
    const isTaken = event.type === "alert.acknowledged" && acknowledged;
    return {
      kind: null,
      what: other,
      why: isTaken ? `${why} (${acknowledged.by}${acknowledged.note ? `: ${acknowledged.note}` : ""})` : why,
      node: labels.node ?? null,
    };
  }
  return { kind: null, what: other, why: event.subject, node: null };
}

function EventLine({ event, at }: { event: LogEvent; at: number }) {
  const { kind, what, why, node } = tell(event);
  const time = Date.parse(event.time);
  const by = why === "" && event.actor.startsWith("operator:") ? `by ${event.actor}` : why;
  return (
    <li>
      {kind === null ? <i class="dot" aria-hidden="true" /> : <Glyph kind={kind} />}
      <p>
        {node === null ? <b>{event.subject}</b> : <a href={href("nodes", {}, node)}>{node}</a>}
        <small>
          {what}
          {by ? ` · ${by}` : ""}
        </small>
      </p>
      <time dateTime={event.time} title={fullTime(time)}>
        {ago(time, at)}
      </time>
    </li>
  );
}

const READ = 500;

/** The newest events, or those before the moment that is looked at; newest first. */
export function useEvents(): { events: LogEvent[]; problem: string | null; isLoading: boolean } {
  const [before, setBefore] = useState<{ cursor: string; events: LogEvent[]; problem: string | null } | null>(null);
  const cursor = past.value?.fleet.cursor ?? null;
  useEffect(() => {
    if (cursor === null) return;
    const leaving = new AbortController();
    const colon = cursor.lastIndexOf(":");
    const [log, revision] = [cursor.slice(0, colon), Number(cursor.slice(colon + 1))];
    ask<{ events: LogEvent[] }>(
      `/api/events?since=${log}:${Math.max(0, revision - READ)}&limit=${READ}`,
      leaving.signal,
    )
      .then(({ body }) => {
        const events = body.events.filter((event) => event.revision <= revision).reverse();
        setBefore({ cursor, events, problem: null });
      })
      .catch((error: unknown) => leaving.signal.aborted || setBefore({ cursor, events: [], problem: words(error) }));
    return () => leaving.abort();
  }, [cursor]);
  if (!isPast.value) return { events: recent.value, problem: null, isLoading: false };
  if (before === null || before.cursor !== cursor) return { events: [], problem: null, isLoading: true };
  return { events: before.events, problem: before.problem, isLoading: false };
}

/** The newest events about nodes, groups and the registry; links come and go with their nodes. */
export function Feed({ most }: { most: number }) {
  const { events, problem, isLoading } = useEvents();
  const shownEvents = events.filter((event) => event.entitykind !== "link").slice(0, most);
  if (problem !== null) return <p class="refused">Not shown, because {problem}.</p>;
  if (shownEvents.length === 0) return <p class="none">{isLoading ? "Asking the server…" : "None."}</p>;
  return (
    <ol class="feed">
      {shownEvents.map((event) => (
        <EventLine key={event.id} event={event} at={shownNow.value} />
      ))}
    </ol>
  );
}
