// What the browser tests share: Chromium, a live page, a publisher whose pictures carry the wall clock.

import { spawn } from "node:child_process";
import { mkdirSync } from "node:fs";
import { join } from "node:path";
import { parseArgs } from "node:util";
import { chromium } from "playwright-core";

const CHROMIUM_FLAGS = [
  "--no-sandbox",
  "--disable-gpu",
  "--disable-quic",
  "--no-first-run",
  "--disable-background-networking",
  "--disable-component-update",
  "--disable-sync",
  // A page is never in the background here, whatever the window manager that is not there would say.
  "--disable-background-timer-throttling",
  "--disable-renderer-backgrounding",
  "--disable-backgrounding-occluded-windows",
];

/** Reads the options that all scripts have, and `more` with their defaults; all are strings. */
export function options(more = {}) {
  const defaults = {
    base: "http://127.0.0.1:5080",
    rtmp: "rtmp://127.0.0.1:1935",
    app: "LiveApp",
    stream: "cam1",
    chromium: process.env.CHROMIUM ?? "/usr/bin/chromium",
    ...more,
  };
  const { values } = parseArgs({
    options: Object.fromEntries(Object.entries(defaults).map(([name, value]) => [name, { type: "string", default: value }])),
  });
  return { ...values, base: values.base.replace(/\/$/, "") };
}

// A camera and a microphone that are not there, allowed; addresses of this machine as they are.
const MEDIA_FLAGS = [
  "--use-fake-device-for-media-stream",
  "--use-fake-ui-for-media-stream",
  "--allow-loopback-in-peer-connection",
  "--disable-features=WebRtcHideLocalIpsWithMdns",
  "--autoplay-policy=no-user-gesture-required",
];

/** Starts Chromium. */
export const browser = ({ chromium: executablePath }, flags = []) =>
  chromium.launch({ executablePath, headless: true, args: [...CHROMIUM_FLAGS, ...flags] });

/** Starts Chromium with a camera and a microphone, which pages of `base` may use without HTTPS, too. */
export const browserWithCamera = (given, flags = []) =>
  browser(given, [...MEDIA_FLAGS, `--unsafely-treat-insecure-origin-as-secure=${given.base}`, ...flags]);

/** Opens the watch page of the stream and waits until it plays. */
export async function watch(tab, { base, app, stream }, timeout = 20_000, mode = "auto") {
  await tab.goto(`${base}/${app}/play.html?id=${encodeURIComponent(stream)}&mode=${mode}`);
  await tab.waitForFunction(() => (document.querySelector("video")?.currentTime ?? 0) > 0, null, { timeout });
}

/** Where the video is: time, frames decoded, size. */
export const position = (tab) =>
  tab.evaluate(() => {
    const video = document.querySelector("video");
    const quality = video.getVideoPlaybackQuality();
    return {
      time: video.currentTime,
      decoded: quality.totalVideoFrames,
      dropped: quality.droppedVideoFrames,
      width: video.videoWidth,
      height: video.videoHeight,
      paused: video.paused,
      ready: video.readyState,
    };
  });

/** The value below which the share `p` of the sorted `values` lies. */
export const percentile = (values, p) => values[Math.min(values.length - 1, Math.ceil(values.length * p) - 1)];

export const sleep = (ms) => new Promise((resolve) => setTimeout(resolve, ms));

/** The picture with the clock: 32 blocks across are the ms of the wall clock (mod 2^32), below them the same inverted. */
export const CLOCK = { width: 640, height: 360, block: 20, bits: 32 };

/** Stripes that move, so that the encoder has work and the eye sees life. */
function background(size, phase) {
  const { width, height } = CLOCK;
  const frame = Buffer.alloc(size, 128);
  for (let y = 0; y < height; y++) {
    for (let x = 0; x < width; x += 8) frame.fill(60 + ((x + y + phase * 8) & 127), y * width + x, y * width + x + 8);
  }
  return frame;
}

const RATE = 48_000;
// ffmpeg holds each picture back until it has sound for the same moment: the sound is given a little earlier.
const SOUND_AHEAD = 0.1;

/**
 * Publishes `CLOCK` pictures at 30 frames/s with a tone, each stamped at the moment it is given to the encoder.
 * Answers an object whose `stop()` ends the stream cleanly.
 */
export function publishClock({ rtmp, app, stream }, { fps = 30, gop = 30 } = {}) {
  const { width, height, block, bits } = CLOCK;
  const size = (width * height * 3) / 2;
  const ffmpeg = spawn(
    "ffmpeg",
    [
      ["-hide_banner", "-loglevel", "error", "-nostats"],
      ["-probesize", "32", "-analyzeduration", "0", "-fflags", "nobuffer"],
      ["-f", "rawvideo", "-pix_fmt", "yuv420p", "-s", `${width}x${height}`, "-r", String(fps), "-i", "pipe:0"],
      ["-f", "s16le", "-ar", String(RATE), "-ac", "1", "-i", "pipe:3"],
      ["-map", "0:v", "-map", "1:a"],
      ["-c:v", "libx264", "-preset", "ultrafast", "-tune", "zerolatency", "-g", String(gop), "-keyint_min", String(gop)],
      ["-b:v", "1500k", "-maxrate", "1500k", "-bufsize", "750k"],
      ["-c:a", "aac", "-b:a", "96k", "-flush_packets", "1", "-f", "flv", `${rtmp}/${app}/${stream}`],
    ].flat(),
    { stdio: ["pipe", "ignore", "inherit", "pipe"] },
  );
  const [video, audio] = [ffmpeg.stdin, ffmpeg.stdio[3]];
  for (const pipe of [video, audio]) pipe.on("error", () => undefined);

  let samples = 0;
  const soundUntil = (time) => {
    const tone = Buffer.alloc(Math.max(0, Math.round(time * RATE) - samples) * 2);
    for (let at = 0; at < tone.length; at += 2) tone.writeInt16LE(Math.round(3000 * Math.sin((samples++ * 440 * 2 * Math.PI) / RATE)), at);
    if (audio.writable) audio.write(tone);
  };

  const backgrounds = Array.from({ length: 16 }, (_, phase) => background(size, phase));
  const row = Buffer.alloc(width);
  const started = Date.now();
  let number = 0;
  let timer;
  const next = () => {
    const stamp = Date.now() % 2 ** bits;
    const frame = Buffer.from(backgrounds[number % backgrounds.length]);
    for (const inverted of [0, 1]) {
      for (let bit = 0; bit < bits; bit++) {
        const on = Math.floor(stamp / 2 ** (bits - 1 - bit)) % 2 ^ inverted;
        row.fill(on ? 235 : 16, bit * block, (bit + 1) * block);
      }
      for (let y = 0; y < block; y++) row.copy(frame, (inverted * block + y) * width);
    }
    number++;
    soundUntil(number / fps + SOUND_AHEAD);
    if (video.writable) video.write(frame);
    timer = setTimeout(next, Math.max(0, started + (number * 1000) / fps - Date.now()));
  };
  next();

  const ended = new Promise((resolve) => ffmpeg.on("exit", resolve));
  return {
    ended,
    async stop() {
      clearTimeout(timer);
      video.end();
      audio.end();
      const killer = setTimeout(() => ffmpeg.kill("SIGKILL"), 3000);
      await ended;
      clearTimeout(killer);
    },
  };
}

/** Runs in a page before its scripts: what is shared as the screen is the picture with the clock. */
function stampedScreen({ width, height, block, bits }) {
  navigator.mediaDevices.getDisplayMedia = async () => {
    const canvas = document.createElement("canvas");
    Object.assign(canvas, { width, height });
    const context = canvas.getContext("2d");
    let number = 0;
    const draw = () => {
      for (let x = 0; x < width; x += 8) {
        const light = 60 + ((x + number * 8) & 127);
        context.fillStyle = `rgb(${light} ${light} ${light})`;
        context.fillRect(x, 2 * block, 8, height - 2 * block);
      }
      number++;
      const stamp = Date.now() % 2 ** bits;
      for (const inverted of [0, 1]) {
        for (let bit = 0; bit < bits; bit++) {
          context.fillStyle = Math.floor(stamp / 2 ** (bits - 1 - bit)) % 2 ^ inverted ? "#fff" : "#000";
          context.fillRect(bit * block, inverted * block, block, block);
        }
      }
    };
    draw();
    setInterval(draw, 1000 / 30);
    return canvas.captureStream(30);
  };
}

/**
 * Publishes by the page of a node: its camera, or with `stamped` `CLOCK` pictures. Answers the tab, which is live.
 * The camera's browser is asked for (`browserWithCamera`). `prepare` is given the tab before the page is loaded.
 */
export async function publishByPage(chrome, { base, app, stream, stamped = false, query = "", prepare = () => undefined }) {
  const tab = await chrome.newPage({ viewport: { width: 1000, height: 700 } });
  tab.on("dialog", (dialog) => void dialog.accept());
  await prepare(tab);
  if (stamped) await tab.addInitScript(stampedScreen, CLOCK);
  await tab.goto(`${base}/${app}/publish.html?id=${encodeURIComponent(stream)}${stamped ? "&source=screen&height=360" : ""}${query}`);
  await tab.getByRole("button", { name: stamped ? "Share the screen" : "Turn camera on" }).click();
  await tab.getByRole("button", { name: "Go live" }).click();
  await tab.locator(".stream-head .badge", { hasText: "Live" }).and(tab.locator(".live")).waitFor({ timeout: 20_000 });
  return tab;
}

/** Counts checks and prints them as they are made. */
export class Checks {
  passed = 0;
  failed = 0;

  check(what, good, detail = "") {
    good ? this.passed++ : this.failed++;
    console.log(`${good ? "ok  " : "FAIL"} ${what}${detail === "" ? "" : `: ${detail}`}`);
    return good;
  }

  /** Checks that `call` ends well; answers what it answers, or `null`. */
  async holds(what, call) {
    try {
      const found = await call();
      this.check(what, true, typeof found === "string" ? found : "");
      return found;
    } catch (error) {
      this.check(what, false, error.message.split("\n")[0]);
      return null;
    }
  }

  /** Prints the summary, and ends the process. */
  end(name) {
    console.log(`${name}: ${this.passed} passed, ${this.failed} failed`);
    process.exit(this.failed === 0 ? 0 : 1);
  }
}

/** Asks until `call` answers something true; that is the answer. */
export async function within(ms, what, call) {
  const end = Date.now() + ms;
  let problem = "";
  for (;;) {
    try {
      const found = await call();
      if (found) return found;
      problem = "";
    } catch (error) {
      problem = ` (${error.message.split("\n")[0]})`;
    }
    if (Date.now() > end) throw new Error(`${what}: not within ${ms / 1000} s${problem}`);
    await sleep(100);
  }
}

/** Saves a picture of a tab when `--shots DIR` was given. */
export async function shot(given, tab, name, fullPage = false) {
  if (!given.shots) return;
  mkdirSync(given.shots, { recursive: true });
  await tab.screenshot({ path: join(given.shots, `${name}.png`), fullPage });
}
