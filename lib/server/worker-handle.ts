// One serving worker as the main thread sees it: its thread, its port, and the eventfd that wakes it.
import { EventEmitter, once } from 'node:events';
import { setTimeout as delay } from 'node:timers/promises';
import { MessageChannel, type MessagePort, Worker, receiveMessageOnPort } from 'node:worker_threads';
import { UffdError, messageOf } from '../errors.js';
import { Held, QueueControl, WAITS_FOR_SECOND } from '../native/contract.js';
import { Bell } from './bell.js';
import { type GivenAnswer, givenAnswers } from './answer-block.js';
import { workerExecArgv } from './exec-argv.js';
import type { FromServing, ServingOptions, ToServing } from './messages.js';

/** How long a worker may take to stop: it never waits longer than its idle time. */
const STOP_MS = 5000;
/** In one call for so long, it is held. No answer takes that long by itself. */
const HELD_MS = 200;

export class WorkerHandle extends EventEmitter<{ message: [FromServing]; failed: [Error] }> {
  readonly #worker: Worker;
  readonly #port: MessagePort;
  #bell = new Bell(-1);
  #ended = false;
  #stopping = false;
  #failed = false;
  #control: Int32Array = new Int32Array(QueueControl.fields);
  #answers: Float64Array = new Float64Array();
  /** The call it was seen in, and when it was seen in it first. */
  #seen: { readonly calls: string; readonly at: number } = { calls: '', at: 0 };
  /** Sessions it has: new ones go to the worker with the fewest. */
  sessions = 0;
  /** Those of them that have held it. */
  readonly holders = new Set<number>();

  private constructor(worker: Worker, port: MessagePort) {
    super();
    this.#worker = worker;
    this.#port = port;
    port.on('message', this.#received);
    worker.on('error', (error) => {
      this.#fail(messageOf(error));
    });
    worker.on('exit', () => {
      this.#ended = true;
      this.#bell.close();
      port.close();
      if (!this.#stopping) this.#fail('its thread has ended');
    });
  }

  /** Starts the thread and waits until it serves. @throws UffdError ERR_WORKER_FAILED */
  static async start(options: ServingOptions, fetchPorts: MessagePort[]): Promise<WorkerHandle> {
    const { port1, port2 } = new MessageChannel();
    const worker = new Worker(new URL('./serving-worker.js', import.meta.url), {
      name: 'uffd-serving',
      ...workerExecArgv(),
      workerData: { options, port: port2, fetchPorts },
      transferList: [port2, ...fetchPorts],
    });
    const handle = new WorkerHandle(worker, port1);
    await new Promise<void>((resolve, reject) => {
      handle.once('failed', reject);
      handle.once('message', (message) => {
        handle.off('failed', reject);
        if (message.type === 'ready') {
          handle.#bell = new Bell(message.bell);
          handle.#control = message.control;
          handle.#answers = message.answers;
        }
        resolve();
      });
    });
    return handle;
  }

  /** Posts a message and wakes the worker, which looks at its port only then. False once it has ended. */
  send(message: ToServing): boolean {
    if (this.#ended) return false;
    this.#port.postMessage(message);
    this.#bell.ring();
    return true;
  }

  /** Whether it keeps the process alive. */
  setRef(ref: boolean): void {
    if (ref) {
      this.#worker.ref();
      this.#port.ref();
    } else {
      this.#worker.unref();
      this.#port.unref();
    }
  }

  /**
   * For whom it has been in the same call for longer than any takes: the sessions whose client holds the lock of its
   * address space. To be asked again and again; nobody when it goes on.
   */
  heldBy(): number[] {
    const { calls, sessions } = this.#calls();
    if (sessions.length === 0 || calls !== this.#seen.calls) this.#seen = { calls, at: performance.now() };
    return performance.now() - this.#seen.at < HELD_MS ? [] : sessions;
  }

  /** Takes what it has said already: of one that is held, all there is. */
  hear(): void {
    let received;
    while ((received = receiveMessageOnPort(this.#port)) !== undefined) this.#received(received.message as FromServing);
  }

  /** Whether sessions can be given to it: it runs, is not held, and has come back from when it last was. */
  get available(): boolean {
    return !this.#ended && !this.#failed && !this.left && this.heldBy().length === 0;
  }

  /** Sessions were taken from it, and it has not come back since. */
  get left(): boolean {
    return Atomics.load(this.#control, QueueControl.held) !== Held.free;
  }

  /**
   * Leaves it only those sessions, if it is still in the call in which it was held: then nothing more is done for the
   * others once this returns. What it had given and nobody has settled, by slot; undefined when it has come back.
   */
  take(kept: readonly number[]): Map<number, GivenAnswer[]> | undefined {
    // One at a time: it has not heard of the last one.
    if (this.left) return undefined;
    Atomics.store(this.#control, QueueControl.held, Held.asked);
    const held = this.#seen.calls === this.#calls().calls;
    // It may come back at any moment: what is read and told here, it waits for.
    const given = held ? givenAnswers(this.#answers, this.#control[QueueControl.rowsToAnswer]!) : undefined;
    if (held) this.#port.postMessage({ type: 'taken', kept } satisfies ToServing);
    Atomics.store(this.#control, QueueControl.held, held ? Held.taken : Held.free);
    return given;
  }

  /** The calls that it is in, as a text that no other ones have, and for whom. */
  #calls(): { calls: string; sessions: number[] } {
    // For whom before how many: the same number then means the same call.
    const words = [QueueControl.ownerCall, QueueControl.ownerCalls, QueueControl.secondCall, QueueControl.secondCalls];
    const read = words.map((word) => Atomics.load(this.#control, word));
    const [owner, , second] = read as [number, number, number, number];
    // Its own call, or that of the thread it waits for.
    const inCall = owner === WAITS_FOR_SECOND ? second !== 0 : owner !== 0;
    const sessions = inCall ? [...new Set([owner, second])].filter((session) => session > 0) : [];
    return { calls: read.join(), sessions };
  }

  readonly #received = (message: FromServing): void => {
    if (message.type === 'failed') this.#fail(message.error);
    else this.emit('message', message);
  };

  async stop(): Promise<void> {
    this.#stopping = true;
    if (this.#ended) return;
    const exited = once(this.#worker, 'exit', { signal: AbortSignal.timeout(STOP_MS) });
    this.send({ type: 'stop' });
    try {
      await exited;
    } catch {
      // Every wait of the worker is bounded, so terminate() gets through; unless a client holds it, for as long as it likes.
      await Promise.race([this.#worker.terminate(), delay(STOP_MS)]);
      this.#worker.unref();
    }
  }

  #fail(message: string): void {
    if (this.#failed) return;
    this.#failed = true;
    this.emit('failed', new UffdError('ERR_WORKER_FAILED', `a serving worker failed: ${message}`));
  }
}
