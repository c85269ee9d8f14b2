import { defineConfig } from "vitest/config";

// The widget in a real browser against the real server: what was built last, `cargo build -p awchat` and `npm run build`.
export default defineConfig({
  test: {
    root: new URL(".", import.meta.url).pathname,
    include: ["e2e/**/*.test.ts"],
    testTimeout: 60_000,
    hookTimeout: 60_000,
    fileParallelism: false,
    // One browser and one server for all.
    isolate: false,
    maxWorkers: 1,
  },
});
