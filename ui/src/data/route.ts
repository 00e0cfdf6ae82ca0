// The address holds all of the view: `#/topology?view=grid&group=domain&node=…&status=lost,degraded&q=…&at=…`.

import { computed, signal } from "@preact/signals";
import { isKind, type Kind } from "./kinds.ts";

export type Page = "overview" | "topology" | "nodes" | "events" | "alerts";
export const PAGES: readonly { key: Page; word: string; letter: string }[] = [
  { key: "overview", word: "Overview", letter: "o" },
  { key: "topology", word: "Topology", letter: "t" },
  { key: "nodes", word: "Nodes", letter: "n" },
  { key: "events", word: "Events", letter: "e" },
  { key: "alerts", word: "Alerts", letter: "a" },
];
export const RANGES = { "1h": 3_600_000, "6h": 21_600_000, "24h": 86_400_000, "7d": 604_800_000 } as const;
export type Range = keyof typeof RANGES;

export interface Route {
  page: Page;
  /** Of the node's own page. */
  name: string | null;
  params: Readonly<Record<string, string>>;
}

/** What goes along from page to page. */
const KEPT = ["at", "range", "status", "q", "domain", "role"];

function read(): Route {
  const hash = location.hash.slice(1);
  // Links of the page that was here before: `#q=gpu&node=worker-1`.
  const [path = "", query = ""] = hash.startsWith("/")
    ? hash.split("?", 2)
    : [hash === "" ? "/overview" : "/nodes", hash];
  const [, first = "", ...rest] = path.split("/");
  const page = PAGES.find(({ key }) => key === first)?.key ?? "overview";
  const name = page === "nodes" && rest.length > 0 ? decodeURIComponent(rest.join("/")) : null;
  return { page, name, params: Object.fromEntries(new URLSearchParams(query)) };
}

export const route = signal<Route>(read());
addEventListener("hashchange", () => {
  route.value = read();
});
addEventListener("popstate", () => {
  route.value = read();
});

type Params = Record<string, string | null | undefined>;

export function href(page: Page, params: Params = {}, name: string | null = null): string {
  const kept = Object.fromEntries(KEPT.map((key) => [key, route.value.params[key]]));
  const query = new URLSearchParams();
  for (const [key, value] of Object.entries({ ...kept, ...params })) if (value) query.set(key, value);
  const text = query.toString().replaceAll("%2C", ",").replaceAll("%3A", ":").replaceAll("%3D", "=");
  return `#/${page}${name === null ? "" : `/${encodeURIComponent(name)}`}${text ? `?${text}` : ""}`;
}

/** Go elsewhere; `step` false: without a step in the browser's history, as for each letter of a search. */
export function go(target: string, { step = true } = {}): void {
  if (target === location.hash) return;
  history[step ? "pushState" : "replaceState"](null, "", target);
  route.value = read();
}

/** Another view of the same page. */
export function set(params: Params, { step = true } = {}): void {
  const { page, name, params: present } = route.value;
  go(href(page, { ...present, ...params }, name), { step });
}

export const range = computed<Range>(() => {
  const given = route.value.params.range ?? "";
  return given in RANGES ? (given as Range) : "1h";
});
export const kinds = computed<ReadonlySet<Kind>>(
  () => new Set((route.value.params.status ?? "").split(",").filter(isKind)),
);
/** The past moment that is looked at, or null. */
export const wantedAt = computed<number | null>(() => {
  const at = Date.parse(route.value.params.at ?? "");
  return Number.isNaN(at) ? null : at;
});

export function lookAt(at: number | null, options: { step?: boolean } = {}): void {
  set({ at: at === null ? null : new Date(Math.round(at)).toISOString().replace(/\.000Z$/, "Z") }, options);
}

export function toggleKind(kind: Kind): void {
  const chosen = new Set(kinds.value);
  if (!chosen.delete(kind)) chosen.add(kind);
  set({ status: [...chosen].join(",") });
}
