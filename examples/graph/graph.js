// What both pages have in common: the graph, and what a node looks like.

const COLOURS = {
  online: "#2fa98c",
  degraded: "#ffdf5a",
  disconnected: "#93d0ff",
  connecting: "#b868f5",
  offline: "#f2442e",
};

/** `{ nodes, links }`, as the libraries take them. */
export async function readGraph() {
  const answer = await fetch("/api/graph?include_offline=true");
  if (!answer.ok) throw new Error(`${answer.status}: ${await answer.text()}`);
  return answer.json();
}

export const colourOf = (node) => COLOURS[node.status];

/** An element and not a string, which the libraries would read as HTML: names are what nodes say. */
export function labelOf(node) {
  const label = document.createElement("span");
  label.textContent = `${node.name}: ${node.status}, ${node.role} in ${node.domain}`;
  return label;
}
