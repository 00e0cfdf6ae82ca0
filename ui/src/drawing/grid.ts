// Every node one cell, in a card for each group: the whole fleet on one screen, at 20,000 nodes too.

import type { FleetNode } from "../data/fleet.ts";
import { type Kind, RANK } from "../data/kinds.ts";
import { count } from "../data/words.ts";
import type { Frame } from "./canvas.ts";
import type { Group } from "./scene.ts";
import { cross, LEAVER_ALPHA, OPEN_SHAPES, outline } from "./shapes.ts";

export interface GridLayout {
  size: number;
  cards: { group: Group; nodes: FleetNode[]; x: number; y: number; columns: number }[];
  cells: Map<FleetNode, [number, number]>;
}

const TOP = 56;
const BOTTOM = 52;
const SIDE = 16;
const GAP = 18;
const HEAD = 20;
const CARD_MIN = 126;
const SIZE_MAX = 26;
const SIZE_MIN = 2.5;
const STEP = 0.25;
/** Cells below this size are plain squares unless they need attention. */
const SMALL = 8;

/** The node, or who was it until lately, in whose cell a point lies. */
export function nodeAt({ size, cards }: GridLayout, x: number, y: number): FleetNode | null {
  for (const card of cards) {
    const column = Math.floor((x - card.x) / size);
    const row = Math.floor((y - card.y - HEAD) / size);
    if (column < 0 || column >= card.columns || row < 0) continue;
    const node = card.nodes[row * card.columns + column];
    if (node) return node;
  }
  return null;
}

/** Cards of one width fill the shortest column, in the order of their names; the largest cell that fits wins. */
export function layOutGrid(groups: Group[], width: number, height: number): GridLayout {
  const cellsOf = new Map(groups.map((group) => [group, inCells(group)]));
  const arrange = (columns: number, size: number) => {
    const cardWidth = (width - 2 * SIDE - (columns - 1) * GAP) / columns;
    const perRow = Math.max(1, Math.floor(cardWidth / size));
    const heights = new Array<number>(columns).fill(TOP);
    const cards = groups.map((group) => {
      const column = heights.indexOf(Math.min(...heights));
      const y = heights[column] as number;
      const nodes = cellsOf.get(group) ?? [];
      heights[column] = y + HEAD + Math.ceil(nodes.length / perRow) * size + 14;
      return { group, nodes, x: SIDE + column * (cardWidth + GAP), y, columns: perRow };
    });
    return { size, cards, fits: Math.max(...heights) - 14 <= height - BOTTOM };
  };
  let best = arrange(1, SIZE_MIN);
  for (let columns = 1; columns <= 12; columns += 1) {
    if (columns > 1 && (width - 2 * SIDE - (columns - 1) * GAP) / columns < CARD_MIN) break;
    for (let size = best.fits ? best.size + STEP : SIZE_MIN; size <= SIZE_MAX; size += STEP) {
      const arranged = arrange(columns, size);
      if (!arranged.fits) break;
      best = arranged;
    }
  }
  const cells = new Map<FleetNode, [number, number]>();
  for (const { nodes, x, y, columns } of best.cards) {
    nodes.forEach((node, index) => {
      cells.set(node, [
        x + ((index % columns) + 0.5) * best.size,
        y + HEAD + (Math.floor(index / columns) + 0.5) * best.size,
      ]);
    });
  }
  return { size: best.size, cards: best.cards, cells };
}

/** Who left keeps the cell for a while, so that the others stay in theirs. */
function inCells({ nodes, leavers }: Group): FleetNode[] {
  if (leavers.length === 0) return nodes;
  return [...nodes, ...leavers].sort((one, other) => (one.name < other.name ? -1 : 1));
}

/** Cells and the heads of cards; what is pointed at or selected comes over them. */
export function paintCells(frame: Frame, { size, cards, cells }: GridLayout): void {
  const { context, palette, scene, matches } = frame;
  const radius = Math.max(1.1, size * 0.36);
  const batches = new Map<string, { kind: Kind; isDim: boolean; spots: [number, number][] }>();
  for (const node of scene.nodes) {
    const spot = cells.get(node);
    if (!spot) continue;
    const isDim = !matches(node);
    const key = `${node.kind}${isDim}`;
    const known = batches.get(key);
    if (known) known.spots.push(spot);
    else batches.set(key, { kind: node.kind, isDim, spots: [spot] });
  }
  const order = [...batches.values()].sort(
    (one, other) => Number(other.isDim) - Number(one.isDim) || RANK[other.kind] - RANK[one.kind],
  );
  for (const { kind, isDim, spots } of order) {
    const isSmall = size < SMALL;
    const isPlain = isSmall && (kind === "online" || kind === "left" || kind === "connecting" || kind === "offline");
    context.globalAlpha = isDim ? 0.16 : kind === "online" && isSmall ? 0.8 : 1;
    context.beginPath();
    for (const [x, y] of spots) {
      if (isPlain) context.rect(x - radius, y - radius, 2 * radius, 2 * radius);
      else outline(context, kind, x, y, isSmall ? radius * 1.3 : radius);
    }
    if (OPEN_SHAPES.has(kind) && !isSmall) {
      context.strokeStyle = palette.kinds[kind];
      context.lineWidth = Math.max(1, size * 0.12);
      context.setLineDash(kind === "connecting" ? [2.4, 1.6] : []);
      context.stroke();
      context.setLineDash([]);
    } else {
      context.fillStyle = palette.kinds[kind];
      context.fill();
    }
    if (kind === "lost" && size > 9) {
      context.strokeStyle = palette.canvas;
      context.lineWidth = Math.max(1, size * 0.09);
      context.beginPath();
      for (const [x, y] of spots) cross(context, x, y, radius);
      context.stroke();
    }
  }
  context.globalAlpha = LEAVER_ALPHA;
  context.strokeStyle = palette.kinds.left;
  context.lineWidth = 1;
  context.beginPath();
  for (const leaver of scene.groups.flatMap(({ leavers }) => leavers)) {
    const spot = cells.get(leaver);
    if (spot) outline(context, "left", ...spot, radius);
  }
  context.stroke();
  context.globalAlpha = 1;
  for (const { group, x, y } of cards) paintHead(frame, group, x, y);
}

export function paintMarks({ context, palette, focus, near }: Frame, { size, cells }: GridLayout): void {
  context.strokeStyle = palette.accent;
  context.lineWidth = 1.2;
  for (const node of near ?? []) {
    const spot = cells.get(node);
    if (spot && node !== focus)
      context.strokeRect(spot[0] - size / 2 + 0.5, spot[1] - size / 2 + 0.5, size - 1, size - 1);
  }
  const spot = focus ? cells.get(focus) : undefined;
  if (spot) {
    context.lineWidth = 2;
    context.strokeRect(spot[0] - size / 2 - 0.5, spot[1] - size / 2 - 0.5, size + 1, size + 1);
  }
}

function paintHead({ context, palette }: Frame, group: Group, x: number, y: number): void {
  context.textBaseline = "alphabetic";
  context.textAlign = "left";
  context.font = `600 12px ${palette.font}`;
  context.fillStyle = palette.text;
  context.fillText(group.key, x, y + 12);
  let left = x + context.measureText(group.key).width + 6;
  context.font = `400 11px ${palette.font}`;
  const figure = (text: string, colour: string) => {
    context.fillStyle = colour;
    context.fillText(text, left, y + 12);
    left += context.measureText(text).width + 8;
  };
  figure(count(group.counts.total), palette.muted);
  for (const kind of ["lost", "disconnected", "degraded"] as const) {
    if (group.counts[kind] === 0) continue;
    context.beginPath();
    outline(context, kind, left + 4, y + 8, 3.8);
    context.fillStyle = palette.kinds[kind];
    context.fill();
    left += 12;
    figure(count(group.counts[kind]), palette.text);
  }
}
