// One key: its value in three forms, its lease, its history with differences; edit, restore, delete, undo.
// Every write is a compare-and-swap on what is shown: nothing that somebody else wrote meanwhile is lost.

import {Refused, call, getJson} from "./api.js";
import {ask, bytes, count, duration, h, say, toast} from "./dom.js";
import {bytesOf, difference, encodeText, formFor, inAddress, jsonOf, shownAs, shownKey, textOf} from "./values.js";

const HISTORY = 100;
const FORMS = [["text", "Text"], ["json", "JSON"], ["hex", "Hex"]];
const pathOf = key => `/v1/kv/${inAddress(key)}`;

const changedMeanwhile = error => error instanceof Refused && error.status === 412;

/** Write if the key is still at `revision` (0: if it is absent). */
async function swap(key, value, revision, lease) {
  const guard = revision ? {"If-Match": `"${revision}"`} : {"If-None-Match": "*"};
  const query = lease ? `?lease=${lease}` : "";
  return (await call("PUT", pathOf(key) + query, {headers: guard, body: value})).json();
}

async function read(key) {
  try {
    const {items, more, compacted_revision} = await getJson(`${pathOf(key)}?history=true&limit=${HISTORY}`);
    return {items, more, compacted_revision, now: items.length && items[0].type === "put" ? items[0] : null};
  } catch (error) {
    if (error instanceof Refused && error.status === 404) return {items: [], more: false, now: null};
    throw error;
  }
}

/** The current item, also if compaction took its history away. */
async function readNow(key) {
  const found = await read(key);
  if (found.now) return found;
  const listed = await getJson(`/v1/kv?start=${inAddress(key).replaceAll("/", "%2F")}&end=${inAddress(key).replaceAll("/", "%2F")}%00`);
  return {...found, now: listed.items[0] || null};
}

function differenceView(before, after, names) {
  const form = formFor(before) === "hex" || formFor(after) === "hex" ? "hex" : formFor(after);
  const lines = difference(shownAs(before, form), shownAs(after, form));
  const changed = lines.some(([kind]) => kind);
  return h("div", {}, h("p", {class: "small soft"}, `− ${names[0]}, + ${names[1]}`),
    changed ? h("div", {class: "diff", tabindex: 0, role: "group", "aria-label": "Difference"}, lines.map(([kind, line]) => h("div", {class: kind}, line)))
      : h("p", {class: "soft"}, "The values are equal."));
}

function editor(title, value, note, save) {
  return ask(title, close => {
    const text = textOf(value);
    const area = h("textarea", {class: "mono", id: "new-value", spellcheck: "false", value: text === null ? "" : text});
    const problem = h("p", {class: "bad small", role: "alert"});
    const form = h("form", {method: "dialog"}, h("p", {class: "soft small"}, text === null ? "This value is no text: what you write replaces all of it." : note),
      h("label", {for: "new-value"}, "Value"), area, problem,
      h("div", {class: "actions"}, h("button", {type: "button", onclick: () => close()}, "Cancel"), h("button", {class: "primary"}, "Save")));
    form.addEventListener("submit", async event => {
      event.preventDefault();
      try {
        await save(encodeText(area.value));
        close(true);
      } catch (error) {
        say(problem, changedMeanwhile(error) ? "Not saved: somebody changed this key meanwhile. Close this, look, and edit again." : `Not saved: ${error.message}`);
      }
    });
    return form;
  });
}

/** Ask for a key and a value that are to be written if the key is absent. */
export function askForNew(prefix, done) {
  return ask("New key", close => {
    const name = h("input", {id: "new-key", class: "mono", required: true, value: prefix});
    const area = h("textarea", {class: "mono", id: "new-value", spellcheck: "false"});
    const ttl = h("input", {id: "new-ttl", type: "number", min: 2, placeholder: "for ever"});
    const problem = h("p", {class: "bad small", role: "alert"});
    const form = h("form", {method: "dialog"},
      h("div", {class: "field"}, h("label", {for: "new-key"}, "Key"), name), h("div", {class: "field"}, h("label", {for: "new-value"}, "Value"), area),
      h("div", {class: "field"}, h("label", {for: "new-ttl"}, "Seconds that it lasts"), ttl), problem,
      h("div", {class: "actions"}, h("button", {type: "button", onclick: () => close()}, "Cancel"), h("button", {class: "primary"}, "Create")));
    form.addEventListener("submit", async event => {
      event.preventDefault();
      const key = encodeText(name.value);
      try {
        await call("PUT", pathOf(key) + (ttl.value ? `?ttl=${ttl.value}` : ""), {headers: {"If-None-Match": "*"}, body: encodeText(area.value)});
        close(true);
        done(key);
      } catch (error) {
        say(problem, changedMeanwhile(error) ? "There is such a key already." : `Not created: ${error.message}`);
      }
    });
    return form;
  });
}

function leaseView(lease) {
  const left = h("b", {}, "…");
  getJson(`/v1/leases/${lease}`).then(found => say(left, `${duration(found.left_s)} left of ${found.ttl_s} s`)).catch(error => say(left, error.message));
  return h("span", {}, "lease ", h("b", {class: "mono"}, lease), ", ", left);
}

export async function openEntry(pane, key, changed) {
  const address = inAddress(key);
  pane.dataset.key = address;
  pane.setAttribute("aria-busy", "true");
  let found;
  try { found = await readNow(key); } catch (error) {
    if (pane.dataset.key === address) pane.replaceChildren(h("h2", {class: "title"}, shownKey(key)), h("p", {class: "bad"}, error.message));
    return;
  } finally { pane.removeAttribute("aria-busy"); }
  if (pane.dataset.key !== address) return;
  const again = () => openEntry(pane, key, changed);
  const {now, items} = found;
  const value = now ? bytesOf(now, "value") : null;

  async function remove() {
    try { await call("DELETE", pathOf(key), {headers: {"If-Match": `"${now.mod_revision}"`}}); } catch (error) {
      toast(changedMeanwhile(error) ? "Not deleted: somebody changed this key meanwhile." : `Not deleted: ${error.message}`);
      return again();
    }
    toast(`Deleted ${shownKey(key)}`, {name: "Undo", run: async () => {
      try { await swap(key, value, 0, now.lease); toast(`${shownKey(key)} is back`); } catch (error) {
        toast(changedMeanwhile(error) ? "Not undone: somebody wrote this key meanwhile." : `Not undone: ${error.message}`);
      }
      changed(); again();
    }}, 20);
    changed();
    return again();
  }

  const save = async data => {
    await swap(key, data, now ? now.mod_revision : 0, now && now.lease);
    toast(`Saved ${shownKey(key)}`);
    changed(); again();
  };
  const edit = () => editor(`Edit ${shownKey(key)}`, value || new Uint8Array(), now ? `Saved only if the key is still at revision ${now.mod_revision}.` : "Saved only if the key is still absent.", save);

  function restore(item) {
    const old = bytesOf(item, "value");
    return ask(`Restore revision ${item.mod_revision}`, close => {
      const problem = h("p", {class: "bad small", role: "alert"});
      return h("div", {class: "stack"}, differenceView(value || new Uint8Array(), old, ["now", `revision ${item.mod_revision}`]), problem,
        h("div", {class: "row spread"}, h("span", {class: "soft small"}, now ? `Written only if the key is still at revision ${now.mod_revision}.` : "Written only if the key is still absent."),
          h("div", {class: "row"}, h("button", {type: "button", onclick: () => close()}, "Cancel"), h("button", {type: "button", class: "primary", onclick: async () => {
            try { await save(old); close(true); } catch (error) {
              say(problem, changedMeanwhile(error) ? "Not restored: somebody changed this key meanwhile." : `Not restored: ${error.message}`);
            }
          }}, "Restore"))));
    });
  }

  pane.replaceChildren(h("div", {class: "stack"}, head(key, now, {edit, remove}), now ? valueView(value) : h("p", {class: "soft"}, items.length ? "It is deleted." : "There is no such key."), historyView(found, restore)));
}

function head(key, now, {edit, remove}) {
  const actions = h("div", {class: "row"}, h("button", {type: "button", onclick: edit}, now ? "Edit" : "Write"),
    now ? h("button", {type: "button", class: "danger", onclick: remove}, "Delete") : null);
  const facts = now ? h("p", {class: "meta"}, h("span", {}, "revision ", h("b", {}, count(now.mod_revision))), h("span", {}, "created at ", h("b", {}, count(now.create_revision))),
    h("span", {}, "version ", h("b", {}, count(now.version))), now.lease ? leaseView(now.lease) : null) : null;
  return h("div", {class: "stack"}, h("div", {class: "row spread"}, h("h2", {class: "title"}, shownKey(key)), actions), facts);
}

function valueView(value) {
  const body = h("pre", {class: "value mono", tabindex: 0, "aria-label": "The value"});
  const forms = FORMS.filter(([form]) => form !== "json" || jsonOf(value) !== null).filter(([form]) => form !== "text" || textOf(value) !== null);
  const buttons = h("div", {class: "segmented", role: "group", "aria-label": "Show as"}, forms.map(([form, title]) => h("button", {type: "button", "data-form": form, onclick: () => choose(form)}, title)));
  function choose(form) {
    for (const button of buttons.children) button.setAttribute("aria-pressed", String(button.dataset.form === form));
    say(body, value.length ? shownAs(value, form) : "(empty)");
  }
  choose(formFor(value));
  return h("div", {class: "stack"}, h("div", {class: "row spread"}, h("h3", {}, "Value"), h("div", {class: "row"}, h("span", {class: "soft small"}, bytes(value.length)), buttons)), body);
}

function historyView(found, restore) {
  const {items, more, compacted_revision} = found;
  const area = h("div", {});
  const previews = items.map(item => (item.type === "put" ? bytesOf(item, "value") : null));
  const rows = items.map((item, at) => {
    const older = previews.slice(at + 1).find(Boolean);
    const buttons = item.type === "put" ? h("div", {class: "row"},
      older ? h("button", {type: "button", class: "small", "aria-label": `Difference of revision ${item.mod_revision} to the one before`, onclick: () => area.replaceChildren(differenceView(older, previews[at], ["before", `revision ${item.mod_revision}`]))}, "Difference") : null,
      at > 0 || !found.now ? h("button", {type: "button", class: "small", "aria-label": `Restore revision ${item.mod_revision}`, onclick: () => restore(item)}, "Restore") : h("span", {class: "chip"}, "now")) : null;
    const preview = item.type === "put" ? shownAs(previews[at].slice(0, 120), formFor(previews[at]) === "hex" ? "hex" : "text").split("\n")[0] : "";
    return h("tr", {"data-revision": item.mod_revision}, h("td", {class: "mono"}, count(item.mod_revision)), h("td", {}, h("span", {class: `chip ${item.type === "put" ? "" : "bad"}`}, item.type === "put" ? "put" : "delete")),
      h("td", {class: "preview mono soft"}, preview), h("td", {}, buttons));
  });
  const end = more ? "older ones are not shown" : compacted_revision > 1 ? `what is older than revision ${count(compacted_revision)} is compacted` : "from its beginning";
  return h("div", {class: "stack"}, h("div", {class: "row spread"}, h("h3", {}, "History"), h("span", {class: "soft small"}, end)),
    rows.length ? h("div", {class: "history", tabindex: 0, role: "group", "aria-label": "History"}, h("table", {}, h("thead", {}, h("tr", {}, h("th", {scope: "col"}, "Revision"), h("th", {scope: "col"}, "What"), h("th", {scope: "col"}, "Value"), h("th", {scope: "col"}, "Actions"))), h("tbody", {}, rows))) : null, area);
}
