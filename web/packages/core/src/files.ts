// Files on their way to a message, and back.

import type { FileLink, ServerConfig, UploadedFile } from "./api.ts";
import type { HttpAnswer, HttpInit } from "./env.ts";
import { AwError, aborted, toAwError } from "./errors.ts";
import type { Host } from "./host.ts";
import { patiently } from "./requests.ts";
import { type Resource, Store } from "./store.ts";

/** A browser's `File` or `Blob`, or a file of React Native. */
export type FileSource = Blob | { uri: string; name: string; type: string; size?: number };

export interface UploadState {
  status: "uploading" | "done" | "failed" | "aborted";
  /** Bytes, as far as is known. */
  sent: number;
  total: number;
  file: UploadedFile | null;
  error: AwError | null;
}

/** One file on its way. */
export interface Upload {
  readonly name: string;
  readonly contentType: string;
  readonly state: Resource<UploadState>;
  /** The uploaded file. After `retry`, that of the new try. */
  readonly done: Promise<UploadedFile>;
  abort(): void;
  /** Once more, after a failure. */
  retry(): void;
}

export interface UploadOptions {
  onProgress?: (sent: number, total: number) => void;
  signal?: AbortSignal;
}

export interface Files {
  /**
   * Begins to upload a file, to be sent with a message within a day. Fails at once with `file_too_large` or `file_type`
   * where the server would not take it.
   */
  upload(file: FileSource, options?: UploadOptions): Promise<Upload>;
  /** A signed address of a file, for `<img src>` or to open, good for a while. */
  link(id: string, options?: { signal?: AbortSignal }): Promise<FileLink>;
}

/** Without progress for so long, an upload is given up. */
const STALL_MS = 30_000;
const FRESH_MS = 60_000;

export function createFiles(host: Host, limits: () => ServerConfig["files"]): Files {
  const links = new Map<string, FileLink>();
  return {
    upload: async (file, options = {}) => startUpload(host, limits(), file, options),
    async link(id, { signal } = {}) {
      const kept = links.get(id);
      if (kept && kept.expiresAt * 1000 > host.env.now() + FRESH_MS) return kept;
      const { data } = await host.http.request("GET /api/files/{id}", { path: { id } }, { signal });
      links.set(id, data);
      return data;
    },
  };
}

/** What is wrong with a file before it is sent; the server looks at its bytes. */
function refusal(limits: ServerConfig["files"], size: number, type: string): AwError | null {
  if (size > limits.maxBytes) return new AwError("file_too_large", `at most ${limits.maxBytes} bytes`);
  if (type && !limits.contentTypes.includes(type)) return new AwError("file_type", `${type} is not taken`);
  return null;
}

function startUpload(
  host: Host,
  limits: ServerConfig["files"],
  file: FileSource,
  { onProgress, signal }: UploadOptions,
): Upload {
  const name = ("name" in file && typeof file.name === "string" && file.name) || "file";
  const contentType = (file.type.split(";")[0] ?? "").trim().toLowerCase();
  const total = file.size ?? 0;
  const state = new Store<UploadState>({ status: "uploading", sent: 0, total, file: null, error: null });
  const refused = refusal(limits, total, contentType);
  if (refused) throw refused;
  // The same file is uploaded once, however often it is tried.
  const key = host.env.uuid();
  let controller = new AbortController();

  const attempt = () => {
    const form = new FormData();
    if (file instanceof Blob) form.append("file", file, name);
    else form.append("file", file as unknown as Blob);
    const options = { key, signal: controller.signal, timeoutMs: STALL_MS };
    const send = host.env.upload ?? uploadByXhr;
    return host.http.send<UploadedFile>("POST /api/files/upload", {}, options, form, (url, init, alive) =>
      send(url, init, (sent, total) => {
        alive();
        state.patch({ sent, total });
        onProgress?.(sent, total);
      }),
    );
  };
  const run = async (): Promise<UploadedFile> => {
    const { signal } = controller;
    try {
      if (signal.aborted) throw aborted();
      const { data } = await patiently(host, signal, attempt);
      state.patch({ status: "done", file: data });
      return data;
    } catch (cause) {
      const error = toAwError(cause);
      state.patch({ status: error.code === "aborted" ? "aborted" : "failed", error });
      throw error;
    }
  };
  const begin = () => {
    const promise = run();
    // Who looks at `state` alone need not handle it.
    promise.catch(() => {});
    return promise;
  };
  const abort = () => controller.abort();
  if (signal?.aborted) abort();
  signal?.addEventListener("abort", abort);
  let done = begin();
  return {
    name,
    contentType,
    state,
    get done() {
      return done;
    },
    abort,
    retry() {
      const { status } = state.get();
      if (status !== "failed" && status !== "aborted") return;
      controller = new AbortController();
      state.set({ status: "uploading", sent: 0, total, file: null, error: null });
      done = begin();
    },
  };
}

/** `fetch` tells nothing of what it has sent. Without XMLHttpRequest, it must do. */
function uploadByXhr(
  url: string,
  init: HttpInit,
  onProgress: (sent: number, total: number) => void,
): Promise<HttpAnswer> {
  if (typeof XMLHttpRequest === "undefined") return fetch(url, init);
  return new Promise((resolve, reject) => {
    const request = new XMLHttpRequest();
    request.open(init.method, url);
    for (const [name, value] of Object.entries(init.headers)) request.setRequestHeader(name, value);
    request.upload.onprogress = ({ loaded, total }) => onProgress(loaded, total);
    request.onload = () => {
      const text = async () => request.responseText;
      resolve({ status: request.status, headers: { get: (name) => request.getResponseHeader(name) }, text });
    };
    request.onerror = () => reject(new Error("the upload failed"));
    request.onabort = () => reject(aborted());
    init.signal.addEventListener("abort", () => request.abort());
    request.send(init.body);
  });
}
