// The gallery on Text Garment Retrieve: what the node would find, seen while typing, and picked by eye.
// Everything picked stands in the node's own widgets (text, category, filter, pinned, excluded), so a
// saved or API workflow gives the same garments without this page.
import { api } from "../../../scripts/api.js";
import { app } from "../../../scripts/app.js";
import { describe, loadWords, Searcher, words } from "./api.js";
import { arrowKeys, asOneStep, card, element, hideDetails, keepEvents, signButton, statusLine } from "./elements.js";
import { readFilter, writeFilter } from "./filter.js";

const NODE = "TextGarmentRetrieve";
const QUIET = 200; // ms without typing before a search
const LOOK = 300; // ms between looks at the node's widgets
const LOADERS = ["GarmentIndexLoader", "GarmentIndexBuild"];
// The node's widgets and the fields of a query that they are.
const FIELDS = {
  text: "text", chunks: "chunks", negative_text: "negative", negative_weight: "negative_weight",
  filter: "where", min_score: "min_score", diversity: "diversity", draw_from: "draw_from",
  temperature: "temperature", draw_seed: "seed", words: "word_weight",
  auto_min_score: "auto_min_score",
};
// What decides what is found; of it, what "More like this" goes by too.
const INPUTS = ["top_k", "category", "pinned", "excluded", "reference_images", ...Object.keys(FIELDS)];
const INPUTS_OF_LIKE = ["top_k", "category", "excluded", "filter"];

// Whether a line of ids means one: as it stands, or typed by hand with spaces around it.
const means = (line, id) => line === id || line.trim() === id;

class Gallery {
  constructor(node) {
    this.node = node;
    this.index = null; // its name
    this.like = null; // the garment that others are to be like
    this.asked = ""; // the query that was answered last
    this.hits = [];
    this.found = null; // by the last run: { hits, settings }
    this.searcher = new Searcher();
    this.build();
    // A graph may build a missing index and end without running this node.
    this.afterRun = () => this.missing && !this.hits.length && this.open(this.index);
    api.addEventListener("execution_success", this.afterRun);
    this.timer = setInterval(() => this.look(), LOOK);
  }

  build() {
    // Not one line: the node's text may have several, each a query of its own.
    this.input = element("textarea", { className: "fr-search fr-text", rows: 1, placeholder: words("search") });
    this.input.setAttribute("aria-label", words("search"));
    this.input.addEventListener("input", () => {
      this.like = null;
      this.write("text", this.input.value);
    });
    this.input.addEventListener("change", () => asOneStep(() => {})); // typing is one step
    this.chip = element("span", {});
    this.facets = element("div", { className: "fr-facets" });
    this.grid = element("ul", { className: "fr-grid", role: "list", "aria-label": words("found") });
    arrowKeys(this.grid);
    this.status = statusLine();
    const bar = element("div", { className: "fr-bar" }, this.input, this.chip);
    this.root = element("div", { className: "fr-gallery" }, bar, this.facets, this.grid, this.status);
    this.root.setAttribute("role", "region");
    this.root.setAttribute("aria-label", words("gallery"));
    keepEvents(this.root);
  }

  widget(name) {
    return this.node.widgets?.find((widget) => widget.name === name);
  }

  /** An input's name as the node shows it. */
  nameOf(name) {
    const slot = this.node.inputs?.find((input) => input.name === name);
    return slot?.label ?? slot?.localized_name ?? name;
  }

  /** The link that is connected to an input; null where there is none. */
  link(name) {
    return this.node.inputs?.find((input) => input.name === name)?.link ?? null;
  }

  /** The value of a widget; null where a link gives it. */
  value(name) {
    return this.link(name) === null ? this.widget(name)?.value : null;
  }

  /** The inputs whose values only a run knows, as links give them, and those links. */
  connected() {
    const names = this.like ? INPUTS_OF_LIKE : INPUTS;
    return names.map((name) => [name, this.link(name)]).filter(([, link]) => link !== null);
  }

  /** Say that a link gives an input's value, where it does, so that nothing set here would count. */
  refuse(name) {
    if (this.link(name) === null) return "";
    const text = words("linked", { name: this.nameOf(name) });
    this.say(text, true);
    return text;
  }

  /**
   * Set a widget; `shown`: by facets, which show it already and are not made anew under the hand.
   * Why it can't be, in words; "" where it is.
   */
  write(name, value, shown = false) {
    const widget = this.widget(name);
    if (!widget) return "";
    const refused = this.refuse(name);
    if (refused || widget.value === value) return refused;
    widget.value = value;
    if (shown) this.shownFacets = this.filters();
    widget.callback?.(value);
    this.node.graph?.setDirtyCanvas?.(true, true);
    this.node.graph?.change?.();
    this.look();
    return "";
  }

  lines(name) {
    const lines = String(this.value(name) ?? "").split("\n").filter((line) => line.trim());
    return [...new Set(lines)];
  }

  /** Whether a widget's lines name an id. */
  names(name, id) {
    return this.lines(name).some((line) => means(line, id));
  }

  /** A widget's lines without those of an id. */
  without(name, id) {
    return this.lines(name).filter((line) => !means(line, id)).join("\n");
  }

  /** Pin a garment, or let it go. Why it can't be, in words; "" where it is. */
  pin(id) {
    return this.refuse("pinned") || asOneStep(() => this.pinOrLetGo(id));
  }

  pinOrLetGo(id) {
    const lines = this.lines("pinned");
    if (this.names("pinned", id)) return this.write("pinned", this.without("pinned", id));
    const count = lines.length + 1;
    const most = this.widget("top_k")?.options?.max ?? Infinity;
    if (this.link("top_k") === null && count > most) {
      const text = words("most", { count: most });
      this.say(text, true);
      return text;
    }
    const kept = this.found?.settings === this.settings();
    // A run takes as many as are pinned, draws from no fewer, and no garment both ways.
    const taken = this.value("top_k");
    const drawn = this.value("draw_from");
    if (taken !== null && taken < count) this.write("top_k", count);
    if (drawn && drawn < count) this.write("draw_from", count);
    if (this.names("excluded", id)) this.write("excluded", this.without("excluded", id));
    this.write("pinned", [...lines, id].join("\n"));
    if (kept) this.found.settings = this.settings();
    return "";
  }

  exclude(id) {
    if (this.refuse("excluded")) return;
    asOneStep(() => {
      if (this.names("pinned", id)) this.pinOrLetGo(id);
      this.write("excluded", [...this.lines("excluded"), id].join("\n"));
    });
  }

  /** The index's name, found upstream of the input; that of the last run where it can't be seen. */
  indexName() {
    const slot = this.node.inputs?.findIndex((input) => input.name === "index") ?? -1;
    let source = slot < 0 ? null : this.node.getInputNode?.(slot);
    for (let steps = 0; source && steps < 20; steps += 1) {
      // A linked widget keeps its old value, which does not count.
      if (source.inputs?.find((input) => input.name === "index_name")?.link != null) break;
      const name = source.widgets?.find((widget) => widget.name === "index_name")?.value;
      if (LOADERS.includes(source.type) && name) return String(name);
      source = source.getInputNode?.(0);
    }
    return this.ranIndex ?? null;
  }

  query() {
    const query = { k: Math.min(200, Number(this.value("top_k") ?? 3)) };
    for (const [name, field] of Object.entries(FIELDS)) {
      const value = this.value(name);
      if (value !== undefined && value !== null) query[field] = value;
    }
    const category = this.value("category");
    if (category && category !== "any") query.category = category;
    query.pinned = this.lines("pinned");
    query.excluded = this.lines("excluded").filter((id) => !this.names("pinned", id));
    if (query.draw_from && query.draw_from < query.k) query.draw_from = query.k;
    query.k = Math.max(query.k, query.pinned.length);
    return query;
  }

  /** What is asked for, to be compared. */
  signature(query) {
    return JSON.stringify([this.index, this.like, this.connected(), query]);
  }

  /** The same without what is picked of what was found. */
  settings() {
    const { pinned, excluded, ...query } = this.query();
    return this.signature({ ...query, k: this.value("top_k") });
  }

  /** Look whether the node's widgets ask for something else than what is shown. */
  look() {
    if (!this.node.graph) return this.close();
    if (!this.root.isConnected || !this.root.offsetParent) return;
    const index = this.indexName();
    if (index !== this.index) this.open(index);
    const text = this.value("text");
    if (document.activeElement !== this.input && this.input.value !== (text ?? "")) this.input.value = text ?? "";
    this.input.disabled = text === null;
    if (!this.index) return;
    // Written by hand, or by a workflow that was opened.
    if (this.described && this.filters() !== this.shownFacets && !this.facets.contains(document.activeElement)) this.showFacets();
    const query = this.query();
    const asked = this.signature(query);
    if (asked === this.asked) return;
    this.asked = asked;
    clearTimeout(this.quiet);
    this.quiet = setTimeout(() => this.ask(query, asked), this.hits.length ? QUIET : 0);
  }

  async open(index) {
    this.index = index;
    this.asked = "";
    this.described = null;
    this.missing = false;
    this.show([], "");
    if (!index) {
      this.showFacets(); // none
      return this.say(words("connect"));
    }
    await this.describe();
  }

  async describe() {
    const { index } = this;
    try {
      const described = await describe(index);
      if (index !== this.index) return;
      this.described = described;
      this.showFacets();
    } catch (error) {
      if (index !== this.index) return;
      this.described = null;
      this.missing = true;
      this.showFacets();
      this.say(error.message, true);
    }
  }

  async ask(query, asked) {
    const { found: run } = this;
    if (this.connected().length && run?.settings === this.settings()) {
      const out = ({ id }) => this.names("excluded", id) && !this.names("pinned", id);
      return this.show(run.hits.filter((garment) => !out(garment)), "");
    }
    if (!this.like && !query.text?.trim()) {
      const inRun = ["text", "reference_images"].some((name) => this.link(name) !== null);
      return inRun ? this.show([], "") : this.show(this.hits, words("type"));
    }
    if (this.asking) {
      this.next = [query, asked]; // one request under way at most
      return;
    }
    this.asking = true;
    try {
      const found = await this.searcher.search(this.index, query, this.like);
      // A run that has ended meanwhile knows more.
      if (found && asked === this.asked && run === this.found) this.show(found.hits, found.note);
    } catch (error) {
      if (asked === this.asked && run === this.found) this.say(error.message, true);
    } finally {
      this.asking = false;
      const next = this.next;
      this.next = null;
      if (next && next[1] === this.asked) this.ask(...next);
    }
  }

  /** What a run of the graph has found. */
  ran(output) {
    const [index] = output.index ?? [];
    this.ranIndex = index || null;
    this.missing = false;
    if (!output.garments) return;
    if (this.indexName() !== this.index) this.open(this.indexName());
    else if (this.index) this.describe(); // the run may have brought it up to date
    this.like = null;
    this.asked = this.signature(this.query());
    this.found = { hits: output.garments, settings: this.settings() };
    this.show(output.garments, "");
  }

  show(hits, note) {
    this.hits = hits;
    const cards = [...this.grid.querySelectorAll(".fr-card")];
    const held = cards.findIndex((one) => one.contains(document.activeElement));
    hideDetails();
    this.grid.replaceChildren(...hits.map((garment) => this.card(garment, this.names("pinned", garment.id))));
    if (held >= 0) this.focus(cards[held].dataset.id, held);
    this.chip.replaceChildren();
    if (this.like) {
      const all = signButton("✕", words("back"), () => this.searchLike(null));
      this.chip.append(element("span", { className: "fr-chip" }, words("like", { name: this.like }), all));
    }
    const names = this.index ? this.connected().map(([name]) => this.nameOf(name)).join(", ") : "";
    const said = note || (hits.length ? words("count", { count: hits.length }) : "");
    this.say([said, names && words("inRun", { names })].filter(Boolean).join(" · "));
    this.showExcluded();
  }

  /** Keep the keyboard on the garment, or on the one that took its place. */
  focus(id, place) {
    const cards = [...this.grid.querySelectorAll(".fr-card")];
    const next = cards.find((one) => one.dataset.id === id) ?? cards[Math.min(place, cards.length - 1)];
    (next?.querySelector(".fr-choose") ?? this.input).focus();
  }

  card(garment, pinned) {
    const excludeName = words("exclude");
    return card(this.index, garment, {
      pressed: pinned,
      chooseName: words(pinned ? "unpin" : "pin"),
      choose: () => this.pin(garment.id),
      buttons: [
        signButton("≈", words("more"), () => this.searchLike(garment.id)),
        signButton("✕", excludeName, () => this.exclude(garment.id)),
      ],
    });
  }

  searchLike(id) {
    this.like = id;
    this.look();
  }

  showExcluded() {
    const excluded = this.lines("excluded");
    if (!excluded.length) return;
    const back = element("button", { type: "button", className: "fr-facet", onclick: () => asOneStep(() => this.write("excluded", "")) });
    back.textContent = words("excluded", { count: excluded.length });
    this.chip.append(back);
  }

  showFacets() {
    const { categories = [], facets = [] } = this.described ?? {};
    const boxes = [];
    if (categories.length > 1) boxes.push(this.facet(words("category"), categories, this.chosenCategories(), (value, on) => this.write("category", on ? value : "any", true), true));
    const filter = this.filter();
    for (const facet of facets) boxes.push(facet.values ? this.ticks(facet, filter) : this.range(facet, filter));
    const open = [...this.facets.querySelectorAll("[open]")].map((box) => box.dataset.column);
    for (const box of boxes) box.open = open.includes(box.dataset.column);
    this.shownFacets = this.filters();
    this.facets.replaceChildren(...boxes);
  }

  /** What the facets show, to be compared. */
  filters() {
    return JSON.stringify([this.value("category"), this.value("filter")]);
  }

  filter() {
    return readFilter(String(this.value("filter") ?? ""));
  }

  /** A column of few values: what is ticked is searched. */
  ticks({ column, values }, filter) {
    const chosen = filter.facets.get(column) ?? new Set();
    return this.facet(column, values, chosen, (value, on) => {
      const now = this.filter();
      const set = now.facets.get(column) ?? new Set();
      if (on) set.add(value);
      else set.delete(value);
      now.facets.set(column, set);
      return this.write("filter", writeFilter(now), true);
    });
  }

  /** A column of numbers: from and to. */
  range({ column, low, high }, filter) {
    const summary = element("summary", {});
    const box = element("details", { className: "fr-facet" }, summary);
    box.dataset.column = column;
    let chosen = filter.ranges.get(column) ?? { low: "", high: "" };
    const told = () => {
      const { low: from, high: to } = chosen;
      box.classList.toggle("fr-on", Boolean(from || to));
      summary.textContent = from || to ? `${column} ${from || low}–${to || high}` : column;
    };
    const ends = [["low", low, words("from")], ["high", high, words("to")]].map(([end, bound, name]) => {
      const input = element("input", { type: "number", step: "any", className: "fr-search", value: chosen[end], placeholder: String(bound) });
      input.addEventListener("change", () => {
        const now = this.filter();
        const wanted = { ...chosen, [end]: input.value };
        now.ranges.set(column, wanted);
        if (asOneStep(() => this.write("filter", writeFilter(now), true))) input.value = chosen[end];
        else chosen = wanted;
        told();
      });
      return element("label", {}, name, input);
    });
    told();
    box.append(element("div", { className: "fr-range" }, ...ends));
    return box;
  }

  chosenCategories() {
    const category = this.value("category");
    return new Set(category && category !== "any" ? [category] : []);
  }

  /** A box of values to tick; `single`: one at most, of the garments' categories, not of a column. */
  facet(name, values, chosen, change, single = false) {
    const box = element("details", { className: "fr-facet" }, element("summary", {}, name));
    box.dataset.column = single ? "" : name;
    box.classList.toggle("fr-on", chosen.size > 0);
    const list = element("div", { className: "fr-values" });
    for (const { value, count } of values) {
      const check = element("input", { type: "checkbox", checked: chosen.has(value) });
      check.addEventListener("change", () => {
        if (asOneStep(() => change(value, check.checked))) {
          check.checked = !check.checked; // a link says it
          return;
        }
        if (single) for (const other of list.querySelectorAll("input")) if (other !== check) other.checked = false;
        box.classList.toggle("fr-on", list.querySelector("input:checked") !== null);
      });
      list.append(element("label", {}, check, `${value} (${count})`));
    }
    box.append(list);
    return box;
  }

  say(text, error = false) {
    this.status.textContent = text;
    this.status.classList.toggle("fr-error", error);
  }

  close() {
    api.removeEventListener("execution_success", this.afterRun);
    clearInterval(this.timer);
    clearTimeout(this.quiet);
    hideDetails();
  }
}

const galleries = new WeakMap();

/**
 * Pin a garment of an index on a node from outside, as the side bar does. What was done, in words; null
 * where the node takes no garments.
 */
export function pin(node, index, { id, caption }) {
  const gallery = galleries.get(node);
  if (!gallery) return null;
  if (gallery.index && gallery.index !== index) {
    const text = words("otherIndex", { index, other: gallery.index });
    gallery.say(text, true);
    return text;
  }
  const refused = gallery.refuse("pinned") || (gallery.names("pinned", id) ? "" : gallery.pin(id));
  return refused || words("pinned", { name: caption || id });
}

app.registerExtension({
  name: "FashionRAG.gallery",
  setup: loadWords,
  nodeCreated(node) {
    if (node.comfyClass !== NODE) return;
    const gallery = new Gallery(node);
    galleries.set(node, gallery);
    const widget = node.addDOMWidget("gallery", "fashion_rag_gallery", gallery.root, {
      serialize: false,
      getMinHeight: () => 320,
    });
    // Nor in a saved workflow, where it would stand among the values of the node's inputs.
    widget.serialize = false;
    const { onExecuted, onRemoved } = node;
    node.onExecuted = function (output) {
      onExecuted?.apply(this, arguments);
      if (output) gallery.ran(output);
    };
    node.onRemoved = function () {
      onRemoved?.apply(this, arguments);
      gallery.close();
    };
  },
});
