import { defineConfig } from "vitest/config";

// The packages' own tests: no network, no clock but a made-up one.
export default defineConfig({
  resolve: { alias: [{ find: /^@aw-chat\/core$/, replacement: new URL("./packages/core/src/index.ts", import.meta.url).pathname }] },
  test: {
    root: new URL(".", import.meta.url).pathname,
    include: ["packages/*/test/**/*.test.{ts,tsx}"],
    // Laws are tried many times over, on busy machines too.
    testTimeout: 60_000,
  },
});
