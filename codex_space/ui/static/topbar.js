// The bar on top of every tab: product, machine, who holds it, connection; and a notice when a run ends.
(() => {
  const space = window.codexSpace;
  const { el, setText, share, duration } = space;
  const SHOWN_MS = 9000;
  const ENDED = { succeeded: ["good", "has finished"], failed: ["bad", "failed"], stopped: ["note", "was stopped"], lost: ["bad", "was lost"] };

  const notices = () => {
    let place = document.getElementById("codex-notices");
    if (!place) { place = el("div", { id: "codex-notices", role: "status", "aria-live": "polite" }); document.body.append(place); }
    return place;
  };
  const notify = (kind, title, text, href) => {
    const close = el("button", { type: "button", class: "cs-x", "aria-label": "Dismiss", onclick: () => box.remove() }, "\u00d7");
    const box = el("div", { class: `cs-toast cs-${kind}` },
      el("div", {}, el("b", {}, title), text ? el("p", {}, text) : null, href ? el("a", { class: "cs-link", href, onclick: () => box.remove() }, "Open it") : null), close);
    notices().append(box);
    if (kind !== "bad") setTimeout(() => { if (!box.matches(":hover, :focus-within")) box.remove(); }, SHOWN_MS);
  };

  // Who is here, and for those who may only look: what acts is shown as not to be pressed, with one line why. The server refuses it anyway.
  const introduce = async (place) => {
    const me = await space.ask("/api/me").catch(() => null);
    if (!me || (me.acts && !me.signed_in)) return;
    const away = window.self !== window.top ? { target: "_blank", rel: "noopener" } : {};
    const words = me.signed_in ? "Sign out" : "Sign in";
    place.append(el("span", { title: me.why || "" }, me.acts ? me.name : `${me.signed_in ? me.name : "Visitor"}, looking only`), me.link ? el("a", { class: "cs-link", href: me.link, ...away }, words) : null);
    place.hidden = false;
    if (me.acts) return;
    const parts = me.disabled.map((id) => `#${CSS.escape(id)}`).join(",");
    document.head.append(el("style", {}, `:is(${parts}) { pointer-events: none; opacity: .45; filter: grayscale(1); }`));
    const mark = () => document.querySelectorAll(parts).forEach((node) => { node.setAttribute("aria-disabled", "true"); node.title = me.why; node.tabIndex = -1; });
    mark(); new MutationObserver(mark).observe(document.body, { childList: true, subtree: true });
    document.querySelector(".cs-top")?.after(el("p", { class: "cs-looking", role: "note" }, me.why));
  };

  space.widget("topbar", (element) => {
    const machine = el("span", { class: "cs-chip", title: "What this program runs on" }, "\u2026");
    const holder = el("a", { class: "cs-holder", href: "#runs" }, el("span", { class: "cs-dot" }), el("span", { class: "cs-holder-text" }, "Nothing is running"), el("span", { class: "cs-holder-num" }), el("span", { class: "cs-bar" }, el("i")));
    const money = el("a", { class: "cs-chip", id: "top-money", href: "#space", hidden: true });
    const person = el("span", { class: "cs-person", hidden: true });
    const lost = el("span", { class: "cs-offline", hidden: true, role: "alert" }, "Connection lost, trying again");
    element.append(el("header", { class: "cs-top" },
      el("a", { class: "cs-brand", href: "#start" }, el("span", { class: "cs-logo", "aria-hidden": "true" }), "codex_space"), machine, money, el("span", { class: "cs-grow" }), lost, holder, person));
    introduce(person);
    space.online = (ok) => { lost.hidden = ok; };
    let told = null, watched = null, leave = null;
    const idle = (jobs) => !jobs ? "Nothing is running" : `${jobs} ${jobs === 1 ? "run trains" : "runs train"} on HF Jobs`;
    const fill = (run, jobs) => {
      const part = share(run), left = run && run.eta_s ? `, ${duration(run.eta_s)} left` : "";
      const verb = { preflight: "Preparing", running: { evaluate: "Evaluating", export: "Exporting" }[run?.kind] || "Training", stopping: "Stopping" }[run?.state] || "";
      setText(holder.querySelector(".cs-holder-text"), run ? `${verb} ${run.name}` : idle(jobs));
      setText(holder.querySelector(".cs-holder-num"), part === null ? "" : `${Math.floor(part * 100)} %${left}`);
      holder.href = run ? `#runs/${run.id}` : "#runs";
      holder.dataset.state = run?.state || (jobs ? "running" : "idle");
      holder.querySelector("i").style.width = `${(part || 0) * 100}%`;
      document.title = run && part !== null ? `${Math.floor(part * 100)} % \u00b7 codex_space` : "codex_space";
    };
    space.overview.join(element, (now) => {
      if (!now) return;
      setText(machine, now.machine);
      money.hidden = !now.money || !(now.money.usd_per_hour || now.money.month_usd);
      if (!money.hidden) {
        setText(money, `$${now.money.month_usd.toFixed(2)} this month`);
        const cap = now.money.cap_usd === null ? "" : `; runs stop at $${now.money.cap_usd.toFixed(2)} a month`;
        money.title = `${now.money.hardware || "this machine"}: $${now.money.usd_per_hour.toFixed(2)} an hour${cap}`;
      }
      // The time left is known only for runs somebody watches.
      if (now.holder?.id !== watched) {
        leave?.(); watched = now.holder?.id; leave = null;
        if (watched) leave = space.watch(watched, element, (body) => { if (body?.run && body.run.id === watched && !space.isFinal(body.run.state)) fill(body.run); });
      }
      if (!now.holder) fill(null, now.jobs); else if (!leave) fill(now.holder);
      if (told === null || now.seq < told) told = now.seq;
      for (const run of now.ended) if (run.seq > told) {
        const [kind, words] = ENDED[run.state] || ["note", `is ${run.state}`];
        notify(kind, `${run.name} ${words}`, run.reason, `#${run.kind === "evaluate" ? "evaluate" : "runs"}/${run.id}`);
      }
      told = Math.max(told, now.seq);
    });
  });
})();
