// The watch page: the whole window is the picture, and every state says what is going on.

import { readWatchRequest } from "../player/address";
import { play, type Phase, type Player, type Way } from "../player/player";
import { rememberedWay, rememberWay } from "../player/remember";
import { figuresOf } from "./figures";

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
const wayChoice = element<HTMLSelectElement>("way");
const note = element<HTMLElement>("note");
const more = element<HTMLButtonElement>("more");
const figures = element<HTMLElement>("figures");

const NOTE_MS = 8000;
const IDLE_MS = 3000;
const FIGURES_EVERY_MS = 500;

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

let noteTimer: ReturnType<typeof setTimeout> | undefined;

function say(text: string): void {
  note.textContent = text;
  note.hidden = text === "";
  clearTimeout(noteTimer);
  noteTimer = setTimeout(() => (note.hidden = true), NOTE_MS);
}

/** Shows the tools while somebody moves, touches or types, and a little longer. */
function wakeTools(): void {
  let timer: ReturnType<typeof setTimeout> | undefined;
  const wake = (): void => {
    stage.dataset["idle"] = "false";
    clearTimeout(timer);
    timer = setTimeout(() => (stage.dataset["idle"] = "true"), IDLE_MS);
  };
  for (const name of ["pointermove", "pointerdown", "keydown", "focusin"]) addEventListener(name, wake, { passive: true });
  wake();
}

function showFigures(player: Player): void {
  const rows = figuresOf(player.stats()).flatMap(([label, value]) => {
    const [term, data] = [document.createElement("dt"), document.createElement("dd")];
    [term.textContent, data.textContent] = [label, value];
    return [term, data];
  });
  figures.replaceChildren(...rows);
}

if (request.key === null) {
  show("problem", "No stream to show", request.problem);
  video.hidden = true;
  element("tools").hidden = true;
} else {
  const { key } = request;
  document.title = `${key.id} – ${key.app}`;
  video.muted = request.muted;
  video.autoplay = request.autoplay;
  const run = (way: Way): Player =>
    play(video, {
      key,
      way,
      query: request.query,
      debug: request.debug,
      onPhase,
      onFallback: (reason) => {
        wayChoice.value = "hls";
        say(reason);
      },
    });
  wayChoice.value = request.way ?? rememberedWay();
  let player = run(wayChoice.value as Way);
  // For those who embed the page or test it: how playback goes.
  Object.assign(window, { sluicePlayer: { stats: () => player.stats() } });
  wayChoice.addEventListener("change", () => {
    const way = wayChoice.value as Way;
    rememberWay(way);
    say("");
    video.autoplay = video.autoplay || !video.paused;
    player.destroy();
    player = run(way);
  });
  more.addEventListener("click", () => {
    figures.hidden = !figures.hidden;
    more.setAttribute("aria-expanded", String(!figures.hidden));
    showFigures(player);
  });
  setInterval(() => {
    if (!figures.hidden) showFigures(player);
  }, FIGURES_EVERY_MS);
  wakeTools();
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
