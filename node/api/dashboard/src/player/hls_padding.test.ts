import { expect, test, vi } from "vitest";
import { tightenPadding } from "./hls_padding";

test("the hls.js in use has the allowance where it is looked for", async () => {
  vi.stubGlobal("self", globalThis);
  const { default: Hls } = await import("hls.js");
  const hls = new Hls();
  expect(tightenPadding(hls)).toBe(true);
  hls.destroy();
});

test("another build of hls.js is left alone", () => {
  expect(tightenPadding({})).toBe(false);
  expect(tightenPadding({ coreComponents: [null, { other: 1 }] })).toBe(false);
});
