import { useEffect, useRef } from "preact/hooks";
import uPlot from "uplot";
import "uplot/dist/uPlot.min.css";
import { shortClock, UNKNOWN } from "../data/words.ts";
import { theme } from "./theme.ts";

export interface Line {
  label: string;
  /** A variable of the style sheet. */
  colour: string;
  values: (number | null)[];
  isStepped?: boolean;
}

interface Props {
  title: string;
  /** Seconds. */
  x: number[];
  lines: Line[];
  format: (value: number | null) => string;
  /** The least upper end of the scale. */
  ceiling: number;
  height?: number;
  /** A moment to mark, in ms. */
  mark?: number | null;
  syncKey?: string;
  /** Whether the scale counts in powers of two. */
  isBinary?: boolean;
}

const BINARY = Array.from({ length: 24 }, (_, power) => 2 ** power);

/** Lines over time; where a value is null the line has a gap. The figure beside the title is the newest. */
export function Chart({
  title,
  x,
  lines,
  format,
  ceiling,
  height = 116,
  mark = null,
  syncKey = "time",
  isBinary = false,
}: Props) {
  const box = useRef<HTMLDivElement>(null);
  const newest = lines[0]?.values.findLast((value) => value !== null) ?? null;
  useEffect(() => {
    const host = box.current as HTMLDivElement;
    const plot = new uPlot(
      optionsOf(host.clientWidth, { height, lines, ceiling, mark, syncKey, isBinary, format }),
      [x, ...lines.map(({ values }) => values)] as uPlot.AlignedData,
      host,
    );
    const resizing = new ResizeObserver(() => plot.setSize({ width: host.clientWidth, height }));
    resizing.observe(host);
    return () => {
      resizing.disconnect();
      plot.destroy();
    };
  }, [x, lines, theme.value, mark, height]);
  const known = lines.flatMap(({ values }) => values).filter((value) => value !== null) as number[];
  const gaps = gapsOf(lines[0]?.values ?? []);
  const range =
    known.length === 0
      ? "nothing known"
      : `${format(Math.min(...known))} to ${format(Math.max(...known))}, newest ${format(newest)}`;
  return (
    <figure class="chart">
      <figcaption>
        <span>{title}</span>
        {lines.length > 1 ? (
          <span class="legend">
            {lines.map(({ label, colour }) => (
              <span key={label}>
                <i style={{ background: `var(${colour})` }} />
                {label}
              </span>
            ))}
          </span>
        ) : (
          <b>{newest === null ? UNKNOWN : format(newest)}</b>
        )}
      </figcaption>
      <div
        ref={box}
        role="img"
        aria-label={`${title}: ${range}, ${gaps === 0 ? "no gap" : gaps === 1 ? "one gap" : `${gaps} gaps`}`}
      />
    </figure>
  );
}

/** Gaps between values, not before the first or after the last. */
function gapsOf(values: (number | null)[]): number {
  const first = values.findIndex((value) => value !== null);
  const last = values.findLastIndex((value) => value !== null);
  let gaps = 0;
  for (let i = first + 1; i < last; i += 1) if (values[i] === null && values[i - 1] !== null) gaps += 1;
  return gaps;
}

function optionsOf(
  width: number,
  { height, lines, ceiling, mark, syncKey, isBinary, format }: Required<Omit<Props, "title" | "x">>,
): uPlot.Options {
  const style = getComputedStyle(document.documentElement);
  const value = (name: string) => style.getPropertyValue(name).trim();
  const axis = {
    stroke: value("--muted"),
    font: `10px ${value("--font")}`,
    grid: { stroke: value("--grid"), width: 1 },
    ticks: { show: false },
  };
  return {
    width,
    height,
    padding: [6, 20, 0, 0],
    legend: { show: false },
    cursor: { sync: { key: syncKey }, y: false, points: { size: 6 }, drag: { x: false, y: false } },
    scales: { y: { range: (_, __, high) => [0, Math.max(ceiling, (high ?? 0) * 1.12)] } },
    series: [
      {},
      ...lines.map(
        ({ label, colour, isStepped }): uPlot.Series => ({
          label,
          stroke: value(colour),
          fill: `${value(colour)}1f`,
          width: 1.4,
          spanGaps: false,
          points: { show: false },
          ...(isStepped ? { paths: uPlot.paths.stepped?.({ align: 1 }) } : {}),
        }),
      ),
    ],
    axes: [
      { ...axis, size: 22, space: 70, values: (_, splits) => splits.map((seconds) => shortClock(seconds * 1000)) },
      {
        ...axis,
        size: 58,
        space: 26,
        ...(isBinary ? { incrs: BINARY } : {}),
        values: (_, splits) => splits.map((split) => format(split).replace(/\.0(?= |$)/, "")),
      },
    ],
    hooks: {
      draw: [
        (plot) => {
          if (mark === null) return;
          const at = plot.valToPos(mark / 1000, "x", true);
          if (at < plot.bbox.left || at > plot.bbox.left + plot.bbox.width + 1) return;
          plot.ctx.save();
          plot.ctx.strokeStyle = value("--past");
          plot.ctx.lineWidth = 1.5 * devicePixelRatio;
          plot.ctx.beginPath();
          plot.ctx.moveTo(at, plot.bbox.top);
          plot.ctx.lineTo(at, plot.bbox.top + plot.bbox.height);
          plot.ctx.stroke();
          plot.ctx.restore();
        },
      ],
    },
  };
}
