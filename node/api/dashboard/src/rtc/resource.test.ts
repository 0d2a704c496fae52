import { afterEach, expect, test, vi } from "vitest";
import { post, refusalOf, retryAfter, type Resource } from "./resource";

afterEach(() => vi.unstubAllGlobals());

const never = new AbortController().signal;
const url = "http://node.example/LiveApp/whip/cam1";

/** Answers one after the other; what was asked is noted. */
function server(...answers: (Response | Error)[]): { method: string; url: string; headers: Headers; body: string }[] {
  const asked: { method: string; url: string; headers: Headers; body: string }[] = [];
  vi.stubGlobal("fetch", async (target: string | URL, init: RequestInit) => {
    asked.push({ method: init.method ?? "GET", url: String(target), headers: new Headers(init.headers), body: String(init.body ?? "") });
    const answer = answers.shift() ?? new Response(null, { status: 500 });
    if (answer instanceof Error) throw answer;
    return answer;
  });
  return asked;
}

const created = (headers: Record<string, string> = {}): Response =>
  new Response("v=0 answer", { status: 201, headers: { location: "/LiveApp/whip/cam1/s1", etag: '"one"', ...headers } });

async function open(...answers: (Response | Error)[]): Promise<{ resource: Resource; asked: ReturnType<typeof server> }> {
  const asked = server(created(), ...answers);
  const resource = await post(url, "v=0 offer", "t0", never);
  if ("kind" in resource) throw new Error(resource.kind);
  return { resource, asked };
}

test("an offer is posted with the token, and the session is where Location says", async () => {
  const { resource, asked } = await open(new Response(null, { status: 200 }));
  expect(resource.answer).toBe("v=0 answer");
  expect([asked[0]?.method, asked[0]?.url, asked[0]?.body]).toEqual(["POST", url, "v=0 offer"]);
  expect(asked[0]?.headers.get("content-type")).toBe("application/sdp");
  expect(asked[0]?.headers.get("authorization")).toBe("Bearer t0");
  resource.end(true);
  expect([asked[1]?.method, asked[1]?.url]).toEqual(["DELETE", "http://node.example/LiveApp/whip/cam1/s1"]);
  expect(asked[1]?.headers.get("authorization")).toBe("Bearer t0");
});

test("without a token no Authorization is sent; Link servers are read", async () => {
  const asked = server(created({ link: '<stun:s.example>; rel="ice-server"' }));
  const resource = await post(url, "o", "", never);
  expect(asked[0]?.headers.has("authorization")).toBe(false);
  expect("servers" in resource && resource.servers).toEqual([{ urls: "stun:s.example" }]);
});

test("candidates carry the entity tag, a restart the star, and the new tag counts from then on", async () => {
  const { resource, asked } = await open(
    new Response(null, { status: 204 }),
    new Response("a=ice-ufrag:x", { status: 200, headers: { etag: '"two"' } }),
    new Response(null, { status: 204 }),
  );
  await resource.trickle("f1");
  expect(await resource.restart("f2", 1000)).toBe("a=ice-ufrag:x");
  await resource.trickle("f3");
  expect(asked.slice(1).map(({ method, headers, body }) => [method, headers.get("if-match"), body])).toEqual([
    ["PATCH", '"one"', "f1"],
    ["PATCH", "*", "f2"],
    ["PATCH", '"two"', "f3"],
  ]);
  expect(asked[1]?.headers.get("content-type")).toBe("application/trickle-ice-sdpfrag");
});

test("a server that takes no candidates is not asked again; one that fails is", async () => {
  const { resource, asked } = await open(new TypeError("failed to fetch"), new Response(null, { status: 405 }));
  await resource.trickle("1");
  await resource.trickle("2");
  await resource.trickle("3");
  expect(asked).toHaveLength(3);
});

test("a restart of a session that is gone says so; one without an answer throws", async () => {
  const { resource } = await open(new Response(null, { status: 404 }), new TypeError("failed to fetch"), new Response(null, { status: 502 }));
  expect(await resource.restart("f", 1000)).toBeNull();
  await expect(resource.restart("f", 1000)).rejects.toThrow();
  await expect(resource.restart("f", 1000)).rejects.toThrow("502");
});

test("no answer is unreachable; an answer that made nothing is no WebRTC", async () => {
  server(new TypeError("failed to fetch"), new Response("<html>", { status: 200 }));
  expect(await post(url, "o", "", never)).toMatchObject({ kind: "unreachable" });
  expect(await post(url, "o", "", never)).toMatchObject({ kind: "unfit" });
});

test.each([
  [401, "forbidden"],
  [403, "forbidden"],
  [404, "absent"],
  [405, "unfit"],
  [406, "unfit"],
  [409, "taken"],
  [429, "busy"],
  [500, "unreachable"],
  [503, "busy"],
])("status %i means %s", (status, kind) => expect(refusalOf(status, new Headers(), "", 0).kind).toBe(kind));

test("the server's own sentence is shown, a page of a proxy is not", () => {
  const plain = new Headers({ "content-type": "text/plain" });
  expect(refusalOf(409, plain, "Stream cam1 is in use.\n", 0)).toEqual({ kind: "taken", reason: "Stream cam1 is in use." });
  expect(refusalOf(403, plain, "<html>", 0)).toMatchObject({ reason: expect.stringContaining("permission") });
  const json = new Headers({ "content-type": "application/json" });
  expect(refusalOf(406, json, '{"success":false,"message":"No codec."}', 0)).toEqual({ kind: "unfit", reason: "No codec." });
  expect(refusalOf(406, json, "{", 0)).toMatchObject({ reason: expect.stringContaining("codec") });
  expect(refusalOf(406, plain, "x".repeat(5000), 0)).toEqual({ kind: "unfit", reason: `X${"x".repeat(299)}.` });
  expect(refusalOf(503, plain, "the node drains, come back later", 0)).toMatchObject({ reason: "The node drains, come back later." });
  expect(refusalOf(406, json, '"text"', 0)).toMatchObject({ reason: expect.stringContaining("codec") });
});

test.each([
  ["2", 2000],
  ["0", 500],
  ["9999", 60_000],
  [null, 4000],
  ["soon", 4000],
  [new Date(10_000).toUTCString(), 9000],
])("Retry-After %s waits %i ms", (header, ms) => expect(retryAfter(header, 1000)).toBe(ms));
