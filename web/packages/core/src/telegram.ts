// Telegram Mini Apps: the page's own `window.Telegram.WebApp`, and nothing of an SDK.

import { browser } from "./browser.ts";
import type { Env } from "./env.ts";
import type { GetToken } from "./session.ts";
import { type Resource, Store } from "./store.ts";

/** `window.Telegram.WebApp`, as far as it is used. */
export interface TelegramWebApp {
  readonly initData: string;
  readonly colorScheme?: "light" | "dark";
  readonly themeParams?: Readonly<Record<string, string | undefined>>;
  /** From version 8.0. */
  readonly isActive?: boolean;
  onEvent(event: string, listener: () => void): void;
  offEvent(event: string, listener: () => void): void;
}

/** A Mini App as a place for a client: in front while Telegram shows it. */
export function telegram(webApp: TelegramWebApp): Env {
  const page = browser();
  return {
    ...page,
    visible: () => webApp.isActive !== false && page.visible(),
    onChange(listener) {
      const off = page.onChange(listener);
      const events = ["activated", "deactivated"];
      for (const event of events) webApp.onEvent(event, listener);
      return () => {
        off();
        for (const event of events) webApp.offEvent(event, listener);
      };
    },
  };
}

/** A `getToken` for a Mini App without a backend of its own: the server signs its own token for the Telegram user. */
export function telegramToken(serverUrl: string, webApp: TelegramWebApp): GetToken {
  return async ({ signal }) => {
    const response = await fetch(`${serverUrl.replace(/\/+$/, "")}/api/session/telegram`, {
      method: "POST",
      headers: { "Content-Type": "application/json" },
      body: JSON.stringify({ initData: webApp.initData }),
      signal,
    });
    const answer = (await response.json()) as { token?: string; message?: string };
    if (!response.ok || !answer.token) throw new Error(answer.message ?? `HTTP ${response.status}`);
    return answer.token;
  };
}

export type ThemeColor = "accent" | "on-accent" | "bg" | "surface" | "text" | "muted" | "danger" | "link" | "border";

export interface Theme {
  scheme: "light" | "dark";
  /** Those that Telegram tells. */
  colors: Partial<Record<ThemeColor, string>>;
}

const COLORS: Record<ThemeColor, string[]> = {
  accent: ["button_color"],
  "on-accent": ["button_text_color"],
  bg: ["bg_color"],
  surface: ["secondary_bg_color"],
  text: ["text_color"],
  muted: ["subtitle_text_color", "hint_color"],
  danger: ["destructive_text_color"],
  link: ["link_color"],
  border: ["section_separator_color"],
};

/** What must be read on what. */
const READ_ON: [ThemeColor, ThemeColor][] = [
  ["on-accent", "accent"],
  ["text", "bg"],
  ["muted", "bg"],
  ["link", "bg"],
  ["danger", "bg"],
];

const MIN_CONTRAST = 4.5;

/** Telegram's colours, as they change. Text that could not be read on its ground becomes black or white. */
export function telegramTheme(webApp: TelegramWebApp): Resource<Theme> {
  const theme = new Store(readTheme(webApp));
  return {
    get: theme.get,
    subscribe(listener) {
      const off = theme.subscribe(listener);
      const update = () => theme.set(readTheme(webApp));
      webApp.onEvent("themeChanged", update);
      return () => {
        webApp.offEvent("themeChanged", update);
        off();
      };
    },
  };
}

/** The theme as Telegram tells it now. */
export function readTheme({ themeParams = {}, colorScheme = "light" }: TelegramWebApp): Theme {
  const colors: Theme["colors"] = {};
  for (const color of Object.keys(COLORS) as ThemeColor[]) {
    const told = COLORS[color].map((name) => themeParams[name]).find((value) => value && /^#[0-9a-f]{6}$/i.test(value));
    if (told) colors[color] = told;
  }
  for (const [text, ground] of READ_ON) {
    const [ink, paper] = [colors[text], colors[ground]];
    if (!ink || !paper || contrast(ink, paper) >= MIN_CONTRAST) continue;
    colors[text] = contrast("#000000", paper) > contrast("#ffffff", paper) ? "#000000" : "#ffffff";
  }
  return { scheme: colorScheme, colors };
}

/** WCAG's contrast of two colours, 1 to 21. */
export function contrast(a: string, b: string): number {
  const [low = 0, high = 0] = [luminance(a), luminance(b)].sort((x, y) => x - y);
  return (high + 0.05) / (low + 0.05);
}

function luminance(color: string): number {
  const [r = 0, g = 0, b = 0] = [1, 3, 5].map((at) => {
    const part = Number.parseInt(color.slice(at, at + 2), 16) / 255;
    return part <= 0.04045 ? part / 12.92 : ((part + 0.055) / 1.055) ** 2.4;
  });
  return 0.2126 * r + 0.7152 * g + 0.0722 * b;
}
