// From a handshake, the text and the descriptors, to what a fault server is to attach; or to the reason why not.
import { UffdError } from '../errors.js';
import { kindOf, memoryKinds } from '../memory/kinds/kinds.js';
import { pageSize } from '../memory/page-size.js';
import { native } from '../native/load.js';
import type { Attachment } from '../server/fault-server-options.js';
import { parseClone } from './clones.js';
import { checkMemory, checkUserfaultfd } from './descriptors.js';
import { type Dialect, parseHandshake } from './dialects.js';
import { checkMappings } from './mappings.js';

/** The memory of clones, see `fillBacking`. */
export interface ClonesBacking {
  readonly fd: number;
  readonly holes: Float64Array;
}

interface Expected {
  readonly sizeBytes: number;
  readonly backing: ClonesBacking | undefined;
  /** Whether the peer could do anything to this process anyway, see `checkMemory`. */
  readonly trusted: boolean;
}

/** Takes the descriptors out of the array when all is well: they are the server's then. */
export function attachmentFrom(
  text: string,
  descriptors: number[],
  { sizeBytes, backing, trusted }: Expected,
): { attachment: Attachment; dialect: Dialect } {
  const [userfaultfd, memory, ...more] = descriptors;
  if (userfaultfd === undefined) throw refusal('no userfaultfd came with the handshake');
  if (more.length > 0) throw refusal('more than a userfaultfd and a memfd came along');
  if (backing !== undefined && memory !== undefined) {
    throw refusal('a clone has no memory to give: it maps what it was given');
  }
  checkUserfaultfd(userfaultfd);
  const { dialect, mappings } =
    backing === undefined ? parseHandshake(text, descriptors.length, pageSize()) : parseClone(text);
  const page = checkMappings(mappings, sizeBytes, pageSize());
  if (backing !== undefined && page !== pageSize()) {
    throw refusal(`the memory of the clones has pages of ${pageSize()} bytes, page_size is ${page}`);
  }
  const checked = memory === undefined ? undefined : checkMemory(memory, trusted);
  if (checked !== undefined) {
    const end = Math.max(...mappings.map(({ offset, size }) => offset + size));
    if (checked.sizeBytes < end) {
      throw refusal(`the ${checked.file} has ${checked.sizeBytes} bytes, the mappings end at ${end}`);
    }
    if (checked.pageSize !== page) {
      throw refusal(`the ${checked.file} has pages of ${checked.pageSize} bytes, page_size is ${page}`);
    }
  }
  const writable = checked?.writable === true;
  if (memory !== undefined && !writable) native().closeFd(memory);
  descriptors.length = 0;
  const attachment = {
    userfaultfd,
    ...(memory !== undefined && writable && { memory }),
    ...(backing === undefined
      ? { kind: kindOf(checked?.file, page, pageSize()).name }
      : { kind: memoryKinds['memfd-private'].name, resident: true, holes: backing.holes }),
    pageSize: page,
    regions: mappings.map((one) => ({ start: BigInt(one.base_host_virt_addr), size: one.size, offset: one.offset })),
  };
  return { attachment, dialect };
}

function refusal(reason: string): UffdError {
  return new UffdError('ERR_HANDOFF_REFUSED', reason);
}
