// What KVM counts of a vCPU: the binary statistics of KVM_GET_STATS_FD (Documentation/virt/kvm/api.rst), by name.
import { outcomeName } from './kernel.js';
import { NotThere } from './probe.js';
import type { Scene } from './scene.js';

const KVM_GET_STATS_FD = 0xaece;
/** More than any kernel has. */
const MOST_BYTES = 2 ** 16;
/** Of a kvm_stats_desc, before its name. */
const DESCRIPTION_BYTES = 16;

/** Counters of one value. @throws NotThere */
export function vcpuStatistics(scene: Scene, vcpu: number): Partial<Record<string, number>> {
  const fd = scene.descriptor(scene.call('ioctl', vcpu, KVM_GET_STATS_FD, 0));
  if (fd < 0) throw new NotThere({ seen: outcomeName(fd) }, 'KVM_GET_STATS_FD (Linux 5.14)');
  const bytes = Buffer.alloc(MOST_BYTES);
  // One read ends where the descriptions do, another one where the values do.
  for (let at = 0, read = 1; read > 0; at += read) read = scene.call('read', fd, bytes.subarray(at), MOST_BYTES - at);
  // A kvm_stats_header: flags, size of a name, number of descriptions; where the id, the descriptions and the data are.
  const word = (index: number) => bytes.readUInt32LE(index * 4);
  const [nameBytes, count, descriptions, data] = [word(1), word(2), word(4), word(5)];
  const counters: Record<string, number> = {};
  for (let index = 0; index < count; index++) {
    const at = descriptions + index * (DESCRIPTION_BYTES + nameBytes);
    const name = bytes.toString('latin1', at + DESCRIPTION_BYTES, at + DESCRIPTION_BYTES + nameBytes);
    const values = bytes.readUInt16LE(at + 6);
    if (values !== 1) continue;
    counters[name.slice(0, name.indexOf('\0'))] = Number(bytes.readBigUInt64LE(data + bytes.readUInt32LE(at + 8)));
  }
  return counters;
}
