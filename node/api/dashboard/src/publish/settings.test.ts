import { expect, test } from "vitest";
import { bitrateOf, DEFAULTS, deviceConstraints, encodings, NONE, preferred, readPublishRequest, screenConstraints, sendable } from "./settings";

const HD = 1280 * 720;

test("the address names the stream, the token and what goes along", () => {
  expect(readPublishRequest("/LiveApp/publish.html", "?id=cam1&token=t%261&subscriberId=me&streamName=My%20show&evil=1")).toEqual({
    key: { app: "LiveApp", id: "cam1" },
    problem: "",
    token: "t&1",
    query: "?subscriberId=me&streamName=My+show",
    settings: DEFAULTS,
  });
});

test("settings of the address count where they are possible", () => {
  expect(readPublishRequest("/live/publish.html", "?id=x&source=screen&height=1080&codec=vp9&simulcast=true").settings).toMatchObject({
    source: "screen", height: 1080, codec: "VP9", simulcast: true,
  });
  expect(readPublishRequest("/live/publish.html", "?id=x&source=disk&height=99&codec=mpeg&simulcast=1").settings).toEqual(DEFAULTS);
});

test("without a stream the problem is said", () => {
  expect(readPublishRequest("/live/publish.html", "")).toMatchObject({ key: null, problem: expect.stringContaining("?id=") });
  expect(readPublishRequest("/live/publish.html", "?id=../x")).toMatchObject({ key: null });
});

test("devices: chosen ones exactly, none where none is wanted", () => {
  expect(deviceConstraints(DEFAULTS)).toMatchObject({ video: { height: { ideal: 720 }, width: { ideal: 1280 } }, audio: { echoCancellation: true } });
  expect(deviceConstraints({ ...DEFAULTS, camera: "c", microphone: "m" })).toMatchObject({
    video: { deviceId: { exact: "c" } },
    audio: { deviceId: { exact: "m" } },
  });
  expect(deviceConstraints({ ...DEFAULTS, source: "screen" })).toMatchObject({ video: false });
  expect(deviceConstraints({ ...DEFAULTS, source: "screen", microphone: NONE })).toBeNull();
  expect(screenConstraints({ ...DEFAULTS, height: 1080 })).toMatchObject({ video: { height: { max: 1080 } }, audio: true });
});

test("one encoding of the bitrate that suits the size, or the one chosen", () => {
  expect(encodings(DEFAULTS, HD)).toEqual([{ maxBitrate: 2_500_000, maxFramerate: 30 }]);
  expect(encodings({ ...DEFAULTS, bitrate: 6_000_000 }, HD)[0]?.maxBitrate).toBe(6_000_000);
  const rates = [360, 480, 720, 1080].map((height) => bitrateOf({ ...DEFAULTS, height }));
  expect([...rates].sort((a, b) => a - b)).toEqual(rates);
});

test("simulcast: the smallest layer first, each half of the next", () => {
  const layers = encodings({ ...DEFAULTS, simulcast: true }, HD);
  expect(layers.map(({ rid, scaleResolutionDownBy }) => [rid, scaleResolutionDownBy])).toEqual([["q", 4], ["h", 2], ["f", 1]]);
  expect(layers.map(({ maxBitrate }) => maxBitrate)).toEqual([200_000, 750_000, 2_500_000]);
  expect(layers.every((layer) => !("scalabilityMode" in layer))).toBe(true);
  expect(encodings({ ...DEFAULTS, simulcast: true }, 854 * 480).map(({ rid }) => rid)).toEqual(["h", "f"]);
  expect(encodings({ ...DEFAULTS, simulcast: true }, 320 * 240)).toHaveLength(1);
  expect(encodings({ ...DEFAULTS, simulcast: true, codec: "VP9" }, HD).every((layer) => "scalabilityMode" in layer)).toBe(true);
});

const capabilities = [
  { mimeType: "video/VP8" },
  { mimeType: "video/rtx" },
  { mimeType: "video/H264", sdpFmtpLine: "packetization-mode=0;profile-level-id=42001f" },
  { mimeType: "video/H264", sdpFmtpLine: "packetization-mode=1;profile-level-id=42001f" },
  { mimeType: "video/red" },
];

test("the chosen codec is offered alone, with retransmissions", () => {
  expect(preferred(capabilities, "H264")).toEqual([capabilities[3], capabilities[2], capabilities[1]]);
  expect(preferred(capabilities, "VP8")).toEqual([capabilities[0], capabilities[1]]);
  expect(preferred(capabilities, "AV1")).toEqual([]);
  expect(sendable(capabilities)).toEqual(["H264", "VP8"]);
});
