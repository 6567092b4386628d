import { type KeyChangeListener, type Subscription, onAbort } from "./core.js";
import { type State, makeState } from "./values.js";

/**
 * What a listener is told, for `for await`: the listener begins with the loop and ends with it. What waits for the loop is
 * the newest state of each key.
 *
 * @param listen begins to listen
 * @param reason what to throw when the listener was dropped by nobody's wish
 */
export async function* iterate(
  listen: (listener: KeyChangeListener) => Subscription,
  reason: () => unknown,
  signal?: AbortSignal,
): AsyncGenerator<State, void, void> {
  const waiting = new Map<string, State>();
  let wake = () => {};
  let ended = false;
  let error: unknown;
  const end = (why: unknown) => {
    error ??= why;
    ended = true;
    wake();
  };
  const forget = onAbort(signal, (reason) => {
    waiting.clear();
    end(reason);
  });
  let subscription: Subscription | undefined;
  try {
    subscription = listen({
      onKeyChanged: (state) => {
        const older = waiting.get(state.key);
        waiting.delete(state.key);
        waiting.set(state.key, older ? makeState({ ...state, replaced: state.replaced + older.replaced + 1 }) : state);
        wake();
      },
      onRefused: end,
      onDropped: () => end(reason()),
    });
    for (;;) {
      for (const [key, state] of waiting) {
        waiting.delete(key);
        yield state;
      }
      if (error) throw error;
      if (ended) return;
      await new Promise<void>((resolve) => {
        wake = resolve;
      });
    }
  } finally {
    forget();
    subscription?.cancel();
  }
}
