import { useEffect, useRef, useState } from "preact/hooks";
import { KIND, KINDS } from "../data/kinds.ts";
import { isMoving } from "../data/live.ts";
import { go, href, route, set } from "../data/route.ts";
import {
  isFiltered,
  isPast,
  isStale,
  isWaiting,
  leavers,
  matches,
  matching,
  nodes,
  selected,
  shown,
  shownNow,
  shownStructure,
  shownVersion,
} from "../data/view.ts";
import { ago, count, milliseconds, plural } from "../data/words.ts";
import { type Hit, type Mode, TopologyCanvas } from "../drawing/canvas.ts";
import { type GroupBy, Scene } from "../drawing/scene.ts";
import { Feed } from "../parts/events.tsx";
import { Glyph, Icon, StatusWord } from "../parts/glyph.tsx";
import { theme } from "../parts/theme.ts";
import { NodePanel } from "./node.tsx";

const GROUPS: Record<GroupBy, string> = {
  domain: "Domain",
  role: "Role",
  cluster: "Cluster",
  group: "Group",
  none: "Nothing",
};
const EVENTS_MAX = 40;

export function Topology() {
  const host = useRef<HTMLCanvasElement>(null);
  const drawing = useRef<TopologyCanvas | null>(null);
  const [hover, setHover] = useState<{ hit: Hit; x: number; y: number } | null>(null);
  const [closed, setClosed] = useState({ groups: 0, of: 0 });
  const [isFitted, setFitted] = useState(false);
  const { params } = route.value;
  const mode: Mode = params.view === "grid" ? "grid" : "graph";
  const groupBy: GroupBy = params.group && params.group in GROUPS ? (params.group as GroupBy) : "domain";

  useEffect(() => {
    const canvas = host.current as HTMLCanvasElement;
    const scene = new Scene((isSettled) => {
      drawing.current?.changeScene(isSettled);
      setClosed({ groups: scene.groups.filter((group) => !group.isOpen).length, of: scene.groups.length });
    });
    drawing.current = new TopologyCanvas(canvas, scene, {
      onSelect: (node) => set({ node: node?.name }, { step: node !== null }),
      onOpenNode: (node) => go(href("nodes", {}, node.name)),
      onMove: (isOn) => {
        isMoving.value = isOn;
      },
      onHover: (hit, x, y) => setHover(hit ? { hit, x, y } : null),
      onPainted: (ms) => {
        canvas.dataset.paintMs = ms.toFixed(1);
      },
    });
    // For benchmarks/dashboard.py, which asks whether anybody moved.
    Object.assign(canvas, { places: () => scene.nodes.map((node) => [node.id, scene.placeOf(node) ?? null]) });
    return () => {
      isMoving.value = false;
      drawing.current?.end();
      scene.end();
      drawing.current = null;
    };
  }, []);
  useEffect(() => {
    const fleet = shown.value;
    const canvas = drawing.current;
    if (fleet && canvas) canvas.scene.show(fleet, nodes.value, leavers.value, groupBy, canvas.aspect);
  }, [shownStructure.value, leavers.value, groupBy]);
  useEffect(() => {
    const canvas = drawing.current;
    if (!canvas) return;
    canvas.scene.recount();
    canvas.matches = matches.value;
    canvas.isFiltered = isFiltered.value;
    canvas.selected = selected.value;
    canvas.keepsFitted = isFitted;
    canvas.neighbours = (node) =>
      (shown.value?.linksOf(node.id) ?? []).flatMap((link) => {
        const other = link.source === node.id ? shown.value?.targetOf(link) : link.source;
        return shown.value?.nodes.get(other ?? "") ?? [];
      });
    canvas.setMode(mode);
    canvas.touch();
  }, [shownVersion.value, matches.value, isFiltered.value, selected.value, mode, isFitted]);
  useEffect(() => drawing.current?.changeTheme(), [theme.value]);
  // A link to a node shows where it is.
  const selectedId = selected.value?.id;
  useEffect(() => {
    const group = selected.value && drawing.current?.scene.groupAt(selected.value);
    if (group && !group.isOpen && mode === "graph") drawing.current?.scene.toggle(group);
  }, [selectedId, mode]);

  const total = nodes.value.length;
  const found = matching.value.length;
  const node = selected.value;
  return (
    <div class="split">
      <section
        class={`stage${isPast.value ? " past" : ""}${isStale.value && !isPast.value ? " faded" : ""}`}
        aria-label="Topology"
      >
        <h1 class="unseen">Topology</h1>
        <div class="canvas">
          {/* biome-ignore lint/a11y/noInteractiveElementToNoninteractiveRole: keys and pointer work on what is drawn */}
          <canvas
            ref={host}
            tabIndex={0}
            role="application"
            aria-label={`${mode === "graph" ? "Graph" : "Grid"} of ${plural(total, "node")}${isFiltered.value ? `, ${count(found)} match the filter` : ""}${leavers.value.length > 0 ? `, ${count(leavers.value.length)} lately deregistered` : ""}. The page Nodes has the same as a table.`}
            aria-describedby="canvas-keys"
            aria-keyshortcuts="ArrowUp ArrowDown ArrowLeft ArrowRight Enter Escape + - f z"
          />
          <p id="canvas-keys" class="unseen">
            Arrow keys select the nearest node, Enter opens it, plus and minus zoom, f shows all, Escape ends the
            selection.
          </p>
          <p class="unseen" role="status">
            {node ? `${node.name}, ${KIND[node.kind].word}, ${node.role} in ${node.domain}` : ""}
          </p>
        </div>
        <div class="tools top-left">
          <fieldset class="segments" aria-label="View">
            {(["graph", "grid"] as const).map((key) => (
              <button
                key={key}
                type="button"
                aria-pressed={mode === key}
                onClick={() => set({ view: key === "grid" ? "grid" : null })}
              >
                {key === "graph" ? "Graph" : "Grid"}
              </button>
            ))}
          </fieldset>
          <label class="select">
            Group by
            <select
              value={groupBy}
              onChange={(event) =>
                set({ group: event.currentTarget.value === "domain" ? null : event.currentTarget.value })
              }
            >
              {Object.entries(GROUPS).map(([key, word]) => (
                <option key={key} value={key}>
                  {word}
                </option>
              ))}
            </select>
          </label>
          {isFiltered.value ? (
            <p class="note" role="status">
              {count(found)} of {count(total)} match
              <button
                type="button"
                class="ghost"
                onClick={() => set({ q: null, status: null, domain: null, role: null })}
              >
                Clear
              </button>
              <a class="ghost" href={href("nodes")}>
                As a table
              </a>
            </p>
          ) : (
            <p class="note">
              {mode === "graph" && closed.groups > 0
                ? `${plural(total, "node")} in ${plural(closed.of, "group")}; double-click one to open it`
                : plural(total, "node")}
              <a class="ghost" href={href("nodes")}>
                As a table
              </a>
            </p>
          )}
        </div>
        <Legend />
        {mode === "graph" ? (
          <div class="tools bottom-right">
            <button
              type="button"
              class="square"
              aria-label="Closer"
              title="Closer (+)"
              onClick={() => drawing.current?.zoom(1.4)}
            >
              <Icon name="plus" />
            </button>
            <button
              type="button"
              class="square"
              aria-label="Farther"
              title="Farther (−)"
              onClick={() => drawing.current?.zoom(1 / 1.4)}
            >
              <Icon name="minus" />
            </button>
            <button
              type="button"
              class="square"
              aria-label="Show all"
              title="Show all (f)"
              onClick={() => drawing.current?.fitAgain()}
            >
              <Icon name="fit" />
            </button>
            <button
              type="button"
              class="square"
              aria-label="Keep all in view"
              title="Keep all in view, as on a wall"
              aria-pressed={isFitted}
              onClick={() => setFitted(!isFitted)}
            >
              <Icon name="pin" />
            </button>
            <button
              type="button"
              class="square"
              aria-label="Lay out again"
              title="Lay out again"
              onClick={() => drawing.current?.scene.layOutAgain()}
            >
              <Icon name="again" />
            </button>
          </div>
        ) : null}
        {hover ? <Tip {...hover} /> : null}
        {total === 0 ? (
          <p class="empty over">{isWaiting.value ? "Asking the server…" : "No node is registered."}</p>
        ) : null}
      </section>
      {node ? (
        <NodePanel key={node.id} node={node} onClose={() => set({ node: null })} />
      ) : (
        <aside class="side" aria-label="Events">
          <h2>Events</h2>
          <Feed most={EVENTS_MAX} />
        </aside>
      )}
    </div>
  );
}

function Legend() {
  return (
    <div class="tools legend bottom-left">
      {KINDS.filter(({ key }) => key !== "offline").map(({ key, word, help }) => (
        <span key={key} title={help}>
          <Glyph kind={key} />
          {word}
        </span>
      ))}
      <i />
      <span>
        <svg width="22" height="8" aria-hidden="true">
          <path d="M1 4h20" class="l-registry" />
        </svg>
        to the registry
      </span>
      <span>
        <svg width="22" height="8" aria-hidden="true">
          <path d="M1 4h20" class="l-node" />
        </svg>
        between nodes
      </span>
      <span>
        <svg width="22" height="8" aria-hidden="true">
          <path d="M1 4h20" class="l-bad" />
        </svg>
        degraded
      </span>
    </div>
  );
}

function Tip({ hit, x, y }: { hit: Hit; x: number; y: number }) {
  shownVersion.value; // a node changes in place
  const at = shownNow.value;
  const style = { left: `${x + 14}px`, top: `${y + 14}px` };
  if (hit?.node) {
    const { node } = hit;
    const hasFigures = !isPast.value && node.hasFigures(at);
    return (
      <div class="tip" style={style}>
        <b>{node.name}</b>
        <StatusWord kind={node.kind} />
        <dl>
          <dt>Role</dt>
          <dd>{node.role}</dd>
          <dt>Domain</dt>
          <dd>{node.domain}</dd>
          {hasFigures ? (
            <>
              <dt>Latency</dt>
              <dd>{milliseconds(node.latency)}</dd>
            </>
          ) : null}
          {isPast.value ? null : (
            <>
              <dt>Seen</dt>
              <dd>{ago(node.seenAt, at)}</dd>
            </>
          )}
        </dl>
      </div>
    );
  }
  if (hit?.leaver) {
    const { leaver } = hit;
    return (
      <div class="tip" style={style}>
        <b>{leaver.name}</b>
        <small>Deregistered {ago(leaver.goneAt, at)}</small>
      </div>
    );
  }
  if (!hit?.group) return null;
  const { group } = hit;
  return (
    <div class="tip" style={style}>
      <b>{group.key}</b>
      <dl>
        {KINDS.filter(({ key }) => group.counts[key] > 0).map(({ key, word }) => (
          <>
            <dt key={key}>
              <Glyph kind={key} /> {word}
            </dt>
            <dd>{count(group.counts[key])}</dd>
          </>
        ))}
      </dl>
      <small>Double-click {group.isOpen ? "closes" : "opens"} it</small>
    </div>
  );
}
