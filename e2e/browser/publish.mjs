// Does the publish page publish, and the watch page play it by WebRTC?
//
//   node publish.mjs [--base http://127.0.0.1:5080] [--watch ANOTHER NODE] [--app LiveApp] [--stream page1] [--seconds 5] [--shots DIR]
//   node publish.mjs --fake dist|http://127.0.0.1:5080 [--shots DIR]
//
// The first asks a running node. The second needs only the pages, and looks at more: refusals, a node that drains or dies,
// an ICE restart. Chromium's own camera is a test picture. Exit code 1 when a check failed.

import { browserWithCamera, Checks, options, position, shot, sleep, within } from "./lib.mjs";
import { serveRtc } from "./fake_rtc.mjs";

const given = options({ stream: "page1", seconds: "5", shots: "", fake: "", watch: "" });
const seconds = Number(given.seconds);
const checks = new Checks();
const chrome = await browserWithCamera(given);
const problems = [];
// What a refusing server makes the browser write to its console.
const EXPECTED = /status of (404|403|406|409|503)/;

async function open(address, { width = 1280, height = 900, listen = true } = {}) {
  const tab = await chrome.newPage({ viewport: { width, height } });
  if (listen) {
    tab.on("pageerror", (error) => problems.push(`exception: ${error.message}`));
    tab.on("console", (message) => {
      if (message.type() === "error" && !EXPECTED.test(message.text())) problems.push(`${message.text()} (${message.location().url})`);
    });
  }
  tab.on("dialog", (dialog) => void dialog.accept());
  await tab.goto(address);
  return tab;
}

const publishAddress = (base, more = "") => `${base}/${given.app}/publish.html?id=${given.stream}${more}`;
const watchAddress = (base, more = "&mode=webrtc") => `${base}/${given.app}/play.html?id=${given.stream}&mute=true${more}`;
const press = (tab, name) => tab.getByRole("button", { name, exact: true }).click();
const badge = (tab, word, ms = 15_000) => tab.locator(".stream-head").getByText(word, { exact: true }).waitFor({ timeout: ms }).then(() => word);
const stats = (tab) => tab.evaluate(() => window.sluicePlayer.stats());

async function goLive(tab) {
  await press(tab, "Turn camera on");
  await press(tab, "Go live");
}

async function plays(tab, ms = 15_000) {
  // A new session counts its frames from 0.
  return within(ms, "the picture moves", async () => {
    const before = await position(tab);
    await sleep(seconds * 1000);
    const after = await position(tab);
    const frames = after.decoded - before.decoded;
    if (frames < seconds * 5) throw new Error(`${frames} frames in ${seconds} s`);
    return `${frames} frames, ${after.width}x${after.height}`;
  });
}

/** Publishes by the page and watches by the other: what a real node must do, too. */
async function checkBoth(base, edge = base) {
  const publisher = await open(publishAddress(base));
  await publisher.locator("video").waitFor();
  await shot(given, publisher, "publish-before");
  await checks.holds("publish page: goes live", () => goLive(publisher).then(() => badge(publisher, "Live")));
  const viewer = await open(watchAddress(edge));
  await checks.holds("watch page: plays by WebRTC", () => plays(viewer));
  await viewer.getByRole("button", { name: "Figures" }).click();
  const seen = await within(5000, "figures", async () => {
    const now = await stats(viewer);
    return now.way === "webrtc" && now.bitrate > 0 && now.latency > 0 && now;
  }).catch((error) => ({ error: error.message }));
  checks.check("watch page: shows bitrate and delay", seen.bitrate > 0, seen.error ?? `${Math.round(seen.bitrate / 1000)} kbit/s, ${Math.round(seen.latency * 1000)} ms`);
  await shot(given, viewer, "play-webrtc");
  await checks.holds("publish page: shows what it sends", () =>
    within(8000, "figures", () => publisher.evaluate(() => window.sluicePublisher.figures?.bitrate > 0 && window.sluicePublisher.figures.layers.length > 0 && JSON.stringify(window.sluicePublisher.figures))));
  await press(publisher, "Mute");
  await press(publisher, "Hide the picture");
  await checks.holds("publish page: a hidden picture goes on as a black one", () => plays(viewer, 5000));
  await press(publisher, "Show the picture");
  await shot(given, publisher, "publish-live");
  return { publisher, viewer };
}

async function checkFake() {
  const node = await serveRtc(await open("about:blank", { listen: false }), given.fake);
  const { base, state } = node;
  const { publisher, viewer } = await checkBoth(base);
  checks.check("candidates are trickled", state.trickled > 0, String(state.trickled));

  await publisher.evaluate(() => dispatchEvent(new Event("online")));
  await viewer.evaluate(() => dispatchEvent(new Event("online")));
  await checks.holds("ICE restarts on another network, on both sides", () => within(5000, "restarts", () => state.restarts >= 2));
  await checks.holds("and the session goes on", () => plays(viewer, 5000));
  await checks.holds("which is said to be live", () => badge(publisher, "Live", 3000));
  checks.check("without a new session", state.tokens.length === 2, `${state.tokens.length} offers`);

  const second = await open(publishAddress(base));
  await goLive(second);
  const taken = second.locator(".say", { hasText: "being published already" });
  checks.check("a stream in use is said to be so", await taken.waitFor({ timeout: 5000 }).then(() => true, () => false));
  await shot(given, second, "publish-taken");
  await second.close();

  await node.break();
  await checks.holds("the publisher comes back when the node broke", async () => {
    await badge(publisher, "Reconnecting", 10_000);
    return badge(publisher, "Live", 10_000);
  });
  await checks.holds("and so does the viewer", () => plays(viewer, 15_000));

  await press(publisher, "Stop");
  await badge(publisher, "Not live");
  checks.check("stopping ends the session", state.deleted >= 1, `${state.deleted} deleted`);
  await checks.holds("the viewer is told that it has ended", () => viewer.getByText("The stream has ended").waitFor({ timeout: 10_000 }));

  state.drainFor = 2;
  await press(publisher, "Go live");
  await checks.holds("a node that drains is waited for", () => publisher.locator(".say", { hasText: "This node drains: it takes no new sessions. Trying again in" }).waitFor({ timeout: 5000 }));
  await shot(given, publisher, "publish-draining");
  state.drainFor = 0;
  await checks.holds("and taken when it does no more", () => badge(publisher, "Live", 8000));
  await checks.holds("the viewer plays again by itself", () => plays(viewer, 15_000));

  state.unfit = true;
  const third = await open(watchAddress(base));
  await checks.holds("a codec that does not fit means HLS, and says so", () => third.getByText("which this browser did not offer. Playing HLS instead").waitFor({ timeout: 5000 }));
  checks.check("the choice shows it", (await third.locator("#way").inputValue()) === "hls");
  await shot(given, third, "play-fallback");
  state.unfit = false;
  await third.locator("#way").selectOption("webrtc");
  await checks.holds("and WebRTC can be chosen again", () => plays(third));
  await third.goto(watchAddress(base, ""));
  checks.check("the choice is remembered", (await third.locator("#way").inputValue()) === "webrtc");
  await third.close();

  state.forbid = true;
  const fourth = await open(publishAddress(base, "&token=secret&source=camera"));
  await goLive(fourth);
  await checks.holds("a refused token says why", () => fourth.getByText("The token is not valid for this stream.").waitFor({ timeout: 5000 }));
  checks.check("the token went as a header", state.tokens.at(-1) === "Bearer secret", state.tokens.at(-1));
  state.forbid = false;

  await chrome.contexts()[0]?.clearPermissions();
  await fourth.evaluate(() => {
    navigator.mediaDevices.getUserMedia = () => Promise.reject(new DOMException("no", "NotAllowedError"));
  });
  await press(fourth, "Turn camera off");
  await press(fourth, "Turn camera on");
  await checks.holds("a denied camera says what to do", () => fourth.getByText("Allow them for this page").waitFor({ timeout: 5000 }));
  await shot(given, fourth, "publish-denied");
  await fourth.close();

  const phone = await open(publishAddress(base), { width: 390, height: 800 });
  await press(phone, "Turn camera on");
  const wide = await phone.evaluate(() => document.documentElement.scrollWidth);
  checks.check("a phone shows it without scrolling sideways", wide <= 390, `${wide} px`);
  await shot(given, phone, "publish-phone", true);
  await phone.close();
  node.close();
}

try {
  if (given.fake !== "") await checkFake();
  else {
    const edge = given.watch || given.base;
    const { publisher, viewer } = await checkBoth(given.base, edge);
    const hls = await open(watchAddress(edge, "&mode=auto"));
    await checks.holds("hls.js plays the same stream", () => plays(hls, 20_000));
    await shot(given, hls, "play-hls");
    await press(publisher, "Stop");
    await checks.holds("the viewer is told that it has ended", () => viewer.getByText("The stream has ended").waitFor({ timeout: 15_000 }));
  }
  checks.check("no errors in the browser's console", problems.length === 0, problems.slice(0, 5).join(" | "));
} catch (error) {
  checks.check("the script ran through", false, error.message);
} finally {
  await chrome.close();
}
checks.end("browser publish");
