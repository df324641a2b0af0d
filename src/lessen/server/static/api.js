// Requests to the server. Paths are those of SPEC "HTTP v1": get("/runs") asks /api/v1/runs.
//
//   await get(path, query?, {signal}?) -> value       await post(path, body?, {signal}?) -> value
//   await remove(path) -> value                       await upload([file, ...], {onProgress}?) -> {upload_id, file_path, kind, facts}
//   await text(path) -> string                        url(path, query?) -> "/api/v1..." for links and images
//   All throw ApiError {message, hint, status, exit_code, retry_after}. A 401 also shows the login screen.
//   onLoginNeeded(callback)       login(token) -> true or throws ApiError
// The token never lives in this page: login() trades it for a cookie that scripts cannot read.

import { api as words } from "./strings.js";

const PREFIX = "/api/v1";
let loginNeeded = () => {};

/** What the server said went wrong, with what to do about it. */
export class ApiError extends Error {
  constructor(message, { hint = "", status = 0, exitCode = null, retryAfter = null } = {}) {
    super(message);
    this.name = "ApiError";
    this.hint = hint;
    this.status = status;
    this.exit_code = exitCode;
    this.retry_after = retryAfter;
  }
}

/** Call back when a request was refused for want of a token. */
export function onLoginNeeded(callback) {
  loginNeeded = callback;
}

/** Return the address of a path, with its query; null and "" are left out. */
export function url(path, query = {}) {
  const pairs = Object.entries(query).filter(([, value]) => value !== null && value !== undefined && value !== "");
  const tail = new URLSearchParams(pairs).toString();
  return PREFIX + path + (tail ? `?${tail}` : "");
}

export async function get(path, query, options) {
  return json(await send("GET", url(path, query), undefined, options));
}

export async function post(path, body = {}, options) {
  return json(await send("POST", url(path), body, options));
}

export async function remove(path) {
  return json(await send("DELETE", url(path)));
}

export async function text(path, query) {
  return (await send("GET", url(path, query))).text();
}

/** Trade a token for the session's cookie. */
export async function login(token) {
  await send("POST", "/login", { token }, { quiet: true });
  return true;
}

async function send(method, address, body, { signal, quiet = false } = {}) {
  const options = { method, signal, credentials: "same-origin", headers: { Accept: "application/json" } };
  if (body !== undefined) {
    options.headers["Content-Type"] = "application/json";
    options.body = JSON.stringify(body);
  }
  let response;
  try {
    response = await fetch(address, options);
  } catch (error) {
    if (error.name === "AbortError") throw error;
    throw new ApiError(words.unreachable, { hint: words.unreachableHint });
  }
  if (response.ok) return response;
  const error = await problem(response);
  if (response.status === 401 && !quiet) loginNeeded();
  throw error;
}

async function json(response) {
  return response.status === 204 ? null : response.json();
}

async function problem(response) {
  let body = {};
  try {
    body = await response.json();
  } catch {
    // Not every proxy answers in JSON; the status alone then has to do.
  }
  const message = body.detail ?? body.error ?? body.title ?? words.failed(response.status);
  return new ApiError(typeof message === "string" ? message : JSON.stringify(message), {
    hint: body.hint ?? "",
    status: response.status,
    exitCode: body.exit_code ?? null,
    retryAfter: Number(response.headers.get("Retry-After")) || null,
  });
}

/** Send a file, or the files of a model; `onProgress` is told the share that has left, which only XMLHttpRequest knows. */
export function upload(files, { onProgress = () => {} } = {}) {
  return new Promise((resolve, reject) => {
    const request = new XMLHttpRequest();
    const form = new FormData();
    for (const file of files) form.append("file", file, file.name);
    request.open("POST", url("/uploads"));
    request.responseType = "json";
    request.upload.addEventListener("progress", (event) => event.lengthComputable && onProgress(event.loaded / event.total));
    request.addEventListener("error", () => reject(new ApiError(words.unreachable, { hint: words.unreachableHint })));
    request.addEventListener("load", () => {
      const body = request.response ?? {};
      if (request.status < 400) return resolve(body);
      if (request.status === 401) loginNeeded();
      const message = body.detail ?? body.error ?? words.failed(request.status);
      return reject(new ApiError(message, { hint: body.hint ?? "", status: request.status }));
    });
    request.send(form);
  });
}
