// The Evaluate tab: the list of evaluations is polled; of the chosen one, all else is asked for whenever its line changes.
(() => {
  const space = window.codexSpace;
  const { el, setText, count, when, figure, interval, headline } = space;
  const all = new space.Poll("/api/evaluations", (_, body) => body.evaluations);
  // What the three widgets on the right draw: `body` is the whole answer, `entry` its line in the list until that is there.
  const shown = { key: null, entry: null, body: null, entries: [] };
  const tell = () => document.dispatchEvent(new CustomEvent("codex-evaluation"));
  space.evaluation = shown;

  const isOver = (one) => one.state !== "waiting" || space.isFinal(one.run_state);
  const stateOf = (one) => {
    if (one.state === "done") return ["succeeded", "done"];
    if (one.state === "failed") return one.run_state === "stopped" ? ["stopped", "stopped"] : ["failed", "failed"];
    if (space.isFinal(one.run_state)) return ["stopped", "not finished"];
    if (one.run_state === "running" && one.num_graded) return ["running", "evaluating"];
    return [one.run_state === "running" ? "queued" : one.run_state, space.WORDS[one.run_state === "running" ? "queued" : one.run_state] || one.run_state];
  };
  const badge = (one) => { const [state, word] = stateOf(one); return el("span", { class: "cs-state", "data-state": state }, word); };
  const progress = (one) => one.num_graded || isOver(one) ? `${count(one.num_graded)} of ${count(one.num_samples)} ${one.measured ? "measured" : `graded, ${count(one.num_passed)} solved`}` : "waits for its turn";
  const part = (one) => one.num_samples ? one.num_graded / one.num_samples : 0;

  const load = async (key, entry) => {
    try {
      const body = await space.ask(`/api/evaluations/one?key=${encodeURIComponent(key)}`);
      if (shown.key === key) { shown.body = body; shown.entry = entry || body; }
    } catch (error) {
      if (shown.key !== key) return;
      if (error.status === 404) Object.assign(shown, { key: null, entry: null, body: null, missing: key });
      else shown.stamp = null; // asked again with the next look at the list
    }
    tell();
  };

  space.widget("evaluate-list", (element, props, trigger, watch) => {
    const list = el("div", { class: "cs-list" }); element.append(list);
    let wanted = null, drawn = "";
    const choose = (key, write = true) => {
      wanted = null;
      if (!key || key === shown.key) return;
      Object.assign(shown, { key, body: null, entry: null, stamp: null, missing: null });
      if (write) space.write(`#evaluate/${key}`);
      look();
    };
    // A place names an evaluation, or a run: then its newest evaluation, as soon as there is one.
    const follow = () => {
      if (!wanted) return;
      const found = shown.entries.find((one) => one.key === wanted || one.key.startsWith(`${wanted}/`));
      if (found) choose(found.key); else if (wanted.split("/").length === 3) choose(wanted, false);
    };
    const look = () => {
      const entry = shown.entries.find((one) => one.key === shown.key), stamp = JSON.stringify(entry || shown.key);
      if (shown.key && stamp !== shown.stamp) { shown.stamp = stamp; shown.entry = entry || null; load(shown.key, entry); }
      draw(); tell();
    };
    const draw = () => {
      const key = JSON.stringify([shown.entries, shown.key]);
      if (key === drawn) return;
      drawn = key;
      if (!shown.entries.length) return list.replaceChildren(el("p", { class: "cs-note" }, "None yet. Every evaluation stays here with its score, those made while a run trains too."));
      const focused = list.contains(document.activeElement) ? document.activeElement.dataset.key : null;
      list.replaceChildren(...shown.entries.map((one) => {
        const score = one.state === "done" ? headline(one) : null;
        return el("button", { type: "button", class: "cs-item", "data-key": one.key, "aria-pressed": String(one.key === shown.key), onclick: () => choose(one.key) },
          el("span", { class: "cs-run-top" }, el("b", {}, one.model), score ? el("strong", {}, figure(score)) : badge(one)),
          el("span", { class: "cs-run-sub" }, el("span", {}, [one.benchmark, score ? null : progress(one)].filter(Boolean).join(" \u00b7 ")), score ? el("span", {}, interval(score)) : null),
          isOver(one) ? null : el("span", { class: "cs-bar" }, el("i", { style: `width:${part(one) * 100}%` })));
      }));
      if (focused) list.querySelector(`[data-key="${CSS.escape(focused)}"]`)?.focus({ preventScroll: true });
    };
    const go = ({ tab, rest }) => { if (tab === "evaluate" && rest && !/^(run|gguf):/.test(rest)) { wanted = rest; follow(); } };
    watch("value", () => { if (props.value) { wanted = props.value; all.wake(); follow(); } });
    document.addEventListener("codex-place", (event) => go(event.detail));
    all.join(element, (entries) => {
      shown.entries = entries || [];
      if (!shown.key && !shown.missing && !wanted) go(space.place());
      follow();
      if (!shown.key && !shown.missing && !wanted && entries?.length) choose(entries[0].key, false);
      look();
    });
  });

  const range = (score) => el("span", { class: "cs-range", "aria-hidden": "true" },
    el("i", { style: `left:${score.low * 100}%;width:${(score.high - score.low) * 100}%` }), el("b", { style: `left:${score.value * 100}%` }));
  const isShare = (score) => !score.unit || score.unit === "share";
  const claim = (one, score) => {
    if (score.unit) return `${score.name}, measured on ${count(score.num_problems)} row${score.num_problems === 1 ? "" : "s"}; the interval says how far other rows of the same kind would move it.`;
    const points = Math.round((score.high - score.low) * 50), problems = shown.body?.problems.length;
    const size = problems ? `${count(problems)} problem${problems === 1 ? "" : "s"}` : "These problems";
    return `${size} tell the true rate to about \u00b1${points} point${points === 1 ? "" : "s"}, under this protocol only: a smaller gap to another score can be chance, and Against tests whether it is.`;
  };
  const table = (scores) => el("div", { class: "cs-scroll", tabindex: "0", role: "region", "aria-label": "Other scores" }, el("table", { class: "cs-table cs-parts" },
    el("thead", {}, el("tr", {}, ["Part", "Score", "95 % interval", ""].map((name) => el("th", { scope: "col" }, name)))),
    el("tbody", {}, scores.map(([name, score]) => el("tr", {}, el("td", {}, name), el("td", {}, el("b", {}, figure(score))), el("td", { class: "cs-faint" }, interval(score)), el("td", { class: "cs-wide" }, isShare(score) ? range(score) : null))))));
  const named = (one, name) => { const rest = name.slice(one.benchmark.length + 1); return name.startsWith(`${one.benchmark} `) && rest ? rest.charAt(0).toUpperCase() + rest.slice(1) : name; };

  space.widget("evaluate-result", (element, props, trigger) => {
    const title = el("h2", {}), state = el("span"), line = el("p", { class: "cs-head-line" }), why = el("p", { class: "cs-head-why", hidden: true });
    const said = el("span"), stop = el("button", { type: "button", id: "evaluate-stop", class: "cs-more" }, "Stop"), owner = el("a", { class: "cs-link" }, "Open its run");
    const bar = el("span", { class: "cs-bar cs-bar-big", role: "progressbar", "aria-label": "Problems graded", "aria-valuemin": "0", "aria-valuemax": "100" }, el("i"));
    const busy = el("div", { class: "cs-busy", hidden: true }, bar, el("div", { class: "cs-busy-line", role: "status" }, said, el("span", { class: "cs-grow" }), owner, stop));
    const score = el("div", { class: "cs-score", hidden: true }), parts = el("div", { hidden: true }), oneLine = el("span", { class: "cs-one-line" }), facts = el("dl", { class: "cs-facts" });
    const protocol = el("details", { class: "cs-protocol", hidden: true }, el("summary", {}, el("b", {}, "Protocol"), oneLine), facts);
    const empty = el("div", { class: "cs-empty", hidden: true });
    const card = el("div", { class: "cs-head" }, el("div", { class: "cs-head-top" }, title, state), line, busy, why, score, parts, protocol);
    element.append(empty, card);
    let drawn = "", stopped = null;
    stop.addEventListener("click", () => { stopped = shown.entry.run_id; stop.disabled = true; setText(stop, "Stopping"); props.value = stopped; trigger("select", { id: stopped }); });
    const fact = (name, ...value) => [el("dt", {}, name), el("dd", {}, ...value)];

    const draw = () => {
      const one = shown.entry || shown.body, key = JSON.stringify([one, shown.body?.problems.length, shown.key, shown.missing, shown.entries.length > 0]);
      if (key === drawn) return;
      drawn = key;
      document.getElementById("evaluate-tab")?.classList.toggle("cs-noeval", !one);
      card.hidden = !one; empty.hidden = Boolean(one) || Boolean(shown.key);
      if (!one) return empty.replaceChildren(...(shown.missing
        ? [el("h3", {}, "There is no such evaluation"), el("p", {}, "Its run may have been deleted. Choose another one in the list.")]
        : [el("h3", {}, "How good is the model at code?"), el("p", {}, "Choose a model and a benchmark, then press Evaluate. The score comes with its interval, every problem with the model\u2019s answer, the program taken from it and the verdict."), el("a", { class: "cs-link", href: "#start" }, "No model yet? Train your first one")]));
      setText(title, one.model); state.replaceChildren(badge(one));
      setText(line, [one.benchmark, one.model.startsWith(one.run_name) ? null : one.run_name, when(one.at)].filter(Boolean).join(" \u00b7 "));
      const over = isOver(one), mine = one.kind === "evaluate", share = Math.floor(part(one) * 100);
      busy.hidden = one.state === "done"; bar.firstChild.style.width = `${share}%`; bar.dataset.state = stateOf(one)[0]; bar.setAttribute("aria-valuenow", String(share));
      setText(said, progress(one));
      if (over || one.run_state === "running" && stopped !== one.run_id) stopped = null;
      stop.hidden = over || !mine; stop.disabled = stopped === one.run_id || one.run_state === "stopping"; setText(stop, stop.disabled ? "Stopping" : "Stop");
      owner.href = `#runs/${one.run_id}`;
      why.hidden = !one.reason; setText(why, one.reason || ""); why.dataset.state = one.state === "failed" && one.run_state !== "stopped" ? "failed" : one.run_state;
      const main = one.state === "done" ? headline(one) : null;
      score.hidden = !main;
      if (main) score.replaceChildren(el("div", { class: "cs-score-value" }, el("strong", {}, figure(main)), el("span", {}, `95 % interval ${interval(main)}`), isShare(main) ? range(main) : null), el("p", {}, claim(one, main)));
      const others = one.scores.filter((each) => each !== main);
      parts.hidden = !others.length; parts.replaceChildren(...(others.length ? [table(others.map((each) => [named(one, each.name), each]))] : []));
      protocol.hidden = !one.protocol; setText(oneLine, one.protocol || "");
      facts.replaceChildren(...fact("Protocol", one.protocol || ""), ...(one.measured ? [] : fact("Samples", `${count(one.num_samples)} asked for, ${count(one.num_graded)} graded, ${count(one.num_passed)} passed`)),
        ...(one.measured ? [] : fact("Isolation", one.weaker ? `${count(one.weaker)} answer${one.weaker === 1 ? "" : "s"} had tests that hold the solution\u2019s own objects, which is weaker: they stay with the solution and the tests see handles` : "every answer ran in a process that never saw the tests")),
        ...fact("Run", el("a", { class: "cs-link", href: `#runs/${one.run_id}` }, one.run_name)));
    };
    document.addEventListener("codex-evaluation", draw); draw();
  });
})();
