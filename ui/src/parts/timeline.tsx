// How much happened when, and the playhead: the moment that is looked at.

import { signal } from "@preact/signals";
import { useEffect, useRef, useState } from "preact/hooks";
import { ask, type Timeline as Counted, type LogEvent } from "../data/api.ts";
import { fleet, now, revision } from "../data/live.ts";
import { past } from "../data/past.ts";
import { lookAt, RANGES, type Range, range, set, wantedAt } from "../data/route.ts";
import { ago, clock, count, day, fullTime, moment, shortClock } from "../data/words.ts";
import { Icon } from "./glyph.tsx";
import { theme } from "./theme.ts";

export const timeline = signal<Counted | null>(null);
const BINS = 120;
const AGAIN_MS = 15_000;
const SEEK_MS = 120;
const STEP_MS = 10_000;
const PAGE_MS = 300_000;
const PLAY_STEPS = 240;
const PLAY_MS = 500;
const FOOT = 18;
const LOOK_BACK = 500;

/** Columns of the timeline as they are stacked, from the bottom: what matters most first. */
const STACK: [string[], string][] = [
  [["node_down"], "--st-lost"],
  [["node_changed"], "--st-degraded"],
  [["link_up", "link_down", "topology_update"], "--st-left"],
  [["node_up"], "--st-online"],
];

function rangeOf(): [number, number] {
  const end = now.value;
  return [end - RANGES[range.value], end];
}

export function Timeline() {
  const [isPlaying, setPlaying] = useState(false);
  useEffect(() => {
    const read = async () => {
      if (document.hidden) return;
      const [from, to] = rangeOf();
      const query = `from=${encodeURIComponent(new Date(from).toISOString())}&to=${encodeURIComponent(new Date(to).toISOString())}&bins=${BINS}`;
      const answer = await ask<Counted>(`/api/timeline?${query}`).catch(() => null);
      if (answer) timeline.value = answer.body;
    };
    void read();
    const timer = setInterval(() => void read(), AGAIN_MS);
    return () => clearInterval(timer);
  }, [range.value]);
  useEffect(() => {
    if (!isPlaying) return;
    const timer = setInterval(() => {
      const next = (wantedAt.value ?? rangeOf()[0]) + RANGES[range.value] / PLAY_STEPS;
      if (next >= now.value) {
        setPlaying(false);
        lookAt(null, { step: false });
      } else lookAt(next, { step: false });
    }, PLAY_MS);
    return () => clearInterval(timer);
  }, [isPlaying, range.value]);
  const at = wantedAt.value;
  const step = async (direction: -1 | 1) => {
    const found = await neighbour(direction).catch(() => null);
    if (found !== null) lookAt(found);
    else if (direction === 1) lookAt(null);
  };
  return (
    <section class="timeline" aria-label="Time">
      <div class="controls">
        <button
          type="button"
          class="square"
          aria-label="Previous change of a node"
          title="Previous change of a node"
          onClick={() => void step(-1)}
        >
          <Icon name="back" />
        </button>
        <button
          type="button"
          class="square"
          aria-label={isPlaying ? "Pause" : "Play the range"}
          title={isPlaying ? "Pause" : "Play the range"}
          onClick={() => {
            if (!isPlaying && at === null) lookAt(rangeOf()[0]);
            setPlaying(!isPlaying);
          }}
        >
          <Icon name={isPlaying ? "pause" : "play"} />
        </button>
        <button
          type="button"
          class="square"
          aria-label="Next change of a node"
          title="Next change of a node"
          disabled={at === null}
          onClick={() => void step(1)}
        >
          <Icon name="forward" />
        </button>
        <select
          aria-label="Range"
          value={range.value}
          onChange={(event) => set({ range: event.currentTarget.value === "1h" ? null : event.currentTarget.value })}
        >
          {(Object.keys(RANGES) as Range[]).map((key) => (
            <option key={key} value={key}>
              {key.replace(/(\d+)(\w)/, "$1 $2")}
            </option>
          ))}
        </select>
      </div>
      <Track />
      <p class="moment">
        <b>{at === null ? clock(now.value) : clock(at)}</b>
        <small>{at === null ? "live" : ago(at, now.value)}</small>
      </p>
    </section>
  );
}

/** When the next change of a node before or after the moment that is looked at happened; null where there is none. */
async function neighbour(direction: -1 | 1): Promise<number | null> {
  const present = fleet.value;
  if (!present) return null;
  const log = present.cursor.slice(0, present.cursor.lastIndexOf(":"));
  const here = past.value?.fleet.revision ?? revision.value;
  const from = direction === 1 ? here : Math.max(0, here - LOOK_BACK);
  const until = direction === 1 ? "" : `&before=${log}:${past.value === null ? here + 1 : here}`;
  const { body } = await ask<{ events: LogEvent[] }>(
    `/api/events?match=cluster.node.*&since=${log}:${from}${until}&limit=${direction === 1 ? 1 : LOOK_BACK}`,
  );
  const shownAt = past.value?.at ?? Number.POSITIVE_INFINITY;
  const times = body.events.map((event) => Date.parse(event.time));
  return (direction === 1 ? times[0] : times.findLast((time) => time < shownAt)) ?? null;
}

function Track() {
  const canvas = useRef<HTMLCanvasElement>(null);
  const [hovered, setHovered] = useState<number | null>(null);
  const [width, setWidth] = useState(0);
  const seeking = useRef(0);
  theme.value; // painted anew when it changes
  const [from, to] = rangeOf();
  const at = wantedAt.value;
  useEffect(() => {
    const box = canvas.current?.parentElement as HTMLElement;
    const resizing = new ResizeObserver(() => setWidth(box.clientWidth));
    resizing.observe(box);
    return () => resizing.disconnect();
  }, []);
  useEffect(() => paint(canvas.current as HTMLCanvasElement, from, to, at));
  const timeAt = (clientX: number) => {
    const box = (canvas.current as HTMLCanvasElement).getBoundingClientRect();
    return from + Math.max(0, Math.min(1, (clientX - box.left) / box.width)) * (to - from);
  };
  const seek = (clientX: number, isLast: boolean) => {
    if (!isLast && Date.now() - seeking.current < SEEK_MS) return;
    const isFirst = seeking.current === 0;
    seeking.current = isLast ? 0 : Date.now();
    const time = timeAt(clientX);
    lookAt(to - time < (to - from) * 0.004 ? null : Math.round(time / 1000) * 1000, { step: isFirst && at === null });
  };
  const move = (by: number) => {
    const time = (at ?? to) + by;
    lookAt(time >= to ? null : Math.max(from, Math.round(time / 1000) * 1000));
  };
  const oldest = timeline.value?.oldest ? Date.parse(timeline.value.oldest) : null;
  return (
    <div
      class="track"
      role="slider"
      tabIndex={0}
      aria-label="Point in time"
      aria-valuemin={Math.round(from / 1000)}
      aria-valuemax={Math.round(to / 1000)}
      aria-valuenow={Math.round(Math.max(from, at ?? to) / 1000)}
      aria-valuetext={at === null ? "live" : fullTime(at)}
      data-width={width}
      onPointerDown={(event) => {
        event.currentTarget.setPointerCapture(event.pointerId);
        seek(event.clientX, false);
      }}
      onPointerMove={(event) => {
        setHovered(timeAt(event.clientX));
        if (event.buttons & 1) seek(event.clientX, false);
      }}
      onPointerUp={(event) => seek(event.clientX, true)}
      onPointerLeave={() => setHovered(null)}
      onKeyDown={(event) => {
        if (event.key === "ArrowLeft") move(-STEP_MS);
        else if (event.key === "ArrowRight") move(STEP_MS);
        else if (event.key === "PageUp") move(-PAGE_MS);
        else if (event.key === "PageDown") move(PAGE_MS);
        else if (event.key === "Home") lookAt(Math.max(from, oldest ?? from));
        else if (event.key === "End") lookAt(null);
        else return;
        event.preventDefault();
      }}
    >
      <canvas ref={canvas} />
      {hovered === null ? null : (
        <span class="hint" style={{ left: `${Math.max(5, Math.min(95, ((hovered - from) / (to - from)) * 100))}%` }}>
          {moment(hovered, to)}
          {eventsAt(hovered)}
        </span>
      )}
    </div>
  );
}

function eventsAt(time: number): string {
  const counted = timeline.value;
  if (!counted) return "";
  const index = Math.floor((time - Date.parse(counted.from)) / (counted.bin_s * 1000));
  const events = counted.events[index];
  return events === undefined ? "" : ` · ${count(events)} ${events === 1 ? "event" : "events"}`;
}

function paint(canvas: HTMLCanvasElement, from: number, to: number, at: number | null): void {
  const style = getComputedStyle(document.documentElement);
  const colour = (name: string) => style.getPropertyValue(name).trim();
  const ratio = Math.min(2, devicePixelRatio || 1);
  const { clientWidth: width, clientHeight: height } = canvas.parentElement as HTMLElement;
  if (canvas.width !== Math.round(width * ratio)) canvas.width = Math.round(width * ratio);
  if (canvas.height !== Math.round(height * ratio)) canvas.height = Math.round(height * ratio);
  const context = canvas.getContext("2d") as CanvasRenderingContext2D;
  context.setTransform(ratio, 0, 0, ratio, 0, 0);
  context.clearRect(0, 0, width, height);
  const base = height - FOOT;
  const xOf = (time: number) => ((time - from) / (to - from)) * width;
  const counted = timeline.value;
  const oldest = counted?.oldest ? Date.parse(counted.oldest) : null;
  if (oldest !== null && oldest > from) {
    context.fillStyle = colour("--grid");
    context.fillRect(0, base - 3, Math.min(width, xOf(oldest)), 3);
  }
  context.fillStyle = colour("--border-strong");
  context.fillRect(0, base, width, 1);
  if (counted) {
    const start = Date.parse(counted.from);
    const most = Math.max(4, ...counted.events);
    const wide = xOf(from + counted.bin_s * 1000);
    counted.at.forEach((_, index) => {
      const x = xOf(start + index * counted.bin_s * 1000);
      let y = base;
      const total = counted.events[index] ?? 0;
      // By the root: a single loss is still seen beside a thousand registrations.
      const tall = Math.sqrt(total / most) * (base - 10);
      for (const [columns, name] of STACK) {
        const events = columns.reduce((sum, column) => sum + (counted.counts[column]?.[index] ?? 0), 0);
        if (events === 0) continue;
        const part = Math.min(y - 2, Math.max(2.5, (tall * events) / total));
        context.fillStyle = colour(name);
        context.fillRect(x + 0.5, y - part, Math.max(1.5, wide - 1), part);
        y -= part;
      }
    });
  }
  context.font = `10px ${colour("--font")}`;
  context.fillStyle = colour("--muted");
  context.textAlign = "center";
  const tick = (to - from) / 6;
  for (let i = 1; i < 6; i += 1) {
    const time = to - i * tick;
    context.fillText(to - from > 86_400_000 ? day(time) : shortClock(time), xOf(time), height - 4);
    context.fillRect(xOf(time), base, 1, 3);
  }
  const head = at === null ? width - 1.5 : xOf(at);
  context.fillStyle = colour(at === null ? "--accent" : "--past");
  if (at !== null) {
    context.globalAlpha = 0.1;
    context.fillRect(head, 0, width - head, base);
    context.globalAlpha = 1;
  }
  context.fillRect(head - 1, 2, 2, base - 2);
  context.beginPath();
  context.arc(head, base, 4.5, 0, 2 * Math.PI);
  context.fill();
}
