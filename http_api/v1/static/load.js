// The load: plots of the last hour, and what share of a write each layer takes.

import {getJson} from "./api.js";
import {bytes, clock, count, h, milliseconds, nodeColour, say} from "./dom.js";

const LAYERS = [
  ["http_in_ms", "HTTP in", "#8fb4ff", "parsing and handing over"], ["batch_ms", "batch", "#b9a5f2", "waiting until the bundle is sealed"],
  ["commit_ms", "commit", "#f2b45c", "the log on this node's disk"], ["quorum_ms", "quorum", "#6fd0b0", "then waiting for the others, on the leader"],
  ["apply_ms", "apply", "#f29aa8", "from chosen to applied"], ["http_out_ms", "HTTP out", "#c9d07a", "writing the answers"],
];
const css = name => getComputedStyle(document.documentElement).getPropertyValue(name).trim();
const PLOTS = [
  {title: "Throughput", unit: "per second", format: count, series: [["writes_per_s", "writes", "--n1"], ["reads_per_s", "reads here", "--n2"]]},
  {title: "Latency of writes here", unit: "from request to answer", format: milliseconds, series: [["write_p50_ms", "p50", "--n1"], ["write_p99_ms", "p99", "--n3"]]},
  {title: "Latency of reads here", unit: "from request to answer", format: milliseconds, series: [["read_p50_ms", "p50", "--n2"], ["read_p99_ms", "p99", "--n4"]]},
  {title: "Disk", unit: "a commit of the log", format: milliseconds, series: [["commit_ms", "mean", "--n3"], ["commit_p99_ms", "p99", "--n5"]]},
  {title: "Queues", unit: "waiting", format: count, series: [["writes_waiting", "writes", "--n1"], ["reads_waiting", "reads", "--n2"], ["slots_in_flight", "slots in flight", "--n4"]]},
  {title: "Streams and connections", unit: "open", format: count, series: [["streams", "streams", "--n4"], ["connections", "connections", "--n6"]]},
  {title: "Memory", unit: "resident", format: bytes, series: [["memory_bytes", "process", "--n4"], ["log_bytes", "log", "--n6"]]},
  {title: "CPU", unit: "of one core", format: value => `${Math.round(100 * value)} %`, series: [["cpu_share", "process", "--n2"]]},
];

function makePlot(box, plot, data) {
  const least = plot.format === bytes ? 1024 : plot.format === count ? 4 : 1;
  const axis = {stroke: css("--soft"), grid: {stroke: css("--line"), width: 1}, ticks: {stroke: css("--line")}, font: "11px system-ui"};
  const options = {
    width: Math.max(240, box.clientWidth), height: 190, cursor: {sync: {key: "load"}, y: false}, scales: {x: {time: true}, y: {range: (_, low, high) => [0, Math.max(high * 1.1, least)]}},
    axes: [{...axis, space: 70, values: (_, ticks, __, ___, step) => ticks.map(at => clock(1000 * at).slice(0, step < 60 ? 8 : 5))}, {...axis, size: 62, values: (_, ticks) => ticks.map(value => (value ? plot.format(value) : "0"))}],
    series: [{label: "at", value: (_, at) => (at ? clock(1000 * at) : "")}, ...plot.series.map(([, label, colour]) => ({
      label, stroke: css(colour), width: 1.6, fill: `${css(colour)}1c`, points: {show: false}, value: (_, value) => (value === null || value === undefined ? "–" : plot.format(value)),
    }))],
  };
  return new uPlot(options, data, box);
}

function showShares(bar, list, load) {
  const total = LAYERS.reduce((sum, [name]) => sum + (load[name] || 0), 0);
  LAYERS.forEach(([name, label, colour, about], at) => {
    const value = load[name] || 0, share = total ? (100 * value) / total : 0;
    const part = bar.children[at];
    part.style.width = `${share}%`;
    say(part, share > 11 ? label : "");
    say(list.children[at].lastChild, `${total ? `${share.toFixed(0)} %, ${milliseconds(value)}` : "no writes now"}: ${about}`);
  });
}

export function open(view) {
  let columns = null, chosen = null, plots = [], times = [];
  const life = new AbortController();
  const choice = h("div", {class: "segmented", role: "group", "aria-label": "Node"});
  const boxes = PLOTS.map(plot => {
    const area = h("div", {}), now = h("span", {class: "soft small"});
    return {area, now, box: h("section", {class: "card plot", "aria-label": plot.title}, h("div", {class: "head"}, h("h2", {}, plot.title), h("span", {class: "soft small"}, plot.unit)), area, now)};
  });
  const bar = h("div", {class: "shares", "aria-hidden": "true"}, LAYERS.map(([, , colour]) => h("span", {style: {background: colour}})));
  const list = h("div", {class: "share-list small"}, LAYERS.map(([, label, colour]) =>
    h("div", {}, h("span", {class: "swatch", style: {background: colour}}), h("b", {}, `${label} `), h("span", {class: "soft"}))));
  view.replaceChildren(h("div", {class: "stack"},
    h("div", {class: "row spread"}, h("div", {}, h("h1", {}, "Load"), h("p", {class: "soft"}, "The last hour, kept in each node's memory. Times are of what this node's own clients asked.")), choice),
    h("section", {class: "card pad"}, h("h2", {}, "Where the time of a write goes, now"), bar, list),
    h("div", {class: "plots"}, boxes.map(one => one.box))));

  const dataOf = plot => {
    const found = columns.get(chosen);
    return [found.at_ms.map(at => at / 1000), ...plot.series.map(([name]) => found[name])];
  };

  function draw() {
    plots.forEach(plot => plot.destroy());
    plots = [];
    if (!columns || !columns.has(chosen)) return;
    plots = PLOTS.map((plot, at) => makePlot(boxes[at].area, plot, dataOf(plot)));
  }

  function choose(id) {
    chosen = id;
    for (const button of choice.children) button.setAttribute("aria-pressed", String(Number(button.dataset.node) === id));
    draw();
  }

  async function fetchAll() {
    const found = await getJson("/v1/load", {signal: life.signal});
    columns = new Map(found.nodes.filter(node => node.document).map(node => [node.id, node.document.columns]));
    draw();
  }

  function update(overview) {
    if (choice.children.length !== overview.nodes.length) {
      choice.replaceChildren(...overview.nodes.map(node => h("button", {type: "button", "data-node": node.id, "aria-pressed": "false", onclick: () => choose(node.id)},
        h("span", {class: "dot", style: {"--colour": nodeColour(node.id)}}), `node ${node.id}`)));
      const leader = overview.nodes.find(node => node.document && node.document.cluster.node.role === "leader");
      choose((leader || overview.nodes[0]).id);
    }
    for (const node of overview.nodes) {
      const kept = columns && columns.get(node.id);
      if (!kept || !node.document || node.document.load.at_ms === kept.at_ms.at(-1)) continue;
      for (const [name, values] of Object.entries(kept)) {
        values.push(node.document.load[name]);
        if (values.length > 1800) values.shift();
      }
      if (node.id === chosen) plots.forEach((plot, at) => plot.setData(dataOf(PLOTS[at])));
    }
    const report = overview.nodes.find(node => node.id === chosen);
    showShares(bar, list, report && report.document ? report.document.load : {});
  }

  const resized = new ResizeObserver(() => plots.forEach((plot, at) => {
    const width = boxes[at].area.clientWidth;
    if (width && width !== plot.width) plot.setSize({width, height: 190});
  }));
  resized.observe(view);
  fetchAll().catch(() => {});
  return {update, repaint: draw, close() { life.abort(); resized.disconnect(); plots.forEach(plot => plot.destroy()); }};
}
