package sessionstore.compat

import com.google.gson.GsonBuilder
import com.google.gson.JsonElement
import com.google.gson.JsonParser
import kotlinx.coroutines.CompletableDeferred
import kotlinx.coroutines.CoroutineScope
import kotlinx.coroutines.Dispatchers
import kotlinx.coroutines.Job
import kotlinx.coroutines.SupervisorJob
import kotlinx.coroutines.launch
import sessionstore.Client
import sessionstore.ClientOptions
import sessionstore.ConnectionState
import sessionstore.ErrorCode
import sessionstore.KeyChangeListener
import sessionstore.Selector
import sessionstore.SessionStoreException
import sessionstore.State
import sessionstore.Store
import sessionstore.Subscription
import sessionstore.UpdateListener
import java.util.concurrent.ConcurrentHashMap

/**
 * The store under the names that apps of the hosted original call it by. Values are Gson's, which the app must have among
 * its dependencies; numbers keep every digit. `docs/kotlin.md` has each call beside that of the idiomatic API.
 *
 * Every call ends in exactly one call of its listener, also when the store is gone. Listeners are called on the threads of
 * the client, see [ClientOptions.callbacks].
 *
 * @param store the store behind it
 */
public class HmsSessionStore(private val store: Store) {
    // Unconfined: what a request ends with is told on the client's thread, in order with what its listeners hear.
    private val scope = CoroutineScope(SupervisorJob() + Dispatchers.Unconfined)
    private val listening = ConcurrentHashMap<HMSKeyChangeListener, List<Listening>>()

    /**
     * Sets a key to a value: null, which removes it, or anything that Gson makes JSON of.
     *
     * @param data the value
     * @param key the key
     * @param hmsActionResultListener hears how it ended
     */
    public fun set(data: Any?, key: String, hmsActionResultListener: HMSActionResultListener) {
        act("set", hmsActionResultListener) {
            store.setJson(key, if (data == null) "null" else json(data))
        }
    }

    /**
     * Asks for a key's current value.
     *
     * @param key the key
     * @param hmsSessionMetadataListener is given the value, null when the key is absent
     */
    public fun get(key: String = DEFAULT_SESSION_METADATA_KEY, hmsSessionMetadataListener: HMSSessionMetadataListener) {
        scope.launch {
            val state = try {
                store.get(key)
            } catch (exception: SessionStoreException) {
                return@launch hmsSessionMetadataListener.onError(HMSException("get", exception))
            }
            hmsSessionMetadataListener.onSuccess(element(state))
        }
    }

    /**
     * Listens to keys: the listener is told the current value of each, then every change. The same listener may be added
     * again, for other keys.
     *
     * @param forKeys the keys
     * @param keyChangeListener is told
     * @param hmsActionResultListener hears whether the server lets it, after the current values
     */
    public fun addKeyChangeListener(
        forKeys: List<String>,
        keyChangeListener: HMSKeyChangeListener,
        hmsActionResultListener: HMSActionResultListener,
    ) {
        try {
            Listening(keyChangeListener, hmsActionResultListener, listening).begin(store, Selector(keys = forKeys))
        } catch (exception: SessionStoreException) {
            hmsActionResultListener.onError(HMSException("addKeyChangeListener", exception))
        }
    }

    /**
     * Stops a listener, for all keys it was added for. That it was not added, or is gone already, is fine.
     *
     * @param listener the listener
     * @param hmsActionResultListener hears when the listener is not called any more
     * @return the work, which completes then
     */
    public fun removeKeyChangeListener(
        listener: HMSKeyChangeListener,
        hmsActionResultListener: HMSActionResultListener? = null,
    ): Job {
        val removed = listening.remove(listener).orEmpty()
        return act("removeKeyChangeListener", hmsActionResultListener) { removed.forEach { it.cancel() } }
    }

    private fun act(action: String, listener: HMSActionResultListener?, what: suspend () -> Unit): Job = scope.launch {
        try {
            what()
        } catch (exception: SessionStoreException) {
            listener?.onError(HMSException(action, exception))
            return@launch
        }
        listener?.onSuccess()
    }

    /**
     * A listener for some keys, and among [all] for as long as it is called. It does not refer to the store: listeners
     * keep no client.
     */
    private class Listening(
        private val listener: HMSKeyChangeListener,
        private val resultListener: HMSActionResultListener,
        private val all: ConcurrentHashMap<HMSKeyChangeListener, List<Listening>>,
    ) : KeyChangeListener {
        /** Null when it could not begin. */
        private val subscription = CompletableDeferred<Subscription?>()

        // A listener that is dropped before its current values came is answered, too.
        private var isAnswered = false

        fun begin(store: Store, selector: Selector) {
            // Before: who is told the first value may remove the listener at once.
            all.compute(listener) { _, others -> others.orEmpty() + this }
            var begun: Subscription? = null
            try {
                begun = store.listen(selector, this)
            } finally {
                subscription.complete(begun)
                if (begun == null) forget()
            }
        }

        suspend fun cancel() {
            subscription.await()?.cancel()
        }

        private fun forget() {
            all.computeIfPresent(listener) { _, these -> (these - this).ifEmpty { null } }
        }

        override fun onKeyChanged(state: State) = listener.onKeyChanged(state.key, element(state))

        override fun onSnapshotEnd() = answer { resultListener.onSuccess() }

        override fun onRefused(error: SessionStoreException) = answer { fail(error) }

        override fun onDropped() {
            forget()
            answer { fail(SessionStoreException.ofCode(ErrorCode.CLOSED)) }
        }

        private fun answer(how: () -> Unit) {
            if (isAnswered) return
            isAnswered = true
            how()
        }

        private fun fail(error: SessionStoreException) =
            resultListener.onError(HMSException("addKeyChangeListener", error))
    }

    /** What the original's key is called that was there before keys were. */
    public companion object {
        /** The key of [get] without one. */
        public const val DEFAULT_SESSION_METADATA_KEY: String = "default"

        private val gson = GsonBuilder().serializeNulls().disableHtmlEscaping().create()

        private fun json(data: Any): String = try {
            gson.toJson(data)
        } catch (_: RuntimeException) {
            // Not the exception itself: it may quote the value.
            throw SessionStoreException(ErrorCode.INVALID_ARGUMENT, "Gson cannot make JSON of this ${data.javaClass.name}.")
        }

        private fun element(state: State): JsonElement? = if (state.isAbsent) null else JsonParser.parseString(state.json)

        /**
         * Joins a room for a listener of the original's kind.
         *
         * @param url the server
         * @param room the room; null when the token names it
         * @param listener is given the store
         * @param configure what else there is to say
         * @return the client; to leave, call its `leave` or `close`
         */
        public fun join(
            url: String,
            room: String?,
            listener: HMSUpdateListener,
            configure: ClientOptions.() -> Unit = {},
        ): Client = Client.open(url, room, Updates(listener), configure)
    }

    private class Updates(private val listener: HMSUpdateListener) : UpdateListener {
        override fun onStoreAvailable(store: Store) = listener.onSessionStoreAvailable(HmsSessionStore(store))

        override fun onConnectionState(state: ConnectionState, error: SessionStoreException?) = when (state) {
            ConnectionState.RECONNECTING -> listener.onReconnecting(HMSException("reconnect", error ?: lost()))
            ConnectionState.CLOSED -> if (error != null) listener.onError(HMSException("join", error, true)) else Unit
            else -> Unit
        }

        override fun onError(error: SessionStoreException) = listener.onError(HMSException("session", error))

        private fun lost() = SessionStoreException.ofCode(ErrorCode.CONNECTION_LOST)
    }
}
