// Playback by the browser's own HLS: Safari's is better, low latency included, than what scripts can do there.

import { watch } from "./element";
import type { Ending, Phase } from "./phase";

/** Whether to leave playback to the browser. Others than Safari claim HLS too, without its low-latency part. */
export const playsNatively = (video: HTMLVideoElement): boolean =>
  video.canPlayType("application/vnd.apple.mpegurl") !== "" &&
  (navigator.vendor.startsWith("Apple") || !("MediaSource" in window || "ManagedMediaSource" in window));

/** Plays `url` until it ends, breaks, or `signal` is aborted. */
export function playNatively(
  video: HTMLVideoElement,
  url: string,
  signal: AbortSignal,
  tell: (phase: Phase) => void,
  start: () => void,
): Promise<Ending> {
  const session = new AbortController();
  const stop = AbortSignal.any([signal, session.signal]);
  return new Promise<Ending>((end) => {
    watch(video, stop, tell, end);
    const broken: Ending = { kind: "broken", reason: "The connection was interrupted." };
    video.addEventListener("error", () => end(broken), { signal: stop });
    stop.addEventListener("abort", () => end({ kind: "ended" }), { once: true });
    video.src = url;
    start();
  }).finally(() => session.abort());
}
