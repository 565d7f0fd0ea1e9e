// The Runs tab: the compared runs as a table of what differs in their recipes and how each ended; a heading sorts.
(() => {
  const space = window.codexSpace;
  const { el, count } = space;
  const EVERY_MS = 4000;
  const shown = (value, digits = 4) => value === null ? "" : Number(value.toPrecision(digits)).toString();
  const last = (key) => key.split(".").pop();

  space.widget("runs-table", (element) => {
    const head = el("tr", {}), body = el("tbody", {}), by = el("span", { class: "cs-faint" });
    const box = el("div", { hidden: true }, el("div", { class: "cs-scores-top" }, el("b", {}, "Compared"), by),
      el("div", { class: "cs-scroll", tabindex: "0", role: "region", "aria-label": "The compared runs" }, el("table", { class: "cs-table" }, el("thead", {}, head), body)));
    element.append(box);
    let asked = "", at = 0, found = null, sorted = { column: null, down: false };
    const columns = () => [
      ["Run", (row) => row.name], ...found.keys.map((key, n) => [last(key), (row) => row.values[n], key]), ["State", (row) => space.WORDS[row.status] || row.status],
      ["Loss", (row) => row.final_loss], ["Validation loss, lowest", (row) => row.eval_loss], ["pass@1, best", (row) => row.pass_rate], ["Time", (row) => row.seconds]];
    const told = (name, value) => value === null || value === undefined ? "" : name === "Time" ? `${count(Math.round(value))} s` : name === "pass@1, best" ? space.percent(value)
      : typeof value === "number" ? shown(value) : typeof value === "object" ? JSON.stringify(value) : String(value);
    const draw = () => {
      box.hidden = !found;
      if (!found) return;
      space.setText(by, found.by === "eval_loss" ? "best by validation loss" : "best by training loss");
      const all = columns(), used = all.filter(([name, read]) => name !== "pass@1, best" || found.rows.some((row) => read(row) !== null));
      head.replaceChildren(...used.map(([name, , title], n) => el("th", { scope: "col", title: title || name, "aria-sort": sorted.column === n ? (sorted.down ? "descending" : "ascending") : "none" },
        el("button", { type: "button", class: "cs-sort", onclick: () => { sorted = { column: n, down: sorted.column === n && !sorted.down }; draw(); } }, name))));
      const rows = [...found.rows];
      if (sorted.column !== null) {
        const read = used[sorted.column]?.[1] || (() => 0), order = (a, b) => a === b ? 0 : a === null || a === undefined ? 1 : b === null || b === undefined ? -1 : a < b ? -1 : 1;
        rows.sort((a, b) => (sorted.down ? -1 : 1) * order(read(a), read(b)));
      }
      body.replaceChildren(...rows.map((row) => el("tr", { "data-run": row.run, "data-best": String(row.best) }, used.map(([name, read], n) => el("td", {},
        n ? told(name, read(row)) : [el("a", { class: "cs-link", href: `#runs/${row.run}` }, row.name), row.best ? el("span", { class: "cs-state", "data-state": "succeeded" }, "best") : null])))));
    };
    space.compared.follow(element, async (bodies) => {
      const ids = [...bodies.keys()], key = JSON.stringify([ids, [...bodies.values()].map((each) => each.run.state)]);
      if (ids.length < 2) { asked = ""; found = null; return draw(); }
      if (key === asked && Date.now() - at < EVERY_MS) return;
      asked = key; at = Date.now();
      try { const answer = await space.ask(`/api/compare?${new URLSearchParams({ runs: ids.sort().join(",") })}`); if (asked === key) { found = answer; draw(); } } catch { asked = ""; }
    });
  });
})();
