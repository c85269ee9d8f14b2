// @vitest-environment happy-dom
import { render } from "preact";
import { expect, it } from "vitest";
import { rendered } from "../src/text.tsx";

/** What a browser makes of a message's HTML. */
function shown(html: string): string {
  const place = document.createElement("div");
  render(<div>{rendered(html)}</div>, place);
  return place.firstElementChild?.innerHTML ?? "";
}

it("what the server lets through is shown as it is", () => {
  for (const html of [
    "<p>On its <b>way</b>,<br>now.</p>",
    "<ul><li>one</li><li><em>two</em></li></ul>",
    "<pre><code>a &amp;&amp; b &lt; c</code></pre>",
    "<blockquote><p>so</p></blockquote><p>yes</p>",
  ]) {
    expect(shown(html)).toBe(html);
  }
});

it("links open elsewhere, and only where a link may lead", () => {
  const link = (href: string) => shown(`<a href="${href}">here</a>`);
  expect(link("https://a.example/?b=1&amp;c=2")).toContain('href="https://a.example/?b=1&amp;c=2"');
  expect(link("mailto:a@b.example")).toContain("noopener");
  for (const href of [
    "javascript:alert(1)",
    "&#106;avascript:alert(1)",
    "data:text/html,x",
    " java\nscript:x",
    "//x",
    "",
  ]) {
    expect(link(href), href).toBe("here");
  }
});

it("an address in plain words is a link, but not the stop behind it, nor one within a link", () => {
  expect(shown("<p>See https://a.example/b.</p>")).toMatch(
    /^<p>See <a [^>]*href="https:\/\/a.example\/b"[^>]*>[^<]*<\/a>\.<\/p>$/,
  );
  expect(shown('<a href="https://a.example">https://a.example</a>').match(/<a /g)?.length).toBe(1);
});

it("whatever else comes is no element", () => {
  for (const html of [
    "<script>alert(1)</script>",
    '<img src="x" onerror="alert(1)">',
    '<p onclick="alert(1)">x</p>',
    '<svg onload="alert(1)"></svg>',
    '<a href="https://a.example" onclick="alert(1)">x</a>',
    "<style>*{}</style>",
    '<iframe src="https://a.example"></iframe>',
    "<p",
    "</p></p><b>",
    "<<p>>",
    "&#x110000;&#xFFFFFFFF;&bogus;",
  ]) {
    const place = document.createElement("div");
    render(<div>{rendered(html)}</div>, place);
    const elements = [...place.querySelectorAll("*")];
    expect(
      elements.filter(({ tagName }) => /^(SCRIPT|IMG|SVG|STYLE|IFRAME)$/i.test(tagName)),
      html,
    ).toEqual([]);
    for (const element of elements) {
      const names = element.getAttributeNames();
      expect(
        names.every((name) => ["href", "target", "rel"].includes(name)),
        html,
      ).toBe(true);
    }
  }
});
