// Publishes tracks by WebRTC (WHIP) and keeps at it: comes back after every interruption, until it is stopped.

import { whipEndpoint, type StreamKey } from "../player/address";
import { sleep } from "../player/sleep";
import { converse } from "../rtc/connection";
import { entriesOf, sent, type Sample, type Sent } from "../rtc/stats";
import { afterWhip } from "./rules";
import { encodings, preferred, type Settings } from "./settings";

/** What a publisher is doing. Reasons are sentences for the reader. */
export type State =
  | { name: "connecting" }
  | { name: "live" }
  /** The connection does not answer; a way back is being looked for. */
  | { name: "disturbed" }
  /** It tries again at `until` (of `performance.now()`). */
  | { name: "waiting"; reason: string; until: number }
  /** It has given up, or was stopped (no reason). */
  | { name: "stopped"; reason: string };

/** What to publish, and whom to tell. */
export interface Options {
  key: StreamKey;
  /** Query of the endpoint, with its `?`. */
  query: string;
  token: string;
  settings: Settings;
  media: MediaStream;
  onState(state: State): void;
}

/** A running publisher. */
export interface Publisher {
  /** The newest figures; null while it is not live. */
  figures(): Sent | null;
  /** Sends these tracks from now on, without a break. */
  replace(media: MediaStream): void;
  stop(): void;
}

const CONNECT_WITHIN_MS = 10_000;
const FIGURES_EVERY_MS = 1000;

/** Starts to publish, and goes on until `stop` or until it will not get better. */
export function publish({ key, query, token, settings, media, onState }: Options): Publisher {
  const abort = new AbortController();
  const { signal } = abort;
  let current = media;
  let senders: { kind: string; sender: RTCRtpSender }[] = [];
  let figures: Sent | null = null;

  const prepare = (peer: RTCPeerConnection): void => {
    senders = ["video", "audio"].flatMap((kind) => {
      const track = current.getTracks().find((one) => one.kind === kind);
      if (track === undefined) return [];
      const { width = 0, height = 0 } = track.getSettings();
      const sendEncodings = kind === "video" ? encodings(settings, width * height) : [];
      const transceiver = peer.addTransceiver(track, { direction: "sendonly", streams: [current], sendEncodings });
      if (kind === "video") prefer(transceiver, settings);
      return [{ kind, sender: transceiver.sender }];
    });
  };

  const session = async (onLive: () => void): Promise<Awaited<ReturnType<typeof converse>>> => {
    const over = new AbortController();
    try {
      return await converse({
        url: whipEndpoint(key, query),
        bearer: token,
        signal,
        connectWithin: CONNECT_WITHIN_MS,
        lingers: true,
        prepare: (peer) => {
          prepare(peer);
          follow(peer, over.signal, (now) => (figures = now));
        },
        connected: () => {
          onLive();
          onState({ name: "live" });
        },
        disturbed: () => onState({ name: "disturbed" }),
      });
    } finally {
      over.abort();
      figures = null;
    }
  };

  const run = async (): Promise<void> => {
    let attempt = 0;
    let wasLive = false;
    for (;;) {
      onState({ name: "connecting" });
      const end = await session(() => {
        wasLive = true;
        attempt = 0;
      });
      const next = signal.aborted ? ({ kind: "stop", reason: "" } as const) : afterWhip(end, attempt++, wasLive, Math.random());
      if (next.kind === "stop") return onState({ name: "stopped", reason: next.reason });
      onState({ name: "waiting", reason: next.reason, until: performance.now() + next.after });
      await sleep(next.after, signal);
      if (signal.aborted) return onState({ name: "stopped", reason: "" });
    }
  };
  void run();

  return {
    figures: () => figures,
    replace: (next) => {
      current = next;
      for (const { kind, sender } of senders) {
        const track = next.getTracks().find((one) => one.kind === kind) ?? null;
        sender.replaceTrack(track).catch(() => undefined);
      }
    },
    stop: () => abort.abort(),
  };
}

/** Offers the chosen codec alone; a browser that lets nobody choose offers what it likes. */
function prefer(transceiver: RTCRtpTransceiver, { codec }: Settings): void {
  const capabilities = RTCRtpSender.getCapabilities?.("video")?.codecs ?? [];
  const chosen = preferred(capabilities, codec);
  if (chosen.length > 0) transceiver.setCodecPreferences?.(chosen);
}

/** Reads the statistics of `peer` once a second. */
function follow(peer: RTCPeerConnection, signal: AbortSignal, tell: (now: Sent) => void): void {
  let sample: Sample | null = null;
  const timer = setInterval(() => {
    void peer.getStats().then((report) => {
      if (signal.aborted || peer.connectionState !== "connected") return;
      const read = sent(entriesOf(report), sample);
      sample = read.sample;
      tell(read.figures);
    }, () => undefined);
  }, FIGURES_EVERY_MS);
  signal.addEventListener("abort", () => clearInterval(timer), { once: true });
}
