// Does a live stream play in a real browser, from the watch page and from the dashboard?
//
//   node play.mjs [--base http://127.0.0.1:5080] [--app LiveApp] [--stream cam1] [--seconds 5] [--shots DIR]
//
// The stream must be live. Prints one line for each check and a summary; exit code 1 when a check failed.

import { mkdirSync } from "node:fs";
import { join } from "node:path";
import { browser, options, position, sleep, watch } from "./lib.mjs";

const given = options({ seconds: "5", shots: "" });
const seconds = Number(given.seconds);
let passed = 0;
let failed = 0;

function check(what, good, detail = "") {
  good ? passed++ : failed++;
  console.log(`${good ? "ok  " : "FAIL"} ${what}${detail === "" ? "" : `: ${detail}`}`);
}

/** Watches the video of the page for a while. */
async function checkPlayback(tab, name) {
  const before = await position(tab);
  await sleep(seconds * 1000);
  const after = await position(tab);
  const moved = after.time - before.time;
  check(`${name}: the time advances`, moved > seconds * 0.8 && moved < seconds * 1.3, `${moved.toFixed(2)} s in ${seconds} s`);
  const frames = after.decoded - before.decoded;
  check(`${name}: frames are decoded`, frames > seconds * 5, `${frames} frames, ${after.dropped - before.dropped} dropped`);
  check(`${name}: the picture has a size`, after.width > 0 && after.height > 0, `${after.width}x${after.height}`);
}

/** Notes what goes wrong in a page; that there is no adaptive playlist is an answer, not an error. */
function listen(tab, problems) {
  tab.on("pageerror", (error) => problems.push(`exception: ${error.message}`));
  tab.on("console", (message) => {
    const expected = message.location().url.includes("_adaptive.m3u8");
    if (message.type() === "error" && !expected) problems.push(`${message.text()} (${message.location().url})`);
  });
}

async function shot(tab, name) {
  if (given.shots === "") return;
  mkdirSync(given.shots, { recursive: true });
  await tab.screenshot({ path: join(given.shots, `${name}.png`) });
}

const chrome = await browser(given);
try {
  const problems = [];
  const tab = await chrome.newPage({ viewport: { width: 1280, height: 800 } });
  listen(tab, problems);

  await watch(tab, given);
  await checkPlayback(tab, "watch page");
  check("watch page: says nothing while it plays", (await tab.locator("#stage").getAttribute("data-state")) === "playing");
  await shot(tab, "play");

  await tab.goto(`${given.base}/#/`);
  const address = `#/streams/${given.app}/${encodeURIComponent(given.stream)}`;
  const row = tab.locator("tbody tr", { has: tab.locator(`a[href="${address}"]`) });
  const link = row.locator("th a");
  await link.waitFor({ timeout: 10_000 });
  const bitrate = (await row.locator('td[data-label="Bitrate"]').textContent()).trim();
  check("dashboard: lists the stream with its bitrate", /^[1-9][\d.]* [kM]bit\/s$/.test(bitrate), bitrate);
  const codecs = (await row.locator('td[data-label="Codecs"]').textContent()).trim();
  check("dashboard: lists its codecs", codecs !== "–", codecs);
  await tab.waitForFunction(() => !document.querySelector(".figures")?.textContent.includes("–"), null, { timeout: 10_000 }).then(
    () => check("dashboard: shows CPU, memory and traffic", true),
    () => check("dashboard: shows CPU, memory and traffic", false, "a figure stays empty"),
  );
  await sleep(4000);
  await shot(tab, "dashboard");

  await link.click();
  await tab.waitForFunction(() => (document.querySelector("video")?.currentTime ?? 0) > 0, null, { timeout: 20_000 });
  await checkPlayback(tab, "dashboard player");
  await shot(tab, "dashboard-player");

  check("no errors in the browser's console", problems.length === 0, problems.slice(0, 5).join(" | "));
} catch (error) {
  check("the script ran through", false, error.message);
} finally {
  await chrome.close();
}
console.log(`browser play: ${passed} passed, ${failed} failed`);
process.exit(failed === 0 ? 0 : 1);
