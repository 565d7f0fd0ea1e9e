// The Runs tab: what goes wrong with the chosen run and what to do, and what its model wrote at any two steps.
(() => {
  const space = window.codexSpace;
  const { el, count, setText } = space;
  const TITLES = { diverged: "Diverged", zero_gradients: "Zero gradients", overfitting: "Overfitting", plateau: "Plateau", data_starved: "Waiting for data" };

  space.widget("runs-alerts", (element) => {
    const list = el("div", { class: "cs-alerts", role: "status" }), score = el("details", { class: "cs-progress-score" }, el("summary"), el("p", { class: "cs-note" }));
    element.append(list, score);
    let drawn = "";
    space.followChosen(element, (body) => {
      const alerts = body?.alerts || [], known = Number.isFinite(body?.score), key = JSON.stringify(alerts);
      score.hidden = !known;
      element.closest("#runs-alerts")?.classList.toggle("cs-none", !known && !alerts.length);
      if (known) { setText(score.firstChild, `Progress score ${body.score.toFixed(2)} of 1`); setText(score.lastChild, body.score_formula); }
      if (key === drawn) return;
      drawn = key;
      list.replaceChildren(...alerts.map((one) => el("div", { class: "cs-alert", "data-alert": one.kind }, el("b", {}, TITLES[one.kind] || one.kind), el("span", {}, `${one.text} `, el("strong", {}, one.action)))));
    });
  });

  space.widget("runs-samples", (element) => {
    const choose = (id, label) => el("select", { id, class: "cs-input", "aria-label": label });
    const left = choose("samples-left", "Step on the left"), right = choose("samples-right", "Step on the right");
    const bar = el("div", { class: "cs-chart-bar" }, el("label", {}, "Compare step ", left), el("label", {}, "with step ", right)), place = el("div");
    element.append(bar, place);
    let run = null, steps = "", picked = false, turn = 0;
    const known = new Map();
    const read = async (id, step) => {
      const key = `${id}/${step}`;
      if (!known.has(key)) known.set(key, (await space.ask(`/api/runs/${id}/samples/${step}`)).samples);
      return known.get(key);
    };
    const draw = async () => {
      const mine = ++turn, chosen = [left.value, right.value];
      try {
        const [one, other] = await Promise.all(chosen.map((step) => read(run, step)));
        if (mine !== turn) return;
        const part = (title, text, kind) => el("div", { "data-side": kind }, el("h4", {}, title), el("pre", { class: "cs-code" }, text.trim() ? text.trimEnd() : "(nothing but white space)"));
        place.replaceChildren(...one.map((row, at) => el("section", { class: "cs-sample" }, part("Prompt", row.prompt, "prompt"), row.expected ? part("What the row answers", row.expected, "expected") : null,
          part(`Step ${count(chosen[0])}`, row.text, "left"), part(`Step ${count(chosen[1])}`, other[at]?.text || "", "right"))));
      } catch (error) {
        if (mine === turn) place.replaceChildren(el("p", { class: "cs-note" }, "These samples are no longer on this machine."));
      }
    };
    const names = (step) => step === 0 ? "0, the base" : count(step);
    const fill = (select, all, value) => { select.replaceChildren(...all.map((step) => el("option", { value: String(step) }, names(step)))); select.value = String(value); };
    space.followChosen(element, (body) => {
      const all = body?.samples || [], key = JSON.stringify(all);
      if (body?.run?.id !== run) { run = body?.run?.id; steps = ""; picked = false; known.clear(); }
      if (key === steps) return;
      steps = key;
      bar.hidden = !all.length;
      if (!all.length) { turn += 1; return place.replaceChildren(el("div", { class: "cs-empty" }, el("h3", {}, "No samples"), el("p", {}, "Add samples: {} to a recipe and its model answers the same few prompts every 50 steps, to compare here."))); }
      const before = [left.value, right.value].map(Number);
      fill(left, all, picked && all.includes(before[0]) ? before[0] : all[0]);
      fill(right, all, picked && all.includes(before[1]) ? before[1] : all[all.length - 1]);
      draw();
    });
    for (const select of [left, right]) select.addEventListener("input", () => { picked = true; draw(); });
  });
})();
