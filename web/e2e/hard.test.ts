import { randomBytes } from "node:crypto";
import type { Page } from "playwright-core";
import { afterAll, beforeAll, expect, it } from "vitest";
import { Awchat, Gate } from "../packages/core/server-test/support.ts";
import { launcher, openAt, panel, Stage, until, violations } from "./stage.ts";

let stage: Stage;

beforeAll(async () => {
  stage = await Stage.open();
});

afterAll(() => stage?.close());

const message = (page: Page, text: string) => panel(page).locator(".message", { hasText: text });

interface Host {
  reasons: string[];
  events: string[];
  client: { conversations: { refresh(): Promise<void> }; connection: { get(): { status: string } } };
  begin(user: string): void;
}

/** Every request to the server's API, as it is made. */
function requests(page: Page): string[] {
  const made: string[] = [];
  page.on("request", (request) => {
    const { pathname, searchParams } = new URL(request.url());
    if (pathname.startsWith("/api/") && request.method() !== "OPTIONS") {
      made.push(`${request.method()} ${pathname}${searchParams.has("wait") ? " waiting" : ""}`);
    }
  });
  return made;
}

it("two tabs poll once", async () => {
  const { id } = await stage.api("tabs", "POST", "/api/conversations", { body: "Hello" });
  const one = await stage.visit("tabs");
  const byOne = requests(one);
  const two = await stage.visit("tabs", { context: one.context() });
  const byTwo = requests(two);
  for (const page of [one, two]) {
    await page.bringToFront();
    await openAt(page, { screen: "thread", id });
    await message(page, "Hello").waitFor();
  }
  const polls = (made: string[]) => made.filter((request) => request.endsWith("waiting")).length;
  // The tab in front leads from here on.
  await until("it to wait for news", () => polls(byTwo) > 0);
  const start = [polls(byOne), polls(byTwo)];
  for (let n = 1; n <= 3; n += 1) {
    const before = [polls(byOne), polls(byTwo)];
    await stage.act({ act: "reply", conversation: id, body: `<p>Answer ${n}</p>` });
    for (const page of [one, two]) await message(page, `Answer ${n}`).waitFor();
    // What has come to both was asked for by one of them.
    await until("the next poll", () => polls(byOne) + polls(byTwo) > (before[0] ?? 0) + (before[1] ?? 0));
  }
  const all = [polls(byOne) - (start[0] ?? 0), polls(byTwo) - (start[1] ?? 0)];
  expect(Math.min(...all), String(all)).toBe(0);
  console.info(`two tabs, three answers: ${Math.max(...all)} polls by one tab, ${Math.min(...all)} by the other`);
  await one.context().close();
});

it("a server that is killed while it sends has the message exactly once after its restart", async () => {
  const gate = new Gate(stage.sandbox);
  const secret = randomBytes(32).toString("hex");
  const server = new Awchat("serve", { CORS_ORIGINS: stage.app.url, ...(await gate.settings(secret)) });
  const { chat, secret: usual } = stage.app;
  try {
    await server.start();
    Object.assign(stage.app, { chat: server.url, secret });
    const { id } = await stage.api("kay", "POST", "/api/conversations", { body: "Hello" });
    const page = await stage.visit("kay");
    await openAt(page, { screen: "thread", id });
    await message(page, "Hello").waitFor();
    let arrived = false;
    let isHeld = true;
    gate.hold = async ({ url }, when) => {
      if (when !== "after" || !url?.endsWith("/reply")) return;
      arrived = true;
      await until("the server to be killed", () => !isHeld);
    };
    await panel(page).locator("textarea").fill("Sent once");
    await panel(page).locator("textarea").press("Enter");
    await until("the message to be at Intercom", () => arrived);
    await server.kill();
    gate.hold = async () => {};
    isHeld = false;
    await panel(page).getByText("You are offline.").waitFor();
    await server.start();
    await until("it to be delivered", async () =>
      (await message(page, "Sent once").getAttribute("class"))?.includes(" sent"),
    );
    expect(await message(page, "Sent once").count()).toBe(1);
    expect(await stage.sandbox.count(id, "Sent once")).toBe(1);
    await page.context().close();
  } finally {
    Object.assign(stage.app, { chat, secret: usual });
    gate.stop();
    await server.remove();
  }
});

it("a token that ends under fifty requests is renewed once, and nobody sees an error", async () => {
  await stage.api("tess", "POST", "/api/conversations", { body: "Hello" });
  const page = await stage.visit("tess");
  await openAt(page, { screen: "conversations" });
  await panel(page).locator(".row").waitFor();
  // The server no longer takes the tokens of before; the app's backend signs new ones.
  let refused = 0;
  let old: string | null = null;
  await page.route("**/api/conversations", async (route) => {
    const token = (await route.request().headerValue("authorization")) ?? "";
    old ??= token;
    if (token !== old) return route.continue();
    refused += 1;
    const headers = { "Access-Control-Allow-Origin": "*" };
    return route.fulfill({ status: 401, headers, json: { error: "unauthorized", message: "session token expired" } });
  });
  const [failed, reasons, status] = await page.evaluate(async () => {
    const { host } = window as unknown as { host: Host };
    const all = await Promise.allSettled(Array.from({ length: 50 }, () => host.client.conversations.refresh()));
    return [
      all.filter(({ status }) => status === "rejected").length,
      host.reasons,
      host.client.connection.get().status,
    ];
  });
  expect([failed, reasons, status]).toEqual([0, ["initial", "rejected"], "online"]);
  expect(refused).toBe(50);
  expect(await panel(page).locator("[role=alert], .connection").count()).toBe(0);
  console.info(`50 requests with a token that had ended: ${refused} refused, 1 new token, 0 errors`);
  await page.context().close();
});

it("who signs in after another sees and keeps nothing of the other", async () => {
  const words = `the-secret-of-anna-${randomBytes(4).toString("hex")}`;
  const { id } = await stage.api("anna", "POST", "/api/conversations", { body: words });
  const page = await stage.visit("anna");
  await openAt(page, { screen: "thread", id });
  await message(page, words).waitFor();
  await panel(page).locator("textarea").fill(`${words} draft`);
  const kept = () => page.evaluate(() => JSON.stringify([{ ...localStorage }, { ...sessionStorage }]));
  await until("the draft to be kept", async () => (await kept()).includes(words));
  await page.evaluate(() => document.querySelector("aw-chat")?.shutdown());
  await panel(page).waitFor({ state: "detached" });
  expect(await kept()).not.toMatch(/anna/);
  const made: { url: string; token: string }[] = [];
  page.on("request", (request) => made.push({ url: request.url(), token: request.headers().authorization ?? "" }));
  await page.evaluate(() => (window as unknown as { host: Host }).host.begin("boris"));
  await launcher(page).click();
  await panel(page)
    .getByRole("button", { name: /Payments/ })
    .waitFor();
  await openAt(page, { screen: "conversations" });
  await panel(page).getByText("No conversations yet.").waitFor();
  // Not even the address of the other's conversation gives anything away.
  await openAt(page, { screen: "thread", id });
  await panel(page).getByText("This conversation is no longer there.").waitFor();
  const everything = await page.evaluate(
    () => document.documentElement.outerHTML + document.querySelector("aw-chat")?.shadowRoot?.innerHTML,
  );
  expect(everything + (await kept())).not.toContain(words);
  const subjects = made.flatMap(({ token }) => (token ? JSON.parse(atob(token.split(".")[1] ?? "")).sub : []));
  expect(new Set(subjects)).toEqual(new Set(["boris"]));
  expect(await violations(page)).toEqual([]);
  await page.context().close();
});

it("a panel that cannot be loaded says so, and can be tried again", async () => {
  const page = await stage.visit("fay");
  await page.route("**/widget/v1/c/app-*", (route) => route.abort());
  await launcher(page).click();
  await page.getByText("The chat could not be loaded. Please try again.").waitFor();
  expect(await launcher(page).getAttribute("aria-expanded")).toBe("false");
  await page.context().close();
});

it("the demo's page has the widget under the strictest policy, and switches users", async () => {
  const context = await stage.browser.newContext();
  const page = await context.newPage();
  const said: string[] = [];
  page.on("console", (message) => message.type() === "error" && said.push(message.text()));
  await page.goto(`${stage.dev.url}/?locale=en`);
  await launcher(page).click();
  await panel(page).getByRole("button", { name: "Write to us instead" }).click();
  await panel(page).getByLabel("Your message").fill("Ada was here");
  await panel(page).getByRole("button", { name: "Start conversation" }).click();
  await message(page, "Ada was here").waitFor();
  await panel(page).getByRole("button", { name: "Close support chat" }).click();
  await page.getByLabel("Signed in as").selectOption("bob");
  await launcher(page).click();
  await panel(page).getByRole("button", { name: "Chats" }).click();
  await panel(page).getByText("No conversations yet.").waitFor();
  await page.getByLabel("Language").selectOption("ru");
  await panel(page).getByText("Разговоров пока нет.").waitFor();
  expect(said).toEqual([]);
  await context.close();
});

it("nothing went wrong on any page", () => {
  expect(stage.faults).toEqual([]);
});
