// What is shown: the problem, the methods that are hidden, the readings that curves are drawn against, and the order of
// each table. It stands in the fragment of the address, so a link brings it back; what makes no sense there is ignored.
const view = (function () {
  "use strict";
  const choices = JSON.parse(document.getElementById("view").textContent);
  const { problems, methods, axes } = choices;
  // "seconds,work" are two figures side by side
  const axisChoices = [...(axes.includes("seconds") && axes.includes("work") ? ["seconds,work"] : []), ...axes];
  const standard = () => ({ problem: choices.problem, hidden: new Set(), axis: axisChoices[0] || "", sort: new Map() });
  const listeners = [];
  let state = parse(location.hash);

  function known(order) {
    const [table, column] = [order.slice(0, order.indexOf(":")), order.slice(order.indexOf(":") + 1, order.lastIndexOf(":"))];
    return tables.columns(table).includes(column) && /:(asc|desc)$/.test(order);
  }

  function parse(hash) {
    const made = standard();
    const given = new URLSearchParams(hash.slice(1));
    const problem = given.get("problem");
    if (problem === "" || problems.some((p) => p.name === problem)) made.problem = problem;
    for (const name of given.getAll("hide")) if (methods.some((m) => m.name === name)) made.hidden.add(name);
    if (axisChoices.includes(given.get("axis"))) made.axis = given.get("axis");
    for (const order of given.getAll("sort").filter(known)) {
      const column = order.slice(order.indexOf(":") + 1, order.lastIndexOf(":"));
      made.sort.set(order.slice(0, order.indexOf(":")), { column, down: order.endsWith(":desc") });
    }
    return made;
  }

  // Only what differs from the view that the page begins with.
  function fragment() {
    const [plain, text] = [standard(), new URLSearchParams()];
    if (state.problem !== plain.problem) text.append("problem", state.problem);
    for (const { name } of methods) if (state.hidden.has(name)) text.append("hide", name);
    if (state.axis !== plain.axis) text.append("axis", state.axis);
    for (const [table, order] of state.sort) text.append("sort", `${table}:${order.column}:${order.down ? "desc" : "asc"}`);
    return "#" + text;
  }

  const tell = () => listeners.forEach((listener) => listener(state));

  function set(change) {
    state = { ...state, ...change };
    history.pushState(null, "", fragment());
    tell();
  }

  addEventListener("popstate", () => {
    state = parse(location.hash);
    tell();
  });

  return {
    problems,
    methods,
    set,
    get state() { return state; },
    onChange: (listener) => listeners.push(listener),
    toggle(name) {
      const hidden = new Set(state.hidden);
      if (!hidden.delete(name)) hidden.add(name);
      set({ hidden });
    },
    only: (name) => set({ hidden: new Set(methods.map((m) => m.name).filter((other) => other !== name)) }),
    address: () => location.href.replace(/#.*$/, "") + fragment(),
    problemKey: () => String((problems.find((p) => p.name === state.problem) || { key: "" }).key),
    hiddenKeys: () => new Set(methods.filter((m) => state.hidden.has(m.name)).map((m) => String(m.key))),
    // The methods whose lines have a colour: the first of those shown.
    vivid: () => new Set(methods.map((m) => m.name).filter((n) => !state.hidden.has(n)).slice(0, choices.coloured)),
    methodKey: (name) => (methods.find((m) => m.name === name) || { key: "" }).key,
  };
})();
