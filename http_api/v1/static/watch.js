// A live feed of changes: filter, pause, and jump to a key.

import {events} from "./api.js";
import {clock, count, h, say, dress} from "./dom.js";
import {bytesOf, encodeText, formFor, inAddress, inQuery, shownAs, shownKey} from "./values.js";

const ROWS_MAX = 300;
const WAITING_MAX = 5000;
const SHOWN_LETTERS = 160;

function item(change, at) {
  const data = bytesOf(change, "key"), value = bytesOf(change, "value");
  const text = value === null ? "" : shownAs(value.slice(0, SHOWN_LETTERS), formFor(value) === "hex" ? "hex" : "text");
  return h("li", {}, h("span", {class: "soft"}, clock(at)), h("span", {class: "rev mono"}, String(change.mod_revision)),
    h("span", {class: `chip ${change.type === "put" ? "good" : "bad"}`}, change.type),
    h("a", {href: `#keys:${inAddress(data)}`}, shownKey(data)), h("span", {class: "shown mono soft"}, text));
}

export function open(view, argument) {
  let life = new AbortController(), held = false, waiting = [], total = 0, drawing = 0, since = Date.now(), recent = 0;
  const prefix = h("input", {id: "watch-prefix", class: "wide mono", placeholder: "all keys", value: argument ? decodeURIComponent(argument) : ""});
  const kinds = h("select", {id: "watch-kinds"}, h("option", {value: ""}, "puts and deletes"), h("option", {value: "&deletes=false"}, "puts"), h("option", {value: "&puts=false"}, "deletes"));
  const pause = h("button", {type: "button", "aria-pressed": "false"}, "Pause");
  const clear = h("button", {type: "button"}, "Clear");
  const state = h("span", {class: "soft small", role: "status"});
  const list = h("ol", {class: "feed", tabindex: 0, "aria-label": "Changes, newest first"});
  const none = h("p", {class: "empty"}, "Nothing has changed since this page began to watch.");

  function draw() {
    drawing = 0;
    if (held || !waiting.length) return;
    const rows = waiting.splice(0).slice(-ROWS_MAX).reverse();
    none.hidden = true;
    list.prepend(...rows.map(([change, at]) => item(change, at)));
    while (list.children.length > ROWS_MAX) list.lastChild.remove();
  }
  function tell(error) {
    if (error) { dress(state, "bad small"); say(state, `not watching: ${error.message}; trying again`); return; }
    dress(state, "soft small");
    const seconds = Math.max(1, (Date.now() - since) / 1000);
    say(state, held ? `paused; ${count(waiting.length)} changes wait` : `${count(total)} changes, ${count(recent / seconds)}/s`);
    if (seconds > 5) { since = Date.now(); recent = 0; }
  }
  function receive(event) {
    if (event.name !== "change") {
      if (event.name === "compacted" || event.name === "no-leader") tell(new Error(event.name));
      return;
    }
    const at = Date.now();
    for (const change of JSON.parse(event.data).events) { waiting.push([change, at]); total += 1; recent += 1; }
    if (waiting.length > WAITING_MAX) waiting = waiting.slice(-WAITING_MAX);
    // A few times a second are enough for eyes, and leave the processor to others.
    if (!drawing) drawing = setTimeout(() => { draw(); tell(null); }, 120);
  }
  function start() {
    life.abort();
    life = new AbortController();
    tell(null);
    events(`/v1/watch?prefix=${inQuery(encodeText(prefix.value))}${kinds.value}`, {signal: life.signal, resume: true, onEvent: receive, onState: tell});
  }
  function restart() {
    list.replaceChildren();
    none.hidden = false;
    waiting = [];
    total = recent = 0;
    start();
  }
  pause.addEventListener("click", () => {
    held = !held;
    pause.setAttribute("aria-pressed", String(held));
    say(pause, held ? "Go on" : "Pause");
    draw();
    tell(null);
  });
  clear.addEventListener("click", () => { list.replaceChildren(); none.hidden = false; });
  prefix.addEventListener("change", restart);
  kinds.addEventListener("change", restart);
  view.replaceChildren(h("div", {class: "stack"},
    h("div", {class: "row spread"}, h("div", {}, h("h1", {}, "Watch"), h("p", {class: "soft"}, "Every change, as this node applies it.")), state),
    h("div", {class: "row"}, h("label", {for: "watch-prefix"}, "Keys that begin with"), prefix, h("label", {for: "watch-kinds", class: "skip"}, "Kinds"), kinds, pause, clear),
    h("section", {class: "card"}, none, list)));
  start();
  return {close() { life.abort(); clearTimeout(drawing); }};
}
