// Names: of groups always, of nodes where there is room, those first that matter most.

import type { FleetNode } from "../data/fleet.ts";
import { count } from "../data/words.ts";
import type { Frame } from "./canvas.ts";
import { type Batch, isTroubled } from "./graph.ts";
import { DISC, type Group } from "./scene.ts";
import { outline } from "./shapes.ts";

type Box = [left: number, top: number, right: number, bottom: number];

const OBSTACLES_MAX = 420;
const NAMES_FROM_ZOOM = 1.25;
const TROUBLED_NAMES_MAX = 10;
const NEIGHBOUR_NAMES_MAX = 28;

class Room {
  private readonly taken: Box[];

  /** A name that would be cut off at an edge stands elsewhere, or nowhere. */
  constructor(width: number, height: number) {
    const far = 1e9;
    this.taken = [
      [-far, -far, 0, far],
      [width, -far, far, far],
      [-far, -far, far, 0],
      [-far, height, far, far],
    ];
  }

  block(box: Box): void {
    this.taken.push(box);
  }

  /** Takes the place if nothing is there. */
  take([left, top, right, bottom]: Box): boolean {
    for (const box of this.taken) if (left < box[2] && right > box[0] && top < box[3] && bottom > box[1]) return false;
    this.taken.push([left, top, right, bottom]);
    return true;
  }
}

export function paintLabels(frame: Frame, batches: Batch[]): void {
  const { context, camera, scene, ratio, focus, near } = frame;
  context.setTransform(ratio, 0, 0, ratio, 0, 0);
  context.lineJoin = "round";
  context.textBaseline = "alphabetic";
  const room = new Room(frame.width, frame.height);
  // Names of groups never give way to those of nodes.
  for (const group of scene.groups) {
    if (!group.isPlaced) continue;
    if (group.isOpen) nameOpen(frame, group, room);
    else nameClosed(frame, group, room);
  }
  if (camera.k > 0.5 && batches.reduce((sum, { nodes }) => sum + nodes.length, 0) < OBSTACLES_MAX) {
    for (const { nodes, xs, ys } of batches) {
      nodes.forEach((node, index) => {
        const r = scene.radiusOf(node) * camera.k * 0.8;
        const x = (xs[index] as number) * camera.k + camera.x;
        const y = (ys[index] as number) * camera.k + camera.y;
        room.block([x - r, y - r, x + r, y + r]);
      });
    }
  }
  const done = new Set<FleetNode>();
  const name = (node: FleetNode, isStrong: boolean) => {
    if (done.has(node) || !scene.isOpen(node)) return;
    done.add(node);
    nameNode(frame, node, room, isStrong);
  };
  if (focus) {
    name(focus, true);
    if (near && near.size < NEIGHBOUR_NAMES_MAX) for (const node of near) name(node, false);
  }
  const bright = batches.filter(({ isDim }) => !isDim).toReversed();
  const troubled = bright.filter(({ kind }) => kind === "lost" || kind === "degraded" || kind === "disconnected");
  if (troubled.reduce((sum, { nodes }) => sum + nodes.length, 0) <= TROUBLED_NAMES_MAX) {
    for (const { nodes } of troubled) for (const node of nodes) name(node, false);
  }
  if (camera.k > NAMES_FROM_ZOOM) for (const { nodes } of bright) for (const node of nodes) name(node, false);
}

function write({ context, palette }: Frame, text: string, x: number, y: number, colour: string): void {
  context.lineWidth = 3.5;
  context.strokeStyle = palette.canvas;
  context.strokeText(text, x, y);
  context.fillStyle = colour;
  context.fillText(text, x, y);
}

function nameOpen(frame: Frame, group: Group, room: Room): void {
  const { context, camera, palette } = frame;
  const x = group.x * camera.k + camera.x;
  const y = (group.y - group.radius) * camera.k + camera.y - 7;
  if (x < -120 || x > frame.width + 120 || y < -20 || y > frame.height + 20) return;
  const bold = `600 12px ${palette.font}`;
  const plain = `400 11px ${palette.font}`;
  const total = count(group.counts.total);
  const marks = (["lost", "disconnected", "degraded"] as const).filter((kind) => group.counts[kind] > 0);
  context.font = bold;
  const nameWidth = context.measureText(group.key).width;
  context.font = plain;
  const totalWidth = context.measureText(total).width;
  const width =
    nameWidth +
    6 +
    totalWidth +
    marks.reduce((sum, kind) => sum + 20 + context.measureText(String(group.counts[kind])).width, 0);
  let left = x - width / 2;
  if (!room.take([left - 2, y - 12, left + width + 4, y + 4])) return;
  context.textAlign = "left";
  context.font = bold;
  write(frame, group.key, left, y, palette.text);
  left += nameWidth + 6;
  context.font = plain;
  write(frame, total, left, y, palette.muted);
  left += totalWidth + 8;
  for (const kind of marks) {
    context.beginPath();
    outline(context, kind, left + 4, y - 4, 3.8);
    context.fillStyle = palette.kinds[kind];
    context.fill();
    left += 12;
    write(frame, String(group.counts[kind]), left, y, palette.text);
    left += context.measureText(String(group.counts[kind])).width + 8;
  }
}

function nameClosed(frame: Frame, group: Group, room: Room): void {
  const { context, camera, palette } = frame;
  const x = group.x * camera.k + camera.x;
  const y = group.y * camera.k + camera.y;
  const radius = group.radius * DISC * camera.k;
  if (x < -100 || x > frame.width + 100 || y < -100 || y > frame.height + 100) return;
  context.textAlign = "center";
  if (radius > 13) {
    context.font = `650 ${Math.max(10, Math.min(17, radius * 0.42))}px ${palette.font}`;
    context.textBaseline = "middle";
    context.fillStyle = palette.text;
    context.fillText(count(group.counts.total), x, y + 0.5);
    context.textBaseline = "alphabetic";
  }
  context.font = `500 11px ${palette.font}`;
  const width = context.measureText(group.key).width;
  const below = y + radius + (isTroubled(group) ? 16 : 13);
  if (radius <= 7 || !room.take([x - width / 2, below - 10, x + width / 2, below + 3])) return;
  write(frame, group.key, x, below, group.counts.lost > 0 ? palette.text : palette.muted);
  if (isTroubled(group)) {
    context.beginPath();
    outline(context, "lost", x + width / 2 + 10, below - 4, 3.8);
    context.fillStyle = palette.kinds.lost;
    context.fill();
    context.textAlign = "left";
    write(frame, count(group.counts.lost), x + width / 2 + 17, below, palette.text);
  }
}

function nameNode(frame: Frame, node: FleetNode, room: Room, isStrong: boolean): void {
  const { context, camera, palette, scene } = frame;
  const place = scene.placeOf(node);
  if (!place) return;
  const x = place[0] * camera.k + camera.x;
  const y = place[1] * camera.k + camera.y;
  if (x < -60 || x > frame.width + 60 || y < -20 || y > frame.height + 20) return;
  context.font = `${isStrong ? 600 : 500} 11px ${palette.font}`;
  context.textAlign = "center";
  const width = context.measureText(node.name).width;
  const radius = scene.radiusOf(node) * camera.k;
  const candidates: [number, number][] = [
    [x, y + radius + 12],
    [x + radius + 5 + width / 2, y + 4],
    [x - radius - 5 - width / 2, y + 4],
    [x, y - radius - 5],
  ];
  const free = candidates.find(([cx, cy]) => room.take([cx - width / 2 - 1, cy - 9, cx + width / 2 + 1, cy + 2]));
  const at = free ?? (isStrong ? candidates[0] : undefined);
  if (at) write(frame, node.name, at[0], at[1], isStrong ? palette.text : palette.muted);
}
