export type SanitizerKind = 'address' | 'thread';
export const vcpuTests: readonly string[];
export const kinds: readonly SanitizerKind[];
export function outputFolder(kind: SanitizerKind): string;
export function addonOf(kind: SanitizerKind): string;
export function buildAddonWith(kind: SanitizerKind): Promise<void>;
export function processEnv(
  kind: SanitizerKind,
  place: { readonly root: string; readonly reports: string },
): Promise<Record<string, string>>;
export function findingsAboutAddon(kind: SanitizerKind, reports: string): string[];
