// A node of WebRTC that is not there: the pages, and WHIP and WHEP answered by Chromium itself in a tab of its own.
// `state` makes it refuse: { drainFor: seconds, taken, forbid, unfit } and counts { restarts, trickled, deleted }.

import { createServer } from "node:http";
import { pageOf } from "./fake_cluster.mjs";

/** Runs in the tab that plays the server. */
function engine() {
  const sessions = new Map();
  const published = new Map();
  let next = 0;
  const gathered = (peer) =>
    new Promise((resolve) => {
      const look = () => peer.iceGatheringState === "complete" && resolve();
      peer.addEventListener("icegatheringstatechange", look);
      look();
    });
  const answer = async (peer, sdp) => {
    await peer.setRemoteDescription({ type: "offer", sdp });
    await peer.setLocalDescription(await peer.createAnswer());
    await gathered(peer);
    return peer.localDescription.sdp;
  };
  const value = (sdp, name) => new RegExp(`a=${name}:(.*)`).exec(sdp)?.[1].trim();
  window.node = {
    isLive: (id) => published.has(id),
    async publish(id, offer) {
      const peer = new RTCPeerConnection();
      const media = new MediaStream();
      peer.addEventListener("track", ({ track }) => media.addTrack(track));
      const sdp = await answer(peer, offer);
      const session = `s${++next}`;
      sessions.set(session, { peer, id, offer, publishes: true });
      published.set(id, { media, session });
      return { sdp, session };
    },
    async play(id, offer) {
      const peer = new RTCPeerConnection();
      await peer.setRemoteDescription({ type: "offer", sdp: offer });
      for (const track of published.get(id).media.getTracks()) peer.addTrack(track);
      await peer.setLocalDescription(await peer.createAnswer());
      await gathered(peer);
      const session = `s${++next}`;
      sessions.set(session, { peer, id, offer, publishes: false });
      return { sdp: peer.localDescription.sdp, session };
    },
    async patch(session, fragment) {
      const found = sessions.get(session);
      if (found === undefined) return null;
      const [ufrag, pwd] = [value(fragment, "ice-ufrag"), value(fragment, "ice-pwd")];
      if (ufrag !== value(found.offer, "ice-ufrag")) {
        found.offer = found.offer.replace(/a=ice-ufrag:.*/g, `a=ice-ufrag:${ufrag}`).replace(/a=ice-pwd:.*/g, `a=ice-pwd:${pwd}`);
        const sdp = await answer(found.peer, found.offer);
        const lines = sdp.split("\r\n").filter((line) => /^a=(ice-ufrag|ice-pwd|candidate)/.test(line));
        return { fragment: `${[...new Set(lines)].join("\r\n")}\r\n` };
      }
      const candidates = fragment.split("\r\n").filter((line) => line.startsWith("a=candidate:"));
      for (const line of candidates) await found.peer.addIceCandidate({ candidate: line.slice(2), sdpMid: value(fragment, "mid") });
      return { candidates: candidates.length };
    },
    end(session) {
      const found = sessions.get(session);
      if (found === undefined) return false;
      found.peer.close();
      sessions.delete(session);
      if (published.get(found.id)?.session !== session) return true;
      published.delete(found.id);
      for (const [name, { peer, id }] of sessions) {
        if (id !== found.id) continue;
        peer.close();
        sessions.delete(name);
      }
      return true;
    },
    /** The connection breaks, as when a node dies. */
    break: () => [...sessions.values()].forEach(({ peer }) => peer.close()) || sessions.clear() || published.clear(),
  };
}

const readBody = async (request) => {
  let text = "";
  for await (const chunk of request) text += chunk;
  return text;
};

/** Serves the pages of `pages` (see fake_cluster.mjs), and sessions in `tab`; `state` is what a test may change and read. */
export async function serveRtc(tab, pages, state = {}) {
  Object.assign(state, { restarts: 0, trickled: 0, deleted: 0, tokens: [] });
  const open = async () => {
    await tab.goto(`${base}/empty`);
    await tab.evaluate(engine);
  };
  const session = async (request, response, path) => {
    const [, app, kind, id, name] = /^\/([^/]+)\/(whip|whep)\/([^/]+)(?:\/([^/]+))?$/.exec(path);
    const say = (status, text, headers = {}) => response.writeHead(status, { "content-type": "text/plain", ...headers }).end(text);
    if (name === undefined) {
      state.tokens.push(request.headers.authorization ?? "");
      const offer = await readBody(request);
      if (state.drainFor) return say(503, "This node drains: it takes no new sessions.", { "retry-after": String(state.drainFor) });
      if (state.forbid) return say(403, "The token is not valid for this stream.");
      if (state.unfit) return say(406, "The stream has HEVC, which this browser did not offer.");
      if (kind === "whip" && (state.taken || (await tab.evaluate((one) => window.node.isLive(one), id)))) return say(409, `Stream ${id} is being published already.`);
      if (kind === "whep" && !(await tab.evaluate((one) => window.node.isLive(one), id))) return say(404, "Nobody publishes it.");
      const made = await tab.evaluate(([what, one, sdp]) => window.node[what](one, sdp), [kind === "whip" ? "publish" : "play", id, offer]);
      response.writeHead(201, { "content-type": "application/sdp", location: `/${app}/${kind}/${id}/${made.session}`, etag: `"${made.session}"` });
      return response.end(made.sdp);
    }
    if (request.method === "DELETE") {
      state.deleted++;
      return say((await tab.evaluate((one) => window.node.end(one), name)) ? 200 : 404, "");
    }
    if (request.method !== "PATCH") return say(405, "");
    const done = await tab.evaluate(([one, text]) => window.node.patch(one, text), [name, await readBody(request)]);
    if (done === null) return say(404, "There is no such session.");
    if (done.fragment === undefined) {
      state.trickled += done.candidates;
      return response.writeHead(204).end();
    }
    state.restarts++;
    response.writeHead(200, { "content-type": "application/trickle-ice-sdpfrag", etag: `"${name}-${state.restarts}"` }).end(done.fragment);
  };
  const server = createServer(async (request, response) => {
    try {
      const path = new URL(request.url, "http://node").pathname;
      if (/^\/[^/]+\/(whip|whep)\//.test(path)) return await session(request, response, path);
      if (path === "/empty") return response.writeHead(200, { "content-type": "text/html" }).end("<!doctype html><title>node</title>");
      // A node has them under each app; in `dist/` they are once.
      const name = pages.startsWith("http") ? path : path.replace(/^\/[^/]+\/(play|publish)\.html$/, "/$1.html");
      const page = await pageOf(pages, name).catch(() => null);
      if (page === null) response.writeHead(404).end();
      else response.writeHead(200, page.headers).end(page.body);
    } catch (error) {
      response.writeHead(500).end(error.message);
    }
  });
  await new Promise((resolve) => server.listen(0, "127.0.0.1", resolve));
  const base = `http://127.0.0.1:${server.address().port}`;
  await open();
  return { base, state, break: () => tab.evaluate(() => window.node.break()), close: () => server.close() };
}
