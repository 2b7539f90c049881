// The cluster: its nodes side by side, what is wrong in words, and who led when and why.

import {Refused, call, getJson} from "./api.js";
import {ago, bytes, clock, count, dress, duration, h, milliseconds, nodeColour, say, toast} from "./dom.js";

const FACTS = [
  ["ballot", "Ballot"], ["applied", "Applied through"], ["chosen", "Chosen through"], ["lag", "Lag"],
  ["commit", "Disk, a commit"], ["trip", "Round trip"], ["memory", "Memory"], ["logBytes", "Log on disk"],
  ["version", "Version"], ["up", "Up for"],
];
const HOUR_MS = 3600_000;

function card(id) {
  const parts = {};
  const facts = FACTS.map(([name, title]) => h("div", {}, h("dt", {}, title), parts[name] = h("dd", {}, "–")));
  parts.role = h("span", {class: "chip"});
  parts.since = h("p", {class: "small soft"});
  parts.bar = h("span");
  parts.barText = h("span", {class: "small soft"});
  parts.box = h("article", {class: "card node", style: {"--colour": nodeColour(id)}, "aria-label": `node ${id}`, "data-node": id},
    h("div", {class: "row spread"}, h("h2", {}, `Node ${id}`), parts.role), parts.since,
    h("dl", {class: "facts"}, facts),
    h("div", {}, h("div", {class: "bar", "aria-hidden": "true"}, parts.bar), parts.barText));
  return parts;
}

function heardOf(id, overview) {
  const told = overview.nodes.filter(node => node.document && node.id !== id)
    .map(node => node.document.cluster.members.find(member => member.id === id)).filter(Boolean);
  const known = told.map(member => member.silent_s).filter(value => value !== null);
  return {silent_s: known.length ? Math.min(...known) : null, member: told[0] || null};
}

function fillAway(parts, node, overview) {
  const {silent_s, member} = heardOf(node.id, overview);
  dress(parts.box, "card node away");
  dress(parts.role, "chip bad");
  dress(parts.since, "small bad");
  say(parts.role, "away");
  say(parts.since, silent_s === null ? `never heard; ${node.trouble}` : `last heard ${ago(silent_s)}: ${node.trouble}`);
  for (const [name] of FACTS) say(parts[name], "–");
  if (member && member.lag !== null) say(parts.lag, `${count(member.lag)} slots`);
  parts.bar.style.width = "0";
  say(parts.barText, "");
}

function fill(parts, node, overview, top) {
  const {document: report} = node;
  const {cluster, load} = report;
  const own = cluster.members.find(member => member.id === node.id) || {};
  const learner = own.kind === "learner" || cluster.node.role === "learner" || !report.voters.includes(node.id);
  dress(parts.box, "card node");
  dress(parts.role, cluster.node.role === "leader" ? "chip leader" : cluster.node.ready ? "chip" : "chip warn");
  say(parts.role, `${cluster.node.role === "leader" ? "★ " : ""}${learner ? "learner, no vote" : cluster.node.role}`);
  say(parts.since, cluster.node.ready ? own.client_address || "" : cluster.node.reason);
  dress(parts.since, cluster.node.ready ? "small soft" : "small bad");
  const leader = overview.nodes.find(other => other.document && other.document.cluster.node.role === "leader");
  const trip = leader ? leader.document.round_trips_ms[node.id] : undefined;
  say(parts.ballot, cluster.ballot);
  say(parts.applied, count(cluster.applied_through));
  say(parts.chosen, count(cluster.chosen_through));
  say(parts.lag, cluster.lag ? `${count(cluster.lag)} slots` : "none");
  say(parts.commit, milliseconds(load.commit_ms));
  say(parts.trip, leader === node ? "leads" : milliseconds(trip));
  say(parts.memory, bytes(load.memory_bytes));
  say(parts.logBytes, bytes(load.log_bytes));
  say(parts.version, report.version);
  say(parts.up, duration(report.uptime_s));
  parts.bar.style.width = `${top ? (100 * cluster.applied_through) / top : 100}%`;
  const behind = top - cluster.applied_through;
  say(parts.barText, behind > 500 ? `${count(behind)} slots behind the furthest` : "keeps up with the others");
}

function showVerdict(box, list, overview) {
  const {findings, nodes} = overview;
  const worst = findings.some(one => one.severity === "bad") ? "bad" : findings.length ? "warn" : "";
  dress(box, `card verdict ${worst}`);
  const signature = JSON.stringify(findings);
  if (list.dataset.signature === signature) return;
  list.dataset.signature = signature;
  if (!findings.length) {
    const {quorum} = nodes.find(node => node.document).document;
    const spare = nodes.find(node => node.document).document.voters.length - quorum;
    list.replaceChildren(h("li", {}, h("strong", {class: "good"}, `All ${nodes.length} nodes answer and agree.`),
      h("span", {class: "soft"}, `A write needs ${quorum} of them: ${spare ? `${spare} may be away` : "none may be away"}.`)));
    return;
  }
  list.replaceChildren(...findings.map(one => h("li", {class: one.severity, "data-kind": one.kind},
    h("strong", {}, one.text.charAt(0).toUpperCase() + one.text.slice(1)), h("span", {class: "soft"}, one.advice))));
}

/** Who led, as the node with the longest memory saw it. */
function historyOf(overview) {
  const told = overview.nodes.filter(node => node.document).map(node => node.document.leaders);
  return told.reduce((best, one) => (!best.length || (one.length && one[0].at_ms < best[0].at_ms) ? one : best), []);
}

function showHistory(bar, list, caption, overview) {
  const changes = historyOf(overview);
  const signature = `${changes.length}:${changes.length ? changes.at(-1).at_ms : 0}:${Math.floor(Date.now() / 10000)}`;
  if (bar.dataset.signature === signature) return;
  bar.dataset.signature = signature;
  const now = Date.now();
  const from = Math.max(now - HOUR_MS, changes.length ? changes[0].at_ms : now - 60000);
  const spans = changes.map((change, at) => ({...change, end: at + 1 < changes.length ? changes[at + 1].at_ms : now}))
    .filter(span => span.end > from);
  bar.replaceChildren(...spans.map(span => {
    const share = (100 * (span.end - Math.max(span.at_ms, from))) / Math.max(1, now - from);
    const text = span.leader === null ? "nobody" : `node ${span.leader}`;
    const style = {width: `${share}%`, background: span.leader === null ? "transparent" : nodeColour(span.leader)};
    return h("span", {style, title: `${text} from ${clock(span.at_ms)}: ${span.reason}`}, share > 9 ? text : "");
  }));
  say(caption, `${clock(from)} to now`);
  list.replaceChildren(...changes.slice(-40).reverse().map(change => h("li", {},
    h("span", {class: "soft"}, clock(change.at_ms)),
    h("b", {}, change.leader === null ? "no leader" : h("span", {}, h("span", {class: "dot", style: {"--colour": nodeColour(change.leader)}}), `node ${change.leader}`)),
    h("span", {class: "why"}, change.reason, h("span", {class: "soft"}, ` (ballot ${change.ballot})`)))));
}

/** What the nodes kept by themselves: fetched anew when one of them says that it kept more. */
function keptIncidents() {
  const list = h("ol", {class: "changes kept", tabindex: 0, "aria-label": "Incidents that the nodes kept, newest first"});
  const box = h("section", {class: "card pad", id: "incidents", hidden: true}, h("div", {class: "row spread"}, h("h2", {}, "Kept by the nodes themselves"),
    h("span", {class: "soft small"}, h("code", {}, "kvstore incident show FILE"), " tells a file")), list);
  let known = "";
  async function download(atMs) {
    try {
      const file = URL.createObjectURL(await (await call("GET", `/v1/incidents/${atMs}`)).blob());
      h("a", {href: file, download: `${new Date(atMs).toISOString().slice(0, 19).replaceAll(":", "-")}.incident`}).click();
      setTimeout(() => URL.revokeObjectURL(file), 60000);
    } catch (error) { toast(error.message); }
  }
  function row({at_ms: atMs, kept}) {
    return h("li", {}, h("span", {class: "soft"}, clock(atMs)), h("span", {class: "why"}, kept.map(one => h("div", {}, h("b", {}, `node ${one.node}`), ` ${one.causes.join("; ")}`))),
      h("button", {type: "button", class: "small", "aria-label": `Save the incident of ${clock(atMs)} as a file`, onclick: () => download(atMs)}, "Save"));
  }
  return {box, async update(overview) {
    const told = JSON.stringify(overview.nodes.map(node => node.document && node.document.incidents));
    if (told === known) return;
    known = told;
    box.hidden = !overview.nodes.some(node => node.document && (node.document.incidents || []).length);
    if (box.hidden) return;
    try { list.replaceChildren(...(await getJson("/v1/incidents")).incidents.reverse().map(row)); }
    catch (error) { list.replaceChildren(h("li", {}, error instanceof Refused && error.status === 403 ? "To see them takes the scope cluster." : error.message)); }
  }};
}

const TOTALS = [["leader", "Leader"], ["writes", "Writes/s"], ["p99", "Write p99"], ["revision", "Revision"], ["watchers", "Streams"], ["clients", "Connections"]];

function showTotals(parts, overview) {
  const alive = overview.nodes.filter(node => node.document).map(node => node.document);
  const leader = alive.find(report => report.cluster.node.role === "leader");
  const most = name => Math.max(0, ...alive.map(report => report.load[name] || 0));
  const sum = name => alive.reduce((total, report) => total + (report.load[name] || 0), 0);
  say(parts.leader, leader ? `node ${leader.cluster.node.id}` : "none");
  say(parts.writes, count(most("writes_per_s")));
  say(parts.p99, milliseconds(most("write_p99_ms")));
  say(parts.revision, count(Math.max(0, ...alive.map(report => report.cluster.revision))));
  say(parts.watchers, count(sum("streams")));
  say(parts.clients, count(sum("connections")));
}

export function open(view) {
  const cards = new Map(), totals = {};
  const verdictList = h("ul", {});
  const verdict = h("section", {class: "card verdict", "aria-label": "What is wrong"}, verdictList);
  const nodes = h("div", {class: "nodes"});
  const bar = h("div", {class: "reigns", role: "img", "aria-label": "Who led, over time; the list below says the same"});
  const list = h("ol", {class: "changes", tabindex: 0, "aria-label": "Changes of the leader, newest first"});
  const caption = h("span", {class: "soft small"});
  const incidents = keptIncidents();
  const bound = h("div", {class: "card totals"}, TOTALS.map(([name, title]) => h("div", {}, h("dl", {}, h("dt", {}, title), totals[name] = h("dd", {}, "–")))));
  view.replaceChildren(h("div", {class: "stack"}, h("h1", {}, "Cluster"), verdict, bound, nodes,
    h("section", {class: "card pad"}, h("div", {class: "row spread"}, h("h2", {}, "Who led, and why that changed"), caption), bar, list), incidents.box));
  return {
    update(overview) {
      const top = Math.max(0, ...overview.nodes.filter(node => node.document).map(node => node.document.cluster.applied_through));
      for (const node of overview.nodes) {
        if (!cards.has(node.id)) {
          cards.set(node.id, card(node.id));
          nodes.append(cards.get(node.id).box);
        }
        const parts = cards.get(node.id);
        if (node.document) fill(parts, node, overview, top); else fillAway(parts, node, overview);
      }
      for (const [id, parts] of cards) {
        if (!overview.nodes.some(node => node.id === id)) { parts.box.remove(); cards.delete(id); }
      }
      showVerdict(verdict, verdictList, overview);
      showTotals(totals, overview);
      showHistory(bar, list, caption, overview);
      incidents.update(overview);
    },
  };
}
