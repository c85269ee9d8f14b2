// Every screen in every state, one after the other.

import type { Page, Route } from "playwright-core";
import { openAt, panel, png, type Stage, until } from "./stage.ts";

/** What a user has who has used all of it. */
export interface Life {
  user: string;
  open: string;
  snoozed: string;
  closed: string;
  ticket: string;
  resolved: string;
}

export async function live(stage: Stage, user: string): Promise<Life> {
  const begin = async (main: string, sub: string | undefined, body: string) =>
    (await stage.api(user, "POST", "/api/conversations", { reason: { main, sub }, body })).id;
  const closed = await begin("Account", undefined, "How do I change my address?");
  await stage.act({ act: "reply", conversation: closed, body: "<p>In the settings, under <i>Profile</i>.</p>" });
  await stage.act({ act: "close", conversation: closed });
  const snoozed = await begin("Cards", "Limits", "Please raise my limit to € 5,000 for the week.");
  await stage.act({ act: "snooze", conversation: snoozed, until: Math.floor(Date.now() / 1000) + 86_400 });
  const open = await begin("Payments", "Refund", "Where is my refund? It was https://shop.example/orders/1138");
  const data = png(640, 400).toString("base64");
  await stage.act({
    act: "reply",
    conversation: open,
    body: "<p>Hello! We have asked the bank, which needs:</p><ul><li>the <b>date</b></li><li>the amount</li></ul><p>More at <a href='https://bank.example/refunds'>our help pages</a>.</p>",
    attachments: [{ name: "receipt.png", content_type: "image/png", data }],
  });
  await stage.act({ act: "reply", conversation: open, body: "<p>Is that you in the picture?</p>" });
  const ticket = await stage.ticket(user, "Refund of order 1138 has not arrived");
  const resolved = await stage.ticket(user, "A card that was declined abroad");
  await stage.act({ act: "move_ticket", ticket, state: "Waiting on bank" });
  await stage.act({ act: "reply", conversation: ticket, body: "<p>The bank has it.</p>" });
  await stage.act({ act: "move_ticket", ticket: resolved, state: "Resolved" });
  await until("all of it to be there", async () => {
    const state = async (id: string) =>
      (await stage.api<{ state: string }>(user, "GET", `/api/conversations/${id}`)).state;
    const status = async (id: string) =>
      (await stage.api<{ status: string }>(user, "GET", `/api/tickets/${id}`)).status;
    const { messages } = await stage.api<{ messages: unknown[] }>(user, "GET", `/api/conversations/${open}`);
    const all = [await state(closed), await state(snoozed), await status(resolved), messages.length];
    return String(all) === "closed,snoozed,resolved,3";
  });
  return { user, open, snoozed, closed, ticket, resolved };
}

const never = () => new Promise<void>(() => {});
const CODES: Record<number, string> = { 400: "validation_error", 429: "rate_limited", 502: "service_unavailable" };
const fails =
  (status: number, headers: Record<string, string> = {}) =>
  (route: Route) =>
    route.fulfill({
      status,
      headers: { "Access-Control-Allow-Origin": "*", "Access-Control-Expose-Headers": "Retry-After", ...headers },
      json: { error: CODES[status], message: "so" },
    });

/** A screen, how to come there, and what must be seen then. */
export interface Scene {
  name: string;
  /** What the server is made to do. */
  faults?: [glob: string, handler: (route: Route) => Promise<void>][];
  route: (life: Life) => Record<string, unknown>;
  shown: string;
  next?: (page: Page) => Promise<void>;
}

const press = (selector: string) => async (page: Page) => panel(page).locator(selector).first().click();

export const SCENES: Scene[] = [
  { name: "home", route: () => ({ screen: "home" }), shown: ".list .row" },
  { name: "topic", route: () => ({ screen: "topic", main: "Payments" }), shown: ".list .row" },
  { name: "begin", route: () => ({ screen: "begin", main: "Payments", sub: "Refund" }), shown: ".chosen" },
  { name: "conversations", route: () => ({ screen: "conversations" }), shown: ".list .row:nth-child(1)" },
  { name: "thread", route: ({ open }) => ({ screen: "thread", id: open }), shown: ".thumbnail" },
  { name: "thread-snoozed", route: ({ snoozed }) => ({ screen: "thread", id: snoozed }), shown: ".notice" },
  { name: "thread-closed", route: ({ closed }) => ({ screen: "thread", id: closed }), shown: ".notice" },
  {
    name: "thread-end",
    route: ({ open }) => ({ screen: "thread", id: open }),
    shown: ".message",
    next: press(".bar .button"),
  },
  {
    name: "thread-files",
    route: ({ open }) => ({ screen: "thread", id: open }),
    shown: ".message",
    async next(page) {
      const files = [
        { name: "my receipt with quite a long name.png", mimeType: "image/png", buffer: png() },
        { name: "run.exe", mimeType: "application/x-msdownload", buffer: Buffer.from("MZ") },
      ];
      await panel(page).locator("input[type=file]").setInputFiles(files);
      await panel(page).locator(".upload .hidden").waitFor({ state: "attached" });
    },
  },
  {
    name: "thread-failed",
    faults: [["**/reply", fails(400)]],
    route: ({ open }) => ({ screen: "thread", id: open }),
    shown: ".message",
    async next(page) {
      await panel(page).locator("textarea").fill("Are you there?");
      await panel(page).locator("textarea").press("Enter");
      await panel(page).locator(".message.failed").waitFor();
    },
  },
  { name: "thread-gone", route: () => ({ screen: "thread", id: "404" }), shown: ".state .button" },
  {
    name: "viewer",
    route: ({ open }) => ({ screen: "thread", id: open }),
    shown: ".thumbnail",
    next: press(".thumbnail"),
  },
  { name: "tickets", route: () => ({ screen: "tickets" }), shown: ".list .row" },
  {
    name: "tickets-none",
    route: () => ({ screen: "tickets" }),
    shown: ".list .row",
    async next(page) {
      await panel(page).locator("input[type=search]").fill("999999");
      await panel(page).locator(".state").waitFor();
    },
  },
  { name: "ticket", route: ({ ticket }) => ({ screen: "ticket", id: ticket }), shown: ".timeline" },
  { name: "ticket-resolved", route: ({ resolved }) => ({ screen: "ticket", id: resolved }), shown: ".notice" },
  {
    name: "csat",
    route: ({ closed }) => ({ screen: "csat", conversationId: closed }),
    shown: ".stars",
    next: press(".star:nth-child(4)"),
  },
  {
    name: "csat-missing",
    route: ({ closed }) => ({ screen: "csat", conversationId: closed }),
    shown: ".stars",
    next: press(".main"),
  },
  { name: "complaint", route: () => ({ screen: "complaint" }), shown: "form" },
  { name: "complaint-wrong", route: () => ({ screen: "complaint" }), shown: "form", next: press("form .main") },
  { name: "settings", route: () => ({ screen: "settings" }), shown: ".switch" },
  { name: "home-loading", faults: [["**/api/config", never]], route: () => ({ screen: "home" }), shown: ".spinner" },
  { name: "home-error", faults: [["**/api/config", fails(502)]], route: () => ({ screen: "home" }), shown: ".state" },
  {
    name: "conversations-limited",
    faults: [
      ["**/api/conversations?", fails(429, { "Retry-After": "42" })],
      ["**/api/conversations", fails(429, { "Retry-After": "42" })],
    ],
    route: () => ({ screen: "conversations" }),
    shown: ".connection",
  },
  {
    name: "tickets-error",
    faults: [["**/api/tickets*", fails(502)]],
    route: () => ({ screen: "tickets" }),
    shown: ".state",
  },
  {
    name: "settings-offline",
    faults: [["**/api/**", (route) => route.abort("internetdisconnected")]],
    route: () => ({ screen: "settings" }),
    shown: ".connection",
  },
];

/** Those of a user who has nothing yet. */
export const EMPTY: Scene[] = [
  { name: "conversations-empty", route: () => ({ screen: "conversations" }), shown: ".state" },
  { name: "tickets-empty", route: () => ({ screen: "tickets" }), shown: ".state" },
];

/** Goes to a scene; undo what the server is made to do with `page.unrouteAll`. */
export async function set(page: Page, scene: Scene, life: Life): Promise<void> {
  for (const [glob, handler] of scene.faults ?? []) await page.route(glob, handler);
  await openAt(page, scene.route(life));
  await panel(page).locator(scene.shown).first().waitFor();
  await scene.next?.(page);
}
