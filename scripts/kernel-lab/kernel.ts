// A kernel that can be booted, and what is to be had of one.
export interface Kernel {
  readonly name: string;
  /** As uname says. */
  readonly release: string;
  readonly image: string;
  /** Modules, in the order in which they must be loaded. */
  readonly modules: readonly string[];
}

/** It, or why it is not to be had. */
export type Found = { readonly kernel: Kernel } | { readonly absent: string };
