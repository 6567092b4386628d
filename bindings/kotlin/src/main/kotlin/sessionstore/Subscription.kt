package sessionstore

import com.sun.jna.Pointer
import com.sun.jna.ptr.PointerByReference
import kotlinx.coroutines.CompletableDeferred
import sessionstore.internal.C
import sessionstore.internal.ClientCore
import sessionstore.internal.Handle
import sessionstore.internal.KeyChangeTarget
import sessionstore.internal.TakenTarget
import sessionstore.internal.stateOf

/**
 * A listener that was registered with [Store.listen]. It stays until it is cancelled or its client is closed, whether or
 * not somebody keeps this.
 */
public class Subscription internal constructor(private val core: ClientCore, private val listener: KeyChangeListener) :
    AutoCloseable {
    private val dropped = CompletableDeferred<Unit>()

    @Volatile
    private var handle: Handle? = null

    /** Whether the listener's last call has been made. */
    public val isDropped: Boolean
        get() = dropped.isCompleted

    /**
     * Stops the listener and waits until nothing calls it any more. A coroutine that is cancelled meanwhile stops
     * waiting; the listener stops nevertheless.
     */
    public suspend fun cancel() {
        close()
        dropped.await()
    }

    /** Asks the listener to stop, and returns at once. May be called anywhere, in this very listener too. */
    override fun close() {
        // One that has gone already has nothing left to cancel.
        handle?.useIfOpen { subscription -> checked { C.sessionstore_subscription_cancel(subscription, it) } }
    }

    internal fun register(call: (target: KeyChangeTarget, out: PointerByReference) -> Unit) {
        val out = PointerByReference()
        val target = ListenerTarget()
        core.subscriptions.add(this)
        try {
            target.take { call(target, out) }
        } catch (exception: SessionStoreException) {
            core.subscriptions.remove(this)
            throw exception
        }
        val registered = Handle(out.value, C::sessionstore_subscription_free)
        handle = registered
        // It may have been dropped before this was known.
        if (isDropped) registered.close()
    }

    private inner class ListenerTarget : TakenTarget(), KeyChangeTarget {
        override fun keyChanged(event: Pointer) = listener.onKeyChanged(stateOf(event))

        override fun snapshotEnd() = listener.onSnapshotEnd()

        override fun refused(error: Pointer) = listener.onRefused(SessionStoreException.of(error))

        override fun ended() {
            core.subscriptions.remove(this@Subscription)
            try {
                listener.onDropped()
            } finally {
                dropped.complete(Unit)
                handle?.close()
            }
        }
    }
}
