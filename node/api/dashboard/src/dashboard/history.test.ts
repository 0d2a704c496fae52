import { expect, test } from "vitest";
import { record, sparkline } from "./history";

test("keeps the span and no more, in order", () => {
  let history = record([], { at: 0, value: 1 }, 100);
  history = record(history, { at: 60, value: 2 }, 100);
  history = record(history, { at: 120, value: 3 }, 100);
  expect(history.map(({ at }) => at)).toEqual([60, 120]);
  expect(record(history, { at: 120, value: 9 }, 100).map(({ value }) => value)).toEqual([2, 9]);
});

test("draws from 0 to the top, the newest at the right edge", () => {
  const history = [
    { at: 0, value: 0 },
    { at: 50, value: 100 },
    { at: 100, value: 50 },
  ];
  const { line, area } = sparkline(history, 100, 200, 40, 100);
  expect(line).toBe("M0,40L100,0L200,20");
  expect(area).toBe("M0,40L100,0L200,20L200,40L0,40Z");
});

test("a higher reading than the top scales the line; one reading draws nothing; zeros lie on the ground", () => {
  expect(sparkline([{ at: 0, value: 300 }, { at: 10, value: 150 }], 10, 10, 10, 100).line).toBe("M0,0L10,5");
  expect(sparkline([{ at: 0, value: 1 }], 10, 10, 10, 1)).toEqual({ line: "", area: "" });
  expect(sparkline([{ at: 0, value: 0 }, { at: 10, value: 0 }], 10, 10, 10, 0).line).toBe("M0,10L10,10");
});
