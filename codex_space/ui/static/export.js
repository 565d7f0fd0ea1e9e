// The Export tab: exports are polled; of the chosen one its files, what was proven of each, and lines to copy.
(() => {
  const space = window.codexSpace;
  const { el, bytes, count, number, when } = space;
  const all = new space.Poll("/api/exports", (_, body) => body.exports);
  const shown = { id: null, body: null, stamp: null };
  const tell = () => document.dispatchEvent(new CustomEvent("codex-export"));
  const word = (one) => one.state === "running" ? "exporting" : space.WORDS[one.state] || one.state;
  const badge = (one) => el("span", { class: "cs-state", "data-state": one.state }, word(one));
  const bar = (one) => el("span", { class: "cs-bar" }, el("i", { style: `width:${one.percent}%` }));

  const load = async (id) => {
    try {
      const body = await space.ask(`/api/exports/one?run=${encodeURIComponent(id)}`);
      if (shown.id === id) shown.body = body;
    } catch { if (shown.id === id) shown.stamp = null; } // asked again with the next look at the list
    tell();
  };

  space.widget("export-list", (element, props, trigger, watch) => {
    const list = el("div", { class: "cs-list" }); element.append(list);
    let entries = [], wanted = null, drawn = "";
    const choose = (id, write = true) => {
      wanted = null;
      if (id !== shown.id) Object.assign(shown, { id, body: null, stamp: null });
      if (write) space.write(`#export/${id}`);
      look();
    };
    const look = () => {
      const entry = entries.find((one) => one.run_id === shown.id), stamp = JSON.stringify(entry || null);
      if (shown.id && stamp !== shown.stamp) { shown.stamp = stamp; load(shown.id); }
      draw();
    };
    const draw = () => {
      const key = JSON.stringify([entries, shown.id]);
      if (key === drawn) return;
      drawn = key;
      if (!entries.length) return list.replaceChildren(el("p", { class: "cs-note" }, "None yet. Every export stays here with its files."));
      const focused = list.contains(document.activeElement) ? document.activeElement.dataset.key : null;
      list.replaceChildren(...entries.map((one) => el("button", { type: "button", class: "cs-item", "data-key": one.run_id, "aria-pressed": String(one.run_id === shown.id), onclick: () => choose(one.run_id) },
        el("span", { class: "cs-run-top" }, el("b", {}, one.name), badge(one)),
        el("span", { class: "cs-run-sub" }, el("span", {}, one.types.join(", ")), el("span", {}, when(one.at))),
        space.isFinal(one.state) ? null : bar(one))));
      if (focused) list.querySelector(`[data-key="${CSS.escape(focused)}"]`)?.focus({ preventScroll: true });
    };
    const go = ({ tab, rest }) => { if (tab === "export" && rest && !rest.startsWith("run:")) choose(rest, false); };
    watch("value", () => { if (props.value) { wanted = props.value; all.wake(); choose(props.value); } });
    document.addEventListener("codex-place", (event) => go(event.detail));
    all.join(element, (found) => {
      entries = found || [];
      if (!shown.id && !wanted) go(space.place());
      if (!shown.id && entries.length) choose(entries[0].run_id, false);
      look();
    });
  });

  const address = (one, name) => `${space.root()}/api/exports/${encodeURIComponent(one.run_id)}/files/${encodeURIComponent(name)}/content`;
  const copy = (text) => {
    const button = el("button", { type: "button", class: "cs-link", onclick: async () => {
      await navigator.clipboard.writeText(text);
      button.textContent = "Copied"; setTimeout(() => { button.textContent = "Copy"; }, 1500);
    } }, "Copy");
    return button;
  };
  const percent = (value) => value === null || value === undefined ? "\u2013" : `${(100 * value).toFixed(1)} %`;
  const HEAD = [["Type"], ["Size"], ["Tokens", "Of the test strings, how many the file cuts into the model's own tokens"], ["KL", "Mean divergence from the model in nats a token; 0 is equal"],
    ["Top 1", "How often its likeliest token is the model's"], ["Answers", "Greedy answers that are the model's, token for token"], ["Stops", "Whether a chat ends where the model ends it"], ["Tokens/s"], ["pass@1"]];
  const actions = (one, file) => el("div", { class: "cs-file-actions" },
    el("a", { class: "cs-link", href: address(one, file.path), download: file.path }, "Download"),
    file.type === "LoRA" ? null : [el("a", { class: "cs-link", href: `#playground/gguf:${one.run_id}/${file.path}` }, "Chat"), el("a", { class: "cs-link", href: `#evaluate/gguf:${one.run_id}/${file.path}` }, "Evaluate")]);
  const row = (one, file) => el("tr", { "data-type": file.type, "data-passed": String(file.passed) },
    el("td", {}, el("b", {}, file.type), file.best.length ? el("span", { class: "cs-best" }, el("span", { class: "cs-chip" }, `best for ${file.best.join(", ")} GB`)) : null, file.passed ? actions(one, file) : null),
    el("td", {}, bytes(file.bytes)),
    file.passed ? [
      el("td", {}, `${count(file.num_strings)} of ${count(file.num_strings)}`), el("td", {}, number(file.kl)), el("td", {}, percent(file.top1)),
      el("td", {}, file.answers_equal), el("td", {}, file.stops === null ? "\u2013" : file.stops ? "yes" : "no"), el("td", {}, number(file.tokens_per_s)),
      el("td", {}, file.scores.length ? percent(file.scores[0].value) : "\u2013", file.scores.length ? el("small", { class: "cs-faint" }, ` ${file.scores[0].benchmark}`) : null),
    ] : el("td", { colspan: 7, class: "cs-refused" }, el("b", {}, "Not offered. "), file.why));

  const use = (one) => {
    const host = el("div", { class: "cs-switch", role: "tablist" }), text = el("pre", { class: "cs-command" }), place = el("div", { class: "cs-run-top" });
    const show = (at) => {
      [...host.children].forEach((button, i) => button.setAttribute("aria-pressed", String(i === at)));
      text.textContent = one.use[at][1]; place.replaceChildren(el("span", { class: "cs-note" }, "In the folder of the files:"), copy(one.use[at][1]));
    };
    host.append(...one.use.map(([name], at) => el("button", { type: "button", class: "cs-chip-button", onclick: () => show(at) }, name)));
    show(0);
    return [el("h3", {}, "Use it in"), host, place, text];
  };

  space.widget("export-result", (element, props, trigger) => {
    let drawn = "";
    const wish = (verb, one) => { props.value = `${verb} ${one.run_id}`; trigger("select", {}); };
    const draw = () => {
      const one = shown.body, key = JSON.stringify(one);
      if (key === drawn) return;
      drawn = key;
      if (!one) return element.replaceChildren(el("div", { class: "cs-empty" }, el("h3", {}, "Take a model home"),
        el("p", {}, "Tick the types you want and press Export. Each file is compared with the model before it is offered: same tokens, same answers, same end.")));
      const over = space.isFinal(one.state), reference = one.reference;
      element.replaceChildren(...[
        el("div", { class: "cs-run-top" }, el("h3", {}, one.name), badge(one)),
        el("p", { class: "cs-note" }, [one.model, when(one.at)].join(" \u00b7 ")),
        over ? null : el("div", { class: "cs-busy-line" }, el("span", {}, one.phase || "waits for its turn"), el("span", { class: "cs-faint" }, `${one.percent} %`), el("button", { type: "button", class: "cs-link", onclick: () => wish("stop", one) }, "Stop")),
        over ? null : bar(one),
        one.reason ? el("p", { class: one.state === "failed" ? "cs-refused" : "cs-note" }, one.reason) : null,
        over && one.state !== "succeeded" ? el("button", { type: "button", class: "cs-link", onclick: () => wish("resume", one) }, "Resume") : null,
        one.files.length ? el("div", { class: "cs-scroll", tabindex: "0", role: "region", "aria-label": "Files" }, el("table", { class: "cs-table" },
          el("thead", {}, el("tr", {}, HEAD.map(([name, title]) => el("th", { scope: "col", title }, name)))),
          el("tbody", {}, one.files.map((file) => row(one, file))))) : null,
        reference.num_tokens ? el("p", { class: "cs-note" }, `Compared with the model in ${reference.dtype} on ${count(reference.num_tokens)} tokens of code.`,
          reference.logits_std < 1 ? " The model is so undecided (its logits hardly spread) that a small KL says little." : "",
          reference.normalised ? " The model's tokenizer brings text into Unicode's NFC form first, which programs around llama.cpp do not: texts in NFC were compared." : "") : null,
        one.note ? el("p", { class: "cs-note" }, one.note) : null,
        one.others.length && over ? el("p", { class: "cs-files" }, "Beside them: ", ...one.others.map((name) => el("a", { class: "cs-link", href: address(one, name), download: name }, name))) : null,
        ...(one.use.length && over ? use(one) : []),
      ].filter(Boolean));
    };
    document.addEventListener("codex-export", draw);
    draw();
  });
})();
