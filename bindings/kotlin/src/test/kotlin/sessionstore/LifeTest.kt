package sessionstore

import com.google.gson.JsonElement
import kotlinx.coroutines.CompletableDeferred
import kotlinx.coroutines.CoroutineScope
import kotlinx.coroutines.CoroutineStart
import kotlinx.coroutines.Dispatchers
import kotlinx.coroutines.async
import kotlinx.coroutines.awaitAll
import kotlinx.coroutines.cancelAndJoin
import kotlinx.coroutines.channels.Channel
import kotlinx.coroutines.coroutineScope
import kotlinx.coroutines.flow.StateFlow
import kotlinx.coroutines.flow.first
import kotlinx.coroutines.flow.runningFold
import kotlinx.coroutines.flow.stateIn
import kotlinx.coroutines.flow.take
import kotlinx.coroutines.flow.toList
import kotlinx.coroutines.isActive
import kotlinx.coroutines.launch
import kotlinx.coroutines.yield
import org.junit.jupiter.api.Test
import sessionstore.compat.HMSActionResultListener
import sessionstore.compat.HMSException
import sessionstore.compat.HMSKeyChangeListener
import sessionstore.compat.HmsSessionStore
import sessionstore.internal.Callbacks
import sessionstore.internal.Cleaning
import sessionstore.internal.ClientCore
import sessionstore.internal.Handle
import sessionstore.internal.PhantomCleaning
import java.lang.ref.WeakReference
import java.util.concurrent.ConcurrentHashMap
import java.util.concurrent.CountDownLatch
import java.util.concurrent.atomic.AtomicInteger
import kotlin.test.assertEquals
import kotlin.test.assertFailsWith
import kotlin.test.assertNotNull
import kotlin.test.assertTrue
import kotlin.time.Duration.Companion.milliseconds
import kotlin.time.Duration.Companion.seconds

/** Memory, threads and ends. */
class LifeTest {
    /** Collects garbage for as long as the block runs, and makes some. */
    private suspend fun <T> underPressure(block: suspend () -> T): T = coroutineScope {
        val collector = launch(Dispatchers.IO) {
            while (isActive) {
                List(1_000) { ByteArray(1_000) }
                System.gc()
                yield()
            }
        }
        block().also { collector.cancelAndJoin() }
    }

    /** Returns when the collector has found, several times over, what nothing refers to, and that was closed. */
    private suspend fun collected() = repeat(5) {
        val found = CompletableDeferred<Unit>()
        fun forget() = Cleaning.register(Any()) { found.complete(Unit) }
        forget()
        underPressure { found.await() }
    }

    /**
     * The ids of the others who are in the room now, as a store's client hears of them. Who is to be missed later has to be
     * seen here first: of who comes and goes while a collector looks away, nothing is told.
     */
    private suspend fun CoroutineScope.othersOf(watcher: Store): StateFlow<Set<String>> =
        watcher.client.peerChanges.runningFold(emptySet<String>()) { ids, change ->
            if (change is PeerChange.Left) ids - change.peer.id else ids + change.peer.id
        }.stateIn(this)

    /** In the end everything is closed that was not kept. */
    private fun forgetting(block: suspend CoroutineScope.(Room) -> Unit) = test {
        Room(Server.start()).use { block(it) }
        underPressure { while (Callbacks.held > 0) yield() }
    }

    @Test
    fun `the collector takes nothing that the library calls`() = inRoom { room ->
        val store = room.join("ada")
        underPressure {
            val heard = CompletableDeferred<Unit>()
            // Nobody keeps the subscription, nor the listener.
            store.listen(Selector.prefix("k")) { if (it.key == "k" && it.value<Int>() == 200) heard.complete(Unit) }
            coroutineScope {
                List(4) { worker -> launch { repeat(50) { store.update(key<Int>("n$worker")) { (it ?: 0) + 1 } } } }
                for (n in 1..200) store.set("k", n)
            }
            heard.await()
            assertEquals(50, store.get(key<Int>("n3")))
            store.lock("turn").use { assertTrue(it.isHeld) }
        }
        // The client's own listener, and the one that nobody kept.
        while (Callbacks.held > 2) yield()
        assertEquals(2, Callbacks.held)
        store.client.close()
        while (Callbacks.held > 0) yield()
    }

    @Test
    fun `what is forgotten is closed`() = inRoom { room ->
        val others = othersOf(room.join("watcher"))
        suspend fun forget() {
            val store = Client.open(room.server.url, "room") { peerId = "forgotten" }.join()
            others.first { "forgotten" in it }
            store.set("k", 1)
        }
        forget()
        underPressure { others.first { it.isEmpty() } }
    }

    @Test
    fun `listeners keep no client that they do not refer to`() = forgetting { room ->
        val others = othersOf(room.join("watcher"))
        suspend fun forget() {
            val heard = List(2) { CompletableDeferred<Unit>() }
            val (new, old) = listOf("new", "old").map { Client.open(room.server.url, "room") { peerId = it }.join() }
            others.first { it == setOf("new", "old") }
            new.listen(Selector.keys("k")) { heard[0].complete(Unit) }
            HmsSessionStore(old).addKeyChangeListener(
                listOf("k"), { _, _ -> heard[1].complete(Unit) },
                object : HMSActionResultListener {
                    override fun onSuccess() {}

                    override fun onError(error: HMSException) {}
                },
            )
            heard.awaitAll()
        }
        forget()
        underPressure { others.first { it.isEmpty() } }
    }

    @Test
    fun `who waits for the end of a lock keeps the lock, and for no longer`() = forgetting { room ->
        val (ada, bob) = listOf("ada", "bob").map { room.join(it) }
        val end = async(start = CoroutineStart.UNDISPATCHED) { ada.lock("turn", timeToLive = 300.seconds).awaitEnd() }
        bob.states("\$lock/turn").first { !it.isAbsent }
        collected()
        // Had it been given up, that would have come before this answer.
        ada.get("k")
        assertRefused(ErrorCode.LOCK_HELD) { bob.lock("turn") }
        assertTrue(end.isActive, "it was told of an end")
        end.cancelAndJoin()
        underPressure { bob.lock("turn", wait = 300.seconds) }.release()
    }

    @Test
    fun `a lock keeps its client, and for no longer`() = forgetting { room ->
        val others = othersOf(room.join("watcher"))
        suspend fun take(peer: String, name: String) =
            Client.open(room.server.url, "room") { peerId = peer }.join().lock(name, timeToLive = 300.seconds)
        val lock = take("keeper", "turn")
        collected()
        assertTrue(lock.isHeld)
        suspend fun forget() {
            val forgotten = take("forgotten", "other turn")
            others.first { "forgotten" in it }
            assertTrue(forgotten.isHeld)
        }
        forget()
        underPressure { others.first { "forgotten" !in it } }
        assertEquals(setOf("keeper"), others.value)
        lock.release()
    }

    @Test
    fun `who waits for a lock keeps its client`() = forgetting { room ->
        val held = room.join("ada").lock("turn", timeToLive = 300.seconds)
        val stores = ArrayDeque<Store>()
        suspend fun join() {
            stores.add(Client.open(room.server.url, "room").join())
        }
        join()
        val waiting = async(start = CoroutineStart.UNDISPATCHED) { stores.removeFirst().lock("turn", wait = 300.seconds) }
        collected()
        held.release()
        val lock = waiting.await()
        collected()
        assertTrue(lock.isHeld)
        lock.release()
    }

    @Test
    fun `who waits for an answer keeps its client`() = forgetting {
        val server = Server.start { secret = "a secret" }
        fun open() = Client.open(server.url, "room") {
            token = ApiTest.token("a secret", "host", 600)
            requestTimeout = 300.seconds
            reconnectMin = 1.milliseconds
            reconnectMax = 5.milliseconds
        }
        // Each takes a store, of which nothing is left then but what waits.
        val actions = mapOf<String, suspend (ArrayDeque<Store>) -> Any?>(
            "get" to { it.removeFirst().get("k") },
            "read" to { it.removeFirst().read(Selector.all) },
            "keys" to { it.removeFirst().keys() },
            "usage" to { it.removeFirst().usage() },
            "set" to { it.removeFirst().set("k", 1) },
            "setIfVersion" to { it.removeFirst().setIfVersion("if version", 1, 0) },
            "remove" to { it.removeFirst().remove("k") },
            "add" to { it.removeFirst().add("n", 1) },
            "write" to { it.removeFirst().write("hands", Operation.setAdd("ada")) },
            "update" to { it.removeFirst().update(key<Int>("updated")) { 1 } },
            "transact" to { it.removeFirst().transact { set("transacted", 1) } },
            "lock" to { it.removeFirst().lock("turn") },
            "updatePeer" to { it.removeFirst().client.updatePeer(name = "Robert") },
            "renewToken" to { it.removeFirst().client.renewToken(ApiTest.token("a secret", "host", 700)) },
            "join" to { open().join() },
        )
        val stores = ArrayDeque<Store>()
        suspend fun join() {
            repeat(actions.size - 1) { stores.add(open().join()) }
            server.stop()
            stores.forEach { store -> store.client.connection.first { it.state == ConnectionState.RECONNECTING } }
        }
        join()
        val waiting = actions.mapValues { (_, action) -> async(start = CoroutineStart.UNDISPATCHED) { runCatching { action(stores) } } }
        assertEquals(emptyList(), stores)
        collected()
        Server.start { port = server.port; secret = "a secret" }.use {
            val failed = waiting.mapValues { (_, answer) -> answer.await().exceptionOrNull() }.filterValues { it != null }
            assertEquals(emptyMap(), failed)
        }
    }

    @Test
    fun `who collects a flow keeps its client`() = forgetting { room ->
        val bob = room.join("bob")
        val begun = List(2) { CompletableDeferred<Unit>() }
        val state = async {
            Client.open(room.server.url, "room").join().states("k").first { begun[0].complete(Unit); !it.isAbsent }
        }
        val peer = async {
            Client.open(room.server.url, "room").peerChanges.first { begun[1].complete(Unit); it.peer.id == "eve" }
        }
        begun.awaitAll()
        collected()
        bob.set("k", 1)
        assertEquals(1, state.await().value<Int>())
        room.join("eve")
        assertEquals("eve", peer.await().peer.id)
    }

    @Test
    fun `a listener of the original's kind is forgotten when it was refused or dropped`() = inRoom({
        rules = "[[rule]]\nroles = [\"*\"]\nkeys = [\"k\"]\nallow = [\"read\"]\n"
    }) { room ->
        val store = HmsSessionStore(room.join("ada"))
        suspend fun add(key: String, ends: String?): WeakReference<HMSKeyChangeListener> {
            val ended = CompletableDeferred<String?>()
            val listener = object : HMSKeyChangeListener {
                override fun onKeyChanged(key: String, value: JsonElement?) {}
            }
            store.addKeyChangeListener(listOf(key), listener, object : HMSActionResultListener {
                override fun onSuccess() {
                    ended.complete(null)
                }

                override fun onError(error: HMSException) {
                    ended.complete(error.name)
                }
            })
            assertEquals(ends, ended.await())
            return WeakReference(listener)
        }
        val listeners = listOf(add("k", null), add("", "INVALID_KEY"), add("hidden", "FORBIDDEN"))
        underPressure { while (listeners.drop(1).any { it.get() != null }) yield() }
        assertNotNull(listeners[0].get())
        room.close()
        underPressure { while (listeners[0].get() != null) yield() }
        // The store was there all the while.
        store.removeKeyChangeListener({ _, _ -> }).join()
    }

    @Test
    fun `without a cleaner of the system there is one of our own`() = test {
        val freed = CompletableDeferred<Unit>()
        fun forget() = PhantomCleaning().register(Any()) { freed.complete(Unit) }
        forget()
        underPressure { freed.await() }
    }

    @Test
    fun `a handle is freed once, and after the calls that use it`() {
        val freed = AtomicInteger()
        val handle = Handle(com.sun.jna.Pointer(1)) { freed.incrementAndGet() }
        handle.use {
            handle.close()
            handle.close()
            assertEquals(0, freed.get())
            assertFailsWith<SessionStoreException> { handle.use {} }
        }
        assertEquals(1, freed.get())
        handle.close()
        assertEquals(1, freed.get())
        // Many threads: always once.
        repeat(200) {
            val count = AtomicInteger()
            val inUse = AtomicInteger()
            val shared = Handle(com.sun.jna.Pointer(1)) {
                assertEquals(0, inUse.get())
                count.incrementAndGet()
            }
            val go = CountDownLatch(1)
            val threads = List(4) { number ->
                kotlin.concurrent.thread {
                    go.await()
                    if (number == 0) return@thread shared.close()
                    repeat(50) {
                        shared.useIfOpen {
                            inUse.incrementAndGet()
                            inUse.decrementAndGet()
                        }
                    }
                }
            }
            go.countDown()
            threads.forEach { it.join() }
            assertEquals(1, count.get())
        }
    }

    @Test
    fun `a client that is closed before it is known to be open is closed`() {
        val freed = AtomicInteger()
        val core = ClientCore(null)
        core.free()
        core.opened(Handle(com.sun.jna.Pointer(1)) { freed.incrementAndGet() })
        assertEquals(1, freed.get())
    }

    @Test
    fun `everything may be closed inside a listener`() = inRoom { room ->
        val dropped = CompletableDeferred<Unit>()
        val client = room.open("ada", object : UpdateListener {
            override fun onStoreAvailable(store: Store) {
                lateinit var subscription: Subscription
                subscription = store.listen(Selector.keys("k")) {
                    subscription.close()
                    store.client.close()
                    room.server.close()
                    assertFailsWith<SessionStoreException> { store.cached("k") }
                }
            }

            override fun onDropped() {
                dropped.complete(Unit)
            }
        })
        dropped.await()
        assertEquals(ConnectionState.CLOSED, client.state)
        assertRefused(ErrorCode.CLOSED) { client.join() }
    }

    @Test
    fun `a listener that throws hurts nobody`() = inRoom { room ->
        val store = room.join("ada")
        val thrown = Channel<Throwable>(Channel.UNLIMITED)
        val heard = Channel<State>(Channel.UNLIMITED)
        store.listen(Selector.keys("k")) {
            Thread.currentThread().setUncaughtExceptionHandler { _, exception -> thrown.trySend(exception) }
            heard.trySend(it)
            throw IllegalStateException("the listener's own")
        }
        store.set("k", 1)
        store.set("k", 2)
        repeat(3) {
            heard.receive()
            assertEquals("the listener's own", thrown.receive().message)
        }
    }

    @Test
    fun `every request ends exactly once, also when the client is closed meanwhile`() = inRoom { room ->
        repeat(20) { round ->
            val store = room.join("peer-$round")
            val ends = List(50) { n ->
                async {
                    try {
                        store.set("k", n)
                        null
                    } catch (error: SessionStoreException) {
                        error.code
                    }
                }
            }
            ends[round].await()
            store.client.close()
            val allowed = setOf(null, ErrorCode.CLOSED, ErrorCode.OUTCOME_UNKNOWN)
            assertTrue(allowed.containsAll(ends.awaitAll().toSet()), "${ends.awaitAll()}")
        }
    }

    @Test
    fun `listeners are called on daemons that are attached once`() = inRoom { room ->
        val threads = ConcurrentHashMap.newKeySet<Thread>()
        for (mode in listOf(CallbackThread.Own(), CallbackThread.Shared)) {
            threads.clear()
            val store = room.join("$mode".substringAfterLast('.').substringBefore('@')) { callbacks = mode }
            val heard = Channel<State>(Channel.UNLIMITED)
            store.listen(Selector.keys("k")) {
                threads.add(Thread.currentThread())
                heard.trySend(it)
            }
            repeat(50) {
                heard.receive()
                store.set("k", it)
            }
            assertTrue(threads.all { it.isDaemon && it.name.startsWith("sessionstore-callbacks") }, "$threads")
            // A thread that is attached anew is another object.
            if (mode is CallbackThread.Own) assertEquals(1, threads.size) else assertTrue(threads.size < 50)
        }
    }

    @Test
    fun `a program that forgets to close ends all the same`() {
        assertEquals("the last line of main\n", finish(startJava("sessionstore.ForgetfulKt")))
    }

    @Test
    fun `many clients at once`() = inRoom { room ->
        val many = 60
        val stores = List(many) { async { room.join("peer-$it") } }.awaitAll()
        val heard = stores.map { store -> async { store.states(Selector.prefix("here/")).take(many).toList() } }
        stores.mapIndexed { index, store -> async { store.set("here/$index", index) } }.awaitAll()
        for (states in heard.awaitAll()) {
            assertEquals(List(many) { it }.toSet(), states.map { it.value<Int>() }.toSet())
        }
        assertEquals(many, stores[0].client.peers().size)
    }
}
