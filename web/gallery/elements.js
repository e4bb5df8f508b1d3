// Building blocks: elements, cards of garments, the larger picture beside a card.
import { app } from "../../../scripts/app.js";
import { photo, thumbnail, words } from "./api.js";

const style = document.createElement("link");
style.rel = "stylesheet";
style.href = new URL("./gallery.css", import.meta.url).href;
document.head.append(style);

/** An element with properties, attributes (names with "-", and role) and children. Text stays text. */
export function element(name, properties = {}, ...children) {
  const made = document.createElement(name);
  for (const [key, value] of Object.entries(properties)) {
    if (key.includes("-") || key === "role") made.setAttribute(key, value);
    else made[key] = value;
  }
  made.append(...children.filter((child) => child !== null && child !== undefined));
  return made;
}

/** Change the graph in one step of the page's undo. */
export function asOneStep(change) {
  app.canvas.emitBeforeChange();
  try {
    return change();
  } finally {
    app.canvas.emitAfterChange();
  }
}

/** A button with a sign on it and a name for those who don't see it. */
export function signButton(sign, name, onclick) {
  const button = element("button", { type: "button", className: "fr-sign", title: name, onclick }, sign);
  button.setAttribute("aria-label", name);
  return button;
}

/**
 * The card of a garment: a picture that is pressed, its words, and small buttons.
 * `choose` is called when the picture is pressed; without `pressed` it is no switch.
 */
export function card(index, garment, { choose, pressed, chooseName, buttons = [] }) {
  const name = garment.caption || garment.id;
  const picture = element("img", {
    src: thumbnail(index, garment.id),
    alt: "",
    loading: "lazy",
    decoding: "async",
    draggable: false,
  });
  const main = element("button", { type: "button", className: "fr-choose", onclick: choose }, picture);
  main.setAttribute("aria-label", `${name}: ${chooseName}`);
  if (pressed !== undefined) main.setAttribute("aria-pressed", String(pressed));
  const score = garment.score === undefined ? null : element("b", {}, garment.score.toFixed(3));
  const line = element("div", { className: "fr-words" }, score, element("span", {}, name));
  const made = element("li", { className: "fr-card" }, main, line);
  if (buttons.length) made.append(element("div", { className: "fr-signs" }, ...buttons));
  made.dataset.id = garment.id;
  made.classList.toggle("fr-pinned", pressed === true);
  showDetails(made, index, garment);
  return made;
}

let details = null;
let described = null; // the button that the larger picture belongs to

/** Take the larger picture away. */
export function hideDetails() {
  details?.remove();
  described?.removeAttribute("aria-describedby");
  details = described = null;
}

/** Show a larger picture and the row's columns while the pointer rests, or focus is, on the card. */
function showDetails(target, index, garment) {
  let timer = 0;
  const open = (wait) => {
    clearTimeout(timer);
    timer = setTimeout(() => {
      if (!target.matches(":hover, :focus-within")) return;
      hideDetails();
      const rows = [["id", garment.id], ["category", garment.category], ["caption", garment.caption]];
      rows.push(...Object.entries(garment.columns ?? {}));
      const list = rows
        .filter(([, value]) => value)
        .flatMap(([key, value]) => [element("dt", {}, key), element("dd", {}, value)]);
      const image = element("img", { src: photo(index, garment.id), alt: garment.caption || garment.id });
      image.onerror = () => {
        image.onerror = null;
        image.src = thumbnail(index, garment.id); // the catalogue may be elsewhere
      };
      details = element("aside", { id: "fr-details", className: "fr-details", role: "tooltip" }, image, element("dl", {}, ...list));
      described = target.querySelector(".fr-choose");
      described?.setAttribute("aria-describedby", details.id);
      document.body.append(details);
      const box = target.getBoundingClientRect();
      const whole = target.closest(".fr-gallery").getBoundingClientRect();
      const width = details.offsetWidth + 8;
      // Beside all of the garments, where there is room; else beside this one.
      const places = [whole.right + 8, whole.left - width, box.right + 8, box.left - width];
      const left = places.find((place) => place >= 8 && place + width <= innerWidth) ?? 8;
      details.style.left = `${left}px`;
      details.style.top = `${Math.max(8, Math.min(box.top, innerHeight - details.offsetHeight - 8))}px`;
    }, wait);
  };
  const close = () => {
    clearTimeout(timer);
    hideDetails();
  };
  target.addEventListener("pointerenter", () => open(400));
  target.addEventListener("pointerleave", close);
  target.addEventListener("focusin", (event) => event.target.matches(":focus-visible") && open(150));
  target.addEventListener("focusout", close);
  // No pointer leaves while something is dragged.
  for (const kind of ["dragstart", "dragend"]) target.addEventListener(kind, close);
}

// Before the gallery keeps its keys from the page.
document.addEventListener("keydown", (event) => event.key === "Escape" && hideDetails(), { capture: true });
document.addEventListener("wheel", hideDetails, { passive: true, capture: true });

/** The place in a grid that a key leads to from another; undefined where it leads nowhere. */
export function placeOfKey(key, here, columns, count) {
  const steps = { ArrowRight: 1, ArrowLeft: -1, ArrowDown: columns, ArrowUp: -columns, Home: -here, End: count - 1 - here };
  const there = here + steps[key];
  return there >= 0 && there < count ? there : undefined;
}

/** Arrow keys, Home and End move the focus among the cards of a list. */
export function arrowKeys(list) {
  list.addEventListener("keydown", (event) => {
    const cards = [...list.querySelectorAll(".fr-choose")];
    const here = cards.indexOf(document.activeElement);
    if (here < 0) return;
    const top = cards[0].getBoundingClientRect().top;
    const columns = Math.max(1, cards.filter((one) => Math.abs(one.getBoundingClientRect().top - top) < 4).length);
    const there = cards[placeOfKey(event.key, here, columns, cards.length)];
    if (!there) return;
    there.focus();
    there.scrollIntoView({ block: "nearest" });
    event.preventDefault();
    event.stopPropagation();
  });
}

/** What the page must not take for its own: typing, wheel and drags inside an element. */
export function keepEvents(target) {
  for (const kind of ["pointerdown", "mousedown", "dblclick", "contextmenu", "paste", "copy"]) {
    target.addEventListener(kind, (event) => event.stopPropagation());
  }
  for (const kind of ["keydown", "keyup"]) {
    target.addEventListener(kind, (event) => {
      const runs = (event.ctrlKey || event.metaKey) && event.key === "Enter"; // the page's key for Run
      if (!runs) event.stopPropagation();
    });
  }
  target.addEventListener("wheel", (event) => {
    if (!event.ctrlKey) event.stopPropagation(); // with Ctrl the canvas zooms
  });
}

/** A line that a screen reader says when it changes. */
export function statusLine() {
  return element("div", { className: "fr-status", role: "status", "aria-live": "polite" });
}
