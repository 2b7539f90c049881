// Keys: a tree by separator, a search by prefix, and the chosen key beside it.

import {getJson} from "./api.js";
import {h, say} from "./dom.js";
import {openEntry, askForNew} from "./entry.js";
import {afterPrefix, bytesOf, encodeText, fromAddress, inAddress, inQuery, shownKey} from "./values.js";

const PAGE = 400;
const PAGES_MAX = 6;
const CHILDREN_MAX = 300;

const join = (a, b) => Uint8Array.from([...a, ...b]);

/** Folders and keys directly below `prefix`, from `start` on. Whole folders are skipped, not read. */
async function childrenOf(prefix, separator, start) {
  const end = afterPrefix(prefix), found = [];
  let from = start || prefix;
  for (let page = 0; page < PAGES_MAX && from !== null && found.length < CHILDREN_MAX; page += 1) {
    const range = `start=${inQuery(from)}${end ? `&end=${inQuery(end)}` : ""}`;
    const {items, cursor} = await getJson(`/v1/kv?${range}&keys_only=true&limit=${PAGE}`);
    let last = null;
    for (const item of items) {
      const data = bytesOf(item, "key");
      if (last && last.folder && startsWith(data, last.data)) { last.count += 1; continue; }
      const at = separator === null ? -1 : data.indexOf(separator, prefix.length);
      last = at < 0 ? {data, folder: false} : {data: data.slice(0, at + 1), folder: true, count: 1};
      found.push(last);
    }
    if (cursor === null) return {found, more: null};
    const lastKey = bytesOf(items.at(-1), "key");
    from = last.folder ? afterPrefix(last.data) : join(lastKey, [0]);
    if (last.folder) last.many = true;
  }
  return {found, more: from};
}
const startsWith = (data, prefix) => data.length >= prefix.length && prefix.every((byte, at) => byte === data[at]);

export function open(view, argument) {
  let current = null;
  const search = h("input", {id: "search", type: "search", class: "wide mono", placeholder: "keys that begin with …"});
  const separator = h("select", {id: "separator"}, h("option", {value: "/"}, "/"), h("option", {value: "."}, "."), h("option", {value: ":"}, ":"), h("option", {value: "-"}, "-"), h("option", {value: ""}, "flat"));
  const tree = h("nav", {class: "card tree", "aria-label": "Keys"});
  const pane = h("section", {class: "card pad", "aria-label": "The chosen key"});
  const fresh = h("button", {type: "button", class: "primary", onclick: () => askForNew(search.value, key => choose(key))}, "New key");
  const reload = h("button", {type: "button", onclick: () => fill()}, "Reload");

  const separatorByte = () => (separator.value ? separator.value.charCodeAt(0) : null);

  function leaf(data, prefix) {
    const button = h("button", {type: "button", class: "leaf mono", onclick: () => choose(data), "data-key": inAddress(data)}, shownKey(data.slice(prefix.length)) || shownKey(data));
    if (current && inAddress(current) === inAddress(data)) button.setAttribute("aria-current", "true");
    return h("li", {}, button);
  }

  function folder(one, prefix) {
    const inner = h("ul", {hidden: true});
    const button = h("button", {type: "button", class: "folder mono", "aria-expanded": "false"}, shownKey(one.data.slice(prefix.length)), h("span", {class: "soft small"}, one.many ? "many" : String(one.count)));
    button.addEventListener("click", async () => {
      const open = button.getAttribute("aria-expanded") === "true";
      button.setAttribute("aria-expanded", String(!open));
      inner.hidden = open;
      if (!open && !inner.children.length) await grow(inner, one.data, null);
    });
    return h("li", {}, button, inner);
  }

  async function grow(list, prefix, start) {
    const wait = h("li", {class: "soft small"}, "…");
    list.append(wait);
    try {
      const {found, more} = await childrenOf(prefix, separatorByte(), start);
      list.append(...found.map(one => (one.folder ? folder(one, prefix) : leaf(one.data, prefix))));
      if (more !== null) {
        const next = h("li", {}, h("button", {type: "button", class: "quiet", onclick: () => { next.remove(); grow(list, prefix, more); }}, "more …"));
        list.append(next);
      }
      if (!found.length && !start) list.append(h("li", {class: "empty"}, prefix.length ? "No key begins so." : "No keys yet."));
    } catch (error) {
      list.append(h("li", {class: "bad small"}, error.message));
    }
    wait.remove();
  }

  function fill() {
    const list = h("ul", {});
    tree.replaceChildren(list);
    return grow(list, encodeText(search.value), null);
  }

  function choose(data) {
    const target = `keys:${inAddress(data)}`;
    if (location.hash.slice(1) !== target) location.hash = target; else go(inAddress(data));
  }

  function go(address) {
    current = address ? fromAddress(address) : null;
    for (const button of tree.querySelectorAll(".leaf")) {
      if (button.dataset.key === address) button.setAttribute("aria-current", "true"); else button.removeAttribute("aria-current");
    }
    if (current) openEntry(pane, current, () => fill());
    else pane.replaceChildren(h("p", {class: "empty"}, "Choose a key to see its value, its history and its lease."));
  }

  let typing = 0;
  search.addEventListener("input", () => { clearTimeout(typing); typing = setTimeout(fill, 180); });
  separator.addEventListener("change", fill);
  view.replaceChildren(h("div", {class: "stack"},
    h("div", {class: "row spread"}, h("h1", {}, "Keys"), h("div", {class: "row"}, reload, fresh)),
    h("div", {class: "row"}, h("label", {for: "search", class: "skip"}, "Search by prefix"), search, h("label", {for: "separator"}, "folders by"), separator),
    h("div", {class: "keys"}, tree, pane)));
  fill();
  go(argument);
  return {go};
}
