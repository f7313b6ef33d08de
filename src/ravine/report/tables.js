// Tables: rows of the problem and the methods shown, sorted by a column, and saved as CSV or aligned text.
const tables = (function () {
  "use strict";
  const all = [...document.querySelectorAll("table[data-table]")];
  const heads = (table) => [...table.tHead.rows[0].cells];
  const key = (head) => head.textContent.trim().toLowerCase();
  const named = (name) => all.find((table) => table.dataset.table === name);
  const columns = (name) => (named(name) ? heads(named(name)).map(key) : []);
  const rows = (body) => [...body.rows].filter((row) => !row.classList.contains("group"));
  all.forEach((table) => [...table.tBodies].forEach((body) => rows(body).forEach((row, i) => (row.place = i))));

  // What a cell holds: the number behind the rounded one, or its words without the sign of a status.
  function value(cell) {
    if (cell.dataset.v !== undefined) return cell.dataset.v;
    const words = cell.cloneNode(true);
    words.querySelectorAll("[aria-hidden], .who").forEach((part) => part.remove());
    const text = words.textContent.replace(/\s+/g, " ").trim();
    return text === "–" ? "" : text;
  }

  // Numbers by size, words by the alphabet; what is missing or not a number comes last either way.
  function comparison(index, down) {
    const sign = down ? -1 : 1;
    return (first, second) => {
      const [a, b] = [first, second].map((row) => row.cells[index].dataset.s ?? value(row.cells[index]));
      const lost = (x) => x === "" || x === "NaN";
      if (lost(a) || lost(b)) return lost(a) - lost(b) || first.place - second.place;
      const numbers = !Number.isNaN(Number(a)) && !Number.isNaN(Number(b));
      const order = numbers ? (Number(a) > Number(b)) - (Number(a) < Number(b)) : a.localeCompare(b);
      return sign * order || first.place - second.place;
    };
  }

  function arrange(table, order) {
    const index = order ? heads(table).findIndex((head) => key(head) === order.column) : -1;
    for (const head of heads(table)) head.removeAttribute("aria-sort");
    if (index >= 0) heads(table)[index].setAttribute("aria-sort", order.down ? "descending" : "ascending");
    for (const body of table.tBodies) {
      const compare = index >= 0 ? comparison(index, order.down) : (a, b) => a.place - b.place;
      body.append(...rows(body).sort(compare));
    }
  }

  function filter(problem, hidden) {
    for (const element of document.querySelectorAll("[data-p], [data-m]")) {
      const { p, m } = element.dataset;
      element.hidden = Boolean((problem && p && p !== problem) || (m && hidden.has(m)));
    }
  }

  function show(state) {
    filter(view.problemKey(), view.hiddenKeys());
    for (const table of all) {
      const order = state.sort.get(table.dataset.table);
      const wanted = order ? `${order.column}:${order.down}` : "";
      if ((table.arranged ?? "") !== wanted) arrange(table, order);
      table.arranged = wanted;
    }
  }

  // The table as it stands: head and visible rows.
  function content(table) {
    const bodies = [...table.tBodies].filter((body) => !body.hidden);
    const shown = bodies.flatMap((body) => rows(body).filter((row) => !row.hidden));
    return [heads(table).map((head) => head.textContent.trim()), ...shown.map((row) => [...row.cells].map(value))];
  }

  const quoted = (text) => (/[",\n]/.test(text) ? `"${text.replaceAll('"', '""')}"` : text);
  const csv = (table) => content(table).map((row) => row.map(quoted).join(",") + "\n").join("");

  function text(table) {
    const lines = content(table);
    const right = heads(table).map((head) => head.classList.contains("n"));
    const width = lines[0].map((_, i) => Math.max(...lines.map((line) => line[i].length)));
    const pad = (cell, i) => (right[i] ? cell.padStart(width[i]) : cell.padEnd(width[i]));
    return lines.map((line) => line.map(pad).join("  ").trimEnd() + "\n").join("");
  }

  function save(content, type, name) {
    const link = document.createElement("a");
    link.href = URL.createObjectURL(new Blob([content], { type }));
    link.download = name;
    link.click();
    setTimeout(() => URL.revokeObjectURL(link.href), 10000);
  }

  // Unsorted, ascending, descending, unsorted.
  function press(table, head) {
    const sort = new Map(view.state.sort);
    const [name, column] = [table.dataset.table, key(head)];
    const now = sort.get(name);
    if (!now || now.column !== column) sort.set(name, { column, down: false });
    else if (!now.down) sort.set(name, { column, down: true });
    else sort.delete(name);
    view.set({ sort });
  }

  function button(words, label, action) {
    const made = document.createElement("button");
    made.type = "button";
    made.textContent = words;
    if (label) made.setAttribute("aria-label", label);
    made.addEventListener("click", action);
    return made;
  }

  function begin() {
    for (const table of all) {
      for (const head of heads(table)) {
        const words = head.textContent.trim();
        head.replaceChildren(button(words, "", () => press(table, head)));
      }
      const [name, file] = [table.dataset.table, `${document.title} ${table.dataset.table}`.replace(/[^\w.+-]+/g, "-")];
      const saves = document.createElement("p");
      saves.className = "saves";
      saves.append(
        button("Save CSV", `Save CSV of the table ${name}`, () => save(csv(table), "text/csv", `${file}.csv`)),
        button("Save text", `Save text of the table ${name}`, () => save(text(table), "text/plain", `${file}.txt`)),
      );
      table.closest(".scroll").after(saves);
    }
  }

  return { begin, columns, show, button };
})();
