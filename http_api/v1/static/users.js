// Users: whether authentication is on, who one is, and who may do what. No secret is shown: the API tells none.

import {Refused, getJson, postJson} from "./api.js";
import {ask, h, say, toast} from "./dom.js";

const SCOPES = {
  cluster: "hand leadership over, change members, compact, the flight recorder", backup: "a copy of the whole state",
  users: "change users and roles", watch: "watch every key", metrics: "metrics, and the status of nodes",
};
const USERS_MAX = 500;
const ROLES_MAX = 200;
const ROLES_AT_ONCE = 4;
const inPath = name => encodeURIComponent(name).replaceAll(".", "%2E");

/** What a permission is on, in words. */
function keysOf(permission) {
  for (const kind of ["key", "prefix", "start"]) {
    const plain = permission[kind], coded = permission[`${kind}_base64`];
    if (plain === undefined && coded === undefined) continue;
    const text = plain === undefined ? `base64 ${coded}` : plain;
    if (kind === "key") return text;
    if (kind === "prefix") return text === "" ? "every key" : `${text}…`;
    const end = permission.end === undefined ? permission.end_base64 && `base64 ${permission.end_base64}` : permission.end;
    return end === undefined ? `from ${text} on` : `${text} up to ${end}`;
  }
  return "every key";
}

async function roleOf(name) {
  try { return await getJson(`/v1/roles/${inPath(name)}`); } catch (error) { return {name, permissions: [], scopes: [], trouble: error.message}; }
}

/** Everything that the caller may see: `all` users and roles, or only itself and its own. */
async function gather(own) {
  let names, users, all = true;
  try {
    users = (await getJson("/v1/users")).users;
    names = (await getJson("/v1/roles")).roles;
  } catch (error) {
    if (!(error instanceof Refused && error.status === 403)) throw error;
    all = false;
    users = [await getJson(`/v1/users/${inPath(own)}`)];
    names = users[0].roles;
  }
  const roles = new Map(), wanted = names.slice(0, ROLES_MAX);
  for (let at = 0; at < wanted.length; at += ROLES_AT_ONCE) {
    for (const role of await Promise.all(wanted.slice(at, at + ROLES_AT_ONCE).map(roleOf))) roles.set(role.name, role);
  }
  const more = Math.max(0, users.length - USERS_MAX) + Math.max(0, names.length - ROLES_MAX);
  return {users: users.slice(0, USERS_MAX), roles, all, more};
}

const rights = role => [
  ...(role.name === "root" ? [h("li", {}, h("span", {class: "chip warn"}, "everything"))] : []),
  ...role.permissions.map(one => h("li", {}, h("span", {class: "chip"}, one.right), " ", h("span", {class: "mono"}, keysOf(one)))),
  ...role.scopes.map(scope => h("li", {}, h("span", {class: "chip leader"}, `scope ${scope}`), ` ${SCOPES[scope] || ""}`)),
  ...(role.trouble ? [h("li", {class: "bad"}, role.trouble)] : []),
];

function roleRow(role, users) {
  const found = rights(role);
  const holders = users.filter(user => user.roles.includes(role.name)).map(user => user.name);
  return h("tr", {"data-role": role.name}, h("th", {scope: "row"}, role.name),
    h("td", {}, found.length ? h("ul", {class: "rights"}, found) : h("span", {class: "soft"}, "nothing")), h("td", {class: "mono"}, holders.join(", ") || "–"));
}

function userRow(user, roles, own, again) {
  const may = user.roles.flatMap(name => rights(roles.get(name) || {name, permissions: [], scopes: []}));
  const out = again && h("button", {type: "button", class: "small danger", "aria-label": `End tokens of ${user.name}`, onclick: () => endTokens(user.name, again)}, "End tokens");
  return h("tr", {"data-user": user.name}, h("th", {scope: "row"}, user.name, user.name === own ? h("span", {class: "chip good"}, "you") : null),
    h("td", {class: "mono"}, user.roles.join(", ") || "–"), h("td", {}, may.length ? h("ul", {class: "rights"}, may) : h("span", {class: "soft"}, "nothing")),
    h("td", {}, user.password ? "password" : "certificate only"), h("td", {}, out));
}

async function endTokens(name, again) {
  const sure = await ask("End tokens", close => h("div", {class: "stack"}, h("p", {}, `Whoever is logged in as ${name} has to log in again, on every machine.`),
    h("div", {class: "row spread"}, h("button", {type: "button", onclick: () => close(false)}, "Cancel"), h("button", {type: "button", class: "primary", onclick: () => close(true)}, "End them"))), true);
  if (!sure) return;
  try {
    await postJson(`/v1/users/${inPath(name)}/logout`, {});
    toast(`All tokens of ${name} have ended`);
  } catch (error) { toast(`Not done: ${error.message}`); }
  again();
}

function table(caption, heads, rows) {
  return h("section", {class: "card"}, h("div", {class: "scroll", tabindex: 0, role: "group", "aria-label": caption}, h("table", {},
    h("caption", {class: "pad"}, h("h2", {}, caption)), h("thead", {}, h("tr", {}, heads.map(text => h("th", {scope: "col"}, text)))), h("tbody", {}, rows))));
}

export function open(view) {
  const body = h("div", {class: "stack", "aria-busy": "true"}, h("p", {class: "soft"}, "…"));
  const who = h("p", {class: "soft", role: "status"});
  view.replaceChildren(h("div", {class: "stack"}, h("div", {class: "row spread"}, h("div", {}, h("h1", {}, "Users"), who), h("button", {type: "button", onclick: fill}, "Reload")), body));

  async function fill() {
    try {
      const status = await getJson("/v1/auth");
      if (!status.enabled) {
        say(who, "Authentication is off: everybody who reaches this store may do everything.");
        body.replaceChildren(h("section", {class: "card pad stack"}, h("p", {}, "To switch it on, with a password for root:"), h("pre", {class: "value mono", tabindex: 0, "aria-label": "Command"}, "kvstore auth enable")));
        return;
      }
      say(who, `You are ${status.user}. Authentication is on; users and roles are at revision ${status.revision}.`);
      const {users, roles, all, more} = await gather(status.user);
      const notes = [all ? "" : "You see yourself and your roles. Whoever has the scope users sees all.", more ? `${more} more are not shown; see kvstore user list.` : ""];
      body.replaceChildren(...notes.filter(Boolean).map(note => h("p", {class: "soft"}, note)),
        table("Who may do what", ["User", "Roles", "May", "Logs in by", "Actions"], users.map(user => userRow(user, roles, status.user, all && fill))),
        table("Roles", ["Role", "May", "Held by"], [...roles.values()].map(role => roleRow(role, users))));
    } catch (error) {
      body.replaceChildren(h("p", {class: "bad"}, error.message));
    } finally { body.removeAttribute("aria-busy"); }
  }
  fill();
  return {};
}
