// @vitest-environment happy-dom
import { expect, it } from "vitest";
import { createLanguage, stringsOf } from "../src/i18n.ts";
import { routeOf } from "../src/page/mini-app.ts";
import { createRouter } from "../src/router.ts";
import { en, type Forms } from "../src/strings/en.ts";

const LOCALES = ["en", "ru", "ar"] as const;
/** The names that a text puts in, in whichever of its forms. */
const names = (text: string | Forms) => new Set(JSON.stringify(text).match(/\{\w+\}/g) ?? []);

it.each(LOCALES)("every text of %s has its forms and puts in what the English one does", async (locale) => {
  const strings = await stringsOf(locale);
  expect(Object.keys(strings)).toEqual(Object.keys(en));
  const categories = new Intl.PluralRules(locale).resolvedOptions().pluralCategories;
  for (const [key, text] of Object.entries(strings)) {
    if (typeof text !== "string") expect(Object.keys(text).sort(), key).toEqual([...categories].sort());
    expect(names(text), key).toEqual(names(en[key as keyof typeof en]));
  }
});

it("numbers are counted as each language counts, in Latin digits", async () => {
  const said = async (locale: (typeof LOCALES)[number], n: number) =>
    createLanguage(locale, await stringsOf(locale)).t("unread", { n });
  expect(await said("en", 1)).toBe("1 unread message");
  expect(await said("ru", 3)).toBe("3 непрочитанных сообщения");
  expect(await said("ru", 11)).toBe("11 непрочитанных сообщений");
  expect(await said("ar", 2)).toBe("رسالتان غير مقروءتين");
  expect(await said("ar", 11)).toContain("11");
});

it("a host's own text is said in place of ours", () => {
  expect(createLanguage("en", en, { hello: "Ahoy, {name}" }).t("hello", { name: "Ada" })).toBe("Ahoy, Ada");
});

it("a way back leads to where one came from, and ends at the beginning", () => {
  const router = createRouter(null);
  router.reset({ screen: "thread", id: "1" });
  router.push({ screen: "complaint", chatId: "1" });
  const seen: string[] = [];
  router.subscribe((stack) => seen.push(stack.at(-1)?.screen ?? ""));
  for (let n = 0; n < 3; n += 1) router.back();
  expect(seen).toEqual(["thread", "home", "home"]);
});

it("a Mini App's start parameter names a conversation or a ticket, and nothing else", () => {
  expect(routeOf("c_123")).toEqual({ screen: "thread", id: "123" });
  expect(routeOf("t_9")).toEqual({ screen: "ticket", id: "9" });
  for (const wrong of [undefined, "", "c_", "c_../x", "x_1", "c_123456789012345678901"])
    expect(routeOf(wrong)).toBe(null);
});
