// How does video hold up on a bad link? A viewer behind relay.py, another beside it on a good one.
//
//   node e2e/webrtc/impaired.mjs --base ORIGIN --edge EDGE --media 127.0.0.1:5004 --relay 127.0.0.1:6004 [--seconds 60] [--seed 1]
//
// --media is the edge's WebRTC port. The edge must name both as its candidates: SLUICE_RTC_CANDIDATES=<relay>,<media>; each
// viewer is then given one of them. Exit code 1 when a check failed.

import { spawn } from "node:child_process";
import { createInterface } from "node:readline";
import { fileURLToPath } from "node:url";
import { browserWithCamera, Checks, options, publishByPage, shot, sleep, within } from "../browser/lib.mjs";

const given = options({ edge: "", media: "127.0.0.1:5004", relay: "127.0.0.1:6004", seconds: "60", seed: "1", stream: "impaired", shots: "" });
const edge = given.edge || given.base;
const checks = new Checks();
const LONGEST_FREEZE_MS = 500;

/** Starts the bad link. */
async function startRelay() {
  const script = fileURLToPath(new URL("relay.py", import.meta.url));
  const child = spawn("python3", [script, "--listen", given.relay, "--to", given.media, "--seed", given.seed], { stdio: ["pipe", "pipe", "inherit"] });
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

/** Opens the watch page; of the candidates in the node's answers it sees those with this port only. */
async function viewer(chrome, wanted) {
  const tab = await chrome.newPage({ viewport: { width: 640, height: 360 } });
  const counts = { offers: 0, restarts: 0 };
  const keep = (sdp) =>
    sdp.split("\r\n").filter((line) => !line.startsWith("a=candidate:") || (line.split(" ")[5] === port(wanted) && / udp /i.test(line))).join("\r\n");
  await tab.route(/\/whep\//, async (route) => {
    const answer = await route.fetch();
    const method = route.request().method();
    if (method === "POST" && answer.status() === 201) counts.offers++;
    if (method === "PATCH" && answer.status() === 200) counts.restarts++;
    const type = answer.headers()["content-type"] ?? "";
    if (!type.includes("sdp")) return route.fulfill({ response: answer });
    return route.fulfill({ response: answer, body: keep(await answer.text()) });
  });
  await tab.goto(`${edge}/${given.app}/play.html?id=${given.stream}&mute=true&mode=webrtc`);
  await tab.waitForFunction(() => (document.querySelector("video")?.currentTime ?? 0) > 0, null, { timeout: 20_000 });
  await tab.evaluate(watchFreezes);
  return { tab, counts, height: () => tab.evaluate(() => window.sluicePlayer.stats().height), take: () => tab.evaluate(() => window.freezes.take()) };
}

const relay = await startRelay();
const chrome = await browserWithCamera(given);
try {
  await publishByPage(chrome, { ...given, query: "&simulcast=true&height=720" });
  const far = await viewer(chrome, given.relay);
  const near = await viewer(chrome, given.media);
  const whole = await within(40_000, "the highest rendition arrives", async () => {
    const [a, b] = [await far.height(), await near.height()];
    return a >= 700 && b >= 700 && a;
  });
  checks.check("both viewers have the highest rendition", true, `${whole}p`);

  relay.set({ loss: 0.05, delay: 50, jitter: 10 });
  await sleep(2000);
  await far.take();
  await near.take();
  await sleep(Number(given.seconds) * 1000);
  const bad = await far.take();
  const counted = await relay.report();
  checks.check("the link was as bad as wanted", counted.down.lost / (counted.down.lost + counted.down.carried) > 0.03, JSON.stringify(counted));
  checks.check(`5 % loss, 50 ms ± 10 ms: no freeze over ${LONGEST_FREEZE_MS} ms in ${given.seconds} s`, bad.longest <= LONGEST_FREEZE_MS && bad.frames > 0, `longest ${bad.longest} ms, ${bad.frames} frames`);
  const good = await near.take();
  checks.check("the viewer on the good link is untouched", good.longest <= LONGEST_FREEZE_MS, `longest ${good.longest} ms, ${good.frames} frames`);
  await shot(given, far.tab, "impaired-loss");

  relay.set({ loss: 0, delay: 20, jitter: 0 });
  await within(40_000, "the highest rendition is back", async () => (await far.height()) === whole);
  await near.take();
  relay.set({ rate: 500_000 });
  const cut = Date.now();
  await checks.holds("cut to 500 kbit/s, a lower rendition comes within 3 s", () =>
    within(3000, "a lower rendition", async () => {
      const now = await far.height();
      return now > 0 && now < whole && `${now}p after ${Date.now() - cut} ms`;
    }));
  await sleep(8000);
  await far.take();
  await sleep(5000);
  const narrow = await far.take();
  checks.check("which plays on", narrow.frames > 20, `longest gap ${narrow.longest} ms, ${narrow.frames} frames in 5 s`);
  checks.check("the other viewer keeps its rendition", (await near.height()) === whole, `${await near.height()}p`);
  const beside = await near.take();
  checks.check("and does not freeze", beside.longest <= LONGEST_FREEZE_MS, `longest ${beside.longest} ms`);
  await shot(given, far.tab, "impaired-rate");
  relay.set({ rate: 0 });
  const freed = Date.now();
  await checks.holds("freed, the highest rendition comes back", () =>
    within(60_000, "the highest rendition", async () => (await far.height()) === whole && `after ${Math.round((Date.now() - freed) / 1000)} s`));

  await far.take();
  relay.set({ rebind: true });
  await far.tab.evaluate(() => dispatchEvent(new Event("online")));
  await checks.holds("after a change of address ICE restarts", () => within(5000, "a restart", () => far.counts.restarts >= 1));
  await sleep(5000);
  await far.take();
  await sleep(3000);
  const moved = await far.take();
  checks.check("and the same session goes on", moved.frames > 20 && far.counts.offers === 1, `${moved.frames} frames in 3 s, ${far.counts.offers} offer`);
} catch (error) {
  checks.check("the script ran through", false, error.message);
} finally {
  await chrome.close();
  relay.end();
}
checks.end("webrtc impaired");
