package sessionstore.internal

import com.sun.jna.Pointer
import com.sun.jna.ptr.PointerByReference
import kotlinx.coroutines.CancellableContinuation
import kotlinx.coroutines.currentCoroutineContext
import kotlinx.coroutines.ensureActive
import kotlinx.coroutines.suspendCancellableCoroutine
import sessionstore.SessionStoreException
import sessionstore.checked
import kotlin.coroutines.resumeWithException

/**
 * One request: [send] makes the call, whose result [read] copies. A coroutine that is cancelled before sends nothing; one
 * that is cancelled while it waits stops waiting at once, and the request is taken back as far as it can be, unless it
 * [goesOn]. A result that comes too late is given to [discard]. While it waits it keeps the [owner] of the handle.
 */
internal suspend inline fun <T> Handle.request(
    owner: Any,
    noinline read: (Pointer?) -> T,
    noinline discard: (T) -> Unit = {},
    noinline failure: () -> Throwable? = { null },
    goesOn: Boolean = false,
    crossinline send: (handle: Pointer, result: ResultStruct, error: PointerByReference, isActive: () -> Boolean) -> Int,
): T {
    currentCoroutineContext().ensureActive()
    return keeping(owner) {
        suspendCancellableCoroutine { continuation ->
            val struct = ResultStruct()
            try {
                use { handle ->
                    val cancellation = newCancellation()
                    // The library drops the struct whatever follows, and the cancellation goes with it: [send] does nothing
                    // but call.
                    struct.holding(Request(continuation, cancellation, read, discard, failure))
                    // The result may come before the call has returned, which still borrows the cancellation.
                    cancellation.use { borrowed ->
                        struct.cancellation = borrowed
                        // Before the call: of who is cancelled by now, the library takes no request.
                        if (!goesOn) continuation.invokeOnCancellation { takeBack(cancellation) }
                        checked { error -> send(handle, struct, error, continuation::isActive) }
                    }
                }
            } catch (exception: SessionStoreException) {
                // The library has dropped the struct without a result.
                continuation.resumeWithException(exception)
            }
        }
    }
}

internal fun newCancellation(): Handle {
    val out = PointerByReference()
    checked { C.sessionstore_cancellation_new(out, it) }
    return Handle(out.value, C::sessionstore_cancellation_free)
}

/** What was taken back ends with `CANCELLED`, which nobody hears: the continuation was cancelled before. */
internal fun takeBack(cancellation: Handle) {
    // A request that has ended has none any more.
    cancellation.useIfOpen { pointer -> checked { C.sessionstore_cancellation_cancel(pointer, it) } }
}

internal class Request<T>(
    private val continuation: CancellableContinuation<T>,
    private val cancellation: Handle,
    private val read: (Pointer?) -> T,
    private val discard: (T) -> Unit,
    private val failure: () -> Throwable?,
) : ResultTarget {
    override fun result(error: Pointer?, result: Pointer?) {
        val value = try {
            failure()?.let { throw it }
            if (error != null) throw SessionStoreException.of(error)
            // What nobody waits for is not even taken over.
            if (!continuation.isActive) return
            read(result)
        } catch (exception: Throwable) {
            return continuation.resumeWithException(exception)
        }
        continuation.resume(value) { _, late, _ -> discard(late) }
    }

    override fun dropped() = cancellation.close()
}
