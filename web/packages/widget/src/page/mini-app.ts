// The page as a Telegram Mini App: Telegram's user, colours, back button and notices.

import { type TelegramWebApp, telegramTheme, telegramToken } from "@aw-chat/core/telegram";
import type { AwChatElement, Route } from "../aw-chat.ts";

interface WebApp extends TelegramWebApp {
  initDataUnsafe: { user?: { id: number; language_code?: string; allows_write_to_pm?: boolean }; start_param?: string };
  ready(): void;
  expand(): void;
  requestWriteAccess?(done: (isAllowed: boolean) => void): void;
  BackButton?: { show(): void; hide(): void; onClick(listener: () => void): void };
  HapticFeedback?: { impactOccurred(style: "light"): void };
}

const SCRIPT = "https://telegram.org/js/telegram-web-app.js";

interface Policies {
  createPolicy(name: string, rules: { createScriptURL(url: string): string }): { createScriptURL(url: string): string };
}

/** Telegram says so in the address. */
export const isTelegram = (): boolean => location.hash.includes("tgWebAppData=");

/** Telegram's own script: the one address that may be loaded from elsewhere. */
function loadScript(): Promise<WebApp> {
  const script = document.createElement("script");
  const { trustedTypes } = window as unknown as { trustedTypes?: Policies };
  const policy = trustedTypes?.createPolicy("aw-telegram", { createScriptURL: () => SCRIPT });
  script.src = policy ? policy.createScriptURL("") : SCRIPT;
  return new Promise((resolve, reject) => {
    script.onload = () => resolve((window as unknown as { Telegram: { WebApp: WebApp } }).Telegram.WebApp);
    script.onerror = () => reject(new Error("Telegram's script could not be loaded"));
    document.head.append(script);
  });
}

/** `c_<id>` and `t_<id>` open a conversation or a ticket. */
export function routeOf(parameter: string | undefined): Route | null {
  const [, kind, id] = /^([ct])_(\d{1,20})$/.exec(parameter ?? "") ?? [];
  return id ? { screen: kind === "c" ? "thread" : "ticket", id } : null;
}

export async function miniApp(element: AwChatElement): Promise<void> {
  const app = await loadScript();
  const { user, start_param } = app.initDataUnsafe;
  const theme = telegramTheme(app);
  const paint = () => {
    const { scheme, colors } = theme.get();
    element.setAttribute("theme", scheme);
    for (const [name, color] of Object.entries(colors)) element.style.setProperty(`--aw-${name}`, color);
  };
  theme.subscribe(paint);
  paint();
  app.expand();
  const serverUrl = import.meta.url.replace(/\/widget\/.*$/, "");
  const token = String(user?.id ?? "");
  let client: { devices: { register(device: object): Promise<unknown> } } | null = null;
  element.addEventListener("aw-ready", (event) => {
    client = (event as CustomEvent).detail.client;
  });
  const register = async () => {
    await client?.devices.register({ platform: "tma", token, initData: app.initData }).catch(() => {});
    return "granted" as const;
  };
  // Telegram for Android reloads pages now and then.
  element.keepsScreen = true;
  element.hasBack = Boolean(app.BackButton);
  element.boot({
    serverUrl,
    userScope: `tg:${token}`,
    getToken: telegramToken(serverUrl, app),
    ...(user?.language_code && { locale: user.language_code }),
    notices: {
      state: user?.allows_write_to_pm ? "granted" : "ask",
      request: () =>
        new Promise((resolve) => {
          if (!app.requestWriteAccess) return resolve("denied");
          app.requestWriteAccess((isAllowed) => resolve(isAllowed ? register() : "denied"));
        }),
    },
  });
  if (user?.allows_write_to_pm) element.addEventListener("aw-open", () => void register(), { once: true });
  const route = routeOf(start_param);
  if (route) element.open(route);
  app.BackButton?.onClick(() => void element.back());
  void element.onDepth((isDeep) => (isDeep ? app.BackButton?.show() : app.BackButton?.hide()));
  app.ready();
}
