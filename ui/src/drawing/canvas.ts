// The canvas of the topology: the camera, what pointer and keys do, and when it is painted.

import type { FleetNode } from "../data/fleet.ts";
import { paintGraph } from "./graph.ts";
import { type GridLayout, layOutGrid, nodeAt, paintCells, paintMarks } from "./grid.ts";
import { DISC, type Group, type Scene } from "./scene.ts";
import { type Palette, readPalette } from "./shapes.ts";

export type Mode = "graph" | "grid";

export interface Camera {
  k: number;
  x: number;
  y: number;
}

/** What is pointed at: a node, where one was until lately, or a group. */
export type Hit =
  | { node: FleetNode; leaver?: undefined; group?: undefined }
  | { leaver: FleetNode; node?: undefined; group?: undefined }
  | { group: Group; node?: undefined; leaver?: undefined }
  | null;

/** All that the painters need to know. */
export interface Frame {
  context: CanvasRenderingContext2D;
  width: number;
  height: number;
  ratio: number;
  camera: Camera;
  palette: Palette;
  scene: Scene;
  selected: FleetNode | null;
  hovered: Hit;
  /** The selected or hovered node, and what it is linked to. */
  focus: FleetNode | null;
  near: ReadonlySet<FleetNode> | null;
  matches: (node: FleetNode) => boolean;
  isFiltered: boolean;
}

export interface Listener {
  onSelect(node: FleetNode | null): void;
  onOpenNode(node: FleetNode): void;
  onHover(hit: Hit, x: number, y: number): void;
  /** Somebody begins or ends to move the map. */
  onMove(isMoving: boolean): void;
  onPainted(ms: number): void;
}

const ZOOM_MIN = 0.02;
const ZOOM_MAX = 12;
const FLIGHT_MS = 320;
const CLICK_PX = 4;
const DIRECTIONS: Record<string, [number, number]> = {
  ArrowLeft: [-1, 0],
  ArrowRight: [1, 0],
  ArrowUp: [0, -1],
  ArrowDown: [0, 1],
};
/** What stands on the canvas above and below the drawing. */
const MARGIN = { top: 56, right: 24, bottom: 56, left: 24 };

const clamp = (value: number, low: number, high: number) => Math.max(low, Math.min(high, value));

export class TopologyCanvas {
  mode: Mode = "graph";
  selected: FleetNode | null = null;
  matches: (node: FleetNode) => boolean = () => true;
  isFiltered = false;
  neighbours: (node: FleetNode) => Iterable<FleetNode> = () => [];
  /** Whether the whole is always kept in view, as on a wall. */
  keepsFitted = false;
  /** Every fit after the first but before the user took the camera. */
  private isTouched = false;
  private isFitted = false;
  private camera: Camera = { k: 1, x: 0, y: 0 };
  private flight: { from: Camera; to: Camera; startedAt: number } | null = null;
  private hovered: Hit = null;
  private palette: Palette;
  private grid: GridLayout | null = null;
  private width = 1;
  private height = 1;
  private ratio = 1;
  private isDirty = true;
  /** The cells of the grid as they were last painted: to point at others changes none of them. */
  private cellsPainted: HTMLCanvasElement | null = null;
  private request = 0;
  private readonly context: CanvasRenderingContext2D;
  private readonly spare: CanvasRenderingContext2D;
  private readonly resizing: ResizeObserver;
  private readonly ending = new AbortController();

  constructor(
    private readonly canvas: HTMLCanvasElement,
    readonly scene: Scene,
    private readonly listener: Listener,
  ) {
    this.context = canvas.getContext("2d", { alpha: false }) as CanvasRenderingContext2D;
    this.spare = document.createElement("canvas").getContext("2d", { alpha: false }) as CanvasRenderingContext2D;
    this.palette = readPalette();
    this.listen();
    this.resizing = new ResizeObserver(() => this.resize());
    this.resizing.observe(canvas.parentElement as Element);
    this.resize();
  }

  end(): void {
    this.ending.abort();
    this.resizing.disconnect();
    cancelAnimationFrame(this.request);
  }

  get aspect(): number {
    return this.width / this.height;
  }

  /** Something that is drawn changed. */
  touch(): void {
    this.cellsPainted = null;
    this.paintSoon();
  }

  private paintSoon(): void {
    this.isDirty = true;
    // A page that nobody sees is not painted: the browser asks for no frame.
    this.request ||= requestAnimationFrame(() => this.paint());
  }

  changeTheme(): void {
    this.palette = readPalette();
    this.touch();
  }

  /** The scene has other groups, nodes or places. */
  changeScene(isSettled: boolean): void {
    this.grid = null;
    if (
      (!this.isFitted && this.scene.groups.every((group) => group.isPlaced)) ||
      (isSettled && !this.isTouched) ||
      this.keepsFitted
    ) {
      this.isFitted ||= this.scene.groups.length > 0;
      this.fit(false);
    }
    this.canvas.dataset.settled = String(isSettled);
    this.touch();
  }

  setMode(mode: Mode): void {
    if (mode === this.mode) return;
    this.mode = mode;
    this.grid = null;
    this.hovered = null;
    if (mode === "graph" && !this.isTouched) this.fit(false);
    this.touch();
  }

  // The camera

  fit(isAnimated = true): void {
    const placed = this.scene.groups.filter((group) => group.isPlaced);
    if (placed.length === 0) return;
    const left = Math.min(...placed.map(({ x, radius }) => x - radius));
    const right = Math.max(...placed.map(({ x, radius }) => x + radius));
    const top = Math.min(...placed.map(({ y, radius }) => y - radius)) - 16;
    const bottom = Math.max(...placed.map(({ y, radius }) => y + radius)) + 8;
    const width = this.width - MARGIN.left - MARGIN.right;
    const height = this.height - MARGIN.top - MARGIN.bottom;
    const k = clamp(Math.min(width / (right - left), height / (bottom - top)), ZOOM_MIN, 1.9);
    this.fly(
      { k, x: this.width / 2 - (k * (left + right)) / 2, y: MARGIN.top + height / 2 - (k * (top + bottom)) / 2 },
      isAnimated,
    );
  }

  /** Show all, and go on to until somebody moves the camera. */
  fitAgain(): void {
    this.isTouched = false;
    this.fit();
  }

  zoom(factor: number, x = this.width / 2, y = this.height / 2): void {
    if (this.mode === "grid") return;
    const k = clamp(this.camera.k * factor, ZOOM_MIN, ZOOM_MAX);
    const by = k / this.camera.k;
    this.flight = null;
    this.camera = { k, x: x - (x - this.camera.x) * by, y: y - (y - this.camera.y) * by };
    this.take();
  }

  /** Bring a node to the middle, its group opened. */
  focus(node: FleetNode): void {
    if (this.mode === "grid") return;
    const group = this.scene.groupAt(node);
    if (group && !group.isOpen) this.scene.toggle(group);
    const place = this.scene.placeOf(node) ?? (group ? [group.x, group.y] : undefined);
    if (!place) return;
    const k = Math.max(this.camera.k, 1.6);
    this.isTouched = true;
    this.fly({ k, x: this.width / 2 - k * place[0], y: this.height / 2 - k * place[1] }, true);
  }

  private take(): void {
    this.isTouched = true;
    this.keepsFitted = false;
    this.touch();
  }

  private fly(to: Camera, isAnimated: boolean): void {
    const isStill = matchMedia("(prefers-reduced-motion: reduce)").matches;
    if (isAnimated && !isStill) this.flight = { from: { ...this.camera }, to, startedAt: performance.now() };
    else {
      this.flight = null;
      this.camera = to;
    }
    this.touch();
  }

  private resize(): void {
    const box = (this.canvas.parentElement as Element).getBoundingClientRect();
    this.width = Math.max(1, box.width);
    this.height = Math.max(1, box.height);
    this.ratio = Math.min(2, devicePixelRatio || 1);
    this.canvas.width = this.width * this.ratio;
    this.canvas.height = this.height * this.ratio;
    this.grid = null;
    if (!this.isTouched || this.keepsFitted) this.fit(false);
    this.touch();
  }

  // Pointer and keys

  private listen(): void {
    const { canvas } = this;
    const options = { signal: this.ending.signal };
    let dragged: { x: number; y: number; moved: number } | null = null;
    canvas.addEventListener(
      "wheel",
      (event) => {
        event.preventDefault();
        this.zoom(Math.exp(-event.deltaY * 0.0016), event.offsetX, event.offsetY);
      },
      { ...options, passive: false },
    );
    canvas.addEventListener(
      "pointerdown",
      (event) => {
        dragged = { x: event.clientX, y: event.clientY, moved: 0 };
        canvas.setPointerCapture(event.pointerId);
      },
      options,
    );
    canvas.addEventListener(
      "pointermove",
      (event) => {
        if (dragged && this.mode === "graph") {
          const [dx, dy] = [event.clientX - dragged.x, event.clientY - dragged.y];
          dragged = { x: event.clientX, y: event.clientY, moved: dragged.moved + Math.abs(dx) + Math.abs(dy) };
          if (dragged.moved < CLICK_PX) return;
          this.listener.onMove(true);
          this.flight = null;
          this.camera = { ...this.camera, x: this.camera.x + dx, y: this.camera.y + dy };
          this.take();
          return;
        }
        this.hover(this.hit(event.offsetX, event.offsetY), event.offsetX, event.offsetY);
      },
      options,
    );
    canvas.addEventListener(
      "pointerup",
      (event) => {
        if (dragged && dragged.moved < CLICK_PX)
          this.listener.onSelect(this.hit(event.offsetX, event.offsetY)?.node ?? null);
      },
      options,
    );
    // Behind either end of a press, and where the canvas loses the pointer.
    canvas.addEventListener(
      "lostpointercapture",
      () => {
        dragged = null;
        this.listener.onMove(false);
      },
      options,
    );
    canvas.addEventListener("pointerleave", () => this.hover(null, 0, 0), options);
    canvas.addEventListener(
      "dblclick",
      (event) => {
        const hit = this.hit(event.offsetX, event.offsetY);
        if (hit?.group) this.scene.toggle(hit.group);
        else if (hit?.node) this.listener.onOpenNode(hit.node);
      },
      options,
    );
    canvas.addEventListener("keydown", (event) => this.press(event), options);
  }

  private press(event: KeyboardEvent): void {
    if (event.ctrlKey || event.metaKey || event.altKey) return;
    const direction = DIRECTIONS[event.key];
    if (direction) {
      const next = this.next(direction);
      if (next) this.listener.onSelect(next);
    } else if (event.key === "+" || event.key === "=") this.zoom(1.25);
    else if (event.key === "-") this.zoom(0.8);
    else if (event.key === "f") this.fitAgain();
    else if (event.key === "Escape") this.listener.onSelect(null);
    else if (event.key === "Enter" && this.selected) this.listener.onOpenNode(this.selected);
    else if (event.key === "z" && this.selected) this.focus(this.selected);
    else return;
    event.preventDefault();
    event.stopPropagation();
  }

  private hover(hit: Hit, x: number, y: number): void {
    const { hovered } = this;
    if (hit?.node !== hovered?.node || hit?.leaver !== hovered?.leaver || hit?.group !== hovered?.group) {
      this.hovered = hit;
      this.canvas.style.cursor = hit && !hit.leaver ? "pointer" : this.mode === "graph" ? "grab" : "default";
      this.paintSoon();
    }
    this.listener.onHover(hit, x, y);
  }

  private spot(node: FleetNode): [number, number] | undefined {
    if (this.mode === "grid") return this.cells()?.cells.get(node);
    return this.scene.isOpen(node) ? this.scene.placeOf(node) : undefined;
  }

  /** The nearest node in a direction from the selected one. */
  private next([dx, dy]: [number, number]): FleetNode | null {
    const candidates = this.mode === "grid" ? this.scene.nodes : this.scene.openNodes;
    const origin = this.selected ? this.spot(this.selected) : undefined;
    if (!origin) return candidates.find((node) => this.matches(node)) ?? null;
    let best: FleetNode | null = null;
    let least = Number.POSITIVE_INFINITY;
    for (const node of candidates) {
      const spot = this.spot(node);
      if (!spot || node === this.selected) continue;
      const [x, y] = [spot[0] - origin[0], spot[1] - origin[1]];
      const ahead = x * dx + y * dy;
      if (ahead <= 0.5) continue;
      const cost = ahead + 2.2 * (Math.abs(x * dy) + Math.abs(y * dx));
      if (cost < least) [best, least] = [node, cost];
    }
    return best;
  }

  private hit(screenX: number, screenY: number): Hit {
    if (this.mode === "grid") {
      const layout = this.cells();
      const node = layout && nodeAt(layout, screenX, screenY);
      if (!node) return null;
      return node.goneAt === null ? { node } : { leaver: node };
    }
    const { k } = this.camera;
    const [x, y] = [(screenX - this.camera.x) / k, (screenY - this.camera.y) / k];
    const node = this.nearest(this.scene.openNodes, x, y);
    if (node) return { node };
    const leaver = this.nearest(this.scene.openLeavers, x, y);
    if (leaver) return { leaver };
    for (const group of this.scene.groups) {
      if (!group.isPlaced) continue;
      const isOn = group.isOpen
        ? Math.abs(y - (group.y - group.radius - 4 / k)) < 11 / k && Math.abs(x - group.x) < 70 / k
        : Math.hypot(group.x - x, group.y - y) < group.radius * DISC;
      if (isOn) return { group };
    }
    return null;
  }

  /** Of those that a point is on, in the drawing's own coordinates. */
  private nearest(nodes: FleetNode[], x: number, y: number): FleetNode | null {
    let best: FleetNode | null = null;
    let least = Number.POSITIVE_INFINITY;
    for (const node of nodes) {
      const place = this.scene.placeOf(node);
      if (!place) continue;
      const distance = Math.hypot(place[0] - x, place[1] - y);
      if (distance < Math.max(this.scene.radiusOf(node), 7 / this.camera.k) && distance < least)
        [best, least] = [node, distance];
    }
    return best;
  }

  private cells(): GridLayout | null {
    if (this.scene.groups.length === 0) return null;
    this.grid ??= layOutGrid(this.scene.groups, this.width, this.height);
    return this.grid;
  }

  // Painting

  private paint(): void {
    this.request = 0;
    if (this.flight) {
      const { from, to, startedAt } = this.flight;
      const part = clamp((performance.now() - startedAt) / FLIGHT_MS, 0, 1);
      const eased = 1 - (1 - part) ** 3;
      const between = (one: number, other: number) => one + (other - one) * eased;
      this.camera = { k: between(from.k, to.k), x: between(from.x, to.x), y: between(from.y, to.y) };
      if (part === 1) this.flight = null;
      else this.touch();
    } else if (!this.isDirty) return;
    this.isDirty = false;
    const startedAt = performance.now();
    const focus = this.selected ?? this.hovered?.node ?? null;
    const frame: Frame = {
      context: this.context,
      width: this.width,
      height: this.height,
      ratio: this.ratio,
      camera: this.camera,
      palette: this.palette,
      scene: this.scene,
      selected: this.selected,
      hovered: this.hovered,
      focus,
      near: focus ? new Set([focus, ...this.neighbours(focus)]) : null,
      matches: this.matches,
      isFiltered: this.isFiltered,
    };
    this.clear(this.context);
    if (this.mode === "graph") paintGraph(frame);
    else {
      const layout = this.cells();
      if (layout) {
        this.cellsPainted ??= this.paintCells(frame, layout);
        this.context.drawImage(this.cellsPainted, 0, 0, this.width, this.height);
        paintMarks(frame, layout);
      }
    }
    this.listener.onPainted(performance.now() - startedAt);
  }

  private paintCells(frame: Frame, layout: GridLayout): HTMLCanvasElement {
    const { canvas } = this.spare;
    [canvas.width, canvas.height] = [this.canvas.width, this.canvas.height];
    this.clear(this.spare);
    paintCells({ ...frame, context: this.spare }, layout);
    return canvas;
  }

  private clear(context: CanvasRenderingContext2D): void {
    context.setTransform(this.ratio, 0, 0, this.ratio, 0, 0);
    context.fillStyle = this.palette.canvas;
    context.fillRect(0, 0, this.width, this.height);
  }
}
