// The cluster as this page knows it: nodes and links by id, kept true by the events of the log. Nothing here touches the
// document or the network.

import type {
  Beat,
  Graph,
  GraphLink,
  GraphNode,
  LogEvent,
  NodeRecord,
  Override,
  SessionRecord,
  Status,
} from "./api.ts";
import { type Kind, kindOf } from "./kinds.ts";

/** The one event whose record is the last there was. */
export const DEREGISTERED = "cluster.node.deregistered";
/** For so long the place of a node that was deregistered is still marked. */
const LEAVER_MS = 600_000;
const OPEN = new Set(["establishing", "established", "degraded"]);
const time = (text: string | null | undefined): number | null => (text ? Date.parse(text) : null);

/** One node. What only its whole record has is null until that came. */
export class FleetNode {
  status: Status = "connecting";
  kind: Kind = "offline";
  role = "";
  domain = "";
  cluster = "";
  meta: Record<string, unknown> = {};
  record: NodeRecord | null = null;
  revision = 0;
  links = 0;
  seenAt: number | null = null;
  beatAt: number | null = null;
  cpu: number | null = null;
  memory: number | null = null;
  latency: number | null = null;
  /** When it was deregistered; null while it is a node of the fleet. */
  goneAt: number | null = null;
  /** In small letters, for the search. */
  text = "";

  constructor(
    readonly id: string,
    readonly name: string,
  ) {}

  get reason(): string {
    return this.record?.status_reason ?? "";
  }

  get since(): number | null {
    return time(this.record?.status_since);
  }

  get override(): Override | null {
    return this.record?.override ?? null;
  }

  get isUp(): boolean {
    return this.status === "online" || this.status === "degraded";
  }

  /** Whether the newest figures still say how the node is: it is up, and the beat is not too old. */
  hasFigures(now: number): boolean {
    const observed = this.record?.observed_status ?? this.status;
    if (this.beatAt === null || (observed !== "online" && observed !== "degraded")) return false;
    return now - this.beatAt <= Math.max(3 * (this.record?.heartbeat_interval_ms ?? 10_000), 5000) + 35_000;
  }

  takeGraph(node: GraphNode): void {
    this.status = node.status;
    this.kind = kindOf(node.status, null, null);
    this.role = node.role;
    this.domain = node.domain;
    this.cluster = node.cluster_type;
    this.meta = node.meta;
    this.text = this.name.toLowerCase();
  }

  takeRecord(record: NodeRecord): void {
    const { presence, ...rest } = record;
    this.record = rest;
    this.revision = record.revision;
    this.status = record.status;
    this.kind = kindOf(record.status, record.override, record.observed_reason);
    this.role = record.role;
    this.domain = record.domain;
    this.cluster = record.cluster_type;
    this.meta = record.meta;
    this.text =
      `${record.name} ${record.id} ${record.address ?? ""} ${record.role} ${record.domain} ${record.groups.join(" ")} ${Object.entries(
        record.labels,
      )
        .map(([key, value]) => `${key}=${value}`)
        .join(" ")}`.toLowerCase();
    if (presence) {
      this.seenAt = Math.max(this.seenAt ?? 0, time(presence.last_seen_at) ?? 0) || null;
      if (presence.last_heartbeat) this.takeBeat(presence.last_heartbeat);
    }
  }

  takeBeat(beat: Beat): void {
    const at = Date.parse(beat.at);
    if (this.beatAt !== null && at < this.beatAt) return;
    this.beatAt = at;
    this.seenAt = Math.max(this.seenAt ?? 0, at);
    this.cpu = beat.cpu_load;
    this.memory = beat.mem_used_mb;
    this.latency = beat.latency_ms;
  }
}

export interface Link {
  id: string;
  /** `target` null: it leads to a controller that is not registered here. */
  source: string;
  target: string | null;
  controller: string | null;
  type: "registry" | "node";
  session_type: string;
  connection: string;
  status: string;
  latency: number | null;
}

/** What an event changed: nothing that is drawn, figures or statuses, or which nodes and links there are. */
export type Effect = "none" | "looks" | "nodes" | "links";

export class Fleet {
  readonly nodes = new Map<string, FleetNode>();
  readonly links = new Map<string, Link>();
  /** Nodes by name, which is unique. */
  readonly named = new Map<string, FleetNode>();
  /** Nodes that were deregistered lately, the longest gone first. */
  private readonly leavers = new Map<string, FleetNode>();
  revision = 0;
  cursor = "0";
  private byNode: Map<string, Link[]> | null = null;

  static ofGraph(graph: Graph): Fleet {
    const fleet = new Fleet();
    fleet.revision = graph.revision;
    fleet.cursor = graph.cursor;
    for (const drawn of graph.nodes) {
      const node = new FleetNode(drawn.id, drawn.name);
      node.takeGraph(drawn);
      fleet.put(node);
    }
    for (const link of graph.links) fleet.links.set(link.session_id, linkOf(link));
    return fleet;
  }

  linksOf(id: string): Link[] {
    if (this.byNode === null) {
      this.byNode = new Map();
      for (const link of this.links.values()) {
        for (const end of new Set([link.source, this.targetOf(link)])) {
          if (end === null) continue;
          const known = this.byNode.get(end);
          if (known) known.push(link);
          else this.byNode.set(end, [link]);
        }
      }
    }
    return this.byNode.get(id) ?? [];
  }

  /** The nodes that were deregistered in the ten minutes before. */
  leaversAt(now: number): FleetNode[] {
    return [...this.leavers.values()].filter((leaver) => now - (leaver.goneAt ?? 0) < LEAVER_MS);
  }

  targetOf(link: Link): string | null {
    return link.target ?? (link.controller === null ? null : (this.named.get(link.controller)?.id ?? null));
  }

  /** A whole record from a list; older than what is known, only its figures count. */
  list(record: NodeRecord): Effect {
    const known = this.nodes.get(record.id);
    if (known?.record && known.revision > record.revision) {
      if (record.presence?.last_heartbeat) known.takeBeat(record.presence.last_heartbeat);
      return "looks";
    }
    // A node that came and went between list and watch: its end is still to come as an event.
    const node = known ?? new FleetNode(record.id, record.name);
    node.takeRecord(record);
    if (known) return "looks";
    this.put(node);
    return "nodes";
  }

  apply(event: LogEvent): Effect {
    if (event.reliability === "transient") return this.beat(event.data as Beat);
    this.revision = Math.max(this.revision, event.revision);
    if (event.entitykind === "node") return this.nodeEvent(event);
    if (event.entitykind === "link") return this.linkEvent(event.data as SessionRecord);
    return "none";
  }

  private beat(beat: Beat): Effect {
    const node = this.nodes.get(beat.node_id);
    if (!node) return "none";
    node.takeBeat(beat);
    return "looks";
  }

  private nodeEvent(event: LogEvent): Effect {
    const record = event.data as NodeRecord;
    const known = this.nodes.get(record.id);
    if (event.type === DEREGISTERED) {
      if (!known) return "none";
      this.nodes.delete(record.id);
      if (this.named.get(known.name) === known) this.named.delete(known.name);
      this.byNode = null;
      this.leave(known, Date.parse(event.time));
      return "nodes";
    }
    if (known?.record && known.revision > event.revision) return "none";
    const node = known ?? new FleetNode(record.id, record.name);
    const moved = known !== undefined && (known.domain !== record.domain || known.role !== record.role);
    node.takeRecord({ ...record, revision: event.revision });
    if (known) return moved ? "nodes" : "looks";
    this.put(node);
    return "nodes";
  }

  private leave(node: FleetNode, at: number): void {
    node.goneAt = at;
    for (const [id, { goneAt }] of this.leavers) {
      if (at - (goneAt ?? 0) < LEAVER_MS) break;
      this.leavers.delete(id);
    }
    this.leavers.set(node.id, node);
  }

  private linkEvent(session: SessionRecord): Effect {
    const known = this.links.get(session.session_id);
    if (!OPEN.has(session.status)) {
      if (!known) return "none";
      this.links.delete(session.session_id);
      this.byNode = null;
      return "links";
    }
    this.links.set(session.session_id, {
      id: session.session_id,
      source: session.node_id,
      target: session.remote_node_id,
      controller: session.controller,
      type: session.remote_node_id === null ? "registry" : "node",
      session_type: session.session_type,
      connection: session.connection_type,
      status: session.status,
      latency: session.latency_ms,
    });
    this.byNode = null;
    return known ? "looks" : "links";
  }

  private put(node: FleetNode): void {
    this.nodes.set(node.id, node);
    this.named.set(node.name, node);
    this.byNode = null;
  }
}

function linkOf(link: GraphLink): Link {
  return {
    id: link.session_id,
    source: link.source,
    target: link.target,
    controller: null,
    type: link.type === "registry" ? "registry" : "node",
    session_type: link.session_type,
    connection: link.connection_type,
    status: link.status,
    latency: link.latency_ms,
  };
}
