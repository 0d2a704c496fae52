// Playback by WebRTC: a WHEP session whose media go straight into the <video> element.

import { converse, type End } from "../rtc/connection";
import { entriesOf, received, type Received, type Sample } from "../rtc/stats";
import { splitToken, whepEndpoint, type StreamKey } from "./address";
import { watch } from "./element";
import type { Phase } from "./phase";

const CONNECT_WITHIN_MS = 5000;
const FIGURES_EVERY_MS = 1000;

/** Reads the newest figures. */
export type Figures = () => Received | null;

/** What a session tells its player. */
export interface Listener {
  tell(phase: Phase): void;
  start(): void;
  figures(now: Figures): void;
  connected(): void;
}

/** Plays the stream until it ends, breaks, or `signal` is aborted. */
export async function playByWhep(
  video: HTMLVideoElement,
  key: StreamKey,
  query: string,
  signal: AbortSignal,
  listener: Listener,
): Promise<End> {
  const { token, rest } = splitToken(query);
  const session = new AbortController();
  const stop = AbortSignal.any([signal, session.signal]);
  const still = new AbortController();
  let stalled: End | null = null;
  const media = new MediaStream();
  try {
    const end = await converse({
      url: whepEndpoint(key, rest),
      bearer: token,
      signal: AbortSignal.any([signal, still.signal]),
      connectWithin: CONNECT_WITHIN_MS,
      lingers: false,
      prepare: (peer) => {
        for (const kind of ["video", "audio"]) peer.addTransceiver(kind, { direction: "recvonly" });
        peer.addEventListener("track", ({ track }) => media.addTrack(track), { signal: stop });
        listener.figures(follow(peer, stop));
      },
      connected: () => {
        listener.connected();
        if (video.srcObject === media) return;
        video.removeAttribute("src");
        video.srcObject = media;
        watch(video, stop, listener.tell, (ending) => {
          // The element says "ended" when all tracks are, which the connection tells better.
          if (ending.kind !== "broken") return;
          stalled = { kind: "broken", reason: ending.reason };
          still.abort();
        });
        listener.start();
      },
      disturbed: () => listener.tell({ name: "reconnecting", reason: "The server does not answer. Looking for another way to it." }),
    });
    return stalled !== null && !signal.aborted ? stalled : end;
  } finally {
    session.abort();
    listener.figures(() => null);
  }
}

/** Reads the statistics of `peer` once a second. */
function follow(peer: RTCPeerConnection, signal: AbortSignal): Figures {
  let sample: Sample | null = null;
  let newest: Received | null = null;
  const timer = setInterval(() => {
    void peer.getStats().then((report) => {
      const read = received(entriesOf(report), sample);
      sample = read.sample;
      // Between two pictures there is nothing new to say about their delay.
      newest = { ...read.figures, delay: read.figures.delay ?? newest?.delay ?? null };
    }, () => undefined);
  }, FIGURES_EVERY_MS);
  signal.addEventListener("abort", () => clearInterval(timer), { once: true });
  return () => newest;
}
