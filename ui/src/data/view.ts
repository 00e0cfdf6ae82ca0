// What all pages look at: the present or a past moment, and the filter that the address names.

import { computed } from "@preact/signals";
import type { Fleet, FleetNode } from "./fleet.ts";
import { KINDS, type Kind } from "./kinds.ts";
import { feedState, fleet, linkage, now, structure, version } from "./live.ts";
import { isPastLoading, past } from "./past.ts";
import { kinds, route, wantedAt } from "./route.ts";
import { readQuery, type Test } from "./search.ts";

/** The fleet that is shown, or null before there is any. */
export const shown = computed<Fleet | null>(() =>
  wantedAt.value === null ? fleet.value : (past.value?.fleet ?? null),
);
/** Changes whenever something that is shown may have. */
export const shownVersion = computed(
  () => `${wantedAt.value === null ? version.value : `past ${past.value?.at} ${past.value?.version}`}`,
);
export const shownStructure = computed(() =>
  wantedAt.value === null
    ? `${structure.value} ${linkage.value} ${fleet.value?.cursor}`
    : `past ${past.value?.at} ${past.value?.fleet.cursor}`,
);
export const isPast = computed(() => wantedAt.value !== null);
/** The time that ages are by: the moment that is looked at. */
export const shownNow = computed(() => wantedAt.value ?? now.value);
/** Whether what is shown may differ from what is: an operator should not act on it. */
export const isStale = computed(() => feedState.value === "stale");
export const isWaiting = computed(
  () => shown.value === null || (isPast.value && isPastLoading.value && past.value === null),
);

export const nodes = computed<FleetNode[]>(() => {
  shownStructure.value;
  return [...(shown.value?.nodes.values() ?? [])].sort((one, other) => (one.name < other.name ? -1 : 1));
});

const leaverCount = computed(() => {
  shownStructure.value;
  return isPast.value ? 0 : (fleet.value?.leaversAt(now.value).length ?? 0);
});
/** Nodes that were deregistered lately; the past shows none. Another list only when others are in it. */
export const leavers = computed<FleetNode[]>(() => {
  shownStructure.value;
  return leaverCount.value === 0 ? [] : (fleet.value?.leaversAt(now.peek()) ?? []);
});

export type Counts = Record<Kind, number> & { total: number };

export function countKinds(of: Iterable<FleetNode>): Counts {
  const counts = Object.fromEntries([...KINDS.map(({ key }) => [key, 0]), ["total", 0]]) as Counts;
  for (const node of of) {
    counts[node.kind] += 1;
    counts.total += 1;
  }
  return counts;
}

export const counts = computed(() => {
  shownVersion.value;
  return countKinds(nodes.value);
});

export const query = computed(() => route.value.params.q ?? "");
const test = computed(() => readQuery(query.value));

export const isFiltered = computed(() => {
  const { domain, role } = route.value.params;
  return Boolean(query.value.trim() || kinds.value.size > 0 || domain || role);
});

/** Whether a node is among what the filter asks for. */
export const matches = computed<Test>(() => {
  shownVersion.value;
  const { domain, role } = route.value.params;
  const chosen = kinds.value;
  const found = test.value;
  return (node) =>
    (chosen.size === 0 || chosen.has(node.kind)) &&
    (!domain || node.domain === domain) &&
    (!role || node.role === role) &&
    found(node);
});

export const matching = computed<FleetNode[]>(() => nodes.value.filter(matches.value));

export const selected = computed<FleetNode | null>(() => {
  shownStructure.value;
  const name = route.value.params.node;
  return name ? (shown.value?.named.get(name) ?? null) : null;
});
