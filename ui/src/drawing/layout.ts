// Where groups and nodes are put. Groups are placed once, and nodes that have a place keep it: only newcomers move. Runs
// in a worker; nothing here touches the document.

import {
  forceCollide,
  forceLink,
  forceManyBody,
  forceSimulation,
  forceX,
  forceY,
  type SimulationLinkDatum,
  type SimulationNodeDatum,
} from "d3-force";

export type Place = [x: number, y: number];

export interface GroupToPlace {
  key: string;
  radius: number;
}

export interface LayoutJob {
  job: number;
  spread: number;
  aspect: number;
  groups: GroupToPlace[];
  /** Pairs of indices into `groups`. */
  groupLinks: [number, number][];
  anchors: ReadonlyMap<string, Place>;
  nodes: { id: string; group: number; radius: number }[];
  /** Pairs of indices into `nodes`. */
  links: [number, number][];
  places: Record<string, Place>;
}

export interface LayoutNews {
  job: number;
  anchors?: Map<string, Place>;
  /** Of `nodes`, in their order: x and y. */
  places?: Float32Array;
  isDone: boolean;
}

const GOLDEN_ANGLE = 2.399963229728653;
const GAP = 34;
const GROUP_TICKS = 260;
const TIME_MS = 6_000;
const NEWS_MS = 150;

interface Body extends SimulationNodeDatum {
  radius: number;
}

export function placeGroups({ groups, groupLinks, aspect, anchors }: LayoutJob): Map<string, Place> {
  const bodies: Body[] = groups.map(({ key, radius }, index) => {
    const known = anchors.get(key);
    if (known) return { radius, x: known[0], y: known[1], fx: known[0], fy: known[1] };
    const distance = 1.1 * Math.sqrt(index + 0.5) * radius;
    const angle = index * GOLDEN_ANGLE;
    return { radius, x: distance * Math.cos(angle) * aspect, y: distance * Math.sin(angle) };
  });
  if (bodies.some((body) => body.fx === undefined)) {
    const links: SimulationLinkDatum<Body>[] = groupLinks.map(([source, target]) => ({ source, target }));
    forceSimulation(bodies)
      .stop()
      .force(
        "apart",
        forceCollide<Body>((body) => body.radius + GAP / 2)
          .strength(1)
          .iterations(3),
      )
      .force("x", forceX<Body>(0).strength(0.035 / aspect))
      .force("y", forceY<Body>(0).strength(0.035 * aspect * aspect))
      .force(
        "links",
        forceLink<Body, SimulationLinkDatum<Body>>(links)
          .distance((link) => (link.source as Body).radius + (link.target as Body).radius + GAP)
          .strength(0.03),
      )
      .alphaDecay(0.02)
      .tick(GROUP_TICKS);
  }
  return new Map(groups.map(({ key }, index) => [key, [bodies[index]?.x ?? 0, bodies[index]?.y ?? 0]]));
}

interface NodeBody extends Body {
  group: number;
  gx: number;
  gy: number;
}

export function layOut(job: LayoutJob, tell: (news: LayoutNews) => void): void {
  const anchors = placeGroups(job);
  tell({ job: job.job, anchors, isDone: job.nodes.length === 0 });
  if (job.nodes.length === 0) return;
  const { spread } = job;
  const seeded: number[] = [];
  let newcomers = 0;
  const bodies: NodeBody[] = job.nodes.map(({ id, group, radius }) => {
    const [gx, gy] = anchors.get(job.groups[group]?.key ?? "") ?? [0, 0];
    const known = job.places[id];
    const turn = seeded[group] ?? 0;
    seeded[group] = turn + 1;
    if (known) return { group, radius, gx, gy, x: known[0], y: known[1], fx: known[0], fy: known[1] };
    newcomers += 1;
    const distance = 7 * spread * Math.sqrt(turn + 0.5);
    return {
      group,
      radius,
      gx,
      gy,
      x: gx + distance * Math.cos(turn * GOLDEN_ANGLE),
      y: gy + distance * Math.sin(turn * GOLDEN_ANGLE),
    };
  });
  const send = (isDone: boolean) => tell({ job: job.job, places: placesInside(job, bodies), isDone });
  if (newcomers > 0) settle(job, bodies, newcomers, () => send(false));
  send(true);
}

function settle(job: LayoutJob, bodies: NodeBody[], newcomers: number, onNews: () => void): void {
  const { spread } = job;
  const simulation = forceSimulation(bodies)
    .stop()
    .force(
      "links",
      forceLink<NodeBody, SimulationLinkDatum<NodeBody>>(job.links.map(([source, target]) => ({ source, target })))
        .distance(26 * spread)
        .strength((link) => ((link.source as NodeBody).group === (link.target as NodeBody).group ? 0.18 : 0)),
    )
    .force(
      "charge",
      forceManyBody<NodeBody>()
        .strength(-34 * spread * spread)
        .distanceMax(150 * spread)
        .theta(1.1),
    )
    .force("apart", forceCollide<NodeBody>((body) => body.radius + 3.2).iterations(1))
    .force("x", forceX<NodeBody>((body) => body.gx).strength(0.11))
    .force("y", forceY<NodeBody>((body) => body.gy).strength(0.11))
    .alphaDecay(newcomers === bodies.length ? 0.03 : 0.06);
  const started = performance.now();
  let told = started;
  while (simulation.alpha() > 0.012 && performance.now() - started < TIME_MS) {
    simulation.tick();
    if (performance.now() - told > NEWS_MS) {
      onNews();
      told = performance.now();
    }
  }
}

/**
 * New groups are centred in their circle, and no newcomer is left outside it: the charge of neighbours pushes. The bodies
 * stay as they are, so that how often somebody asks does not change where they end.
 */
function placesInside(job: LayoutJob, bodies: NodeBody[]): Float32Array {
  const sums = job.groups.map(() => ({ x: 0, y: 0, count: 0, isSettled: false }));
  for (const body of bodies) {
    const sum = sums[body.group];
    if (!sum) continue;
    sum.x += body.x ?? 0;
    sum.y += body.y ?? 0;
    sum.count += 1;
    sum.isSettled ||= body.fx !== undefined;
  }
  const places = new Float32Array(2 * bodies.length);
  for (const [index, body] of bodies.entries()) {
    const sum = sums[body.group];
    let x = body.fx ?? body.x ?? 0;
    let y = body.fy ?? body.y ?? 0;
    if (sum && body.fx === undefined) {
      if (!sum.isSettled) {
        x += body.gx - sum.x / sum.count;
        y += body.gy - sum.y / sum.count;
      }
      const most = Math.max(0, (job.groups[body.group]?.radius ?? 0) - body.radius - 5);
      const distance = Math.hypot(x - body.gx, y - body.gy);
      if (distance > most) {
        x = body.gx + ((x - body.gx) / distance) * most;
        y = body.gy + ((y - body.gy) / distance) * most;
      }
    }
    places.set([x, y], 2 * index);
  }
  return places;
}
