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
 * that is cancelled while it waits stops waiting, and the request goes on. A result that comes too late is given to
 * [discard].
 */
internal suspend inline fun <T> Handle.request(
    noinline read: (Pointer?) -> T,
    noinline discard: (T) -> Unit = {},
    noinline failure: () -> Throwable? = { null },
    crossinline send: (handle: Pointer, result: ResultStruct, error: PointerByReference, isActive: () -> Boolean) -> Int,
): T {
    currentCoroutineContext().ensureActive()
    return suspendCancellableCoroutine { continuation ->
        val struct = ResultStruct()
        try {
            use { handle ->
                checked { error ->
                    struct.holding(Request(continuation, read, discard, failure))
                    send(handle, struct, error, continuation::isActive)
                }
            }
        } catch (exception: SessionStoreException) {
            // The library has dropped the struct without a result.
            continuation.resumeWithException(exception)
        }
    }
}

internal class Request<T>(
    private val continuation: CancellableContinuation<T>,
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
}
