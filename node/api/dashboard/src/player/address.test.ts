import { expect, test } from "vitest";
import { isStreamId, publishPage, readWatchRequest, rtmpAddress, splitToken, watchPage, whepEndpoint, whipEndpoint } from "./address";

test("the watch page is addressed as AMS's is", () => {
  expect(readWatchRequest("/LiveApp/play.html", "?id=cam1&autoplay=true&playOrder=webrtc,hls")).toEqual({
    key: { app: "LiveApp", id: "cam1" },
    problem: "",
    autoplay: true,
    muted: false,
    debug: false,
    query: "",
    way: "webrtc",
  });
  expect(readWatchRequest("/live/play.html", "?name=a.b_c-1&autoplay=false&mute=true")).toMatchObject({
    key: { app: "live", id: "a.b_c-1" },
    autoplay: false,
    muted: true,
  });
});

test("tokens are passed on to the playlists, escaped, and nothing else is", () => {
  const { query } = readWatchRequest("/live/play.html", "?id=x&token=a%26b&subscriberId=me&evil=1");
  expect(query).toBe("?token=a%26b&subscriberId=me");
});

test("an address without a usable stream says what is missing", () => {
  expect(readWatchRequest("/live/play.html", "").problem).toContain("?id=");
  for (const id of ["..", "a/../b", "/a", "a b", "%3Cscript%3E", "a?b"]) {
    const { key, problem } = readWatchRequest("/live/play.html", `?id=${id}`);
    expect([key, problem]).toEqual([null, "The stream id in the address of this page is not valid."]);
  }
});

test("ids may lie in a sub folder", () => {
  expect(isStreamId("room/cam.1")).toBe(true);
  expect(watchPage({ app: "live", id: "room/cam.1" })).toBe("/live/play.html?id=room%2Fcam.1");
});

test("RTMP addresses leave the default port out", () => {
  const key = { app: "live", id: "x" };
  expect(rtmpAddress(key, "[::1]")).toBe("rtmp://[::1]/live/x");
  expect(rtmpAddress(key, "host", 1936)).toBe("rtmp://host:1936/live/x");
});

test.each([
  ["", null],
  ["&mode=webrtc", "webrtc"],
  ["&mode=auto", "hls"],
  ["&mode=auto&playOrder=webrtc", "hls"],
  ["&playOrder=hls,webrtc", "hls"],
  ["&playOrder=dash,webrtc", "webrtc"],
  ["&playOrder=dash", null],
])("the address %s wants %s", (more, way) => expect(readWatchRequest("/live/play.html", `?id=x${more}`).way).toBe(way));

test("a path that cannot be decoded is a problem, not an exception", () => {
  expect(readWatchRequest("/%E0%A4%A/play.html", "?id=x").problem).toContain("application");
});

test("WHIP and WHEP are addressed by application and id, a sub folder's slash escaped", () => {
  expect(whipEndpoint({ app: "live", id: "x" })).toBe("/live/whip/x");
  expect(whepEndpoint({ app: "live", id: "room/cam.1" }, "?a=b")).toBe("/live/whep/room%2Fcam.1?a=b");
  expect(publishPage({ app: "live", id: "a/b" })).toBe("/live/publish.html?id=a%2Fb");
});

test("the token leaves the query for the header", () => {
  expect(splitToken("?token=a%26b&subscriberId=me")).toEqual({ token: "a&b", rest: "?subscriberId=me" });
  expect(splitToken("?token=t")).toEqual({ token: "t", rest: "" });
  expect(splitToken("")).toEqual({ token: "", rest: "" });
});
