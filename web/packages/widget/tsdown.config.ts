import { readFileSync } from "node:fs";
import { transform } from "lightningcss";
import { defineConfig } from "tsdown";

const core = new URL("../core/src", import.meta.url).pathname;

/** `import css from "./x.css?inline"` is the style's text: styles are constructed, as pages may forbid all other ways. */
const styles = {
  name: "styles",
  load(id: string) {
    const [file, query] = id.split("?");
    if (query !== "inline" || !file) return null;
    const { code } = transform({ filename: file, code: readFileSync(file), minify: true });
    return { code: `export default ${JSON.stringify(code.toString())}`, moduleType: "js" as const };
  },
};

// What the server carries, and the package: two entries under names that stay, all else under names that never do.
export default defineConfig({
  entry: { "v1/aw-chat": "src/aw-chat.ts", "v1/page": "src/page/page.ts" },
  format: "esm",
  target: "es2022",
  platform: "browser",
  dts: false,
  minify: true,
  sourcemap: false,
  hash: false,
  // The core's sources, so that what is not used is not in it.
  alias: { "@aw-chat/core/telegram": `${core}/telegram.ts`, "@aw-chat/core": `${core}/index.ts` },
  noExternal: [/./],
  plugins: [styles],
  // The page's parts that are no modules.
  copy: ["src/page/index.html", "src/page/page.css"],
  inputOptions: {
    preserveEntrySignatures: "allow-extension",
    // `h` needs fewer bytes than the newer form.
    transform: {
      jsx: { runtime: "classic", pragma: "h", pragmaFrag: "Fragment" },
      inject: { h: ["preact", "h"], Fragment: ["preact", "Fragment"] },
    },
  },
  outputOptions: {
    chunkFileNames: "v1/c/[name]-[hash].js",
    // The client in two, what it begins with and what it loads by itself; and so the panel.
    codeSplitting: {
      groups: [
        {
          name: "core",
          test: /core.src.(?!extras|outbox|feedback|files|requests|telegram)|widget.src.core|rolldown.runtime/,
        },
        {
          name: "app",
          test: /preact|widget.src.(app|shell|composer|messages|parts|router|scroll|text|view|i18n|strings.en|screens.(begin|conversations|home|thread|viewer)|style|screens.css)/,
        },
      ],
    },
  },
});
