import { expect, test } from "vitest";
import { bitrate, bytes, codec, count, duration, percent, picture, seconds } from "./format";

test.each([
  [0, "0 bit/s"],
  [999, "999 bit/s"],
  [999_999, "1.00 Mbit/s"],
  [128_000, "128 kbit/s"],
  [2_143_000, "2.14 Mbit/s"],
  [24_500_000_000, "24.5 Gbit/s"],
  [undefined, "–"],
  [-1, "–"],
  [Number.NaN, "–"],
])("bitrate %s is %s", (value, text) => expect(bitrate(value)).toBe(text));

test.each([
  [1023, "1023 B"],
  [1024, "1.00 KiB"],
  [86_000_000, "82.0 MiB"],
  [8.3e9, "7.73 GiB"],
  [null, "–"],
])("%s bytes are %s", (value, text) => expect(bytes(value)).toBe(text));

test.each([
  [0, "0 s"],
  [-5000, "0 s"],
  [59_999, "59 s"],
  [61_000, "1 min 1 s"],
  [3_600_000, "1 h 0 min"],
  [93_600_000, "1 d 2 h"],
  [null, "–"],
])("%s ms are %s", (value, text) => expect(duration(value)).toBe(text));

test("shares", () => {
  expect(percent(7)).toBe("7 %");
  expect(percent(7.25)).toBe("7.3 %");
  expect(percent(99.6)).toBe("100 %");
  expect(percent(undefined)).toBe("–");
});

test("pictures, codecs, counts, seconds", () => {
  expect(picture(1920, 1080, 59.94)).toBe("1920×1080 @ 59.94");
  expect(picture(1280, 720, 30.0000001)).toBe("1280×720 @ 30");
  expect(picture(1280, 720, 0)).toBe("1280×720");
  expect(picture(0, 0, 0)).toBe("–");
  expect(codec("H264")).toBe("H.264");
  expect(codec("flac")).toBe("flac");
  expect(codec(null)).toBe("–");
  expect(count(1, "viewer")).toBe("1 viewer");
  expect(count(1245, "viewer")).toBe("1,245 viewers");
  expect(seconds(0.654)).toBe("0.65 s");
});
