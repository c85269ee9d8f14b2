// Texts in the user's language, and how numbers and times are written in it.

import { en, type Forms, type Key, type Strings } from "./strings/en.ts";

export type { Key, Strings } from "./strings/en.ts";
export type Locale = "en" | "ru" | "ar";

/** What is put in for `{name}` in a text; `n` picks its form as well. */
export type Values = Record<string, string | number>;

export interface Language {
  locale: string;
  dir: "ltr" | "rtl";
  t(key: Key, values?: Values): string;
  /** The day's name or date of a time in seconds. */
  day(seconds: number): string;
  clock(seconds: number): string;
  /** As short as can be: a time today, else a date. */
  short(seconds: number): string;
  full(seconds: number): string;
  bytes(count: number): string;
}

/** Loads the texts of a language; English needs no loading. */
export async function stringsOf(locale: Locale): Promise<Strings> {
  if (locale === "ru") return (await import("./strings/ru.ts")).ru;
  if (locale === "ar") return (await import("./strings/ar.ts")).ar;
  return en;
}

const dayOf = (ms: number) => new Date(ms).setHours(0, 0, 0, 0);
const DAY_MS = 86_400_000;

/** `overrides` are the host's own texts; one that is missing anywhere is English. */
export function createLanguage(locale: Locale, strings: Strings, overrides: Partial<Strings> = {}): Language {
  // Digits as in amounts and references elsewhere in an app: Latin.
  const tag = `${locale}-u-nu-latn`;
  const plural = new Intl.PluralRules(locale);
  const number = new Intl.NumberFormat(tag, { maximumFractionDigits: 1 });
  const format = (options: Intl.DateTimeFormatOptions) => {
    const { format } = new Intl.DateTimeFormat(tag, options);
    return (seconds: number) => format(seconds * 1000);
  };
  const clock = format({ timeStyle: "short" });
  const date = format({ day: "numeric", month: "short" });
  const full = format({ dateStyle: "medium", timeStyle: "short" });
  const long = format({ weekday: "long", day: "numeric", month: "long" });
  const near = new Intl.RelativeTimeFormat(tag, { numeric: "auto" });
  const daysAgo = (seconds: number) => Math.round((dayOf(Date.now()) - dayOf(seconds * 1000)) / DAY_MS);

  function form(text: string | Forms, n: Values[string] = 0): string {
    return typeof text === "string" ? text : (text[plural.select(Number(n))] ?? text.other);
  }

  return {
    locale,
    dir: locale === "ar" ? "rtl" : "ltr",
    t(key, values = {}) {
      const text = form(overrides[key] ?? strings[key] ?? en[key], values.n);
      return text.replace(/\{(\w+)\}/g, (_, name) => {
        const value = values[name] ?? "";
        return typeof value === "number" ? number.format(value) : value;
      });
    },
    day: (seconds) => (daysAgo(seconds) < 2 ? near.format(-daysAgo(seconds), "day") : long(seconds)),
    clock,
    short: (seconds) => (daysAgo(seconds) < 1 ? clock(seconds) : date(seconds)),
    full,
    bytes: (count) =>
      new Intl.NumberFormat(tag, {
        style: "unit",
        unit: count < 1e6 ? "kilobyte" : "megabyte",
        maximumFractionDigits: 1,
      }).format(count < 1e6 ? Math.max(0.1, count / 1e3) : count / 1e6),
  };
}
