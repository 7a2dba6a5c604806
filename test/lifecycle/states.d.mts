export const states: Record<string, () => unknown>;
export const blockingStates: Record<string, () => unknown>;
