import { expect, test } from "vitest";
import { arrangeNodes, findStreams, nodeState, placeViewers, streamsOf, summary } from "./cluster";
import { drawMap, fit, lit } from "./cluster_map";
import type { ClusterNode, StreamPlace } from "./types";

const node = (id: string, role = "edge", more: Partial<ClusterNode> = {}): ClusterNode => ({
  id,
  ip: id,
  lastUpdateTime: 0,
  status: "alive",
  this: false,
  role,
  group: "default",
  version: "1",
  reachable: true,
  draining: false,
  cpuPercent: 0,
  memoryPercent: 0,
  streams: 0,
  relayed: 0,
  viewers: 0,
  bytesIn: 0,
  bytesOut: 0,
  encoderSessions: 0,
  storeMs: 1,
  capacityStreams: 0,
  ...more,
});

const place = (streamId: string, owner: string | null, carriers: [node: string, ...path: string[]][] = [], hls = 0): StreamPlace => ({
  app: "live",
  streamId,
  epoch: 1,
  owner,
  interrupted: false,
  bitrate: 1000,
  viewers: { hls, rtmp: 0 },
  carriers: carriers.map(([name, ...path]) => ({ node: name, path, viewers: { hls: 2, rtmp: 1 } })),
});

test("the worst is said of a node", () => {
  expect(nodeState(node("a")).word).toBe("Alive");
  expect(nodeState(node("a", "edge", { draining: true })).word).toBe("Draining");
  expect(nodeState(node("a", "edge", { draining: true, reachable: false })).word).toBe("Link down");
  expect(nodeState(node("a", "edge", { status: "dead", draining: true })).word).toBe("Dead");
});

test("origins come first, the dead last, names as people count", () => {
  const nodes = [node("e10"), node("e2"), node("b", "both"), node("o", "origin", { group: "z" }), node("d", "origin", { status: "dead" })];
  expect(arrangeNodes(nodes).map(({ id }) => id)).toEqual(["o", "b", "e2", "e10", "d"]);
});

test("figures of the whole", () => {
  const streams = [place("a", "o", [["e1", "o"], ["e2", "o", "e1"]], 4), place("b", null, [["e1", "o"]])];
  expect(streams.map(placeViewers)).toEqual([10, 3]);
  expect(summary([node("o"), node("x", "edge", { status: "dead" })], streams)).toEqual({ alive: 1, dead: 1, streams: 1, viewers: 13 });
  expect(findStreams(streams, "LIVE/").map(({ streamId }) => streamId)).toEqual(["a", "b"]);
  expect(findStreams(streams, "b")).toHaveLength(1);
  const { owned, fetched } = streamsOf("e2", streams);
  expect([owned.length, fetched.map(({ from }) => from)]).toEqual([0, ["e1"]]);
});

const NODES = [node("o1", "origin"), node("o2", "origin"), node("e1"), node("e2"), node("gone", "edge", { status: "dead" })];
const STREAMS = [place("a", "o1", [["e1", "o1"], ["e2", "o1", "e1"]]), place("b", "o1", [["e1", "o1"]]), place("c", "o2", [["e2", "o2"]])];

test("a line is what goes from one node to the next, chains included", () => {
  const map = drawMap(NODES, STREAMS, 1000);
  const lines = map.links.map(({ from, to, streams }) => `${from}>${to} ${streams.join()}`);
  expect(lines.sort()).toEqual(["e1>e2 live/a", "o1>e1 live/a,live/b", "o2>e2 live/c"]);
  expect(map.boxes.map(({ id, side }) => `${id} ${side}`)).toEqual(["o1 left", "o2 left", "e1 right", "e2 right"]);
  for (const { path } of map.links) expect(path).toMatch(/^M[-\d.,]+C[-\d., ]+$/);
});

test("a node that does both is where its streams make it be", () => {
  const side = (streams: StreamPlace[]): string | undefined =>
    drawMap([node("x", "both"), node("y", "both")], streams, 800).boxes.find(({ id }) => id === "x")?.side;
  expect(side([])).toBe("left");
  expect(side([place("a", "x")])).toBe("left");
  expect(side([place("a", "y", [["x", "y"]])])).toBe("right");
  expect(side([place("a", "y", [["x", "y"]]), place("b", "x")])).toBe("left");
});

test("boxes lie apart and within the picture, whatever the size of the cluster", () => {
  for (const [origins, edges, streams, width] of [
    [1, 1, 1, 300],
    [2, 3, 500, 340],
    [8, 12, 60, 1200],
    [20, 0, 3, 900],
    [0, 3, 0, 900],
    [0, 0, 0, 100],
  ] as const) {
    const left = Array.from({ length: origins }, (_, n) => node(`o${n}`, "origin"));
    const right = Array.from({ length: edges }, (_, n) => node(`e${n}`));
    const places = left.flatMap(({ id }) =>
      Array.from({ length: streams }, (_, n) => place(`${id}-${n}`, id, right.map((edge) => [edge.id, id]))),
    );
    const { boxes, height } = drawMap([...left, ...right], places, width);
    expect(boxes).toHaveLength(origins + edges);
    boxes.forEach((a, i) => {
      expect(a.x >= 0 && a.x + a.width <= width && a.y >= 0 && a.y + a.height <= height).toBe(true);
      for (const row of a.rows) expect(row.y + 20 <= a.y + a.height).toBe(true);
      for (const b of boxes.slice(i + 1)) {
        expect(a.x < b.x + b.width && b.x < a.x + a.width && a.y < b.y + b.height && b.y < a.y + a.height).toBe(false);
      }
    });
  }
});

test("few streams are shown of many, the picked one among them", () => {
  const many = Array.from({ length: 50 }, (_, n) => place(`s${n}`, "o1", [], 100 - n));
  const box = drawMap([node("o1", "origin")], many, 800).boxes[0];
  expect([box?.rows[0]?.key, (box?.rows.length ?? 0) + (box?.more ?? 0)]).toEqual(["live/s0", 50]);
  const picked = drawMap([node("o1", "origin")], many, 800, { kind: "stream", key: "live/s49" }).boxes[0];
  expect(picked?.rows.at(-1)?.key).toBe("live/s49");
  expect(picked?.height).toBe(box?.height);
});

test("what is picked is lit with its ways", () => {
  const map = drawMap(NODES, STREAMS, 1000);
  expect(lit(map, STREAMS, null)).toBeNull();
  const stream = lit(map, STREAMS, { kind: "stream", key: "live/a" });
  expect([...(stream?.nodes ?? [])].sort()).toEqual(["e1", "e2", "o1"]);
  expect(stream?.links.size).toBe(2);
  const origin = lit(map, STREAMS, { kind: "node", id: "o2" });
  expect([...(origin?.nodes ?? [])].sort()).toEqual(["e2", "o2"]);
  expect([...(origin?.rows ?? [])]).toEqual(["live/c"]);
});

test("long names are cut", () => {
  expect(fit("abcdefgh", 50, 10)).toBe("abcd…");
  expect(fit("abc", 50, 10)).toBe("abc");
  expect(fit("abc", 0, 10)).toBe("a…");
});
