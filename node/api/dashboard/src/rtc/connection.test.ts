import { afterEach, beforeEach, expect, test, vi } from "vitest";
import { converse, type End, type Plan } from "./connection";

const sdp = (ufrag: string): string =>
  `v=0\r\na=group:BUNDLE 0\r\nm=video 9 UDP/TLS/RTP/SAVPF 96\r\na=mid:0\r\na=ice-ufrag:${ufrag}\r\na=ice-pwd:password-of-${ufrag}\r\n`;

/** A browser's connection, as far as a session looks at it. */
class Peer extends EventTarget {
  static newest: Peer;
  connectionState = "new";
  localDescription: { sdp: string } | null = null;
  remote: string[] = [];
  servers: unknown = null;
  offers = 0;
  closed = false;
  refuses = false;
  transport = Object.assign(new EventTarget(), { state: "connected" });

  constructor() {
    super();
    Peer.newest = this;
  }
  createOffer = async () => ({ type: "offer", sdp: sdp(`offer${++this.offers}`) });
  setLocalDescription = async (description: { sdp: string }) => void (this.localDescription = description);
  setRemoteDescription = async (description: { sdp: string }) => {
    if (this.refuses) throw new Error("no such codec");
    this.remote.push(description.sdp);
  };
  getConfiguration = () => ({});
  setConfiguration = (configuration: unknown) => void (this.servers = configuration);
  getReceivers = () => [{ transport: this.transport }];
  getSenders = () => [];
  close = () => void (this.closed = true);

  become(state: string): void {
    this.connectionState = state;
    this.dispatchEvent(new Event("connectionstatechange"));
  }
  finds(candidate: string | null): void {
    this.dispatchEvent(Object.assign(new Event("icecandidate"), { candidate: candidate === null ? null : { candidate } }));
  }
}

type Asked = { method: string; match: string | null; body: string };
let page = new EventTarget();
let asked: Asked[] = [];
let patched: () => Response = () => new Response(null, { status: 204 });

beforeEach(() => {
  vi.useFakeTimers();
  asked = [];
  page = new EventTarget();
  patched = () => new Response(null, { status: 204 });
  vi.stubGlobal("RTCPeerConnection", Peer);
  vi.stubGlobal("addEventListener", page.addEventListener.bind(page));
  vi.stubGlobal("fetch", async (_: string, init: RequestInit) => {
    const method = init.method ?? "GET";
    asked.push({ method, match: new Headers(init.headers).get("if-match"), body: String(init.body ?? "") });
    if (method === "PATCH") return patched();
    const headers = { location: "http://node.example/live/whip/x/s1", etag: '"e1"', link: '<stun:s>; rel="ice-server"' };
    return method === "POST" ? new Response(sdp("server1"), { status: 201, headers }) : new Response(null, { status: 200 });
  });
});
afterEach(() => {
  vi.useRealTimers();
  vi.unstubAllGlobals();
});

const methods = (): string[] => asked.map(({ method }) => method);
const pass = (ms: number): Promise<unknown> => vi.advanceTimersByTimeAsync(ms);

/** Starts a session; `end` is how it ended, once it has. */
async function start(more: Partial<Plan> = {}): Promise<{ end: () => End | null; told: string[]; stop: () => void }> {
  const abort = new AbortController();
  const told: string[] = [];
  let end: End | null = null;
  void converse({
    url: "http://node.example/live/whip/x",
    bearer: "",
    signal: abort.signal,
    connectWithin: 5000,
    lingers: false,
    prepare: () => undefined,
    connected: () => told.push("connected"),
    disturbed: () => told.push("disturbed"),
    ...more,
  }).then((how) => (end = how));
  await pass(0);
  return { end: () => end, told, stop: () => abort.abort() };
}

test("connects with the servers of the answer, and stops when told to", async () => {
  const { end, told, stop } = await start();
  expect(Peer.newest.servers).toMatchObject({ iceServers: [{ urls: "stun:s" }] });
  expect(Peer.newest.remote).toEqual([sdp("server1")]);
  Peer.newest.become("connected");
  expect([told, end()]).toEqual([["connected"], null]);
  stop();
  await pass(0);
  expect([end(), methods(), Peer.newest.closed]).toEqual([{ kind: "stopped" }, ["POST", "DELETE"], true]);
});

test("without a connection in time it gives up, and ends the session on the server", async () => {
  const { end } = await start();
  await pass(5000);
  expect(end()).toEqual({ kind: "unconnected", reason: "WebRTC could not connect within 5 s." });
  expect(methods()).toEqual(["POST", "DELETE"]);
});

test("an answer that the browser does not take is unfit", async () => {
  const { end } = await start({ prepare: (peer) => void ((peer as unknown as Peer).refuses = true) });
  expect(end()).toMatchObject({ kind: "unfit", reason: expect.stringContaining("no such codec") });
});

test("candidates go together, under the session's tag", async () => {
  await start();
  Peer.newest.finds("candidate:1");
  Peer.newest.finds("candidate:2");
  Peer.newest.finds(null);
  await pass(100);
  expect(asked.slice(1)).toHaveLength(1);
  expect(asked[1]).toMatchObject({ method: "PATCH", match: '"e1"' });
  expect(asked[1]?.body).toContain("a=candidate:1\r\na=candidate:2\r\na=end-of-candidates\r\n");
});

test("silence restarts ICE, and the session goes on", async () => {
  const { end, told } = await start();
  Peer.newest.become("connected");
  patched = () => new Response("a=ice-ufrag:server2\r\na=ice-pwd:password-of-server2\r\n", { status: 200, headers: { etag: '"e2"' } });
  Peer.newest.become("disconnected");
  await pass(400);
  expect(asked.at(-1)).toMatchObject({ method: "PATCH", match: "*", body: expect.stringContaining("a=ice-ufrag:offer2") });
  expect(Peer.newest.remote.at(-1)).toBe(sdp("server2"));
  Peer.newest.become("connected");
  await pass(60_000);
  expect([end(), told]).toEqual([null, ["connected", "disturbed", "connected"]]);
  patched = () => new Response(null, { status: 204 });
  Peer.newest.finds("candidate:9");
  await pass(100);
  expect(asked.at(-1)).toMatchObject({ match: '"e2"', body: expect.stringContaining("a=ice-ufrag:offer2") });
});

test("candidates of before a restart are not sent after it", async () => {
  await start();
  Peer.newest.become("connected");
  patched = () => new Response(null, { status: 500 });
  Peer.newest.finds("candidate:1");
  page.dispatchEvent(new Event("online"));
  await pass(100);
  expect(asked.filter(({ body }) => body.includes("candidate:1"))).toEqual([]);
});

test("a blink is no reason to restart", async () => {
  await start();
  Peer.newest.become("connected");
  Peer.newest.become("disconnected");
  await pass(100);
  Peer.newest.become("connected");
  await pass(10_000);
  expect(methods()).toEqual(["POST"]);
});

test("a server that knows the session no more means broken, at once", async () => {
  const { end } = await start({ lingers: true });
  Peer.newest.become("connected");
  patched = () => new Response(null, { status: 404 });
  Peer.newest.become("disconnected");
  await pass(400);
  expect(end()).toEqual({ kind: "broken", reason: "The connection was lost." });
  // Its stream waits for us: it must not be ended.
  expect(methods()).not.toContain("DELETE");
});

const restartedTo = (ufrag: string) => (): Response => new Response(`a=ice-ufrag:${ufrag}\r\na=ice-pwd:password-of-${ufrag}\r\n`, { status: 200 });

test("two restarts that come to nothing are enough", async () => {
  const { end } = await start();
  Peer.newest.become("connected");
  patched = restartedTo("server2");
  Peer.newest.become("failed");
  await pass(7000);
  expect(end()).toBeNull();
  await pass(2000);
  expect(end()).toMatchObject({ kind: "broken" });
  expect(methods()).toEqual(["POST", "PATCH", "PATCH", "DELETE"]);
});

test("a server that does not answer is asked for three seconds", async () => {
  const { end } = await start();
  Peer.newest.become("connected");
  patched = () => {
    throw new TypeError("failed to fetch");
  };
  Peer.newest.become("failed");
  await pass(2900);
  expect(end()).toBeNull();
  await pass(1000);
  expect(end()).toMatchObject({ kind: "broken" });
});

test("another network restarts ICE while the old path still seems to work, each time anew", async () => {
  const { end, told } = await start();
  Peer.newest.become("connected");
  patched = restartedTo("server2");
  for (let times = 0; times < 5; times++) {
    page.dispatchEvent(new Event("online"));
    await pass(20_000);
  }
  expect(methods().filter((method) => method === "PATCH")).toHaveLength(5);
  expect([end(), told.at(-1)]).toEqual([null, "connected"]);
});

test("what the node ended is closed, without a word more", async () => {
  const { end } = await start();
  Peer.newest.become("connected");
  Peer.newest.transport.state = "closed";
  Peer.newest.transport.dispatchEvent(new Event("statechange"));
  await pass(0);
  expect([end(), methods()]).toEqual([{ kind: "closed" }, ["POST"]]);
});

test("a page that goes ends its session", async () => {
  await start();
  page.dispatchEvent(new Event("pagehide"));
  expect(methods()).toEqual(["POST", "DELETE"]);
});
