// How old is the frame that a viewer sees? A publisher writes the wall clock into every picture; the page reads it
// back from the frame on the screen.
//
//   node latency.mjs [--base …] [--rtmp …] [--app LiveApp] [--stream age] [--seconds 60] [--limit 1000]
//
// Prints p50, p95 and the worst in ms; exit code 1 when p95 is at the limit or above. The age counts from the
// moment a picture is given to the encoder, and both clocks are this machine's.

import { browser, CLOCK, options, percentile, publishClock, sleep, watch } from "./lib.mjs";

const given = options({ stream: "age", seconds: "60", limit: "1000", settle: "5", gop: "30" });

/** Runs in the page: collects the age of every frame that is shown. */
function collect({ width, block, bits }) {
  const video = document.querySelector("video");
  const canvas = new OffscreenCanvas(width, 2 * block);
  const context = canvas.getContext("2d", { willReadFrequently: true });
  const ages = [];
  let unreadable = 0;
  const read = () => {
    const now = Date.now();
    context.drawImage(video, 0, 0, width, 2 * block, 0, 0, width, 2 * block);
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

const publisher = publishClock(given, { gop: Number(given.gop) });
const chrome = await browser(given);
let code = 1;
try {
  const tab = await chrome.newPage({ viewport: { width: CLOCK.width, height: CLOCK.height } });
  await watch(tab, given, 30_000);
  await sleep(Number(given.settle) * 1000);
  await tab.evaluate(collect, CLOCK);
  await sleep(Number(given.seconds) * 1000);
  const { ages, unreadable, stalls, dropped, latency, target, rate } = await tab.evaluate(() => window.ages.take());
  if (ages.length === 0) throw new Error(`no frame could be read (${unreadable} unreadable)`);
  ages.sort((a, b) => a - b);
  const [p50, p95, p99, worst] = [0.5, 0.95, 0.99, 1].map((p) => percentile(ages, p));
  console.log(
    `age of the frame shown: p50 ${p50} ms, p95 ${p95} ms, p99 ${p99} ms, worst ${worst} ms ` +
      `(${ages.length} frames in ${given.seconds} s, ${unreadable} unreadable, ${dropped} dropped, ${stalls} stalls; ` +
      `player ${latency?.toFixed(2)} s behind the edge, wants ${target?.toFixed(2)} s, rate ${rate})`,
  );
  code = p95 < Number(given.limit) ? 0 : 1;
  console.log(`browser latency: ${code === 0 ? "1 passed, 0 failed" : `0 passed, 1 failed (limit ${given.limit} ms)`}`);
} catch (error) {
  console.log(`browser latency: 0 passed, 1 failed: ${error.message}`);
} finally {
  await chrome.close();
  await publisher.stop();
}
process.exit(code);
