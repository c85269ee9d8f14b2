// Messages' words as elements. The server sends a small, clean subset of HTML; it is read here once more, by the same
// list, so that nothing is ever inserted as HTML: pages may forbid that (Trusted Types).

import { type ComponentChildren, createElement } from "preact";

const ELEMENTS = ["p", "b", "strong", "i", "em", "u", "ul", "ol", "li", "code", "pre", "blockquote", "br", "a"];
const ENTITIES: Record<string, string> = { amp: "&", lt: "<", gt: ">", quot: '"', nbsp: "\u00a0" };
const TOKEN = /<(\/?)([a-z]+)((?:"[^"]*"|[^">])*)>|[^<]+|</gi;
const LINK = /https?:\/\/[^\s<>"']*[^\s<>"'.,:;!?)\]}]/g;

const decode = (text: string): string =>
  text.replace(/&(#x?[\da-f]+|\w+);/gi, (whole, name: string) => {
    if (name[0] !== "#") return ENTITIES[name] ?? whole;
    const code = name[1] === "x" ? Number.parseInt(name.slice(2), 16) : Number(name.slice(1));
    return code <= 0x10ffff ? String.fromCodePoint(code) : whole;
  });

function Link({ href, children }: { href: string; children: ComponentChildren }) {
  return (
    <a href={href} target="_blank" rel="noopener noreferrer nofollow">
      {children}
    </a>
  );
}

/** Plain text, with its addresses as links. */
export function linked(text: string): ComponentChildren[] {
  const parts: ComponentChildren[] = [];
  let end = 0;
  for (const { 0: href, index } of text.matchAll(LINK)) {
    parts.push(text.slice(end, index), <Link href={href}>{href}</Link>);
    end = index + href.length;
  }
  return [...parts, text.slice(end)];
}

/** The elements of a message's `html`. */
export function rendered(html: string): ComponentChildren[] {
  const top: ComponentChildren[] = [];
  const open: { name: string; href: string; children: ComponentChildren[] }[] = [];
  const add = (child: ComponentChildren) => (open.at(-1)?.children ?? top).push(child);
  const close = () => {
    const element = open.pop();
    if (!element) return;
    const { name, href, children } = element;
    if (name !== "a") add(createElement(name, null, ...children));
    else if (/^(https?|mailto):/i.test(href)) add(<Link href={href}>{children}</Link>);
    else for (const child of children) add(child);
  };
  for (const [token, isEnd, tag, attributes = ""] of html.matchAll(TOKEN)) {
    const name = tag?.toLowerCase();
    if (!name) {
      const text = decode(token);
      const isInLink = open.some(({ name }) => name === "a");
      for (const part of isInLink ? [text] : linked(text)) add(part);
    } else if (!ELEMENTS.includes(name)) continue;
    else if (name === "br") add(<br />);
    else if (!isEnd) {
      const href = decode(/\shref="([^"]*)"/i.exec(attributes)?.[1] ?? "").trim();
      open.push({ name, href, children: [] });
    } else if (open.some((element) => element.name === name)) {
      while (open.at(-1)?.name !== name) close();
      close();
    }
  }
  while (open.length) close();
  return top;
}
