// @vitest-environment happy-dom
import { afterEach, expect, it, vi } from "vitest";
import { browser, createAwChat } from "../src/index.ts";
import { createTestWorld } from "../src/testing.ts";
import { FakeServer } from "./support.ts";

afterEach(() => {
  vi.unstubAllGlobals();
  localStorage.clear();
});

it("keeps what it keeps in localStorage, and in memory where that is forbidden", () => {
  const env = browser();
  expect(env.storage.shared).toBe(true);
  env.storage.set("awchat:ada:x", "1");
  expect([localStorage.getItem("awchat:ada:x"), env.storage.keys("awchat:ada:")]).toEqual(["1", ["awchat:ada:x"]]);
  env.storage.remove("awchat:ada:x");
  expect(localStorage.length).toBe(0);
  vi.spyOn(window, "localStorage", "get").mockImplementation(() => {
    throw new Error("SecurityError");
  });
  const forbidden = browser();
  vi.restoreAllMocks();
  forbidden.storage.set("a", "1");
  expect([forbidden.storage.shared, forbidden.storage.get("a"), localStorage.length]).toEqual([false, "1", 0]);
});

it("tells of coming to the front, and of the network", () => {
  const env = browser();
  let changes = 0;
  const off = env.onChange(() => {
    changes += 1;
  });
  document.dispatchEvent(new Event("visibilitychange", { bubbles: true }));
  window.dispatchEvent(new Event("online"));
  window.dispatchEvent(new Event("offline"));
  expect(changes).toBe(3);
  off();
  window.dispatchEvent(new Event("online"));
  expect(changes).toBe(3);
});

it("agrees with other tabs by locks and a channel, and is alone where a page may have none", async () => {
  const requests: { name: string; options: LockOptions }[] = [];
  let steal: (reason: unknown) => void = () => {};
  const request = (name: string, options: LockOptions, hold: () => Promise<void>) => {
    requests.push({ name, options });
    return Promise.race([hold(), new Promise((_, reject) => (steal = reject))]);
  };
  vi.stubGlobal("navigator", { locks: { request }, onLine: true });
  const { tabs } = browser();
  if (typeof tabs === "string") throw new Error("there are locks");
  const { signal } = new AbortController();
  let lost = 0;
  const release = await tabs.lock("a", true, signal, () => {
    lost += 1;
  });
  steal(new Error("AbortError"));
  await new Promise((resolve) => setTimeout(resolve));
  expect(lost).toBe(1);
  release();
  await tabs.lock("b", false, signal, () => {});
  expect(requests).toEqual([
    { name: "a", options: { steal: true } },
    { name: "b", options: { signal } },
  ]);
  vi.stubGlobal("navigator", { locks: { request: () => Promise.reject(new Error("SecurityError")) }, onLine: true });
  const denied = browser().tabs;
  if (typeof denied === "string") throw new Error("there are locks");
  expect(await denied.lock("a", true, signal, () => {})).toBeTypeOf("function");
  vi.stubGlobal("navigator", { onLine: true });
  expect(browser().tabs).toBe("unknown");
});

it("uploads by XMLHttpRequest, with progress and an end on demand", async () => {
  type Handler = ((event: { loaded: number; total: number }) => void) | null;
  const sent: FakeRequest[] = [];
  class FakeRequest {
    upload: { onprogress: Handler } = { onprogress: null };
    onload: (() => void) | null = null;
    onerror: (() => void) | null = null;
    onabort: (() => void) | null = null;
    status = 201;
    responseText = JSON.stringify({ id: "f1", name: "a.txt", contentType: "text/plain", size: 3, url: "u" });
    headers: Record<string, string> = {};
    line = "";
    body: unknown;
    open(method: string, url: string) {
      this.line = `${method} ${url}`;
    }
    setRequestHeader(name: string, value: string) {
      this.headers[name] = value;
    }
    getResponseHeader() {
      return null;
    }
    send(body: unknown) {
      this.body = body;
      sent.push(this);
    }
    abort() {
      this.onabort?.();
    }
  }
  vi.stubGlobal("XMLHttpRequest", FakeRequest);
  const world = createTestWorld();
  const env = { ...world.env({ server: new FakeServer(world).answer }), upload: undefined };
  const chat = createAwChat({ serverUrl: "https://support.test/", getToken: () => "t", userScope: "ada", env });
  const progress: number[] = [];
  const upload = await chat.files.upload(new File(["abc"], "a.txt", { type: "text/plain" }), {
    onProgress: (n) => progress.push(n),
  });
  await world.advance(0);
  const [first] = sent;
  expect(first?.line).toBe("POST https://support.test/api/files/upload");
  expect(first?.headers).toMatchObject({ Authorization: "Bearer t", "Idempotency-Key": expect.any(String) });
  // The browser writes the boundary itself.
  expect(first?.headers).not.toHaveProperty("Content-Type");
  expect(first?.body instanceof FormData && first.body.get("file")).toBeInstanceOf(File);
  first?.upload.onprogress?.({ loaded: 2, total: 3 });
  expect(upload.state.get()).toMatchObject({ status: "uploading", sent: 2, total: 3 });
  first?.onload?.();
  expect((await upload.done).id).toBe("f1");
  expect(progress).toEqual([2]);
  const other = await chat.files.upload(new File(["abc"], "a.txt", { type: "text/plain" }));
  await world.advance(0);
  other.abort();
  await expect(other.done).rejects.toMatchObject({ code: "aborted" });
});
