// The real server and its sandbox, as processes of their own.

import { type ChildProcess, spawn } from "node:child_process";
import { createHmac, randomBytes, randomUUID } from "node:crypto";
import { existsSync, mkdtempSync, rmSync } from "node:fs";
import { createServer, type IncomingMessage, type Server } from "node:http";
import { type AddressInfo, createServer as createSocket } from "node:net";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { fileURLToPath } from "node:url";

const BINARY = process.env.AWCHAT ?? fileURLToPath(new URL("../../../../target/debug/awchat", import.meta.url));
const DEV_ACCESS_TOKEN = "dev-only-access-token";

export async function until<T>(what: string, look: () => T | Promise<T>): Promise<NonNullable<T>> {
  const end = Date.now() + 60_000;
  while (Date.now() < end) {
    const found = await look();
    if (found) return found;
    await new Promise((resolve) => setTimeout(resolve, 20));
  }
  throw new Error(`waited a minute for: ${what}`);
}

function freePort(): Promise<number> {
  return new Promise((resolve) => {
    const socket = createSocket().listen(0, "127.0.0.1", () => {
      const { port } = socket.address() as AddressInfo;
      socket.close(() => resolve(port));
    });
  });
}

/** One process of the server, in a folder of its own that it finds again when it is started anew. */
export class Awchat {
  readonly #command: "dev" | "serve";
  readonly #folder = mkdtempSync(join(tmpdir(), "awchat-"));
  readonly #settings: Record<string, string>;
  #process: ChildProcess | null = null;
  #log = "";
  url = "";

  constructor(command: "dev" | "serve", settings: Record<string, string> = {}) {
    if (!existsSync(BINARY)) throw new Error(`there is no ${BINARY}: cargo build -p awchat`);
    this.#command = command;
    this.#settings = settings;
  }

  async start(): Promise<void> {
    if (!this.url) this.url = `http://127.0.0.1:${await freePort()}`;
    const env = { PATH: process.env.PATH, ...this.#settings, LISTEN_ADDR: this.url.slice("http://".length) };
    const child = spawn(BINARY, [this.#command], { cwd: this.#folder, env, stdio: ["ignore", "pipe", "pipe"] });
    for (const stream of [child.stdout, child.stderr]) stream.on("data", (text) => (this.#log += text));
    this.#process = child;
    await until("the server to be up", async () => {
      if (child.exitCode !== null) throw new Error(`the server has ended:\n${this.#log}`);
      return fetch(`${this.url}/health`).then(
        (response) => response.ok,
        () => false,
      );
    });
  }

  /** As a machine that loses its power. */
  async kill(): Promise<void> {
    const child = this.#process;
    if (!child) return;
    this.#process = null;
    const ended = new Promise((resolve) => child.once("exit", resolve));
    child.kill("SIGKILL");
    await ended;
  }

  async remove(): Promise<void> {
    await this.kill();
    rmSync(this.#folder, { recursive: true, force: true });
  }
}

/** The sandbox of an `awchat dev`: Intercom, and its operator. */
export class Sandbox {
  readonly url: string;

  private constructor(url: string) {
    this.url = url;
  }

  static async of(dev: Awchat): Promise<Sandbox> {
    const { operatorUrl } = (await (await fetch(`${dev.url}/dev/info`)).json()) as { operatorUrl: string };
    return new Sandbox(new URL(operatorUrl).origin);
  }

  async act(act: Record<string, string>): Promise<void> {
    const headers = { "Content-Type": "application/json" };
    const response = await fetch(`${this.url}/_sandbox/act`, { method: "POST", headers, body: JSON.stringify(act) });
    if (!response.ok) throw new Error(await response.text());
  }

  /** How often Intercom has a message with just this text in the conversation. */
  async count(id: string, text: string): Promise<number> {
    const whole: unknown = await (await fetch(`${this.url}/_sandbox/conversations/${id}`)).json();
    const bodies: string[] = [];
    JSON.stringify(whole, (name, value) => {
      if (name === "body" && typeof value === "string") bodies.push(value.replace(/<[^>]*>/g, ""));
      return value;
    });
    return bodies.filter((body) => body === text).length;
  }
}

/** Stands before the sandbox, takes a token of its own, and can hold what passes. */
export class Gate {
  readonly token = randomBytes(32).toString("hex");
  readonly #server: Server;
  /** Called with each POST: before it is passed on, and before its answer is. */
  hold: (request: IncomingMessage, when: "before" | "after") => Promise<void> = async () => {};

  constructor(sandbox: Sandbox) {
    this.#server = createServer(async (request, response) => {
      const chunks: Buffer[] = [];
      for await (const chunk of request) chunks.push(chunk as Buffer);
      const { method = "GET", url = "/" } = request;
      if (method === "POST") await this.hold(request, "before");
      if (response.destroyed) return;
      const headers: Record<string, string> = { Authorization: `Bearer ${DEV_ACCESS_TOKEN}` };
      for (const name of ["content-type", "accept", "intercom-version"]) {
        const value = request.headers[name];
        if (typeof value === "string") headers[name] = value;
      }
      const answer = await fetch(sandbox.url + url, {
        method,
        headers,
        body: chunks.length ? Buffer.concat(chunks) : undefined,
      });
      const body = Buffer.from(await answer.arrayBuffer());
      if (method === "POST") await this.hold(request, "after");
      response.writeHead(answer.status, { "Content-Type": answer.headers.get("content-type") ?? "application/json" });
      response.end(body);
    });
  }

  /** Starts it. The settings of a server that has it in Intercom's place, and does not wait for it for long. */
  async settings(sessionSecret: string): Promise<Record<string, string>> {
    await new Promise<void>((resolve) => this.#server.listen(0, "127.0.0.1", resolve));
    return {
      INTERCOM_BASE_URL: `http://127.0.0.1:${(this.#server.address() as AddressInfo).port}`,
      INTERCOM_ACCESS_TOKEN: this.token,
      INTERCOM_CLIENT_SECRET: randomBytes(32).toString("hex"),
      INTERCOM_ADMIN_ID: "1",
      SESSION_JWT_SECRETS: sessionSecret,
      FILE_URL_SECRETS: randomBytes(32).toString("hex"),
      INTERCOM_TIMEOUT_MS: "2000",
      SETTLE_MS: "500",
      BREAKER_OPEN_MS: "500",
    };
  }

  stop(): void {
    this.#server.closeAllConnections();
    this.#server.close();
  }
}

/** A session token, as the app's own backend signs it. */
export function signed(secret: string, sub: string, lifeS: number): string {
  const part = (value: unknown) => Buffer.from(JSON.stringify(value)).toString("base64url");
  // With an id of its own: two of one second are two.
  const claims = { sub, jti: randomUUID(), exp: Math.floor(Date.now() / 1000) + lifeS };
  const text = `${part({ alg: "HS256", typ: "JWT" })}.${part(claims)}`;
  return `${text}.${createHmac("sha256", secret).update(text).digest("base64url")}`;
}
