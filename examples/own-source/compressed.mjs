// An asynchronous source: frames that are inflated when their pages are asked for. `read` runs in a fetch worker and may
// take its time; the serving workers go on meanwhile.
import { promisify } from 'node:util';
import { inflate } from 'node:zlib';

const inflated = promisify(inflate);

export function openSource({ frames, frameBytes }) {
  return {
    async read(target, targetOffset, length, offset) {
      for (let done = 0; done < length;) {
        const at = offset + done;
        const frame = await inflated(frames[Math.floor(at / frameBytes)]);
        const part = frame.subarray(at % frameBytes, (at % frameBytes) + length - done);
        target.set(part, targetOffset + done);
        done += part.length;
      }
    },
  };
}
