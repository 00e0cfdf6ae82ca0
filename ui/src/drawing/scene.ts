// What is to be drawn: nodes in groups, links between them, and where each has its place. Places outlive the page that
// draws them and the moment that is looked at: the same node is always found where it was.

import type { Fleet, FleetNode, Link } from "../data/fleet.ts";
import { type Counts, countKinds } from "../data/view.ts";
import type { LayoutJob, LayoutNews, Place } from "./layout.ts";

export type GroupBy = "domain" | "role" | "cluster" | "group" | "none";

/** From so many nodes on groups are closed until somebody opens them: no drawing of more nodes than this can be read. */
export const CLOSED_FROM = 1_500;
/** A closed group is drawn as a disc of this part of the circle that is kept free for it. */
export const DISC = 0.66;
/** Nodes with more links than the square of this are drawn no larger. */
const BUSIEST = 5;
const NO_GROUP = "in no group";
const ALL = "all nodes";
const RELAYOUT_MS = 400;

export interface Group {
  key: string;
  nodes: FleetNode[];
  isOpen: boolean;
  /** Of the circle that is kept free for it, open or closed, so that opening one moves no other. */
  radius: number;
  x: number;
  y: number;
  isPlaced: boolean;
  counts: Counts;
}

export interface DrawnLink {
  link: Link;
  source: FleetNode;
  target: FleetNode;
}

export interface GroupLink {
  source: Group;
  target: Group;
  count: number;
}

class Memory {
  anchors: Record<string, Place> = {};
  readonly places = new Map<string, Place>();
  readonly opened = new Map<string, boolean>();
}

const memories = new Map<GroupBy, Memory>();
const POLICY = "thunderline-layout";
const WORKER = "/assets/dashboard-layout.js";

interface TrustedTypes {
  createPolicy(
    name: string,
    rules: { createScriptURL: (url: string) => string },
  ): { createScriptURL(url: string): string };
}
let policy: ReturnType<TrustedTypes["createPolicy"]> | null = null;

/** The one script that this page starts by its address. */
function workerUrl(): string {
  const types = (globalThis as { trustedTypes?: TrustedTypes }).trustedTypes;
  if (!types) return WORKER;
  policy ??= types.createPolicy(POLICY, { createScriptURL: () => WORKER });
  return policy.createScriptURL(WORKER);
}

export class Scene {
  groups: Group[] = [];
  nodes: FleetNode[] = [];
  /** Those in open groups. */
  openNodes: FleetNode[] = [];
  openLinks: DrawnLink[] = [];
  groupLinks: GroupLink[] = [];
  isSettled = false;
  groupBy: GroupBy = "domain";
  private fleet: Fleet | null = null;
  private groupOf = new Map<FleetNode, Group>();
  private job = 0;
  private sent: LayoutJob | null = null;
  private sentAt = 0;
  private timer = 0;
  private aspect = 1.5;
  private memory = new Memory();
  private readonly worker: Worker;

  constructor(private readonly onChange: (isSettled: boolean) => void) {
    this.worker = new Worker(workerUrl(), { type: "module" });
    this.worker.onmessage = ({ data }: MessageEvent<LayoutNews>) => this.onNews(data);
  }

  end(): void {
    clearTimeout(this.timer);
    this.worker.terminate();
  }

  placeOf(node: FleetNode): Place | undefined {
    return this.memory.places.get(node.id);
  }

  groupAt(node: FleetNode): Group | undefined {
    return this.groupOf.get(node);
  }

  isOpen(node: FleetNode): boolean {
    return this.groupAt(node)?.isOpen ?? false;
  }

  /** The nodes, by name, and links of another moment or of more of them. */
  show(fleet: Fleet, nodes: FleetNode[], groupBy: GroupBy, aspect: number): void {
    this.fleet = fleet;
    this.nodes = nodes;
    this.aspect = Math.min(2, Math.max(0.6, aspect));
    if (groupBy !== this.groupBy || !memories.has(groupBy)) {
      this.groupBy = groupBy;
      this.memory = memories.get(groupBy) ?? new Memory();
      memories.set(groupBy, this.memory);
    } else this.memory = memories.get(groupBy) ?? this.memory;
    this.regroup();
    this.arrange();
  }

  /** Statuses changed: what groups count, too. */
  recount(): void {
    for (const group of this.groups) group.counts = countKinds(group.nodes);
  }

  toggle(group: Group): void {
    this.memory.opened.set(group.key, !group.isOpen);
    this.regroup();
    this.arrange();
  }

  setAllOpen(isOpen: boolean): void {
    for (const group of this.groups) this.memory.opened.set(group.key, isOpen);
    this.regroup();
    this.arrange();
  }

  /** Forget all places and find new ones. */
  layOutAgain(): void {
    this.memory.anchors = {};
    this.memory.places.clear();
    this.regroup();
    this.arrange();
  }

  radiusOf(node: FleetNode): number {
    return 2.6 + Math.min(Math.sqrt(1 + node.links), BUSIEST) * 2.1;
  }

  private keyOf(node: FleetNode): string {
    if (this.groupBy === "none") return ALL;
    if (this.groupBy === "group") return node.record?.groups[0] ?? NO_GROUP;
    return node[this.groupBy];
  }

  private regroup(): void {
    const members = new Map<string, FleetNode[]>();
    for (const node of this.nodes) {
      const key = this.keyOf(node);
      const known = members.get(key);
      if (known) known.push(node);
      else members.set(key, [node]);
    }
    const isLarge = this.nodes.length > CLOSED_FROM && this.groupBy !== "none";
    const spread = this.spread;
    const keys = [...members.keys()].sort();
    this.groupOf = new Map();
    this.groups = keys.map((key) => {
      const nodes = members.get(key) ?? [];
      const anchor = this.memory.anchors[key];
      const group: Group = {
        key,
        nodes,
        isOpen: this.memory.opened.get(key) ?? !isLarge,
        radius: (22 + 12.2 * Math.sqrt(nodes.length)) * spread,
        x: anchor?.[0] ?? 0,
        y: anchor?.[1] ?? 0,
        isPlaced: anchor !== undefined,
        counts: countKinds(nodes),
      };
      for (const node of nodes) this.groupOf.set(node, group);
      return group;
    });
    this.connect();
  }

  private get spread(): number {
    return this.nodes.length <= 30 ? 1.9 : this.nodes.length <= 110 ? 1.3 : 1;
  }

  private connect(): void {
    this.openNodes = this.groups.filter((group) => group.isOpen).flatMap((group) => group.nodes);
    this.openLinks = [];
    const numberOf = new Map(this.groups.map((group, index) => [group, index]));
    // By the numbers of both: of many links most are between groups that others are between, too.
    const between = new Map<number, GroupLink>();
    const fleet = this.fleet;
    for (const node of this.nodes) node.links = 0;
    if (!fleet) return;
    for (const link of fleet.links.values()) {
      const source = fleet.nodes.get(link.source);
      const target = fleet.nodes.get(fleet.targetOf(link) ?? "");
      if (!source || !target) continue;
      source.links += 1;
      if (target !== source) target.links += 1;
      const from = this.groupAt(source);
      const to = this.groupAt(target);
      if (!from || !to) continue;
      if (from.isOpen && to.isOpen) this.openLinks.push({ link, source, target });
      if (from === to) continue;
      const [one, other] = from.key < to.key ? [from, to] : [to, from];
      const pair = (numberOf.get(one) ?? 0) * this.groups.length + (numberOf.get(other) ?? 0);
      const known = between.get(pair);
      if (known) known.count += 1;
      else between.set(pair, { source: one, target: other, count: 1 });
    }
    this.groupLinks = [...between.values()];
  }

  /** Ask the worker for the places that are missing, if there are any. */
  private arrange(): void {
    const isMissing =
      this.groups.some((group) => !group.isPlaced) || this.openNodes.some((node) => !this.memory.places.has(node.id));
    if (!isMissing) {
      this.isSettled = true;
      this.onChange(true);
      return;
    }
    this.isSettled = false;
    clearTimeout(this.timer);
    this.timer = setTimeout(() => this.send(), Math.max(0, this.sentAt + RELAYOUT_MS - Date.now()));
    this.onChange(false);
  }

  private send(): void {
    this.sentAt = Date.now();
    const groupIndex = new Map(this.groups.map((group, index) => [group, index]));
    const nodeIndex = new Map(this.openNodes.map((node, index) => [node, index]));
    const places: Record<string, Place> = {};
    for (const node of this.openNodes) {
      const place = this.memory.places.get(node.id);
      if (place) places[node.id] = place;
    }
    this.sent = {
      job: ++this.job,
      spread: this.spread,
      aspect: this.aspect,
      groups: this.groups.map(({ key, radius }) => ({ key, radius })),
      groupLinks: this.groupLinks.map(({ source, target }) => [
        groupIndex.get(source) ?? 0,
        groupIndex.get(target) ?? 0,
      ]),
      anchors: this.memory.anchors,
      nodes: this.openNodes.map((node) => ({
        id: node.id,
        group: groupIndex.get(this.groupAt(node) as Group) ?? 0,
        radius: this.radiusOf(node),
      })),
      links: this.openLinks.map(({ source, target }) => [nodeIndex.get(source) ?? 0, nodeIndex.get(target) ?? 0]),
      places,
    };
    this.worker.postMessage(this.sent);
  }

  private onNews({ job, anchors, places, isDone }: LayoutNews): void {
    if (job !== this.job || !this.sent) return;
    if (anchors) {
      this.memory.anchors = { ...this.memory.anchors, ...anchors };
      for (const group of this.groups) {
        const anchor = anchors[group.key];
        if (anchor) [group.x, group.y, group.isPlaced] = [...anchor, true];
      }
    }
    if (places) {
      for (const [index, { id }] of this.sent.nodes.entries()) {
        // Who had a place keeps it to the last bit.
        if (!(id in this.sent.places)) this.memory.places.set(id, [places[2 * index] ?? 0, places[2 * index + 1] ?? 0]);
      }
    }
    this.isSettled = isDone;
    this.onChange(isDone);
  }
}
