// What the guest prints: passed on as it comes, or kept for the JSON report.

export class Serial {
  readonly #keep: boolean;
  #text = '';

  constructor(keep: boolean) {
    this.#keep = keep;
  }

  readonly write = (text: string): void => {
    this.#text += text;
    if (!this.#keep) process.stdout.write(text);
  };

  /** The last one the guest has printed. */
  get checksum(): string | undefined {
    return /checksum: ([0-9a-f]{16})\n$/.exec(this.#text)?.[1];
  }
}
