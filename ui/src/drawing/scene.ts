// What is to be drawn: nodes in groups, links between them, and where each has its place. Places outlive the page that
// draws them and the moment that is looked at: the same node is always found where it was.

import type { Fleet, FleetNode, Link } from "../data/fleet.ts";
import { type Counts, countKinds } from "../data/view.ts";
import type { LayoutJob, LayoutNews, Place } from "./layout.ts";
import { Memory } from "./memory.ts";

export type GroupBy = "domain" | "role" | "cluster" | "group" | "none";

/** From so many nodes on groups are closed until somebody opens them: no drawing of more nodes than this can be read. */
export const CLOSED_FROM = 1_500;
/** Of more groups than this those are drawn as one whose names begin alike: nobody finds one among more. */
const GROUPS_MAX = 400;
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
  /** Nodes that were deregistered lately: they are drawn at their place and counted nowhere. */
  leavers: FleetNode[];
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

const memories = new Map<GroupBy, Memory>();

function memoryOf(groupBy: GroupBy): Memory {
  const memory = memories.get(groupBy) ?? new Memory(groupBy);
  memories.set(groupBy, memory);
  return memory;
}

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

/** To what is kept over a reload, so that it is the same to the last digit. */
const rounded = (x: number, y: number): Place => [Math.round(100 * x) / 100, Math.round(100 * y) / 100];

/** For each name that of the group it is drawn in: its own, or the beginning that it shares with others. */
function gather(names: ReadonlySet<string>): (name: string) => string {
  const cut = (length: number) => (name: string) => (name.length > length ? `${name.slice(0, length)}…` : name);
  let length = 0;
  for (const name of names) length = Math.max(length, name.length);
  while (length > 0 && new Set([...names].map(cut(length))).size > GROUPS_MAX) length -= 1;
  return cut(length);
}

export class Scene {
  groups: Group[] = [];
  nodes: FleetNode[] = [];
  /** Those in open groups. */
  openNodes: FleetNode[] = [];
  openLeavers: FleetNode[] = [];
  openLinks: DrawnLink[] = [];
  groupLinks: GroupLink[] = [];
  isSettled = false;
  groupBy: GroupBy = "domain";
  private leavers: FleetNode[] = [];
  private fleet: Fleet | null = null;
  private groupOf = new Map<FleetNode, Group>();
  private job = 0;
  private isWorking = false;
  private sent: LayoutJob | null = null;
  private sentAt = 0;
  private timer = 0;
  private aspect = 1.5;
  private memory = memoryOf(this.groupBy);
  private readonly worker: Worker;

  constructor(private readonly onChange: (isSettled: boolean) => void) {
    this.worker = new Worker(workerUrl(), { type: "module" });
    this.worker.onmessage = ({ data }: MessageEvent<LayoutNews>) => this.onNews(data);
  }

  end(): void {
    this.abandon();
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

  /** The nodes, by name, and links of another moment or of more of them, and those that left lately. */
  show(fleet: Fleet, nodes: FleetNode[], leavers: FleetNode[], groupBy: GroupBy, aspect: number): void {
    this.fleet = fleet;
    this.nodes = nodes;
    this.leavers = leavers;
    this.aspect = Math.min(2, Math.max(0.6, aspect));
    if (groupBy !== this.groupBy) this.abandon();
    this.groupBy = groupBy;
    this.memory = memoryOf(groupBy);
    this.memory.trim(nodes.map(({ id }) => id));
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
    this.abandon();
    this.memory.forget();
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
    const gathered = gather(new Set([...this.nodes, ...this.leavers].map((node) => this.keyOf(node))));
    const members = new Map<string, Pick<Group, "nodes" | "leavers">>();
    const sort = (of: FleetNode[], into: "nodes" | "leavers") => {
      for (const node of of) {
        const key = gathered(this.keyOf(node));
        const known = members.get(key) ?? { nodes: [], leavers: [] };
        known[into].push(node);
        members.set(key, known);
      }
    };
    sort(this.nodes, "nodes");
    sort(this.leavers, "leavers");
    const isLarge = this.nodes.length > CLOSED_FROM && this.groupBy !== "none";
    const spread = this.spread;
    const keys = [...members.keys()].sort();
    this.groupOf = new Map();
    this.groups = keys.map((key) => {
      const { nodes, leavers } = members.get(key) ?? { nodes: [], leavers: [] };
      const anchor = this.memory.anchors.get(key);
      const group: Group = {
        key,
        nodes,
        leavers,
        isOpen: this.memory.opened.get(key) ?? !isLarge,
        radius: (22 + 12.2 * Math.sqrt(nodes.length + leavers.length)) * spread,
        x: anchor?.[0] ?? 0,
        y: anchor?.[1] ?? 0,
        isPlaced: anchor !== undefined,
        counts: countKinds(nodes),
      };
      for (const node of [...nodes, ...leavers]) this.groupOf.set(node, group);
      return group;
    });
    this.connect();
  }

  private get spread(): number {
    return this.nodes.length <= 30 ? 1.9 : this.nodes.length <= 110 ? 1.3 : 1;
  }

  private connect(): void {
    const open = this.groups.filter((group) => group.isOpen);
    this.openNodes = open.flatMap((group) => group.nodes);
    this.openLeavers = open.flatMap((group) => group.leavers).filter(({ id }) => this.memory.places.has(id));
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
    this.isSettled = !isMissing && !this.isWorking;
    // While the worker is at it places still change: who comes meanwhile waits, or what is half done would be kept.
    if (isMissing && !this.isWorking) {
      clearTimeout(this.timer);
      this.timer = setTimeout(() => this.send(), Math.max(0, this.sentAt + RELAYOUT_MS - Date.now()));
    }
    this.onChange(this.isSettled);
  }

  /** What the worker is at counts no longer: who had no place before has none again. */
  private abandon(): void {
    clearTimeout(this.timer);
    if (!this.isWorking || !this.sent) return;
    for (const { id } of this.sent.nodes) if (!(id in this.sent.places)) this.memory.places.delete(id);
    this.isWorking = false;
    this.job += 1;
  }

  private send(): void {
    this.sentAt = Date.now();
    this.isWorking = true;
    const groupIndex = new Map(this.groups.map((group, index) => [group, index]));
    const nodeIndex = new Map(this.openNodes.map((node, index) => [node, index]));
    const places: Record<string, Place> = {};
    // Nobody is put where somebody has just left.
    const bodies = [...this.openNodes, ...this.openLeavers];
    for (const node of bodies) {
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
      nodes: bodies.map((node) => ({
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
      for (const group of this.groups) {
        const anchor = anchors.get(group.key);
        if (!anchor) continue;
        const place = this.memory.anchors.get(group.key) ?? rounded(...anchor);
        this.memory.anchors.set(group.key, place);
        [group.x, group.y, group.isPlaced] = [...place, true];
      }
    }
    if (places) {
      for (const [index, { id }] of this.sent.nodes.entries()) {
        // Who had a place keeps it to the last bit.
        if (!(id in this.sent.places))
          this.memory.places.set(id, rounded(places[2 * index] ?? 0, places[2 * index + 1] ?? 0));
      }
    }
    if (!isDone) {
      this.onChange(false);
      return;
    }
    this.isWorking = false;
    this.memory.keep(
      this.groups.map(({ key }) => key),
      this.sent.nodes.map(({ id }) => id),
    );
    this.arrange();
  }
}
