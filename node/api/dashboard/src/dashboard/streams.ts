// What the list of live streams shows and in which order. Pure.

import type { LiveStream } from "./types";

/** The columns that the list can be ordered by. */
export type Order = "name" | "bitrate" | "viewers" | "uptime";

/** Everyone who watches a stream. */
export const viewers = (stream: LiveStream): number =>
  (stream.hlsViewerCount || 0) + (stream.rtmpViewerCount || 0) + (stream.webRTCViewerCount || 0);

/** The viewers by protocol, in words. */
export function viewersInWords(stream: LiveStream): string {
  const parts = [
    ["HLS", stream.hlsViewerCount],
    ["RTMP", stream.rtmpViewerCount],
    ["WebRTC", stream.webRTCViewerCount],
  ] as const;
  const watched = parts.filter(([, n]) => n > 0).map(([name, n]) => `${n.toLocaleString("en")} ${name}`);
  return watched.length === 0 ? "nobody watches" : watched.join(", ");
}

/** How a stream is called: its name where it has one of its own. */
export const title = (stream: LiveStream): string => (stream.name && stream.name.trim() !== "" ? stream.name : stream.streamId);

/** The streams whose name, id or application contains `search`, in order; equal ones by name, so that rows stay put. */
export function arrange(streams: readonly LiveStream[], search: string, order: Order): LiveStream[] {
  const wanted = search.trim().toLowerCase();
  const found = streams.filter((stream) =>
    [stream.app, stream.streamId, stream.name ?? ""].some((text) => text.toLowerCase().includes(wanted)),
  );
  const byName = (a: LiveStream, b: LiveStream): number =>
    title(a).localeCompare(title(b), "en", { numeric: true }) ||
    a.app.localeCompare(b.app) ||
    a.streamId.localeCompare(b.streamId);
  const rules: Record<Order, (a: LiveStream, b: LiveStream) => number> = {
    name: byName,
    bitrate: (a, b) => b.bitrate - a.bitrate || byName(a, b),
    viewers: (a, b) => viewers(b) - viewers(a) || byName(a, b),
    uptime: (a, b) => a.startTime - b.startTime || byName(a, b),
  };
  return found.sort(rules[order]);
}
