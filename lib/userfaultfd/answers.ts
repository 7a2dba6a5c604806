// The answers to faults: as rows for the addon, refused before the call where no kernel can give them, and their results
// as outcomes.
import { KernelError, UffdError } from '../errors.js';
import { freeHugePages } from '../memory/huge-pages.js';
import { type AnswerName, explain } from '../memory/kinds/kind.js';
import { pageEntries } from '../memory/pagemap.js';
import { Answer as Row, AnswerOp } from '../native/contract.js';
import { native } from '../native/load.js';
import { type Outcome, outcomeOf } from './outcome.js';
import type { PageRange, Region } from './region.js';

/** How pages are mapped, and whether who waits is woken. */
export interface AnswerOptions {
  /** Leave the waiting threads asleep; `wake` them later. Default false. */
  readonly dontWake?: boolean;
  /** Map the page write-protected (COPY 5.7, CONTINUE 6.4). Default false. */
  readonly writeProtect?: boolean;
}

/** Whether protection is set or taken away. */
export interface ProtectOptions {
  /** Protect, or take the protection away, which wakes who waits. Default true. */
  readonly protect?: boolean;
  /** With `protect: false`: leave them asleep. Default false. */
  readonly dontWake?: boolean;
}

/** How pages are moved. */
export interface MoveOptions {
  /** Leave the waiting threads asleep; `wake` them later. Default false. */
  readonly dontWake?: boolean;
  /** Pages that the source does not have are left out (else `absent`). Default false. */
  readonly allowSourceHoles?: boolean;
}

interface To {
  readonly at: PageRange;
}

/** One answer of a batch: the name of the ioctl, where, and what the method of that name takes. */
export type Answer =
  | (To & AnswerOptions & { readonly answer: 'copy'; readonly bytes: Uint8Array })
  | (To & AnswerOptions & { readonly answer: 'continue' })
  | (To & { readonly answer: 'zeropage' | 'poison'; readonly dontWake?: boolean })
  | (To & ProtectOptions & { readonly answer: 'writeprotect' | 'rwprotect' })
  | (To & MoveOptions & { readonly answer: 'move'; readonly source: bigint })
  | (To & { readonly answer: 'wake' });

const operations: Record<AnswerName, number> = {
  copy: AnswerOp.copy,
  continue: AnswerOp.continue,
  zeropage: AnswerOp.zeropage,
  poison: AnswerOp.poison,
  wake: AnswerOp.wake,
  writeprotect: AnswerOp.writeProtect,
  rwprotect: AnswerOp.rwProtect,
  move: AnswerOp.move,
};

const EEXIST = -17;
const DONTWAKE = 1;
/** WP of COPY and CONTINUE, ALLOW_SRC_HOLES of MOVE. */
const SECOND = 2;
/** Of WRITEPROTECT and RWPROTECT the bits are the other way round. */
const PROTECT = 1;
const PROTECT_DONTWAKE = 2;

function modeOf(answer: Answer): number {
  switch (answer.answer) {
    case 'wake':
      return 0;
    case 'writeprotect':
    case 'rwprotect':
      return answer.protect === false ? (answer.dontWake === true ? PROTECT_DONTWAKE : 0) : PROTECT;
    case 'copy':
    case 'continue':
      return (answer.dontWake === true ? DONTWAKE : 0) | (answer.writeProtect === true ? SECOND : 0);
    case 'move':
      return (answer.dontWake === true ? DONTWAKE : 0) | (answer.allowSourceHoles === true ? SECOND : 0);
    default:
      return answer.dontWake === true ? DONTWAKE : 0;
  }
}

/** Writes answers into rows. @throws UffdError ERR_OUT_OF_RANGE, ERR_NOT_FOR_MEMORY */
export function rowsOf(answers: readonly Answer[]): Float64Array {
  const rows = new Float64Array(answers.length * Row.fields);
  answers.forEach((answer, index) => {
    const { region, page } = answer.at;
    const bytes = answer.answer === 'copy' ? answer.bytes : undefined;
    const pages = bytes === undefined ? (answer.at.pages ?? 1) : bytes.length / region.pageSize;
    refuseImpossible(region, answer.answer);
    const row = index * Row.fields;
    rows[row + Row.op] = operations[answer.answer];
    rows[row + Row.mode] = modeOf(answer);
    rows[row + Row.start] = region.addressOf(page, pages);
    rows[row + Row.length] = pages * region.pageSize;
    if (bytes !== undefined) rows[row + Row.source] = native().addressOf(bytes);
    if (answer.answer === 'move') rows[row + Row.source] = Number(answer.source);
  });
  return rows;
}

/** The outcome of a row that has been given. */
export function outcomeOfRow(answer: Answer, rows: Float64Array, index: number): Outcome {
  const row = index * Row.fields;
  const result = rows[row + Row.result]!;
  const { region, page } = answer.at;
  if (result === EEXIST && region.mapping !== undefined && notThere(region, page))
    return { kind: 'exhausted', bytes: 0 };
  const ioctl = `UFFDIO_${answer.answer.toUpperCase()}`;
  return outcomeOf(result, rows[row + Row.length]!, ioctl, describe(answer, ioctl));
}

function refuseImpossible(region: Region, name: AnswerName): void {
  const support = region.kind?.answers[name];
  if (region.kind === undefined || support === undefined || !('not' in support) || support.not !== 'never') return;
  throw new UffdError('ERR_NOT_FOR_MEMORY', explain(region.kind, `UFFDIO_${name.toUpperCase()}`, support));
}

/** Of huge pages EEXIST also says that the pool is empty; told apart by looking, which only our own memory allows. */
function notThere(region: Region, page: number): boolean {
  const { mapping, pageSize } = region;
  if (mapping === undefined || mapping.unmapped || !mapping.kind.name.startsWith('hugetlb')) return false;
  const offset = Number(region.start - mapping.address) + page * pageSize;
  const [entry] = pageEntries(mapping, { offset, lengthBytes: pageSize });
  return entry?.present === false && freeHugePages(pageSize) === 0;
}

function describe({ at, answer }: Answer, ioctl: string): string {
  const { kind } = at.region;
  const where = `page ${at.page}${at.pages === undefined ? '' : ` and ${at.pages - 1} after it`}`;
  return kind === undefined ? where : `${where}; ${explain(kind, ioctl, kind.answers[answer])}`;
}

/** @throws KernelError of UFFDIO_SET_MODE with the version it needs */
export function setModeError(errno: number): KernelError {
  return new KernelError(errno, 'UFFDIO_SET_MODE', 'Linux 7.3; rwpAsync of a userfaultfd with the feature rwp');
}
