// What a browser's statistics (W3C webrtc-stats) say of a session, in figures for people. Pure.

/** One entry of a report; every field may be missing. */
export interface Entry {
  type: string;
  id: string;
  timestamp?: number;
  [name: string]: unknown;
}

/** Figures of what is received. Null where the browser tells nothing. */
export interface Received {
  /** Bit/s, all media. */
  bitrate: number | null;
  /**
   * Seconds that a picture takes from the node to the screen, estimated: the time that frames wait in the jitter buffer, and
   * half the round trip. The publisher's side is not in it.
   */
  delay: number | null;
  /** Seconds. */
  rtt: number | null;
  /** Packets, since the start. */
  lost: number;
  decoded: number | null;
  dropped: number | null;
  width: number;
  height: number;
  codec: string | null;
}

/** Figures of what is sent. */
export interface Sent {
  /** Bit/s, all media. */
  bitrate: number | null;
  /** Seconds. */
  rtt: number | null;
  /** The share of packets that the other side misses, 0 to 1. */
  lost: number | null;
  /** Simulcast layers that are being sent, the largest first. */
  layers: { height: number; width: number; fps: number }[];
  codec: string | null;
  /** What holds the quality down: "cpu", "bandwidth", "other"; null when nothing does. */
  limited: string | null;
}

/** What the next report is compared with. */
export interface Sample {
  at: number;
  bytes: number;
  waited: number;
  played: number;
}

const number = (entry: Entry | undefined, name: string): number | null => {
  const value = entry?.[name];
  return typeof value === "number" && Number.isFinite(value) ? value : null;
};
const sum = (entries: readonly Entry[], name: string): number => entries.reduce((all, entry) => all + (number(entry, name) ?? 0), 0);

function rttOf(entries: readonly Entry[]): number | null {
  const transport = entries.find(({ type }) => type === "transport");
  const chosen = transport?.["selectedCandidatePairId"];
  const pair = entries.find(
    (entry) => entry.type === "candidate-pair" && (entry.id === chosen || (chosen === undefined && entry["nominated"] === true && entry["state"] === "succeeded")),
  );
  return number(pair, "currentRoundTripTime");
}

function codecOf(entries: readonly Entry[], media: Entry | undefined): string | null {
  const type = entries.find(({ id }) => id === media?.["codecId"])?.["mimeType"];
  return typeof type === "string" ? (type.split("/")[1] ?? null) : null;
}

const perSecond = (now: number, before: number, ms: number): number | null => (ms > 0 && now >= before ? ((now - before) * 1000) / ms : null);

/** Reads a report of a receiving session; `before` is what the last reading answered. */
export function received(report: Iterable<Entry>, before: Sample | null): { figures: Received; sample: Sample } {
  const entries = [...report];
  const inbound = entries.filter(({ type }) => type === "inbound-rtp");
  const video = inbound.find((entry) => entry["kind"] === "video");
  const paced = video ?? inbound[0];
  const sample: Sample = {
    at: inbound[0]?.timestamp ?? 0,
    bytes: sum(inbound, "bytesReceived"),
    waited: number(paced, "jitterBufferDelay") ?? 0,
    played: number(paced, "jitterBufferEmittedCount") ?? 0,
  };
  const rtt = rttOf(entries);
  const played = before === null ? sample.played : sample.played - before.played;
  const waited = before === null ? sample.waited : sample.waited - before.waited;
  const figures: Received = {
    bitrate: before === null ? null : perSecond(sample.bytes * 8, before.bytes * 8, sample.at - before.at),
    delay: played > 0 && waited >= 0 ? waited / played + (rtt ?? 0) / 2 : null,
    rtt,
    lost: Math.max(0, sum(inbound, "packetsLost")),
    decoded: number(video, "framesDecoded"),
    dropped: number(video, "framesDropped"),
    width: number(video, "frameWidth") ?? 0,
    height: number(video, "frameHeight") ?? 0,
    codec: codecOf(entries, video),
  };
  return { figures, sample };
}

/** Reads a report of a sending session; `before` is what the last reading answered. */
export function sent(report: Iterable<Entry>, before: Sample | null): { figures: Sent; sample: Sample } {
  const entries = [...report];
  const outbound = entries.filter(({ type }) => type === "outbound-rtp");
  const videos = outbound.filter((entry) => entry["kind"] === "video");
  const losses = entries
    .filter((entry) => entry.type === "remote-inbound-rtp" && entry["kind"] === "video")
    .map((entry) => number(entry, "fractionLost"))
    .filter((loss) => loss !== null);
  const sample: Sample = { at: outbound[0]?.timestamp ?? 0, bytes: sum(outbound, "bytesSent"), waited: 0, played: 0 };
  const layers = videos
    .filter((entry) => entry["active"] !== false && (number(entry, "framesPerSecond") ?? 0) > 0 && (number(entry, "frameHeight") ?? 0) > 0)
    .map((entry) => ({ height: number(entry, "frameHeight") ?? 0, width: number(entry, "frameWidth") ?? 0, fps: number(entry, "framesPerSecond") ?? 0 }))
    .sort((a, b) => b.height - a.height);
  const reasons = videos.map((entry) => entry["qualityLimitationReason"]).filter((reason) => typeof reason === "string" && reason !== "none");
  const figures: Sent = {
    bitrate: before === null ? null : perSecond(sample.bytes * 8, before.bytes * 8, sample.at - before.at),
    rtt: rttOf(entries),
    lost: losses.length === 0 ? null : Math.max(...losses),
    layers,
    codec: codecOf(entries, videos[0]),
    limited: (reasons[0] as string | undefined) ?? null,
  };
  return { figures, sample };
}

/** The entries of a browser's report. */
export function entriesOf(report: RTCStatsReport): Entry[] {
  const entries: Entry[] = [];
  report.forEach((entry: Entry) => entries.push(entry));
  return entries;
}
