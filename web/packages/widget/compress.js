// Writes a .br and a .gz beside each file that the server sends: it has no need to compress by itself.
import { readdirSync, readFileSync, writeFileSync } from "node:fs";
import { brotliCompressSync, gzipSync } from "node:zlib";

const dist = new URL("dist/", import.meta.url);
for (const name of readdirSync(dist, { recursive: true })) {
  if (!/\.(js|css|html)$/.test(name)) continue;
  const file = new URL(name, dist);
  const bytes = readFileSync(file);
  writeFileSync(`${file.pathname}.br`, brotliCompressSync(bytes));
  writeFileSync(`${file.pathname}.gz`, gzipSync(bytes, { level: 9 }));
}
