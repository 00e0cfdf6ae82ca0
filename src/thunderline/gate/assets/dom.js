// Small ways to make and to change elements. Text goes in as text nodes only: names, reasons and metas come from outside.

const SVG = "http://www.w3.org/2000/svg";

export function element(tag, attributes = {}, ...children) {
  return filled(document.createElement(tag), attributes, children);
}

export function drawing(tag, attributes = {}, ...children) {
  return filled(document.createElementNS(SVG, tag), attributes, children);
}

function filled(made, attributes, children) {
  for (const [name, value] of Object.entries(attributes)) if (value !== null) made.setAttribute(name, value);
  made.append(...children);
  return made;
}

export function glyph(kind) {
  return drawing("svg", { class: `glyph kind-${kind.key}`, "aria-hidden": "true" }, drawing("use", { href: `#glyph-${kind.key}` }));
}

// Each of these touches the document only where it differs.

export function setText(target, text) {
  if (target.textContent !== text) target.textContent = text;
}

export function setAttribute(target, name, value) {
  if (target.getAttribute(name) === value) return;
  if (value === null) target.removeAttribute(name);
  else target.setAttribute(name, value);
}

export function setHidden(target, hidden) {
  if (target.hidden !== hidden) target.hidden = hidden;
}
