// An app's page with the widget on it, in a real browser, before the real server and its sandbox.

import { randomBytes } from "node:crypto";
import { readFileSync } from "node:fs";
import { createServer, type Server } from "node:http";
import type { AddressInfo } from "node:net";
import { crc32, deflateSync } from "node:zlib";
import type { Route } from "@aw-chat/widget";
import { type Browser, type BrowserContext, type BrowserContextOptions, chromium, type Page } from "playwright-core";
import { Awchat, Sandbox, signed, until } from "../packages/core/server-test/support.ts";

const CHROMIUM = process.env.CHROMIUM ?? "/usr/bin/chromium";
const ARGS = [
  "--no-sandbox",
  "--disable-quic",
  "--no-first-run",
  "--disable-background-networking",
  "--disable-component-update",
  "--disable-sync",
];
/** What `awchat dev` verifies tokens with: it is in everybody's hands. */
const DEV_SECRET = "dev-only-session-secret-known-to-everybody";

/** The app: its page, its script, and its backend that signs tokens. Another origin than the server's. */
export class AppServer {
  readonly #server: Server;
  /** The server whose widget the page has. */
  chat = "";
  secret = DEV_SECRET;
  url = "";

  constructor() {
    this.#server = createServer((request, response) => {
      const { pathname, searchParams } = new URL(request.url ?? "/", this.url);
      const say = (type: string, body: string, headers = {}) =>
        response.writeHead(200, { "Content-Type": type, ...headers }).end(body);
      if (pathname === "/token") {
        const life = Number(searchParams.get("life") || 3600);
        say("text/plain", signed(this.secret, searchParams.get("user") ?? "", life));
      } else if (pathname === "/host.js") {
        say("text/javascript", readFileSync(new URL("host.js", import.meta.url), "utf8"));
      } else if (pathname === "/frame") say("text/html", this.#frame());
      else say("text/html", this.#page(), { "Content-Security-Policy": this.#policy() });
    });
  }

  async start(): Promise<void> {
    await new Promise<void>((resolve) => this.#server.listen(0, "127.0.0.1", resolve));
    this.url = `http://127.0.0.1:${(this.#server.address() as AddressInfo).port}`;
  }

  stop(): void {
    this.#server.closeAllConnections();
    this.#server.close();
  }

  /** No inline style or script, and no HTML made of strings. */
  #policy(): string {
    return `default-src 'none'; script-src 'self' ${this.chat}; connect-src 'self' ${this.chat}; img-src ${this.chat} data:; media-src ${this.chat}; style-src 'none'; require-trusted-types-for 'script'; trusted-types 'none'`;
  }

  /** A page that has the chat's own page in a frame, and gives it tokens. */
  #frame(): string {
    return `<!doctype html><title>An app</title><iframe src="${this.chat}/widget/" width="400" height="600"></iframe>
<script>addEventListener("message", async ({ source, data, origin }) => {
  if (origin !== "${this.chat}" || data.type !== "aw-get-token") return;
  const userScope = new URLSearchParams(location.search).get("user");
  const token = await (await fetch("/token?user=" + userScope)).text();
  source.postMessage({ type: "aw-token", id: data.id, token, userScope }, origin);
});</script>`;
  }

  #page(): string {
    return `<!doctype html><html lang="en"><head><meta charset="utf-8"><title>An app</title>
<meta name="viewport" content="width=device-width, initial-scale=1"><link rel="icon" href="data:,">
<script type="module" src="${this.chat}/widget/v1/aw-chat.js"></script>
<script type="module" src="/host.js"></script></head>
<body><main><h1>An app</h1><p>With a chat.</p></main><aw-chat></aw-chat></body></html>`;
  }
}

export interface Visit extends BrowserContextOptions {
  locale?: "en" | "ru" | "ar";
  theme?: "light" | "dark";
  mode?: "bubble" | "inline";
  /** Seconds that a token lasts. */
  life?: number;
  /** Among the tabs of another visit. */
  context?: BrowserContext;
}

/** Everything there is to act on. */
export class Stage {
  readonly app = new AppServer();
  dev!: Awchat;
  sandbox!: Sandbox;
  browser!: Browser;
  /** What went wrong on pages without being meant to. */
  readonly faults: string[] = [];

  readonly #waiting = new WeakSet<Page>();

  /** Whether the page's widget waits for what is new. */
  isPolling(page: Page): boolean {
    return this.#waiting.has(page);
  }

  static async open(): Promise<Stage> {
    const stage = new Stage();
    await stage.app.start();
    stage.dev = new Awchat("dev", {
      CORS_ORIGINS: stage.app.url,
      RATE_LIMIT_BURST: "5000",
      RATE_LIMIT_PER_MINUTE: "60000",
    });
    await stage.dev.start();
    stage.app.chat = stage.dev.url;
    stage.sandbox = await Sandbox.of(stage.dev);
    stage.browser = await chromium.launch({ executablePath: CHROMIUM, args: ARGS });
    return stage;
  }

  async close(): Promise<void> {
    await this.browser?.close();
    this.app.stop();
    await this.dev?.remove();
  }

  async visit(user: string, { locale, theme, mode, life, context, ...options }: Visit = {}): Promise<Page> {
    const own = context ?? (await this.browser.newContext({ viewport: { width: 1000, height: 800 }, ...options }));
    const page = await own.newPage();
    page.setDefaultTimeout(10_000);
    page.on("request", (request) => {
      if (request.url().includes("wait=")) this.#waiting.add(page);
    });
    page.on("pageerror", (error) => this.faults.push(`${user}: ${error.stack}`));
    const asked = Object.entries({ user, locale, theme, mode, life }).flatMap(([name, value]) =>
      value === undefined ? [] : `${name}=${value}`,
    );
    await page.goto(`${this.app.url}/?${asked.join("&")}`);
    return page;
  }

  /** A request of a user's own, beside the widget. */
  async api<T = { id: string }>(user: string, method: string, path: string, body?: unknown): Promise<T> {
    const headers = {
      Authorization: `Bearer ${signed(this.app.secret, user, 600)}`,
      "Content-Type": "application/json",
    };
    const answer = await fetch(this.app.chat + path, {
      method,
      headers,
      body: body && JSON.stringify(body),
    } as RequestInit);
    if (!answer.ok) throw new Error(`${method} ${path}: ${answer.status} ${await answer.text()}`);
    return (answer.status === 204 ? null : await answer.json()) as T;
  }

  /** A message comes while the panel is closed, and the page looks whether there is one, as when a notice arrives. */
  async notify(page: Page, user: string, conversation: string, body: string): Promise<void> {
    await this.act({ act: "reply", conversation, body });
    await until("the server to have it", async () => {
      const { unreadTotal } = await this.api<{ unreadTotal: number }>(user, "GET", "/api/conversations");
      return unreadTotal > 0;
    });
    await page.evaluate(() => (window as never as { host: { client: { wake(): void } } }).host.client.wake());
  }

  /** The operator does something. */
  async act(act: Record<string, unknown>): Promise<Record<string, string>> {
    const headers = { "Content-Type": "application/json" };
    const answer = await fetch(`${this.sandbox.url}/_sandbox/act`, {
      method: "POST",
      headers,
      body: JSON.stringify(act),
    });
    if (!answer.ok) throw new Error(await answer.text());
    return (await answer.json()) as Record<string, string>;
  }

  /** The operator makes a ticket for a user who has written before; answers its id once the server has it. */
  async ticket(user: string, title: string): Promise<string> {
    const contacts = (await (await fetch(`${this.sandbox.url}/_sandbox/contacts`)).json()) as {
      id: string;
      external_id: string;
    }[];
    const contact = contacts.find(({ external_id }) => external_id === user)?.id;
    await this.act({ act: "create_ticket", contact, ticket: { title, ticket_type: "Payment problem" } });
    return until("the ticket to be there", async () => {
      const { tickets } = await this.api<{ tickets: { id: string; title: string }[] }>(user, "GET", "/api/tickets");
      return tickets.find((ticket) => ticket.title === title)?.id;
    });
  }
}

/** What went wrong on this page by its policy. */
export const violations = (page: Page): Promise<string[]> =>
  page.evaluate(() => (window as unknown as { host: { violations: string[] } }).host.violations);

export const launcher = (page: Page) => page.locator("aw-chat .launcher");
export const panel = (page: Page) => page.locator("aw-chat .panel");

/** Opens the panel at a screen, as the app's own script can. */
export async function openAt(page: Page, route: Record<string, unknown>): Promise<void> {
  await page.evaluate((route) => document.querySelector("aw-chat")?.open(route as unknown as Route), route);
  await panel(page).waitFor();
}

function chunk(type: string, data: Buffer): Buffer {
  const body = Buffer.concat([Buffer.from(type), data]);
  const [length, sum] = [Buffer.alloc(4), Buffer.alloc(4)];
  length.writeUInt32BE(data.length);
  sum.writeUInt32BE(crc32(body));
  return Buffer.concat([length, body, sum]);
}

/** A picture: of a few kilobytes, or with `isLarge`, noise that cannot be made smaller: three bytes for each pixel. */
export function png(width = 320, height = 200, isLarge = false): Buffer {
  const header = Buffer.alloc(13);
  header.writeUInt32BE(width, 0);
  header.writeUInt32BE(height, 4);
  header.set([8, 2], 8);
  const rows = Array.from({ length: height }, (_, y) => {
    const row = isLarge ? randomBytes(1 + 3 * width) : Buffer.alloc(1 + 3 * width);
    if (!isLarge)
      for (let x = 0; x < width; x += 1) row.set([40 + (x * 160) / width, 120, 90 + (y * 160) / height], 1 + 3 * x);
    row[0] = 0;
    return row;
  });
  const data = deflateSync(Buffer.concat(rows), { level: isLarge ? 0 : 9 });
  const signature = Buffer.from([137, 80, 78, 71, 13, 10, 26, 10]);
  return Buffer.concat([signature, chunk("IHDR", header), chunk("IDAT", data), chunk("IEND", Buffer.alloc(0))]);
}

export { until };
