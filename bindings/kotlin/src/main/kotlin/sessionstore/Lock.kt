package sessionstore

import com.sun.jna.Pointer
import kotlinx.coroutines.CompletableDeferred
import sessionstore.internal.C
import sessionstore.internal.Cleaning
import sessionstore.internal.Handle
import sessionstore.internal.LockTarget
import sessionstore.internal.keeping
import sessionstore.internal.request
import sessionstore.internal.text

/**
 * A lock that this client holds, or held. While the client is connected it renews the lock by itself. Who holds a lock is
 * shown to everybody by the key `$lock/` and its name, which can be listened to as any other.
 *
 * Keep it while you need it: [close] releases it, and so does the collector once nothing refers to it and nobody waits for
 * its end. It keeps its client.
 */
public class Lock internal constructor(
    internal val handle: Handle,
    private val end: LockEnd,
    /** Nobody reads it, but a client that is collected gives up its locks. */
    private val store: Store,
) : AutoCloseable {
    init {
        val handle = handle
        Cleaning.register(this) { handle.close() }
    }

    /** The lock's name. */
    public val name: String = handle.use { lock -> text { C.sessionstore_lock_name(lock, it) } }

    /**
     * The fencing token of this grant: larger than that of every grant before it in the session. Who guards something
     * outside the room can refuse tokens that are smaller than one it has seen.
     */
    public val token: Long = handle.use(C::sessionstore_lock_token)

    /**
     * Whether the lock is held as far as this client knows: it was neither released nor lost, and its time is not over,
     * of which [awaitEnd] tells a moment later. What must not be written by one who has lost the lock without knowing yet is
     * written with [WriteOptions.lock].
     */
    public val isHeld: Boolean
        get() = handle.useIfOpen { C.sessionstore_lock_is_held(it) != 0 } ?: false

    /**
     * Waits until the lock is not held any more. Who waits keeps the lock.
     *
     * @return why it was lost: [ErrorCode.LOCK_LOST] when it could not be renewed in time or an operator took it
     *   away, [ErrorCode.FORBIDDEN] when the rules do not allow it any more, [ErrorCode.SESSION_LOST], or what the client ended with; null when it was released
     */
    public suspend fun awaitEnd(): SessionStoreException? = keeping(this) { end.reason.await() }

    /**
     * Gives the lock up and waits until it is free: the next who waits gets it. A coroutine that is cancelled meanwhile
     * stops waiting; the lock is given up nevertheless.
     *
     * @throws SessionStoreException [ErrorCode.LOCK_LOST] if it was not held any more; [ErrorCode.TIMEOUT],
     *   [ErrorCode.OUTCOME_UNKNOWN], after which it ends with its time at the latest
     */
    public suspend fun release() {
        handle.request(this, {}, goesOn = true) { lock, result, error, _ -> C.sessionstore_lock_release(lock, result, error) }
    }

    /** Releases the lock in the background if it is still held. Never blocks, and may be called anywhere. */
    override fun close(): Unit = handle.close()
}

internal class LockEnd : LockTarget {
    val reason = CompletableDeferred<SessionStoreException?>()

    override fun lost(error: Pointer) {
        reason.complete(SessionStoreException.of(error))
    }

    override fun dropped() {
        reason.complete(null)
    }
}
