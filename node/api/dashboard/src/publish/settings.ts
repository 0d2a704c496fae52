// What can be chosen on the publish page, and what a browser is asked for because of it. Pure.

import { readKey, type StreamKey } from "../player/address";

/** Where the picture comes from. */
export type Source = "camera" | "screen";

/** What is chosen. */
export interface Settings {
  source: Source;
  /** Device ids; "" is the browser's choice, and for the microphone `NONE` is none. */
  camera: string;
  microphone: string;
  /** Lines of the picture. */
  height: number;
  /** Bit/s of the picture; 0 is what suits its size. */
  bitrate: number;
  codec: CodecName;
  simulcast: boolean;
}

export const NONE = "none";

export const HEIGHTS = [360, 480, 720, 1080] as const;
export const BITRATES = [500_000, 1_000_000, 2_000_000, 3_000_000, 4_500_000, 6_000_000, 8_000_000] as const;

/** The codecs, the preferred one first. */
export const CODECS = [
  { name: "H264", label: "H.264" },
  { name: "VP8", label: "VP8" },
  { name: "VP9", label: "VP9" },
  { name: "AV1", label: "AV1" },
] as const;
export type CodecName = (typeof CODECS)[number]["name"];

export const DEFAULTS: Settings = { source: "camera", camera: "", microphone: "", height: 720, bitrate: 0, codec: "H264", simulcast: false };

const FRAME_RATE = 30;

/** The bitrate of a picture in bit/s: what was chosen, or what suits its size. */
export function bitrateOf({ bitrate, height }: Settings): number {
  if (bitrate > 0) return bitrate;
  if (height <= 360) return 800_000;
  if (height <= 480) return 1_200_000;
  return height <= 720 ? 2_500_000 : 4_500_000;
}

const video = ({ height }: Settings): MediaTrackConstraints => ({
  width: { ideal: Math.round((height * 16) / 9) },
  height: { ideal: height },
  frameRate: { ideal: FRAME_RATE, max: 60 },
});

/** What `getUserMedia` is asked for; `null` when nothing of it. */
export function deviceConstraints(settings: Settings): MediaStreamConstraints | null {
  const { source, camera, microphone } = settings;
  const picture = source === "camera" && { ...video(settings), ...(camera !== "" && { deviceId: { exact: camera } }) };
  const sound = microphone !== NONE && { ...(microphone !== "" && { deviceId: { exact: microphone } }), echoCancellation: true };
  return picture === false && sound === false ? null : { video: picture, audio: sound };
}

/** What `getDisplayMedia` is asked for; a screen is not enlarged. */
export const screenConstraints = (settings: Settings): DisplayMediaStreamOptions => ({
  video: { height: { max: settings.height }, frameRate: { ideal: FRAME_RATE } },
  audio: true,
});

// Browsers built on libwebrtc send no more layers of a smaller picture than these, and leave out the largest of those asked for.
const THREE_LAYERS_FROM = 960 * 540;
const TWO_LAYERS_FROM = 480 * 270;

/** The layers that are sent of a picture of so many pixels: one, or with simulcast up to three, the smallest first. */
export function encodings(settings: Settings, pixels: number): RTCRtpEncodingParameters[] {
  const whole = bitrateOf(settings);
  if (!settings.simulcast || pixels < TWO_LAYERS_FROM) return [{ maxBitrate: whole, maxFramerate: FRAME_RATE }];
  const layer = (rid: string, by: number, share: number): RTCRtpEncodingParameters => ({
    rid,
    scaleResolutionDownBy: by,
    maxBitrate: Math.max(100_000, Math.round(whole * share)),
    maxFramerate: FRAME_RATE,
    // Without this a browser makes one stream with spatial layers of several encodings in these codecs.
    ...((settings.codec === "VP9" || settings.codec === "AV1") && { scalabilityMode: "L1T1" }),
  });
  const halves = [layer("h", 2, 0.3), layer("f", 1, 1)];
  return pixels >= THREE_LAYERS_FROM ? [layer("q", 4, 0.08), ...halves] : halves;
}

/** The codec's formats out of the browser's, those with `packetization-mode=1` first, and what goes with any codec. Empty: it has none. */
export function preferred<C extends { mimeType: string; sdpFmtpLine?: string }>(capabilities: readonly C[], codec: CodecName): C[] {
  const named = (name: string): C[] => capabilities.filter(({ mimeType }) => mimeType.toLowerCase() === `video/${name.toLowerCase()}`);
  const wanted = named(codec);
  if (wanted.length === 0) return [];
  const whole = wanted.filter(({ sdpFmtpLine }) => sdpFmtpLine?.includes("packetization-mode=1"));
  return [...whole, ...wanted.filter((one) => !whole.includes(one)), ...named("rtx")];
}

/** The codecs that a browser can send. */
export const sendable = (capabilities: readonly { mimeType: string }[]): CodecName[] =>
  CODECS.filter(({ name }) => preferred(capabilities, name).length > 0).map(({ name }) => name);

/** What the publish page was asked for. */
export interface PublishRequest {
  key: StreamKey | null;
  /** Why there is no key. */
  problem: string;
  token: string;
  /** Query to pass on, with its `?`. */
  query: string;
  settings: Settings;
}

const PASSED_ON = ["subscriberId", "subscriberCode", "streamName", "mainTrack", "metaData", "jwt"];

/** Reads `/{app}/publish.html?id=…`: `token` and what goes with it as for AMS's WHIP; `source`, `height`, `codec`, `simulcast` are ours. */
export function readPublishRequest(path: string, search: string): PublishRequest {
  const params = new URLSearchParams(search);
  const passed = new URLSearchParams();
  for (const name of PASSED_ON) {
    const value = params.get(name);
    if (value !== null && value !== "") passed.set(name, value);
  }
  const height = HEIGHTS.find((one) => String(one) === params.get("height"));
  const codec = CODECS.find(({ name }) => name.toLowerCase() === params.get("codec")?.toLowerCase());
  return {
    ...readKey(path, params),
    token: params.get("token") ?? "",
    query: passed.size > 0 ? `?${passed}` : "",
    settings: {
      ...DEFAULTS,
      source: params.get("source") === "screen" ? "screen" : "camera",
      height: height ?? DEFAULTS.height,
      codec: codec?.name ?? DEFAULTS.codec,
      simulcast: params.get("simulcast") === "true",
    },
  };
}
