// What the cluster's pages say about nodes and streams. Pure.

import type { ClusterNode, StreamPlace, ViewerCounts } from "./types";

/** What the reader has picked on the map. */
export type Pick = { kind: "node"; id: string } | { kind: "stream"; key: string } | null;

/** The name of a stream on the map. */
export const placeKey = ({ app, streamId }: StreamPlace): string => `${app}/${streamId}`;

/** How a node is, in a word, and how much that should worry. */
export interface NodeState {
  word: "Alive" | "Draining" | "Link down" | "Dead";
  tone: "good" | "warn" | "bad";
  /** More about it, for those who ask. */
  hint: string;
}

/** The worst that can be said of a node. */
export function nodeState(node: ClusterNode): NodeState {
  if (node.status !== "alive") return { word: "Dead", tone: "bad", hint: "Nothing has been heard of it for a while" };
  if (!node.reachable) {
    return { word: "Link down", tone: "warn", hint: "Its heartbeat is heard, but the node that answers you has no link to it" };
  }
  if (node.draining) return { word: "Draining", tone: "warn", hint: "It takes no new publishers and viewers" };
  return { word: "Alive", tone: "good", hint: "It works" };
}

const natural = (a: string, b: string): number => a.localeCompare(b, "en", { numeric: true });

const ROLES = ["origin", "both", "edge"];

/** Origins first, then edges, those that are dead last; by group and name. */
export function arrangeNodes(nodes: readonly ClusterNode[]): ClusterNode[] {
  const rank = ({ role, status }: ClusterNode): number => (status === "alive" ? ROLES.indexOf(role) : ROLES.length);
  return [...nodes].sort((a, b) => rank(a) - rank(b) || natural(a.group, b.group) || natural(a.id, b.id));
}

/** The viewers of all protocols. */
export const allViewers = ({ hls, rtmp, webrtc = 0 }: ViewerCounts): number => hls + rtmp + webrtc;

/** Everyone who watches a stream, on all nodes. */
export const placeViewers = (place: StreamPlace): number =>
  place.carriers.reduce((sum, { viewers }) => sum + allViewers(viewers), allViewers(place.viewers));

/** The node that a carrier fetches a stream from. */
export const sourceOf = (place: StreamPlace, carrier: StreamPlace["carriers"][number]): string | null =>
  carrier.path.at(-1) ?? place.owner;

/** The streams that are called like this, the most watched first. */
export function findStreams(streams: readonly StreamPlace[], search: string): StreamPlace[] {
  const wanted = search.trim().toLowerCase();
  return streams
    .filter((place) => placeKey(place).toLowerCase().includes(wanted))
    .sort((a, b) => placeViewers(b) - placeViewers(a) || natural(placeKey(a), placeKey(b)));
}

/** What a node has to do with streams: those that it owns, and those that it fetches with the node they come from. */
export function streamsOf(id: string, streams: readonly StreamPlace[]): { owned: StreamPlace[]; fetched: { place: StreamPlace; from: string | null }[] } {
  const fetched = streams.flatMap((place) =>
    place.carriers.filter(({ node }) => node === id).map((carrier) => ({ place, from: sourceOf(place, carrier) })),
  );
  return { owned: streams.filter(({ owner }) => owner === id), fetched };
}

/** A whole of the cluster's figures. */
export function summary(nodes: readonly ClusterNode[], streams: readonly StreamPlace[]): { alive: number; dead: number; streams: number; viewers: number } {
  const alive = nodes.filter(({ status }) => status === "alive").length;
  return {
    alive,
    dead: nodes.length - alive,
    streams: streams.filter(({ owner }) => owner !== null).length,
    viewers: streams.reduce((sum, place) => sum + placeViewers(place), 0),
  };
}
