// The server's answers as they are used here, and how they are asked for.

export type Status = "connecting" | "online" | "degraded" | "disconnected" | "offline";

export interface Override {
  status: Status;
  reason: string;
  by: string;
  at: string;
  expires_at: string | null;
}

export interface NodeRecord {
  id: string;
  name: string;
  role: string;
  domain: string;
  cluster_type: string;
  status: Status;
  observed_status: Status;
  observed_reason: string;
  override: Override | null;
  status_reason: string;
  status_since: string;
  address: string | null;
  peer_id: string | null;
  did: string | null;
  meta: Record<string, unknown>;
  labels: Record<string, string>;
  capabilities: Record<string, { value: string | null; enabled: boolean }>;
  groups: string[];
  instance: string | null;
  incarnation: number;
  heartbeat_interval_ms: number;
  inserted_at: string;
  updated_at: string;
  revision: number;
  flapping: boolean;
  presence?: Presence;
}

export interface Beat {
  node_id: string;
  at: string;
  status: "online" | "degraded" | "offline";
  cpu_load: number | null;
  mem_used_mb: number | null;
  latency_ms: number | null;
}

export interface Presence {
  last_seen_at: string | null;
  last_heartbeat_at: string | null;
  last_heartbeat: Beat | null;
  sessions: number;
  owner: string;
}

export interface SessionRecord {
  session_id: string;
  node_id: string;
  remote_node_id: string | null;
  session_type: string;
  connection_type: string;
  status: string;
  status_reason: string;
  weight: number;
  latency_ms: number | null;
  bandwidth_mbps: number | null;
  established_at: string | null;
  controller: string | null;
}

export interface GraphNode {
  id: string;
  name: string;
  role: string;
  domain: string;
  status: Status;
  cluster_type: string;
  val: number;
  meta: Record<string, unknown>;
}

export interface GraphLink {
  source: string;
  target: string;
  type: string;
  session_id: string;
  session_type: string;
  connection_type: string;
  status: string;
  latency_ms: number | null;
}

export interface Graph {
  nodes: GraphNode[];
  links: GraphLink[];
  revision: number;
  cursor: string;
}

export interface LogEvent {
  id: string;
  type: string;
  subject: string;
  time: string;
  revision: number;
  actor: string;
  entitykind: "node" | "link" | "group" | "guard" | "capacity" | "alert";
  entityid: string;
  reliability: "persistent" | "transient";
  data: unknown;
}

export interface Guard {
  id: string;
  scope: string;
  engaged: boolean;
  nodes: number;
  fallen: number;
  held: number;
  max_delay_s: number;
}

export interface Summary {
  liveness: { guards: Guard[]; capacity: { exceeded: boolean } };
  revision: number;
  cursor: string;
}

export interface Timeline {
  from: string;
  to: string;
  bin_s: number;
  at: string[];
  events: number[];
  counts: Record<string, number[]>;
  oldest: string | null;
  newest: string | null;
  cursor: string;
}

export interface Span {
  status: Status;
  reason: string;
  observed_status: Status;
  override: Status | null;
  since: string;
  until: string | null;
  event: string | null;
  actor: string | null;
}

export interface StatusHistory {
  node_id: string;
  name: string;
  spans: Span[];
  earlier: string | null;
  uptime: { seconds: Record<Status, number>; unregistered_s: number; ratio: number | null };
}

export interface FigureSeries {
  min: (number | null)[];
  mean: (number | null)[];
  max: (number | null)[];
}

export interface Series {
  since: string;
  until: string;
  resolution_s: number;
  at: string[];
  beats: number[];
  status: (string | null)[];
  cpu_load: FigureSeries;
  mem_used_mb: FigureSeries;
  latency_ms: FigureSeries;
}

export interface Who {
  auth: boolean;
  session: { name: string; scopes: string[]; expires_at: string } | null;
}

const GIVE_UP_MS = 30_000;
const OWN = { "x-thunderline": "1" };
const ENDED = "thunderline.ended";

/** What the server said instead of doing it; the message is meant for people. */
export class Refusal extends Error {
  constructor(
    readonly status: number,
    readonly code: string,
    detail: string,
    readonly oldest: string | null = null,
  ) {
    super(detail || `the server answers ${status}`);
  }
}

export interface Answer<T> {
  body: T;
  headers: Headers;
}

/** The answer to a GET. Throws Refusal, or what fetch throws. */
export async function ask<T>(path: string, signal?: AbortSignal): Promise<Answer<T>> {
  return told<T>("GET", path, undefined, signal);
}

/** The answer to what changes something. Throws Refusal, or what fetch throws. */
export async function change<T>(method: "POST" | "DELETE", path: string, body?: unknown): Promise<Answer<T | null>> {
  return told<T | null>(method, path, body);
}

async function told<T>(method: string, path: string, body?: unknown, signal?: AbortSignal): Promise<Answer<T>> {
  const patience = AbortSignal.timeout(GIVE_UP_MS);
  const response = await fetch(path, {
    method,
    cache: method === "GET" ? "default" : "no-store",
    headers: {
      accept: "application/json",
      ...OWN,
      ...(body === undefined ? {} : { "content-type": "application/json" }),
    },
    body: body === undefined ? undefined : JSON.stringify(body),
    signal: signal ? AbortSignal.any([signal, patience]) : patience,
  });
  const text = await response.text();
  if (!response.ok) throw refusal(response.status, text);
  return { body: (text === "" ? null : JSON.parse(text)) as T, headers: response.headers };
}

export function refusal(status: number, text: string): Refusal {
  let problem: Record<string, unknown> = {};
  try {
    problem = JSON.parse(text);
  } catch {
    // A proxy's page, say.
  }
  const detail = String(problem.detail ?? "").slice(0, 300);
  const code = String(problem.code ?? "");
  if (status === 401) void sessionOver(code, detail);
  return new Refusal(status, code, detail, typeof problem.oldest === "string" ? problem.oldest : null);
}

/** Why there was no good answer, in words that follow "because". */
export function words(error: unknown): string {
  if (error instanceof Refusal) return error.message;
  if (error instanceof DOMException && error.name === "TimeoutError") return `no answer within ${GIVE_UP_MS / 1000} s`;
  if (error instanceof TypeError) return "the server cannot be reached";
  return "the answer makes no sense to this page";
}

/** The same as a sentence of its own. */
export function sentence(error: unknown): string {
  const said = words(error);
  return `${said.charAt(0).toUpperCase()}${said.slice(1)}${said.endsWith(".") ? "" : "."}`;
}

let leaving = false;

/** Where nobody is logged in any more, the page to log in takes this one's place and says why. */
async function sessionOver(code: string, detail: string): Promise<void> {
  if (leaving) return;
  leaving = true;
  try {
    const response = await fetch("/api/session", { cache: "no-store", headers: OWN });
    const { auth, session } = (await response.json()) as Who;
    if (auth && session === null) {
      const why = code.startsWith("token_") && detail ? `You were logged out: ${detail}.` : "Your session has ended.";
      try {
        sessionStorage.setItem(ENDED, why);
      } catch {
        // A browser that keeps nothing for pages: it is not said why.
      }
      location.reload();
      return;
    }
  } catch {
    // Whoever asks next learns of it again.
  }
  leaving = false;
}
