// How does video hold up on a bad link? A viewer behind relay.py, another beside it on a good one; then a publisher behind it.
//
//   node e2e/webrtc/impaired.mjs --base ORIGIN --edge EDGE --media 127.0.0.1:5004 --relay 127.0.0.1:6004
//     [--origin-media 127.0.0.1:5005 --uplink 127.0.0.1:6005] [--parts loss,rate,address,uplink] [--seconds 60] [--seed 1]
//
// --media is the edge's WebRTC port, --origin-media the origin's. Each must name both as its candidates:
// SLUICE_RTC_CANDIDATES=<relay>,<media>; every page is then given one of them. Pictures are small and 20 a second, so that the
// browser, which is publisher and viewers at once, is not what freezes. Exit code 1 when a check failed.

import { execFileSync, spawn } from "node:child_process";
import { mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { createInterface } from "node:readline";
import { fileURLToPath } from "node:url";
import { browserWithCamera, Checks, options, publishByPage, shot, sleep, within } from "../browser/lib.mjs";

const given = options({
  edge: "",
  media: "127.0.0.1:5004",
  relay: "127.0.0.1:6004",
  "origin-media": "",
  uplink: "",
  parts: "loss,rate,address,uplink",
  seconds: "60",
  seed: "1",
  stream: "impaired",
  shots: "",
});
const edge = given.edge || given.base;
const checks = new Checks();
const LONGEST_FREEZE_MS = 500;
const HEIGHT = 360;
const BAD = { loss: 0.05, delay: 50, jitter: 10 };

/** A camera's picture with as much in it as the bitrate allows: Chromium's own is so plain that no link is too narrow for it. */
function film(folder) {
  const file = join(folder, "film.y4m");
  const picture = `testsrc2=s=${(HEIGHT * 16) / 9}x${HEIGHT}:r=20,noise=alls=24:allf=t`;
  execFileSync("ffmpeg", ["-v", "error", "-f", "lavfi", "-i", picture, "-t", "3", "-pix_fmt", "yuv420p", file]);
  return [`--use-file-for-fake-video-capture=${file}`];
}

/** Starts the bad link. */
async function startRelay(listen, to) {
  const script = fileURLToPath(new URL("relay.py", import.meta.url));
  const child = spawn("python3", [script, "--listen", listen, "--to", to, "--seed", given.seed], { stdio: ["pipe", "pipe", "inherit"] });
  const lines = createInterface({ input: child.stdout })[Symbol.asyncIterator]();
  const answer = async () => {
    const { value, done } = await lines.next();
    if (done) throw new Error("the relay has ended");
    return JSON.parse(value);
  };
  await answer();
  const set = (command) => child.stdin.write(`${JSON.stringify(command)}\n`);
  return {
    set,
    report: () => {
      set({ report: true });
      return answer();
    },
    end: () => child.stdin.end(),
  };
}

/** Runs in the page: notes the longest time between two pictures. */
function watchFreezes() {
  const video = document.querySelector("video");
  const seen = { last: performance.now(), longest: 0, frames: 0 };
  const frame = (now) => {
    seen.longest = Math.max(seen.longest, now - seen.last);
    seen.last = now;
    seen.frames++;
    video.requestVideoFrameCallback(frame);
  };
  video.requestVideoFrameCallback(frame);
  window.freezes = {
    take() {
      const longest = Math.max(seen.longest, performance.now() - seen.last);
      const { frames } = seen;
      Object.assign(seen, { longest: 0, frames: 0 });
      return { longest: Math.round(longest), frames };
    },
  };
}

const port = (address) => address.split(":").at(-1);

/** Of the candidates in a node's answers the page sees those with this port only. Answers what it counts. */
async function only(tab, wanted) {
  const counts = { offers: 0, restarts: 0 };
  const keep = (sdp) =>
    sdp.split("\r\n").filter((line) => !line.startsWith("a=candidate:") || (line.split(" ")[5] === port(wanted) && / udp /i.test(line))).join("\r\n");
  await tab.route(/\/wh[ei]p\//, async (route) => {
    const answer = await route.fetch();
    const method = route.request().method();
    if (method === "POST" && answer.status() === 201) counts.offers++;
    if (method === "PATCH" && answer.status() === 200) counts.restarts++;
    const type = answer.headers()["content-type"] ?? "";
    if (!type.includes("sdp")) return route.fulfill({ response: answer });
    return route.fulfill({ response: answer, body: keep(await answer.text()) });
  });
  return counts;
}

/** Opens the watch page. */
async function viewer(chrome, wanted, stream) {
  const tab = await chrome.newPage({ viewport: { width: 640, height: 360 } });
  const counts = await only(tab, wanted);
  await tab.goto(`${edge}/${given.app}/play.html?id=${stream}&mute=true&mode=webrtc`);
  await tab.waitForFunction(() => (document.querySelector("video")?.currentTime ?? 0) > 0, null, { timeout: 20_000 });
  await tab.evaluate(watchFreezes);
  return {
    tab,
    counts,
    height: () => tab.evaluate(() => window.sluicePlayer.stats().height),
    take: () => tab.evaluate(() => window.freezes.take()),
    /** What the browser counted, for who has to find out why. */
    figures: () =>
      tab.evaluate(() => {
        const { bitrate, lost, latency, jitter } = window.sluicePlayer.stats();
        return JSON.stringify({ bitrate, lost, latency, jitter });
      }),
  };
}

/** Whether a viewer has what the one on the good link has: the best there is. The publisher's browser decides how high that is. */
async function same(far, near) {
  const [one, other] = [await far.height(), await near.height()];
  return one > 0 && one === other && `${one}p`;
}

const isBad = ({ lost, carried }) => lost / (lost + carried) > 0.03;

/** Measures for `--seconds` how long pictures stand still. */
async function steady(what, viewers) {
  await sleep(2000);
  for (const one of viewers) await one.take();
  await sleep(Number(given.seconds) * 1000);
  for (const [i, one] of viewers.entries()) {
    const { longest, frames } = await one.take();
    const name = i === 0 ? `${what}: no freeze over ${LONGEST_FREEZE_MS} ms in ${given.seconds} s` : "the viewer on the good link is untouched";
    checks.check(name, longest <= LONGEST_FREEZE_MS && frames > 0, `longest ${longest} ms, ${frames} frames, ${await one.figures()}`);
  }
}

async function loss({ relay, far, near }) {
  relay.set(BAD);
  await steady("the viewer's link loses 5 %, 50 ms ± 10 ms", [far, near]);
  const counted = await relay.report();
  checks.check("the link was as bad as wanted", isBad(counted.down), JSON.stringify(counted));
  await shot(given, far.tab, "impaired-loss");
  relay.set({ loss: 0, delay: 20, jitter: 0 });
  await within(40_000, "both viewers have the same rendition", () => same(far, near));
}

async function rate({ relay, far, near }) {
  relay.set({ delay: 20 });
  await near.take();
  relay.set({ rate: 500_000 });
  const cut = Date.now();
  await checks.holds("cut to 500 kbit/s, a lower rendition comes within 3 s", () =>
    within(3000, "a lower rendition", async () => {
      const [now, best] = [await far.height(), await near.height()];
      return now > 0 && now < best && `${now}p of ${best}p after ${Date.now() - cut} ms`;
    }));
  await sleep(8000);
  await far.take();
  await sleep(5000);
  const narrow = await far.take();
  checks.check("which plays on", narrow.frames > 20, `longest gap ${narrow.longest} ms, ${narrow.frames} frames in 5 s`);
  const [narrowed, best] = [await far.height(), await near.height()];
  checks.check("the other viewer keeps its rendition", narrowed < best, `${best}p, this one ${narrowed}p`);
  const beside = await near.take();
  checks.check("and does not freeze", beside.longest <= LONGEST_FREEZE_MS, `longest ${beside.longest} ms`);
  await shot(given, far.tab, "impaired-rate");
  relay.set({ rate: 0 });
  const freed = Date.now();
  await checks.holds("freed, the highest rendition comes back", () =>
    within(60_000, "the highest rendition", async () => (await same(far, near)) && `after ${Math.round((Date.now() - freed) / 1000)} s`));
}

/** The page's address changes: `moves` has its counts, `watched` sees what it sends or gets. */
async function changeAddress(relay, moves, watched) {
  relay.set({ rebind: true });
  await moves.tab.evaluate(() => dispatchEvent(new Event("online")));
  await checks.holds("after a change of address ICE restarts", () => within(5000, "a restart", () => moves.counts.restarts >= 1));
  await sleep(3000);
  await watched.take();
  await sleep(3000);
  const moved = await watched.take();
  checks.check("and the same session goes on", moved.frames > 20 && moves.counts.offers === 1, `${moved.frames} frames in 3 s, ${moves.counts.offers} offer`);
}

async function downlink(chrome, parts) {
  const relay = await startRelay(given.relay, given.media);
  try {
    const publisher = await publishByPage(chrome, { ...given, query: `&simulcast=true&height=${HEIGHT}` });
    const far = await viewer(chrome, given.relay, given.stream);
    const near = await viewer(chrome, given.media, given.stream);
    await checks.holds("both viewers have the highest rendition", () =>
      within(40_000, "the same height", () => same(far, near)));
    const world = { relay, far, near };
    if (parts.includes("loss")) await loss(world);
    if (parts.includes("rate")) await rate(world);
    if (parts.includes("address")) await changeAddress(relay, far, far);
    for (const tab of [publisher, far.tab, near.tab]) await tab.close();
  } finally {
    relay.end();
  }
}

async function uplink(chrome) {
  const relay = await startRelay(given.uplink, given["origin-media"]);
  const stream = `${given.stream}-up`;
  let counts = null;
  const prepare = async (tab) => {
    counts = await only(tab, given.uplink);
  };
  try {
    const tab = await publishByPage(chrome, { ...given, stream, query: `&height=${HEIGHT}`, prepare });
    const watched = await viewer(chrome, given.media, stream);
    relay.set(BAD);
    await steady("the publisher's link loses 5 %, 50 ms ± 10 ms", [watched]);
    const counted = await relay.report();
    checks.check("the link was as bad as wanted", isBad(counted.up), JSON.stringify(counted));
    await changeAddress(relay, { tab, counts }, watched);
  } finally {
    relay.end();
  }
}

const folder = mkdtempSync(join(tmpdir(), "impaired-"));
const chrome = await browserWithCamera(given, film(folder));
try {
  const parts = given.parts.split(",");
  if (parts.some((part) => part !== "uplink")) await downlink(chrome, parts);
  if (parts.includes("uplink") && given.uplink !== "") await uplink(chrome);
} catch (error) {
  checks.check("the script ran through", false, error.message);
} finally {
  await chrome.close();
  rmSync(folder, { recursive: true });
}
checks.end("webrtc impaired");
