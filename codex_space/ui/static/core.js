// What all widgets share: elements, numbers with units, polling while somebody looks, links that lead to a tab.
(() => {
  if (window.codexSpace) return;
  const FINAL = new Set(["succeeded", "failed", "stopped", "lost"]);
  const WORDS = { queued: "queued", preflight: "preparing", running: "training", stopping: "stopping", succeeded: "finished", failed: "failed", stopped: "stopped", lost: "lost" };
  const STALE_MS = 10000;

  const el = (tag, attributes = {}, ...children) => {
    const node = document.createElement(tag);
    for (const [name, value] of Object.entries(attributes)) {
      if (name === "class") node.className = value;
      else if (name.startsWith("on")) node.addEventListener(name.slice(2), value);
      else if (value !== null && value !== undefined && value !== false) node.setAttribute(name, value === true ? "" : value);
    }
    node.append(...children.flat().filter((child) => child !== null && child !== undefined && child !== false));
    return node;
  };
  const setText = (node, text) => { if (node.textContent !== text) node.textContent = text; };

  const count = (value) => Number(value).toLocaleString("en-US");
  const number = (value) => {
    if (value === null || value === undefined || !Number.isFinite(value)) return "\u2013";
    const size = Math.abs(value);
    if (size === 0) return "0";
    if (size < 0.001) return value.toExponential(2);
    if (size < 10) return Number.isInteger(value) ? String(value) : value.toFixed(4);
    return size < 1000 ? value.toFixed(1) : count(Math.round(value));
  };
  const bytes = (value) => {
    const units = ["B", "kB", "MB", "GB", "TB"];
    let size = value || 0, at = 0;
    while (size >= 999.5 && at < units.length - 1) { size /= 1000; at += 1; }
    return `${size.toFixed(at === 0 || size >= 99.95 ? 0 : size >= 9.995 ? 1 : 2)} ${units[at]}`;
  };
  const duration = (seconds) => {
    if (seconds === null || seconds === undefined || !Number.isFinite(seconds)) return "";
    const whole = Math.max(0, Math.round(seconds));
    if (whole < 60) return `${whole} s`;
    if (whole < 3600) return `${Math.floor(whole / 60)} min ${String(whole % 60).padStart(2, "0")} s`;
    return `${Math.floor(whole / 3600)} h ${String(Math.floor((whole % 3600) / 60)).padStart(2, "0")} min`;
  };
  const when = (at) => at ? new Date(at * 1000).toLocaleString(undefined, { dateStyle: "medium", timeStyle: "short" }) : "";
  const share = (run) => run && run.max_steps ? Math.min(1, run.step / run.max_steps) : null;
  const word = (run) => (run.state === "running" && { evaluate: "evaluating", export: "exporting" }[run.kind]) || WORDS[run.state] || run.state;
  const doing = (run) => (run.phase || "").split(": ").pop() || word(run);
  const elapsed = (run) => run.started_at ? (run.ended_at || Date.now() / 1000) - run.started_at : null;

  const root = () => (window.gradio_config?.root || "").replace(/\/$/, "");
  const ask = async (path) => {
    const response = await fetch(root() + path, { cache: "no-store" });
    if (!response.ok) throw Object.assign(new Error(`${path}: ${response.status}`), { status: response.status });
    return response.json();
  };

  // One poll an address however many widgets want it; it rests while the tab is hidden or nobody is left.
  class Poll {
    constructor(path, take) { Object.assign(this, { path, take, seq: 0, readers: new Set(), timer: null, answered: 0, failures: 0 }); }
    join(element, show) {
      const reader = { element, show };
      this.readers.add(reader);
      if (this.latest !== undefined) show(this.latest);
      this.wake();
      return () => this.readers.delete(reader);
    }
    wake() { clearTimeout(this.timer); if (!this.asking) this.turn(); }
    async turn() {
      for (const reader of this.readers) if (!reader.element.isConnected) this.readers.delete(reader);
      const watched = [...this.readers].some((reader) => reader.element.getClientRects().length);
      let wait = 2000;
      if (watched && document.visibilityState === "visible") {
        this.asking = true;
        try {
          // After a silence the server may have started anew: ask for everything.
          const after = this.failures || Date.now() - this.answered > STALE_MS ? 0 : this.seq;
          let body = await ask(`${this.path}?after=${after}`);
          if (body.seq < after) body = await ask(`${this.path}?after=0`);
          wait = body.poll_after_ms || wait;
          this.seq = body.seq; this.answered = Date.now();
          if (this.failures) { this.failures = 0; codexSpace.online(true); }
          this.latest = this.take(this.latest, body);
          for (const reader of this.readers) reader.show(this.latest);
        } catch (error) {
          if (error.status === 404) { this.gone = true; for (const reader of this.readers) reader.show(null); }
          else { this.failures += 1; if (this.failures > 1) codexSpace.online(false); if (!(error instanceof TypeError) && !error.status) console.error(error); }
        }
        this.asking = false;
      } else if (!watched) wait = 500;
      clearTimeout(this.timer);
      if (this.readers.size && !this.gone) this.timer = setTimeout(() => this.turn(), wait);
    }
  }

  const merge = (old, body) => {
    const next = { ...(old || {}), ...body, curves: body.full || !old ? body.curves : { ...old.curves } };
    if (!body.full && old) {
      for (const [name, added] of Object.entries(body.curves)) {
        const mine = old.curves[name];
        if (!mine) { next.curves[name] = added; continue; }
        next.curves[name] = Object.fromEntries(Object.keys(added).map((key) => [key, mine[key].concat(added[key])]));
      }
    }
    return next;
  };
  const overview = new Poll("/api/overview", (old, body) => body.runs ? body : { ...old, ...body });
  const runs = new Map();
  const watch = (id, element, show) => {
    if (!runs.has(id) || runs.get(id).gone) runs.set(id, new Poll(`/api/runs/${encodeURIComponent(id)}/live`, merge));
    return runs.get(id).join(element, show);
  };
  document.addEventListener("visibilitychange", () => {
    if (document.visibilityState === "visible") for (const poll of [overview, ...runs.values()]) if (poll.readers.size) poll.wake();
  });

  // A place on the page is a link: #runs/ID, #train/recipe/NAME, #playground/REF. Back, reload and bookmarks work.
  const place = () => {
    const [tab, ...rest] = decodeURIComponent(location.hash.slice(1)).split("/");
    return { tab, rest: rest.join("/") };
  };
  const tabButton = (id) => document.querySelector(`#tabs button[role=tab][data-tab-id="${CSS.escape(id)}"]`);
  const follow = () => {
    const { tab } = place();
    const button = tab && tabButton(tab);
    if (!button) return;
    if (button.getAttribute("aria-selected") !== "true") button.click();
    button.scrollIntoView({ block: "nearest", inline: "nearest" }); // a narrow phone shows only some
  };
  const write = (hash) => { if (location.hash !== hash) history.replaceState(null, "", hash); };
  window.addEventListener("hashchange", () => {
    follow();
    document.dispatchEvent(new CustomEvent("codex-place", { detail: place() }));
  });
  document.addEventListener("click", (event) => {
    const button = event.target.closest?.("#tabs > .tab-wrapper button[role=tab]");
    if (button && event.isTrusted && place().tab !== button.dataset.tabId) history.pushState(null, "", `#${button.dataset.tabId}`);
    const link = event.target.closest?.("a[href^='#']");
    if (link && link.getAttribute("href") === location.hash) window.dispatchEvent(new Event("hashchange"));
  });
  document.addEventListener("keydown", (event) => {
    const button = event.target.closest?.("button[role=tab]");
    const step = { ArrowRight: 1, ArrowLeft: -1 }[event.key];
    if (!button || !step) return;
    const all = [...button.parentElement.querySelectorAll("button[role=tab]:not([disabled])")];
    const next = all[(all.indexOf(button) + step + all.length) % all.length];
    event.preventDefault(); next.click(); next.focus();
  });
  // A file may be dropped anywhere on a tab that takes files.
  for (const kind of ["dragover", "drop"]) document.addEventListener(kind, (event) => {
    const input = event.target.closest?.("#data-tab")?.querySelector("#data-upload input[type=file]");
    if (!input || event.target.closest("#data-upload") || !event.dataTransfer?.types.includes("Files")) return;
    event.preventDefault();
    if (kind === "drop") { input.files = event.dataTransfer.files; input.dispatchEvent(new Event("change", { bubbles: true })); }
  });

  const themeWatchers = new Set();
  const onTheme = (element, draw) => themeWatchers.add({ element, draw });
  new MutationObserver(() => themeWatchers.forEach((w) => w.element.isConnected ? w.draw() : themeWatchers.delete(w)))
    .observe(document.body, { attributes: true, attributeFilter: ["class"] });

  const widgets = {};
  window.codexSpace = {
    Poll, WORDS, word, el, setText, count, number, bytes, duration, when, share, elapsed, doing, ask, root, overview, watch, place, follow, write, onTheme,
    isFinal: (state) => FINAL.has(state),
    online: () => {},
    widget(name, mount) { widgets[name] = mount; },
    mount(name, ...args) { widgets[name](...args); },
  };
  const first = setInterval(() => {
    if (!document.querySelector("#tabs button[role=tab]")) return;
    clearInterval(first);
    follow();
    setTimeout(() => document.dispatchEvent(new CustomEvent("codex-place", { detail: place() })), 300);
  }, 30);
})();
