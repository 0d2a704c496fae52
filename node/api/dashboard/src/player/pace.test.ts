import { expect, test } from "vitest";
import { nextRate, shouldJump } from "./pace";

const target = 0.6;

test("at the wanted distance it plays at its own speed", () => {
  expect(nextRate({ latency: 0.6, target, ahead: 0.4 }, 1)).toBe(1);
  expect(nextRate({ latency: 0.7, target, ahead: 0.5 }, 1)).toBe(1);
});

test("it catches up when late, faster when later, and until it is there", () => {
  expect(nextRate({ latency: 0.8, target, ahead: 0.6 }, 1)).toBe(1.05);
  expect(nextRate({ latency: 1.3, target, ahead: 1 }, 1)).toBe(1.1);
  expect(nextRate({ latency: 2.5, target, ahead: 2 }, 1)).toBe(1.25);
  expect(nextRate({ latency: 0.65, target, ahead: 0.45 }, 1.05)).toBe(1.05);
  expect(nextRate({ latency: 0.61, target, ahead: 0.4 }, 1.05)).toBe(1);
});

test("it never catches up into an empty buffer", () => {
  expect(nextRate({ latency: 3, target, ahead: 0.2 }, 1)).toBe(1);
});

test("it slows down before it runs dry, and recovers with some in reserve", () => {
  expect(nextRate({ latency: 0.6, target, ahead: 0.05 }, 1)).toBeLessThan(1);
  expect(nextRate({ latency: 0.6, target, ahead: 0.2 }, 0.95)).toBeLessThan(1);
  expect(nextRate({ latency: 0.6, target, ahead: 0.35 }, 0.95)).toBe(1);
});

test("it settles: playing with the rule reaches the target and stays", () => {
  // The edge moves on in parts of 0.2 s; what is ahead is what is loaded of it.
  let [position, rate] = [-2, 1];
  let changes = 0;
  for (let now = 0; now < 60; now += 0.1) {
    const edge = Math.floor(now / 0.2) * 0.2;
    const next = nextRate({ latency: now - position, target, ahead: edge - position }, rate);
    if (now > 40 && next !== rate) changes++;
    rate = next;
    position += 0.1 * rate;
    expect(edge - position).toBeGreaterThan(0);
    if (now > 40) expect(now - position).toBeLessThan(0.8);
  }
  expect(changes).toBeLessThan(10);
});

test("from far behind it jumps", () => {
  expect(shouldJump({ latency: 20, target, ahead: 1 })).toBe(true);
  expect(shouldJump({ latency: 3, target, ahead: 1 })).toBe(false);
  expect(shouldJump({ latency: 3, target, ahead: 0 })).toBe(true);
  expect(shouldJump({ latency: 1.5, target, ahead: 0 })).toBe(false);
});
