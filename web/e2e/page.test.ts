import type { Page } from "playwright-core";
import { afterAll, beforeAll, expect, it } from "vitest";
import { signed } from "../packages/core/server-test/support.ts";
import { AppServer, panel, Stage, until } from "./stage.ts";

let stage: Stage;

beforeAll(async () => {
  stage = await Stage.open();
});

afterAll(() => stage?.close());

const SECRET = "dev-only-session-secret-known-to-everybody";

/** Telegram's script, as far as a page can tell. */
function telegram(): void {
  const listeners: [string, () => void][] = [];
  const colors = { bg_color: "#17212b", text_color: "#f5f5f5", button_color: "#5288c1", button_text_color: "#ffffff" };
  const calls: string[] = [];
  let back: () => void = () => {};
  const app = {
    initData: "signed-by-telegram",
    initDataUnsafe: { user: { id: 42, language_code: "ru" } },
    colorScheme: "dark",
    themeParams: colors as Record<string, string>,
    onEvent: (name: string, run: () => void) => listeners.push([name, run]),
    offEvent: () => {},
    ready: () => calls.push("ready"),
    expand: () => calls.push("expand"),
    requestWriteAccess: (done: (isAllowed: boolean) => void) => done(true),
    BackButton: {
      show: () => calls.push("show"),
      hide: () => calls.push("hide"),
      onClick: (run: () => void) => {
        back = run;
      },
    },
  };
  Object.assign(window, {
    Telegram: { WebApp: app },
    telegram: {
      calls,
      back: () => back(),
      repaint(color: string) {
        app.themeParams = { ...colors, bg_color: color };
        for (const [name, run] of listeners) if (name === "themeChanged") run();
      },
    },
  });
}

interface Fake {
  calls: string[];
  back(): void;
  repaint(color: string): void;
}

async function miniApp(): Promise<{ page: Page; said: string[] }> {
  const context = await stage.browser.newContext({ viewport: { width: 390, height: 700 } });
  const page = await context.newPage();
  page.setDefaultTimeout(10_000);
  const said: string[] = [];
  page.on("console", (message) => message.type() === "error" && said.push(message.text()));
  await page.route("https://telegram.org/**", (route) =>
    route.fulfill({ contentType: "text/javascript", body: `(${telegram})()` }),
  );
  await page.route("**/api/session/telegram", (route) => {
    expect(route.request().postDataJSON()).toEqual({ initData: "signed-by-telegram" });
    return route.fulfill({ json: { token: signed(SECRET, "tg:42", 600), expiresAt: 0 } });
  });
  await page.goto(`${stage.dev.url}/widget/#tgWebAppData=x`);
  await panel(page).waitFor();
  return { page, said };
}

it("a Mini App has Telegram's user, language, colours and back button", async () => {
  const { page, said } = await miniApp();
  await panel(page).getByRole("heading", { name: "Чем помочь?" }).waitFor();
  const color = () => panel(page).evaluate((element) => getComputedStyle(element).backgroundColor);
  expect(await color()).toBe("rgb(23, 33, 43)");
  await page.evaluate(() => (window as unknown as { telegram: Fake }).telegram.repaint("#101820"));
  expect(await until("the new colour", async () => (await color()) === "rgb(16, 24, 32)")).toBe(true);
  // Telegram's own button is the way back: there is none of ours.
  await panel(page).getByRole("button", { name: "Просто написать нам" }).click();
  await panel(page).getByLabel("Ваше сообщение").fill("Из Телеграма");
  expect(await panel(page).getByRole("button", { name: "Назад" }).count()).toBe(0);
  const calls = await page.evaluate(() => (window as unknown as { telegram: Fake }).telegram.calls);
  expect(calls).toEqual(["expand", "ready", "hide", "show"]);
  await panel(page).getByRole("button", { name: "Начать разговор" }).click();
  await panel(page).locator(".message", { hasText: "Из Телеграма" }).waitFor();
  // A reload without being asked leads to the same screen.
  await page.reload();
  await panel(page).locator(".message", { hasText: "Из Телеграма" }).waitFor();
  await page.evaluate(() => (window as unknown as { telegram: Fake }).telegram.back());
  await panel(page).getByRole("heading", { name: "Чем помочь?" }).waitFor();
  expect(said).toEqual([]);
  await page.context().close();
});

it("in a frame, the app around gives the tokens", async () => {
  const context = await stage.browser.newContext();
  const page = await context.newPage();
  page.setDefaultTimeout(10_000);
  await page.goto(`${stage.app.url}/frame?user=frank`);
  const frame = page.frameLocator("iframe");
  await frame.getByRole("button", { name: "Write to us instead" }).click();
  await frame.getByLabel("Your message").fill("From a frame");
  await frame.getByRole("button", { name: "Start conversation" }).click();
  await frame.locator(".message", { hasText: "From a frame" }).waitFor();
  await context.close();
});

it("an app that the server does not name cannot frame the page, and alone it says where it belongs", async () => {
  const stranger = new AppServer();
  stranger.chat = stage.dev.url;
  await stranger.start();
  const context = await stage.browser.newContext();
  const page = await context.newPage();
  page.setDefaultTimeout(10_000);
  const refused = page.waitForEvent("console", (message) => message.text().includes("frame-ancestors"));
  await page.goto(`${stranger.url}/frame?user=frank`);
  await refused;
  stranger.stop();
  await page.goto(`${stage.dev.url}/widget/`);
  await page.getByText("This page is part of an app, and opens from there.").waitFor();
  await context.close();
});
