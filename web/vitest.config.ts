import { defineConfig } from "vitest/config";

const packages = new URL("packages/", import.meta.url).pathname;

// The packages' own tests: no network, and mostly a made-up clock.
export default defineConfig({
  // The sources, not what was built last.
  resolve: {
    alias: [
      { find: /^@aw-chat\/(core|react)$/, replacement: `${packages}$1/src/index.ts` },
      { find: /^@aw-chat\/widget$/, replacement: `${packages}widget/src/aw-chat.ts` },
      { find: /^@aw-chat\/core\/(.+)$/, replacement: `${packages}core/src/$1.ts` },
    ],
  },
  test: {
    root: new URL(".", import.meta.url).pathname,
    include: ["packages/*/test/**/*.test.{ts,tsx}"],
    // Laws are tried many times over, on busy machines too.
    testTimeout: 60_000,
  },
});
