// Small helpers to build the page. Text is always set as text: nothing of the store is ever parsed as HTML.

const SVG = "http://www.w3.org/2000/svg";
const SVG_NAMES = new Set(["svg", "path", "circle", "rect", "line", "text", "g", "title"]);

/** An element: h("button", {class: "primary", onclick: f}, "Save"). null children are left out. */
export function h(name, properties = {}, ...children) {
  const node = SVG_NAMES.has(name) ? document.createElementNS(SVG, name) : document.createElement(name);
  for (const [key, value] of Object.entries(properties)) {
    if (value === null || value === undefined || value === false) continue;
    if (key.startsWith("on")) node.addEventListener(key.slice(2), value);
    else if (key === "value" || key === "checked") node[key] = value;
    else if (key === "style") for (const [name, text] of Object.entries(value)) node.style.setProperty(name, text);
    else node.setAttribute(key, value === true ? "" : String(value));
  }
  node.append(...children.flat(3).filter(child => child !== null && child !== undefined && child !== false));
  return node;
}

export const find = id => document.getElementById(id);

/** Set the text of a node only if it changed: the browser lays nothing out anew for nothing. */
export function say(node, text) {
  if (node.textContent !== text) node.textContent = text;
}

/** Set a class attribute only if it changed. */
export function dress(node, names) {
  if (node.getAttribute("class") !== names) node.setAttribute("class", names);
}

export const count = value => value === null || value === undefined ? "–" : Math.round(value).toLocaleString("en");

export function bytes(value) {
  if (value === null || value === undefined) return "–";
  const units = ["B", "KiB", "MiB", "GiB", "TiB"];
  let at = 0;
  while (value >= 1024 && at < units.length - 1) { value /= 1024; at += 1; }
  return `${at && value < 100 ? value.toFixed(1) : Math.round(value)} ${units[at]}`;
}

export function milliseconds(value) {
  if (!value) return "–";
  return value < 1 ? `${value.toFixed(2)} ms` : value < 100 ? `${value.toFixed(1)} ms` : value < 10000 ? `${Math.round(value)} ms` : duration(value / 1000);
}

export function duration(seconds) {
  if (seconds === null || seconds === undefined) return "–";
  if (seconds < 1) return "now";
  if (seconds < 120) return `${Math.round(seconds)} s`;
  if (seconds < 7200) return `${Math.round(seconds / 60)} min`;
  return seconds < 172800 ? `${Math.round(seconds / 3600)} h` : `${Math.round(seconds / 86400)} d`;
}

export const ago = seconds => (seconds < 1 ? "just now" : `${duration(seconds)} ago`);
export const clock = at_ms => new Date(at_ms).toLocaleTimeString("en-GB");
export const nodeColour = id => `var(--n${((id - 1) % 7) + 1})`;

let toasts = 0;

/** A short message at the corner; `action` is {name, run}. */
export function toast(text, action = null, seconds = 8) {
  const box = h("div", {class: "toast", "data-toast": ++toasts}, h("span", {}, text));
  const gone = setTimeout(() => box.remove(), seconds * 1000);
  if (action) {
    box.append(h("button", {type: "button", onclick: () => { clearTimeout(gone); box.remove(); action.run(); }}, action.name));
  }
  find("toasts").append(box);
  while (find("toasts").children.length > 4) find("toasts").firstChild.remove();
}

/** A modal dialog of these children; resolves with what `close(value)` is given, undefined for Escape. */
export function ask(title, build, narrow = false) {
  return new Promise(resolve => {
    const heading = h("h2", {id: "dialog-title"}, title);
    const box = h("dialog", {"aria-labelledby": "dialog-title", class: narrow ? "narrow" : ""}, heading);
    const close = value => { box.close(); box.remove(); resolve(value); };
    box.addEventListener("cancel", () => { box.remove(); resolve(undefined); });
    box.append(build(close));
    document.body.append(box);
    box.showModal();
  });
}
