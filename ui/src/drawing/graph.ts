// Paints groups, links and nodes where the scene has placed them.

import type { FleetNode } from "../data/fleet.ts";
import { KINDS, type Kind, RANK } from "../data/kinds.ts";
import type { Frame } from "./canvas.ts";
import { paintLabels } from "./labels.ts";
import { DISC, type DrawnLink, type Group } from "./scene.ts";
import { cross, LEAVER_ALPHA, OPEN_SHAPES, outline } from "./shapes.ts";

/** Nodes that somebody should look at are never smaller than this on the screen. */
const RADIUS_MIN: Partial<Record<Kind, number>> = { lost: 4.2, disconnected: 3.8, degraded: 4.2 };
const TROUBLED_PART = 0.05;
const FULL = 2 * Math.PI;

/** Nodes that are drawn alike, with their places. */
export interface Batch {
  kind: Kind;
  isDim: boolean;
  nodes: FleetNode[];
  xs: number[];
  ys: number[];
}

export function isTroubled(group: Group): boolean {
  return group.counts.lost > TROUBLED_PART * group.counts.total;
}

export function paintGraph(frame: Frame): void {
  const { context, camera, ratio } = frame;
  context.setTransform(ratio * camera.k, 0, 0, ratio * camera.k, ratio * camera.x, ratio * camera.y);
  paintHulls(frame);
  paintGroupLinks(frame);
  paintLinks(frame);
  paintLeavers(frame);
  const batches = batch(frame);
  for (const one of batches) paintBatch(frame, one);
  paintLetters(frame, batches);
  for (const group of frame.scene.groups) if (!group.isOpen && group.isPlaced) paintDisc(frame, group);
  paintFocus(frame);
  paintLabels(frame, batches);
}

function paintHulls({ context, palette, scene, camera }: Frame): void {
  const px = 1 / camera.k;
  for (const group of scene.groups) {
    if (!group.isOpen || !group.isPlaced) continue;
    context.beginPath();
    context.arc(group.x, group.y, group.radius, 0, FULL);
    context.fillStyle = palette.hull;
    context.fill();
    const troubled = isTroubled(group);
    context.strokeStyle = troubled ? palette.kinds.lost : palette.hullLine;
    context.lineWidth = (troubled ? 1.5 : 1) * px;
    context.setLineDash(troubled ? [5 * px, 4 * px] : []);
    context.stroke();
    context.setLineDash([]);
  }
}

/** Between groups of which one at least is closed. */
function paintGroupLinks({ context, palette, scene, camera, hovered }: Frame): void {
  const px = 1 / camera.k;
  for (const { source, target, count } of scene.groupLinks) {
    if ((source.isOpen && target.isOpen) || !source.isPlaced || !target.isPlaced) continue;
    const isOn = hovered?.group === source || hovered?.group === target;
    context.strokeStyle = isOn ? palette.accent : palette.linkStrong;
    context.globalAlpha = isOn ? 0.95 : hovered?.group ? 0.12 : 0.34;
    context.lineWidth = Math.min(5, 0.6 + Math.log2(1 + count) * 0.8) * px;
    context.beginPath();
    context.moveTo(source.x, source.y);
    context.lineTo(target.x, target.y);
    context.stroke();
  }
  context.globalAlpha = 1;
}

function paintLinks(frame: Frame): void {
  const { context, palette, scene, camera, focus, near, isFiltered } = frame;
  const px = 1 / camera.k;
  const view = viewOf(frame);
  const registry: number[] = [];
  const between: number[] = [];
  const across: number[] = [];
  const bad: number[] = [];
  const lit: number[] = [];
  const bucketOf = ({ link, source, target }: DrawnLink) => {
    if (focus && (source === focus || target === focus)) return lit;
    if (link.status === "degraded") return bad;
    if (link.type === "registry") return registry;
    return scene.groupAt(source) === scene.groupAt(target) ? between : across;
  };
  for (const drawn of scene.openLinks) {
    const from = scene.placeOf(drawn.source);
    const to = scene.placeOf(drawn.target);
    if (!from || !to) continue;
    if (Math.max(from[0], to[0]) < view.left || Math.min(from[0], to[0]) > view.right) continue;
    if (Math.max(from[1], to[1]) < view.top || Math.min(from[1], to[1]) > view.bottom) continue;
    bucketOf(drawn).push(from[0], from[1], to[0], to[1]);
  }
  const stroke = (ends: number[], colour: string, width: number, alpha: number, dash: number[] = []) => {
    if (ends.length === 0) return;
    context.strokeStyle = colour;
    context.lineWidth = width * px;
    context.globalAlpha = alpha;
    context.setLineDash(dash.map((length) => length * px));
    context.beginPath();
    for (let i = 0; i < ends.length; i += 4) {
      context.moveTo(ends[i] as number, ends[i + 1] as number);
      context.lineTo(ends[i + 2] as number, ends[i + 3] as number);
    }
    context.stroke();
  };
  const dim = near ? 0.35 : isFiltered ? 0.3 : 1;
  stroke(registry, palette.link, 0.8, 0.5 * dim);
  stroke(between, palette.linkStrong, 1.1, 0.8 * dim);
  // The more there are the fainter: each is seen when its node is pointed at.
  stroke(across, palette.linkStrong, 1, Math.max(0.14, Math.min(0.7, 12 / Math.sqrt(across.length))) * 0.5 * dim);
  stroke(bad, palette.kinds.degraded, 1.3, 0.9 * dim, [2.5, 3]);
  stroke(lit, palette.accent, 1.8, 0.95);
  context.setLineDash([]);
  context.globalAlpha = 1;
}

function paintLeavers({ context, palette, scene, camera }: Frame): void {
  context.globalAlpha = LEAVER_ALPHA;
  context.strokeStyle = palette.kinds.left;
  context.lineWidth = 1 / camera.k;
  context.beginPath();
  for (const leaver of scene.openLeavers) {
    const place = scene.placeOf(leaver);
    if (place) outline(context, "left", ...place, scene.radiusOf(leaver));
  }
  context.stroke();
  context.globalAlpha = 1;
}

function viewOf({ camera, width, height }: Frame) {
  return {
    left: -camera.x / camera.k - 30,
    right: (width - camera.x) / camera.k + 30,
    top: -camera.y / camera.k - 30,
    bottom: (height - camera.y) / camera.k + 30,
  };
}

/** The nodes in view by how they look, what matters most last, so that it lies on top. */
function batch(frame: Frame): Batch[] {
  const { scene, near, matches } = frame;
  const view = viewOf(frame);
  const batches = new Map<string, Batch>();
  for (const node of scene.openNodes) {
    const place = scene.placeOf(node);
    if (!place) continue;
    const [x, y] = place;
    if (x < view.left || x > view.right || y < view.top || y > view.bottom) continue;
    const isDim = !matches(node) || (near !== null && !near.has(node));
    const key = `${node.kind}${isDim}`;
    let known = batches.get(key);
    if (!known) {
      known = { kind: node.kind, isDim, nodes: [], xs: [], ys: [] };
      batches.set(key, known);
    }
    known.nodes.push(node);
    known.xs.push(x);
    known.ys.push(y);
  }
  return [...batches.values()].sort(
    (one, other) => Number(other.isDim) - Number(one.isDim) || RANK[other.kind] - RANK[one.kind],
  );
}

function paintBatch({ context, palette, scene, camera }: Frame, { kind, isDim, nodes, xs, ys }: Batch): void {
  const px = 1 / camera.k;
  const least = (RADIUS_MIN[kind] ?? 1.7) * px;
  const radii = nodes.map((node) => Math.max(scene.radiusOf(node), least));
  context.globalAlpha = isDim ? 0.2 : 1;
  context.beginPath();
  for (let i = 0; i < nodes.length; i += 1)
    outline(context, kind, xs[i] as number, ys[i] as number, radii[i] as number);
  if (OPEN_SHAPES.has(kind)) {
    context.fillStyle = palette.canvas;
    context.fill();
    context.strokeStyle = palette.kinds[kind];
    context.lineWidth = kind === "left" ? Math.max(1.3 * px, 1) : Math.max(2 * px, 1.4);
    context.setLineDash(kind === "connecting" ? [2.4, 1.6] : []);
    context.stroke();
    context.setLineDash([]);
  } else {
    context.fillStyle = palette.kinds[kind];
    context.fill();
    context.strokeStyle = palette.canvas;
    context.lineWidth = Math.max(0.8, px);
    context.stroke();
  }
  if (kind === "lost" && camera.k > 0.5) {
    context.strokeStyle = palette.canvas;
    context.lineWidth = Math.max(1.3, 1.2 * px);
    context.beginPath();
    for (let i = 0; i < nodes.length; i += 1) cross(context, xs[i] as number, ys[i] as number, radii[i] as number);
    context.stroke();
  }
  context.globalAlpha = 1;
}

/** The role's first letter, once there is room for it. */
function paintLetters({ context, palette, scene, camera }: Frame, batches: Batch[]): void {
  if (camera.k < 1.05) return;
  context.font = `600 5.4px ${palette.font}`;
  context.textAlign = "center";
  context.textBaseline = "middle";
  context.fillStyle = palette.canvas;
  for (const { kind, isDim, nodes, xs, ys } of batches) {
    if (isDim || kind === "lost" || OPEN_SHAPES.has(kind)) continue;
    for (let i = 0; i < nodes.length; i += 1) {
      const node = nodes[i] as FleetNode;
      if (scene.radiusOf(node) * camera.k < 6.4) continue;
      context.fillText(
        (node.role[0] ?? "").toUpperCase(),
        xs[i] as number,
        (ys[i] as number) + (kind === "degraded" ? 1 : 0.4),
      );
    }
  }
}

function paintDisc({ context, palette, camera, hovered, isFiltered, matches }: Frame, group: Group): void {
  const px = 1 / camera.k;
  const radius = group.radius * DISC;
  const { counts } = group;
  context.globalAlpha = isFiltered && !group.nodes.some(matches) ? 0.25 : 1;
  context.beginPath();
  context.arc(group.x, group.y, radius, 0, FULL);
  context.fillStyle = palette.panel;
  context.fill();
  const width = Math.max(3.2 * px, radius * 0.17);
  context.lineWidth = width;
  let from = -Math.PI / 2;
  for (const { key } of KINDS) {
    if (counts[key] === 0) continue;
    // A small part of trouble must still be seen.
    const part = Math.max(counts[key] / Math.max(1, counts.total), key === "online" ? 0 : 0.025);
    const to = Math.min(from + part * FULL, 1.5 * Math.PI);
    context.beginPath();
    context.arc(group.x, group.y, radius - width / 2, from, to);
    context.strokeStyle = palette.kinds[key];
    context.stroke();
    from = to;
  }
  const ring = (by: number, colour: string, dash: number[]) => {
    context.beginPath();
    context.arc(group.x, group.y, radius + by * px, 0, FULL);
    context.strokeStyle = colour;
    context.lineWidth = 1.6 * px;
    context.setLineDash(dash.map((length) => length * px));
    context.stroke();
    context.setLineDash([]);
  };
  if (isTroubled(group)) ring(4, palette.kinds.lost, [5, 4]);
  if (hovered?.group === group) ring(2.5, palette.accent, []);
  context.globalAlpha = 1;
}

function paintFocus({ context, palette, scene, camera, focus }: Frame): void {
  const place = focus && scene.isOpen(focus) ? scene.placeOf(focus) : undefined;
  if (!focus || !place) return;
  context.beginPath();
  context.arc(place[0], place[1], scene.radiusOf(focus) + 4.5 / camera.k + 1.5, 0, FULL);
  context.strokeStyle = palette.accent;
  context.lineWidth = 2 / camera.k;
  context.stroke();
}
