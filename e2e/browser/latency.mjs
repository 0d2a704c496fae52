// How old is the frame that a viewer sees? A publisher writes the wall clock into every picture; the page reads it
// back from the frame on the screen.
//
//   node latency.mjs [--base …] [--rtmp …] [--app LiveApp] [--stream age] [--seconds 60] [--limit 1000]
//   node latency.mjs --mode webrtc [--base EDGE] [--publish ORIGIN] [--limit 200] …
//
// The first publishes by RTMP and plays by LL-HLS, the second publishes by WHIP from the node's page and plays by WHEP.
// Prints p50, p95 and the worst in ms; exit code 1 when p95 (webrtc: the median) is at the limit or above. The age counts
// from the moment a picture is given to the encoder (webrtc: is drawn), and both clocks are this machine's.

import { browserWithCamera, CLOCK, options, percentile, publishByPage, publishClock, sleep, watch } from "./lib.mjs";

const given = options({ stream: "age", seconds: "60", limit: "", settle: "5", gop: "30", mode: "hls", publish: "" });
const webrtc = given.mode === "webrtc";
const limit = Number(given.limit || (webrtc ? 200 : 1000));
const FEWEST_FRAMES = 100;

/** Runs in the page: collects the age of every frame that is shown. */
function collect({ width, block, bits }) {
  const video = document.querySelector("video");
  const canvas = new OffscreenCanvas(width, 2 * block);
  const context = canvas.getContext("2d", { willReadFrequently: true });
  const ages = [];
  let unreadable = 0;
  const read = () => {
    const now = Date.now();
    // A publisher that is short of bandwidth sends a smaller picture.
    const scale = video.videoWidth / width;
    context.drawImage(video, 0, 0, width * scale, 2 * block * scale, 0, 0, width, 2 * block);
    const { data } = context.getImageData(0, 0, width, 2 * block);
    const bright = (x, y) => data[(y * width + x) * 4] > 127;
    let stamp = 0;
    let sound = true;
    for (let bit = 0; bit < bits; bit++) {
      const x = bit * block + block / 2;
      const on = bright(x, block / 2);
      if (on === bright(x, block + block / 2)) sound = false;
      stamp = stamp * 2 + (on ? 1 : 0);
    }
    if (sound) ages.push((now % 2 ** bits) - stamp);
    else unreadable++;
    video.requestVideoFrameCallback(read);
  };
  video.requestVideoFrameCallback(read);
  let stalls = 0;
  video.addEventListener("waiting", () => stalls++);
  window.ages = { take: () => ({ ages: ages.splice(0), unreadable, stalls, ...window.sluicePlayer.stats() }) };
}

const chrome = await browserWithCamera(given);
let publisher = null;
let code = 1;
try {
  if (webrtc) await publishByPage(chrome, { ...given, base: given.publish || given.base, stamped: true });
  else publisher = publishClock(given, { gop: Number(given.gop) });
  const tab = await chrome.newPage({ viewport: { width: CLOCK.width, height: CLOCK.height } });
  await watch(tab, given, 30_000, webrtc ? "webrtc" : "auto");
  await sleep(Number(given.settle) * 1000);
  await tab.evaluate(collect, CLOCK);
  await sleep(Number(given.seconds) * 1000);
  const { ages, unreadable, stalls, dropped, latency, target, rate, way } = await tab.evaluate(() => window.ages.take());
  if (ages.length < FEWEST_FRAMES) throw new Error(`only ${ages.length} frames could be read (${unreadable} unreadable)`);
  if (webrtc && way !== "webrtc") throw new Error("the page fell back to HLS");
  ages.sort((a, b) => a - b);
  const [p50, p95, p99, worst] = [0.5, 0.95, 0.99, 1].map((p) => percentile(ages, p));
  console.log(
    `age of the frame shown: p50 ${p50} ms, p95 ${p95} ms, p99 ${p99} ms, worst ${worst} ms ` +
      `(${ages.length} frames in ${given.seconds} s, ${unreadable} unreadable, ${dropped} dropped, ${stalls} stalls; ` +
      (webrtc
        ? `the page estimates ${latency?.toFixed(3)} s from the node)`
        : `player ${latency?.toFixed(2)} s behind the edge, wants ${target?.toFixed(2)} s, rate ${rate})`),
  );
  code = (webrtc ? p50 : p95) < limit ? 0 : 1;
  console.log(`browser latency: ${code === 0 ? "1 passed, 0 failed" : `0 passed, 1 failed (limit ${limit} ms)`}`);
} catch (error) {
  console.log(`browser latency: 0 passed, 1 failed: ${error.message}`);
} finally {
  await chrome.close();
  await publisher?.stop();
}
process.exit(code);
