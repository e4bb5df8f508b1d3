// The whole catalogue in a tab of the side bar: scroll it, search it, drag a garment onto the graph.
import { app } from "../../../scripts/app.js";
import { api } from "../../../scripts/api.js";
import { answered, browse, describe, indexes, loadWords, photo, Searcher, words } from "./api.js";
import { asOneStep, card, element, hideDetails, keepEvents, placeOfKey, statusLine } from "./elements.js";
import { pin } from "./node.js";

const PAGE = 60; // garments asked for at a time
const MOST_PAGES = 100; // kept
const MOST_HITS = 200;
const WIDTH = 104; // of a card with its gap, px
const HEIGHT = 182;
const MOST_HEIGHT = 15e6; // px; Firefox draws nothing taller than 17.9 million, Chromium than 33.5
const QUIET = 200;
const DRAGGED = "application/x-fashion-rag-garment";

class Catalogue {
  constructor() {
    this.pages = new Map(); // number of a page: its garments
    this.cards = new Map(); // a garment's place in the catalogue: what is drawn there
    this.total = 0;
    this.listing = null; // { index, category } of what is shown
    this.version = 0; // of the listing
    this.generation = null; // of the index that is listed
    this.failed = false; // whether what is said is an error, or that there is no index
    this.text = ""; // that is searched
    this.place = 0; // of the first garment in sight
    this.top = 0; // where the scroll bar was when it was drawn
    this.columns = 1;
    this.scale = 1;
    this.searcher = new Searcher();
    this.select = element("select", { className: "fr-search", onchange: () => this.open(this.select.value) });
    this.select.setAttribute("aria-label", words("index"));
    this.category = element("select", { className: "fr-search", onchange: () => this.reset() });
    this.category.setAttribute("aria-label", words("category"));
    this.input = element("input", { type: "search", className: "fr-search", placeholder: words("search") });
    this.input.setAttribute("aria-label", words("search"));
    this.input.addEventListener("input", () => {
      clearTimeout(this.quiet);
      this.quiet = setTimeout(() => this.input.value.trim() !== this.text && this.reset(), QUIET);
    });
    this.grid = element("ul", { className: "fr-grid", role: "list", "aria-label": words("catalogue") });
    this.space = element("div", {});
    this.scroll = element("div", { className: "fr-scroll", tabIndex: -1 }, this.space, this.grid);
    this.scroll.addEventListener("scroll", () => {
      hideDetails();
      this.draw();
    }, { passive: true });
    this.scroll.addEventListener("keydown", (event) => this.key(event));
    this.status = statusLine();
    const bar = element("div", { className: "fr-bar" }, this.select, this.category);
    this.root = element("div", { className: "fr-gallery" }, bar, element("div", { className: "fr-bar" }, this.input), this.scroll, this.status);
    keepEvents(this.root);
    new ResizeObserver(() => this.draw()).observe(this.scroll);
    // Taken out and put back within a frame it has its former size, but its scroll bar is at the top: an
    // animation begins anew whenever an element comes into the page.
    this.scroll.addEventListener("animationstart", (event) => {
      if (event.target !== this.scroll || !this.scroll.clientHeight) return;
      if (!this.seen || this.scroll.scrollTop !== this.top) this.bring(this.place);
    });
    api.addEventListener("execution_success", () => this.root.isConnected && this.refresh());
  }

  /** Stand in the tab, as it was left. */
  show(parent) {
    parent.replaceChildren(this.root);
    this.seen = false;
    this.draw();
    this.refresh();
  }

  /** Look for what has changed meanwhile: indexes that were built, and the one that is shown. */
  async refresh() {
    try {
      const { indexes: names } = await indexes();
      const shown = [...this.select.options].map((option) => option.value);
      if (names.join("\n") !== shown.join("\n")) {
        this.select.replaceChildren(...names.map((name) => element("option", { value: name }, name)));
      }
      if (!names.length) {
        this.clear();
        return this.say(words("noIndex"));
      }
      this.select.value = names.includes(this.index) ? this.index : names[0];
      await this.open(this.select.value);
    } catch (error) {
      this.fail(error);
    }
  }

  /** Say what is wrong until garments are listed. */
  fail(error) {
    this.failed = true;
    this.say(error.message, true);
  }

  /** Show no garments. Those of the index that was shown last have their place when they are back. */
  clear() {
    this.version += 1;
    this.failed = true;
    this.generation = null;
    this.listing = null;
    this.pages = new Map();
    this.total = 0;
    this.category.replaceChildren();
    this.category.hidden = true;
    this.fill(0, 0);
    this.space.style.height = "0";
  }

  /** Show an index; the one that is shown keeps its category and place, and is left alone if unchanged. */
  async open(index) {
    const same = index === this.index;
    this.index = index;
    try {
      const { categories, generation } = await describe(index);
      if (index !== this.index || (same && generation === this.generation && !this.failed)) return;
      this.generation = generation;
      const chosen = same ? this.chosen : "";
      this.category.replaceChildren(element("option", { value: "" }, words("anyCategory")));
      this.category.append(...categories.map(({ value, count }) => element("option", { value }, `${value} (${count.toLocaleString()})`)));
      this.category.value = categories.some(({ value }) => value === chosen) ? chosen : "";
      this.category.hidden = categories.length < 2;
      await this.reset(same ? this.place : 0);
    } catch (error) {
      if (index !== this.index) return;
      this.clear();
      this.fail(error);
    }
  }

  /** List anew: the search's hits, or the catalogue from one of its garments. */
  async reset(place = 0) {
    if (this.generation === null) return; // no index can be listed, which is said
    this.version += 1;
    const version = this.version;
    const listing = { index: this.index, category: this.category.value };
    const text = this.input.value.trim();
    this.text = text;
    this.chosen = listing.category;
    const pages = new Map();
    let total = 0;
    let said = "";
    try {
      if (text) {
        const query = { text, k: MOST_HITS, category: listing.category };
        const found = await this.searcher.search(listing.index, query);
        if (!found) return; // a newer one is under way
        for (let at = 0; at < found.hits.length; at += PAGE) pages.set(at / PAGE, found.hits.slice(at, at + PAGE));
        total = found.hits.length;
      } else {
        const page = Math.floor(place / PAGE);
        const found = await this.fetch(listing, page);
        pages.set(page, found.garments);
        total = found.total;
      }
    } catch (error) {
      said = error.message;
    }
    if (version !== this.version) return;
    Object.assign(this, { listing, pages, total, failed: Boolean(said) });
    this.say(said || words("count", { count: total.toLocaleString() }), Boolean(said));
    this.measure();
    this.bring(Math.min(place, Math.max(0, this.total - 1)));
  }

  fetch({ index, category }, page) {
    return browse(index, { start: page * PAGE, count: PAGE, category });
  }

  garment(at) {
    return this.pages.get(Math.floor(at / PAGE))?.[at % PAGE];
  }

  /** Take the size of the list; a list taller than an element may be is scrolled at a larger scale. */
  measure() {
    const { clientWidth, clientHeight } = this.scroll;
    this.columns = Math.max(1, Math.floor(clientWidth / WIDTH));
    const height = Math.ceil(this.total / this.columns) * HEIGHT;
    const shown = Math.min(height, MOST_HEIGHT);
    this.scale = height > shown ? (height - clientHeight) / (shown - clientHeight) : 1;
    this.space.style.height = `${shown}px`;
    this.grid.style.gridTemplateColumns = `repeat(${this.columns}, minmax(0, 1fr))`;
    this.grid.style.gridAutoRows = `${HEIGHT - 8}px`;
  }

  /** Scroll so far that a place stands in the first row in sight. */
  bring(place) {
    this.place = place;
    this.scroll.scrollTop = (Math.floor(place / this.columns) * HEIGHT) / this.scale;
    this.draw();
  }

  /** Draw the cards that can be seen, and ask for those that are not there yet. */
  draw() {
    const { clientHeight } = this.scroll;
    const { seen, columns } = this;
    this.seen = clientHeight > 0;
    if (!clientHeight || !this.listing) return; // another tab is open
    this.measure();
    // It was made wider or narrower, or is back: its place is not that of the scroll bar.
    if (!seen || columns !== this.columns) return this.bring(this.place);
    this.top = this.scroll.scrollTop;
    const top = this.top * this.scale;
    const row = Math.floor(top / HEIGHT);
    this.place = row * columns;
    const first = Math.max(0, row - 1) * columns;
    const last = Math.min(this.total, (row + Math.ceil(clientHeight / HEIGHT) + 2) * columns);
    this.grid.style.transform = `translateY(${this.top - top + (first / columns) * HEIGHT}px)`;
    this.fill(first, last);
    this.ask(first, last);
  }

  /** Put cards on the places from `first` to before `last`. Those that stay are not touched, so that
   * focus, a larger picture and a drag outlive scrolling. */
  fill(first, last) {
    const former = this.cards;
    this.cards = new Map();
    for (let at = first; at < last; at += 1) {
      const garment = this.garment(at);
      const there = former.get(at);
      this.cards.set(at, there && there.garment === garment ? there : { garment, card: this.card(garment, at) });
    }
    const focused = this.grid.contains(document.activeElement);
    for (const [at, one] of former) if (this.cards.get(at) !== one) this.leave(one.card);
    let next = this.grid.firstChild;
    for (const { card } of this.cards.values()) {
      if (card === next) next = next.nextSibling;
      else this.grid.insertBefore(card, next);
    }
    if (focused && !this.grid.contains(document.activeElement)) this.scroll.focus({ preventScroll: true });
    this.focusWanted();
  }

  leave(card) {
    if (card.matches(":hover, :focus-within")) hideDetails();
    const picture = card.querySelector("img");
    if (picture && !picture.complete) picture.removeAttribute("src"); // it is not asked for any more
    card.remove();
  }

  /** Ask for what is missing from `first` to before `last`: one page at a time, so that a long way with
   * the scroll bar asks for its end, and not for all that lies between. */
  async ask(first, last) {
    if (this.asking) return;
    let at = first;
    while (at < last && this.garment(at)) at += 1;
    if (at >= last) return;
    const page = Math.floor(at / PAGE);
    const { version } = this;
    this.asking = true;
    try {
      const found = await this.fetch(this.listing, page);
      if (version === this.version) {
        if (!found.garments.length) return; // it has become shorter
        this.pages.set(page, found.garments);
        this.total = found.total;
        if (this.pages.size > MOST_PAGES) this.pages.delete(this.pages.keys().next().value);
        if (this.failed) this.say(words("count", { count: found.total.toLocaleString() }));
        this.failed = false;
      }
    } catch (error) {
      if (version === this.version) return this.fail(error); // asked for again on scrolling
    } finally {
      this.asking = false;
    }
    this.draw();
  }

  card(garment, at) {
    const { index } = this.listing;
    const choose = () => this.pinOnSelected(index, garment);
    const made = garment ? card(index, garment, { chooseName: words("pinOnNode"), choose }) : element("li", { className: "fr-card" });
    // The list is longer than what is drawn of it.
    made.setAttribute("aria-setsize", String(this.total));
    made.setAttribute("aria-posinset", String(at + 1));
    made.dataset.place = String(at);
    made.draggable = Boolean(garment);
    if (garment) made.querySelector("img").loading = "eager"; // the rows out of sight are few, and soon seen
    made.addEventListener("dragstart", (event) => {
      event.dataTransfer.setData(DRAGGED, JSON.stringify({ index, id: garment.id }));
      event.dataTransfer.effectAllowed = "copy";
    });
    return made;
  }

  /** Arrow keys, Home and End lead through the whole list, drawn or not. */
  key(event) {
    const here = event.target.closest(".fr-card")?.dataset.place ?? this.wanted;
    const there = here === undefined ? undefined : placeOfKey(event.key, Number(here), this.columns, this.total);
    if (there === undefined) return;
    event.preventDefault();
    event.stopPropagation();
    this.wanted = there;
    const top = Math.floor(there / this.columns) * HEIGHT;
    const from = this.scroll.scrollTop * this.scale;
    const to = from + this.scroll.clientHeight - HEIGHT;
    if (top < from || top > to) this.scroll.scrollTop += (top - (top < from ? from : to)) / this.scale;
    this.draw();
  }

  /** Set the focus on the card that keys have led to, as soon as it is there. */
  focusWanted() {
    const button = this.cards.get(this.wanted)?.card.querySelector(".fr-choose");
    if (!button) return;
    this.wanted = undefined;
    if (this.scroll.contains(document.activeElement)) button.focus({ preventScroll: true });
  }

  pinOnSelected(index, garment) {
    const nodes = Object.values(app.canvas.selected_nodes ?? {});
    const said = nodes.map((node) => pin(node, index, garment)).filter(Boolean);
    this.say(said[0] ?? words("selectNode"));
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
  if (node && pin(node, index, { id })) return;
  const picture = await answered(await fetch(photo(index, id))).then((response) => response.blob());
  const form = new FormData();
  form.append("image", picture, `${id.replace(/[^\p{L}\p{N}._-]+/gu, "_").slice(-80)}.jpg`);
  form.append("subfolder", "fashion_rag");
  form.append("type", "input");
  const sent = await answered(await api.fetchApi("/upload/image", { method: "POST", body: form }));
  const saved = await sent.json();
  const name = `${saved.subfolder}/${saved.name}`;
  asOneStep(() => {
    const loader = LiteGraph.createNode("LoadImage");
    loader.pos = place;
    app.canvas.graph.add(loader);
    const widget = loader.widgets.find((one) => one.name === "image");
    const values = widget.options?.values;
    if (Array.isArray(values) && !values.includes(name)) values.push(name);
    widget.value = name;
    widget.callback?.(name);
  });
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
      drop(event).catch((error) => {
        const detail = words("notFetched", { reason: error.message });
        app.extensionManager.toast.add({ severity: "error", summary: words("tab"), detail, life: 10000 });
      });
    },
    { capture: true },
  );
}

let catalogue = null; // made when the tab is opened first

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
        catalogue ??= new Catalogue();
        catalogue.show(root);
      },
      destroy: hideDetails,
    });
  },
});
