package sessionstore

import com.sun.jna.Pointer
import com.sun.jna.ptr.PointerByReference
import sessionstore.internal.C
import sessionstore.internal.stateOf
import sessionstore.internal.staticText
import kotlin.time.Duration
import kotlin.time.Duration.Companion.milliseconds

/**
 * What went wrong: a code, a sentence, and for conflicts what the key holds now. The sentence holds no value, token or
 * secret.
 *
 * @property code what kind of error it is
 * @property message a sentence for people: what happened and what to do
 * @property isRetryable whether the same call may succeed later without being changed
 * @property current for [ErrorCode.VERSION_CONFLICT], and for [ErrorCode.CHECK_FAILED] of a key, what the key holds
 *   now; for [ErrorCode.LOCK_HELD], the key that shows who holds the lock; otherwise null
 * @property check which check of a transaction failed, counted from 0; null when it was none
 * @property write which write of a transaction was refused, counted from 0; null when it was none
 * @property retryAfter for [ErrorCode.RATE_LIMITED], and for a server that is full, how long to wait before trying
 *   again; null when the error does not say
 */
public class SessionStoreException internal constructor(
    public val code: ErrorCode,
    override val message: String,
    public val isRetryable: Boolean = code.isRetryable,
    public val current: State? = null,
    public val check: Int? = null,
    public val write: Int? = null,
    public val retryAfter: Duration? = null,
) : RuntimeException(message) {
    /** The name of the code, and the sentence. */
    override fun toString(): String = "${code.name}: $message"

    internal companion object {
        /** Copies a borrowed error. */
        fun of(error: Pointer): SessionStoreException = SessionStoreException(
            code = ErrorCode.of(C.sessionstore_error_code(error)),
            message = staticText(C.sessionstore_error_message(error)),
            isRetryable = C.sessionstore_error_is_retryable(error) != 0,
            current = C.sessionstore_error_current(error)?.let(::stateOf),
            check = C.sessionstore_error_check(error).takeIf { it >= 0 },
            write = C.sessionstore_error_write(error).takeIf { it >= 0 },
            retryAfter = C.sessionstore_error_retry_after_ms(error).takeIf { it >= 0 }?.milliseconds,
        )

        fun ofCode(code: ErrorCode): SessionStoreException = SessionStoreException(code, code.advice)
    }
}

internal fun closed(): SessionStoreException = SessionStoreException.ofCode(ErrorCode.CLOSED)

/** Calls a function that can fail, and throws what its `error_out` was given. */
internal inline fun checked(call: (PointerByReference) -> Int) {
    val error = PointerByReference()
    val code = call(error)
    if (code == 0) return
    val given = error.value ?: throw SessionStoreException.ofCode(ErrorCode.of(code))
    try {
        throw SessionStoreException.of(given)
    } finally {
        C.sessionstore_error_free(given)
    }
}
