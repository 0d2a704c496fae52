import { afterEach, expect, test, vi } from "vitest";
import { probe, retryDelay } from "./probe";

afterEach(() => vi.unstubAllGlobals());

const key = { app: "live", id: "x" };
const never = new AbortController().signal;

/** Answers by path; -1 is no answer. */
function server(answers: Record<string, number>): string[] {
  const asked: string[] = [];
  vi.stubGlobal("fetch", async (url: string, init: RequestInit) => {
    asked.push(`${init.method} ${url}`);
    const status = answers[url] ?? 404;
    if (status < 0) throw new TypeError("failed to fetch");
    return new Response(null, { status });
  });
  return asked;
}

test("asks for the adaptive playlist first, then for the plain one", async () => {
  const asked = server({ "/live/streams/x.m3u8?token=t": 200 });
  expect(await probe(key, "?token=t", never)).toEqual({ kind: "found", url: "/live/streams/x.m3u8?token=t" });
  expect(asked).toEqual(["HEAD /live/streams/x_adaptive.m3u8?token=t", "HEAD /live/streams/x.m3u8?token=t"]);
});

test("takes the adaptive playlist where there is one", async () => {
  const asked = server({ "/live/streams/x_adaptive.m3u8": 200 });
  expect(await probe(key, "", never)).toEqual({ kind: "found", url: "/live/streams/x_adaptive.m3u8" });
  expect(asked).toHaveLength(1);
});

test("tells absent, refused and unreachable apart", async () => {
  server({});
  expect((await probe(key, "", never)).kind).toBe("absent");
  server({ "/live/streams/x_adaptive.m3u8": 403 });
  expect((await probe(key, "", never)).kind).toBe("refused");
  server({ "/live/streams/x.m3u8": 503 });
  expect((await probe(key, "", never)).kind).toBe("unreachable");
  server({ "/live/streams/x_adaptive.m3u8": -1 });
  expect((await probe(key, "", never)).kind).toBe("unreachable");
});

test("retries soon, then calmly, for ever, and spread out", () => {
  expect(retryDelay("absent", 0, 0.5)).toBe(1000);
  expect(retryDelay("absent", 1000, 0.5)).toBe(3000);
  expect(retryDelay("found", 0, 0.5)).toBe(300);
  expect(retryDelay("unreachable", 1000, 1)).toBeCloseTo(9600);
  expect(retryDelay("refused", 0, 0)).toBeCloseTo(4000);
});
