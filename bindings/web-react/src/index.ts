/**
 * React hooks for `sessionstore`: values, states and peers of a room. Make the client once, outside of what is rendered;
 * the hooks listen while their component is there, and render it again when something changes.
 *
 * @packageDocumentation
 */
import { useMemo, useSyncExternalStore } from "react";
import { type Client, type ConnectionState, type KeyOf, type Peer, type Selector, SessionStoreError, type State, type Store, type Subscription } from "sessionstore";

const nobody: readonly Peer[] = Object.freeze([]);
const nothing: readonly State[] = Object.freeze([]);

/**
 * Listens until it is told to stop, or until nothing comes any more: the client is closed, which is no reason to fail, or
 * the server does not let it listen.
 */
function until(listen: (onDropped: () => void) => Subscription, ended: () => void): () => void {
  // Who has stopped it is told that too, and may have begun anew by then.
  let stopped = false;
  try {
    const subscription = listen(() => stopped || ended());
    return () => {
      stopped = true;
      subscription.cancel();
    };
  } catch (error) {
    if (!(error instanceof SessionStoreError && error.name === "CLOSED")) throw error;
    ended();
    return () => {};
  }
}

const nameOf = (key: KeyOf<any>) => (typeof key === "string" ? key : key.name);

/**
 * The value of a key: null when it is absent, undefined while it is not known yet, and once it is not known any more: the
 * client is closed, or the server does not let it listen.
 *
 * ```tsx
 * const pinned = key<{ text: string }>("pinned");
 *
 * function Pinned({ store }: { store: Store }) {
 *   const value = useValue(store, pinned);
 *   return value ? <p>{value.text}</p> : null;
 * }
 * ```
 */
export function useValue<T = any>(store: Store, key: KeyOf<T>): T | null | undefined {
  const name = nameOf(key);
  const subscribe = useMemo(
    () => (changed: () => void) => until((onDropped) => store.listen(name, { onKeyChanged: changed, onDropped }), changed),
    [store, name],
  );
  const value = () => store.cached<T>(name)?.value;
  return useSyncExternalStore(subscribe, value, () => undefined);
}

/**
 * The states of the keys of a selector that are set, in alphabetical order; none while they are not known yet, or not any
 * more, and none of a selector that names no key.
 *
 * ```tsx
 * const hands = useStates<boolean>(store, { prefixes: ["hand/"] });
 * ```
 */
export function useStates<T = any>(store: Store, selector: Selector): readonly State<T>[] {
  const { keys = [], prefixes = [] } = selector;
  // Another selector with the same keys is the same.
  const meant = JSON.stringify({ keys: keys.map(nameOf), prefixes });
  const watch = useMemo(() => {
    let list: readonly State<T>[] = nothing;
    const subscribe = (changed: () => void) => {
      const selector: { keys: string[]; prefixes: string[] } = JSON.parse(meant);
      if (!selector.keys.length && !selector.prefixes.length) return () => {};
      const states = new Map<string, State<T>>();
      const tell = () => {
        list = Object.freeze([...states.values()].sort((a, b) => (a.key < b.key ? -1 : 1)));
        changed();
      };
      const onKeyChanged = (state: State) => {
        if (state.value === null) states.delete(state.key);
        else states.set(state.key, state);
        // The current values are told together.
        if (!state.isSnapshot) tell();
      };
      return until(
        (onDropped) => store.listen(selector, { onKeyChanged, onSnapshotEnd: tell, onDropped }),
        () => {
          states.clear();
          tell();
        },
      );
    };
    return { subscribe, list: () => list };
  }, [store, meant]);
  return useSyncExternalStore(watch.subscribe, watch.list, () => nothing);
}

/** Everybody in the room, this peer included, in the order of their ids. */
export function usePeers(client: Client): readonly Peer[] {
  const subscribe = useMemo(() => (changed: () => void) => until((onDropped) => client.listen({ onPeers: changed, onDropped }), changed), [client]);
  return useSyncExternalStore(subscribe, () => client.peers(), () => nobody);
}

/** Where the client stands: `connecting`, `connected`, `reconnecting` or `closed`. */
export function useConnection(client: Client): ConnectionState {
  const subscribe = useMemo(() => (changed: () => void) => until((onDropped) => client.listen({ onState: changed, onDropped }), changed), [client]);
  return useSyncExternalStore(subscribe, () => client.state, () => "connecting");
}
