// The card of runs that lost their machine: one button each, or why a run cannot go on.
(() => {
  const space = window.codexSpace;
  const { el, count } = space;
  const poll = new space.Poll("/api/interrupted", (_, body) => body);

  const title = (runs, auto) => {
    const ready = runs.filter((run) => !run.blocked).length, many = `${runs.length} run${runs.length > 1 ? "s were" : " was"} interrupted`;
    return ready ? `${many}: go on${auto && runs.some((run) => run.is_own && !run.blocked) ? " (what may goes on by itself)" : ""}` : many;
  };

  space.widget("interrupted", (element, props, trigger) => {
    const card = el("section", { class: "cs-notice cs-interrupted", hidden: true, "aria-label": "Interrupted runs" }), pressed = new Set();
    element.append(card);
    const place = element.closest("[id$=-interrupted]") || element;
    place.classList.add("cs-none");
    let drawn = "";
    const draw = (body) => {
      const runs = body?.runs || [], key = JSON.stringify([runs.map((run) => ({ ...run, told: run.told.replace(/[0-9]+ seconds/, "") })), body?.auto, [...pressed]]);
      if (key === drawn) return;
      drawn = key;
      place.classList.toggle("cs-none", !runs.length);
      card.hidden = !runs.length;
      card.replaceChildren(el("b", {}, title(runs, body?.auto)), el("ul", {}, runs.map((run) => el("li", {},
        el("div", {}, el("strong", {}, run.name), el("span", { class: "cs-faint" }, ` ${run.kind}, ${run.step ? `goes on from step ${count(run.step)}` : "goes on from its newest checkpoint, or begins anew"}${run.where === "hub" ? ", from the Hub" : ""}`),
          el("p", {}, run.blocked ? el("span", { class: "cs-refused" }, `It cannot go on here: ${run.blocked}.`) : run.told)),
        run.blocked ? null : el("button", { type: "button", class: "cs-more", disabled: pressed.has(run.run_id), onclick: () => {
          pressed.add(run.run_id); setTimeout(() => { pressed.delete(run.run_id); draw(poll.latest); }, 15000);
          props.value = run.run_id; trigger("select", { run: run.run_id }); draw(poll.latest);
        } }, pressed.has(run.run_id) ? "Fetching" : "Go on")))));
    };
    poll.join(element.closest("[role=tabpanel]") || document.body, draw);
  });
})();
