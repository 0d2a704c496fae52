import { expect, test } from "vitest";
import { fragment, iceOf, restarted } from "./fragment";

const description = (ufrag: string, candidate: string): string =>
  [
    "v=0",
    "o=- 1 1 IN IP4 127.0.0.1",
    "s=-",
    "t=0 0",
    "a=group:BUNDLE 0 1",
    "m=audio 9 UDP/TLS/RTP/SAVPF 111",
    "a=mid:0",
    `a=ice-ufrag:${ufrag}`,
    `a=ice-pwd:${ufrag}-password`,
    `a=candidate:${candidate}`,
    "a=end-of-candidates",
    "m=video 9 UDP/TLS/RTP/SAVPF 96",
    "a=mid:1",
    `a=ice-ufrag:${ufrag}`,
    `a=ice-pwd:${ufrag}-password`,
    "",
  ].join("\r\n");

test("finds the credentials of the bundled transport", () => {
  expect(iceOf(description("abcd", "1"))).toEqual({
    ufrag: "abcd",
    pwd: "abcd-password",
    group: "BUNDLE 0 1",
    media: "m=audio 9 UDP/TLS/RTP/SAVPF 111",
    mid: "0",
  });
  expect(iceOf("v=0\r\n")).toBeNull();
  expect(iceOf("m=audio 9 x 1\r\na=mid:0\r\n")).toBeNull();
});

test("credentials of the session level count too, and line ends do not", () => {
  expect(iceOf("v=0\na=ice-ufrag:u\na=ice-pwd:p\nm=video 9 x 1\na=mid:v\n")).toMatchObject({ ufrag: "u", pwd: "p", mid: "v", group: null });
});

test("writes a fragment as RFC 8840 has it", () => {
  const ice = iceOf(description("abcd", "1"));
  if (ice === null) throw new Error("no ICE");
  expect(fragment(ice, ["candidate:1 1 udp 1 192.0.2.1 5 typ host"], true)).toBe(
    "a=group:BUNDLE 0 1\r\na=ice-ufrag:abcd\r\na=ice-pwd:abcd-password\r\nm=audio 9 UDP/TLS/RTP/SAVPF 111\r\na=mid:0\r\n" +
      "a=candidate:1 1 udp 1 192.0.2.1 5 typ host\r\na=end-of-candidates\r\n",
  );
});

test("a restart changes credentials and candidates, and nothing else", () => {
  const received = "a=ice-ufrag:new1\r\na=ice-pwd:new1-password\r\nm=audio 9 UDP/TLS/RTP/SAVPF 0\r\na=mid:0\r\na=candidate:2\r\na=end-of-candidates\r\n";
  expect(restarted(description("abcd", "1"), received)).toBe(description("new1", "2"));
});

test("a restart without candidates keeps those that there are", () => {
  expect(restarted(description("abcd", "1"), "a=ice-ufrag:new1\na=ice-pwd:new1-password\n")).toBe(description("new1", "1"));
});

test("candidates find their section when the credentials stand above all sections", () => {
  const answer = "v=0\r\na=ice-ufrag:a\r\na=ice-pwd:b\r\nm=audio 9 x 1\r\na=mid:0\r\nm=video 9 x 2\r\na=mid:1\r\n";
  expect(restarted(answer, "a=ice-ufrag:c\r\na=ice-pwd:d\r\na=candidate:7\r\n")).toBe(
    "v=0\r\na=ice-ufrag:c\r\na=ice-pwd:d\r\nm=audio 9 x 1\r\na=mid:0\r\na=candidate:7\r\nm=video 9 x 2\r\na=mid:1\r\n",
  );
});

test("a fragment without credentials is no restart", () => {
  expect(restarted(description("abcd", "1"), "")).toBeNull();
  expect(restarted(description("abcd", "1"), "a=ice-ufrag:x\r\n")).toBeNull();
});
