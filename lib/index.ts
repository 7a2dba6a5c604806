// Everything the package exports.
export { type ErrorCode, KernelError, MemoryFaultError, UffdError, errorCodes } from './errors.js';
export { Capability, type CapabilityName } from './kvm/capabilities.js';
export type { CpuidEntry } from './kvm/cpuid.js';
export { DirtyPages } from './kvm/dirty-pages.js';
export type { VcpuExit } from './kvm/exits.js';
export { GuestMemfd, type GuestMemfdFlagName } from './kvm/guest-memfd.js';
export { GuestMemoryError } from './kvm/guest-memory-error.js';
export { type CreateVmOptions, Kvm } from './kvm/kvm.js';
export type { MemorySlot } from './kvm/memory-slot.js';
export type { Registers, Segment, SpecialRegisters } from './kvm/registers.js';
export { MpState, type SlotLookup, Vcpu, type VcpuStateName } from './kvm/vcpu.js';
export { type StopOptions, Vm } from './kvm/vm.js';
export { isSupported, type Support } from './supported.js';
export type { AnswerName, FillWay, MemoryKind, RegisterModeName, Since } from './memory/kinds/kind.js';
export { memoryKinds } from './memory/kinds/kinds.js';
export type { AccessOptions } from './memory/access.js';
export type { AdviceName } from './memory/advice.js';
export type { MapOptions, MappableMemory, Protection } from './memory/map-options.js';
export { Mapping } from './memory/mapping.js';
export { type Extent, type HugePageSize, Memfd, type MemfdOptions, type SealName } from './memory/memfd.js';
export { type MemoryPolicy, type PolicyMode } from './memory/mempolicy.js';
export {
  type PageCategory,
  type PageEntry,
  type PageRun,
  type PageSpan,
  type ScanOptions,
  clearSoftDirty,
  pageEntries,
  scanPages,
} from './memory/pagemap.js';
export { pageSize } from './memory/page-size.js';
export type {
  FaultEvent,
  Forked,
  PageFault,
  RangeGone,
  Remapped,
  UnknownEvent,
  UnknownFault,
} from './userfaultfd/events.js';
export type { Answer, AnswerOptions, MoveOptions, ProtectOptions } from './userfaultfd/answers.js';
export type { FeatureName } from './userfaultfd/features.js';
export { type OpenRoute, availableFeatures } from './userfaultfd/open.js';
export type { Outcome } from './userfaultfd/outcome.js';
export type { PageRange, Region } from './userfaultfd/region.js';
export {
  type AddressRange,
  type QueueStatus,
  type ReadOptions,
  Userfaultfd,
  type UserfaultfdOptions,
} from './userfaultfd/userfaultfd.js';
export { type Attachment, FaultServer, type FaultServerOptions, type ServerEvents } from './server/fault-server.js';
export type { TracedFault } from './server/fault-trace.js';
export type { Histogram, OutcomeName } from './server/measures.js';
export type { FailurePolicy, SessionStats, SessionSummary } from './server/messages.js';
export type { ModuleReference, PageSource, SourceSpec } from './server/page-source.js';
export type { StateCounts } from './server/page-states.js';
export type { DemandFault, FaultPolicy, PageWindow } from './server/policy.js';
export type { SessionCounters } from './server/session-counters.js';
export type { WorkingSet } from './server/working-set.js';
export { type ProbeOptions, probe } from './probe/run.js';
export type { BlockerName, Evidence, ProbeResult } from './probe/probe.js';
export type { ProbeReport, ProbeReportEntry, Verdict } from './probe/report.js';
export { type Backing, fillBacking } from './sources/backing.js';
export { fileSource } from './sources/file.js';
export { type HttpSourceOptions, httpSource } from './sources/http.js';
export { moduleSource, objectSource } from './sources/user.js';
export type { ClonesBacking } from './transports/attachment.js';
export type { Dialect } from './transports/dialects.js';
export { type HandOffOptions, Handoff, handOff } from './transports/hand-off.js';
export { HandoffListener, type ListenerEvents, type ListenerOptions } from './transports/handoff-listener.js';
