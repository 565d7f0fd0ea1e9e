// The Runs tab: pass@1 with its interval at every evaluated step, under the loss and on the same steps.
(() => {
  const space = window.codexSpace;
  const { el, count, Chart, PALETTE } = space;

  // Of a benchmark's scores, the one that bears its name.
  space.headline = (one) => one.scores.find((score) => score.name === one.benchmark) || one.scores[0];
  space.percent = (value, digits = 1) => `${(100 * value).toFixed(digits)} %`;
  // A score with a unit is no pass rate; "share" is shown in percent like one.
  space.figure = (score) => !score.unit || score.unit === "share" ? space.percent(score.value) : String(Number(score.value.toPrecision(4)));
  space.interval = (score) => !score.unit || score.unit === "share" ? `${space.percent(score.low, 0).slice(0, -2)} to ${space.percent(score.high, 0)}`
    : `${Number(score.low.toPrecision(4))} to ${Number(score.high.toPrecision(4))} ${score.unit}`;
  // [{step, benchmark, value, low, high}] of a run's snapshot, in the order of steps
  space.scoresOf = (body) => (body?.evaluations || []).filter((one) => one.state === "done" && one.scores.length && !one.scores[0].unit)
    .map((one) => ({ ...space.headline(one), step: one.step, benchmark: one.benchmark })).sort((a, b) => a.step - b.step);

  space.widget("runs-scores", (element) => {
    const host = el("div", { class: "cs-scores-host" }), readout = el("div", { class: "cs-readout", "aria-live": "off" }), waiting = el("p", { class: "cs-note" });
    const box = el("div", { hidden: true }, el("div", { class: "cs-scores-top" }, el("b", {}, "pass@1"), el("span", { class: "cs-faint" }, "% of problems solved, with 95 % intervals; step 0 is the base")), host, readout, waiting);
    element.append(box);
    const chart = new Chart(host, { height: 170, label: "pass@1 in percent" });
    const place = (row) => row.step ? `step ${count(row.step)}` : "base";
    const show = (rows) => readout.replaceChildren(...rows.map((row) => el("span", {}, el("i", { class: row.hollow ? "cs-point cs-ring" : "cs-point", style: `--c: var(${PALETTE[row.color % PALETTE.length]})` }), `${row.label} `,
      el("b", {}, `${row.value.toFixed(1)} %`), el("span", { class: "cs-faint" }, ` ${row.low.toFixed(0)} to ${row.high.toFixed(0)} \u00b7 ${place(row)}`))));
    chart.onCursor = show;
    space.compared.follow(element, (bodies) => {
      const names = [...new Set([...bodies.values()].flatMap((body) => space.scoresOf(body).map((one) => one.benchmark)))];
      const series = [];
      for (const [id, body] of bodies) for (const [at, name] of names.entries()) {
        const mine = space.scoresOf(body).filter((one) => one.benchmark === name), part = (key) => mine.map((one) => 100 * one[key]);
        const label = [bodies.size > 1 ? body.run.name : null, name].filter(Boolean).join(", ");
        series.push({ label, color: space.compared.colourOf(id), steps: mine.map((one) => one.step), values: part("value"), lows: part("low"), highs: part("high"), points: true, whiskers: true, hollow: at % 2 === 1 });
      }
      series.forEach((one, at) => { one.shift = 5 * at; }); // intervals at one step stand side by side
      const busy = [...bodies.values()].flatMap((body) => (body.evaluations || []).filter((one) => one.state === "waiting" && one.num_graded)
        .map((one) => `${bodies.size > 1 ? `${body.run.name}, ` : ""}${one.benchmark} at step ${count(one.step)}: ${count(one.num_graded)} of ${count(one.num_samples)} graded, ${count(one.num_passed)} solved`));
      host.hidden = readout.hidden = !series.some((one) => one.steps.length);
      box.hidden = host.hidden && !busy.length;
      document.getElementById("runs-scores")?.classList.toggle("cs-none", box.hidden);
      waiting.hidden = !busy.length; waiting.textContent = busy.join("; ");
      chart.span = space.compared.spanOf(bodies);
      chart.set(series);
      show(chart.readout());
    });
  });
})();
