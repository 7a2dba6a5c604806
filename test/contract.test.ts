// lib/native/contract.ts against the addon: everything declared is there, and nothing else is.
import { expect, test } from 'vitest';
import { Answer, AnswerOp, EventRow, QueueControl } from '../dist/native/contract.js';
import type { NativeAddon } from '../dist/native/contract.js';
import { native } from '../dist/native/load.js';

type Constructors = {
  [
    K in keyof NativeAddon as NativeAddon[K] extends abstract new (...args: never[]) => unknown ? K : never
  ]: NativeAddon[K];
};
type Names<T> = Record<keyof T, true>;

// The compiler holds these tables to the contract; the tests hold the addon to the tables.
const methods: { [K in keyof Constructors]: Names<InstanceType<Constructors[K]>> } = {
  Memfd: {
    fd: true,
    close: true,
    setSize: true,
    status: true,
    addSeals: true,
    getSeals: true,
    punchHole: true,
    allocate: true,
    seek: true,
    write: true,
    writeFromFile: true,
  },
  Mapping: {
    error: true,
    address: true,
    unmap: true,
    setRegistered: true,
    protect: true,
    advise: true,
    mincore: true,
    relocate: true,
    setPolicy: true,
    policy: true,
    view: true,
    detachViews: true,
    access: true,
  },
  Userfaultfd: {
    fd: true,
    close: true,
    handshake: true,
    register: true,
    unregister: true,
    answer: true,
    setMode: true,
    read: true,
    alive: true,
  },
  FaultQueue: {
    error: true,
    wakeFd: true,
    add: true,
    remove: true,
    mute: true,
    unregisteredBefore: true,
    alive: true,
    register: true,
    answer: true,
    answerAndWait: true,
    close: true,
  },
  UnixSocket: { fd: true, close: true, closeDetached: true, accept: true, receive: true, send: true, peer: true },
  SourceFile: {
    error: true,
    identity: true,
    holes: true,
    unchanged: true,
    read: true,
    hold: true,
    held: true,
    letGo: true,
    resident: true,
    close: true,
  },
  FdWatcher: { close: true },
  Kvm: {
    error: true,
    apiVersion: true,
    capability: true,
    runSize: true,
    createVm: true,
    supportedCpuid: true,
    msrIndices: true,
    close: true,
  },
  KvmVm: {
    capability: true,
    setMemory: true,
    createGuestMemfd: true,
    setAttributes: true,
    enableCapability: true,
    dirtyLog: true,
    clearDirtyLog: true,
    close: true,
  },
  KvmVcpu: {
    error: true,
    fd: true,
    getState: true,
    setState: true,
    setCpuid: true,
    getMsrs: true,
    setMsrs: true,
    preFault: true,
    run: true,
    interrupt: true,
    close: true,
  },
  TouchThreads: { error: true, progress: true, cancel: true },
  ReferenceHandler: { error: true, messages: true, stop: true },
  BounceThreads: { error: true, progress: true, finish: true, cancel: true },
  BlockingReader: { error: true, read: true, close: true },
};

const statics: { [K in keyof Constructors]: Names<Omit<Constructors[K], 'prototype'>> } = {
  Memfd: { create: true, createSecret: true },
  Mapping: {},
  Userfaultfd: { open: true },
  FaultQueue: {},
  UnixSocket: { listen: true, connect: true, pair: true },
  SourceFile: {},
  FdWatcher: {},
  Kvm: {},
  KvmVm: {},
  KvmVcpu: {},
  TouchThreads: {},
  ReferenceHandler: {},
  BounceThreads: {},
  BlockingReader: {},
};

const functions: Names<Omit<NativeAddon, keyof Constructors>> = {
  closeFd: true,
  closeDetached: true,
  duplicateFd: true,
  sealsOf: true,
  signalEvent: true,
  scanPages: true,
  sendSignal: true,
  exitWithin: true,
  setAffinity: true,
  affinity: true,
  pageSize: true,
  addressOf: true,
  systemCall: true,
  forkChild: true,
};

const classes = Object.keys(methods) as (keyof Constructors)[];

test.each(classes)('%s has its methods, and no other', (name) => {
  const prototype = native()[name].prototype as object;
  const present = Object.getOwnPropertyNames(prototype).filter((key) => key !== 'constructor');
  const own = name === 'FaultQueue' ? ['answerAndWait'] : [];
  expect([...present, ...own].sort()).toEqual(Object.keys(methods[name]).sort());
  for (const method of present) expect(prototype[method as never]).toBeTypeOf('function');
});

test('answerAndWait is a property of each FaultQueue, bound to it', () => {
  const blocks = [64, 48].map((bytes) => new Float64Array(new SharedArrayBuffer(bytes))) as [
    Float64Array,
    Float64Array,
  ];
  const queue = new (native().FaultQueue)(...blocks, new Int32Array(new SharedArrayBuffer(4 * QueueControl.fields)));
  expect(Object.getOwnPropertyNames(queue)).toEqual(['answerAndWait']);
  queue.close();
});

test.each(classes)('%s has its static functions, and no other', (name) => {
  const own = new Set(['length', 'name', 'prototype', 'arguments', 'caller']);
  const present = Object.getOwnPropertyNames(native()[name]).filter((key) => !own.has(key));
  expect(present.sort()).toEqual(Object.keys(statics[name]).sort());
});

test('the addon exports the classes and functions of the contract, and nothing else', () => {
  // `path` is what the package `bindings` notes there: where it found the addon.
  const { path, ...exported } = { ...native() } as NativeAddon & Record<string, unknown>;
  if (path !== undefined) expect(path).toMatch(/uffd\.node$/);
  expect(Object.keys(exported).sort()).toEqual([...classes, ...Object.keys(functions)].sort());
  for (const name of Object.keys(functions)) expect((exported as Record<string, unknown>)[name]).toBeTypeOf('function');
});

test('the rows are as wide as their fields', () => {
  const { fields, link, ...answer } = Answer;
  expect(Object.values(answer)).toEqual([...Array(fields).keys()]);
  expect(link).toBe(2 ** 31);
  const { fields: eventFields, ...event } = EventRow;
  expect(Object.values(event)).toEqual([...Array(eventFields).keys()]);
  expect(new Set(Object.values(AnswerOp)).size).toBe(Object.keys(AnswerOp).length);
});
