// The ring of the fault trace: in order, and honest about what did not fit.
import { expect, it } from 'vitest';
import { FaultTrace } from '../../dist/server/fault-trace.js';

it('gives each fault once, in order', () => {
  const writer = new FaultTrace();
  const reader = new FaultTrace(writer.shared);
  writer.read();
  writer.add(3, 7, 1);
  writer.add(3, 8, 4);
  const { faults, lost } = reader.take();
  expect(faults.map(({ session, page, write, minor }) => [session, page, write, minor])).toEqual([
    [3, 7, true, false],
    [3, 8, false, true],
  ]);
  expect(Math.abs(faults[0]!.timeMs - Date.now())).toBeLessThan(5000);
  expect(lost).toBe(0);
  expect(reader.take()).toEqual({ faults: [], lost: 0 });
});

it('keeps the last 65,536, and counts the others', () => {
  const writer = new FaultTrace();
  const reader = new FaultTrace(writer.shared);
  for (let page = 0; page < 70_000; page++) writer.add(1, page, 0);
  const { faults, lost } = reader.take();
  expect(lost).toBe(70_000 - 65_536);
  expect([faults[0]!.page, faults.at(-1)!.page, faults.length]).toEqual([70_000 - 65_536, 69_999, 65_536]);
});
