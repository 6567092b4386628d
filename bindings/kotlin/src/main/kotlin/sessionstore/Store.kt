package sessionstore

import com.sun.jna.Pointer
import com.sun.jna.ptr.PointerByReference
import kotlinx.coroutines.NonCancellable
import kotlinx.coroutines.coroutineScope
import kotlinx.coroutines.flow.Flow
import kotlinx.coroutines.flow.filterIsInstance
import kotlinx.coroutines.flow.flow
import kotlinx.coroutines.flow.map
import kotlinx.coroutines.launch
import kotlinx.coroutines.withContext
import kotlinx.serialization.KSerializer
import kotlinx.serialization.serializer
import sessionstore.internal.C
import sessionstore.internal.ClientCore
import sessionstore.internal.Handle
import sessionstore.internal.KeyChangeListenerStruct
import sessionstore.internal.LockListenerStruct
import sessionstore.internal.LockOptionsStruct
import sessionstore.internal.Mailbox
import sessionstore.internal.SelectorStruct
import sessionstore.internal.SizeT
import sessionstore.internal.UpdaterStruct
import sessionstore.internal.UpdaterTarget
import sessionstore.internal.UsageStruct
import sessionstore.internal.encode
import sessionstore.internal.keeping
import sessionstore.internal.length
import sessionstore.internal.optionMilliseconds
import sessionstore.internal.request
import sessionstore.internal.stateOf
import sessionstore.internal.statesOf
import sessionstore.internal.text
import sessionstore.internal.utf8
import kotlin.time.Duration

/**
 * The store of the room a client is in. It keeps its client: as long as somebody refers to the store, the client is not
 * closed by the collector. Once the client is closed, its calls throw [ErrorCode.CLOSED].
 *
 * Who reads a value, changes it and sets all of it undoes what somebody else did meanwhile. Instead: one key each
 * (`hand/<peer id>`, watched by its prefix); [add] and [write], which change a value on the server; [update], which
 * computes a value anew until nobody was faster; [transact] for several keys; [withLock] to do something one at a time.
 *
 * [Client] says what cancelling a coroutine does, and what all of these throw. Those that write also throw
 * [ErrorCode.INVALID_KEY], [ErrorCode.VALUE_TOO_LARGE], [ErrorCode.TOO_MANY_KEYS], [ErrorCode.STORE_FULL],
 * [ErrorCode.FORBIDDEN], [ErrorCode.RESERVED_KEY], [ErrorCode.RATE_LIMITED] and [ErrorCode.SESSION_LOST], which change
 * nothing.
 *
 * @property client the client whose store it is
 */
public class Store internal constructor(
    public val client: Client,
    private val core: ClientCore,
    private val handle: Handle,
) {
    // Reading

    /** Asks the server for a key's current state; an absent key has the value `null`. */
    public suspend fun get(key: String): State {
        val name = utf8(key)
        return handle.request(this, ::state) { store, result, error, _ ->
            C.sessionstore_store_get(store, name, name.length, result, error)
        }
    }

    /** Asks the server for a key's current value; null when the key is absent. */
    public suspend fun <T : Any> get(key: Key<T>): T? = get(key.name).value(key.serializer)

    /**
     * What this client knows of a key it listens to, without asking the server; null when no listener has the key, or
     * its first value is still under way.
     */
    public fun cached(key: String): State? = handle.use { store ->
        val name = utf8(key)
        val event = PointerByReference()
        checked { C.sessionstore_store_cached(store, name, name.length, event, it) }
        event.value?.let {
            try {
                stateOf(it)
            } finally {
                C.sessionstore_event_free(it)
            }
        }
    }

    /**
     * Asks the server for the states of several keys at one revision: the single keys of the selector in their order,
     * absent ones with the value `null`, then those its prefixes mean in alphabetical order.
     */
    public suspend fun read(selector: Selector): States {
        val struct = struct(selector)
        return handle.request(this, { States(C.sessionstore_event_list_revision(it!!), statesOf(it)) }) { store, result, error, _ ->
            C.sessionstore_store_read(store, struct, result, error)
        }
    }

    /** Asks the server for the names of the keys that are set and begin with a text, in alphabetical order. */
    public suspend fun keys(prefix: String = ""): List<String> {
        val text = utf8(prefix)
        return handle.request(this, ::names) { store, result, error, _ ->
            C.sessionstore_store_keys(store, text, text.length, result, error)
        }
    }

    /** Asks the server how much of its limits the store uses. */
    public suspend fun usage(): Usage =
        handle.request(this, ::usage) { store, result, error, _ -> C.sessionstore_store_usage(store, result, error) }

    // Listening

    /**
     * Listens to all keys that a selector means: the listener first gets the current values, then the end of the
     * snapshot, then every change, of keys that come later too. [changes] does the same for coroutines.
     *
     * @return the registration; the listener stays for as long as the client does if nobody cancels it
     * @throws SessionStoreException [ErrorCode.INVALID_KEY], [ErrorCode.INVALID_ARGUMENT] when the selector means
     *   nothing. When the server refuses, [KeyChangeListener.onRefused] hears of it
     */
    public fun listen(selector: Selector, listener: KeyChangeListener): Subscription {
        val struct = struct(selector)
        val subscription = Subscription(core, listener)
        handle.use { store ->
            subscription.register { target, out ->
                val listening = KeyChangeListenerStruct().apply { holding(target) }
                checked { C.sessionstore_store_listen_to(store, struct, listening, out, it) }
            }
        }
        return subscription
    }

    /**
     * All keys that a selector means: first their current values, then the end of the snapshot, then every change, of
     * keys that come later too, this peer's own included.
     *
     * Each collection is a listener of its own, which ends with it, and keeps the client until then. A slow collector
     * holds nobody up: older changes of a key that still wait give way to newer ones, and [State.replaced] tells how many
     * did. The newest is never missed.
     *
     * The flow completes when the client is closed or has left. It throws what the client ended with otherwise, such as
     * [ErrorCode.REPLACED], and what the server refuses to listen with, such as [ErrorCode.FORBIDDEN].
     */
    public fun changes(selector: Selector): Flow<Change> = flow {
        val inbox = Inbox()
        keeping(this@Store) {
            listen(selector, inbox).use { inbox.mailbox.emitTo(this) }
            (inbox.refused ?: core.ended.await())?.let { throw it }
        }
    }

    /** The states of all keys that a selector means: first the current ones, then every change; see [changes]. */
    public fun states(selector: Selector): Flow<State> =
        changes(selector).filterIsInstance<Change.Value>().map { it.state }

    /** The states of some keys: first the current ones, absent ones included, then every change; see [changes]. */
    public fun states(vararg keys: String): Flow<State> = states(Selector(keys = keys.asList()))

    /** The value of a key: first the current one, then every change; null when it is absent. See [changes]. */
    public fun <T : Any> watch(key: Key<T>): Flow<T?> = states(key.name).map { it.value(key.serializer) }

    // Writing

    /**
     * Sets a key to a value.
     *
     * @return the key's new state, which this client's listeners were told before
     */
    public suspend inline fun <reified T : Any> set(
        key: String,
        value: T,
        noinline options: (WriteOptions.() -> Unit)? = null,
    ): State = set(Key(key, serializer<T>()), value, options)

    /** Sets a key to a value. */
    public suspend fun <T : Any> set(key: Key<T>, value: T, options: (WriteOptions.() -> Unit)? = null): State =
        setJson(key.name, encode(key.serializer, value), options)

    /** Sets a key to a JSON value, given as text; `null` removes the key. [ErrorCode.INVALID_JSON] for what is none. */
    public suspend fun setJson(key: String, json: String, options: (WriteOptions.() -> Unit)? = null): State {
        if (options != null) return write(key, Operation.setJson(json), options)
        val name = utf8(key)
        val value = utf8(json)
        return handle.request(this, ::state) { store, result, error, _ ->
            C.sessionstore_store_set(store, name, name.length, value, value.length, result, error)
        }
    }

    /**
     * Sets a key to a value only if it has this version now, 0 meaning that it is absent. [ErrorCode.VERSION_CONFLICT]
     * otherwise, whose [SessionStoreException.current] has what the key holds. [update] does this until it lands.
     */
    public suspend inline fun <reified T : Any> setIfVersion(key: String, value: T, version: Long): State =
        setIfVersion(Key(key, serializer<T>()), value, version)

    /** Sets a key to a value only if it has this version now. */
    public suspend fun <T : Any> setIfVersion(key: Key<T>, value: T, version: Long): State =
        setJsonIfVersion(key.name, encode(key.serializer, value), version)

    /** Sets a key to a JSON value, given as text, only if it has this version now. */
    public suspend fun setJsonIfVersion(key: String, json: String, version: Long): State {
        val name = utf8(key)
        val value = utf8(json)
        return handle.request(this, ::state) { store, result, error, _ ->
            C.sessionstore_store_set_if_version(
                store, name, name.length, value, value.length, version, result, error,
            )
        }
    }

    /** Removes a key; that it was absent already is fine. */
    public suspend fun remove(key: String): State {
        val name = utf8(key)
        return handle.request(this, ::state) { store, result, error, _ ->
            C.sessionstore_store_remove(store, name, name.length, result, error)
        }
    }

    /**
     * Adds an integer, which may be negative, to a key's number, exactly; an absent key counts as 0. However many peers
     * add at once, none of it is lost.
     *
     * @throws SessionStoreException [ErrorCode.WRONG_TYPE] when the key holds something else,
     *   [ErrorCode.NUMBER_OVERFLOW]
     */
    public suspend fun add(key: String, amount: Long): State {
        val name = utf8(key)
        return handle.request(this, ::state) { store, result, error, _ ->
            C.sessionstore_store_add(store, name, name.length, amount, result, error)
        }
    }

    /**
     * Does something to a key, on the server.
     *
     * @throws SessionStoreException [ErrorCode.WRONG_TYPE] when the key holds something that the operation is not for;
     *   [ErrorCode.NUMBER_OVERFLOW], [ErrorCode.KEY_ABSENT], [ErrorCode.VERSION_CONFLICT], [ErrorCode.LOCK_LOST];
     *   [ErrorCode.INVALID_ARGUMENT] for options that contradict each other or do not fit the operation
     */
    public suspend fun write(key: String, operation: Operation, options: (WriteOptions.() -> Unit)? = null): State {
        val name = utf8(key)
        return written(operation, options ?: {}) { json, struct ->
            handle.request(this, ::state) { store, result, error, _ ->
                C.sessionstore_store_write(
                    store, name, name.length, operation.number, json, json.length, struct, result, error,
                )
            }
        }
    }

    /**
     * Reads a key, has its new value computed, and sets it if nobody changed it meanwhile; otherwise again, with what it
     * holds by then. No further attempt is made after [ClientOptions.requestTimeout], nor when the coroutine is
     * cancelled, also while [compute] runs.
     *
     * ```
     * store.update(key<Int>("stakes")) { (it ?: 1) * 2 }
     * ```
     *
     * @param compute is given the value, null when the key is absent, and returns the one it is to have, null to remove
     *   the key. Called on the thread of listeners, and again whenever somebody else was faster, so it should do nothing
     *   but compute. What it throws, this throws
     * @throws SessionStoreException [ErrorCode.VERSION_CONFLICT] when others were faster until the time ran out, and
     *   nothing was changed
     */
    public suspend fun <T : Any> update(key: Key<T>, compute: (T?) -> T?): State = updateJson(key.name) { current ->
        compute(current.value(key.serializer))?.let { encode(key.serializer, it) } ?: "null"
    }

    /**
     * The same with JSON text.
     *
     * @param compute is given the state and returns the value the key is to have, `null` (the text) to remove it, or
     *   null (no text) to leave it as it is
     */
    public suspend fun updateJson(key: String, compute: (State) -> String?): State {
        val name = utf8(key)
        var thrown: Throwable? = null
        return handle.request(this, ::state, failure = { thrown }) { store, result, error, isActive ->
            val updater = UpdaterStruct()
            updater.holding(object : UpdaterTarget {
                override fun update(current: Pointer): Pointer? = try {
                    // It would be computed for nobody: the library sends no attempt that is cancelled.
                    if (isActive()) compute(stateOf(current))?.let(::value) else null
                } catch (exception: Throwable) {
                    thrown = exception
                    null
                }
            })
            C.sessionstore_store_update(store, name, name.length, updater, result, error)
        }
    }

    /**
     * Checks and writes several keys together or not at all.
     *
     * @return the state of each key that is written, in the order of their first writes
     * @throws SessionStoreException [ErrorCode.CHECK_FAILED], or [ErrorCode.LOCK_LOST], whose
     *   [SessionStoreException.check] says which check, and [SessionStoreException.current] what the key holds; what a
     *   write is refused with, whose [SessionStoreException.write] says which
     */
    public suspend fun transact(build: Transaction.() -> Unit): States =
        Transaction().use { transact(it.apply(build)) }

    /** Sends a transaction as it is now. */
    public suspend fun transact(transaction: Transaction): States =
        transaction.handle.use { writes ->
            handle.request(this, { States(C.sessionstore_event_list_revision(it!!), statesOf(it)) }) { store, result, error, _ ->
                C.sessionstore_store_transact(store, writes, result, error)
            }
        }

    // Locks

    /**
     * Takes a lock of the room, which is this client's until it is released, closed or lost. A coroutine that is
     * cancelled while it waits does not get the lock: should it be granted yet, it is given back.
     *
     * @param name 1 to 200 bytes without control characters
     * @param timeToLive how long the lock outlives its last renewal, 1 s to 300 s: so long it stays taken when its
     *   holder vanishes. Default 15 s
     * @param wait how long to wait for it behind those who came before, at most 300 s. Default:
     *   [ErrorCode.LOCK_HELD] at once
     * @throws SessionStoreException [ErrorCode.LOCK_HELD], whose [SessionStoreException.current] shows by whom;
     *   [ErrorCode.INVALID_LOCK], [ErrorCode.INVALID_ARGUMENT] for times out of their range,
     *   [ErrorCode.TOO_MANY_LOCKS]; [ErrorCode.TIMEOUT], [ErrorCode.SESSION_LOST] and [ErrorCode.CLOSED], after which
     *   the lock is given back, or ends with its time
     */
    public suspend fun lock(name: String, timeToLive: Duration? = null, wait: Duration? = null): Lock {
        val text = utf8(name)
        val options = LockOptionsStruct()
        options.ttl_ms = optionMilliseconds(timeToLive)
        if (wait != Duration.ZERO) options.wait_ms = optionMilliseconds(wait)
        val end = LockEnd()
        val take = { lock: Pointer? -> Lock(Handle(C.sessionstore_lock_retain(lock!!), C::sessionstore_lock_free), end, this) }
        return handle.request(this, take, discard = Lock::close) { store, result, error, _ ->
            val listener = LockListenerStruct().apply { holding(end) }
            C.sessionstore_store_lock(store, text, text.length, options, listener, result, error)
        }
    }

    /**
     * Does something while holding a lock, and releases it. If the lock is lost meanwhile, the block is cancelled and
     * what the lock was lost with is thrown.
     *
     * ```
     * store.withLock("presenter", wait = 60.seconds) { lock ->
     *     store.set("slide", 1) { this.lock = lock }
     * }
     * ```
     *
     * The parameters are those of [lock].
     */
    public suspend fun <T> withLock(
        name: String,
        timeToLive: Duration? = null,
        wait: Duration? = null,
        block: suspend (Lock) -> T,
    ): T = lock(name, timeToLive, wait).use { lock ->
        coroutineScope {
            val guard = launch { lock.awaitEnd()?.let { throw it } }
            try {
                block(lock)
            } finally {
                guard.cancel()
                // What the block ended with counts more than that the lock was lost before it could be given back.
                withContext(NonCancellable) { runCatching { lock.release() } }
            }
        }
    }

    private fun struct(selector: Selector) = SelectorStruct().apply {
        if (selector.isAll) flags = 1
        selectKeys(selector.keys)
        selectPrefixes(selector.prefixes)
    }

    private fun state(event: Pointer?): State = stateOf(event!!)

    private fun names(list: Pointer?): List<String> = List(C.sessionstore_key_list_count(list!!).toInt()) { index ->
        text { C.sessionstore_key_list_get(list, SizeT(index.toLong()), it) }
    }

    private fun usage(usage: Pointer?): Usage = UsageStruct(usage).run {
        read()
        Usage(revision, keys, max_keys, bytes, max_bytes, max_value_bytes)
    }

    /** Makes a value that becomes the library's. */
    private fun value(json: String): Pointer {
        val text = utf8(json)
        val value = PointerByReference()
        checked { C.sessionstore_value_from_json(text, text.length, value, it) }
        return value.value
    }

    /** A listener for a flow. */
    private class Inbox : KeyChangeListener {
        val mailbox = Mailbox<Change>()

        @Volatile
        var refused: SessionStoreException? = null

        override fun onKeyChanged(state: State) = mailbox.change {
            // Current values stay: those who collect are told each of them before the end of the snapshot.
            val older = if (state.isSnapshot) null else remove(state.key) as Change.Value?
            put(if (state.isSnapshot) Any() else state.key, Change.Value(if (older == null) state else state.replacing(older.state)))
        }

        override fun onSnapshotEnd() = mailbox.change { put(Any(), Change.SnapshotEnd) }

        override fun onRefused(error: SessionStoreException) {
            refused = error
        }

        override fun onDropped() = mailbox.close()
    }
}
