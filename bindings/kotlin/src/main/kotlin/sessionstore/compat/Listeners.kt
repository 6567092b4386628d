package sessionstore.compat

import com.google.gson.JsonElement
import sessionstore.SessionStoreException

/** Hears what concerns a client as a whole. */
public interface HMSUpdateListener {
    /** The room was joined, and this is its store. Called once. */
    public fun onSessionStoreAvailable(sessionStore: HmsSessionStore)

    /** Something went wrong that no call is waiting for. */
    public fun onError(error: HMSException) {}

    /** The connection broke and is being made anew. */
    public fun onReconnecting(error: HMSException) {}
}

/** Hears of changes of keys. */
public fun interface HMSKeyChangeListener {
    /** A key has this value, null when it is absent: first its current one, then each change. */
    public fun onKeyChanged(key: String, value: JsonElement?)
}

/** Hears how a call ended: exactly one of these is called, once. */
public interface HMSActionResultListener {
    /** It succeeded. */
    public fun onSuccess()

    /** It failed. */
    public fun onError(error: HMSException)
}

/** Hears what a key holds: exactly one of these is called, once. */
public interface HMSSessionMetadataListener {
    /** The key's value; null when it is absent. */
    public fun onSuccess(sessionMetadata: JsonElement?)

    /** It could not be read. */
    public fun onError(error: HMSException)
}

/**
 * What went wrong.
 *
 * @property code the number of the error, as docs/protocol.md and every other language have it
 * @property name such as `"VALUE_TOO_LARGE"`
 * @property action what failed, such as `"set"`
 * @property message a sentence without values, tokens and secrets
 * @property description what the code means and what to do
 * @property isTerminal whether the client is closed by it
 */
public class HMSException internal constructor(
    public val code: Int,
    public val name: String,
    public val action: String,
    override val message: String,
    public val description: String,
    public val isTerminal: Boolean,
    cause: SessionStoreException,
) : Exception(message, cause) {
    internal constructor(action: String, cause: SessionStoreException, isTerminal: Boolean = false) :
        this(cause.code.number, cause.code.name, action, cause.message, cause.code.advice, isTerminal, cause)
}
