import { defineConfig } from "vitest/config";

// Against the real server: the built package, the built binary (`cargo build -p awchat`), the machine's own clock.
export default defineConfig({
  test: {
    root: new URL(".", import.meta.url).pathname,
    include: ["packages/*/server-test/**/*.test.ts"],
    testTimeout: 120_000,
    hookTimeout: 60_000,
    fileParallelism: false,
  },
});
