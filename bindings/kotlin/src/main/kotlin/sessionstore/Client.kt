package sessionstore

import com.sun.jna.Pointer
import com.sun.jna.ptr.PointerByReference
import kotlinx.coroutines.ExperimentalCoroutinesApi
import kotlinx.coroutines.flow.Flow
import kotlinx.coroutines.flow.SharedFlow
import kotlinx.coroutines.flow.StateFlow
import kotlinx.coroutines.flow.asSharedFlow
import kotlinx.coroutines.flow.asStateFlow
import kotlinx.coroutines.flow.flow
import kotlinx.coroutines.withTimeoutOrNull
import sessionstore.internal.C
import sessionstore.internal.CallbackStruct
import sessionstore.internal.ClientCore
import sessionstore.internal.ClientOptionsStruct
import sessionstore.internal.Cleaning
import sessionstore.internal.DispatcherPump
import sessionstore.internal.Handle
import sessionstore.internal.OwnThread
import sessionstore.internal.SizeT
import sessionstore.internal.SizeTByReference
import sessionstore.internal.Target
import sessionstore.internal.ThreadHooksStruct
import sessionstore.internal.UpdateListenerStruct
import sessionstore.internal.WakeHookStruct
import sessionstore.internal.WakeUp
import sessionstore.internal.keeping
import sessionstore.internal.length
import sessionstore.internal.optionMilliseconds
import sessionstore.internal.optionNumber
import sessionstore.internal.optionText
import sessionstore.internal.peerOf
import sessionstore.internal.request
import sessionstore.internal.staticText
import sessionstore.internal.utf8
import java.util.concurrent.CompletableFuture
import kotlin.time.Duration

/**
 * A client: one peer in one room. It joins in the background and reconnects by itself.
 *
 * ```
 * Client.open("ws://127.0.0.1:7350", "lobby") { name = "Ana" }.use { client ->
 *     val store = client.join()
 *     store.set("spotlight", "peer-1")
 *     client.leave()
 * }
 * ```
 *
 * Everything here may be called from any thread. Keep the client, its store or a lock while you need it: one that nothing
 * refers to any more is closed when it is collected. A coroutine keeps it that waits in one of its functions, or collects
 * [peerChanges] or changes of keys; [connection], [errors] and [tokenExpiring] do not. One whose listeners refer to it
 * stays until it is closed.
 *
 * Suspend functions, here and elsewhere: a coroutine that is cancelled before it calls sends nothing. One that is
 * cancelled while it waits, also by a `withTimeout` of your own, stops waiting at once, and its request is taken back: a
 * change that was not sent yet, as all are while there is no connection, will never be; who waits for a lock does not get
 * it. A change that was sent goes on. Which of both it was is not told: after it the change may be applied or not.
 *
 * How long a request may take is [ClientOptions.requestTimeout], after which [ErrorCode.TIMEOUT] says that it was not
 * applied and [ErrorCode.OUTCOME_UNKNOWN] that nobody knows. Suspend functions throw [SessionStoreException], also
 * [ErrorCode.CLOSED] and [ErrorCode.QUEUE_FULL], which are not named with each.
 */
public class Client private constructor(private val core: ClientCore, private val opened: CompletableFuture<Handle>) :
    AutoCloseable {
    private val handle: Handle
        // Listeners may be called before the call that opens has returned.
        get() = opened.join()

    @OptIn(ExperimentalCoroutinesApi::class)
    private val store = lazy { Store(this, core, core.store.getCompleted()) }

    init {
        core.client = java.lang.ref.WeakReference(this)
    }

    /** This peer's id. */
    public val peerId: String
        get() = handle.use { staticText(C.sessionstore_client_peer_id(it)) }

    /** Where the client stands, at this moment; [connection] tells of changes, in order with the listeners. */
    public val state: ConnectionState
        get() = handle.useIfOpen { ConnectionState.of(C.sessionstore_client_state(it)) } ?: ConnectionState.CLOSED

    /** Where the client stands, and why. Its last value is [ConnectionState.CLOSED]. */
    public val connection: StateFlow<Connection> = core.connection.asStateFlow()

    /**
     * What goes wrong that no request is waiting for, such as [ErrorCode.SESSION_LOST]. Who collects late has missed
     * what was before; of what a slow collector leaves waiting, the newest 64 are kept.
     */
    public val errors: SharedFlow<SessionStoreException> = core.errors.asSharedFlow()

    /**
     * When the token expires, told 30 s before: server time in milliseconds since 1970. Soon after it the client closes
     * with [ErrorCode.TOKEN_EXPIRED], unless [renewToken] hands in a fresh one. Who collects late is told the last one.
     */
    public val tokenExpiring: SharedFlow<Long> = core.tokenExpiring.asSharedFlow()

    /**
     * Other peers, as they come, change and go: first those who are in the room are told as joined. Of a slow collector
     * nothing but what it has missed is left out: who came and went meanwhile. Completes when the client is closed.
     */
    public val peerChanges: Flow<PeerChange> = flow {
        keeping(this@Client) {
            val mailbox = core.watchPeers()
            try {
                mailbox.emitTo(this)
            } finally {
                core.unwatchPeers(mailbox)
            }
        }
    }

    /**
     * Waits until the room is joined.
     *
     * @param timeout how long; the client goes on trying after it
     * @return the store of the room, the same each time
     * @throws SessionStoreException [ErrorCode.CLOSED], or the reason for which the client closed, such as
     *   [ErrorCode.UNAUTHORIZED]; when the time runs out, the last failure to connect or [ErrorCode.TIMEOUT]
     */
    public suspend fun join(timeout: Duration = Duration.INFINITE): Store {
        keeping(this) { withTimeoutOrNull(timeout) { core.store.await() } }
            ?: throw connection.value.error ?: SessionStoreException.ofCode(ErrorCode.TIMEOUT)
        if (core.ended.isCompleted) throw core.ended.await() ?: closed()
        return store()
    }

    internal fun store(): Store = store.value

    /** Everybody in the room as this client knows it, itself included, in the order of their ids. */
    public fun peers(): List<Peer> = handle.use { client ->
        val list = PointerByReference()
        checked { C.sessionstore_client_peers(client, list, it) }
        try {
            List(C.sessionstore_peer_list_count(list.value).toInt()) {
                peerOf(C.sessionstore_peer_list_get(list.value, SizeT(it.toLong())))
            }
        } finally {
            C.sessionstore_peer_list_free(list.value)
        }
    }

    /**
     * Changes this peer's name, its metadata, or both; what is null stays.
     *
     * @throws SessionStoreException [ErrorCode.INVALID_PEER], …
     */
    public suspend fun updatePeer(name: String? = null, metadata: String? = null) {
        val newName = name?.let(::utf8)
        val newMetadata = metadata?.let(::utf8)
        handle.request(this, {}) { client, result, error, _ ->
            C.sessionstore_client_update_peer(
                client, newName, newName.length, newMetadata, newMetadata.length, result, error,
            )
        }
    }

    /**
     * Hands in a fresh token before the old one expires, without a break: for the same room and user, maybe with another
     * role, which counts from then on. Once the server has taken it the client connects with it; while the connection is
     * broken, as soon as the server refuses the old one, also where this has ended with [ErrorCode.TIMEOUT] by then.
     *
     * @throws SessionStoreException [ErrorCode.UNAUTHORIZED], [ErrorCode.TOKEN_EXPIRED], after which the old token
     *   counts; [ErrorCode.INVALID_ARGUMENT] when the server is open
     */
    public suspend fun renewToken(token: String) {
        val text = utf8(token)
        handle.request(this, {}) { client, result, error, _ ->
            C.sessionstore_client_renew_token(client, text, text.length, result, error)
        }
    }

    /**
     * Leaves the room and waits until the server knows: everybody is told at once, instead of after the grace period,
     * and the client closes. A program that ends does this first. Without a connection, or when it breaks and the next
     * cannot be made at once, the client closes all the same, and the others are told after the grace period. A coroutine
     * that is cancelled meanwhile stops waiting; the client leaves nevertheless.
     */
    public suspend fun leave() {
        handle.request(this, {}, goesOn = true) { client, result, error, _ -> C.sessionstore_client_leave(client, result, error) }
    }

    /**
     * For [CallbackThread.Poll]: calls waiting listeners on this thread. If some are left, `onWake` is called again.
     *
     * @param most how many at most; 0 for all that wait
     * @return how many were called
     * @throws SessionStoreException [ErrorCode.WRONG_MODE] of another client, [ErrorCode.WOULD_DEADLOCK] inside a
     *   listener, [ErrorCode.BUSY] while another thread polls this client
     */
    public fun poll(most: Int = 0): Int {
        val ran = SizeTByReference()
        handle.use { client -> checked { C.sessionstore_client_poll(client, SizeT(most.toLong()), ran, it) } }
        return ran.value.toInt()
    }

    /**
     * Closes the client. It leaves the room in the background; what waits ends with [ErrorCode.CLOSED], then every
     * listener is dropped, and its flows complete. Never blocks, and may be called anywhere, in listeners too. With
     * [CallbackThread.Poll] the last listeners are called inside this call.
     */
    override fun close(): Unit = core.free()

    /** Opens clients. */
    public companion object {
        /**
         * Opens a client and returns at once; it joins in the background.
         *
         * @param url the server: `ws://host:port`, or `wss://` for TLS; or with a path
         * @param room the room, 1 to 128 bytes; null when the token names it
         * @param listener hears what concerns the client as a whole; the flows of the client tell the same
         * @param configure what else there is to say
         * @throws SessionStoreException [ErrorCode.INVALID_URL], [ErrorCode.INVALID_ROOM], [ErrorCode.INVALID_PEER],
         *   [ErrorCode.INVALID_ARGUMENT] (also for a file that cannot be used), [ErrorCode.OUT_OF_RESOURCES],
         *   [ErrorCode.TLS_FAILED] when the URL asks for TLS and the system has no authorities to trust. That the
         *   server cannot be reached is no error here: [join] and the listener tell it
         */
        public fun open(
            url: String,
            room: String? = null,
            listener: UpdateListener? = null,
            configure: ClientOptions.() -> Unit = {},
        ): Client {
            val options = ClientOptions().apply(configure)
            val struct = struct(url, room, options)
            val core = ClientCore(listener)
            val opened = CompletableFuture<Handle>()
            val client = Client(core, opened)
            val mode = options.callbacks
            val pump = (mode as? CallbackThread.On)?.let { DispatcherPump(it.dispatcher) }
            when (mode) {
                CallbackThread.Shared -> {}
                is CallbackThread.Own -> struct.thread_hooks = ThreadHooksStruct().hook(OwnThread(mode))
                is CallbackThread.On -> struct.wake_hook = WakeHookStruct().hook(pump!!)
                is CallbackThread.Poll -> struct.wake_hook = WakeHookStruct().hook(WakeUp(mode))
            }
            val out = PointerByReference()
            val listening = UpdateListenerStruct().apply { holding(core) }
            core.take { checked { C.sessionstore_client_open(struct, listening, out, it) } }
            val free: (Pointer) -> Unit = when (pump) {
                null -> C::sessionstore_client_free
                // The last listeners are called inside of it.
                else -> { pointer -> pump.run { C.sessionstore_client_free(pointer) } }
            }
            val handle = Handle(out.value, free)
            core.opened(handle)
            opened.complete(handle)
            pump?.attach(handle)
            Cleaning.register(client, core::free)
            return client
        }

        /** What is written nowhere else, being no argument of its own; the options keep its memory. */
        private fun CallbackStruct.hook(target: Target): Pointer {
            holding(target)
            write()
            return pointer
        }

        private fun struct(url: String, room: String?, options: ClientOptions) = ClientOptionsStruct().apply {
            if (options.failFast) flags = 1
            this.url = optionText(url)
            this.room = optionText(room)
            token = optionText(options.token)
            name = optionText(options.name)
            role = optionText(options.role)
            user_id = optionText(options.userId)
            metadata = optionText(options.metadata)
            peer_id = optionText(options.peerId)
            request_timeout_ms = optionMilliseconds(options.requestTimeout)
            connect_timeout_ms = optionMilliseconds(options.connectTimeout)
            reconnect_min_ms = optionMilliseconds(options.reconnectMin)
            reconnect_max_ms = optionMilliseconds(options.reconnectMax)
            heartbeat_ms = optionMilliseconds(options.heartbeat)
            max_pending = optionNumber(options.maxPending)
            ca_file = optionText(options.caFile)
            client_cert_file = optionText(options.clientCertificateFile)
            client_key_file = optionText(options.clientKeyFile)
        }
    }
}
