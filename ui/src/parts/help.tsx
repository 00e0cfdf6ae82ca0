import { Dialog } from "./dialog.tsx";

const KEYS: [string, string][] = [
  ["/", "Search"],
  ["g o, g t, g n, g e, g a", "Overview, Topology, Nodes, Events, Alerts"],
  ["Arrow keys", "Topology: the nearest node in that direction. Nodes: the next row. Timeline: 10 seconds"],
  ["Enter", "Open the node"],
  ["z", "Topology: bring the selected node to the middle"],
  ["+ − f", "Topology: closer, farther, show all"],
  ["Page Up, Page Down", "Timeline: 5 minutes"],
  ["Home, End", "Timeline: the begin of the range, the present"],
  ["Escape", "Leave: the selection, the search, a dialog"],
];
const SEARCH: [string, string][] = [
  ["gpu eu-1", "Both words, in name, id, address, role, domain, groups or labels"],
  ["role:gateway", "In that field: name, id, role, domain, cluster, status, reason, address, group, label, cap"],
  ["role:gateway,relay", "One or the other; name:=gpu-1: that is all the field holds"],
  ["version:2.4", "Any other word before the colon is a key of labels or metadata"],
  ["-status:online", "A minus sign excludes"],
];

export function Help({ onClose }: { onClose: () => void }) {
  const list = (rows: [string, string][]) => (
    <dl class="keys">
      {rows.map(([term, meaning]) => (
        <div key={term}>
          <dt>
            <kbd>{term}</kbd>
          </dt>
          <dd>{meaning}</dd>
        </div>
      ))}
    </dl>
  );
  return (
    <Dialog title="Keys and search" onClose={onClose}>
      {list(KEYS)}
      <h3>Search</h3>
      {list(SEARCH)}
    </Dialog>
  );
}
