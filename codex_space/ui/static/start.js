// The Start tab: four steps that tick by, two small curves, and the newest run.
(() => {
  const space = window.codexSpace;
  const { el, setText, count, duration, number, elapsed, share, Chart } = space;
  const STEPS = [
    ["Tokenizer", "learns 4,096 pieces of Python from the code on this machine"],
    ["Base model", "learns to continue Python, from random weights"],
    ["Tuning", "learns to answer requests, from our sample chats"],
    ["Chat", "talk to it in the Playground"],
  ];

  space.widget("start-steps", (element, props, trigger) => {
    const items = STEPS.map(([title, text]) => el("li", { "data-state": "wait" }, el("span", { class: "cs-step-mark" }), el("div", {}, el("b", {}, title), el("span", { class: "cs-step-text" }, text), el("span", { class: "cs-bar", hidden: true }, el("i")))));
    const chatLink = el("a", { class: "cs-link", href: "#playground", hidden: true }, "Chat with it");
    items[3].lastChild.append(chatLink);
    const hosts = ["Base model, loss", "Tuning, loss"].map((label) => el("figure", { class: "cs-mini" }, el("figcaption", {}, label, el("b"))));
    const curves = el("div", { class: "cs-minis", hidden: true }, hosts);
    element.append(el("ol", { class: "cs-steps" }, items), curves);
    const charts = hosts.map((host, i) => new Chart(host, { height: 110, small: true, label: ["Loss of the base model", "Loss of the tuning"][i] }));
    let ids = [], leaves = [], seen = "", known = "";
    const bodies = {};
    const draw = () => {
      const runs = ids.map((id) => bodies[id]?.run);
      items.slice(0, 3).forEach((item, i) => {
        const run = runs[i], bar = item.querySelector(".cs-bar"), text = item.querySelector(".cs-step-text");
        const state = !run || run.state === "queued" ? "wait" : run.state === "succeeded" ? "done" : space.isFinal(run.state) ? "bad" : "busy";
        item.dataset.state = state;
        bar.hidden = state !== "busy"; bar.firstChild.style.width = `${(run && share(run) || 0) * 100}%`;
        const left = run?.eta_s ? `, ${duration(run.eta_s)} left` : "";
        setText(text, state === "done" ? `done in ${duration(elapsed(run))}` : state === "bad" ? `${space.WORDS[run.state]}: ${run.reason || "see the run's log"}`
          : state === "busy" ? (run.max_steps ? `step ${count(run.step)} of ${count(run.max_steps)}${left}` : space.doing(run)) : STEPS[i][1]);
      });
      const ready = runs[2]?.state === "succeeded";
      items[3].dataset.state = ready ? "busy" : "wait"; chatLink.hidden = !ready;
      if (ready) chatLink.href = `#playground/run:${ids[2]}`;
      curves.hidden = !ids.slice(1).some((id) => bodies[id]?.curves?.loss);
      ids.slice(1).forEach((id, i) => {
        const found = bodies[id]?.curves || {}, series = [];
        if (found.loss) series.push({ ...found.loss, label: "loss", color: 0, weight: 0.6 });
        if (found.eval_loss) series.push({ ...found.eval_loss, label: "validation", color: 1, points: true });
        charts[i].set(series);
        setText(hosts[i].querySelector("b"), found.loss ? ` ${number(found.loss.values[found.loss.values.length - 1])}` : "");
      });
      const now = runs.map((run) => run?.state).join();
      if (now !== known) { const first = known === ""; known = now; if (!first && runs.every(Boolean)) trigger("change", {}); }
    };
    const join = (found) => {
      if (found.join() === ids.join()) return;
      leaves.forEach((leave) => leave()); ids = found; known = "";
      leaves = ids.map((id) => space.watch(id, element, (body) => { bodies[id] = body || {}; draw(); }));
      draw();
    };
    space.overview.join(element, async (now) => {
      const newest = now?.runs?.slice(0, 5).map((run) => run.id).join() || "";
      if (!now || newest === seen) return;
      seen = newest;
      try { join((await space.ask("/api/first-model")).runs); } catch { seen = ""; }
    });
  });

  space.widget("start-newest", (element) => {
    const box = el("a", { class: "cs-newest", hidden: true, href: "#runs" }), host = el("div", { class: "cs-newest-chart" });
    element.append(box);
    const head = el("div", { class: "cs-newest-text" }), chart = new Chart(host, { height: 64, small: true, label: "Loss of the newest run" });
    box.append(head, host);
    let id = null, leave = null;
    space.overview.join(element, (now) => {
      const run = now?.holder || now?.runs?.[0];
      if (!run || run.id === id) return;
      id = run.id; leave?.(); box.href = `#runs/${id}`;
      leave = space.watch(id, element, (body) => {
        if (!body?.run || body.run.id !== id) return;
        const { run: mine, curves } = body, over = space.isFinal(mine.state);
        box.hidden = false;
        head.replaceChildren(el("small", {}, over ? "Newest run" : "Running now"), el("b", {}, mine.name), el("span", {}, [space.WORDS[mine.state], mine.max_steps ? `step ${count(mine.step)} of ${count(mine.max_steps)}` : null, duration(elapsed(mine)) || null].filter(Boolean).join(" \u00b7 ")));
        host.hidden = !curves.loss;
        if (curves.loss) chart.set([{ ...curves.loss, label: "loss", color: 0, weight: 0.6 }]);
      });
    });
  });
})();
