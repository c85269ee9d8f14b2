import type { CDPSession } from "playwright-core";
import { afterAll, beforeAll, expect, it } from "vitest";
import { Stage, until } from "./stage.ts";

let stage: Stage;

beforeAll(async () => {
  stage = await Stage.open();
});

afterAll(() => stage?.close());

const TRIES = 3;

/** A slow phone on a slow network. */
async function slow(session: CDPSession): Promise<void> {
  await session.send("Network.enable");
  const bytes = (1.6 * 1024 * 1024) / 8;
  await session.send("Network.emulateNetworkConditions", {
    offline: false,
    latency: 150,
    downloadThroughput: bytes,
    uploadThroughput: bytes,
  });
  await session.send("Emulation.setCPUThrottlingRate", { rate: 4 });
}

interface Times {
  launcher: number;
  panel: number;
  blocked: number;
}

/** Runs on the page before its own scripts: notes when what is seen. It waits for events, so as not to slow things itself. */
function watch(): void {
  const seen: Record<string, number> = {};
  const next = (name: string) => requestAnimationFrame(() => (seen[name] ??= performance.now()));
  addEventListener("pointerdown", () => (seen.tapped ??= performance.now()), { capture: true });
  addEventListener("aw-open", () => next("panel"));
  void customElements.whenDefined("aw-chat").then(() => next("launcher"));
  Object.assign(window, { seen });
}

interface Traced {
  name: string;
  pid: number;
  tid: number;
  /** In microseconds: of the thread's own time, so that other work on the machine does not count. */
  tdur?: number;
  args: { name?: string };
}

/** What tasks of the page's thread take beyond 50 ms each, in milliseconds. */
function blockedMs(trace: Buffer): number {
  const { traceEvents: events } = JSON.parse(trace.toString()) as { traceEvents: Traced[] };
  const threads = new Set(
    events
      .filter(({ name, args }) => name === "thread_name" && args.name === "CrRendererMain")
      .map(({ pid, tid }) => `${pid} ${tid}`),
  );
  const tasks = events.filter(({ name, pid, tid }) => name.endsWith("RunTask") && threads.has(`${pid} ${tid}`));
  if (!tasks.length) throw new Error("nothing was traced");
  return tasks.reduce((sum, { tdur = 0 }) => sum + Math.max(0, tdur / 1000 - 50), 0);
}

/** In milliseconds, as the page itself sees them. Playwright's own ways of looking would take part in what is measured. */
async function measure(user: string): Promise<Times> {
  const context = await stage.browser.newContext({ viewport: { width: 400, height: 800 } });
  await context.addInitScript(watch);
  const page = await context.newPage();
  const session = await context.newCDPSession(page);
  const ask = async <T>(expression: string): Promise<T> =>
    (await session.send("Runtime.evaluate", { expression, returnByValue: true })).result.value;
  const center = (selector: string) =>
    until(selector, () =>
      ask<[number, number] | null>(
        `(() => { const box = document.querySelector("aw-chat")?.shadowRoot?.querySelector("${selector}")?.getBoundingClientRect();
          return box?.width ? [box.x + box.width / 2, box.y + box.height / 2] : null; })()`,
      ),
    );
  await slow(session);
  await stage.browser.startTracing(page, { categories: ["toplevel"] });
  await page.goto(`${stage.app.url}/?user=${user}`, { waitUntil: "commit" });
  // As soon as it is there: nothing has been loaded in advance.
  await until("the button", () => ask("window.seen?.launcher"));
  await page.mouse.click(...(await center(".launcher")));
  await until("the panel", () => ask("window.seen.panel"));
  await page.mouse.click(...(await center(".row")));
  await center(".message");
  const blocked = blockedMs(await stage.browser.stopTracing());
  const { launcher = 0, tapped = 0, panel = 0 } = await ask<Record<string, number>>("window.seen");
  await context.close();
  return { launcher: Math.round(launcher), panel: Math.round(panel - tapped), blocked: Math.round(blocked) };
}

it("on a slow phone the button is there in 1.5 s, the panel a second after a tap, and little blocks the page", async () => {
  await stage.api("slow", "POST", "/api/conversations", { body: "Hello" });
  const all: Times[] = [];
  for (let n = 0; n < TRIES; n += 1) all.push(await measure("slow"));
  // Other work on the machine makes things slower, never faster.
  const best = (name: keyof Times) => Math.min(...all.map((times) => times[name]));
  const told = all.map(({ launcher, panel, blocked }) => `${launcher}/${panel}/${blocked}`).join(", ");
  console.info(
    `4x CPU, 1.6 Mbps, 150 ms: launcher ${best("launcher")} ms, tap to panel ${best("panel")} ms, blocked ${best("blocked")} ms (each try: ${told})`,
  );
  expect(best("launcher")).toBeLessThanOrEqual(1500);
  expect(best("panel")).toBeLessThanOrEqual(1000);
  expect(best("blocked")).toBeLessThanOrEqual(200);
}, 120_000);
