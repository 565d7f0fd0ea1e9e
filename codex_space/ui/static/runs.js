// The Runs tab: list, head, chart, checkpoints and log of the chosen run, all drawn from what is polled.
(() => {
  const space = window.codexSpace;
  const { word, el, setText, count, number, bytes, duration, when, share, elapsed, Chart, PALETTE } = space;
  const chosen = { id: null, compare: new Set() };
  const colours = new Map();
  const colourOf = (id) => { if (!colours.has(id)) colours.set(id, colours.size); return colours.get(id); };
  const tell = () => document.dispatchEvent(new CustomEvent("codex-chosen"));
  const METRICS = {
    loss: ["Loss", "nats per token"], perplexity: ["Perplexity", "tokens"], bits_per_byte: ["Bits per byte", "bits/byte"],
    mean_token_accuracy: ["Token accuracy", "share of tokens right"], entropy: ["Entropy", "nats per token"], nll_loss: ["Loss of the chosen answers", "nats per token"],
    "rewards/margins": ["Reward margin", "chosen less rejected"], "rewards/accuracies": ["Pairs ranked right", "share"], "rewards/chosen": ["Reward of the chosen", ""],
    "rewards/rejected": ["Reward of the rejected", ""], accuracy: ["Pairs ranked right", "share"], margin: ["Reward margin", "chosen less rejected"], mean_reward: ["Mean reward", ""],
    "logps/chosen": ["Log probability of the chosen", "nats"], "logps/rejected": ["Log probability of the rejected", "nats"], kl: ["KL to the reference", "nats"],
    learning_rate: ["Learning rate", ""], grad_norm: ["Gradient norm", ""],
    tokens_per_s: ["Speed", "tokens/s"], mfu: ["Share of the GPU's peak (MFU)", "of its dense peak"], data_wait: ["Waiting for data", "share of the time"], num_tokens: ["Tokens seen", "tokens"],
    gpu_percent: ["GPU busy", "% of the time"], gpu_memory_mib: ["GPU memory, all programs", "MiB"], memory_mib: ["Memory of the run", "MiB"], gpu_temperature_c: ["GPU temperature", "\u00b0C"],
    gpu_power_w: ["GPU power", "W"], cpu_percent: ["Processors busy", "%"], ram_percent: ["RAM in use", "%"],
  };
  const PASS = "pass@1 ";
  const plain = (name) => name.replace(/^eval_/, "");
  const metricOf = (name) => {
    if (name.startsWith(PASS)) return [`pass@1 on ${name.slice(PASS.length)}`, "share of problems solved"];
    const [title, unit] = METRICS[plain(name)] || [plain(name), ""];
    return [name === plain(name) ? title : `Validation: ${title[0].toLowerCase()}${title.slice(1)}`, unit];
  };
  const GROUPS = [["Loss", /^(loss|perplexity|bits_per_byte|mean_token_accuracy|entropy|.*_loss)$/], ["Preference", /^(rewards|logps|logits)\/|^(accuracy|margin|kl|.*_reward|log_odds.*)$/],
    ["Gradient", /^(learning_rate|grad_norm)$/], ["Speed", /^(tokens_per_s|mfu|data_wait|num_tokens)$/], ["Machine", /^(gpu|cpu|ram|memory)_/], ["Benchmarks", /^pass@1 /], ["Other", /./]];
  const groupOf = (name) => GROUPS.find(([, pattern]) => pattern.test(plain(name)))[0];
  const UPLOADS = { none: "this machine only", queued: "waits for its upload", uploading: "uploading", uploaded: "on the Hub", failed: "upload failed" };

  const badge = (run) => el("span", { class: "cs-state", "data-state": run.state }, word(run));
  const spark = (values) => {
    if (!values || values.length < 2) return el("span", { class: "cs-spark" });
    const low = Math.min(...values), high = Math.max(...values), span = high - low || 1;
    const points = values.map((value, i) => `${(i / (values.length - 1) * 62 + 1).toFixed(1)},${(17 - (value - low) / span * 15).toFixed(1)}`).join(" ");
    const box = el("span", { class: "cs-spark", "aria-hidden": "true" });
    box.innerHTML = `<svg width="64" height="18"><polyline points="${points}"/></svg>`;
    return box;
  };
  const cost = (run) => run.usd ? ` \u00b7 $${run.usd.toFixed(2)}` : "";
  const probed = (told) => told ? `memory ${told.peak_gib.toFixed(2)} GiB${told.estimated_gib ? `, estimated ${told.estimated_gib.toFixed(2)}` : ""}` : null;
  const progress = (run) => {
    const part = share(run);
    if (run.state === "queued") return "waits for its turn";
    if (space.isFinal(run.state)) return `${run.step ? `${count(run.step)} steps \u00b7 ` : ""}${duration(elapsed(run)) || when(run.created_at)}${cost(run)}`;
    return part === null ? space.doing(run) : `${Math.floor(part * 100)} % \u00b7 step ${count(run.step)} of ${count(run.max_steps)}${cost(run)}`;
  };

  space.widget("runs-list", (element, props, trigger) => {
    const search = el("input", { type: "search", id: "runs-search", class: "cs-input", placeholder: "Find by name, kind or id", "aria-label": "Find runs by name, kind or id" });
    const list = el("div", { class: "cs-list" });
    const more = el("button", { type: "button", id: "runs-more", class: "cs-more", hidden: true }, "Show older runs");
    const hint = el("p", { class: "cs-note" }, "Tick runs to compare their curves.");
    element.append(search, list, more, hint);
    let live = [], pages = [], drawn = "", stopWatching = null, known = "";
    const choose = (id, write = true) => {
      if (!id || chosen.id === id) return;
      chosen.id = id;
      if (write) space.write(`#runs/${id}`);
      known = "";
      stopWatching?.();
      stopWatching = space.watch(id, element, (body) => {
        const now = body ? `${body.run?.state}/${body.checkpoints?.length}` : "gone";
        if (now !== known) { const first = known === ""; known = now; if (!first) { props.value = id; trigger("change", { id }); } }
        if (!body) { chosen.id = null; space.write("#runs"); draw(true); }
      });
      props.value = id; trigger("select", { id }); tell(); draw(true);
    };
    const shown = () => { const seen = new Set(); return [...(search.value ? [] : live), ...pages].filter((run) => !seen.has(run.id) && seen.add(run.id)); };
    const draw = (force) => {
      const all = shown(), key = JSON.stringify([all, chosen.id, [...chosen.compare]]);
      if (!force && key === drawn) return;
      drawn = key;
      hint.hidden = all.length < 2;
      if (!all.length) {
        list.replaceChildren(el("div", { class: "cs-empty" }, el("h3", {}, search.value ? "No run matches" : "No runs yet"),
          el("p", {}, search.value ? "Try fewer letters." : "Every run you start is listed here with its curves."), search.value ? null : el("a", { class: "cs-link", href: "#start" }, "Train your first model")));
        return;
      }
      const focused = document.activeElement?.dataset?.run, box = document.activeElement?.type === "checkbox";
      list.replaceChildren(...all.map((run) => el("div", { class: "cs-run", "data-on": run.id === chosen.id ? "1" : null },
        el("input", { type: "checkbox", "data-run": run.id, "aria-label": `Compare ${run.name}`, checked: chosen.compare.has(run.id) || run.id === chosen.id, disabled: run.id === chosen.id,
          style: `accent-color: var(${PALETTE[colourOf(run.id) % PALETTE.length]})`, onchange: (event) => { chosen.compare[event.target.checked ? "add" : "delete"](run.id); tell(); } }),
        el("button", { type: "button", "data-run": run.id, "aria-current": run.id === chosen.id ? "true" : null, onclick: () => choose(run.id) },
          el("span", { class: "cs-run-top" }, el("b", {}, run.name), badge(run)),
          el("span", { class: "cs-run-sub" }, el("span", {}, `${run.kind} \u00b7 ${progress(run)}`), spark(run.spark)),
          space.isFinal(run.state) || !run.max_steps ? null : el("span", { class: "cs-bar" }, el("i", { style: `width:${share(run) * 100}%` }))))));
      if (focused) list.querySelector(`${box ? "input" : "button"}[data-run="${focused}"]`)?.focus({ preventScroll: true });
    };
    const page = async (offset) => {
      const found = await space.ask(`/api/runs?offset=${offset}&search=${encodeURIComponent(search.value)}`);
      pages = offset ? pages.concat(found.runs) : found.runs;
      more.hidden = !found.more; draw();
    };
    let typing = null;
    search.addEventListener("input", () => { clearTimeout(typing); typing = setTimeout(() => { pages = []; page(0); }, 200); });
    more.addEventListener("click", () => page(shown().length));
    space.overview.join(element, (now) => {
      if (!now) return;
      live = now.runs; more.hidden = search.value ? more.hidden : live.length < 50;
      const { tab, rest } = space.place();
      if (!chosen.id) choose(tab === "runs" && rest ? rest : (now.holder || live[0])?.id, tab === "runs");
      draw();
    });
    document.addEventListener("codex-place", (event) => { if (event.detail.tab === "runs" && event.detail.rest) choose(event.detail.rest); });
  });

  // Calls `show(body)` for the chosen run, whichever that is.
  const followChosen = (element, show) => {
    let leave = null, id;
    const join = () => {
      if (id === chosen.id) return;
      leave?.(); id = chosen.id; leave = null;
      if (!id) return show(null);
      const mine = id;
      leave = space.watch(id, element, (body) => { if (mine === chosen.id) show(body); });
    };
    document.addEventListener("codex-chosen", join); join();
  };

  space.followChosen = followChosen;

  // Calls `draw(bodies)`, by run id and the chosen one first, for it and all it is compared with.
  const followCompared = (element, draw) => {
    const bodies = new Map(), leaves = new Map();
    const wanted = () => [chosen.id, ...chosen.compare].filter((id, i, all) => id && all.indexOf(id) === i);
    const show = () => draw(new Map(wanted().filter((id) => bodies.has(id)).map((id) => [id, bodies.get(id)])));
    const join = () => {
      const ids = wanted();
      for (const [id, leave] of leaves) if (!ids.includes(id)) { leave(); leaves.delete(id); bodies.delete(id); }
      for (const id of ids) if (!leaves.has(id)) leaves.set(id, space.watch(id, element, (body) => { if (body) bodies.set(id, body); else { bodies.delete(id); chosen.compare.delete(id); } show(); }));
      show();
    };
    document.addEventListener("codex-chosen", join); join();
    return show;
  };
  // First and last step of anything that is known of these runs: the charts of one tab share their x axis.
  const spanOf = (bodies) => {
    const steps = [...bodies.values()].flatMap((body) => [...Object.values(body.curves).flatMap((curve) => [curve.steps[0], curve.steps[curve.steps.length - 1]]), ...(body.evaluations || []).map((one) => one.step)]).filter(Number.isFinite);
    return steps.length ? [Math.min(...steps), Math.max(...steps)] : [];
  };
  space.compared = { follow: followCompared, spanOf, colourOf };

  space.widget("runs-head", (element) => {
    const title = el("h2", {}), state = el("span"), line = el("p", { class: "cs-head-line" }), why = el("p", { class: "cs-head-why", hidden: true });
    const job = el("p", { class: "cs-head-line", hidden: true }), jobFacts = el("span", {}), jobLink = el("a", { class: "cs-link", target: "_blank", rel: "noopener", hidden: true }, "See it on the Hub");
    job.append(jobFacts, " ", jobLink);
    const then = el("p", { class: "cs-head-line", id: "runs-after", hidden: true });
    const bar = el("span", { class: "cs-bar cs-bar-big", role: "progressbar", "aria-label": "Progress of the run", "aria-valuemin": "0", "aria-valuemax": "100" }, el("i"));
    element.append(el("div", { class: "cs-head" }, el("div", { class: "cs-head-top" }, title, state), line, job, then, bar, why));
    // Where it trains on a rented machine: which, for how long, and what that has cost so far.
    const drawJob = (told) => {
      job.hidden = !told;
      if (!told) return;
      const bits = [`HF Jobs${told.flavor ? ` on ${told.flavor}` : ""}`, told.stage.toLowerCase(), told.seconds ? duration(told.seconds) : null, told.usd === null ? null : `$${told.usd.toFixed(2)}`];
      setText(jobFacts, bits.filter(Boolean).join(" \u00b7 "));
      jobLink.hidden = !/^https?:\/\//.test(told.url);
      if (!jobLink.hidden) jobLink.href = told.url;
    };
    // What follows once the run has succeeded, with a link to it as soon as it is queued.
    let drawnAfter = "";
    const drawAfter = (told) => {
      const key = JSON.stringify(told || []);
      if (key === drawnAfter) return;
      drawnAfter = key;
      then.hidden = !told?.length;
      then.replaceChildren(...(told || []).flatMap((one) => {
        const what = `export as ${one.types.join(", ")}`, of = ` of the ${one.checkpoint} checkpoint`;
        if (one.run) return ["Then ", el("a", { class: "cs-link", href: `#export/${one.run}` }, what), `${of} `, badge({ state: one.state, kind: "export" })];
        const rest = { planned: one.reason, waiting: one.reason || "is being queued.", failed: `Not queued: ${one.reason}`, deleted: "It was deleted." }[one.state];
        return [`Then ${what}${of}${rest ? ". " : ""}${rest || ""}`];
      }));
    };
    followChosen(element, (body) => {
      const run = body?.run;
      drawAfter(body?.after);
      setText(title, run ? run.name : "No run is chosen");
      drawJob(body?.job);
      state.replaceChildren(...(run ? [badge(run)] : []));
      document.getElementById("runs-tab")?.classList.toggle("cs-norun", !run);
      if (!run) { setText(line, "Curves, checkpoints and log of a run are shown here, live while it trains. Start one on Start or Train."); bar.hidden = true; why.hidden = true; return; }
      const part = share(run), over = space.isFinal(run.state), took = duration(elapsed(run));
      const bits = [run.kind, run.max_steps ? `step ${count(run.step)} of ${count(run.max_steps)}` : space.isFinal(run.state) ? null : space.doing(run), part !== null && !over ? `${Math.floor(part * 100)} %` : null,
        took ? `${took}${over ? "" : " so far"}` : null, !over && run.eta_s ? `${duration(run.eta_s)} left` : null, run.attempt > 1 ? `attempt ${run.attempt}` : null, body.usd && !body.job ? `$${body.usd.toFixed(2)}` : null, probed(body.probe), run.max_steps && !over && run.phase ? space.doing(run) : null];
      setText(line, bits.filter(Boolean).join(" \u00b7 ") || "waits for its turn");
      bar.hidden = false; bar.firstChild.style.width = `${(part ?? 0) * 100}%`; bar.dataset.state = run.state;
      bar.setAttribute("aria-valuenow", String(Math.floor((part ?? 0) * 100)));
      why.hidden = !run.reason; setText(why, run.reason || ""); why.dataset.state = run.state;
    });
  });

  space.widget("runs-chart", (element) => {
    const metric = el("select", { id: "runs-metric", class: "cs-input", "aria-label": "Metric" });
    const slider = el("input", { type: "range", id: "runs-smoothing", min: "0", max: "0.98", step: "0.02", value: "0", "aria-label": "Smoothing" });
    const log = el("input", { type: "checkbox", id: "runs-log-scale" });
    const unit = el("span", { class: "cs-faint" }), host = el("div", { class: "cs-chart-host" }), readout = el("div", { class: "cs-readout", "aria-live": "off" });
    const empty = el("p", { class: "cs-chart-empty" });
    const legend = el("p", { class: "cs-legend", hidden: true }, "Checkpoints: ", ...[["none", "here"], ["queued", "uploading"], ["uploaded", "on the Hub"], ["failed", "upload failed"]].map(([kind, word]) => el("span", { "data-upload": kind }, word)));
    const minis = el("div", { class: "cs-beside", role: "group", "aria-label": "The other curves of this group" }), small = new Map();
    element.append(el("div", { class: "cs-chart-bar" }, el("label", {}, "Metric ", metric), el("label", {}, "Smoothing ", slider), el("label", {}, log, " Log scale"), el("span", { class: "cs-grow" }), unit), host, empty, readout, legend, minis);
    const chart = new Chart(host, { height: 320, label: "Curve" });
    let names = null;
    const seriesOf = (id, body, name) => {
      const color = colourOf(id), label = body.run.name, few = name.startsWith("eval_") || name.startsWith(PASS);
      const both = [[body.curves[name], { label, points: few, weight: Number(slider.value) }], [body.curves[`eval_${name}`], { label: `${label}, validation`, points: true }]];
      return both.filter(([curve]) => curve).map(([curve, how]) => ({ ...curve, ...how, color }));
    };
    const draw = (bodies) => {
      const main = bodies.get(chosen.id), mine = main?.curves || {};
      // A curve and its like on validation rows share a chart.
      const known = Object.keys(mine).filter((name) => name !== "epoch" && (name === plain(name) || !mine[plain(name)]));
      const order = Object.keys(METRICS), rank = (name) => 2 * ((order.indexOf(plain(name)) + 1) || 99) + (name !== plain(name));
      known.sort((a, b) => rank(a) - rank(b));
      if (known.join() !== names) {
        names = known.join();
        const before = metric.value || "loss";
        metric.disabled = !known.length;
        metric.replaceChildren(...(known.length ? [] : [el("option", { value: "" }, "nothing logged yet")]), ...GROUPS.map(([group]) => [group, known.filter((name) => groupOf(name) === group)]).filter(([, mine]) => mine.length)
          .map(([group, mine]) => el("optgroup", { label: group }, mine.map((name) => el("option", { value: name }, metricOf(name)[0])))));
        metric.value = known.includes(before) ? before : known[0] || "";
      }
      const name = metric.value, series = [];
      for (const [id, body] of bodies) {
        series.push(...seriesOf(id, body, name));
      }
      const marks = (main?.checkpoints || []).map((row) => ({ step: row.step, kind: row.upload }));
      setText(unit, metricOf(name)[1]);
      setText(empty, main?.run.kind === "evaluate" ? "An evaluation has no curve." : "The curve starts with the first logged step.");
      empty.hidden = series.length > 0; host.classList.toggle("cs-blank", !series.length); legend.hidden = !marks.length || !series.length;
      chart.label = metricOf(name)[0] || "Curve";
      chart.span = spanOf(bodies);
      chart.set(series, marks, log.checked);
      show(chart.readout());
      beside(bodies, known.filter((other) => other !== name && groupOf(other) === groupOf(name)));
    };
    // The other curves of the same group, small; a press makes one the large one.
    const beside = (bodies, wanted) => {
      minis.hidden = !wanted.length;
      for (const [name, one] of small) if (!wanted.includes(name)) { one.box.remove(); small.delete(name); }
      wanted.forEach((name, at) => {
        if (!small.has(name)) {
          const value = el("b"), place = el("span");
          const box = el("button", { type: "button", class: "cs-mini-button", "data-metric": name, onclick: () => { metric.value = name; again(); metric.focus({ preventScroll: true }); } }, el("span", {}, metricOf(name)[0], " ", value), place);
          small.set(name, { box, value, chart: new Chart(place, { height: 64, label: metricOf(name)[0], small: true }) });
        }
        const one = small.get(name);
        if (minis.children[at] !== one.box) minis.insertBefore(one.box, minis.children[at] || null);
        one.chart.set([...bodies].flatMap(([id, body]) => seriesOf(id, body, name)));
        setText(one.value, number(bodies.get(chosen.id)?.curves[name]?.values.at(-1)));
      });
    };
    const show = (rows) => readout.replaceChildren(...rows.map((row) => el("span", {}, el("i", { class: row.points ? "cs-dash" : "", style: `--c: var(${PALETTE[row.color % PALETTE.length]})` }), `${row.label} `, el("b", {}, number(row.value)), el("span", { class: "cs-faint" }, ` step ${count(row.step)}`))));
    chart.onCursor = show;
    const again = followCompared(element, draw);
    for (const input of [metric, slider, log]) input.addEventListener("input", again);
  });

  space.widget("runs-checkpoints", (element, props, trigger) => {
    const place = el("div"); element.append(place);
    let drawn = "";
    followChosen(element, (body) => {
      const rows = [...(body?.checkpoints || [])].reverse(), scores = space.scoresOf(body), key = JSON.stringify([rows, scores, body?.run?.id, body?.run?.kind]);
      if (key === drawn) return;
      drawn = key;
      if (body?.run.kind === "evaluate") return place.replaceChildren(el("div", { class: "cs-empty" }, el("h3", {}, "An evaluation makes no checkpoint"), el("p", {}, "Its score and its problems are on a tab of their own."), el("a", { class: "cs-link", href: `#evaluate/${body.run.id}` }, "Show them on Evaluate")));
      if (!rows.length) return place.replaceChildren(el("div", { class: "cs-empty" }, el("h3", {}, "No checkpoint yet"), el("p", {}, "They appear here as they are saved. Save now makes one at once while the run trains.")));
      const id = body.run.id, cell = (...what) => el("td", {}, ...what), writes = !["tokenizer", "reward"].includes(body.run.kind);
      const scored = body.run.kind === "reward" ? el("p", { class: "cs-note" }, "A reward model gives an answer one number, higher for the better one. It writes no text: it is not for chatting, and benchmarks cannot ask it.") : "";
      place.replaceChildren(scored, el("div", { class: "cs-scroll", tabindex: "0", role: "region", "aria-label": "Checkpoints" }, el("table", { class: "cs-table" },
        el("thead", {}, el("tr", {}, ["Step", "Loss", "Validation loss", scores.length ? "pass@1" : null, "Size", "Where", ""].filter((name) => name !== null).map((name) => el("th", { scope: "col" }, name)))),
        el("tbody", {}, rows.map((row) => el("tr", {}, cell(count(row.step)), cell(number(row.metrics.loss)), cell(number(row.metrics.eval_loss)),
          scores.length ? cell(scores.filter((one) => one.step === row.step).map((one) => el("div", {}, `${(100 * one.value).toFixed(1)} % `, el("span", { class: "cs-faint" }, one.benchmark)))) : null, cell(row.on_disk || row.upload !== "none" ? bytes(row.size_bytes) : "\u2013"),
          cell(el("span", { "data-upload": row.upload, title: row.error || null }, !row.on_disk && row.upload === "uploaded" ? "on the Hub only" : row.on_disk || row.upload !== "none" ? UPLOADS[row.upload] : body.job ? "in the Job" : "rotated away"), row.error ? el("small", {}, row.error) : null),
          cell(row.on_disk && writes ? el("a", { class: "cs-link", href: `#playground/run:${id}@step-${row.step}` }, "Chat") : null,
            row.on_disk && writes ? el("a", { class: "cs-link", href: `#evaluate/run:${id}@step-${row.step}` }, "Evaluate") : null,
            row.on_disk && writes ? el("a", { class: "cs-link", href: `#export/run:${id}@step-${row.step}` }, "Export") : null,
            !row.on_disk && row.upload === "uploaded" && body.run.kind !== "export" ? el("button", { type: "button", class: "cs-more", "data-fetch": String(row.step), onclick: () => { props.value = `fetch ${row.step}`; trigger("select", { step: row.step }); } }, "Bring back") : null,
            row.upload === "failed" ? el("button", { type: "button", class: "cs-more", onclick: () => { props.value = String(row.step); trigger("select", { step: row.step }); } }, "Upload again") : null)))))));
    });
  });

  space.widget("runs-log", (element) => {
    const text = el("pre", { class: "cs-log", tabindex: "0", "aria-label": "Last lines of the log" }), link = el("a", { class: "cs-link", download: true }, "Download the whole log");
    element.append(text, link);
    followChosen(element, (body) => {
      const lines = body?.log?.length ? body.log.join("\n") : "Nothing written yet.";
      const atEnd = text.scrollTop + text.clientHeight >= text.scrollHeight - 20;
      if (text.textContent !== lines) { text.textContent = lines; if (atEnd) text.scrollTop = text.scrollHeight; }
      link.hidden = !body?.run; if (body?.run) link.href = `${space.root()}/api/runs/${body.run.id}/log/content`;
    });
  });
})();
