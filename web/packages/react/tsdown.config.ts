import { defineConfig } from "tsdown";

export default defineConfig({
  entry: ["src/index.ts"],
  format: ["esm", "cjs"],
  target: "es2022",
  platform: "neutral",
  dts: true,
  tsconfig: "tsconfig.build.json",
  minify: true,
  sourcemap: true,
});
