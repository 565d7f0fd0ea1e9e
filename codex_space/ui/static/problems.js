// The Evaluate tab: the chosen evaluation against another one, and its problems as squares, each of which opens.
(() => {
  const space = window.codexSpace;
  const { el, setText, count, percent, headline } = space;
  const shown = space.evaluation;
  const against = { key: "", gained: new Set(), lost: new Set() };
  const last = (id) => id.split("/").pop();
  const short = (id) => /^\d+$/.test(last(id)) ? id : last(id); // HumanEval/12 has no name of its own
  const ask = (what, names) => space.ask(`/api/evaluations/${what}?${new URLSearchParams(names)}`);
  const openProblem = (task) => document.dispatchEvent(new CustomEvent("codex-problem", { detail: task }));
  const onChosen = (draw) => { document.addEventListener("codex-evaluation", draw); draw(); };

  space.widget("evaluate-against", (element) => {
    const menu = el("select", { class: "cs-input", id: "evaluate-other", "aria-label": "Against another evaluation of the same benchmark" });
    const sentence = el("p", { class: "cs-verdict-line", role: "status" }), lists = el("div", { class: "cs-flips" });
    const box = el("div", { class: "cs-against", hidden: true }, el("label", {}, el("b", {}, "Against"), menu), sentence, lists);
    element.append(box);
    let drawn = "", compared = "";
    const list = (title, kind, tasks) => el("div", {}, el("h3", {}, `${title} ${count(tasks.length)}`),
      tasks.length ? el("ul", {}, tasks.map((task) => el("li", {}, el("button", { type: "button", class: "cs-chip-button", "data-flip": kind, "aria-label": `${task}, ${kind}`, onclick: () => openProblem(task) }, last(task))))) : el("p", { class: "cs-note" }, "none"));
    const compare = async () => {
      const pair = JSON.stringify([shown.key, against.key]);
      if (pair === compared) return;
      compared = pair; against.gained = new Set(); against.lost = new Set();
      lists.replaceChildren(); setText(sentence, "");
      if (against.key) {
        try {
          const found = await ask("compare", { key: shown.key, other: against.key });
          if (pair !== compared) return;
          against.gained = new Set(found.gained); against.lost = new Set(found.lost);
          setText(sentence, found.sentence);
          lists.replaceChildren(list("Gained", "gained", found.gained), list("Lost", "lost", found.lost), el("div", {}, el("h3", {}, `Same ${count(found.num_same)}`)));
        } catch { if (pair === compared) { compared = ""; setText(sentence, "These two cannot be compared now."); } }
      }
      document.dispatchEvent(new CustomEvent("codex-flips"));
    };
    menu.addEventListener("input", () => { against.key = menu.value; compare(); });
    onChosen(() => {
      const one = shown.entry || shown.body;
      box.hidden = one?.state !== "done" || one.measured; // rows that were measured did not pass or fail
      document.getElementById("evaluate-against")?.classList.toggle("cs-none", box.hidden);
      const others = one ? shown.entries.filter((each) => each.key !== one.key && each.benchmark === one.benchmark && each.state === "done") : [];
      const key = JSON.stringify(others.map((each) => each.key));
      if (key !== drawn) {
        drawn = key;
        menu.replaceChildren(el("option", { value: "" }, others.length ? "choose another evaluation" : "no other evaluation of this benchmark yet"),
          ...others.map((each) => el("option", { value: each.key }, `${each.model} \u00b7 ${percent(headline(each).value)}`)));
        menu.disabled = !others.length;
      }
      if (!others.some((each) => each.key === against.key)) against.key = "";
      menu.value = against.key;
      compare();
    });
  });

  const VERDICTS = { solved: "solved", partly: "solved by some samples", failed: "not solved", open: "not graded" };
  const verdictOf = (one) => one.passed === null ? "open" : one.num_passed === 0 ? "failed" : one.num_passed < one.num_samples ? "partly" : "solved";
  const saidOf = (one) => {
    const kind = verdictOf(one), flip = against.gained.has(one.task_id) ? "gained" : against.lost.has(one.task_id) ? "lost" : "";
    return [kind === "partly" ? `${one.num_passed} of ${one.num_samples} samples solve it` : VERDICTS[kind], flip, kind === "failed" ? one.error : ""].filter(Boolean).join(" \u00b7 ");
  };

  space.widget("evaluate-problems", (element) => {
    const legend = el("p", { class: "cs-legend cs-squares-legend" }), grid = el("div", { class: "cs-grid", role: "group", "aria-label": "Problems; arrow keys move, Enter opens" });
    const preview = el("p", { class: "cs-preview", "aria-live": "off" }), panel = el("section", { class: "cs-problem", hidden: true, "aria-label": "The chosen problem", tabindex: "-1" });
    element.append(el("div", { class: "cs-scores-top" }, el("h3", {}, "Problems"), legend), grid, preview, panel);
    const squares = new Map();
    let laid = "", open = null, side = 0, sample = 0, asked = "", bring = false;
    const HINT = "Point at a square for its name, press it for the answer.";
    const problem = (task) => shown.body?.problems.find((one) => one.task_id === task);
    const tellOf = (task) => { const one = problem(task); preview.replaceChildren(...(one ? [el("b", {}, short(task)), ` ${saidOf(one)}`] : [HINT])); };

    const layOut = (problems) => {
      squares.clear();
      for (const one of problems) squares.set(one.task_id, el("button", { type: "button", class: "cs-square", tabindex: "-1", "data-task": one.task_id }));
      const tiers = [...new Set(problems.map((one) => one.tier))];
      grid.replaceChildren(...tiers.map((tier) => el("div", { class: "cs-tier" }, tier === null ? null : el("h4", {}, `Tier ${tier}`), el("div", { class: "cs-squares" }, problems.filter((one) => one.tier === tier).map((one) => squares.get(one.task_id))))));
      const first = grid.querySelector(".cs-square");
      if (first) first.tabIndex = 0;
    };
    const draw = () => {
      const problems = shown.body?.problems || [], order = JSON.stringify([shown.key, problems.map((one) => one.task_id)]);
      if (order !== laid) { laid = order; layOut(problems); tellOf(null); if (open && !problem(open)) close(false); }
      const counts = { solved: 0, partly: 0, failed: 0, open: 0 };
      for (const one of problems) {
        const square = squares.get(one.task_id), kind = verdictOf(one);
        counts[kind] += 1;
        square.dataset.verdict = kind;
        square.style.setProperty("--part", kind === "partly" ? `${100 * one.num_passed / one.num_samples}%` : "");
        square.dataset.flip = against.gained.has(one.task_id) ? "gained" : against.lost.has(one.task_id) ? "lost" : "";
        square.setAttribute("aria-label", `${short(one.task_id)}: ${saidOf(one)}`);
        square.setAttribute("aria-pressed", String(one.task_id === open));
      }
      legend.replaceChildren(...Object.keys(counts).filter((kind) => counts[kind]).map((kind) => el("span", { "data-verdict": kind }, `${VERDICTS[kind]} ${count(counts[kind])}`)), ...(against.key ? [el("span", { "data-flip": "gained" }, "gained"), el("span", { "data-flip": "lost" }, "lost")] : []));
      element.hidden = !problems.length;
      document.getElementById("evaluate-problems-card")?.classList.toggle("cs-none", !problems.length);
      if (open) read();
    };
    const pick = (task) => { for (const square of squares.values()) square.tabIndex = square.dataset.task === task ? 0 : -1; };
    grid.addEventListener("pointerover", (event) => { const square = event.target.closest(".cs-square"); if (square) tellOf(square.dataset.task); });
    grid.addEventListener("pointerleave", () => tellOf(document.activeElement?.dataset?.task || open));
    grid.addEventListener("focusin", (event) => { const square = event.target.closest(".cs-square"); if (square) { tellOf(square.dataset.task); pick(square.dataset.task); } });
    grid.addEventListener("click", (event) => { const square = event.target.closest(".cs-square"); if (square) show(square.dataset.task); });
    grid.addEventListener("keydown", (event) => {
      const order = [...grid.querySelectorAll(".cs-square")], at = order.indexOf(event.target.closest(".cs-square"));
      if (at < 0) return;
      const row = order.filter((square) => square.offsetTop === order[at].offsetTop), column = row.indexOf(order[at]);
      const above = order.slice(0, at - column), below = order.slice(at - column + row.length);
      const inRow = (some, top) => { const line = some.filter((square) => square.offsetTop === top); return line[Math.min(column, line.length - 1)]; };
      const next = { ArrowLeft: () => order[at - 1], ArrowRight: () => order[at + 1], Home: () => order[0], End: () => order[order.length - 1],
        ArrowUp: () => above.length ? inRow(above, above[above.length - 1].offsetTop) : null, ArrowDown: () => below.length ? inRow(below, below[0].offsetTop) : null }[event.key];
      if (!next) return;
      event.preventDefault(); next()?.focus();
    });

    const show = (task) => { open = task; side = sample = 0; asked = ""; panel.hidden = false; pick(task); tellOf(task); draw(); };
    const close = (back = true) => { const square = squares.get(open); open = null; panel.hidden = true; panel.replaceChildren(); draw(); if (back) square?.focus(); };
    const step = (by) => { const order = [...squares.keys()]; show(order[(order.indexOf(open) + by + order.length) % order.length]); };
    // Asked for anew when the problem has been graded since, when the other side is wanted, or the comparison is another one.
    const read = async () => {
      const key = side && against.key ? against.key : shown.key, now = JSON.stringify([key, open, against.key, problem(open)?.num_passed, problem(open)?.passed]);
      if (now === asked) return;
      asked = now;
      try {
        const found = await ask("problem", { key, task: open });
        if (now !== asked) return;
        fill(found);
        if (bring) { bring = false; panel.scrollIntoView({ block: "start" }); panel.focus({ preventScroll: true }); }
      } catch { if (now === asked) { asked = ""; panel.replaceChildren(head(), el("p", { class: "cs-note" }, "This problem cannot be read now.")); } }
    };
    const button = (text, attributes, ...more) => el("button", { type: "button", class: "cs-more", ...attributes }, text, ...more);
    const head = () => el("div", { class: "cs-head-top" }, el("h3", {}, open), el("span", { class: "cs-grow" }),
      button("Earlier", { onclick: () => step(-1) }), button("Next", { onclick: () => step(1) }), el("button", { type: "button", class: "cs-x", "aria-label": "Close the problem", onclick: () => close() }, "\u00d7"));
    const code = (title, text, wide) => el("div", { class: wide ? "cs-wide" : "" }, el("h4", {}, title), el("pre", { class: "cs-code", tabindex: "0", "aria-label": title }, text || "(nothing)"));
    const fill = (found) => {
      sample = Math.min(sample, found.samples.length - 1);
      const one = found.samples[sample], state = one?.passed === null || !one ? ["queued", "not graded"] : one.passed ? ["succeeded", "solved"] : ["failed", one.status === "timeout" ? "time ran out" : "not solved"];
      const sides = [shown.key, against.key].filter(Boolean).map((key) => shown.entries.find((each) => each.key === key)?.model || "this model");
      const held = panel.contains(document.activeElement) ? document.activeElement.textContent : null;
      const sideButtons = sides.length > 1 ? el("div", { class: "cs-switch" }, sides.map((name, at) => button(name, { "aria-pressed": String(at === side), onclick: () => { side = at; sample = 0; read(); } }))) : null;
      const sampleButtons = found.samples.length > 1 ? el("div", { class: "cs-switch", role: "group", "aria-label": "Samples" }, found.samples.map((each, at) => button(`${at + 1}`, { "aria-label": `Sample ${at + 1}, ${each.passed ? "solved" : "not solved"}`, "aria-pressed": String(at === sample), "data-verdict": each.passed === null ? "open" : each.passed ? "solved" : "failed", onclick: () => { sample = at; fill(found); } }))) : null;
      const facts = one ? [["Rule", one.rule], ["Flaw", one.flaw], ["Error", one.error], ["Time", one.seconds === null || one.seconds === undefined ? "" : `${one.seconds.toFixed(one.seconds < 0.1 ? 3 : 2)} s`]].filter(([, value]) => value) : [];
      panel.replaceChildren(...[head(), sideButtons, sampleButtons,
        el("p", { class: "cs-problem-line" }, el("span", { class: "cs-state", "data-state": state[0] }, state[1]), ...facts.map(([name, value]) => el("span", {}, el("span", { class: "cs-faint" }, `${name} `), value))),
        el("div", { class: "cs-codes" }, code("Prompt", found.prompt, true), ...(one ? [code("Answer", one.text), code("Program taken from it", one.program)] : [])),
        found.canonical ? el("details", { class: "cs-protocol" }, el("summary", {}, el("b", {}, "A solution that passes")), code("", found.canonical)) : null].filter(Boolean));
      if (held) [...panel.querySelectorAll("button")].find((each) => each.textContent === held)?.focus({ preventScroll: true });
    };
    document.addEventListener("codex-flips", draw);
    document.addEventListener("codex-problem", (event) => {
      if (!problem(event.detail)) return;
      bring = true; show(event.detail);
    });
    onChosen(draw);
  });
})();
