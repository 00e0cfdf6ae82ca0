// One shape for each kind of status, so that colour is never the only thing that tells it.

import type { Kind } from "../data/kinds.ts";

/** Kinds whose shape is a line and not a surface. */
export const OPEN_SHAPES: ReadonlySet<Kind> = new Set<Kind>(["connecting", "left", "offline"]);

/** The ring of a node that was deregistered is fainter than that of one that only left. */
export const LEAVER_ALPHA = 0.5;

/** Adds the outline, centred, to the path. */
export function outline(context: CanvasRenderingContext2D, kind: Kind, x: number, y: number, radius: number): void {
  if (kind === "degraded") {
    const r = radius * 1.25;
    context.moveTo(x, y - r);
    context.lineTo(x + r * 0.98, y + r * 0.72);
    context.lineTo(x - r * 0.98, y + r * 0.72);
    context.closePath();
  } else if (kind === "lost" || kind === "offline") {
    const r = kind === "offline" ? radius * 0.85 : radius;
    context.rect(x - r, y - r, 2 * r, 2 * r);
  } else if (kind === "disconnected") {
    const r = radius * 1.25;
    context.moveTo(x, y - r);
    context.lineTo(x + r, y);
    context.lineTo(x, y + r);
    context.lineTo(x - r, y);
    context.closePath();
  } else {
    const r = kind === "online" ? radius : radius * 0.85;
    context.moveTo(x + r, y);
    context.arc(x, y, r, 0, 2 * Math.PI);
  }
}

/** Adds the cross of a lost node to the path. */
export function cross(context: CanvasRenderingContext2D, x: number, y: number, radius: number): void {
  const r = radius * 0.5;
  context.moveTo(x - r, y - r);
  context.lineTo(x + r, y + r);
  context.moveTo(x + r, y - r);
  context.lineTo(x - r, y + r);
}

export interface Palette {
  font: string;
  canvas: string;
  panel: string;
  text: string;
  muted: string;
  accent: string;
  past: string;
  hull: string;
  hullLine: string;
  link: string;
  linkStrong: string;
  kinds: Record<Kind, string>;
}

export function readPalette(): Palette {
  const style = getComputedStyle(document.documentElement);
  const value = (name: string) => style.getPropertyValue(name).trim();
  return {
    font: value("--font"),
    canvas: value("--canvas"),
    panel: value("--panel"),
    text: value("--text"),
    muted: value("--muted"),
    accent: value("--accent"),
    past: value("--past"),
    hull: value("--hull"),
    hullLine: value("--hull-line"),
    link: value("--link"),
    linkStrong: value("--link-strong"),
    kinds: {
      lost: value("--st-lost"),
      disconnected: value("--st-disconnected"),
      degraded: value("--st-degraded"),
      connecting: value("--st-connecting"),
      offline: value("--st-left"),
      online: value("--st-online"),
      left: value("--st-left"),
    },
  };
}
