// The watch page: the whole window is the picture, and every state says what is going on.

import { readWatchRequest } from "../player/address";
import { play, type Phase } from "../player/player";

function element<T extends HTMLElement>(id: string): T {
  const found = document.getElementById(id);
  if (found === null) throw new Error(`play.html has no #${id}`);
  return found as T;
}

const stage = element<HTMLElement>("stage");
const video = element<HTMLVideoElement>("video");
const message = element<HTMLElement>("message");
const detail = element<HTMLElement>("detail");
const unmute = element<HTMLButtonElement>("unmute");
const startButton = element<HTMLButtonElement>("start");

function show(state: string, text: string, more = ""): void {
  stage.dataset["state"] = state;
  message.textContent = text;
  detail.textContent = more;
}

const request = readWatchRequest(location.pathname, location.search);

function onPhase(phase: Phase): void {
  switch (phase.name) {
    case "loading":
      return show("loading", "Loading");
    case "waiting":
      return show("waiting", "Waiting for the stream", "It starts here by itself as soon as it is live.");
    case "playing":
    case "paused":
      return show("playing", "");
    case "buffering":
      return show("buffering", "Buffering");
    case "ended":
      return show("waiting", "The stream has ended", "If it comes back, it starts here by itself.");
    case "reconnecting":
      return show("waiting", "Reconnecting", phase.reason);
    case "refused":
      return show("problem", "Not allowed to watch", phase.reason);
    case "failed":
      return show("problem", "This stream cannot be played here", phase.reason);
  }
}

/** Browsers let sound start only after a gesture: play muted then, and offer the sound. */
async function begin(): Promise<void> {
  startButton.hidden = true;
  try {
    await video.play();
  } catch (error) {
    if (!(error instanceof DOMException) || error.name !== "NotAllowedError") return;
    if (!video.muted) {
      video.muted = true;
      unmute.hidden = false;
      return begin();
    }
    startButton.hidden = false;
  }
}

if (request.key === null) {
  show("problem", "No stream to show", request.problem);
  video.hidden = true;
} else {
  document.title = `${request.key.id} – ${request.key.app}`;
  video.muted = request.muted;
  video.autoplay = request.autoplay;
  // For those who embed the page or test it: how playback goes, and what the page says.
  const player = play(video, { key: request.key, query: request.query, debug: request.debug, onPhase });
  Object.assign(window, { sluicePlayer: { stats: player.stats } });
  video.addEventListener("loadeddata", () => {
    if (!video.paused) return;
    if (request.autoplay) void begin();
    else startButton.hidden = false;
  });
  video.addEventListener("play", () => (startButton.hidden = true));
  video.addEventListener("volumechange", () => {
    if (!video.muted) unmute.hidden = true;
  });
  unmute.addEventListener("click", () => {
    video.muted = false;
    unmute.hidden = true;
    video.focus();
  });
  startButton.addEventListener("click", () => {
    video.autoplay = true;
    void begin();
  });
}
