import { defineConfig, type UserConfig } from "tsdown";

const shared: UserConfig = {
  format: ["esm", "cjs"],
  target: "es2022",
  platform: "neutral",
  dts: true,
  minify: true,
  sourcemap: true,
  // The second must not remove what the first has built: the script `build` cleans.
  clean: false,
};

export default defineConfig([
  // What the parts that are loaded later share with the entry stays in the entry: one request to begin with.
  { ...shared, entry: ["src/index.ts"], inputOptions: { preserveEntrySignatures: "allow-extension" } },
  // Each whole in itself: they share no class with the entry.
  { ...shared, entry: ["src/react-native.ts"] },
  { ...shared, entry: ["src/telegram.ts"] },
  { ...shared, entry: ["src/testing.ts"] },
]);
