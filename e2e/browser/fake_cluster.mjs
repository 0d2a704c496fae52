// A node of a cluster that is not there: the dashboard's pages, and the calls that the cluster's page makes.

import { createServer } from "node:http";
import { readFile } from "node:fs/promises";
import { extname, join, normalize } from "node:path";
import { fileURLToPath } from "node:url";

const DIST = fileURLToPath(new URL("../../node/api/dashboard/dist", import.meta.url));
const TYPES = { ".html": "text/html", ".js": "text/javascript", ".css": "text/css", ".svg": "image/svg+xml" };

/** `origins` nodes with `streams` each, `edges` that fetch some of them, the last one through another edge. */
export function cluster({ origins = 2, edges = 3, streams = 8 } = {}) {
  const node = (id, role, more) => ({
    id,
    ip: `${id}.example`,
    host: `${id}.example`,
    lastUpdateTime: Date.now() - 700,
    memory: "2048/8192",
    cpu: "20",
    dbQueryAveargeTimeMs: 3,
    status: "alive",
    this: id === "origin-1",
    role,
    group: "default",
    version: "0.1.0",
    alive: true,
    reachable: true,
    draining: false,
    cpuPercent: 20,
    memoryPercent: 25,
    streams: 0,
    relayed: 0,
    viewers: 0,
    bytesIn: 0,
    bytesOut: 0,
    encoderSessions: 0,
    storeMs: 2.6,
    capacityStreams: 1000,
    ...more,
  });
  const nodes = [];
  for (let n = 1; n <= origins; n++) nodes.push(node(`origin-${n}`, "origin", { cpuPercent: 31 + 7 * n, memoryPercent: 40 }));
  for (let n = 1; n <= edges; n++) nodes.push(node(`edge-${n}`, "edge", { cpuPercent: 12 * n, group: n > edges / 2 ? "west" : "default" }));
  nodes.push(node("edge-old", "edge", { status: "dead", alive: false, reachable: false, lastUpdateTime: Date.now() - 130_000 }));
  const places = [];
  for (let o = 1; o <= origins; o++) {
    for (let s = 1; s <= streams; s++) {
      const carriers = [];
      for (let e = 1; e <= edges; e++) {
        if ((s * 7 + e * 3 + o) % 4 === 0) continue;
        const path = e === edges && edges > 2 ? [`origin-${o}`, `edge-${e - 1}`] : [`origin-${o}`];
        carriers.push({ node: `edge-${e}`, path, viewers: { hls: (s * 37 * e) % 211, rtmp: s % 3 } });
      }
      places.push({
        app: "LiveApp",
        streamId: s === 1 ? `a-stream-with-quite-a-long-name-${o}` : `cam${o}-${s}`,
        epoch: 2 ** 32,
        owner: `origin-${o}`,
        interrupted: s === 3,
        bitrate: 2_500_000 + s * 100_000,
        viewers: { hls: 0, rtmp: s === 2 ? 1 : 0 },
        carriers,
      });
    }
  }
  for (const one of nodes) {
    one.streams = places.filter(({ owner }) => owner === one.id).length;
    const fetched = places.flatMap(({ carriers }) => carriers.filter((carrier) => carrier.node === one.id));
    one.relayed = fetched.length;
    one.viewers = fetched.reduce((sum, { viewers }) => sum + viewers.hls + viewers.rtmp, 0);
    one.bytesIn = (one.streams + one.relayed) * 350_000;
    one.bytesOut = one.viewers * 350_000;
  }
  return { nodes, places, away: false, alone: false };
}

/** A page from a running node, or from `dist/`; null when there is none. */
export async function pageOf(pages, path) {
  if (pages.startsWith("http")) {
    const answer = await fetch(pages + path);
    if (!answer.ok) return null;
    const { headers } = answer;
    return {
      body: Buffer.from(await answer.arrayBuffer()),
      headers: { "content-type": headers.get("content-type"), "content-security-policy": headers.get("content-security-policy") },
    };
  }
  const file = normalize(join(DIST, path === "/" ? "index.html" : path));
  if (!file.startsWith(DIST)) return null;
  // As strict as the node itself: nothing inline.
  const policy = "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data:; connect-src 'self'";
  return {
    body: await readFile(file),
    headers: { "content-type": TYPES[extname(file)] ?? "application/octet-stream", "content-security-policy": policy },
  };
}

/** Serves it, with the pages of the node at the address `pages`, else those in `dist/`; answers `{ base, close }`. */
export async function serve(state, pages) {
  const result = (success, message = "") => ({ success, message, dataId: "", errorId: 0 });
  const answer = (method, path) => {
    const [, id, drain] = /^\/rest\/v2\/cluster\/node\/([^/]+)(\/drain)?$/.exec(path) ?? [];
    if (id !== undefined) {
      const node = state.nodes.find((one) => one.id === decodeURIComponent(id));
      if (node === undefined) return result(false, `there is no node ${id} in this cluster`);
      if (drain !== undefined) node.draining = method === "POST";
      else if (node.alive) return result(false, `node ${id} is alive`);
      else state.nodes.splice(state.nodes.indexOf(node), 1);
      return result(true);
    }
    if (path.startsWith("/rest/v2/cluster/nodes/")) return state.alone ? [] : state.nodes;
    if (path === "/rest/v2/cluster/streams") return state.alone ? [] : state.places;
    if (path === "/rest/v2/live-streams" || path === "/rest/v2/applications-info") return [];
    if (path === "/rest/v2/system-resources") return { instanceId: "origin-1", "host-address": "origin-1.example" };
    if (path === "/readyz") {
      return {
        ready: true,
        accepting: true,
        reason: null,
        draining: false,
        store: { answers: !state.away, awayMs: state.away ? 12_000 : null },
        cluster: state.alone ? null : { mode: "mongodb", alive: state.nodes.length - 1, dead: 1 },
      };
    }
    return undefined;
  };
  const server = createServer(async (request, response) => {
    const path = new URL(request.url, "http://node").pathname;
    const found = answer(request.method, path);
    if (found !== undefined) {
      response.writeHead(200, { "content-type": "application/json" }).end(JSON.stringify(found));
      return;
    }
    const page = await pageOf(pages, path).catch(() => null);
    if (page === null) {
      response.writeHead(404, { "content-type": "application/json" }).end(JSON.stringify(result(false, `nothing is at ${path}`)));
    } else {
      response.writeHead(200, page.headers).end(page.body);
    }
  });
  await new Promise((resolve) => server.listen(0, "127.0.0.1", resolve));
  return { base: `http://127.0.0.1:${server.address().port}`, close: () => server.close() };
}
