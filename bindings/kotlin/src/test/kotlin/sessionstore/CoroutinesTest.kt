package sessionstore

import kotlinx.coroutines.CancellationException
import kotlinx.coroutines.CoroutineDispatcher
import kotlinx.coroutines.CoroutineStart
import kotlinx.coroutines.Dispatchers
import kotlinx.coroutines.Runnable
import kotlinx.coroutines.async
import kotlinx.coroutines.asCoroutineDispatcher
import kotlinx.coroutines.cancel
import kotlinx.coroutines.cancelAndJoin
import kotlinx.coroutines.channels.Channel
import kotlinx.coroutines.flow.first
import kotlinx.coroutines.flow.take
import kotlinx.coroutines.flow.toList
import kotlinx.coroutines.launch
import kotlinx.coroutines.withContext
import kotlinx.coroutines.yield
import org.junit.jupiter.api.Test
import sessionstore.internal.Callbacks
import java.util.concurrent.Executors
import java.util.concurrent.LinkedBlockingQueue
import kotlin.coroutines.CoroutineContext
import kotlin.test.assertEquals
import kotlin.test.assertFailsWith
import kotlin.test.assertIs
import kotlin.test.assertNotNull
import kotlin.test.assertNull
import kotlin.test.assertTrue
import kotlin.time.Duration.Companion.milliseconds
import kotlin.time.Duration.Companion.seconds

/** Cancelling, flows, and the threads that callbacks come on. */
class CoroutinesTest {
    /** Runs what it is given when it is told to. */
    private class Halted : CoroutineDispatcher() {
        val waiting = LinkedBlockingQueue<Runnable>()

        override fun dispatch(context: CoroutineContext, block: Runnable) {
            waiting.add(block)
        }
    }

    @Test
    fun `a coroutine that is cancelled before sends nothing`() = inRoom { room ->
        val store = room.join("ada")
        launch {
            cancel()
            assertFailsWith<CancellationException> { store.set("k", 1) }
        }.join()
        val state = store.get("k")
        assertTrue(state.isAbsent)
        assertEquals(0, state.version)
    }

    @Test
    fun `what was not sent when its coroutine is cancelled is never sent`() = test {
        val server = Server.start()
        val client = Client.open(server.url, "room") { reconnectMin = 1.milliseconds; reconnectMax = 5.milliseconds }
        client.use {
            val store = client.join()
            server.stop()
            client.connection.first { it.state == ConnectionState.RECONNECTING }
            val actions = listOf<suspend () -> Unit>(
                { store.set("set", 1) },
                { store.set("bound", 1) { isBound = true } },
                { store.setIfVersion("if version", 1, 0) },
                { store.add("added", 1) },
                { store.update(key<Int>("updated")) { 1 } },
                { store.transact { set("transacted", 1) } },
                { store.lock("turn", timeToLive = 300.seconds) },
                { client.updatePeer(name = "Robert") },
                { store.get("set") },
                { store.read(Selector.all) },
                { store.keys() },
                { store.usage() },
            )
            val cancelled = actions.map { launch(start = CoroutineStart.UNDISPATCHED) { it() } }
            val kept = async(start = CoroutineStart.UNDISPATCHED) { store.set("kept", 1) }
            cancelled.forEach { it.cancelAndJoin() }
            assertTrue(cancelled.all { it.isCancelled })
            Server.start { port = server.port }.use {
                kept.await()
                // Those before it would have come before it.
                assertEquals(listOf("kept"), store.keys())
                assertEquals(emptyList(), store.keys("\$lock/"))
                assertEquals("", client.peers().single().name)
            }
        }
    }

    @Test
    fun `a change that was sent goes on when its coroutine is cancelled`() = inRoom { room ->
        val bob = room.join("bob")
        // Ada's results come when this test wants them.
        val halted = Halted()
        val client = room.open("ada") { callbacks = CallbackThread.On(halted) }
        val joined = async { client.join() }
        while (!joined.isCompleted) halted.waiting.poll()?.run() ?: yield()
        val heard = async { bob.states("k").first { !it.isAbsent } }
        val setting = launch(start = CoroutineStart.UNDISPATCHED) { joined.await().set("k", 1) }
        assertEquals(1, heard.await().value<Int>())
        setting.cancelAndJoin()
        assertTrue(setting.isCancelled)
        // The late result finds nobody, which is fine; further requests are answered.
        val next = async { joined.await().get("k") }
        while (!next.isCompleted) halted.waiting.poll()?.run() ?: yield()
        assertEquals(1, next.await().value<Int>())
        client.close()
        while (client.connection.value.state != ConnectionState.CLOSED) halted.waiting.poll()?.run() ?: yield()
    }

    @Test
    fun `who is cancelled while waiting for a lock does not get it`() = inRoom { room ->
        val (ada, bob, eve) = listOf("ada", "bob", "eve").map { room.join(it) }
        // Nobody who keeps it would lose it before the test is over.
        val held = ada.lock("turn", timeToLive = 300.seconds)
        val waiting = launch(start = CoroutineStart.UNDISPATCHED) { bob.lock("turn", timeToLive = 300.seconds, wait = 300.seconds) }
        // Bob's request is in the queue: what he asked after it has been answered.
        bob.get("k")
        waiting.cancelAndJoin()
        held.release()
        val lock = eve.lock("turn", wait = 300.seconds)
        assertTrue(lock.isHeld)
        assertTrue(lock.token > held.token)
        lock.release()
    }

    @Test
    fun `an update whose coroutine is cancelled makes no further attempt`() = inRoom { room ->
        val store = room.join("ada")
        lateinit var updating: kotlinx.coroutines.Job
        updating = launch(start = CoroutineStart.LAZY) {
            store.update(key<Int>("n")) {
                updating.cancel()
                5
            }
        }
        updating.join()
        assertTrue(updating.isCancelled)
        // It goes a moment after the coroutine: in the end only the client's own listener is left.
        while (Callbacks.held > 1) yield()
        assertEquals(0, store.get("n").version)
    }

    @Test
    fun `nothing is computed for a coroutine that is cancelled`() = inRoom { room ->
        val halted = Halted()
        val client = room.open("ada") { callbacks = CallbackThread.On(halted) }
        val joined = async { client.join() }
        while (!joined.isCompleted) halted.waiting.poll()?.run() ?: yield()
        val store = joined.await()
        var computed = 0
        val updating = launch(start = CoroutineStart.UNDISPATCHED) { store.update(key<Int>("n")) { ++computed } }
        // What the update read waits to be told.
        while (halted.waiting.isEmpty()) yield()
        updating.cancelAndJoin()
        while (Callbacks.held > 2) halted.waiting.poll()?.run() ?: yield()
        assertEquals(0, computed)
        client.close()
        while (client.connection.value.state != ConnectionState.CLOSED) halted.waiting.poll()?.run() ?: yield()
    }

    @Test
    fun `requests that are cancelled at any moment end as coroutines do, and what was answered is applied`() = inRoom { room ->
        val store = room.join("ada")
        var answered = 0
        val all = 1_000
        repeat(all / 50) {
            val adding = List(50) { async { store.add("n", 1) } }
            launch {
                for (job in adding) {
                    yield()
                    job.cancel()
                }
            }
            for (job in adding) {
                val exception = runCatching { job.await() }.exceptionOrNull()
                if (exception == null) answered++ else assertIs<CancellationException>(exception)
            }
        }
        val applied = store.get("n").value<Int>() ?: 0
        assertTrue(applied in answered..all, "$answered were answered, $applied applied")
        while (Callbacks.held > 1) yield()
    }

    @Test
    fun `who is cancelled while it gives a lock back or leaves does so nevertheless`() = inRoom { room ->
        // Many, so that some were not sent yet when they are cancelled.
        val (ada, bob) = listOf("ada", "bob").map { room.join(it) }
        val locks = List(25) { ada.lock("turn/$it", timeToLive = 300.seconds) }
        val releasing = locks.map { launch(start = CoroutineStart.UNDISPATCHED) { it.release() }.apply { cancel() } }
        releasing.forEach { it.join() }
        for (lock in locks) bob.lock(lock.name, wait = 300.seconds).release()
        val leaving = List(20) { room.join("peer-$it").client }
        for (client in leaving) launch(start = CoroutineStart.UNDISPATCHED) { client.leave() }.cancel()
        for (client in leaving) client.connection.first { it.state == ConnectionState.CLOSED }
    }

    @Test
    fun `an update stops when its coroutine is cancelled, and throws what its block throws`() = inRoom { room ->
        val store = room.join("ada")
        val other = room.join("bob")
        assertEquals("no", assertFailsWith<IllegalStateException> { store.update(key<Int>("n")) { error("no") } }.message)
        assertTrue(store.get("n").isAbsent)
        assertRefused(ErrorCode.INVALID_JSON) { store.updateJson("n") { "not JSON" } }
        assertEquals(7, store.update(key<Int>("n")) { (it ?: 0) + 7 }.value<Int>())
        assertEquals(1, store.updateJson("n") { null }.version, "left as it is")
        assertTrue(store.update(key<Int>("n")) { null }.isAbsent)
        // Every attempt is undone by another, until nobody waits any more.
        val tries = Channel<Unit>(Channel.UNLIMITED)
        lateinit var updating: kotlinx.coroutines.Job
        updating = launch(start = CoroutineStart.LAZY) {
            store.update(key<Int>("n")) {
                tries.trySend(Unit)
                kotlinx.coroutines.runBlocking { other.set("n", 100) }
                updating.cancel()
                5
            }
        }
        updating.join()
        assertTrue(updating.isCancelled)
        tries.receive()
        store.get("n")
        assertEquals(100, store.get("n").value<Int>())
        assertNull(tries.tryReceive().getOrNull(), "it was tried again")
    }

    @Test
    fun `a flow's listener ends with it`() = inRoom { room ->
        val store = room.join("ada")
        store.set("k", 1)
        // What results had goes a moment after them: in the end only the client's own listener is left.
        while (Callbacks.held > 1) yield()
        assertEquals(listOf(1), store.watch(key<Int>("k")).take(1).toList())
        while (Callbacks.held > 1) yield()
        val collecting = launch(start = CoroutineStart.UNDISPATCHED) { store.states(Selector.all).collect {} }
        assertEquals(2, Callbacks.held)
        collecting.cancelAndJoin()
        while (Callbacks.held > 1) yield()
    }

    @Test
    fun `a slow collector misses no newest value and holds nobody up`() = inRoom { room ->
        val store = room.join("ada")
        val seen = ArrayList<Change>()
        store.changes(Selector.keys("k", "l")).first { change ->
            // Answers come while the collector has not returned yet.
            if (seen.isEmpty()) {
                for (n in 1..100) store.set("k", n)
                store.set("l", true)
            }
            seen.add(change)
            change is Change.Value && change.state.key == "l" && !change.state.isAbsent
        }
        val k = seen.filterIsInstance<Change.Value>().map { it.state }.filter { it.key == "k" }
        assertTrue(k[0].isAbsent && k[0].isSnapshot)
        assertEquals(Change.SnapshotEnd, seen[2])
        assertEquals(100, k.last().value<Int>())
        assertEquals(100, k.drop(1).sumOf { it.replaced + 1 }, "every state is told or counted")
        assertTrue(k.size < 100, "it was slow")
    }

    @Test
    fun `flows end with their client, and with what ended it`() = inRoom { room ->
        val ada = room.join("ada")
        val values = async(start = CoroutineStart.UNDISPATCHED) { ada.states("k").toList() }
        val peers = async(start = CoroutineStart.UNDISPATCHED) { ada.client.peerChanges.toList() }
        ada.states("k").first()
        room.join("bob")
        ada.client.peerChanges.first { it is PeerChange.Joined }
        ada.client.leave()
        assertEquals(1, values.await().size)
        assertEquals(listOf("bob"), peers.await().map { it.peer.id })
        val eve = room.join("eve")
        assertRefused(ErrorCode.INVALID_KEY) { eve.states("").first() }
        eve.client.close()
        assertRefused(ErrorCode.CLOSED) { eve.states("k").first() }
    }

    @Test
    fun `a flow throws what its client is ended with`() = inRoom({ secret = "a secret" }) { room ->
        val store = room.join("ada") { token = ApiTest.token("a secret", "host", 600) }
        assertRefused(ErrorCode.TOKEN_EXPIRED) {
            // From the first value on, the client's days are numbered.
            store.states("k").collect { store.client.renewToken(ApiTest.token("a secret", "host", 3)) }
        }
        assertEquals(ErrorCode.TOKEN_EXPIRED, store.client.connection.value.error?.code)
        assertRefused(ErrorCode.TOKEN_EXPIRED) { store.client.join() }
    }

    @Test
    fun `a collector of peers that is slow is told what matters`() = inRoom { room ->
        val ada = room.join("ada")
        val gate = Channel<Unit>()
        val told = Channel<PeerChange>(Channel.UNLIMITED)
        val collecting = launch {
            ada.client.peerChanges.collect {
                told.send(it)
                gate.receive()
            }
        }
        val bob = room.join("bob")
        assertIs<PeerChange.Joined>(told.receive())
        val passing = room.join("passing")
        bob.client.updatePeer(name = "Robert")
        passing.client.leave()
        bob.client.leave()
        room.join("bob")
        room.join("eve")
        while (ada.client.peers().map { it.id } != listOf("ada", "bob", "eve")) yield()
        // What was told before this answer has come to the collector's queue.
        ada.get("k")
        val rest = List(3) { gate.send(Unit); told.receive() }
        assertEquals(listOf("Left bob", "Joined bob", "Joined eve"), rest.map { "${it::class.simpleName} ${it.peer.id}" })
        collecting.cancelAndJoin()
    }

    @Test
    fun `a client that is bound to a dispatcher calls listeners there alone`() = inRoom { room ->
        Executors.newSingleThreadExecutor { Thread(it, "the user interface").apply { isDaemon = true } }.asCoroutineDispatcher().use { ui ->
            val threads = Channel<String>(Channel.UNLIMITED)
            val client = room.open("ada", object : UpdateListener {
                override fun onStoreAvailable(store: Store) {
                    threads.trySend(Thread.currentThread().name)
                    store.listen(Selector.keys("k")) { threads.trySend(Thread.currentThread().name) }
                }

                override fun onDropped() {
                    threads.trySend(Thread.currentThread().name)
                    threads.close()
                }
            }) { callbacks = CallbackThread.On(ui) }
            withContext(ui) {
                val store = client.join()
                for (n in 1..200) store.set("k", n)
                store.cached("k")
                client.close()
            }
            val names = ArrayList<String>()
            for (name in threads) names.add(name.substringBefore(" @"))
            assertEquals(setOf("the user interface"), names.toSet())
            // Available, the current value, and the last change; changes may stand for older ones.
            assertTrue(names.size >= 4, "${names.size}")
        }
    }

    @Test
    fun `poll mode calls listeners inside of poll`() = inRoom { room ->
        val wakes = Channel<Unit>(Channel.CONFLATED)
        val client = room.open("ada") { callbacks = CallbackThread.Poll { wakes.trySend(Unit) } }
        val joined = async(Dispatchers.Unconfined) { client.join() }
        while (!joined.isCompleted) {
            wakes.receive()
            client.poll()
        }
        val store = joined.await()
        var heard: State? = null
        store.listen(Selector.keys("k")) {
            heard = it
            assertEquals(ErrorCode.WOULD_DEADLOCK, assertFailsWith<SessionStoreException> { client.poll() }.code)
        }
        val set = async(Dispatchers.Unconfined) { store.set("k", 1) }
        while (!set.isCompleted) {
            assertNull(heard?.takeIf { !it.isAbsent })
            wakes.receive()
            client.poll()
        }
        assertEquals(1, assertNotNull(heard).value<Int>())
        val threaded = room.join("bob").client
        assertRefused(ErrorCode.WRONG_MODE) { threaded.poll() }
    }

    @Test
    fun `a thread of the client's own tells when it begins and ends`() = inRoom { room ->
        val told = Channel<Pair<String, Thread>>(Channel.UNLIMITED)
        val mode = CallbackThread.Own(
            onStart = { told.trySend("start" to Thread.currentThread()) },
            onStop = { told.trySend("stop" to Thread.currentThread()) },
        )
        val client = room.open("ada", object : UpdateListener {
            override fun onStoreAvailable(store: Store) {
                told.trySend("available" to Thread.currentThread())
                store.client.close()
            }
        }) { callbacks = mode }
        val all = List(3) { told.receive() }
        assertEquals(listOf("start", "available", "stop"), all.map { it.first })
        assertEquals(1, all.map { it.second }.toSet().size)
        assertEquals(ConnectionState.CLOSED, client.state)
    }
}
