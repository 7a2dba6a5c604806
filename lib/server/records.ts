// What the serving workers write down for the main thread to read, in memory that both see.
import { pageSize } from '../memory/page-size.js';
import type { FaultServerOptions } from './fault-server-options.js';
import { FaultTrace, type TracedFault } from './fault-trace.js';
import { type Histogram, Measures, type OutcomeName, outcomes } from './measures.js';
import type { ServingOptions } from './messages.js';
import { type WorkingSet, WorkingSetRecorder } from './working-set.js';

export class Records {
  readonly #measure: boolean;
  readonly #trace: boolean;
  readonly #measures: Measures[] = [];
  readonly #traces: FaultTrace[] = [];
  readonly #recorder: WorkingSetRecorder | undefined;

  constructor({ source, measure = false, trace = false, record = false }: FaultServerOptions) {
    this.#measure = measure;
    this.#trace = trace;
    if (record === false) return;
    this.#recorder = WorkingSetRecorder.create(
      source.sizeBytes,
      pageSize(),
      record === true ? undefined : record.earlier,
    );
  }

  /** Where the next worker writes: it has measures and a trace of its own. */
  ofNextWorker(): Pick<ServingOptions, 'measures' | 'trace' | 'recording'> {
    const measures = this.#measure ? new Measures() : undefined;
    const trace = this.#trace ? new FaultTrace() : undefined;
    if (measures !== undefined) this.#measures.push(measures);
    if (trace !== undefined) this.#traces.push(trace);
    return {
      ...(measures && { measures: measures.shared }),
      ...(trace && { trace: trace.shared }),
      ...(this.#recorder && { recording: this.#recorder.shared }),
    };
  }

  histograms(): { readonly outcome: OutcomeName; readonly histogram: Histogram }[] {
    return this.#measures.flatMap((one) => outcomes.map((outcome) => ({ outcome, histogram: one.histogram(outcome) })));
  }

  takeTrace(): { faults: TracedFault[]; lost: number } {
    const taken = this.#traces.map((trace) => trace.take());
    return {
      faults: taken.flatMap(({ faults }) => faults),
      lost: taken.reduce((sum, { lost }) => sum + lost, 0),
    };
  }

  workingSet(): WorkingSet | undefined {
    return this.#recorder?.workingSet();
  }

  get workingSetChanges(): number {
    return this.#recorder?.changes ?? 0;
  }
}
