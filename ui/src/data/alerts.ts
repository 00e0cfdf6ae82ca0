// Alerts as the server tells them now. Its answer is read again when the log tells of one, and now and then: what is
// pending, and what is silenced, is in no event.

import { computed, effect, signal } from "@preact/signals";
import { ask, words } from "./api.ts";
import type { Fleet, FleetNode } from "./fleet.ts";
import { reasonWords } from "./kinds.ts";
import { alertNews, fleet } from "./live.ts";
import { route } from "./route.ts";

export type Severity = "critical" | "warning" | "info";

export interface Alert {
  id: string;
  rule: string;
  severity: Severity;
  labels: Record<string, string>;
  summary: string;
  starts_at: string;
  fired_at: string;
  resolved_at: string | null;
  /** How many nodes it stands for; 0: it is not about nodes. */
  nodes: number;
  /** Some of them. */
  names: string[];
  acknowledged: { by: string; at: string; note: string | null } | null;
  state: "firing" | "resolved";
  /** The id of the silence that keeps it from being told. */
  silenced_by: string | null;
}

export interface PendingAlert {
  rule: string;
  severity: Severity;
  labels: Record<string, string>;
  starts_at: string;
  /** When it fires; null while something holds it back. */
  due_at: string | null;
  held_by: string | null;
}

export interface Matcher {
  label: string;
  op: "=" | "!=" | "~" | "!~";
  value: string;
}

export interface Silence {
  id: string;
  matchers: Matcher[];
  until: string;
  by: string;
  at: string;
  reason: string | null;
  active: boolean;
}

/** What only the page of alerts shows. */
export interface Rest {
  pending: PendingAlert[];
  resolved: Alert[];
  silences: Silence[];
}

const AGAIN_MS = 15_000;
/** After the first event so long, so that the alerts of one outage are one question. */
const SETTLE_MS = 250;
const PAGE_SIZE = 1_000;
const RESOLVED_MAX = 200;
const RANK: Record<Severity, number> = { critical: 0, warning: 1, info: 2 };

/** What fires, the worst first and of these the newest; null: not known yet. */
export const firing = signal<Alert[] | null>(null);
export const rest = signal<Rest | null>(null);
/** Why the last answer was none; what is shown is then the one before. */
export const alertProblem = signal<string | null>(null);

/** What fires and nobody has taken on or silenced. */
export const untended = computed(
  () => firing.value?.filter((alert) => alert.acknowledged === null && alert.silenced_by === null) ?? [],
);

interface AlertPage {
  alerts: Alert[];
  pending: PendingAlert[];
  next_cursor: string | null;
}

async function readFiring(): Promise<Alert[]> {
  const found: Alert[] = [];
  let cursor: string | null = null;
  do {
    const after: string = cursor === null ? "" : `&cursor=${encodeURIComponent(cursor)}`;
    const { body } = await ask<AlertPage>(`/api/alerts?state=firing&limit=${PAGE_SIZE}${after}`);
    found.push(...body.alerts);
    cursor = body.next_cursor;
  } while (cursor !== null);
  return found.sort((one, other) => RANK[one.severity] - RANK[other.severity]);
}

async function readRest(): Promise<Rest> {
  const [pending, resolved, silences] = await Promise.all([
    ask<AlertPage>("/api/alerts?state=pending"),
    ask<AlertPage>(`/api/alerts?state=resolved&limit=${RESOLVED_MAX}`),
    ask<{ silences: Silence[] }>("/api/alerts/silences"),
  ]);
  return {
    pending: pending.body.pending,
    resolved: resolved.body.alerts,
    silences: silences.body.silences.filter((silence) => silence.active),
  };
}

let isReading = false;
let isAsked = false;

/** Read them again; ends when what is shown is no older than this call. */
export async function readAlerts(): Promise<void> {
  isAsked = true;
  if (isReading) return;
  isReading = true;
  while (isAsked) {
    isAsked = false;
    try {
      const [newFiring, newRest] = await Promise.all([
        readFiring(),
        route.value.page === "alerts" ? readRest() : Promise.resolve(null),
      ]);
      firing.value = newFiring;
      rest.value = newRest;
      alertProblem.value = null;
    } catch (error) {
      alertProblem.value = words(error);
    }
  }
  isReading = false;
}

export function startAlerts(): void {
  let timer = 0;
  const soon = () => {
    clearTimeout(timer);
    timer = setTimeout(() => void readAlerts(), SETTLE_MS);
  };
  // A new list, an event of an alert, or the page that shows more of them.
  effect(() => {
    alertNews.value;
    if (fleet.value !== null) soon();
  });
  effect(() => {
    if (route.value.page === "alerts" && fleet.value !== null) void readAlerts();
  });
  setInterval(() => {
    if (!document.hidden) void readAlerts();
  }, AGAIN_MS);
  document.addEventListener("visibilitychange", () => {
    if (!document.hidden) void readAlerts();
  });
}

/** The nodes that it names: one, some of many, or none. */
export function namesOf(alert: Pick<Alert, "labels"> & { names?: string[] }): string[] {
  if (alert.labels.node) return [alert.labels.node];
  return alert.names ?? [];
}

export function nodesOf(alert: Pick<Alert, "labels"> & { names?: string[] }, of: Fleet | null): FleetNode[] {
  return namesOf(alert).flatMap((name) => of?.named.get(name) ?? []);
}

/** `gpu-1 is offline: silent`, with the registry's own reason in words. */
export function summaryWords({ summary, labels }: Pick<Alert, "summary" | "labels">): string {
  const told = summary.replace(/ is offline: (.+)$/, (_, reason: string) => ` is offline: ${reasonWords(reason)}`);
  return labels.node ? told : `${told.charAt(0).toUpperCase()}${told.slice(1)}`;
}

/** Where it is: `zone eu-1`, or all nodes; null: it is about none. */
export function placeOf({ labels }: Pick<Alert, "labels">): string | null {
  if (labels.zone) return `Zone ${labels.zone}`;
  if (labels.region) return `Region ${labels.region}`;
  return labels.scope ? "All nodes" : null;
}

/** Which nodes to search for, to see those that an alert names. */
export const searchFor = (names: string[]): string => `name:${names.map((name) => `=${name}`).join(",")}`;

/** Matchers that hold for it, and for what has all of its labels. */
export const matchersOf = (alert: Pick<Alert, "rule" | "labels">): Matcher[] => [
  { label: "rule", op: "=", value: alert.rule },
  ...Object.entries(alert.labels).map(([label, value]): Matcher => ({ label, op: "=", value })),
];

export const matcherWords = (matchers: Matcher[]): string =>
  matchers.map(({ label, op, value }) => `${label}${op}${value}`).join(" ");
