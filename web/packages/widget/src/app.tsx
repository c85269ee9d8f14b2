// What is loaded when the panel is opened: everything that can be seen.

import type { AwChat } from "@aw-chat/core";
import { render } from "preact";
import { useEffect, useState } from "preact/hooks";
import { createLanguage, type Locale, type Strings } from "./i18n.ts";
import { createRouter, type Route, type Router } from "./router.ts";
import screensCss from "./screens.css?inline";
import { Shell } from "./shell.tsx";
import css from "./style.css?inline";
import { type App, AppContext, type Mode, type Notices, useLoad } from "./view.ts";

export { stringsOf } from "./i18n.ts";

/** What the element gives. */
export interface Setting {
  root: ShadowRoot;
  chat: AwChat;
  locale: Locale;
  strings: Strings;
  overrides: Partial<Strings>;
  mode: Mode;
  notices: Notices | null;
  /** Under which name the device keeps which screen was shown: only where pages are reloaded without being asked. */
  keepAs: string | null;
  hasBack: boolean;
  /** That of a panel before this one: the same screen is shown. */
  router: Router | null;
  announce(text: string): void;
  close(): void;
}

/** The panel, as its element uses it. */
export interface Panel {
  readonly router: Router;
  show(route: Route | null): void;
  hide(): void;
  remove(): void;
}

const SMALL = "(max-width: 480px), (max-height: 480px)";

/** Whether the panel covers all there is. */
function useIsSmall(): boolean {
  const [query] = useState(() => matchMedia(SMALL));
  const [isSmall, setSmall] = useState(query.matches);
  useEffect(() => {
    const update = () => setSmall(query.matches);
    query.addEventListener("change", update);
    return () => query.removeEventListener("change", update);
  }, [query]);
  return isSmall;
}

function Root({ app }: { app: Omit<App, "config"> }) {
  const isSmall = useIsSmall();
  const config = useLoad((signal) => app.chat.config({ signal }), [app]);
  const { chat, announce, language } = app;
  useEffect(
    () =>
      chat.on("message", ({ message: { author, body } }) => {
        const who = author.name || language.t("support");
        const text = body || language.t("chat.file");
        if (author.type !== "user") announce(language.t("thread.said", { who, text }));
      }),
    [chat, announce, language],
  );
  return (
    <AppContext.Provider value={{ ...app, config }}>
      <Shell isModal={isSmall && app.mode === "bubble"} />
    </AppContext.Provider>
  );
}

function kept(name: string | null): Route[] | null {
  try {
    return JSON.parse((name && localStorage.getItem(name)) || "null");
  } catch {
    return null;
  }
}

export function createPanel(setting: Setting): Panel {
  const { root, keepAs, close, mode } = setting;
  const sheets = [css, screensCss].map((text) => {
    const sheet = new CSSStyleSheet();
    sheet.replaceSync(text);
    return sheet;
  });
  root.adoptedStyleSheets.push(...sheets);
  const place = document.createElement("div");
  place.className = "place";
  root.append(place);
  const router = setting.router ?? createRouter(kept(keepAs));
  const keep = () => {
    try {
      if (keepAs) localStorage.setItem(keepAs, JSON.stringify(router.get()));
    } catch {}
  };
  const undo = router.subscribe(keep);
  const app: Omit<App, "config"> = {
    ...setting,
    router,
    language: createLanguage(setting.locale, setting.strings, setting.overrides),
    close: mode === "bubble" ? close : null,
  };
  const hide = () => render(null, place);
  return {
    router,
    show(route) {
      if (route) router.reset(route);
      render(<Root app={app} />, place);
    },
    hide,
    remove() {
      undo();
      hide();
      place.remove();
      root.adoptedStyleSheets = root.adoptedStyleSheets.filter((sheet) => !sheets.includes(sheet));
    },
  };
}
