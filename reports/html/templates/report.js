(() => {
  "use strict";
  // Optional: without scripts, the page shows the first rows of each table. Cells are built as tables.py builds them.
  const all = (selector, within = document) => [...within.querySelectorAll(selector)];
  const make = (tag, properties, ...children) => {
    const element = Object.assign(document.createElement(tag), properties);
    element.append(...children);
    return element;
  };
  const span = (className, ...children) => make("span", { className }, ...children);
  const number = (value) => String(value).replace(/\B(?=(\d{3})+$)/g, ",");
  const pause = () => new Promise((resolve) => setTimeout(resolve));
  const prose = (text) => text.split(/`([^`\n]+)`/).map((part, index) => (index % 2 ? make("code", { textContent: part }) : part));
  const quoted = (text) => (/["$`\\!]/.test(text) ? `'${text.replaceAll("'", `'"'"'`)}'` : `"${text}"`);
  const debounced = (action, delay) => {
    let waiting;
    return () => { clearTimeout(waiting); waiting = setTimeout(action, delay); };
  };
  const PAGE = 25;
  const NONE = "-";
  const tables = [];
  let everywhere = "";

  const STYLES = {
    text: (label) => [label],
    value: (label) => [label],
    b: (label) => [make("b", {}, label)],
    number: (label, kind, value) => [number(value)],
    mark: (label, kind) => [span(`mark ${kind}`, label)],
    class: (label, kind) => [make("i", { className: `dot c-${kind}` }), ` ${label}`],
    outcome: (label, kind, value) => [span(`outcome o-${String(value).includes("gap") ? "partial" : kind}`, label)],
    prose: (label) => prose(label),
    todo: (label) => [span("todo", make("b", { textContent: "How to fix it" }), " ", ...prose(label))],
  };

  function bar(counts, words) {
    const total = counts.reduce((sum, count) => sum + count, 0);
    if (!total) return [span("soft", "none")];
    const bar = span("bar");
    const labels = [];
    Object.values(words).forEach(([label, kind], index) => {
      const count = counts[index];
      if (!count) return;
      labels.push(`${label} ${number(count)}`);
      const segment = make("i", { className: `c-${kind}`, title: `${label}: ${number(count)}` }, count * 100 > total * 9 ? number(count) : "");
      segment.style.flex = count;
      bar.append(segment);
    });
    bar.setAttribute("role", "img");
    bar.setAttribute("aria-label", labels.join(", "));
    return [bar];
  }

  const link = (to, target) => `${to}${to.endsWith("=") || !to ? "" : "-"}${encodeURIComponent(target)}`;

  class Table {
    constructor(block) {
      this.block = block;
      this.name = block.dataset.name;
      Object.assign(this, JSON.parse(block.querySelector(".description").content.textContent));
      this.position = Object.fromEntries(this.fields.map((field, index) => [field, index]));
      this.reset();
      this.table = block.querySelector("table");
      this.heads = all("thead th", this.table);
      for (const head of this.heads) {
        const button = make("button", { type: "button", title: "Sort by this column" }, ...head.childNodes);
        head.append(button);
        button.addEventListener("click", () => {
          this.order = (this.order === head.dataset.c ? "-" : "") + head.dataset.c;
          this.page = 0;
          this.change();
        });
      }
      this.tools = make("div", { className: "tools" });
      this.input = make("input", { type: "search", placeholder: "Filter", spellcheck: false });
      this.input.setAttribute("aria-label", `Filter: ${this.table.caption.textContent}`);
      this.input.addEventListener("input", debounced(() => { this.filter = this.input.value; this.page = 0; this.change(); }, 150));
      this.choices = span("choices");
      this.count = make("span", { role: "status", className: "count" });
      if (this.total > 5) this.tools.append(this.input, this.choices);
      this.tools.append(this.count);
      this.pages = span("pages");
      this.button(this.tools, "Copy", "Copy the matching rows, separated by tabs", () => this.copy());
      this.button(this.tools, "CSV", "Save the matching rows as a CSV file", () => this.save());
      block.prepend(this.tools);
      block.querySelector(".scroll").after(this.pages);
      for (const note of all(".static", block)) note.remove();
      this.count.textContent = this.total > 1 ? `${number(this.total)} ${this.noun}` : "";
      if (this.total > PAGE) this.paging(Math.min(PAGE, this.total), this.total);
      // Opens the details of the first rows, which are HTML already, as those of later rows.
      this.details ??= [];
    }

    reset() {
      this.filter = this.order = "";
      this.page = 0;
      this.chosen = {};
    }

    button(parent, textContent, title, action, disabled = false) {
      const button = make("button", { type: "button", textContent, title, disabled });
      button.addEventListener("click", async () => { await this.load(); await action(); });
      parent.append(button);
    }

    // The rows of the file. They are unpacked when they are needed, chunk by chunk, so that the page stays responsive.
    load() {
      this.loading ??= (async () => {
        this.rows = [];
        for (const chunk of all("template.rows", this.block)) {
          const bytes = Uint8Array.from(atob(chunk.content.textContent), (character) => character.charCodeAt(0));
          const stream = new Blob([bytes]).stream().pipeThrough(new DecompressionStream("deflate"));
          for (const row of JSON.parse(await new Response(stream).text())) this.rows.push(row);
          await pause();
        }
        this.found = this.rows;
        for (const [field, label] of Object.entries(this.facets)) this.choice(field, label);
      })();
      return this.loading;
    }

    choice(field, label) {
      const counts = new Map();
      for (const row of this.rows) {
        const value = row[this.position[field]] ?? NONE;
        counts.set(value, (counts.get(value) ?? 0) + 1);
      }
      if (counts.size < 2 || this.total <= 5) return;
      const words = this.wordsOf(field);
      const codes = Object.keys(words);
      const rank = (value) => codes.indexOf(value);
      const values = [...counts].sort(([a, m], [b, n]) => (codes.length ? rank(a) - rank(b) : n - m));
      const select = make("select", {}, make("option", { value: "", textContent: `${label}: all` }));
      select.setAttribute("aria-label", `${label}: ${this.table.caption.textContent}`);
      for (const [value, count] of values.slice(0, 300)) {
        select.append(make("option", { value, textContent: `${words[value]?.[0] ?? (value === NONE ? this.nothing(field) : value)} (${number(count)})` }));
      }
      select.dataset.field = field;
      select.addEventListener("change", () => {
        if (select.value) this.chosen[field] = [select.value];
        else delete this.chosen[field];
        this.page = 0;
        this.change();
      });
      this.choices.append(select);
    }

    partOf(field) {
      return this.columns.flatMap(([, , , parts]) => parts).find(([, name]) => name === field);
    }

    wordsOf(field) {
      return this.words[this.partOf(field)?.[2]?.v] ?? {};
    }

    // What a missing value means, as in the cells.
    nothing(field) {
      return ["number", "value"].includes(this.partOf(field)?.[0]) ? "unknown" : "none";
    }

    text_of(row) {
      // Codes and their labels; details too.
      row.text ??= [JSON.stringify(row), ...this.labelled.map(([index, words]) => words[row[index]]?.[0] ?? "")].join(" ").toLowerCase();
      return row.text;
    }

    get labelled() {
      return (this.labels ??= this.columns.flatMap(([, , , parts]) => parts)
        .filter(([style, , option]) => option?.v && style !== "bar")
        .map(([, name, option]) => [this.position[name], this.words[option.v]]));
    }

    // Finds and sorts the rows, then shows a page of them.
    async show() {
      const turn = (this.turn = {});
      await this.load();
      const words = `${this.filter} ${everywhere}`.toLowerCase().split(/\s+/).filter(Boolean);
      const chosen = Object.entries(this.chosen).filter(([field]) => field in this.position);
      let found = this.rows.filter((row) => chosen.every(([field, values]) => values.includes(String(row[this.position[field]] ?? NONE))));
      if (words.length) {
        const matching = [];
        for (let start = 0; start < found.length; start += 250) {
          for (const row of found.slice(start, start + 250)) if (words.every((word) => this.text_of(row).includes(word))) matching.push(row);
          await pause();
          if (this.turn !== turn) return;
        }
        found = matching;
      }
      const slug = this.order.replace(/^-/, "");
      const column = this.columns.find(([name]) => name === slug);
      if (column) found = this.sorted(found, column);
      this.heads.forEach((head) => {
        if (column && head.dataset.c === slug) head.setAttribute("aria-sort", this.order === slug ? "ascending" : "descending");
        else head.removeAttribute("aria-sort");
      });
      this.found = found;
      this.narrowed = words.length > 0 || chosen.length > 0;
      for (const select of all("select", this.choices)) select.value = this.chosen[select.dataset.field]?.[0] ?? "";
      this.render();
    }

    sorted(rows, [, , , [[style, name, option]]]) {
      const index = this.position[name];
      const codes = option?.v ? Object.keys(this.words[option.v]) : [];
      const sign = this.order.startsWith("-") ? -1 : 1;
      const key = (row) => {
        const value = row[index];
        if (value === null) return null;
        if (style === "bar") return value.reduce((sum, count) => sum + count, 0);
        if (codes.includes(value)) return codes.indexOf(value);
        return typeof value === "number" ? value : String(value).toLowerCase();
      };
      const keyed = rows.map((row) => [key(row), row]);
      keyed.sort(([a], [b]) => {
        // Unknown values sort last in both directions.
        if (a === null || b === null) return (a === null) - (b === null);
        return a < b ? -sign : a > b ? sign : 0;
      });
      return keyed.map(([, row]) => row);
    }

    render() {
      const rows = this.found.slice(this.page * PAGE, (this.page + 1) * PAGE);
      for (const body of [...this.table.tBodies]) body.remove();
      const taken = new Set();
      this.table.append(...rows.map((row) => this.body(row, taken)));
      const left = this.total - this.rows.length;
      const among = left ? `the ${number(this.rows.length)} ${this.noun} in this file` : `${number(this.total)} ${this.noun}`;
      this.count.textContent = this.narrowed ? `${number(this.found.length)} of ${among} match` : this.total > 1 ? `${number(this.total)} ${this.noun}` : "";
      this.block.classList.toggle("empty", !this.found.length);
      this.paging(rows.length, this.found.length);
    }

    paging(shown, total) {
      this.pages.replaceChildren();
      if (total <= PAGE) return;
      const last = Math.ceil(total / PAGE) - 1;
      const go = (label, title, page, disabled) => this.button(this.pages, label, title, () => { this.page = page; return this.change(); }, disabled);
      go("«", "First page", 0, this.page === 0);
      go("‹", "Previous page", this.page - 1, this.page === 0);
      this.pages.append(span("", `${number(this.page * PAGE + 1)}–${number(this.page * PAGE + shown)} of ${number(total)}`));
      go("›", "Next page", this.page + 1, this.page === last);
      go("»", "Last page", last, this.page === last);
    }

    parts(parts, value) {
      const seen = new Set();
      const groups = parts.map(([style, name, option = {}]) => {
        const cell = value(name);
        if ((style === "arn" || style === "under") && seen.has(String(cell))) return [];
        seen.add(String(cell));
        const nodes = this.part(style, cell, option);
        const target = option.at === undefined ? null : value(option.at);
        if (target === null || target === undefined || !nodes.length) return nodes;
        const to = link(option.to ?? "", String(target));
        return this.links.includes(to.split(/[-&]/)[0]) ? [make("a", { href: `#${to}` }, ...nodes)] : nodes;
      });
      return groups.filter((nodes) => nodes.length).flatMap((nodes, index) => (index ? [" ", ...nodes] : nodes));
    }

    part(style, value, option) {
      if (value === null || value === undefined || value === "") {
        return style === "number" || style === "value" ? [span("unknown-value", "unknown")] : [];
      }
      const words = this.words[option.v] ?? {};
      if (style === "bar") return bar(value, words);
      const [label, kind] = words[value] ?? [String(value), String(value)];
      return Object.hasOwn(STYLES, style) ? STYLES[style](label, kind, value) : [span(style, label)];
    }

    body(row, taken) {
      const value = (name) => row[this.position[name]];
      // Each anchor is on the page once, on the first row that has it.
      const anchors = Object.entries(this.ids).filter(([, name]) => value(name)).map(([kind, name]) => `${kind}-${value(name)}`)
        .filter((id) => !/\s/.test(id) && !taken.has(id) && !document.getElementById(id));
      for (const id of anchors) taken.add(id);
      const line = make("tr", { className: "r" });
      for (const [, label, kind, parts] of this.columns) {
        const cell = make("td", { className: kind }, ...this.parts(parts, value));
        cell.dataset.l = label;
        line.append(cell);
      }
      const body = make("tbody", {}, line);
      if (anchors[0]) body.id = anchors[0];
      if (anchors[1]) line.id = anchors[1];
      const summary = this.summary && value(this.summary);
      if (summary) {
        const details = make("details", {}, make("summary", { textContent: summary }));
        details.addEventListener("toggle", () => this.open(details, value), { once: true });
        const cell = make("td", { colSpan: this.columns.length }, details);
        body.append(make("tr", { className: "more" }, cell));
      }
      return body;
    }

    open(details, value) {
      if (details.children.length > 1) return;
      const inside = make("div", { className: "inside" });
      let headed = "";
      for (const [kind, title, name, ...options] of this.details) {
        const content = value(name);
        if (!content || content.length === 0) continue;
        if (title && title !== headed) inside.append(make("h3", { textContent: title }));
        headed = title;
        if (kind === "facts" || kind === "advice") {
          const list = make("dl", { className: "grid" });
          for (const [label, text] of content) {
            list.append(make("dt", { textContent: label }), make("dd", {}, ...(kind === "advice" ? prose(text) : [text])));
          }
          inside.append(list);
        } else if (kind === "table") {
          const heads = options[0].map((label) => make("th", { scope: "col", textContent: label }));
          const lines = content.map((line) => make("tr", {}, ...line.map((text) => make("td", { textContent: text || "none" }))));
          inside.append(make("table", {}, make("thead", {}, make("tr", {}, ...heads)), make("tbody", {}, ...lines)));
        } else if (kind === "more") {
          const sql = options[0].replace("?", () => `'${String(value(options[1])).replaceAll("'", "''")}'`);
          inside.append(make("p", { className: "cut" }, `${number(content)} more: `, make("code", { textContent: `kmsledger sql ${quoted(sql)}` })));
        } else if (kind === "pre") inside.append(make("pre", { textContent: content }));
        else inside.append(make("p", { className: "soft", textContent: content }));
      }
      details.append(inside);
    }

    // The matching rows as text: fields with one value each.
    text(separator) {
      const simple = this.fields.map((field, index) => index).filter((index) => !this.rows.some((row) => Array.isArray(row[index])));
      const cell = (value) => {
        let text = value === null ? "" : String(value);
        // A spreadsheet would run a cell that begins like a formula.
        if (/^[=+\-@\t\r]/.test(text) && typeof value !== "number") text = `'${text}`;
        if (separator === "\t") return text.replace(/[\t\r\n]+/g, " ");
        return /[",\r\n]/.test(text) ? `"${text.replaceAll('"', '""')}"` : text;
      };
      const lines = [simple.map((index) => this.fields[index]), ...this.found.map((row) => simple.map((index) => cell(row[index])))];
      return lines.map((line) => line.join(separator)).join("\r\n") + "\r\n";
    }

    async copy() {
      const copied = await navigator.clipboard?.writeText(this.text("\t")).then(() => true, () => false);
      if (copied) this.count.textContent = `${number(this.found.length)} ${this.noun} copied`;
      else this.save(); // A browser that forbids the clipboard.
    }

    save() {
      const href = URL.createObjectURL(new Blob(["\ufeff", this.text(",")], { type: "text/csv" }));
      make("a", { href, download: `kmsledger-${this.name}.csv` }).click();
      setTimeout(() => URL.revokeObjectURL(href), 10_000);
    }

    change() {
      const state = new URLSearchParams();
      if (this.filter) state.set("filter", this.filter);
      if (this.order) state.set("sort", this.order);
      for (const [field, values] of Object.entries(this.chosen)) for (const value of values) state.append(field, value);
      if (this.page) state.set("page", this.page + 1);
      history.replaceState(null, "", state.size ? `#${this.name}&${state}` : `#${this.name}`);
      return this.show();
    }

    // The number of the row with this value, in the order of the file; -1 if the file does not have it.
    async find(kind, value) {
      await this.load();
      const index = this.position[this.ids[kind]];
      return this.rows.findIndex((row) => row[index] === value);
    }
  }

  // Shows the row that a link names, on whatever page of its table it is.
  async function goTo(id) {
    const element = document.getElementById(id);
    if (element) {
      element.scrollIntoView();
      return;
    }
    const kind = id.slice(0, id.indexOf("-"));
    const table = tables.find((one) => Object.hasOwn(one.ids, kind));
    if (!table) return;
    if (everywhere) await search((find.value = ""));
    const at = await table.find(kind, id.slice(kind.length + 1));
    table.reset();
    table.input.value = "";
    table.page = Math.max(0, Math.floor(at / PAGE));
    await table.show();
    if (at < 0) table.count.textContent = `${id.slice(kind.length + 1)} is not among the ${table.noun} in this file`;
    const row = document.getElementById(id);
    for (const one of all(".target")) one.classList.remove("target");
    row?.classList.add("target");
    (row ?? table.block).scrollIntoView();
  }

  async function search(words) {
    everywhere = words;
    const used = Boolean(words.trim());
    if (used) document.body.classList.add("searching");
    let total = 0;
    // Section by section, so that the browser never lays out all of them at once.
    for (const section of all("main > section")) {
      let found = 0;
      for (const table of tables) {
        if (!section.contains(table.block)) continue;
        table.page = 0;
        await table.show();
        await pause();
        if (everywhere !== words) return;
        found += table.found.length;
      }
      section.classList.toggle("empty", used && !found);
      total += found;
    }
    document.body.classList.toggle("searching", used);
    document.getElementById("found").textContent = used ? `${number(total)} rows match` : "";
  }

  async function follow() {
    // #keys&filter=shop&sort=-age&state=Disabled&page=2 for one table, #filter=shop for all tables, #rule-ID for a row.
    const [name, ...rest] = location.hash.slice(1).split("&");
    const state = new URLSearchParams(name.includes("=") ? [name, ...rest].join("&") : rest.join("&"));
    const table = tables.find((one) => one.name === name);
    if (table && rest.length) {
      if (everywhere) await search((find.value = ""));
      table.reset();
      for (const [key, value] of state) {
        if (key === "filter") table.filter = value;
        else if (key === "sort") table.order = value;
        else if (key === "page") table.page = Math.max(0, Math.trunc(Number(value)) - 1 || 0);
        else if (Object.hasOwn(table.facets, key)) (table.chosen[key] ??= []).push(value);
      }
      table.input.value = table.filter;
      await table.show();
      table.block.scrollIntoView();
    } else if (state.has("filter")) {
      find.value = state.get("filter");
      await search(find.value);
    } else if (name && !document.getElementById(decodeURIComponent(name))) await goTo(decodeURIComponent(name));
    else if (everywhere && !name) await search((find.value = ""));
  }

  for (const block of all("div.table")) tables.push(new Table(block));
  const find = document.getElementById("find");
  find.parentElement.hidden = false;
  find.addEventListener("input", debounced(() => {
    history.replaceState(null, "", find.value.trim() ? `#${new URLSearchParams({ filter: find.value })}` : "#");
    search(find.value);
  }, 250));
  addEventListener("hashchange", follow);
  const near = new IntersectionObserver((entries) => {
    for (const { isIntersecting, target } of entries) {
      if (!isIntersecting) continue;
      near.unobserve(target);
      tables.find((table) => table.block === target).load();
    }
  }, { rootMargin: "400px" });
  for (const table of tables) near.observe(table.block);
  follow();
})();
