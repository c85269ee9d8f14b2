import type { Page } from "playwright-core";
import { afterAll, beforeAll, expect, it } from "vitest";
import { launcher, openAt, panel, png, Stage, until, violations } from "./stage.ts";

let stage: Stage;

beforeAll(async () => {
  stage = await Stage.open();
});

afterAll(() => stage?.close());

const button = (page: Page, name: string | RegExp) => panel(page).getByRole("button", { name });
const message = (page: Page, text: string) => panel(page).locator(".message", { hasText: text });
const composer = (page: Page) => panel(page).getByLabel("Your message");

/** The id of the user's latest conversation. */
async function latest(user: string): Promise<string> {
  const { conversations } = await stage.api<{ conversations: { id: string }[] }>(user, "GET", "/api/conversations");
  return conversations[0]?.id ?? "";
}

it("a user begins by topic, and the operator's answer is there within a second", async () => {
  const page = await stage.visit("ada");
  await launcher(page).click();
  await button(page, "Payments").click();
  await button(page, "A refund").click();
  await composer(page).fill("Where is my refund?");
  await button(page, "Start conversation").click();
  await message(page, "Where is my refund?").waitFor();
  expect(await panel(page).getByRole("heading", { level: 2 }).textContent()).toBe("A refund");
  const id = await latest("ada");
  expect(await stage.api("ada", "GET", `/api/conversations/${id}`)).toMatchObject({
    topic: { main: "Payments", sub: "Refund" },
  });
  // The first poll tells that the server holds polls back; from the next on it does.
  await until("a poll that waits", () => stage.isPolling(page));
  const before = Date.now();
  await stage.act({
    act: "reply",
    conversation: id,
    body: '<p>On its <b>way</b>: <a href="https://bank.example">see</a></p>',
  });
  await message(page, "On its way").waitFor();
  const took = Date.now() - before;
  console.info(`an operator's answer was on the screen after ${took} ms`);
  expect(took).toBeLessThan(1000);
  expect(await message(page, "On its way").locator("b").textContent()).toBe("way");
  expect(await message(page, "On its way").locator("a").getAttribute("rel")).toContain("noopener");
  // Enter sends, with Shift it begins a line.
  await composer(page).fill("Thank");
  await composer(page).press("Shift+Enter");
  await composer(page).pressSequentially("you");
  await composer(page).press("Enter");
  await message(page, "Thank\nyou").waitFor();
  await until("it to be delivered", async () =>
    (await message(page, "Thank").locator(".meta").textContent())?.match(/^\S+ ?[AP]?M?$/),
  );
  const { messages } = await stage.api<{ messages: { body: string }[] }>("ada", "GET", `/api/conversations/${id}`);
  expect(messages.map(({ body }) => body)).toEqual([
    "Where is my refund?",
    "On its way: see (https://bank.example)",
    "Thank\nyou",
  ]);
  // Closed, the button counts what comes; opened, it is where it was, and read.
  await button(page, "Close support chat").click();
  await stage.notify(page, "ada", id, "<p>You are welcome.</p>");
  await page.getByRole("button", { name: "Support chat, 1 unread message" }).click();
  await message(page, "You are welcome.").waitFor();
  await until("it to be read", async () => {
    const { unreadTotal } = await stage.api<{ unreadTotal: number }>("ada", "GET", "/api/conversations");
    return unreadTotal === 0;
  });
  expect(await launcher(page).getAttribute("aria-label")).toBe("Support chat");
  expect(await violations(page)).toEqual([]);
  await page.context().close();
});

it("a picture is uploaded with progress, or given up, sent, and looked at", async () => {
  const { id } = await stage.api("bea", "POST", "/api/conversations", { body: "Here it is" });
  const page = await stage.visit("bea");
  await openAt(page, { screen: "thread", id });
  // Half a megabyte a second: there is something to see.
  const network = await page.context().newCDPSession(page);
  const speed = (bytes: number) =>
    network.send("Network.emulateNetworkConditions", {
      offline: false,
      latency: 0,
      downloadThroughput: -1,
      uploadThroughput: bytes,
    });
  await network.send("Network.enable");
  await speed(500_000);
  const input = panel(page).locator("input[type=file]");
  await input.setInputFiles({ name: "large.png", mimeType: "image/png", buffer: png(1000, 1000, true) });
  const progress = panel(page).getByRole("progressbar", { name: "Uploading large.png" });
  const seen = new Set<number>();
  await until("progress", async () => {
    seen.add(Number(await progress.getAttribute("value")));
    return seen.size > 3;
  });
  expect(Math.max(...seen)).toBeLessThan(1);
  await button(page, "Remove large.png").click();
  await progress.waitFor({ state: "detached" });
  await speed(-1);
  await input.setInputFiles([
    { name: "shot.png", mimeType: "image/png", buffer: png() },
    { name: "note.txt", mimeType: "text/plain", buffer: Buffer.from("words") },
    { name: "run.exe", mimeType: "application/x-msdownload", buffer: Buffer.from("MZ") },
  ]);
  await panel(page).getByRole("alert").getByText("run.exe: files of this kind are not accepted.").waitFor();
  await panel(page).getByText("shot.png is ready to be sent").waitFor({ state: "attached" });
  await composer(page).fill("See these");
  await button(page, "Send").click();
  const picture = panel(page).locator(".thumbnail img");
  await picture.waitFor();
  expect(
    await until("the picture to be loaded", () => picture.evaluate((image: HTMLImageElement) => image.naturalWidth)),
  ).toBe(320);
  const opener = button(page, "Open shot.png");
  await opener.click();
  expect(await panel(page).getByRole("heading", { level: 2 }).textContent()).toBe("shot.png");
  await button(page, "shot.png: Make it larger").click();
  expect(await button(page, "shot.png: Make it fit").getAttribute("aria-pressed")).toBe("true");
  await page.keyboard.press("Escape");
  expect(await opener.evaluate((element) => (element.getRootNode() as ShadowRoot).activeElement === element)).toBe(
    true,
  );
  await button(page, "Open note.txt").click();
  const link = panel(page).getByRole("link", { name: "Download" });
  expect(await (await fetch((await link.getAttribute("href")) ?? "")).text()).toBe("words");
  expect(await violations(page)).toEqual([]);
  await page.context().close();
});

it("a conversation that is ended asks for a rating, once", async () => {
  const { id } = await stage.api("cleo", "POST", "/api/conversations", { body: "Hello" });
  const page = await stage.visit("cleo");
  await openAt(page, { screen: "thread", id });
  await button(page, "End conversation").click();
  await button(page, "Cancel").click();
  await button(page, "End conversation").click();
  await panel(page)
    .getByRole("group", { name: "End this conversation?" })
    .getByRole("button", { name: "End conversation" })
    .click();
  await button(page, "Send rating").click();
  await panel(page).getByText("Choose one to five stars.").waitFor();
  await panel(page).locator(".star").nth(3).click();
  await panel(page).getByLabel("What should we know?").fill("Quick!");
  await button(page, "Send rating").click();
  await panel(page).getByText("Thank you for your rating.").waitFor();
  await button(page, "Done").click();
  await panel(page).getByText("This conversation is closed.").waitFor();
  expect(await button(page, "Rate it").count()).toBe(0);
  expect(await stage.api("cleo", "GET", `/api/conversations/${id}`)).toMatchObject({
    state: "closed",
    rated: true,
    rating: { stars: 4, comment: "Quick!" },
  });
  // Writing opens it again, and ending it again does not ask again.
  await composer(page).fill("One more thing");
  await button(page, "Send").click();
  await button(page, "End conversation").click();
  await panel(page).getByRole("group").getByRole("button", { name: "End conversation" }).click();
  await panel(page).getByText("This conversation is closed.").waitFor();
  expect(await button(page, "Send rating").count()).toBe(0);
  await page.context().close();
});

it("a resolved ticket is found by its number, opened again by a reply, and asked about in the chat", async () => {
  await stage.api("dora", "POST", "/api/conversations", { body: "It takes long" });
  const id = await stage.ticket("dora", "Refund has not arrived");
  await stage.act({ act: "move_ticket", ticket: id, state: "Resolved" });
  const { reference } = await until("it to be resolved", async () => {
    const ticket = await stage.api<{ status: string; reference: string }>("dora", "GET", `/api/tickets/${id}`);
    return ticket.status === "resolved" ? ticket : null;
  });
  const page = await stage.visit("dora");
  await openAt(page, { screen: "tickets" });
  const search = panel(page).getByRole("searchbox");
  await search.fill("999999");
  await panel(page).getByText("No ticket has that number.").first().waitFor();
  await search.fill(reference.replace(/\D/g, ""));
  await button(page, /Refund has not arrived/).click();
  await panel(page).getByText("This ticket is resolved. Writing opens it again.").waitFor();
  await composer(page).fill("It is still not here");
  await button(page, "Send").click();
  await message(page, "It is still not here").waitFor();
  await panel(page).getByText("This ticket is resolved.").waitFor({ state: "detached" });
  await button(page, "Ask about its status in the chat").click();
  await message(page, `What is the status of ${reference}?`).waitFor();
  expect(await violations(page)).toEqual([]);
  await page.context().close();
});

it("a complaint is taken once it says enough, and switches are kept", async () => {
  const { id } = await stage.api("eve", "POST", "/api/conversations", { body: "Hello" });
  const page = await stage.visit("eve");
  await openAt(page, { screen: "thread", id });
  await button(page, "Complain about this conversation").click();
  await button(page, "Send complaint").click();
  const category = panel(page).getByLabel("What is it about?");
  expect(await category.getAttribute("aria-invalid")).toBe("true");
  await category.selectOption("operator");
  const text = panel(page).getByLabel("What happened?");
  await text.fill("Nobody");
  await panel(page).getByText("4 more characters needed").waitFor();
  await text.fill("Nobody has answered for three days.");
  await button(page, "Send complaint").click();
  await panel(page).getByText("Your complaint has been received.").waitFor();
  await openAt(page, { screen: "settings" });
  const tickets = panel(page).getByRole("switch", { name: "Progress of tickets" });
  await tickets.uncheck();
  await until("the server to know", async () => {
    const kept = await stage.api<{ ticketUpdates: boolean }>("eve", "GET", "/api/settings/notifications");
    return !kept.ticketUpdates;
  });
  // What the server does not take is taken back.
  await page.route("**/api/settings/notifications", (route) =>
    route.fulfill({ status: 500, json: {}, headers: { "Access-Control-Allow-Origin": "*" } }),
  );
  await panel(page).getByRole("switch", { name: "Messages in chats" }).click();
  await panel(page).getByText("That could not be saved.").waitFor();
  expect(await panel(page).getByRole("switch", { name: "Messages in chats" }).isChecked()).toBe(true);
  await page.context().close();
});

it("nothing went wrong on any page", () => {
  expect(stage.faults).toEqual([]);
});
