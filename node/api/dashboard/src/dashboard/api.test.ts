import { afterEach, beforeEach, expect, test, vi } from "vitest";
import { ApiError, liveStreams, messageOf, stopStream, systemResources, token } from "./api";
import { clockOffset } from "./clock";

beforeEach(() => {
  const kept = new Map<string, string>();
  vi.stubGlobal("sessionStorage", {
    getItem: (name: string) => kept.get(name) ?? null,
    setItem: (name: string, value: string) => kept.set(name, value),
    removeItem: (name: string) => kept.delete(name),
  });
});
afterEach(() => vi.unstubAllGlobals());

function server(status: number, body: unknown): { url: string; init: RequestInit }[] {
  const asked: { url: string; init: RequestInit }[] = [];
  vi.stubGlobal("fetch", async (url: string, init: RequestInit) => {
    asked.push({ url, init });
    return new Response(typeof body === "string" ? body : JSON.stringify(body), { status });
  });
  return asked;
}

const failure = async (call: Promise<unknown>): Promise<ApiError> => {
  try {
    await call;
  } catch (error) {
    if (error instanceof ApiError) return error;
  }
  throw new Error("the call should have failed with an ApiError");
};

test("the admin token goes along once there is one", async () => {
  const asked = server(200, {});
  await systemResources();
  token.set("secret");
  await systemResources();
  expect(asked.map(({ init }) => (init.headers as Record<string, string>)["authorization"])).toEqual([undefined, "Bearer secret"]);
  token.set("");
  expect(token.get()).toBe("");
});

test("failures are told apart", async () => {
  server(403, { success: false, message: "Not from here" });
  expect(await failure(liveStreams())).toMatchObject({ failure: "auth", message: "Not from here" });
  server(500, "");
  expect(await failure(liveStreams())).toMatchObject({ failure: "server", message: "The node answered with status 500." });
  server(200, { not: "a list" });
  expect(await failure(liveStreams())).toMatchObject({ failure: "server" });
  server(200, "<html>");
  expect(await failure(systemResources())).toMatchObject({ failure: "server" });
  vi.stubGlobal("fetch", async () => Promise.reject(new TypeError("failed")));
  expect(await failure(systemResources())).toMatchObject({ failure: "unreachable" });
});

test("a refusal with status 200 is a failure too, as AMS does it", async () => {
  const asked = server(200, { success: false, message: "No such stream" });
  expect(await failure(stopStream("live", "a/b"))).toMatchObject({ message: "No such stream" });
  expect(asked[0]?.url).toBe("/live/rest/v2/broadcasts/a%2Fb/stop");
  expect(asked[0]?.init.method).toBe("POST");
  server(200, { success: true, message: null });
  await stopStream("live", "x");
});

test("the server's words are kept, its web pages are not", () => {
  expect(messageOf("Not allowed IP", 403)).toBe("Not allowed IP");
  expect(messageOf("<html>502</html>", 502)).toBe("The node answered with status 502.");
  expect(messageOf('{"message":""}', 404)).toBe("The node answered with status 404.");
});

test("the node's clock is read from its timing", () => {
  expect(clockOffset({ "server-timing": { "start-time": 1000, "up-time": 500 } }, 1400)).toBe(100);
  expect(clockOffset({}, 1400)).toBe(0);
  expect(clockOffset(null, 0)).toBe(0);
});
