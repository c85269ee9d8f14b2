// The panel: title, what is wrong with the connection, the screen, and the way to the others.

import type { ComponentChildren } from "preact";
import { useEffect, useLayoutEffect, useReducer, useRef } from "preact/hooks";
import type { Key } from "./i18n.ts";
import { Await, Badge, Icon, IconButton } from "./parts.tsx";
import { isRoot, ROOTS, type Route } from "./router.ts";
import { Begin } from "./screens/begin.tsx";
import { Conversations, useTitle } from "./screens/conversations.tsx";
import { Home, labelOf, SubTopics, topicOf } from "./screens/home.tsx";
import { Thread } from "./screens/thread.tsx";
import { Viewer } from "./screens/viewer.tsx";
import { useApp, useCountdown, useLoad, useResource } from "./view.ts";

const loadMore = () =>
  import("./screens/more.ts").catch((cause) => {
    throw Object.assign(new Error("a part could not be loaded", { cause }), { code: "network" });
  });

/** One of the screens that are not there from the beginning. */
function Later({ route }: { route: Route }) {
  const screens = useLoad(loadMore, []);
  return (
    <Await of={screens}>
      {({ Complaint, Csat, Settings, Ticket, Tickets }) => {
        switch (route.screen) {
          case "tickets":
            return <Tickets />;
          case "ticket":
            return <Ticket {...route} />;
          case "csat":
            return <Csat {...route} />;
          case "complaint":
            return <Complaint {...route} />;
          default:
            return <Settings />;
        }
      }}
    </Await>
  );
}

function Screen({ route }: { route: Route }) {
  switch (route.screen) {
    case "home":
      return <Home />;
    case "topic":
      return <SubTopics {...route} />;
    case "begin":
      return <Begin {...route} />;
    case "conversations":
      return <Conversations />;
    case "thread":
      return <Thread {...route} />;
    case "viewer":
      return <Viewer {...route} />;
    default:
      return <Later route={route} />;
  }
}

const TITLES: Partial<Record<Route["screen"], Key>> = {
  home: "hello",
  begin: "begin.title",
  conversations: "chats.title",
  tickets: "tickets.title",
  csat: "rate.title",
  complaint: "complain.title",
  settings: "settings.title",
};

function ThreadTitle({ id }: { id: string }) {
  const { chat } = useApp();
  return <>{useTitle(useResource(chat.thread(id).state))}</>;
}

function TopicTitle({ main }: { main: string }) {
  const { config, language } = useApp();
  return <>{labelOf(topicOf(config.value, main)?.labels, language.locale, main)}</>;
}

function Title({ route }: { route: Route }): ComponentChildren {
  const { t } = useApp().language;
  if (route.screen === "thread") return <ThreadTitle id={route.id} />;
  if (route.screen === "topic") return <TopicTitle main={route.main} />;
  if (route.screen === "viewer") return <bdi>{route.file.name}</bdi>;
  return t(TITLES[route.screen] ?? "tickets.title");
}

/** What is wrong between here and the server, if anything. */
function Connection() {
  const { chat, language } = useApp();
  const { t } = language;
  const { status, until } = useResource(chat.connection);
  const [, redraw] = useReducer((turn: number) => turn + 1, 0);
  const left = useCountdown(status === "rate_limited" ? until : null);
  useEffect(() => {
    const names = ["online", "offline"];
    for (const name of names) addEventListener(name, redraw);
    return () => names.forEach((name) => void removeEventListener(name, redraw));
  }, []);

  const text = () => {
    if (status === "unauthorized") return t("net.signedOut");
    if (status === "offline" || navigator.onLine === false) return t("net.offline");
    if (status === "degraded") return t("net.degraded");
    return status === "rate_limited" && left ? t("net.limited", { n: left }) : null;
  };
  const told = text();
  if (!told) return null;
  return (
    <p class="connection">
      <span>{told}</span>
      {status === "unauthorized" && (
        <button class="link" type="button" onClick={chat.wake}>
          {t("net.signIn")}
        </button>
      )}
    </p>
  );
}

/** To the other places that have no way back. */
function Places({ current }: { current: Route["screen"] }) {
  const { chat, language, router } = useApp();
  const { t } = language;
  const { total } = useResource(chat.unread);
  const names = { home: "home", conversations: "chats", tickets: "tickets", settings: "settings" } as const;
  return (
    <nav class="places" aria-label={t("title")}>
      {ROOTS.map((screen) => (
        <button
          key={screen}
          type="button"
          aria-current={screen === current ? "page" : undefined}
          onClick={() => router.reset({ screen })}
        >
          <span class="place-icon">
            <Icon name={names[screen]} />
            {screen === "conversations" && <Badge count={total} />}
          </span>
          {t(`nav.${names[screen]}`)}
        </button>
      ))}
    </nav>
  );
}

/** The element that has the focus, in whichever tree it is. */
const focused = (within: Element): HTMLElement | null =>
  (within.getRootNode() as ShadowRoot).activeElement as HTMLElement | null;

export function Shell({ isModal }: { isModal: boolean }) {
  const { router, language, close, mode, hasBack } = useApp();
  const { t, dir, locale } = language;
  const stack = useResource(router);
  const top = stack.at(-1) as Route;
  const isViewing = top.screen === "viewer";
  // A file lies over what it was opened from: that stays as it is, and out of reach.
  const below = (isViewing ? stack.at(-2) : top) as Route;
  const panel = useRef<HTMLDivElement>(null);
  const heading = useRef<HTMLHeadingElement>(null);
  const opener = useRef<HTMLElement | null>(null);
  const wasViewing = useRef(false);
  // The panel is there: now for what may be asked of it next.
  useEffect(() => void loadMore().catch(() => {}), []);

  useLayoutEffect(() => {
    if (!panel.current) return;
    if (isViewing) opener.current = focused(panel.current);
    const back = wasViewing.current && !isViewing ? opener.current : null;
    wasViewing.current = isViewing;
    if (back?.isConnected) back.focus();
    else if (mode !== "inline" || panel.current.contains(focused(panel.current))) {
      heading.current?.focus({ preventScroll: true });
    }
  }, [top]);

  function onKeyDown(event: KeyboardEvent): void {
    if (event.key === "Escape" && !event.isComposing) {
      event.stopPropagation();
      if (stack.length > 1) router.back();
      else close?.();
    } else if (event.key === "Tab" && isModal && panel.current) keepWithin(panel.current, event);
  }

  const what = {
    role: mode === "bubble" ? ("dialog" as const) : ("region" as const),
    "aria-modal": isModal || undefined,
    "aria-labelledby": "aw-title",
    onKeyDown,
  };
  return (
    <div ref={panel} class={`panel ${mode}`} part="panel" dir={dir} lang={locale} {...what}>
      <header class="header" part="header">
        {stack.length > 1 && !hasBack && <IconButton icon="back" label={t("back")} onPress={router.back} />}
        <h2 id="aw-title" ref={heading} tabIndex={-1} dir="auto">
          <Title route={top} />
        </h2>
        {close && <IconButton icon="close" label={t("close")} onPress={close} />}
      </header>
      <Connection />
      <div class="screens">
        <div key={below} class={`screen ${below.screen}`} inert={isViewing}>
          <Screen route={below} />
        </div>
        {isViewing && (
          <div class="screen over">
            <Screen route={top} />
          </div>
        )}
      </div>
      {isRoot(top) && <Places current={top.screen} />}
    </div>
  );
}

/** Tab goes round within `panel`. */
function keepWithin(panel: HTMLElement, event: KeyboardEvent): void {
  const all = [...panel.querySelectorAll<HTMLElement>("a[href],button,input,select,textarea,[tabindex='0']")].filter(
    (element) => !element.closest("[inert]") && element.checkVisibility?.() !== false,
  );
  const [first, last] = [all[0], all.at(-1)];
  const at = focused(panel);
  const isOut = event.shiftKey ? at === first || at?.tagName === "H2" : at === last;
  if (!isOut) return;
  event.preventDefault();
  (event.shiftKey ? last : first)?.focus();
}
