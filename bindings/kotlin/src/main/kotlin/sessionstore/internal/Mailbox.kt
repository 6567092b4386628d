package sessionstore.internal

import kotlinx.coroutines.channels.Channel
import kotlinx.coroutines.flow.FlowCollector

/**
 * What waits for a collector. Callbacks put in and never wait; what a newer item makes useless is taken out, so a slow
 * collector costs bounded memory, holds nobody up, and is never short of the newest.
 */
internal class Mailbox<T : Any> {
    private val waiting = LinkedHashMap<Any, T>()
    private var isClosed = false
    private val changed = Channel<Unit>(Channel.CONFLATED)

    /** Changes what waits, which is in the order in which it will be told. */
    fun change(how: LinkedHashMap<Any, T>.() -> Unit) {
        synchronized(waiting) { waiting.how() }
        changed.trySend(Unit)
    }

    /** Nothing more comes. */
    fun close() {
        synchronized(waiting) { isClosed = true }
        changed.trySend(Unit)
    }

    /** Tells the collector everything until the end. */
    suspend fun emitTo(collector: FlowCollector<T>) {
        while (true) {
            val (next, ended) = synchronized(waiting) {
                val first = waiting.entries.firstOrNull()
                if (first != null) waiting.remove(first.key)
                first?.value to isClosed
            }
            if (next != null) {
                collector.emit(next)
            } else if (ended) {
                return
            } else {
                changed.receive()
            }
        }
    }
}
