import type { Subscription } from "./core.js";

/** What waits for a reader: by key, so that a newer item takes the place of an older one with the same key. */
export interface Inbox<T> {
  readonly waiting: Map<unknown, T>;
  /** Something was put in. */
  wake(): void;
  /** Nothing comes any more; an error is thrown to the reader after what waits. */
  end(error?: unknown): void;
}

/**
 * What a listener is told, for `for await`: the listener begins with the loop and ends with it.
 *
 * @param listen begins to listen
 */
export async function* iterate<T>(listen: (inbox: Inbox<T>) => Subscription, signal?: AbortSignal): AsyncGenerator<T, void, void> {
  const waiting = new Map<unknown, T>();
  let wake = () => {};
  let ended: { error?: unknown } | undefined;
  const end = (error?: unknown) => {
    ended ??= { error };
    wake();
  };
  const abort = () => end(signal!.reason);
  signal?.throwIfAborted();
  const subscription = listen({ waiting, wake: () => wake(), end });
  signal?.addEventListener("abort", abort);
  try {
    for (;;) {
      signal?.throwIfAborted();
      for (const [key, item] of waiting) {
        waiting.delete(key);
        yield item;
        signal?.throwIfAborted();
      }
      if (ended?.error !== undefined) throw ended.error;
      if (ended) return;
      await new Promise<void>((resolve) => {
        wake = resolve;
        if (waiting.size || ended) resolve();
      });
    }
  } finally {
    signal?.removeEventListener("abort", abort);
    subscription.cancel();
  }
}
