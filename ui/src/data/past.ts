// A moment of the past: the graph as it stood, loaded when the address names one.

import { effect, signal } from "@preact/signals";
import { ask, type Graph, type StatusHistory, words } from "./api.ts";
import { Fleet } from "./fleet.ts";
import { kindOf } from "./kinds.ts";
import { wantedAt } from "./route.ts";

export interface Past {
  /** The moment that was asked for. */
  at: number;
  fleet: Fleet;
  /** Counts how often what is known of it grew. */
  version: number;
}

/** What is shown instead of the present; while another moment loads, still the one before. */
export const past = signal<Past | null>(null);
export const pastProblem = signal<string | null>(null);
export const isPastLoading = signal(false);

/** Of so many offline nodes it is asked why they were; of more it stays unknown. */
const ASKED_WHY = 60;
const AT_ONCE = 4;
const SETTLED_MS = 400;

let loading: AbortController | null = null;

async function load(at: number): Promise<void> {
  loading?.abort();
  const mine = new AbortController();
  loading = mine;
  isPastLoading.value = true;
  try {
    const { body } = await ask<Graph>(
      `/api/graph?include_offline=true&at=${encodeURIComponent(new Date(at).toISOString())}`,
      mine.signal,
    );
    if (mine.signal.aborted) return;
    const shown: Past = { at, fleet: Fleet.ofGraph(body), version: 0 };
    past.value = shown;
    pastProblem.value = null;
    isPastLoading.value = false;
    setTimeout(() => void explain(shown, mine.signal), SETTLED_MS);
  } catch (error) {
    if (mine.signal.aborted) return;
    isPastLoading.value = false;
    pastProblem.value = words(error);
  }
}

/** The graph does not say whether an offline node was lost or had left; its history does. */
async function explain(shown: Past, signal: AbortSignal): Promise<void> {
  const offline = [...shown.fleet.nodes.values()].filter((node) => node.kind === "offline");
  if (offline.length > ASKED_WHY) return;
  const one = async () => {
    for (let node = offline.pop(); node && !signal.aborted; node = offline.pop()) {
      const path = `/api/nodes/${node.id}/history?to=${encodeURIComponent(shown.fleet.cursor)}&from=${encodeURIComponent(shown.fleet.cursor)}&limit=1`;
      const { body } = await ask<StatusHistory>(path, signal);
      const span = body.spans.at(-1);
      if (span) node.kind = kindOf(node.status, span.override === null ? null : { status: span.override }, span.reason);
    }
  };
  await Promise.all(Array.from({ length: AT_ONCE }, one)).catch(() => undefined);
  if (!signal.aborted && past.value?.fleet === shown.fleet) past.value = { ...shown, version: shown.version + 1 };
}

export function startPast(): void {
  effect(() => {
    const at = wantedAt.value;
    if (at !== null) {
      void load(at);
      return;
    }
    loading?.abort();
    past.value = null;
    pastProblem.value = null;
    isPastLoading.value = false;
  });
}
