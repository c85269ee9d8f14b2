import { mkdirSync, readFileSync } from "node:fs";
import { createRequire } from "node:module";
import type { Page } from "playwright-core";
import { afterAll, beforeAll, expect, it } from "vitest";
import { EMPTY, type Life, live, SCENES, type Scene, set } from "./scenes.ts";
import { openAt, panel, Stage, type Visit, violations } from "./stage.ts";

const AXE = readFileSync(createRequire(import.meta.url).resolve("axe-core/axe.min.js"), "utf8");
/** For people to look at; not kept in the repository. */
const PICTURES = new URL("../../target/widget/", import.meta.url).pathname;

let stage: Stage;
let life: Life;
const nobody = { user: "nobody", open: "", snoozed: "", closed: "", ticket: "", resolved: "" };

beforeAll(async () => {
  stage = await Stage.open();
  life = await live(stage, "tour");
  mkdirSync(PICTURES, { recursive: true });
}, 120_000);

afterAll(() => stage?.close());

interface Finding {
  id: string;
  nodes: { html: string; failureSummary?: string }[];
}

/** What axe-core finds in the widget. Its script is let past the page's policy. */
async function findings(page: Page): Promise<string[]> {
  const session = await page.context().newCDPSession(page);
  await session.send("Runtime.evaluate", { expression: `window.axe || (() => { ${AXE} })()` });
  await session.detach();
  const { violations: found } = await page.evaluate(async () => {
    const { axe } = window as unknown as { axe: { run(of: unknown): Promise<{ violations: Finding[] }> } };
    return axe.run({ include: [["aw-chat"]] });
  });
  return found.flatMap(({ id, nodes }: Finding) =>
    nodes.map(({ html, failureSummary }) => `${id}: ${html} ${failureSummary}`),
  );
}

/** What is wider than what it is in. */
function overflowing(page: Page): Promise<string[]> {
  return panel(page).evaluate((panel) => {
    const { left, right } = panel.getBoundingClientRect();
    const isOut = (element: Element) => {
      const box = element.getBoundingClientRect();
      return (
        box.width > 1 && !element.closest(".hidden, .zoom, .row bdi") && (box.left < left - 1 || box.right > right + 1)
      );
    };
    return [...panel.querySelectorAll("*")].filter(isOut).map((element) => element.outerHTML.slice(0, 200));
  });
}

async function look(scenes: Scene[], who: Life, name: string, visit: Visit): Promise<void> {
  const wrong: string[] = [];
  let page: Page | null = null;
  const leave = async () => {
    await page?.context().close();
    page = null;
  };
  for (const scene of scenes) {
    // What is known before a server's faults, and what they leave behind, is not the next scene's.
    if (scene.faults) await leave();
    page ??= await stage.visit(who.user, { reducedMotion: "reduce", ...visit });
    await set(page, scene, who);
    await page.screenshot({ path: `${PICTURES}${scene.name}-${name}.png` });
    for (const finding of await findings(page)) wrong.push(`${scene.name}: ${finding}`);
    for (const element of await overflowing(page)) wrong.push(`${scene.name}: too wide: ${element}`);
    for (const violation of await violations(page)) wrong.push(`${scene.name}: policy: ${violation}`);
    if (scene.faults) await leave();
  }
  await leave();
  expect(wrong).toEqual([]);
}

const LOOKS = (["light", "dark"] as const).flatMap((theme) =>
  (["en", "ar"] as const).map((locale) => ({ theme, locale })),
);

it.each(LOOKS)(
  "every screen can be used by everybody: $theme, $locale",
  async ({ theme, locale }) => {
    // What a server's faults show is made of the same: one look will do.
    const scenes = theme === "light" && locale === "en" ? SCENES : SCENES.filter(({ faults }) => !faults);
    await look(scenes, life, `${theme}-${locale}`, { theme, locale, viewport: { width: 640, height: 800 } });
    await look(EMPTY, nobody, `${theme}-${locale}`, { theme, locale, viewport: { width: 640, height: 800 } });
  },
  180_000,
);

it("every screen fits a narrow phone, and a page at twice its size", async () => {
  await look(SCENES, life, "phone-ru", { locale: "ru", theme: "light", viewport: { width: 320, height: 640 } });
  // A browser at 200 % has half the pixels to lay out on.
  await look(SCENES.slice(0, 8), life, "zoom-en", {
    theme: "light",
    viewport: { width: 640, height: 400 },
    deviceScaleFactor: 2,
  });
}, 180_000);

it("the main path can be gone by keyboard alone", async () => {
  const page = await stage.visit("keys");
  const at = () =>
    page.evaluate(() => {
      const focused = document.querySelector("aw-chat")?.shadowRoot?.activeElement;
      return focused?.getAttribute("aria-label") ?? focused?.textContent ?? "";
    });
  const tabTo = async (name: string) => {
    for (let n = 0; n < 30; n += 1) {
      if ((await at()).startsWith(name)) return;
      await page.keyboard.press("Tab");
    }
    throw new Error(`Tab never came to ${name}`);
  };
  await tabTo("Support chat");
  await page.keyboard.press("Enter");
  await panel(page).locator(".row").first().waitFor();
  expect(await at()).toBe("How can we help?");
  await tabTo("Payments");
  await page.keyboard.press("Enter");
  await panel(page).getByText("A refund").waitFor();
  expect(await at()).toBe("Payments");
  await tabTo("A refund");
  await page.keyboard.press("Enter");
  await tabTo("Your message");
  await page.keyboard.type("Where is it?");
  await page.keyboard.press("Enter");
  await panel(page).locator(".message", { hasText: "Where is it?" }).waitFor();
  await tabTo("Your message");
  await page.keyboard.type("Thank you");
  await tabTo("Send");
  await page.keyboard.press("Space");
  await panel(page).locator(".message", { hasText: "Thank you" }).waitFor();
  expect(await at()).toBe("Your message");
  // Escape goes back, then closes; the focus is where it began.
  await page.keyboard.press("Escape");
  await panel(page).getByRole("navigation").waitFor();
  await page.keyboard.press("Escape");
  await panel(page).waitFor({ state: "detached" });
  expect(await at()).toBe("Support chat");
  await page.context().close();
});

it("on a phone the focus stays within the panel, on a desk it does not", async () => {
  for (const [width, stays] of [
    [400, true],
    [1000, false],
  ] as const) {
    const page = await stage.visit("keys", { viewport: { width, height: 800 } });
    await openAt(page, { screen: "home" });
    await panel(page).locator(".row").first().waitFor();
    expect(await panel(page).getAttribute("aria-modal")).toBe(stays ? "true" : null);
    const within = () =>
      page.evaluate(() => Boolean(document.querySelector("aw-chat")?.shadowRoot?.activeElement?.closest(".panel")));
    let hasLeft = false;
    for (let n = 0; n < 25 && !hasLeft; n += 1) {
      await page.keyboard.press("Tab");
      hasLeft = !(await within());
    }
    expect(hasLeft).toBe(!stays);
    await page.context().close();
  }
});

it("what comes is said once, politely, in one place", async () => {
  const page = await stage.visit("ears");
  const { id } = await stage.api("ears", "POST", "/api/conversations", { body: "Hello" });
  await openAt(page, { screen: "thread", id });
  await panel(page).locator(".message").waitFor();
  const regions = () =>
    page.evaluate(() => {
      const all = [
        ...(document.querySelector("aw-chat")?.shadowRoot?.querySelectorAll("[role=status], [role=log], [aria-live]") ??
          []),
      ];
      return all.map((region) => `${region.getAttribute("role")}: ${region.textContent}`);
    });
  // The user's own words, and what was there before, are not news.
  await panel(page).locator("textarea").fill("Anybody?");
  await panel(page).locator("textarea").press("Enter");
  await panel(page).locator(".message", { hasText: "Anybody?" }).waitFor();
  expect(await regions()).toEqual(["status: "]);
  await stage.act({ act: "reply", conversation: id, body: "<p>Yes.</p>" });
  await panel(page).locator(".message", { hasText: "Yes." }).waitFor();
  expect(await regions()).toEqual([expect.stringMatching(/^status: .+: Yes\.$/)]);
  // With the panel closed, how many there are.
  await panel(page).getByRole("button", { name: "Close support chat" }).click();
  await stage.notify(page, "ears", id, "<p>Still there?</p>");
  await page.getByRole("button", { name: "1 unread message" }).waitFor();
  expect(await regions()).toEqual(["status: 1 unread message"]);
  await page.context().close();
});

it("nothing went wrong on any page", async () => {
  expect(stage.faults).toEqual([]);
});
