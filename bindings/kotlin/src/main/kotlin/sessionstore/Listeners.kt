package sessionstore

/**
 * Hears what concerns a client as a whole. Calls never overlap and come in order, on the thread that
 * [ClientOptions.callbacks] says.
 *
 * Everything that does not block may be called here, also closing the very client that is calling. Do not wait in here
 * for the library, as with `runBlocking { store.set(…) }`: the answer comes on the thread that waits for it, so it never
 * comes. Launch a coroutine instead. An exception that is thrown here goes to the thread's handler of uncaught
 * exceptions, and not into the library.
 */
public interface UpdateListener {
    /** The room was joined. Called once. */
    public fun onStoreAvailable(store: Store) {}

    /** The connection's state is now this; the error says why, or is null. */
    public fun onConnectionState(state: ConnectionState, error: SessionStoreException?) {}

    /** Another peer joined, changed or left. Those who are in the room already are told as joined. */
    public fun onPeer(change: PeerChange) {}

    /** Something went wrong that no request is waiting for, such as [ErrorCode.SESSION_LOST]. */
    public fun onError(error: SessionStoreException) {}

    /**
     * The token expires at this server time, in milliseconds since 1970. Soon after, the client closes with
     * [ErrorCode.TOKEN_EXPIRED], unless [Client.renewToken] hands in a fresh one. Told 30 s before, or at once when less
     * is left.
     */
    public fun onTokenExpiring(expiresAt: Long) {}

    /** The last call: the client is closed. */
    public fun onDropped() {}
}

/** Hears of changes of some keys; [UpdateListener] says what may be done here, and where it is called. */
public fun interface KeyChangeListener {
    /**
     * A key has this state. First comes the current value of each key (absent ones included), then [onSnapshotEnd],
     * then each change, this peer's own included.
     */
    public fun onKeyChanged(state: State)

    /** All current values were given. */
    public fun onSnapshotEnd() {}

    /** The server refused to listen to these keys; only [onDropped] follows. */
    public fun onRefused(error: SessionStoreException) {}

    /** The last call: the listener was cancelled or refused, or its client is closed. */
    public fun onDropped() {}
}

/** Where a client stands. */
public enum class ConnectionState {
    /** The first join is under way. */
    CONNECTING,

    /** Joined. */
    CONNECTED,

    /** The connection broke and is being made anew; requests wait. */
    RECONNECTING,

    /** Over, for good: the client was closed or left, or the server refused it. */
    CLOSED,
    ;

    internal companion object {
        fun of(number: Int): ConnectionState = entries[number - 1]
    }
}

/**
 * Where a client stands, and why.
 *
 * @property state the state
 * @property error what led to it, or null
 */
public class Connection internal constructor(public val state: ConnectionState, public val error: SessionStoreException?) {
    /** The state, and why. */
    override fun toString(): String = if (error == null) "$state" else "$state ($error)"
}
