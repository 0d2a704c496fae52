// The addresses a stream is watched and published at, following Ant Media Server's URL layout.

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
}

const PASSED_ON = ["token", "subscriberId", "subscriberCode", "jwt"];

/**
 * Reads `/{app}/play.html?id=…`. Parameters are those of AMS's page: `id` (or `name`), `autoplay`, `mute`, and
 * `token`, `subscriberId`, `subscriberCode`; `debug=true` is ours; `playOrder` is accepted, and HLS is played whatever it says.
 */
export function readWatchRequest(path: string, search: string): WatchRequest {
  const params = new URLSearchParams(search);
  const app = decodeURIComponent(path.split("/")[1] ?? "");
  const id = params.get("id") ?? params.get("name") ?? "";
  const passed = new URLSearchParams();
  for (const name of PASSED_ON) {
    const value = params.get(name);
    if (value !== null && value !== "") passed.set(name, value);
  }
  const query = passed.size > 0 ? `?${passed}` : "";
  const request = { autoplay: params.get("autoplay") !== "false", muted: params.get("mute") === "true", debug: params.get("debug") === "true", query };
  if (!isAppName(app)) return { ...request, key: null, problem: "This page belongs under an application's path." };
  if (id === "") return { ...request, key: null, problem: "Add ?id= and the stream's id to the address of this page." };
  if (!isStreamId(id)) return { ...request, key: null, problem: "The stream id in the address of this page is not valid." };
  return { ...request, key: { app, id }, problem: "" };
}
