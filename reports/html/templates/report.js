(() => {
  "use strict";
  // Optional: without JavaScript, the page shows the same rows, sorted by importance.
  const all = (selector, within = document) => [...within.querySelectorAll(selector)];
  const make = (tag, properties) => Object.assign(document.createElement(tag), properties);
  const tables = [];
  let everywhere = "";

  class Table {
    constructor(table) {
      this.table = table;
      this.name = table.dataset.name;
      this.filter = this.order = "";
      this.tbodies = table.classList.contains("records");
      this.rows = this.tbodies ? [...table.tBodies] : [...table.tBodies[0].rows];
      this.heads = all("thead th[data-c]", table);
      for (const head of this.heads) {
        const button = make("button", { type: "button", title: "Sort by this column" });
        button.append(...head.childNodes);
        head.append(button);
        button.addEventListener("click", () => {
          this.sort((this.order === head.dataset.c ? "-" : "") + head.dataset.c);
          this.remember();
        });
      }
      const tools = make("div", { className: "tools" });
      this.input = make("input", { type: "search", placeholder: "Filter these rows", spellcheck: false });
      this.input.setAttribute("aria-label", "Filter the rows of this table");
      let waiting;
      this.input.addEventListener("input", () => {
        clearTimeout(waiting);
        waiting = setTimeout(() => { this.filter = this.input.value; this.show(); this.remember(); }, 120);
      });
      this.count = make("span", { role: "status" });
      if (this.rows.length > 5) tools.append(this.input);
      tools.append(this.count);
      if (all("details", table).length > 1) {
        const button = make("button", { type: "button", textContent: "Expand all" });
        button.addEventListener("click", () => {
          const open = button.textContent === "Expand all";
          for (const details of all("details", table)) details.open = open;
          button.textContent = open ? "Collapse all" : "Expand all";
        });
        tools.append(button);
      }
      table.before(tools);
      this.show();
    }

    value(row, index) {
      const cell = (this.tbodies ? row.rows[0] : row).cells[index];
      return cell.dataset.v ?? cell.textContent.trim().replace(/,(?=\d{3})/g, "");
    }

    sort(order) {
      const slug = order.replace(/^-/, "");
      const index = this.heads.findIndex((head) => head.dataset.c === slug);
      if (index < 0) return;
      this.order = order;
      const sign = order === slug ? 1 : -1;
      const keyed = this.rows.map((row) => [this.value(row, index), row]);
      const numbers = keyed.every(([value]) => value === "" || !Number.isNaN(Number(value)));
      const { compare } = new Intl.Collator("en", { numeric: true });
      keyed.sort(([a], [b]) => {
        // Unknown values sort last in both directions.
        if (a === "" || b === "") return (a === "") - (b === "");
        return sign * (numbers ? a - b : compare(a, b));
      });
      this.rows = keyed.map(([, row]) => row);
      const sorted = new DocumentFragment();
      for (const row of this.rows) sorted.append(row);
      (this.tbodies ? this.table : this.table.tBodies[0]).append(sorted);
      this.heads.forEach((head, at) => {
        if (at === index) head.setAttribute("aria-sort", sign > 0 ? "ascending" : "descending");
        else head.removeAttribute("aria-sort");
      });
    }

    show() {
      const words = `${this.filter} ${everywhere}`.toLowerCase().split(/\s+/).filter(Boolean);
      let shown = 0;
      for (const row of this.rows) {
        if (words.length && row.text === undefined) row.text = row.textContent.toLowerCase();
        row.hidden = !words.every((word) => row.text.includes(word));
        shown += !row.hidden;
      }
      const total = this.rows.length;
      this.count.textContent = words.length ? `${shown} of ${total} rows match` : total > 5 ? `${total} rows` : "";
    }

    remember() {
      const state = new URLSearchParams();
      if (this.filter) state.set("filter", this.filter);
      if (this.order) state.set("sort", this.order);
      history.replaceState(null, "", `#${this.name}${state.size ? `&${state}` : ""}`);
    }
  }

  function follow() {
    // #keys&filter=shop&sort=-age for one table, #filter=shop for all tables.
    const [name, ...rest] = location.hash.slice(1).split("&");
    const state = new URLSearchParams(name.includes("=") ? [name, ...rest].join("&") : rest.join("&"));
    const table = tables.find((one) => one.name === name);
    if (table && rest.length) {
      table.filter = table.input.value = state.get("filter") ?? "";
      table.show();
      if (state.has("sort")) table.sort(state.get("sort"));
      table.table.parentElement.scrollIntoView();
    } else if (state.has("filter")) {
      everywhere = find.value = state.get("filter");
      for (const one of tables) one.show();
    }
  }

  for (const table of all("table.data")) tables.push(new Table(table));
  const find = document.getElementById("find");
  find.parentElement.hidden = false;
  let waiting;
  find.addEventListener("input", () => {
    clearTimeout(waiting);
    waiting = setTimeout(() => { everywhere = find.value; for (const one of tables) one.show(); }, 200);
  });
  addEventListener("hashchange", follow);
  follow();
})();
