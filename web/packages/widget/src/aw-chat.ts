// <aw-chat>: what every host page pays for. A button; the client follows when the page is at rest, the panel when it is
// opened.

import type { AwChat, GetToken, Undo } from "@aw-chat/core";
import type { Panel } from "./app.tsx";
import css from "./launcher.css?inline";
import type { Route, Router } from "./router.ts";
import type { Strings } from "./strings/en.ts";
import type { Mode, Notices } from "./view.ts";
import { chosenLocale, words } from "./words.ts";

export type { AwChat, GetToken } from "@aw-chat/core";
export type { Route } from "./router.ts";
export type { Strings } from "./strings/en.ts";
export type { Mode, Notices } from "./view.ts";

/** All that can be told at once; each is a property or an attribute of the element as well. */
export interface BootOptions {
  /** The server's address; unless told, that of where this script came from. */
  serverUrl?: string;
  /** Gives a session token of the app's signed-in user. */
  getToken?: GetToken;
  /** Names the user on this device. Another user is another `boot`. */
  userScope?: string;
  /** A client that the page has already, in place of the three above. The page starts and stops it. */
  client?: AwChat;
  /** `en`, `ru` or `ar`; unless told, as the page or the browser has it. */
  locale?: string;
  theme?: "light" | "dark" | "auto";
  mode?: Mode;
  /** Texts of the page's own, by key. */
  strings?: Partial<Strings>;
  /** Whether the device lets the app notify: for the screen of notices. */
  notices?: Notices;
}

const ATTRIBUTES = {
  serverUrl: "server-url",
  userScope: "user-scope",
  locale: "locale",
  theme: "theme",
  mode: "mode",
} as const;

const SVG = "http://www.w3.org/2000/svg";
const CHAT = "M4 5h16v11H10l-5 4v-4H4z";
const DOWN = "M6 9l6 6 6-6";

// Where there is no page, as on a server, importing this does nothing.
const Base = globalThis.HTMLElement ?? (class {} as typeof HTMLElement);

function make<K extends keyof HTMLElementTagNameMap>(tag: K, attributes: Record<string, string> = {}) {
  const element = document.createElement(tag);
  for (const [name, value] of Object.entries(attributes)) element.setAttribute(name, value);
  return element;
}

/** When the browser has nothing better to do. */
function atRest(run: () => void): void {
  const idle = () => (globalThis.requestIdleCallback ?? setTimeout)(run);
  if (document.readyState === "complete") idle();
  else addEventListener("load", idle, { once: true });
}

export class AwChatElement extends Base {
  static readonly observedAttributes = ["open", "locale", "mode"];

  getToken: GetToken | undefined;
  client: AwChat | undefined;
  strings: Partial<Strings> | undefined;
  notices: Notices | undefined;
  /** Keeps the screen over reloads; for pages that are reloaded without being asked. */
  keepsScreen = false;
  /** The place has a back button of its own. */
  hasBack = false;

  #root: ShadowRoot | null = null;
  readonly #button = globalThis.document && make("button", { class: "launcher", part: "launcher", type: "button" });
  readonly #icon = globalThis.document?.createElementNS(SVG, "path");
  readonly #badge = globalThis.document && make("span", { class: "count", "aria-hidden": "true" });
  /** The one place where things are said aloud. */
  readonly #status = globalThis.document && make("div", { class: "said", role: "status" });
  #chat: Promise<AwChat> | null = null;
  #panel: Promise<Panel> | null = null;
  #off: Undo = () => {};
  #unread = 0;
  #route: Route | null = null;

  get isOpen(): boolean {
    return this.hasAttribute("open");
  }

  connectedCallback(): void {
    this.#draw();
    if (this.client || this.getToken) this.boot();
    // It was elsewhere on the page before: its client goes on.
    else void this.#chat?.then((chat) => chat.start());
  }

  disconnectedCallback(): void {
    // It may only be on its way to another place of the page.
    setTimeout(() => {
      if (!this.isConnected && !this.client) void this.#chat?.then((chat) => chat.stop());
    });
  }

  attributeChangedCallback(name: string): void {
    if (!this.#root) return;
    if (name === "open") {
      this.#label();
      void (this.isOpen ? this.#show() : this.#hide());
    } else void this.#redraw();
  }

  /** Begins for a user. What is told overrides what the element has. */
  boot(options: BootOptions = {}): void {
    const { getToken, client, strings, notices } = options;
    const given = Object.entries({ getToken, client, strings, notices }).filter(([, value]) => value !== undefined);
    const isOther = options.userScope !== undefined && options.userScope !== this.getAttribute("user-scope");
    if (this.#chat && (isOther || client || getToken)) this.#end(false);
    Object.assign(this, Object.fromEntries(given));
    for (const [name, attribute] of Object.entries(ATTRIBUTES)) {
      const value = options[name as keyof typeof ATTRIBUTES];
      if (value !== undefined) this.setAttribute(attribute, value);
    }
    if (!this.isConnected) return;
    if (this.isOpen || this.#mode !== "bubble") this.show();
    // Not before the page itself is there.
    else atRest(() => void this.#client().catch(() => {}));
  }

  show(): void {
    if (this.isOpen) void this.#show();
    else this.setAttribute("open", "");
  }

  hide(): void {
    this.removeAttribute("open");
  }

  toggle(): void {
    this.toggleAttribute("open");
  }

  /** Opens the panel at a screen, such as `{ screen: "thread", id }`. */
  open(route: Route): void {
    this.#route = route;
    this.show();
  }

  /** One screen back. */
  async back(): Promise<void> {
    (await this.#panel)?.router.back();
  }

  /** Tells whether there is a way back, now and whenever that changes. */
  async onDepth(listener: (isDeep: boolean) => void): Promise<void> {
    const router = (await this.#panel)?.router;
    router?.subscribe((stack) => listener(stack.length > 1));
    if (router) listener(router.get().length > 1);
  }

  /** Ends for this user, who is forgotten on this device; `boot` begins for the next. */
  async shutdown(): Promise<void> {
    await this.#end(true);
  }

  get #mode(): Mode {
    return (this.getAttribute("mode") as Mode | null) ?? "bubble";
  }

  get #locale() {
    return chosenLocale(this.getAttribute("locale"));
  }

  #draw(): void {
    if (this.#root) return;
    const root = this.attachShadow({ mode: "open" });
    const sheet = new CSSStyleSheet();
    sheet.replaceSync(css);
    root.adoptedStyleSheets = [sheet];
    const svg = document.createElementNS(SVG, "svg");
    svg.setAttribute("viewBox", "0 0 24 24");
    svg.setAttribute("aria-hidden", "true");
    svg.append(this.#icon);
    this.#button.append(svg, this.#badge);
    this.#button.setAttribute("aria-haspopup", "dialog");
    this.#button.addEventListener("click", () => this.toggle());
    for (const sign of ["pointerenter", "focus", "touchstart"]) {
      this.#button.addEventListener(sign, () => void import("./app.tsx").catch(() => {}), {
        once: true,
        passive: true,
      });
    }
    root.append(this.#button, this.#status);
    this.#root = root;
    this.#label();
  }

  #label(): void {
    const { open, unread } = words(this.#locale);
    const count = this.#unread;
    this.#button.setAttribute("aria-expanded", String(this.isOpen));
    this.#button.setAttribute("aria-label", count ? `${open}, ${unread(count)}` : open);
    this.#icon.setAttribute("d", this.isOpen ? DOWN : CHAT);
    this.#badge.textContent = count > 99 ? "99+" : String(count || "");
  }

  #say(text: string): void {
    // Said twice, the same words are news twice.
    this.#status.textContent = this.#status.textContent === text ? `${text}\u00a0` : text;
  }

  #tell(name: string, detail?: unknown): void {
    this.dispatchEvent(new CustomEvent(`aw-${name}`, { detail, bubbles: true, composed: true }));
  }

  #client(): Promise<AwChat> {
    this.#chat ??= this.#connect().catch((error) => {
      this.#chat = null;
      throw error;
    });
    return this.#chat;
  }

  async #connect(): Promise<AwChat> {
    const { getToken } = this;
    const given = this.client;
    const userScope = this.getAttribute("user-scope");
    const serverUrl = this.getAttribute("server-url") ?? import.meta.url.replace(/\/widget\/.*$/, "");
    if (!given && (!getToken || !userScope))
      throw new Error("<aw-chat>: getToken and userScope, or client, must be set");
    const { createAwChat } = await import("./core.ts");
    const chat = given ?? createAwChat({ serverUrl, getToken: getToken as GetToken, userScope: userScope ?? "" });
    const offs = [
      chat.unread.subscribe(({ total }) => this.#count(total)),
      chat.on("message", (news) => this.#tell("message", news)),
      chat.on("error", (error) => this.#tell("error", error)),
    ];
    this.#off = () => offs.forEach((off) => void off());
    if (!given) await chat.start();
    this.#count(chat.unread.get().total);
    this.#tell("ready", { client: chat });
    return chat;
  }

  #count(total: number): void {
    const before = this.#unread;
    this.#unread = total;
    this.#label();
    if (total !== before) this.#tell("unread", { total });
    if (total > before && !this.isOpen) this.#say(words(this.#locale).unread(total));
  }

  async #show(): Promise<void> {
    const button = this.#button;
    button.classList.add("busy");
    try {
      this.#panel ??= this.#makePanel();
      const panel = await this.#panel;
      if (!this.isOpen) return;
      panel.show(this.#route);
      this.#route = null;
      this.#tell("open");
    } catch (error) {
      this.#panel = null;
      this.hide();
      this.#say(words(this.#locale).failed);
      this.#status.classList.add("shown");
      setTimeout(() => this.#status.classList.remove("shown"), 5000);
      this.#tell("error", error);
    } finally {
      button.classList.remove("busy");
    }
  }

  async #makePanel(router: Router | null = null): Promise<Panel> {
    const locale = this.#locale;
    const app = import("./app.tsx");
    const [{ createPanel }, strings, chat] = await Promise.all([
      app,
      app.then(({ stringsOf }) => stringsOf(locale)),
      this.#client(),
    ]);
    const scope = this.getAttribute("user-scope");
    return createPanel({
      root: this.#root as ShadowRoot,
      chat,
      locale,
      strings,
      overrides: this.strings ?? {},
      mode: this.#mode,
      notices: this.notices ?? null,
      keepAs: this.keepsScreen && scope ? `awchat:${encodeURIComponent(scope)}:screen` : null,
      hasBack: this.hasBack,
      router,
      announce: (text) => this.#say(text),
      close: () => this.hide(),
    });
  }

  async #hide(): Promise<void> {
    (await this.#panel)?.hide();
    if (this.isOpen) return;
    this.#button.focus();
    this.#tell("close");
  }

  /** In another language or shape. */
  async #redraw(): Promise<void> {
    this.#label();
    const old = await this.#panel;
    if (!old) return;
    old.remove();
    this.#panel = this.#makePanel(old.router);
    if (this.isOpen) await this.#show();
  }

  async #end(isForgotten: boolean): Promise<void> {
    const [chat, panel, given] = [this.#chat, this.#panel, this.client];
    this.#chat = null;
    this.#panel = null;
    this.client = undefined;
    if (isForgotten) this.getToken = undefined;
    this.#off();
    this.#status.textContent = "";
    this.#count(0);
    void panel?.then((panel) => panel.remove()).catch(() => {});
    if (isForgotten) this.hide();
    const client = await chat?.catch(() => null);
    if (isForgotten) await client?.logout();
    // A client that was given is its giver's to stop.
    else if (!given) client?.stop();
  }
}

type Call = [method: "boot" | "show" | "hide" | "toggle" | "open" | "shutdown", argument?: never];

/** `AWChat("boot", options)` and its like, for pages made of script tags; calls made before this was loaded wait in `q`. */
function install(): void {
  if (!globalThis.customElements || customElements.get("aw-chat")) return;
  customElements.define("aw-chat", AwChatElement);
  const page = window as unknown as { AWChat?: { (...call: Call): unknown; q?: Call[] } };
  const waiting = page.AWChat?.q ?? [];
  const call = (...[method, argument]: Call) => {
    const element = document.querySelector("aw-chat") ?? document.createElement("aw-chat");
    if (!element.isConnected) document.body.append(element);
    return element[method](argument as never);
  };
  page.AWChat = call;
  for (const args of waiting) call(...args);
}

install();

declare global {
  interface HTMLElementTagNameMap {
    "aw-chat": AwChatElement;
  }
}
