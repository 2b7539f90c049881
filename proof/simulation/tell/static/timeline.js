/* Time on paper. A timeline maps virtual microseconds to units of length and back. In the plain
   one they are equal; in one without idle time each long gap between events is cut to a stub. */

class Timeline {
  constructor({start, end, lesson}) {
    Object.assign(this, {start, end, breaks: [], first: start, last: end, spare: lesson ? 0.06 : 0.02});
  }

  to(at) { return at; }
  back(unit) { return unit; }
}

class ShortenedTimeline extends Timeline {
  constructor(model) {
    super(model);
    const points = [...new Set(model.times)].sort((a, b) => a - b);
    const gap = Math.max(3 * model.messages.flight, 1);
    let saved = 0;
    for (let i = 1; i < points.length; i++) {
      const long = points[i] - points[i - 1];
      if (long <= gap * 1.5) continue;
      this.breaks.push({from: points[i - 1], until: points[i], unit: points[i - 1] - saved,
        length: gap});
      saved += long - gap;
    }
    this.first = this.to(this.start);
    this.last = this.to(this.end);
  }

  _before(value, field) {
    let low = 0, high = this.breaks.length;
    while (low < high) {
      const middle = (low + high) >> 1;
      if (this.breaks[middle][field] <= value) low = middle + 1; else high = middle;
    }
    return this.breaks[low - 1];
  }

  to(at) {
    const gap = this._before(at, "from");
    if (!gap) return at;
    if (at >= gap.until) return gap.unit + gap.length + at - gap.until;
    return gap.unit + gap.length * (at - gap.from) / (gap.until - gap.from);
  }

  back(unit) {
    const gap = this._before(unit, "unit");
    if (!gap) return unit;
    const over = unit - gap.unit;
    if (over >= gap.length) return gap.until + over - gap.length;
    return gap.from + over / gap.length * (gap.until - gap.from);
  }
}

/* The window onto a timeline: units `a` to `b` over `width` pixels. */
class View {
  constructor(timeline) {
    this.timeline = timeline;
    this.width = 1;
    this.shortest = 40;
    this.show(-Infinity, Infinity);
  }

  get margin() { return (this.timeline.last - this.timeline.first) * this.timeline.spare; }
  get from() { return this.timeline.back(this.a); }
  get until() { return this.timeline.back(this.b); }
  get scale() { return this.width / (this.b - this.a); }
  x(at) { return (this.timeline.to(at) - this.a) * this.scale; }
  at(x) { return this.timeline.back(this.a + x / this.scale); }

  /* Show about this window: it never leaves the run, nor shows less than `shortest`. */
  show(a, b) {
    const low = this.timeline.first - this.margin, high = this.timeline.last + this.margin;
    const length = Math.min(Math.max(b - a, this.shortest), high - low);
    const middle = a === -Infinity ? (low + high) / 2 : (a + b) / 2;
    this.a = Math.min(Math.max(middle - length / 2, low), high - length);
    this.b = this.a + length;
  }

  pan(share) { const by = (this.b - this.a) * share; this.show(this.a + by, this.b + by); }

  zoom(factor, x = this.width / 2) {
    const still = this.a + x / this.scale, length = (this.b - this.a) * factor;
    const a = still - length * x / this.width;
    this.show(a, a + length);
  }
}

function trimmed(number, least, most) {
  return number.toLocaleString("en", {minimumFractionDigits: least, maximumFractionDigits: most});
}

/* A moment or a duration for people, to the microsecond. */
function shownTime(us) {
  if (Math.abs(us) < 1e6) return `${trimmed(us / 1e3, 0, 3)} ms`;
  return `${trimmed(us / 1e6, 3, 6)} s`;
}

function shownShort(us) {
  if (us < 1e6) return `${trimmed(us / 1e3, 0, us < 1e5 ? 1 : 0)} ms`;
  return `${trimmed(us / 1e6, 0, us < 1e7 ? 2 : 1)} s`;
}

/* A window of time, as exact as its length asks for; in seconds if the run is `long`. */
function shownRange(from, until, long) {
  const power = Math.log10(Math.max(until - from, 1));
  const digits = long ? Math.min(Math.max(Math.ceil(7 - power), 1), 6)
    : Math.min(Math.max(Math.ceil(4.5 - power), 0), 3);
  const shown = at => (at / (long ? 1e6 : 1e3)).toFixed(digits);
  return `${shown(from)} – ${shown(until)} ${long ? "s" : "ms"}`;
}

/* The ticks of the axis: at most one per `apart` pixels, none where idle time was cut out. */
function ticks(view, apart) {
  const raw = apart / view.scale;
  const power = 10 ** Math.floor(Math.log10(raw));
  const step = Math.max([1, 2, 5, 10].find(n => n * power >= raw) * power, 1);
  const long = view.timeline.end >= 2e6;
  const digits = Math.max(0, Math.ceil((long ? 6 : 3) - Math.log10(step) - 1e-9));
  const label = at => long ? `${(at / 1e6).toFixed(digits)} s` : `${(at / 1e3).toFixed(digits)} ms`;
  const found = [], edges = [view.from];
  for (const gap of view.timeline.breaks) {
    if (gap.until > view.from && gap.from < view.until) edges.push(gap.from, gap.until);
  }
  edges.push(view.until);
  for (let i = 0; i + 1 < edges.length; i += 2) {
    for (let at = Math.ceil(edges[i] / step) * step; at <= edges[i + 1]; at += step) {
      if (at < view.timeline.start) continue;
      const x = view.x(at), last = found[found.length - 1];
      if (!last || x - last.x >= apart * 0.8) found.push({at, x, label: label(at)});
    }
  }
  return found;
}
