// Backups: what each has said of itself: how old it is, when the next whole copy comes, how the last drill went.

import {Refused, call, getJson} from "./api.js";
import {ago, ask, count, duration, h, say, toast} from "./dom.js";

const PERIOD_MS = 10000;
const when = ms => new Date(ms).toLocaleString("en-GB", {dateStyle: "medium", timeStyle: "short"});
const until = ms => ms === null ? "nobody said when" : ms < Date.now() ? "due now" : `in ${duration((ms - Date.now()) / 1000)}`;

function fact(name, ...shown) {
  return [h("dt", {}, name), h("dd", {}, ...shown)];
}

function drillOf({drill}) {
  if (!drill) return [h("span", {class: "chip warn"}, "never"), " a backup is worth what its restore is"];
  return [h("span", {class: `chip ${drill.ok ? "good" : "bad"}`}, drill.ok ? "went well" : "FAILED"), ` ${when(drill.time_ms)}`, drill.next_ms === null ? "" : `; next ${until(drill.next_ms)}`,
    drill.ok ? null : h("span", {class: "bad drill-said"}, drill.said)];
}

function card(backup, forget) {
  return h("article", {class: `card pad stack backup ${backup.late ? "late" : ""}`, "data-backup": backup.name},
    h("div", {class: "row spread"}, h("h2", {}, backup.name), h("div", {class: "row"}, h("span", {class: `chip ${backup.late ? "bad" : "good"}`}, backup.late ? "late" : "fresh"),
      h("button", {type: "button", class: "small", "aria-label": `Forget ${backup.name}`, onclick: () => forget(backup.name)}, "Forget"))),
    h("dl", {class: "facts"},
      ...fact(backup.continuous ? "Everything is kept up to" : "Made", ago(backup.age_s)), ...fact("Kept through revision", count(backup.revision)),
      ...fact("Kind", backup.continuous ? "continuous: every change" : "a whole copy"), ...fact("Last whole copy", backup.base_ms ? when(backup.base_ms) : "–"),
      ...fact("Next whole copy", until(backup.next_ms)), ...fact("Last drill", ...drillOf(backup)),
      ...fact("Where", h("span", {class: "mono"}, backup.place)), ...fact("May be as old as", backup.fresh_s === null ? "nobody said" : duration(backup.fresh_s))));
}

const NONE = () => h("section", {class: "card pad stack"}, h("p", {}, "No backup has told this store of itself. A deletion by mistake is replicated, too."),
  h("pre", {class: "value mono", tabindex: 0, "aria-label": "Command"}, "kvstore backup --follow /backups/shop --drill daily"));

export function open(view) {
  const body = h("div", {class: "stack"}), state = h("p", {class: "soft", role: "status"});
  view.replaceChildren(h("div", {class: "stack"}, h("div", {class: "row spread"}, h("div", {}, h("h1", {}, "Backups"), state), h("button", {type: "button", onclick: () => fill()}, "Reload")), body));
  let closed = false, shown = "";

  async function forget(name) {
    const sure = await ask(`Forget ${name}`, close => h("div", {class: "stack"}, h("p", {}, "Its files stay. What still runs tells of itself again within a minute."),
      h("div", {class: "row spread"}, h("button", {type: "button", onclick: () => close(false)}, "Cancel"), h("button", {type: "button", class: "primary", onclick: () => close(true)}, "Forget"))), true);
    if (!sure) return;
    try { await call("DELETE", `/v1/backups/${encodeURIComponent(name).replaceAll(".", "%2E")}`); toast(`Forgot ${name}`); } catch (error) { toast(`Not forgotten: ${error.message}`); }
    fill();
  }

  async function fill() {
    try {
      const {backups} = await getJson("/v1/backups");
      if (closed) return;
      const late = backups.filter(one => one.late).length;
      say(state, !backups.length ? "None is known." : late ? `${late} of ${backups.length} late` : `${backups.length} known, none of them late`);
      // What has the focus stays: cards are made anew only if they differ.
      const told = JSON.stringify(backups.map(one => ({...one, age_s: duration(one.age_s)})));
      if (told === shown) return;
      shown = told;
      body.replaceChildren(backups.length ? h("div", {class: "nodes"}, backups.map(one => card(one, forget))) : NONE());
    } catch (error) {
      if (closed) return;
      shown = "";
      say(state, "");
      body.replaceChildren(h("p", {class: "bad"}, error instanceof Refused && error.status === 403 ? "To see backups takes the scope backup." : error.message));
    }
  }
  const timer = setInterval(() => { if (!document.hidden && !document.querySelector("dialog")) fill(); }, PERIOD_MS);
  fill();
  return {close() { closed = true; clearInterval(timer); }};
}
