import { defineConfig } from "vite";
import { fileURLToPath } from "node:url";

const here = (name) => fileURLToPath(new URL(name, import.meta.url));

// `npm run dev` shows the pages against a running node; the node to ask can be set.
const node = process.env.SLUICE_URL ?? "http://127.0.0.1:5080";

export default defineConfig({
  // play.html is served under every application's path, so assets are addressed from the root.
  base: "/",
  build: {
    outDir: process.env.SLUICE_DASHBOARD_OUT ?? "dist",
    emptyOutDir: true,
    target: "es2022",
    // Everything is a file of its own: the content security policy allows no inline scripts or data URLs for them.
    assetsInlineLimit: 0,
    modulePreload: { polyfill: false },
    reportCompressedSize: false,
    chunkSizeWarningLimit: 700,
    rollupOptions: { input: { dashboard: here("index.html"), play: here("play.html"), publish: here("publish.html") } },
  },
  server: {
    proxy: {
      "^/rest/": node,
      "^/[^/]+/wh[ie]p/": node,
      "^/[^/]+/(rest|streams)/": node,
      "^/[^/]+/play\\.html": { target: node, bypass: () => "/play.html" },
      "^/[^/]+/publish\\.html": { target: node, bypass: () => "/publish.html" },
    },
  },
  test: { environment: "node", include: ["src/**/*.test.ts"] },
});
