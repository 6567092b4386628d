package sessionstore.internal

import com.sun.jna.Pointer
import kotlinx.coroutines.CompletableDeferred
import kotlinx.coroutines.CoroutineDispatcher
import kotlinx.coroutines.ExperimentalCoroutinesApi
import kotlinx.coroutines.channels.BufferOverflow
import kotlinx.coroutines.flow.MutableSharedFlow
import kotlinx.coroutines.flow.MutableStateFlow
import sessionstore.CallbackThread
import sessionstore.Client
import sessionstore.Connection
import sessionstore.ConnectionState
import sessionstore.PeerChange
import sessionstore.SessionStoreException
import sessionstore.Subscription
import sessionstore.UpdateListener
import sessionstore.closed
import java.lang.ref.WeakReference
import java.util.concurrent.ConcurrentHashMap
import java.util.concurrent.atomic.AtomicInteger
import kotlin.coroutines.EmptyCoroutineContext

/**
 * What a client hears and what belongs to it. It does not refer to the client but weakly, so that a forgotten one is
 * collected although the library still holds this.
 */
internal class ClientCore(private val listener: UpdateListener?) : TakenTarget(), UpdateTarget {
    @Volatile
    lateinit var client: WeakReference<Client>

    @Volatile
    private var opened: Handle? = null

    @Volatile
    private var isFreed = false

    val connection = MutableStateFlow(Connection(ConnectionState.CONNECTING, null))
    val errors = MutableSharedFlow<SessionStoreException>(extraBufferCapacity = 64, onBufferOverflow = BufferOverflow.DROP_OLDEST)
    val tokenExpiring = MutableSharedFlow<Long>(replay = 1, onBufferOverflow = BufferOverflow.DROP_OLDEST)

    /** The store once it is there, or what the client ended with instead. */
    val store = CompletableDeferred<Handle>()

    /** Completes with the client: with the reason, or null when it was closed or left. */
    val ended = CompletableDeferred<SessionStoreException?>()

    /** Listeners stay for as long as the client does, whether or not somebody keeps their subscription. */
    val subscriptions: MutableSet<Subscription> = ConcurrentHashMap.newKeySet()

    private val peers = LinkedHashMap<String, PeerChange.Joined>()
    private val watching = ArrayList<Mailbox<PeerChange>>()

    /** A listener may have closed the client before the call that opens it has returned. */
    fun opened(handle: Handle) {
        opened = handle
        if (isFreed) handle.close()
    }

    @OptIn(ExperimentalCoroutinesApi::class)
    fun free() {
        isFreed = true
        opened?.close()
        store.completeExceptionally(closed())
        if (store.getCompletionExceptionOrNull() == null) store.getCompleted().close()
    }

    override fun storeAvailable(store: Pointer) {
        val handle = Handle(C.sessionstore_store_retain(store), C::sessionstore_store_free)
        if (!this.store.complete(handle)) return handle.close()
        if (listener != null) client.get()?.let { listener.onStoreAvailable(it.store()) }
    }

    override fun connectionState(state: Int, error: Pointer?) {
        val now = Connection(ConnectionState.of(state), error?.let(SessionStoreException::of))
        connection.value = now
        if (now.state == ConnectionState.CLOSED) end(now.error)
        listener?.onConnectionState(now.state, now.error)
    }

    override fun peer(change: Int, peer: Pointer) {
        val now = peerOf(peer)
        val told = when (change) {
            1 -> PeerChange.Joined(now)
            2 -> PeerChange.Updated(now)
            else -> PeerChange.Left(now)
        }
        synchronized(peers) {
            if (told is PeerChange.Left) peers.remove(now.id) else peers[now.id] = PeerChange.Joined(now)
            for (mailbox in watching) mailbox.change { put(told) }
        }
        listener?.onPeer(told)
    }

    override fun error(error: Pointer) {
        val copy = SessionStoreException.of(error)
        errors.tryEmit(copy)
        listener?.onError(copy)
    }

    override fun tokenExpiring(expiresAt: Long) {
        tokenExpiring.tryEmit(expiresAt)
        listener?.onTokenExpiring(expiresAt)
    }

    override fun ended() {
        end(null)
        listener?.onDropped()
    }

    private fun end(reason: SessionStoreException?) {
        if (!ended.complete(reason)) return
        if (connection.value.state != ConnectionState.CLOSED) connection.value = Connection(ConnectionState.CLOSED, reason)
        store.completeExceptionally(reason ?: closed())
        synchronized(peers) { watching.forEach { it.close() } }
    }

    fun watchPeers(): Mailbox<PeerChange> = synchronized(peers) {
        val mailbox = Mailbox<PeerChange>()
        mailbox.change { peers.values.forEach { put(it) } }
        watching.add(mailbox)
        if (ended.isCompleted) mailbox.close()
        mailbox
    }

    fun unwatchPeers(mailbox: Mailbox<PeerChange>) {
        synchronized(peers) { watching.remove(mailbox) }
    }

    /** Of each peer at most two changes wait: that the one who was known left, and what is now. */
    private fun LinkedHashMap<Any, PeerChange>.put(change: PeerChange) {
        val id = change.peer.id
        val waits = get(id)
        when {
            change is PeerChange.Joined -> put(id, change)
            waits is PeerChange.Joined && change is PeerChange.Updated -> put(id, PeerChange.Joined(change.peer))
            change is PeerChange.Updated -> put(id, change)
            else -> {
                remove(id)
                if (waits !is PeerChange.Joined) put(GoneId(id), change)
            }
        }
    }

    private data class GoneId(val id: String)
}

/** Polls a client on a dispatcher, one poll at a time, and lets others have a turn between. */
internal class DispatcherPump(private val dispatcher: CoroutineDispatcher) : WakeTarget {
    private val wakes = AtomicInteger()

    @Volatile
    private var client: Handle? = null

    /** From now on there is something to poll; it may have woken before. */
    fun attach(client: Handle) {
        this.client = client
        wake()
    }

    override fun wake() {
        if (wakes.getAndIncrement() == 0) run(::poll)
    }

    fun run(what: () -> Unit) = dispatcher.dispatch(EmptyCoroutineContext) { withoutException(what) }

    private fun poll() {
        val seen = wakes.get()
        try {
            client?.useIfOpen { client -> sessionstore.checked { C.sessionstore_client_poll(client, SizeT(MOST), SizeTByReference(), it) } }
        } finally {
            if (wakes.addAndGet(-seen) > 0) run(::poll)
        }
    }

    private companion object {
        /** Callbacks at one turn. */
        const val MOST = 64L
    }
}

internal class WakeUp(private val mode: CallbackThread.Poll) : WakeTarget {
    override fun wake() = mode.onWake()
}

internal class OwnThread(private val mode: CallbackThread.Own) : ThreadTarget {
    override fun start() = mode.onStart()

    override fun stop() = mode.onStop()
}
