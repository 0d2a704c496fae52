// The addresses a stream is watched and published at, following Ant Media Server's URL layout.

import type { Way } from "./phase";

/** An application and a stream id: what names a stream on a node. */
export interface StreamKey {
  app: string;
  id: string;
}

const NAME = /^[A-Za-z0-9_-]+$/;
// Ids may contain a slash: AMS keeps a stream in a sub folder under one.
const ID = /^[A-Za-z0-9_.-]+(?:\/[A-Za-z0-9_.-]+)*$/;

/** Whether `app` can be the name of an application. */
export const isAppName = (app: string): boolean => NAME.test(app);

/** Whether `id` can be a stream id; dot segments cannot leave the application's folder. */
export const isStreamId = (id: string): boolean =>
  ID.test(id) && id.split("/").every((part) => part !== "." && part !== "..");

/** The HLS master playlist with all renditions; there only when the stream has some. */
export const adaptivePlaylist = ({ app, id }: StreamKey, query = ""): string =>
  `/${app}/streams/${id}_adaptive.m3u8${query}`;

/** The HLS master playlist of the stream as it was published. */
export const plainPlaylist = ({ app, id }: StreamKey, query = ""): string => `/${app}/streams/${id}.m3u8${query}`;

/** Where a stream is published by WebRTC (WHIP). */
export const whipEndpoint = ({ app, id }: StreamKey, query = ""): string => `/${app}/whip/${encodeURIComponent(id)}${query}`;

/** Where a stream is played by WebRTC (WHEP). */
export const whepEndpoint = ({ app, id }: StreamKey, query = ""): string => `/${app}/whep/${encodeURIComponent(id)}${query}`;

/** The page that publishes from a camera or screen. */
export const publishPage = ({ app, id }: StreamKey): string => `/${app}/publish.html?id=${encodeURIComponent(id)}`;

/** The watch page of a stream. */
export const watchPage = ({ app, id }: StreamKey): string => `/${app}/play.html?id=${encodeURIComponent(id)}`;

/** The RTMP address; the default port is left out, IPv6 addresses keep their brackets. */
export const rtmpAddress = ({ app, id }: StreamKey, hostname: string, port = 1935): string =>
  `${rtmpServer(app, hostname, port)}/${id}`;

/** What OBS calls "Server": the RTMP address without the stream id. */
export const rtmpServer = (app: string, hostname: string, port = 1935): string =>
  `rtmp://${hostname}${port === 1935 ? "" : `:${port}`}/${app}`;

/** What the watch page was asked to show. */
export interface WatchRequest {
  key: StreamKey | null;
  /** Why there is no key, as a sentence for the viewer. */
  problem: string;
  autoplay: boolean;
  muted: boolean;
  /** Whether to write what hls.js does to the browser's console. */
  debug: boolean;
  /** Query to pass on to the playlists: tokens and subscriber ids. */
  query: string;
  /** What the address wants it played by; null when it does not say. */
  way: Way | null;
}

const PASSED_ON = ["token", "subscriberId", "subscriberCode", "jwt"];

/** What the address says to play by: our `mode`, or the first of AMS's `playOrder` that there is here. */
function wayOf(params: URLSearchParams): Way | null {
  const mode = params.get("mode");
  if (mode === "webrtc") return "webrtc";
  if (mode !== null) return "hls";
  const first = (params.get("playOrder") ?? "").split(",").map((name) => name.trim()).find((name) => name === "webrtc" || name === "hls");
  return (first as Way | undefined) ?? null;
}

/** Takes the token out of a query, for where it goes into a header. */
export function splitToken(query: string): { token: string; rest: string } {
  const params = new URLSearchParams(query);
  const token = params.get("token") ?? "";
  params.delete("token");
  return { token, rest: params.size > 0 ? `?${params}` : "" };
}

/** The stream that a page's path and query name, or the sentence that says what is wrong with them. */
export function readKey(path: string, params: URLSearchParams): { key: StreamKey; problem: "" } | { key: null; problem: string } {
  const refuse = (problem: string): { key: null; problem: string } => ({ key: null, problem });
  let app: string;
  try {
    app = decodeURIComponent(path.split("/")[1] ?? "");
  } catch {
    app = "";
  }
  const id = params.get("id") ?? params.get("name") ?? "";
  if (!isAppName(app)) return refuse("This page belongs under an application's path.");
  if (id === "") return refuse("Add ?id= and the stream's id to the address of this page.");
  if (!isStreamId(id)) return refuse("The stream id in the address of this page is not valid.");
  return { key: { app, id }, problem: "" };
}

/**
 * Reads `/{app}/play.html?id=…`. Parameters are those of AMS's page: `id` (or `name`), `autoplay`, `mute`, and
 * `token`, `subscriberId`, `subscriberCode`, and `playOrder`; `debug=true` and `mode=webrtc` or `mode=auto` are ours.
 */
export function readWatchRequest(path: string, search: string): WatchRequest {
  const params = new URLSearchParams(search);
  const passed = new URLSearchParams();
  for (const name of PASSED_ON) {
    const value = params.get(name);
    if (value !== null && value !== "") passed.set(name, value);
  }
  return {
    ...readKey(path, params),
    autoplay: params.get("autoplay") !== "false",
    muted: params.get("mute") === "true",
    debug: params.get("debug") === "true",
    query: passed.size > 0 ? `?${passed}` : "",
    way: wayOf(params),
  };
}
