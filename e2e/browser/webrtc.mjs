// Do Ant Media's own clients work unchanged? Drives @antmedia/webrtc_adaptor from npm in Chromium.
//
//   node webrtc.mjs --base ORIGIN [--edge NODE] [--other ORIGIN --node NAME --token ADMIN --pid PID] [--rtmp rtmp://…]
//                   [--edge-rtmp rtmp://…] [--only PART,…] [--skip PART,…] [--shots DIR]
//
// Publishes at --base and plays at --edge: video, quality, data both ways, refusals, HLS, RTMP and WHEP of the same stream;
// a WebSocket that is cut; a room of three; two peers; RTMP, with B-frames too, played by WHEP and by the adaptor. With
// --other, --token and --pid, drains and ends --node (the one at --base) while it publishes: the client comes back
// through a proxy that leads to --other then, as a load balancer would. Exit code 1 when a check failed.

import { execFile, spawn } from "node:child_process";
import { createServer } from "node:http";
import { readFile } from "node:fs/promises";
import { connect, createServer as createTcpServer } from "node:net";
import { fileURLToPath } from "node:url";
import { promisify } from "node:util";
import { browserWithCamera, Checks, options, position, publishByPage, publishClock, shot, sleep, within } from "./lib.mjs";

const given = options({ edge: "", other: "", node: "", token: "", pid: "", "edge-rtmp": "", shots: "", seconds: "3", stream: "adaptor1", skip: "", only: "" });
const edge = given.edge || given.base;
const seconds = Number(given.seconds);
const checks = new Checks();

// The second is what the first needs to be there, as Ant Media's sample pages have it.
const SCRIPTS = {
  "/adaptor.js": "@antmedia/webrtc_adaptor/dist/browser/webrtc_adaptor.js",
  "/segmentation.js": "@mediapipe/selfie_segmentation/selfie_segmentation.js",
};
const PAGE = `<!doctype html><title>adaptor</title><video id="local" autoplay muted playsinline width="480"></video>
<video id="remote" autoplay muted playsinline width="480"></video><script src="/segmentation.js"></script><script src="/adaptor.js"></script>`;

/** A page with the adaptor and nothing else. */
async function servePage() {
  const scripts = new Map();
  for (const [path, file] of Object.entries(SCRIPTS)) {
    scripts.set(path, await readFile(fileURLToPath(new URL(`node_modules/${file}`, import.meta.url))));
  }
  const server = createServer((request, response) => {
    const script = scripts.get(request.url);
    if (script !== undefined) response.writeHead(200, { "content-type": "text/javascript" }).end(script);
    else if (request.url === "/") response.writeHead(200, { "content-type": "text/html" }).end(PAGE);
    else response.writeHead(404).end();
  });
  await new Promise((resolve) => server.listen(0, "127.0.0.1", resolve));
  return { address: `http://127.0.0.1:${server.address().port}/`, close: () => server.close() };
}

/** Leads new connections to `target`, which can change: the way through a load balancer. */
async function proxy(target) {
  const state = { target: new URL(target) };
  const clients = new Set();
  const server = createTcpServer((client) => {
    const upstream = connect(Number(state.target.port), state.target.hostname);
    const both = [client, upstream];
    clients.add(client);
    client.on("close", () => clients.delete(client));
    for (const [from, to] of [both, [upstream, client]]) {
      from.pipe(to);
      from.on("error", () => to.destroy());
      from.on("close", () => to.destroy());
    }
  });
  await new Promise((resolve) => server.listen(0, "127.0.0.1", resolve));
  return { url: `http://127.0.0.1:${server.address().port}`, lead: (to) => (state.target = new URL(to)), cut: () => clients.forEach((one) => one.destroy()), close: () => server.close() };
}

/** Runs in the page: starts an adaptor and notes what it tells. */
function start({ url, play, height = 720, several = false }) {
  const client = { told: [], errors: [], data: [], tracks: [], subtracks: [] };
  window.client = client;
  client.adaptor = new window.webrtc_adaptor.WebRTCAdaptor({
    websocket_url: url,
    isPlayMode: play,
    mediaConstraints: { video: { width: (height * 16) / 9, height }, audio: true },
    localVideoElement: document.getElementById("local"),
    // Of several tracks it tells, where there is no element for one.
    remoteVideoElement: several ? null : document.getElementById("remote"),
    sdp_constraints: { OfferToReceiveAudio: false, OfferToReceiveVideo: false },
    callback: (info, detail) => {
      client.told.push(info);
      client[info] = detail;
      if (info === "newTrackAvailable") client.tracks.push(detail.trackId);
      if (info === "subtrackAdded" || info === "subtrackRemoved") client.subtracks.push(`${info} ${detail.trackId}`);
      if (info === "data_received") client.data.push(typeof detail.data === "string" ? detail.data : `${detail.data.byteLength} bytes`);
    },
    callbackError: (error, message) => client.errors.push({ error, message }),
  });
}

const page = await servePage();
const chrome = await browserWithCamera(given);
const socket = (base) => `${base.replace(/^http/, "ws")}/${given.app}/websocket`;

async function client(base, play, more = {}) {
  const tab = await chrome.newPage({ viewport: { width: 1000, height: 420 } });
  await tab.goto(page.address);
  await tab.evaluate(start, { url: socket(base), play, ...more });
  await told(tab, "initialized");
  return tab;
}

const told = (tab, name, ms = 10_000) =>
  within(ms, `the client is told ${name}`, () => tab.evaluate((one) => window.client.told.includes(one), name));
const refused = (tab, name, ms = 10_000) =>
  within(ms, `the client is refused with ${name}`, () => tab.evaluate((one) => window.client.errors.some(({ error }) => error === one), name)).catch(
    async (error) => {
      throw new Error(`${error.message}; it has: ${JSON.stringify(await tab.evaluate(() => window.client.errors))}`);
    },
  );
const call = (tab, method, ...args) => tab.evaluate(([name, all]) => window.client.adaptor[name](...all), [method, args]);

/** Frames that the remote video decoded, and its height. */
const picture = (tab, stream) =>
  tab.evaluate(async (id) => {
    const report = await window.client.adaptor.remotePeerConnection[id].getStats();
    const video = [...report.values()].find((entry) => entry.type === "inbound-rtp" && entry.kind === "video");
    return { frames: video?.framesDecoded ?? 0, height: video?.frameHeight ?? 0, lost: video?.packetsLost ?? 0 };
  }, stream);

async function decodes(tab, stream, ms = 15_000) {
  return within(ms, "frames are decoded", async () => {
    const before = await picture(tab, stream);
    await sleep(seconds * 1000);
    const after = await picture(tab, stream);
    const frames = after.frames - before.frames;
    if (frames < seconds * 5) throw new Error(`${frames} frames in ${seconds} s`);
    return `${frames} frames in ${seconds} s, ${after.height}p, ${after.lost} packets lost`;
  });
}

async function videoPlays(tab, ms = 20_000) {
  return within(ms, "the picture moves", async () => {
    const before = await position(tab);
    await sleep(seconds * 1000);
    const after = await position(tab);
    if (after.decoded - before.decoded < seconds * 5) throw new Error(`${after.decoded - before.decoded} frames in ${seconds} s`);
    return `${after.decoded - before.decoded} frames in ${seconds} s, ${after.width}x${after.height}`;
  });
}

const toldOften = (tab, name) => tab.evaluate((one) => window.client.told.filter((told) => told === one).length, name);
const errors = (tab) => tab.evaluate(() => window.client.errors.map(({ error }) => error));

/** What an RTMP player gets within 4 s: pictures and sound, as packets. */
async function playsRtmp(url) {
  const wanted = ["-v", "error", "-read_intervals", "%+4", "-count_packets", "-show_entries", "stream=codec_name,nb_read_packets", "-of", "json", url];
  const { stdout } = await promisify(execFile)("ffprobe", wanted, { timeout: 40_000 });
  const { streams } = JSON.parse(stdout);
  const said = streams.map((one) => `${one.codec_name} ${one.nb_read_packets} packets`).join(", ");
  if (streams.length !== 2 || streams.some((one) => Number(one.nb_read_packets) < 30)) throw new Error(said || "nothing");
  return said;
}

async function publishAndPlay() {
  const { stream } = given;
  const publisher = await client(given.base, false);
  await call(publisher, "publish", stream, "");
  await checks.holds("the adaptor publishes", () => told(publisher, "publish_started"));
  const viewer = await client(edge, true);
  await call(viewer, "play", stream, "");
  await checks.holds("it plays on another node", () => told(viewer, "play_started"));
  await checks.holds("and frames are decoded there", () => decodes(viewer, stream));
  await shot(given, viewer, "adaptor-play");

  await checks.holds("the data channel opens on both sides", async () => {
    await told(publisher, "data_channel_opened");
    await told(viewer, "data_channel_opened");
  });
  const gets = (tab, text) => within(5000, `"${text}" arrives`, () => tab.evaluate((one) => window.client.data.includes(one), text));
  await call(publisher, "sendData", stream, "from the publisher");
  await checks.holds("the publisher's message reaches the player", () => gets(viewer, "from the publisher"));
  await call(viewer, "sendData", stream, "from the player");
  await checks.holds("the player's message reaches the publisher", () => gets(publisher, "from the player"));
  await publisher.evaluate((id) => window.client.adaptor.sendData(id, new Uint8Array(40_000).buffer), stream);
  await checks.holds("a large binary message arrives whole", () => gets(viewer, "40000 bytes"));

  const second = await client(given.base, false);
  await call(second, "publish", stream, "");
  await checks.holds("a stream in use is refused by its name", () => refused(second, "streamIdInUse"));
  await second.close();
  const lost = await client(edge, true);
  await call(lost, "play", `${stream}-that-is-not`, "");
  await checks.holds("an unknown stream is refused by its name", () => refused(lost, "no_stream_exist"));
  await lost.close();

  for (const [mode, name] of [["webrtc", "WHEP"], ["auto", "hls.js"]]) {
    const tab = await chrome.newPage({ viewport: { width: 1000, height: 600 } });
    await checks.holds(`${name} plays the same stream`, async () => {
      await tab.goto(`${edge}/${given.app}/play.html?id=${stream}&mute=true&mode=${mode}`);
      const seen = await videoPlays(tab);
      const { way } = await tab.evaluate(() => window.sluicePlayer.stats());
      if (way !== (mode === "webrtc" ? "webrtc" : "hls")) throw new Error(`the page plays by ${way}`);
      return seen;
    });
    await shot(given, tab, `adaptor-${mode}`);
    await tab.close();
  }
  if (given["edge-rtmp"] !== "") {
    await checks.holds("an RTMP player at another node plays the same stream", () => playsRtmp(`${given["edge-rtmp"]}/${given.app}/${stream}`));
  }
  await call(publisher, "stop", stream);
  await checks.holds("the adaptor stops", () => told(publisher, "publish_finished"));
  const late = await client(given.base, true);
  await call(late, "play", stream, "");
  await checks.holds("which ends the stream at once", () => refused(late, "no_stream_exist", 2000));
  await late.close();
  await call(publisher, "publish", stream, "");
  await checks.holds("and the id is free at once", () =>
    within(10_000, "publish_started again", async () => (await toldOften(publisher, "publish_started")) === 2));
  checks.check("without a refusal", (await errors(publisher)).length === 0, (await errors(publisher)).join(", "));
  await checks.holds("its viewer at another node goes on with it", () => decodes(viewer, stream));
  await publisher.close();
  await viewer.close();
}

async function lostWebSocket() {
  const stream = `${given.stream}-lost`;
  const way = await proxy(given.base);
  const publisher = await client(way.url, false, { height: 360 });
  await call(publisher, "publish", stream, "");
  await told(publisher, "publish_started");
  const viewer = await client(edge, true);
  await call(viewer, "play", stream, "");
  await told(viewer, "play_started");
  await decodes(viewer, stream);
  const began = Date.now();
  way.cut();
  await checks.holds("a publisher whose WebSocket is cut is back with the same id", async () => {
    await within(10_000, "publish_started again", async () => (await toldOften(publisher, "publish_started")) >= 2);
    return `after ${Date.now() - began} ms`;
  });
  await checks.holds("and its viewer sees it on", () => decodes(viewer, stream));
  const refusals = (await errors(publisher)).filter((error) => error !== "WebSocketNotConnected");
  checks.check("without a refusal or an end", refusals.length === 0 && (await toldOften(viewer, "play_finished")) === 0, refusals.join(", "));
  await publisher.close();
  await viewer.close();
  way.close();
}

async function room() {
  const name = `${given.stream}-room`;
  const nodes = [given.base, given.base, given.other || given.base];
  const ids = nodes.map((_, n) => `${name}-${n + 1}`);
  const tabs = [];
  for (const [n, base] of nodes.entries()) {
    const tab = await client(base, false, { height: 180, several: true });
    tabs.push(tab);
    await call(tab, "joinRoom", name, ids[n]);
    await told(tab, "joinedTheRoom");
    await call(tab, "publish", ids[n], "", "", "", ids[n], name);
    await told(tab, "publish_started");
    await call(tab, "play", name, "", name, []);
  }
  for (const [n, tab] of tabs.entries()) {
    const others = ids.filter((id) => id !== ids[n]);
    await checks.holds(`room of three: participant ${n + 1} gets the others' tracks`, () =>
      within(20_000, "their tracks", async () => {
        const has = await tab.evaluate(() => window.client.tracks);
        if (has.includes(`ARDAMSv${ids[n]}`)) throw new Error("it gets its own");
        const lacks = others.flatMap((id) => [`ARDAMSv${id}`, `ARDAMSa${id}`]).filter((track) => !has.includes(track));
        if (lacks.length > 0) throw new Error(`it has ${has.join(", ")}`);
        return has.join(", ");
      }));
  }
  const pictures = (tab) =>
    tab.evaluate(async (id) => {
      const report = await window.client.adaptor.remotePeerConnection[id].getStats();
      return [...report.values()].filter((one) => one.type === "inbound-rtp" && one.kind === "video" && one.framesDecoded > 5).length;
    }, name);
  await checks.holds("and their pictures", () => within(20_000, "two pictures move", async () => (await pictures(tabs[0])) === 2));
  await call(tabs[2], "leaveFromRoom", name, ids[2]);
  await checks.holds("who leaves is told so", () => told(tabs[2], "leavedFromRoom"));
  for (const n of [0, 1]) {
    await checks.holds(`participant ${n + 1} is told that a track is gone`, () =>
      within(15_000, "subtrackRemoved", () => tabs[n].evaluate((id) => window.client.subtracks.includes(`subtrackRemoved ${id}`), ids[2])));
  }
  for (const tab of tabs) await tab.close();
}

async function limit() {
  const stream = `${given.stream}-limit`;
  const publisher = await client(given.base, false, { height: 180 });
  await call(publisher, "publish", stream, "");
  await told(publisher, "publish_started");
  const set = (webRTCViewerLimit) =>
    fetch(`${edge}/rest/v2/applications/settings/${given.app}`, {
      method: "POST",
      headers: { authorization: `Bearer ${given.token}`, "content-type": "application/json" },
      body: JSON.stringify({ webRTCViewerLimit }),
    });
  const answer = await set(1);
  checks.check("webRTCViewerLimit is set to 1", answer.ok, `status ${answer.status}`);
  const viewers = [];
  try {
    for (const expected of [(tab) => told(tab, "play_started"), (tab) => refused(tab, "viewerLimitReached")]) {
      const tab = await client(edge, true);
      viewers.push(tab);
      await call(tab, "play", stream, "");
      await checks.holds(viewers.length === 1 ? "one viewer plays" : "another is refused with viewerLimitReached", () => expected(tab));
    }
  } finally {
    await set(-1);
  }
  for (const tab of [publisher, ...viewers]) await tab.close();
}

async function peers() {
  const meeting = `${given.stream}-p2p`;
  const tabs = [await client(given.base, false, { height: 180 }), await client(given.base, false, { height: 180 })];
  for (const tab of tabs) {
    await call(tab, "join", meeting);
    await told(tab, "joined");
  }
  await checks.holds("two peers see each other", () =>
    within(15_000, "both pictures move", async () => {
      const seen = await Promise.all(tabs.map((tab) => picture(tab, meeting)));
      return seen.every(({ frames }) => frames > 10) && seen.map(({ frames }) => `${frames} frames`).join(", ");
    }));
  await call(tabs[0], "leave", meeting);
  await checks.holds("one that leaves is told so", () => told(tabs[0], "leaved"));
  for (const tab of tabs) await tab.close();
}

async function quality() {
  const stream = `${given.stream}-simulcast`;
  const publisher = await publishByPage(chrome, { ...given, stream, query: "&simulcast=true&height=720" });
  const viewer = await client(edge, true);
  await call(viewer, "play", stream, "");
  await told(viewer, "play_started");
  const heights = await checks.holds("the renditions of a simulcast publisher are listed", () =>
    within(30_000, "at least two renditions", async () => {
      await call(viewer, "getStreamInfo", stream);
      await sleep(500);
      const listed = await viewer.evaluate(() => (window.client.streamInformation?.streamInfo ?? []).map(({ streamHeight }) => streamHeight));
      return listed.length >= 2 && listed.sort((a, b) => a - b);
    }),
  );
  if (heights !== null) {
    const becomes = (height) => within(8000, `${height}p arrives`, async () => (await picture(viewer, stream)).height === height && `${height}p`);
    await call(viewer, "forceStreamQuality", stream, heights[0]);
    await checks.holds("forceStreamQuality: the lowest rendition comes", () => becomes(heights[0]));
    await call(viewer, "forceStreamQuality", stream, heights.at(-1));
    await checks.holds("forceStreamQuality: the highest rendition comes", () => becomes(heights.at(-1)));
    await checks.holds("and it is told", () => told(viewer, "resolutionChangeInfo"));
  }
  await shot(given, viewer, "adaptor-quality");
  await shot(given, publisher, "publish-simulcast", true);
  await publisher.close();
  await viewer.close();
}

async function rtmp() {
  const stream = `${given.stream}-rtmp`;
  const publisher = publishClock({ ...given, stream });
  const tab = await chrome.newPage({ viewport: { width: 640, height: 360 } });
  await tab.goto(`${edge}/${given.app}/play.html?id=${stream}&mute=true&mode=webrtc`);
  await checks.holds("published by RTMP, it plays by WHEP", async () => {
    const seen = await videoPlays(tab, 30_000);
    const { way } = await tab.evaluate(() => window.sluicePlayer.stats());
    if (way !== "webrtc") throw new Error("the page fell back to HLS");
    return seen;
  });
  const sound = () =>
    tab.evaluate(() => {
      const tracks = document.querySelector("video").srcObject?.getAudioTracks() ?? [];
      return tracks.length > 0 && !tracks[0].muted;
    });
  await checks.holds("with its sound", () => within(10_000, "sound arrives", sound));
  await tab.close();
  await publisher.stop();

  const encoder = spawn("ffmpeg", [
    ["-loglevel", "error", "-re", "-f", "lavfi", "-i", "testsrc2=size=640x360:rate=30", "-f", "lavfi", "-i", "sine=frequency=440"],
    ["-c:v", "libx264", "-preset", "veryfast", "-bf", "2", "-g", "60", "-pix_fmt", "yuv420p", "-b:v", "800k"],
    ["-c:a", "aac", "-f", "flv", `${given.rtmp}/${given.app}/${stream}-b`],
  ].flat(), { stdio: ["ignore", "ignore", "inherit"] });
  try {
    const viewer = await client(edge, true);
    await within(20_000, "the stream with B-frames is there", async () => {
      await call(viewer, "play", `${stream}-b`, "");
      await sleep(1000);
      return viewer.evaluate(() => window.client.told.includes("play_started"));
    });
    await checks.holds("published with AAC and B-frames, the adaptor plays it on another node", () => decodes(viewer, `${stream}-b`));
    const heard = () =>
      viewer.evaluate(async (id) => {
        const report = await window.client.adaptor.remotePeerConnection[id].getStats();
        const audio = [...report.values()].find((entry) => entry.type === "inbound-rtp" && entry.kind === "audio");
        return (audio?.packetsReceived ?? 0) > 50 && `${audio.packetsReceived} packets of sound`;
      }, `${stream}-b`);
    await checks.holds("with its sound as Opus", () => within(10_000, "sound arrives", heard));
    await viewer.close();
  } finally {
    encoder.kill("SIGTERM");
  }
}

async function drain() {
  const stream = `${given.stream}-drain`;
  const balancer = await proxy(given.base);
  const publisher = await client(balancer.url, false);
  await call(publisher, "publish", stream, "");
  await told(publisher, "publish_started");
  const viewer = await client(edge, true);
  await call(viewer, "play", stream, "");
  await told(viewer, "play_started");
  await decodes(viewer, stream);
  balancer.lead(given.other);
  const drained = await fetch(`${given.other}/rest/v2/cluster/node/${given.node}/drain`, {
    method: "POST",
    headers: { authorization: `Bearer ${given.token}` },
  });
  checks.check("the node is drained", drained.ok, `status ${drained.status}`);
  await checks.holds("who is there already stays", () => decodes(viewer, stream));
  const sent = await toldOften(publisher, "reconnection_attempt_for_publisher");
  checks.check("and is not sent away", sent === 0, `${sent} attempts`);
  process.kill(Number(given.pid), "SIGTERM");
  await checks.holds("as it ends its publisher is told, and reconnects by itself", () => told(publisher, "reconnection_attempt_for_publisher", 60_000));
  checks.check("by server_will_stop", (await toldOften(publisher, "server_will_stop")) > 0);
  await checks.holds("it publishes again, at the other node", () =>
    within(30_000, "publish_started again", async () => (await toldOften(publisher, "publish_started")) >= 2));
  await checks.holds("and the viewer sees it", () => decodes(viewer, stream, 30_000));
  await publisher.close();
  await viewer.close();
  balancer.close();
}

const parts = { publishAndPlay, lostWebSocket, quality, room, peers, ...(given.token !== "" && { limit }), rtmp, ...(given.other !== "" && given.pid !== "" && { drain }) };
try {
  for (const [name, part] of Object.entries(parts)) {
    if (given.skip.split(",").includes(name) || (given.only !== "" && !given.only.split(",").includes(name))) continue;
    try {
      await part();
    } catch (error) {
      checks.check(`${name} ran through`, false, error.message.split("\n")[0]);
    }
  }
} finally {
  await chrome.close();
  page.close();
}
checks.end("browser webrtc");
