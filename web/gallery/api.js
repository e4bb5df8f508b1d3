// The pack's routes, and the words of its page in the user's language.
import { api } from "../../../scripts/api.js";
import { app } from "../../../scripts/app.js";

/** The address of an index's route, with parameters. */
export function address(index, route, parameters = {}) {
  const query = new URLSearchParams(parameters).toString();
  const path = `/fashion_rag/index/${encodeURIComponent(index)}${route}`;
  return api.apiURL(query ? `${path}?${query}` : path);
}

const generations = new Map(); // by index, as it was last described

/** A garment's picture; after a change of the index it has another address, so that none is shown from before. */
const picture = (route) => (index, id) => address(index, route, { id, of: generations.get(index) ?? "" });
export const thumbnail = picture("/thumbnail");
export const photo = picture("/photo");

/** The response, if it is an answer; an error with the server's words if it is none. */
export async function answered(response) {
  if (response.ok) return response;
  const content = await response.json().catch(() => ({}));
  throw new Error(content.error ?? `${response.status} ${response.statusText}`);
}

async function answer(response) {
  return response.status === 204 ? null : (await answered(response)).json();
}

export const indexes = async () => answer(await fetch(api.apiURL("/fashion_rag/indexes")));
export async function describe(index) {
  const described = await answer(await fetch(address(index, "")));
  generations.set(index, described.generation);
  return described;
}
export const browse = async (index, parameters) =>
  answer(await fetch(address(index, "/garments", parameters)));

/** Who searches: a gallery or the side bar, each its own, so that none overtakes another. */
export class Searcher {
  constructor() {
    this.page = crypto.randomUUID?.() ?? String(Math.random());
    this.number = 0;
  }

  /** What is found; null where a newer search of this one has overtaken it. */
  async search(index, query, like = null) {
    this.number += 1;
    const body = JSON.stringify({ query, like, page: this.page, number: this.number });
    const headers = { "Content-Type": "application/json" };
    return answer(await fetch(address(index, "/search"), { method: "POST", headers, body }));
  }
}

let texts = {};

/** Load the words of the page's language, English where one is missing. */
export async function loadWords() {
  const all = await fetch(api.apiURL("/i18n")).then((response) => response.json());
  const language = app.extensionManager?.setting?.get("Comfy.Locale") ?? "en";
  texts = { ...all.en?.fashionRag, ...all[language]?.fashionRag };
}

/** A text of the page by its key, `{name}` replaced by values. */
export function words(key, values = {}) {
  const text = texts[key] ?? key;
  return text.replace(/\{(\w+)\}/g, (whole, name) => String(values[name] ?? whole));
}
