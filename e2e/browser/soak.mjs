// Does hls.js play for minutes without a stall?
//
//   node soak.mjs [--base …] [--app LiveApp] [--stream cam1] [--minutes 10] [--publish no|yes] [--rtmp …]
//
// A stall is the time standing still while the page should play. With `--publish yes` a test stream is made, else
// the stream must be live. Prints a line each minute and a summary; exit code 1 when there was a stall.

import { browser, options, percentile, publishClock, sleep, watch } from "./lib.mjs";

const given = options({ minutes: "10", publish: "no", allow: "0" });

/** Runs in the page: notes every stall, and where the picture is. */
function observe() {
  const video = document.querySelector("video");
  const seen = { stalls: [], latencies: [], rates: {}, jumps: 0, phases: [] };
  let still = null;
  const over = () => {
    if (still !== null) seen.stalls.push({ at: new Date(still).toISOString(), ms: Date.now() - still });
    still = null;
  };
  video.addEventListener("waiting", () => (still ??= Date.now()));
  video.addEventListener("playing", over);
  video.addEventListener("timeupdate", over);
  video.addEventListener("seeking", () => seen.jumps++);
  new MutationObserver(() => seen.phases.push(document.querySelector("#stage").dataset.state)).observe(
    document.querySelector("#stage"),
    { attributes: true, attributeFilter: ["data-state"] },
  );
  setInterval(() => {
    const { latency } = window.sluicePlayer.stats();
    if (latency !== null) seen.latencies.push(latency);
    seen.rates[video.playbackRate] = (seen.rates[video.playbackRate] ?? 0) + 1;
  }, 200);
  window.observed = () => ({ ...seen, still, time: video.currentTime, player: window.sluicePlayer.stats() });
}

const publisher = given.publish === "yes" ? publishClock(given) : null;
const chrome = await browser(given);
let code = 1;
try {
  const tab = await chrome.newPage({ viewport: { width: 1280, height: 720 } });
  await watch(tab, given, 30_000);
  await sleep(3000);
  await tab.evaluate(observe);
  const started = Date.now();
  const from = (await tab.evaluate(() => window.observed())).time;
  const end = started + Number(given.minutes) * 60_000;
  let seen;
  do {
    await sleep(Math.min(60_000, Math.max(0, end - Date.now())));
    seen = await tab.evaluate(() => window.observed());
    const { dropped, decoded, stalls } = seen.player;
    console.log(
      `${((Date.now() - started) / 60_000).toFixed(1)} min: ${seen.stalls.length} stalls, hls.js counts ${stalls}, ` +
        `${seen.jumps} jumps, ${decoded} frames, ${dropped} dropped`,
    );
  } while (Date.now() < end);
  const wall = (Date.now() - started) / 1000;
  const latencies = seen.latencies.sort((a, b) => a - b);
  const stalled = seen.stalls.length + (seen.still === null ? 0 : 1);
  console.log(
    `played ${(seen.time - from).toFixed(1)} s in ${wall.toFixed(1)} s; behind the edge p50 ` +
      `${percentile(latencies, 0.5).toFixed(2)} s, p95 ${percentile(latencies, 0.95).toFixed(2)} s; ` +
      `rates ${JSON.stringify(seen.rates)}; stalls ${JSON.stringify(seen.stalls)}; phases ${JSON.stringify(seen.phases)}`,
  );
  code = stalled <= Number(given.allow) && seen.time - from > wall * 0.98 ? 0 : 1;
  console.log(`browser soak: ${code === 0 ? "1 passed, 0 failed" : `0 passed, 1 failed (${stalled} stalls)`}`);
} catch (error) {
  console.log(`browser soak: 0 passed, 1 failed: ${error.message}`);
} finally {
  await chrome.close();
  await publisher?.stop();
}
process.exit(code);
