// Where groups and nodes were put, for one way of grouping. This browser keeps it, so that a page which is loaded again
// looks as it did.

import type { Place } from "./layout.ts";

/** So many are kept over a reload, those first that are shown: some 200 KB for each way of grouping. */
const ANCHORS_MAX = 1_000;
const PLACES_MAX = 2_000;
/** So many nodes keep their place while the page is open, those of past moments among them. */
const REMEMBERED_MAX = 50_000;
const COORDINATE_MAX = 1e6;

type Kept = [key: string, x: number, y: number][];

export class Memory {
  /** Of groups, by their names. */
  readonly anchors: Map<string, Place>;
  /** Of nodes, by their ids. */
  readonly places: Map<string, Place>;
  readonly opened = new Map<string, boolean>();
  private readonly item: string;

  constructor(groupedBy: string) {
    this.item = `thunderline.places.${groupedBy}`;
    const { anchors, places } = readItem(this.item);
    this.anchors = readPlaces(anchors, ANCHORS_MAX);
    this.places = readPlaces(places, PLACES_MAX);
  }

  /** Forget places of nodes that are not shown, once there are very many. */
  trim(shown: Iterable<string>): void {
    if (this.places.size <= REMEMBERED_MAX) return;
    const kept = new Set(shown);
    for (const id of this.places.keys()) if (!kept.has(id)) this.places.delete(id);
  }

  keep(groups: Iterable<string>, nodes: Iterable<string>): void {
    const kept = { anchors: first(this.anchors, groups, ANCHORS_MAX), places: first(this.places, nodes, PLACES_MAX) };
    try {
      localStorage.setItem(this.item, JSON.stringify(kept));
    } catch {
      // A browser that keeps nothing for pages, or is full: places hold until the next load.
    }
  }

  forget(): void {
    this.anchors.clear();
    this.places.clear();
    this.keep([], []);
  }
}

function first(places: Map<string, Place>, shown: Iterable<string>, most: number): Kept {
  const kept: Kept = [];
  for (const key of new Set([...shown, ...places.keys()])) {
    if (kept.length === most) break;
    const place = places.get(key);
    if (place) kept.push([key, ...place]);
  }
  return kept;
}

function readItem(item: string): { anchors?: unknown; places?: unknown } {
  try {
    const value: unknown = JSON.parse(localStorage.getItem(item) ?? "{}");
    return typeof value === "object" && value !== null ? value : {};
  } catch {
    // Somebody else's, or broken: everything is laid out anew.
    return {};
  }
}

function readPlaces(value: unknown, most: number): Map<string, Place> {
  const places = new Map<string, Place>();
  for (const item of Array.isArray(value) ? value.slice(0, most) : []) {
    const [key, x, y]: unknown[] = Array.isArray(item) ? item : [];
    if (typeof key === "string" && isCoordinate(x) && isCoordinate(y)) places.set(key, [x, y]);
  }
  return places;
}

function isCoordinate(value: unknown): value is number {
  return typeof value === "number" && Math.abs(value) <= COORDINATE_MAX;
}
