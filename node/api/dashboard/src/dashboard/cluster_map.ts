// Where everything is on the map of the cluster: origins at the left, edges at the right, a line for each way that
// streams go from node to node. Pure: a picture of given width, in CSS pixels.

import { arrangeNodes, placeKey, placeViewers, sourceOf, type Pick } from "./cluster";
import type { ClusterNode, StreamPlace } from "./types";

/** A stream in the box of its owner. */
export interface MapRow {
  key: string;
  place: StreamPlace;
  y: number;
}

/** A node. */
export interface MapBox {
  id: string;
  node: ClusterNode;
  side: "left" | "right";
  x: number;
  y: number;
  width: number;
  height: number;
  /** Its most watched streams. */
  rows: MapRow[];
  /** How many more it has. */
  more: number;
}

/** The streams that go from one node to another. */
export interface MapLink {
  key: string;
  from: string;
  to: string;
  streams: string[];
  path: string;
  thickness: number;
  label: { x: number; y: number };
  /** Whether there is room for its label beside those of the others. */
  roomy: boolean;
}

/** The whole. */
export interface ClusterMap {
  width: number;
  height: number;
  boxes: MapBox[];
  links: MapLink[];
}

/** The height of a box without streams, and of a stream in it. */
export const HEAD = 62;
export const ROW = 24;
const GAP = 18;
const EDGE = 2;
const PORT = 16;
const LABEL = 26;
/** A box grows for the lines that end at it, up to so many. */
const MOST_PORTS = 14;
/** From so many lines on all are thinner. */
const CROWD = 24;
/** All rows of all origins should not be much higher than this. */
const TALL = 560;

/** Draws the map. What is picked is on it, whatever else is left out. */
export function drawMap(nodes: readonly ClusterNode[], streams: readonly StreamPlace[], width: number, pick: Pick = null): ClusterMap {
  const owners = new Set(streams.map(({ owner }) => owner));
  const carriers = new Set(streams.flatMap((place) => place.carriers.map(({ node }) => node)));
  const shown = arrangeNodes(nodes).filter(({ id, status }) => status === "alive" || owners.has(id) || carriers.has(id));
  const isLeft = ({ id, role }: ClusterNode): boolean =>
    role === "origin" || (role !== "edge" && (owners.has(id) || !carriers.has(id))) || owners.has(id);
  const left = shown.filter(isLeft);
  const right = shown.filter((node) => !isLeft(node));

  const links = gatherLinks(shown, streams);
  const ports = new Map<string, number>();
  for (const { from, to } of links) for (const id of [from, to]) ports.set(id, (ports.get(id) ?? 0) + 1);

  const boxWidth = Math.round(Math.min(320, width * (right.length === 0 ? 0.6 : 0.38)));
  const rowsEach = Math.max(1, Math.min(8, Math.floor((TALL / Math.max(1, left.length) - HEAD - GAP) / ROW)));
  const place = (column: ClusterNode[], side: "left" | "right"): MapBox[] => {
    let y = EDGE;
    return column.map((node) => {
      const least = Math.max(HEAD, Math.min(MOST_PORTS, ports.get(node.id) ?? 0) * PORT + 12);
      const fits = Math.max(rowsEach, Math.floor((least - HEAD - 8) / ROW) - 1);
      const { rows, more } = side === "left" ? rowsOf(node.id, streams, fits, pick) : { rows: [], more: 0 };
      const lines = rows.length + (more > 0 ? 1 : 0);
      const height = Math.max(least, HEAD + lines * ROW + (lines > 0 ? 8 : 0));
      const box: MapBox = {
        id: node.id,
        node,
        side,
        x: side === "left" ? EDGE : width - boxWidth - EDGE,
        y,
        width: boxWidth,
        height,
        rows: rows.map((row, index) => ({ ...row, y: y + HEAD + index * ROW })),
        more,
      };
      y += height + GAP;
      return box;
    });
  };
  const columns = [place(left, "left"), place(right, "right")];
  const bottom = (column: MapBox[]): number => column.reduce((max, { y, height }) => Math.max(max, y + height), 0);
  const height = Math.max(...columns.map(bottom)) + EDGE;
  for (const column of columns) {
    const shift = Math.floor((height - EDGE - bottom(column)) / 2);
    for (const box of column) {
      box.y += shift;
      for (const row of box.rows) row.y += shift;
    }
  }
  const boxes = columns.flat();
  return { width, height, boxes, links: route(links, boxes, width - 2 * boxWidth) };
}

function rowsOf(owner: string, streams: readonly StreamPlace[], most: number, pick: Pick): { rows: MapRow[]; more: number } {
  const owned = streams
    .filter((place) => place.owner === owner)
    .map((place) => ({ key: placeKey(place), place, y: 0, viewers: placeViewers(place) }))
    .sort((a, b) => b.viewers - a.viewers || a.key.localeCompare(b.key, "en", { numeric: true }));
  // "1 more" takes as much room as that one.
  const fits = owned.length <= most + 1 ? owned.length : most;
  const rows = owned.slice(0, fits);
  const picked = pick?.kind === "stream" ? owned.slice(fits).find(({ key }) => key === pick.key) : undefined;
  if (picked !== undefined) rows.splice(-1, 1, picked);
  return { rows: rows.map(({ key, place, y }) => ({ key, place, y })), more: owned.length - rows.length };
}

interface Gathered {
  key: string;
  from: string;
  to: string;
  streams: string[];
}

function gatherLinks(nodes: readonly ClusterNode[], streams: readonly StreamPlace[]): Gathered[] {
  const known = new Set(nodes.map(({ id }) => id));
  const links = new Map<string, Gathered>();
  for (const place of streams) {
    for (const carrier of place.carriers) {
      const [from, to] = [sourceOf(place, carrier), carrier.node];
      if (from === null || from === to || !known.has(from) || !known.has(to)) continue;
      const key = JSON.stringify([from, to]);
      const link = links.get(key) ?? { key, from, to, streams: [] };
      link.streams.push(placeKey(place));
      links.set(key, link);
    }
  }
  return [...links.values()];
}

interface End {
  link: number;
  other: number;
  y: number;
}

/** Gives every link its own place at the side of both boxes, in the order in which the other ends are. */
function route(links: Gathered[], boxes: readonly MapBox[], between: number): MapLink[] {
  const byId = new Map(boxes.map((box) => [box.id, box]));
  const ends = new Map<string, End[]>();
  const add = (at: string, link: number, other: MapBox): void => {
    const end: End = { link, other: other.y + other.height / 2, y: 0 };
    ends.set(at, [...(ends.get(at) ?? []), end]);
  };
  const drawn = links.flatMap((link) => {
    const [from, to] = [byId.get(link.from), byId.get(link.to)];
    return from === undefined || to === undefined ? [] : [{ link, from, to }];
  });
  drawn.forEach(({ link, from, to }, index) => {
    add(link.from, index, to);
    add(link.to, index, from);
  });
  const roomy = new Map<string, boolean>();
  for (const [id, list] of ends) {
    const box = byId.get(id);
    if (box === undefined) continue;
    list.sort((a, b) => a.other - b.other || a.link - b.link);
    const step = box.height / (list.length + 1);
    roomy.set(id, step >= PORT - 1);
    list.forEach((end, index) => (end.y = round(box.y + step * (index + 1))));
  }
  const endOf = (id: string, index: number): number => ends.get(id)?.find(({ link }) => link === index)?.y ?? 0;
  return drawn.map(({ link, from, to }, index) => {
    const [y1, y2] = [endOf(from.id, index), endOf(to.id, index)];
    const inner = (box: MapBox): number => (box.side === "left" ? box.x + box.width : box.x);
    const [x1, x2] = [inner(from), inner(to)];
    const bulge = from.side === to.side ? Math.min(between * 0.7, 36 + Math.abs(y2 - y1) * 0.25) : Math.abs(x2 - x1) / 2;
    const c1 = x1 + (from.side === "left" ? bulge : -bulge);
    const c2 = x2 + (to.side === "left" ? bulge : -bulge);
    const label =
      from.side === to.side
        ? { x: round((x1 + 3 * c1) / 4), y: round((y1 + y2) / 2) }
        : { x: round(to.side === "right" ? x2 - LABEL : x2 + LABEL), y: y2 };
    return {
      ...link,
      path: `M${round(x1)},${y1}C${round(c1)},${y1} ${round(c2)},${y2} ${round(x2)},${y2}`,
      thickness: round(1.6 + Math.min(5, 0.9 * Math.log2(link.streams.length)) * Math.min(1, CROWD / drawn.length)),
      label,
      roomy: roomy.get(to.id) ?? true,
    };
  });
}

/** What belongs to the reader's pick; null when nothing is picked and all is equal. */
export function lit(map: ClusterMap, streams: readonly StreamPlace[], pick: Pick): { links: Set<string>; nodes: Set<string>; rows: Set<string> } | null {
  if (pick === null) return null;
  const links = map.links.filter((link) =>
    pick.kind === "node" ? link.from === pick.id || link.to === pick.id : link.streams.includes(pick.key),
  );
  const nodes = new Set(links.flatMap(({ from, to }) => [from, to]));
  const rows = new Set<string>();
  if (pick.kind === "node") {
    nodes.add(pick.id);
    for (const place of streams) {
      if (place.owner === pick.id || place.carriers.some(({ node }) => node === pick.id)) rows.add(placeKey(place));
    }
  } else {
    rows.add(pick.key);
    const owner = streams.find((place) => placeKey(place) === pick.key)?.owner;
    if (owner) nodes.add(owner);
  }
  return { links: new Set(links.map(({ key }) => key)), nodes, rows };
}

/** As much of a text as fits, where a letter is `letter` pixels wide. */
export function fit(text: string, width: number, letter: number): string {
  const most = Math.max(1, Math.floor(width / letter));
  return text.length <= most ? text : `${text.slice(0, Math.max(1, most - 1))}…`;
}

const round = (value: number): number => Math.round(value * 10) / 10;
