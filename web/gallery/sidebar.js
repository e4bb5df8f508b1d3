// The whole catalogue in a tab of the side bar: scroll it, search it, drag a garment onto the graph.
import { app } from "../../../scripts/app.js";
import { api } from "../../../scripts/api.js";
import { browse, describe, indexes, loadWords, photo, Searcher, words } from "./api.js";
import { arrowKeys, card, element, hideDetails, keepEvents, statusLine } from "./elements.js";
import { pin } from "./node.js";

const PAGE = 60; // garments asked for at a time
const WIDTH = 104; // of a card with its gap, px
const HEIGHT = 182;
const QUIET = 200;
const DRAGGED = "application/x-fashion-rag-garment";

class Catalogue {
  constructor(root) {
    this.pages = new Map(); // number of a page: its garments, or a promise of them
    this.total = 0;
    this.searcher = new Searcher();
    this.select = element("select", { className: "fr-search", onchange: () => this.open(this.select.value) });
    this.select.setAttribute("aria-label", words("index"));
    this.category = element("select", { className: "fr-search", onchange: () => this.reset() });
    this.category.setAttribute("aria-label", words("category"));
    this.input = element("input", { type: "search", className: "fr-search", placeholder: words("search") });
    this.input.setAttribute("aria-label", words("search"));
    this.input.addEventListener("input", () => {
      clearTimeout(this.quiet);
      this.quiet = setTimeout(() => this.reset(), QUIET);
    });
    this.grid = element("ul", { className: "fr-grid", role: "list", "aria-label": words("catalogue") });
    this.space = element("div", {});
    this.scroll = element("div", { className: "fr-scroll", tabIndex: -1 }, this.space, this.grid);
    this.scroll.addEventListener("scroll", () => this.draw(), { passive: true });
    this.status = statusLine();
    arrowKeys(this.grid);
    const bar = element("div", { className: "fr-bar" }, this.select, this.category);
    this.root = element("div", { className: "fr-gallery" }, bar, element("div", { className: "fr-bar" }, this.input), this.scroll, this.status);
    keepEvents(this.root);
    root.replaceChildren(this.root);
    new ResizeObserver(() => this.draw()).observe(this.scroll);
    this.start();
  }

  async start() {
    try {
      const { indexes: names } = await indexes();
      this.select.replaceChildren(...names.map((name) => element("option", { value: name }, name)));
      if (names.length) await this.open(names[0]);
      else this.say(words("noIndex"));
    } catch (error) {
      this.say(error.message, true);
    }
  }

  async open(index) {
    this.index = index;
    this.category.replaceChildren(element("option", { value: "" }, words("anyCategory")));
    try {
      const { categories } = await describe(index);
      this.category.append(...categories.map(({ value, count }) => element("option", { value }, `${value} (${count})`)));
      this.category.hidden = categories.length < 2;
      await this.reset();
    } catch (error) {
      this.say(error.message, true);
    }
  }

  /** Begin anew: with the search's hits, or with the catalogue from its first garment. */
  async reset() {
    this.pages.clear();
    this.version = (this.version ?? 0) + 1;
    const version = this.version;
    const text = this.input.value.trim();
    try {
      if (text) {
        const query = { text, k: 200, ...(this.category.value ? { category: this.category.value } : {}) };
        const found = await this.searcher.search(this.index, query);
        if (!found || version !== this.version) return;
        found.hits.forEach((_, at) => at % PAGE || this.pages.set(at / PAGE, found.hits.slice(at, at + PAGE)));
        this.total = found.hits.length;
      } else {
        const first = await this.fetch(0, version);
        if (version !== this.version) return;
        this.pages.set(0, first.garments);
        this.total = first.total;
      }
      this.scroll.scrollTop = 0;
      this.say(words("count", { count: this.total.toLocaleString() }));
      this.draw(true);
    } catch (error) {
      if (version === this.version) this.say(error.message, true);
    }
  }

  fetch(page) {
    return browse(this.index, { start: page * PAGE, count: PAGE, category: this.category.value });
  }

  /** Draw the cards that can be seen, and ask for those that are not there yet. */
  draw(anew = false) {
    const columns = Math.max(1, Math.floor(this.scroll.clientWidth / WIDTH));
    const rows = Math.ceil(this.total / columns);
    this.space.style.height = `${rows * HEIGHT}px`;
    const first = Math.max(0, Math.floor(this.scroll.scrollTop / HEIGHT) - 1) * columns;
    const last = Math.min(this.total, first + (Math.ceil(this.scroll.clientHeight / HEIGHT) + 2) * columns);
    const place = `${first}-${last}-${columns}-${this.version}`;
    const missing = [];
    const garments = [];
    for (let at = first; at < last; at += 1) {
      const page = Math.floor(at / PAGE);
      const there = this.pages.get(page);
      if (there === undefined) missing.push(page);
      garments.push(Array.isArray(there) ? there[at % PAGE] : null);
    }
    if (anew || this.place !== place || this.waiting) {
      hideDetails();
      this.place = place;
      this.waiting = garments.includes(null);
      this.grid.style.gridTemplateColumns = `repeat(${columns}, minmax(0, 1fr))`;
      this.grid.style.gridAutoRows = `${HEIGHT - 8}px`;
      this.grid.style.transform = `translateY(${(first / columns) * HEIGHT}px)`;
      this.grid.replaceChildren(...garments.map((garment) => (garment ? this.card(garment) : element("li", { className: "fr-card" }))));
    }
    for (const page of new Set(missing)) this.load(page);
  }

  async load(page) {
    const version = this.version;
    const asked = this.fetch(page);
    this.pages.set(page, asked);
    try {
      const found = await asked;
      if (version !== this.version) return;
      this.pages.set(page, found.garments);
      this.draw(true);
    } catch (error) {
      this.pages.delete(page);
      if (version === this.version) this.say(error.message, true);
    }
  }

  card(garment) {
    const made = card(this.index, garment, {
      chooseName: words("pinOnNode"),
      choose: () => this.pinOnSelected(garment),
    });
    made.draggable = true;
    made.addEventListener("dragstart", (event) => {
      event.dataTransfer.setData(DRAGGED, JSON.stringify({ index: this.index, id: garment.id }));
      event.dataTransfer.effectAllowed = "copy";
    });
    return made;
  }

  pinOnSelected(garment) {
    const selected = Object.values(app.canvas.selected_nodes ?? {}).filter((node) => pin(node, garment.id));
    this.say(selected.length ? words("pinned", { name: garment.caption || garment.id }) : words("selectNode"));
  }

  say(text, error = false) {
    this.status.textContent = text;
    this.status.classList.toggle("fr-error", error);
  }
}

/** A garment dropped on a retrieving node is pinned there; anywhere else it becomes a Load Image. */
async function drop(event) {
  const { index, id } = JSON.parse(event.dataTransfer.getData(DRAGGED));
  const place = app.canvas.convertEventToCanvasOffset(event);
  const node = app.canvas.graph.getNodeOnPos(...place);
  if (node && pin(node, id)) return;
  const picture = await fetch(photo(index, id)).then((response) => response.blob());
  const form = new FormData();
  form.append("image", picture, `${id.replace(/[^\p{L}\p{N}._-]+/gu, "_").slice(-80)}.jpg`);
  form.append("subfolder", "fashion_rag");
  form.append("type", "input");
  const saved = await api.fetchApi("/upload/image", { method: "POST", body: form }).then((response) => response.json());
  const name = `${saved.subfolder}/${saved.name}`;
  const loader = LiteGraph.createNode("LoadImage");
  loader.pos = place;
  app.canvas.graph.add(loader);
  const widget = loader.widgets.find((one) => one.name === "image");
  const values = widget.options?.values;
  if (Array.isArray(values) && !values.includes(name)) values.push(name);
  widget.value = name;
  widget.callback?.(name);
}

/** Let the canvas take garments that are dragged over it. */
function acceptDrops() {
  const onGraph = (event) =>
    event.dataTransfer?.types.includes(DRAGGED) && event.target.closest?.("#graph-canvas, .dom-widget, [data-node-id]");
  const over = (event) => {
    if (!onGraph(event)) return;
    event.preventDefault();
    event.dataTransfer.dropEffect = "copy";
  };
  window.addEventListener("dragover", over, { capture: true });
  window.addEventListener(
    "drop",
    (event) => {
      if (!onGraph(event)) return;
      event.preventDefault();
      event.stopPropagation();
      drop(event).catch((error) => console.error("FashionRAG:", error));
    },
    { capture: true },
  );
}

app.registerExtension({
  name: "FashionRAG.catalogue",
  async setup() {
    await loadWords();
    acceptDrops();
    app.extensionManager.registerSidebarTab({
      id: "fashion-rag-catalogue",
      icon: "pi pi-shopping-bag",
      title: words("tab"),
      tooltip: words("tabTip"),
      type: "custom",
      render: (root) => {
        root.style.height = "100%";
        new Catalogue(root);
      },
    });
  },
});
