// What memory must know of whoever has it registered.

/** What a thread can do to a mapping and wait in until somebody has read a message. */
export type MemoryChange = 'remove' | 'unmap' | 'remap' | 'populate';

/** What a mapping must know of whoever has it registered; the userfaultfd side implements it. */
export interface Registration {
  /** True while an madvise of this thread could wait for an event that only this thread reads. */
  wouldDeadlock(change: MemoryChange): boolean;
}
