// Say something to screen readers: announce(text). The same words twice in a row are said twice.

import { byId } from "./dom.js";

let timer = 0;

export function announce(text) {
  const node = byId("announcer");
  clearTimeout(timer);
  node.textContent = "";
  timer = setTimeout(() => { node.textContent = text; }, 60);
}
