// The Data tab: the list of datasets is polled; what is shown beside it follows the choice.
(() => {
  const space = window.codexSpace;
  const GONE_AFTER_POLLS = 2; // a dataset just added may be missing from an answer that was on its way already
  const all = new space.Poll("/api/datasets", (_, body) => body);

  space.widget("data-list", (element, props, trigger, watch) => {
    let drawn = null, names = [], missing = 0;
    const mark = () => element.querySelectorAll("[data-pick]").forEach((button) => button.setAttribute("aria-pressed", String(button.dataset.pick === props.value)));
    const choose = (name) => { props.value = name; mark(); trigger("select", { name }); };
    element.addEventListener("click", (event) => {
      const button = event.target.closest("[data-pick]");
      if (button) choose(button.dataset.pick);
    });
    watch("value", () => { missing = 0; mark(); all.wake(); });
    all.join(element, (body) => {
      if (!body) return;
      if (body.html !== drawn) {
        drawn = element.innerHTML = body.html;
        names = [...element.querySelectorAll("[data-pick]")].map((button) => button.dataset.pick);
        mark();
      }
      missing = !props.value || names.includes(props.value) ? 0 : missing + 1;
      const wanted = (missing < GONE_AFTER_POLLS && props.value) || names[0] || "";
      const shown = document.querySelector("#data-title [data-shown]")?.dataset.shown || "";
      if (wanted !== shown && names.includes(wanted)) choose(wanted);
      else if (!wanted && shown) choose("");
    });
  });
})();
