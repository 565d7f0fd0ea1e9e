// All settings of a recipe: found by name or help, changed in place, with what differs from the recipe on top.
(() => {
  const space = window.codexSpace;
  const { el } = space;
  const SHOWN = 40;

  space.widget("train-settings", (element, props, trigger, watch) => {
    const search = el("input", { type: "search", id: "train-settings-search", class: "cs-input", placeholder: "Find a setting by name or meaning", "aria-label": "Find a setting by name or meaning" });
    const changed = el("div", { class: "cs-changed" }), list = el("div", { class: "cs-settings" });
    element.append(changed, search, list);
    const send = (path, value, reset = false) => { props.value = JSON.stringify({ path, value, reset }); trigger("input", {}); };
    const text = (value) => value === null || value === undefined ? "empty" : typeof value === "object" ? JSON.stringify(value) : String(value);
    const field = (setting, now) => {
      const id = `set-${setting.path.replace(/\W/g, "-")}`, change = (event) => send(setting.path, event.target.value);
      const common = { id, class: "cs-input", "aria-describedby": `${id}-help`, onchange: change };
      if (setting.type === "bool" || setting.type === "choice") {
        const options = setting.type === "bool" ? ["true", "false"] : setting.choices;
        const menu = el("select", common, el("option", { value: "" }, `default (${text(setting.default)})`), options.map((value) => el("option", { value }, value)));
        menu.value = now ?? "";
        return [id, menu];
      }
      const input = el("input", { ...common, type: "text", inputmode: ["int", "float"].includes(setting.type) ? "decimal" : null, placeholder: `default: ${text(setting.default)}`, autocomplete: "off" });
      input.value = now ?? "";
      return [id, input];
    };
    const draw = () => {
      const { settings = [], values = {}, changed: differ = [] } = props.state || {};
      const words = search.value.toLowerCase().split(/\s+/).filter(Boolean);
      const isSet = (setting) => setting.path in values;
      const found = settings.filter((setting) => words.every((word) => `${setting.path} ${setting.help}`.toLowerCase().includes(word)));
      found.sort((a, b) => isSet(b) - isSet(a));
      const focused = document.activeElement?.id;
      changed.replaceChildren(el("p", { class: "cs-note" }, differ.length ? `${differ.length} ${differ.length === 1 ? "setting differs" : "settings differ"} from the recipe` : "Nothing differs from the recipe."),
        ...differ.map((one) => el("div", { class: "cs-differ" }, el("code", {}, one.path), el("span", {}, `${text(one.was)} \u2192 `, el("b", {}, text(one.now))), el("button", { type: "button", class: "cs-more", "aria-label": `Reset ${one.path}`, onclick: () => send(one.path, "", true) }, "Reset"))));
      list.replaceChildren(...found.slice(0, SHOWN).map((setting) => {
        const [id, input] = field(setting, values[setting.path]);
        return el("div", { class: "cs-setting", "data-set": isSet(setting) ? "1" : null }, el("label", { for: id }, setting.path), input, el("p", { id: `${id}-help` }, setting.help));
      }), ...(found.length > SHOWN ? [el("p", { class: "cs-note" }, `${found.length - SHOWN} more: type a word to find them.`)] : []), ...(found.length ? [] : [el("p", { class: "cs-note" }, "No setting matches.")]));
      if (focused && focused.startsWith("set-")) document.getElementById(focused)?.focus({ preventScroll: true });
    };
    search.addEventListener("input", draw);
    watch("state", draw);
    draw();
  });

  // The one place where links reach components of Gradio: #train/..., #playground/..., #data/...
  space.widget("links", (element, props, trigger) => {
    document.addEventListener("codex-place", (event) => {
      const { tab, rest } = event.detail;
      if (!rest || !["train", "playground", "data", "evaluate", "export"].includes(tab)) return;
      if (["evaluate", "export"].includes(tab) && !/^(run|gguf):/.test(rest)) return; // one of its own list
      props.value = `${tab}/${rest}`; trigger("select", {});
    });
  });
})();
