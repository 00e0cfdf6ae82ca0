// The present: one list, and the events after it. Of all tabs of a browser one holds the stream (Web Locks) and tells the
// others (BroadcastChannel); when it closes, the next one goes on from where it stands itself. Revisions have no gaps, so
// that whoever missed some notices, and reads them from the log.

import { batch, computed, effect, signal } from "@preact/signals";
import { ask, type Graph, type Guard, type LogEvent, type NodeRecord, Refusal, type Summary, words } from "./api.ts";
import { type Effect, Fleet } from "./fleet.ts";
import { type Message, readStream, SILENT_MS } from "./stream.ts";

type Told =
  | { kind: "events"; log: string; events: LogEvent[] }
  | { kind: "heard"; at: number }
  | { kind: "lost"; problem: string; at: number }
  | { kind: "hello" };

export type FeedState = "waiting" | "live" | "stale";

/** Up to so many nodes every heartbeat is streamed; of larger fleets the figures are listed again now and then. */
export const BEATS_UP_TO = 1_000;
const LIST_AGAIN_MS = 30_000;
const PAGE_SIZE = 2_000;
const GAP_PAGE = 1_000;
/** So soon, too, a page notices that its session is over. */
const SUMMARY_MS = 3_000;
const FRAME_MS = 250;
/** While somebody moves the map, what stands around it changes less often: painting it anew costs the map frames. */
const MOVING_FRAME_MS = 2_000;
const RECENT_MAX = 500;
const TICK_MS = 1_000;
const CHANNEL = "thunderline";
const CLOCK_SLACK_MS = 2_500;

/** Counts what changed; `version` anything, `structure` which nodes there are, `linkage` which links. */
export const version = signal(0);
export const structure = signal(0);
export const linkage = signal(0);
export const feedState = signal<FeedState>("waiting");
export const problem = signal<string | null>(null);
/** When the server was last heard, in this browser's time. */
export const heardAt = signal<number | null>(null);
/** The server's time; it stands still while nothing is heard, as the data does. */
export const now = signal(Date.now());
/** This browser's own time, which goes on. */
export const wall = signal(Date.now());
/** Whether this tab holds the stream. */
export const leads = signal(false);
export const guards = signal<Guard[]>([]);
export const overCapacity = signal(false);
/** For how long the store has been away, in seconds, or null while it is there. */
export const storeAwayFor = signal<number | null>(null);
/** Whether the list with all fields has come, after the graph. */
export const isListed = signal(false);
/** Counts what the log told of alerts. */
export const alertNews = signal(0);
/** The newest events that this page heard, newest first. */
export const recent = signal<LogEvent[]>([]);
export const streamsBeats = signal(true);
/** Whether somebody moves the map at the moment. */
export const isMoving = signal(false);
/** The present, from the first list on. */
export const fleet = signal<Fleet | null>(null);
export const revision = computed(() => {
  version.value;
  return fleet.value?.revision ?? 0;
});

class Live {
  private log = "";
  private offset = 0;
  private pending: LogEvent[] = [];
  private isBusy = true;
  private isAgain = false;
  private dirty: Set<Effect> = new Set();
  /** Events that were heard since the page was last told, newest first. */
  private unseen: LogEvent[] = [];
  private dueFrame = 0;
  private lastFrame = 0;
  private lastTold = 0;
  private readonly channel = typeof BroadcastChannel === "undefined" ? null : new BroadcastChannel(CHANNEL);

  start(): void {
    if (this.channel) this.channel.onmessage = ({ data }) => this.onTold(data as Told);
    void this.list();
    setInterval(() => this.tick(), TICK_MS);
    effect(() => {
      if (!isMoving.value && this.dueFrame !== 0) this.schedule();
    });
    setInterval(() => void this.summarise(), SUMMARY_MS);
    setInterval(() => void this.listAgain(), LIST_AGAIN_MS);
    document.addEventListener("visibilitychange", () => {
      if (!document.hidden) void this.summarise();
    });
    // Without locks, as on plain HTTP, each tab reads the stream by itself.
    if (navigator.locks && this.channel) {
      void navigator.locks.request("thunderline.stream", () => this.lead());
      this.channel.postMessage({ kind: "hello" } satisfies Told);
    } else void this.lead();
  }

  // The list

  private async list(): Promise<void> {
    this.isBusy = true;
    this.isAgain = false;
    for (let wait = 500; ; wait = Math.min(8_000, wait * 2)) {
      try {
        const { body, headers } = await ask<Graph>("/api/graph?include_offline=true");
        this.readClock(headers);
        this.log = body.cursor.slice(0, body.cursor.lastIndexOf(":"));
        streamsBeats.value = body.nodes.length <= BEATS_UP_TO;
        isListed.value = false;
        const listed = Fleet.ofGraph(body);
        // In one, so that a large fleet is grouped and drawn once and not twice.
        batch(() => {
          fleet.value = listed;
          this.heard();
          structure.value += 1;
          version.value += 1;
        });
        // The first picture comes before what takes longer to read.
        if (!streamsBeats.value) await delay(FRAME_MS);
        await this.listRecords(listed);
        isListed.value = true;
        this.bump("nodes");
        await this.readRecent(listed);
        break;
      } catch (error) {
        this.lost(words(error));
        await delay(wait);
      }
    }
    this.isBusy = false;
    this.take([]);
    void this.summarise();
  }

  private async listRecords(listed: Fleet): Promise<void> {
    let cursor: string | null = null;
    do {
      const after: string = cursor === null ? "" : `&cursor=${encodeURIComponent(cursor)}`;
      const { body } = await ask<{ nodes: NodeRecord[]; next_cursor: string | null }>(
        `/api/nodes?limit=${PAGE_SIZE}${after}`,
      );
      for (const record of body.nodes) listed.list(record);
      cursor = body.next_cursor;
    } while (cursor !== null);
    this.bump("looks");
  }

  private async readRecent(listed: Fleet): Promise<void> {
    const since = Math.max(0, listed.revision - RECENT_MAX);
    const { body } = await ask<{ events: LogEvent[] }>(
      `/api/events?since=${this.log}:${since}&limit=${RECENT_MAX}`,
    ).catch((error: unknown) => {
      // The beginning of the log may lie later.
      if (error instanceof Refusal) return { body: { events: [] as LogEvent[] } };
      throw error;
    });
    // What came after the list the stream tells, too.
    this.unseen = [];
    recent.value = body.events.filter((event) => event.revision <= listed.revision).reverse();
  }

  private async listAgain(): Promise<void> {
    if (streamsBeats.value || document.hidden || this.isBusy || fleet.value === null) return;
    await this.listRecords(fleet.value).catch(() => undefined);
  }

  private readClock(headers: Headers): void {
    const date = Date.parse(headers.get("date") ?? "");
    const offset = date + 500 - Date.now();
    this.offset = Number.isNaN(offset) || Math.abs(offset) < CLOCK_SLACK_MS ? 0 : offset;
  }

  private async summarise(): Promise<void> {
    if (document.hidden) return;
    try {
      const { body, headers } = await ask<Summary>("/api/summary");
      const away = headers.get("x-thunderline-stale-seconds");
      storeAwayFor.value = away === null ? null : Number(away);
      guards.value = body.liveness.guards.filter((guard) => guard.engaged);
      overCapacity.value = body.liveness.capacity.exceeded;
    } catch {
      // The stream tells whether the server is there.
    }
  }

  // The stream

  private async lead(): Promise<void> {
    leads.value = true;
    for (let wait = 300; ; wait = Math.min(5_000, wait * 1.7)) {
      while (this.isBusy) await delay(100);
      try {
        const since = `${this.log}:${fleet.value?.revision ?? 0}`;
        await readStream(
          `/api/events?match=%3E&transient=${streamsBeats.value}&since=${encodeURIComponent(since)}`,
          (messages) => {
            wait = 300;
            this.onMessages(messages);
          },
        );
        this.lost("the server ended the stream");
      } catch (error) {
        this.lost(error instanceof Error && error.name === "Error" ? error.message : words(error));
      }
      await delay(wait * (0.7 + Math.random() * 0.6));
    }
  }

  private onMessages(messages: Message[]): void {
    const events: LogEvent[] = [];
    for (const { event, data } of messages) {
      if (event === "thunderline.reset") {
        // What is kept is of another log, or too old: begin anew, and the others with it.
        this.tell({ kind: "events", log: "", events: [] });
        void this.list();
        return;
      }
      if (event !== "thunderline.cut" && data !== "") events.push(JSON.parse(data) as LogEvent);
    }
    this.heard();
    if (events.length > 0) {
      this.tell({ kind: "events", log: this.log, events });
      this.take(events);
    } else if (Date.now() - this.lastTold > 1_000) this.tell({ kind: "heard", at: Date.now() });
  }

  private tell(what: Told): void {
    this.lastTold = Date.now();
    this.channel?.postMessage(what);
  }

  private onTold(what: Told): void {
    if (what.kind === "hello") {
      if (!leads.value) return;
      if (problem.value !== null) this.tell({ kind: "lost", problem: problem.value, at: Date.now() });
      else if (heardAt.value !== null) this.tell({ kind: "heard", at: heardAt.value });
    } else if (what.kind === "lost") this.lost(what.problem);
    else {
      this.heard();
      if (what.kind !== "events") return;
      if (what.log !== this.log) void (this.isBusy || this.list());
      else this.take(what.events);
    }
  }

  private take(events: LogEvent[]): void {
    const known = fleet.value;
    if (this.isBusy || known === null) {
      this.pending.push(...events);
      return;
    }
    const waiting = this.pending.length > 0 ? [...this.pending, ...events] : events;
    this.pending = [];
    const heard: LogEvent[] = [];
    for (const [index, event] of waiting.entries()) {
      if (event.reliability === "persistent") {
        if (event.revision <= known.revision) continue;
        if (event.revision > known.revision + 1) {
          this.pending = waiting.slice(index);
          void this.fill(known);
          break;
        }
        heard.push(event);
      }
      this.bump(known.apply(event));
      this.report(event);
    }
    this.remember(heard);
  }

  /** Read what was missed from the log; what comes meanwhile waits. */
  private async fill(known: Fleet): Promise<void> {
    this.isBusy = true;
    try {
      const target = this.pending[0]?.revision ?? 0;
      while (known.revision < target - 1) {
        const { body } = await ask<{ events: LogEvent[] }>(
          `/api/events?since=${this.log}:${known.revision}&limit=${GAP_PAGE}`,
        );
        if (body.events.length === 0) break;
        for (const event of body.events) {
          this.bump(known.apply(event));
          this.report(event);
        }
        this.remember(body.events);
      }
    } catch {
      this.isAgain = true;
    }
    if (this.isAgain) {
      this.pending = [];
      await this.list();
      return;
    }
    this.isBusy = false;
    this.take([]);
  }

  private report(event: LogEvent): void {
    if (event.entitykind === "alert") alertNews.value += 1;
    if (event.entitykind === "capacity") overCapacity.value = (event.data as { exceeded: boolean }).exceeded;
    if (event.entitykind !== "guard") return;
    const told = event.data as Guard;
    guards.value = [...guards.value.filter((guard) => guard.id !== told.id), ...(told.engaged ? [told] : [])];
  }

  private remember(events: LogEvent[]): void {
    if (events.length === 0) return;
    this.unseen = [...events.toReversed(), ...this.unseen].slice(0, RECENT_MAX);
    if (this.dueFrame === 0) this.schedule();
  }

  // What the page shows

  private heard(): void {
    heardAt.value = Date.now();
    if (problem.value !== null) problem.value = null;
    if (feedState.value !== "live") {
      feedState.value = "live";
      this.tick();
    }
  }

  private lost(why: string): void {
    problem.value = why;
    if (fleet.value !== null) feedState.value = "stale";
    if (leads.value) this.tell({ kind: "lost", problem: why, at: Date.now() });
  }

  private tick(): void {
    wall.value = Date.now();
    if (heardAt.value !== null && Date.now() - heardAt.value > SILENT_MS) this.lostByAge();
    const present = Date.now() + this.offset;
    if (feedState.value !== "stale" && (!isMoving.value || present - now.value >= MOVING_FRAME_MS)) now.value = present;
  }

  private lostByAge(): void {
    if (feedState.value !== "live") return;
    problem.value = `nothing was heard for ${SILENT_MS / 1000} s`;
    feedState.value = "stale";
  }

  private bump(effect: Effect): void {
    if (effect === "none") return;
    this.dirty.add(effect);
    if (this.dueFrame === 0) this.schedule();
  }

  /** Tell the page, four times a second at most, however much arrives. */
  private schedule(): void {
    clearTimeout(this.dueFrame);
    const spacing = isMoving.value ? MOVING_FRAME_MS : FRAME_MS;
    this.dueFrame = setTimeout(() => this.frame(), Math.max(0, this.lastFrame + spacing - Date.now()));
  }

  private frame(): void {
    this.dueFrame = 0;
    this.lastFrame = Date.now();
    batch(() => {
      if (this.unseen.length > 0) {
        recent.value = [...this.unseen, ...recent.value].slice(0, RECENT_MAX);
        this.unseen = [];
      }
      if (this.dirty.has("nodes")) structure.value += 1;
      if (this.dirty.has("links")) linkage.value += 1;
      version.value += 1;
    });
    this.dirty.clear();
  }
}

const delay = (ms: number) => new Promise((resolve) => setTimeout(resolve, ms));

export function startLive(): void {
  new Live().start();
}
