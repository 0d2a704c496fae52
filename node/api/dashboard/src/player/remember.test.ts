import { afterEach, expect, test, vi } from "vitest";
import { rememberedWay, rememberWay } from "./remember";

afterEach(() => vi.unstubAllGlobals());

test("the choice is kept, and HLS needs no keeping", () => {
  const kept = new Map<string, string>();
  vi.stubGlobal("localStorage", {
    getItem: (name: string) => kept.get(name) ?? null,
    setItem: (name: string, value: string) => kept.set(name, value),
    removeItem: (name: string) => kept.delete(name),
  });
  expect(rememberedWay()).toBe("hls");
  rememberWay("webrtc");
  expect(rememberedWay()).toBe("webrtc");
  rememberWay("hls");
  expect([rememberedWay(), kept.size]).toEqual(["hls", 0]);
});

test("a frame that may keep nothing plays all the same", () => {
  const forbidden = (): never => {
    throw new Error("SecurityError");
  };
  vi.stubGlobal("localStorage", { getItem: forbidden, setItem: forbidden, removeItem: forbidden });
  rememberWay("webrtc");
  expect(rememberedWay()).toBe("hls");
});
