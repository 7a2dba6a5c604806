// What a runner has made, undone in the opposite order. (AsyncDisposableStack, which Node 20 has not.)
export class Cleanup implements AsyncDisposable {
  readonly #made: (AsyncDisposable | Disposable)[] = [];

  use<T extends AsyncDisposable | Disposable>(resource: T): T {
    this.#made.push(resource);
    return resource;
  }

  async [Symbol.asyncDispose](): Promise<void> {
    for (const resource of this.#made.splice(0).reverse()) {
      if (Symbol.asyncDispose in resource) await resource[Symbol.asyncDispose]();
      else resource[Symbol.dispose]();
    }
  }
}
