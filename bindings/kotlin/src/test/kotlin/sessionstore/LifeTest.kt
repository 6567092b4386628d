package sessionstore

import kotlinx.coroutines.CompletableDeferred
import kotlinx.coroutines.CoroutineStart
import kotlinx.coroutines.Dispatchers
import kotlinx.coroutines.async
import kotlinx.coroutines.awaitAll
import kotlinx.coroutines.cancelAndJoin
import kotlinx.coroutines.channels.Channel
import kotlinx.coroutines.coroutineScope
import kotlinx.coroutines.flow.first
import kotlinx.coroutines.flow.take
import kotlinx.coroutines.flow.toList
import kotlinx.coroutines.isActive
import kotlinx.coroutines.launch
import kotlinx.coroutines.yield
import org.junit.jupiter.api.Test
import sessionstore.internal.Callbacks
import sessionstore.internal.Handle
import sessionstore.internal.PhantomCleaning
import java.util.concurrent.ConcurrentHashMap
import java.util.concurrent.CountDownLatch
import java.util.concurrent.atomic.AtomicInteger
import kotlin.test.assertEquals
import kotlin.test.assertFailsWith
import kotlin.test.assertTrue

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
        val watcher = room.join("watcher")
        val left = async(start = CoroutineStart.UNDISPATCHED) { watcher.client.peerChanges.first { it is PeerChange.Left } }
        suspend fun forget() {
            Client.open(room.server.url, "room") { peerId = "forgotten" }.join().set("k", 1)
        }
        forget()
        underPressure { assertEquals("forgotten", left.await().peer.id) }
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
