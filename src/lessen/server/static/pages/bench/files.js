// Images as the server takes them: data URLs in base64.

import { bench as words } from "../../strings-learn.js";

/** Return a file's or blob's content as a data URL. */
export function dataUrl(blob) {
  return new Promise((resolve, reject) => {
    const reader = new FileReader();
    reader.addEventListener("load", () => resolve(reader.result));
    reader.addEventListener("error", () => reject(reader.error));
    reader.readAsDataURL(blob);
  });
}

/** Return the image of a test sample as a data URL. */
export async function sampleImage(address) {
  const reply = await fetch(address);
  if (!reply.ok) throw new Error(words.noImage(reply.status));
  return dataUrl(await reply.blob());
}
