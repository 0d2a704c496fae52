// The pages of the dashboard, told apart by the part of the address behind '#'.

import { isAppName, isStreamId, type StreamKey } from "../player/address";

/** One page. */
export type Route = { page: "streams" } | { page: "stream"; key: StreamKey } | { page: "cluster" } | { page: "unknown"; path: string };

/** Reads `#/`, `#/streams/{app}/{id}`, `#/cluster`. */
export function parseRoute(hash: string): Route {
  const path = hash.replace(/^#/, "").split("?")[0] ?? "";
  const parts = path.split("/").filter((part) => part !== "");
  if (parts.length === 0 || (parts.length === 1 && parts[0] === "streams")) return { page: "streams" };
  if (parts.length === 1 && parts[0] === "cluster") return { page: "cluster" };
  const [page, app, id] = parts.map(decode);
  if (page === "streams" && parts.length === 3 && app && id && isAppName(app) && isStreamId(id)) {
    return { page: "stream", key: { app, id } };
  }
  return { page: "unknown", path };
}

/** The address of a stream's page. */
export const streamRoute = ({ app, id }: StreamKey): string => `#/streams/${encodeURIComponent(app)}/${encodeURIComponent(id)}`;

function decode(part: string): string {
  try {
    return decodeURIComponent(part);
  } catch {
    return "";
  }
}
