// Curves on a canvas: several runs, smoothing, log scale, a band of minimum and maximum, marks, a readout under the pointer.
(() => {
  const { el, number, count, onTheme } = window.codexSpace;
  const PALETTE = ["--cs-c1", "--cs-c2", "--cs-c3", "--cs-c4", "--cs-c5", "--cs-c6"];
  const PAD = { left: 58, right: 14, top: 12, bottom: 30 };

  const smooth = (values, weight) => {
    if (!weight) return values;
    let mean = 0, norm = 0;
    return values.map((value) => { mean = mean * weight + value * (1 - weight); norm = norm * weight + 1 - weight; return mean / norm; });
  };
  const ticks = (low, high, wanted) => {
    const raw = (high - low) / wanted, power = 10 ** Math.floor(Math.log10(raw));
    const step = [1, 2, 5, 10].map((k) => k * power).find((size) => size >= raw) || power;
    const found = [];
    for (let at = Math.ceil(low / step) * step; at <= high + step * 1e-9; at += step) found.push(Math.abs(at) < step * 1e-9 ? 0 : at);
    return found;
  };
  const logTicks = (low, high) => {
    const found = [];
    for (let power = Math.floor(Math.log10(low)); power <= Math.ceil(Math.log10(high)); power += 1)
      for (const digit of high / low > 200 ? [1] : [1, 2, 5]) { const at = digit * 10 ** power; if (at >= low && at <= high) found.push(at); }
    return found.length > 1 ? found : ticks(low, high, 4);
  };

  class Chart {
    // `series`: [{label, color (index), steps, values, lows, highs, points, whiskers, hollow (bools), shift (px), weight}], `marks`: [{step, kind}];
    // `span`: [step, step] to show in any case, so that two charts line up
    constructor(host, { height = 300, label = "Curve", small = false } = {}) {
      Object.assign(this, { host, height, label, small, series: [], marks: [], span: [], log: false, cursor: null });
      this.canvas = el("canvas", { class: "cs-canvas", role: "img", tabindex: small ? null : "0", "aria-label": label, style: `height:${height}px` });
      host.append(this.canvas);
      if (!small) {
        this.canvas.addEventListener("pointermove", (event) => this.point(event.offsetX));
        this.canvas.addEventListener("pointerleave", () => this.point(null));
        this.canvas.addEventListener("blur", () => this.point(null));
        this.canvas.addEventListener("keydown", (event) => this.walk(event));
      }
      new ResizeObserver(() => this.draw()).observe(this.canvas);
      onTheme(this.canvas, () => this.draw());
    }
    set(series, marks = [], log = false) {
      this.series = series.filter((one) => one.steps.length).map((one) => ({ ...one, drawn: smooth(one.values, one.points ? 0 : one.weight || 0) }));
      Object.assign(this, { marks, log: log && this.series.every((one) => one.values.every((value) => value > 0)) });
      this.draw();
    }
    colour(name) { return getComputedStyle(this.canvas).getPropertyValue(name).trim() || "#888"; }
    range() {
      let x0 = Infinity, x1 = -Infinity, y0 = Infinity, y1 = -Infinity;
      for (const one of this.series) {
        x0 = Math.min(x0, one.steps[0]); x1 = Math.max(x1, one.steps[one.steps.length - 1]);
        for (const value of one.drawn) { if (value < y0) y0 = value; if (value > y1) y1 = value; }
        if (!one.weight && one.lows) for (let i = 0; i < one.lows.length; i += 1) { if (one.lows[i] < y0) y0 = one.lows[i]; if (one.highs[i] > y1) y1 = one.highs[i]; }
      }
      x0 = Math.min(x0, ...this.span); x1 = Math.max(x1, ...this.span);
      if (x0 === x1) { x0 -= 1; x1 += 1; }
      if (y0 === y1) { const pad = Math.abs(y0) * 0.1 || 1; y0 -= pad; y1 += pad; if (this.log && y0 <= 0) y0 = y1 / 10; }
      else if (this.log) { y0 *= 0.95; y1 *= 1.05; } else { const pad = (y1 - y0) * 0.06; y0 -= pad; y1 += pad; }
      return { x0, x1, y0, y1 };
    }
    draw() {
      const width = this.canvas.clientWidth, height = this.height, ratio = window.devicePixelRatio || 1;
      if (!width) return;
      if (this.canvas.width !== Math.round(width * ratio) || this.canvas.height !== Math.round(height * ratio)) {
        this.canvas.width = Math.round(width * ratio); this.canvas.height = Math.round(height * ratio);
      }
      const g = this.canvas.getContext("2d");
      g.setTransform(ratio, 0, 0, ratio, 0, 0); g.clearRect(0, 0, width, height);
      this.frame = null;
      if (!this.series.length) return;
      const pad = this.small ? { left: 34, right: 6, top: 6, bottom: 16 } : PAD, { x0, x1, y0, y1 } = this.range();
      const place = this.log ? Math.log : (value) => value;
      const X = (step) => pad.left + (step - x0) / (x1 - x0) * (width - pad.left - pad.right);
      const Y = (value) => height - pad.bottom - (place(value) - place(y0)) / (place(y1) - place(y0)) * (height - pad.top - pad.bottom);
      this.frame = { X, Y, x0, x1, pad, width };
      this.grid(g, { X, Y, x0, x1, y0, y1, pad, width, height });
      g.save(); g.beginPath(); g.rect(pad.left - 8, pad.top - 4, width - pad.left - pad.right + 24, height - pad.top - pad.bottom + 8); g.clip();
      for (const one of this.series) this.curve(g, one, (step) => X(step) + (one.shift || 0), Y);
      g.restore();
      for (const mark of this.marks) if (mark.step >= x0 && mark.step <= x1) this.mark(g, X(mark.step), height - pad.bottom, mark.kind);
      if (this.cursor !== null) this.crosshair(g, X, Y, pad, height);
      const best = this.series[0];
      this.canvas.setAttribute("aria-label", `${this.label}: ${this.series.map((one) => `${one.label} ${number(one.drawn[one.drawn.length - 1])} at step ${count(one.steps[one.steps.length - 1])}`).join(", ")}`);
      this.canvas.dataset.step = String(Math.max(...(best.points ? this.series : [best]).map((one) => one.steps[one.steps.length - 1])));
    }
    grid(g, { X, Y, x0, x1, y0, y1, pad, width, height }) {
      g.font = `${this.small ? 10 : 11.5}px ${this.colour("--cs-sans") || "sans-serif"}`;
      g.fillStyle = this.colour("--cs-faint"); g.strokeStyle = this.colour("--cs-grid"); g.lineWidth = 1;
      g.textAlign = "right"; g.textBaseline = "middle";
      for (const at of this.log ? logTicks(y0, y1) : ticks(y0, y1, this.small ? 2 : 5)) {
        const y = Math.round(Y(at)) + 0.5;
        g.beginPath(); g.moveTo(pad.left, y); g.lineTo(width - pad.right, y); g.stroke();
        g.fillText(this.tick(at), pad.left - 7, y);
      }
      g.textAlign = "center"; g.textBaseline = "top";
      for (const at of ticks(x0, x1, Math.max(2, Math.floor((width - pad.left) / (this.small ? 90 : 110))))) if (Number.isInteger(at) && at >= 0) {
        const label = Math.abs(at) >= 10000 ? `${at / 1000}k` : count(at), half = g.measureText(label).width / 2;
        g.fillText(label, Math.min(X(at), width - half), height - pad.bottom + (this.small ? 4 : 10));
      }
    }
    tick(value) {
      const size = Math.abs(value);
      if (size >= 1e6) return `${value / 1e6}M`; if (size >= 10000) return `${value / 1000}k`;
      return size && size < 0.001 ? value.toExponential(0) : String(Number(value.toPrecision(3)));
    }
    curve(g, one, X, Y) {
      const colour = this.colour(PALETTE[one.color % PALETTE.length]);
      g.strokeStyle = colour; g.fillStyle = colour; g.lineJoin = "round";
      if (!one.points && one.lows && (one.weight || one.lows.some((low, i) => low !== one.highs[i]))) {
        g.globalAlpha = 0.16; g.beginPath();
        if (one.weight && one.lows.every((low, i) => low === one.highs[i])) { g.globalAlpha = 0.28; g.lineWidth = 1; one.steps.forEach((step, i) => i ? g.lineTo(X(step), Y(one.values[i])) : g.moveTo(X(step), Y(one.values[i]))); g.stroke(); }
        else { one.steps.forEach((step, i) => i ? g.lineTo(X(step), Y(one.highs[i])) : g.moveTo(X(step), Y(one.highs[i]))); for (let i = one.steps.length - 1; i >= 0; i -= 1) g.lineTo(X(one.steps[i]), Y(one.lows[i])); g.fill(); }
        g.globalAlpha = 1;
      }
      g.lineWidth = this.small ? 1.5 : 1.8; g.setLineDash(one.points ? [5, 4] : []); g.beginPath();
      one.steps.forEach((step, i) => i ? g.lineTo(X(step), Y(one.drawn[i])) : g.moveTo(X(step), Y(one.drawn[i])));
      g.stroke(); g.setLineDash([]);
      if (one.whiskers) one.steps.forEach((step, i) => this.whisker(g, X(step), Y(one.lows[i]), Y(one.highs[i])));
      if (one.points || one.steps.length === 1) one.steps.forEach((step, i) => {
        g.beginPath(); g.arc(X(step), Y(one.drawn[i]), this.small ? 2 : 3.5, 0, 7); g.fill();
        if (one.hollow) { g.fillStyle = this.colour("--cs-card"); g.beginPath(); g.arc(X(step), Y(one.drawn[i]), 2, 0, 7); g.fill(); g.fillStyle = colour; }
      });
    }
    whisker(g, x, low, high) {
      g.lineWidth = 1.2; g.beginPath();
      for (const y of [low, high]) { g.moveTo(x - 4, y); g.lineTo(x + 4, y); }
      g.moveTo(x, low); g.lineTo(x, high); g.stroke();
    }
    mark(g, x, y, kind) {
      g.fillStyle = this.colour({ none: "--cs-faint", queued: "--cs-warn", uploading: "--cs-warn", uploaded: "--cs-good", failed: "--cs-bad" }[kind] || "--cs-faint");
      g.beginPath(); g.moveTo(x, y - 5); g.lineTo(x + 4.5, y); g.lineTo(x, y + 5); g.lineTo(x - 4.5, y); g.closePath(); g.fill();
    }
    crosshair(g, X, Y, pad, height) {
      const x = Math.round(X(this.cursor)) + 0.5;
      g.strokeStyle = this.colour("--cs-faint"); g.lineWidth = 1; g.beginPath(); g.moveTo(x, pad.top); g.lineTo(x, height - pad.bottom); g.stroke();
      for (const one of this.series) {
        const i = this.nearest(one.steps, this.cursor);
        g.fillStyle = this.colour(PALETTE[one.color % PALETTE.length]);
        g.beginPath(); g.arc(X(one.steps[i]) + (one.shift || 0), Y(one.drawn[i]), 4, 0, 7); g.fill();
      }
    }
    nearest(steps, step) {
      let low = 0, high = steps.length - 1;
      while (low < high) { const middle = (low + high) >> 1; if (steps[middle] < step) low = middle + 1; else high = middle; }
      return low > 0 && step - steps[low - 1] < steps[low] - step ? low - 1 : low;
    }
    point(x) {
      if (!this.frame || !this.series.length) return;
      const { pad, width, x0, x1 } = this.frame;
      this.cursor = x === null ? null : this.snap(x0 + Math.min(1, Math.max(0, (x - pad.left) / (width - pad.left - pad.right))) * (x1 - x0));
      this.draw(); this.onCursor?.(this.readout());
    }
    snap(step) { const steps = this.series[0].steps; return steps[this.nearest(steps, step)]; }
    walk(event) {
      const move = { ArrowLeft: -1, ArrowRight: 1, PageUp: -20, PageDown: 20, Home: -1e9, End: 1e9 }[event.key];
      if (!move || !this.series.length) { if (event.key === "Escape") this.point(null); return; }
      event.preventDefault();
      const steps = this.series[0].steps, at = this.cursor === null ? steps.length - 1 : this.nearest(steps, this.cursor);
      this.cursor = steps[Math.min(steps.length - 1, Math.max(0, at + move))];
      this.draw(); this.onCursor?.(this.readout());
    }
    readout() {
      const at = this.cursor;
      return this.series.map((one) => {
        const i = at === null ? one.steps.length - 1 : this.nearest(one.steps, at);
        return { label: one.label, color: one.color, step: one.steps[i], value: one.values[i], low: one.lows?.[i], high: one.highs?.[i], points: one.points, hollow: one.hollow };
      });
    }
  }
  window.codexSpace.Chart = Chart;
  window.codexSpace.PALETTE = PALETTE;
})();
