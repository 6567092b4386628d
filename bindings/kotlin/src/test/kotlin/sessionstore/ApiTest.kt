package sessionstore

import kotlinx.coroutines.async
import kotlinx.coroutines.flow.first
import kotlinx.coroutines.launch
import kotlinx.serialization.ExperimentalSerializationApi
import kotlinx.serialization.Serializable
import kotlinx.serialization.json.Json
import kotlinx.serialization.json.JsonElement
import kotlinx.serialization.json.JsonNull
import kotlinx.serialization.json.JsonObject
import kotlinx.serialization.json.JsonUnquotedLiteral
import kotlinx.serialization.json.buildJsonObject
import kotlinx.serialization.json.jsonObject
import kotlinx.serialization.json.jsonPrimitive
import kotlinx.serialization.json.put
import org.junit.jupiter.api.Test
import org.junit.jupiter.api.io.TempDir
import java.io.File
import java.util.Base64
import javax.crypto.Mac
import javax.crypto.spec.SecretKeySpec
import kotlin.test.assertEquals
import kotlin.test.assertFailsWith
import kotlin.test.assertFalse
import kotlin.test.assertNull
import kotlin.test.assertTrue
import kotlin.time.Duration
import kotlin.time.Duration.Companion.days
import kotlin.time.Duration.Companion.milliseconds
import kotlin.time.Duration.Companion.seconds

/** What the test vectors do not play: the types of this language, servers, tokens, peers. */
class ApiTest {
    @Serializable
    data class Pinned(val text: String, val by: String? = null, val votes: Map<String, Long> = emptyMap())

    companion object {
        fun token(secret: String, role: String, expiresIn: Long): String {
            val base64 = Base64.getUrlEncoder().withoutPadding()
            val now = System.currentTimeMillis() / 1000
            val claims = """{"room_id":"room","user_id":"u-1","role":"$role","exp":${now + expiresIn}}"""
            val text = listOf("""{"alg":"HS256","typ":"JWT"}""", claims).joinToString(".") { base64.encodeToString(it.toByteArray()) }
            val mac = Mac.getInstance("HmacSHA256").apply { init(SecretKeySpec(secret.toByteArray(), "HmacSHA256")) }
            return "$text." + base64.encodeToString(mac.doFinal(text.toByteArray()))
        }
    }

    @Test
    fun `typed values`() = inRoom { room ->
        val store = room.join("ada")
        val pinned = key<Pinned>("pinned")
        assertNull(store.get(pinned))
        val value = Pinned("Grüße \u0000 👩‍🚀", "ada", mapOf("yes" to 9007199254740993, "no" to Long.MIN_VALUE))
        assertEquals(value, store.set(pinned, value).value(pinned.serializer))
        assertEquals(value, store.get(pinned))
        assertEquals(value, store.watch(pinned).first())
        store.set("list", listOf(1, 2, 3))
        assertEquals(listOf(1, 2, 3), store.get("list").value<List<Int>>())
        store.set("null within", buildJsonObject { put("a", JsonNull) })
        assertEquals(JsonObject(mapOf("a" to JsonNull)), store.get("null within").element)
        assertTrue(store.set("list", JsonNull).isAbsent)
        // A later version of an app may add members.
        store.setJson("pinned", """{"text":"a","by":null,"later":[1]}""")
        assertEquals(Pinned("a"), store.get(pinned))
        // Nothing is converted, at no depth, and the value is in no message.
        for (json in listOf("""{"text":1}""", """{"text":"a","votes":{"yes":"1"}}""", """["secret"]""", """{"by":"secret"}""", "true", "1.5")) {
            store.setJson("pinned", json)
            val error = assertRefused(ErrorCode.WRONG_TYPE) { store.get(pinned) }
            assertFalse("secret" in error.toString(), error.toString())
            assertNull(error.cause)
        }
        store.set("text", "true")
        assertRefused(ErrorCode.WRONG_TYPE) { store.get("text").value<Boolean>() }
        store.set("text", "7")
        assertRefused(ErrorCode.WRONG_TYPE) { store.get("text").value<Int>() }
        store.set("big", Long.MAX_VALUE)
        assertRefused(ErrorCode.WRONG_TYPE) { store.get("big").value<Int>() }
        assertRefused(ErrorCode.INVALID_ARGUMENT) { store.set("nan", Double.NaN) }
        assertRefused(ErrorCode.INVALID_UTF8) { store.set("half", "\ud83c") }
        assertRefused(ErrorCode.INVALID_UTF8) { store.get("\ud83c") }
        assertFalse("true" in store.set("text", "true").toString())
    }

    @Test
    fun `operations and transactions with values of this language`() = inRoom { room ->
        val store = room.join("ada")
        store.write("hands", Operation.setAdd("ada", "bob"))
        store.write("hands", Operation.setRemove("ada"))
        assertEquals(listOf("bob"), store.get("hands").value<List<String>>())
        repeat(5) { store.write("log", Operation.append(it, cap = 2)) }
        assertEquals(listOf(3, 4), store.get("log").value<List<Int>>())
        store.write("pinned", Operation.patch(mapOf("text" to "a")))
        assertEquals("a", store.get("pinned").value<Pinned>()?.text)
        assertEquals(1.5, store.write("n", Operation.add(1.5)).value<Double>())
        val n = store.set("m", 1) { expiresAfter = 3600.seconds; isBound = true }
        assertTrue(n.expiresAt!! > n.updatedAt)
        assertRefused(ErrorCode.INVALID_ARGUMENT) { store.set("m", 1) { expiresAfter = 400.days } }
        assertRefused(ErrorCode.INVALID_ARGUMENT) { store.set("m", 1) { expiresAfter = Duration.ZERO } }
        assertRefused(ErrorCode.INVALID_ARGUMENT) { store.set("m", 1) { expiresAfter = -(1.seconds) } }
        assertRefused(ErrorCode.INVALID_ARGUMENT) { Operation.append(1, cap = 0) }
        assertRefused(ErrorCode.INVALID_ARGUMENT) { store.set("m", 1) { keepsExpiry = true; neverExpires = true } }
        val states = store.transact {
            checkVersion("m", n.version)
            checkEquals("m", 1)
            checkExists("hands")
            checkAbsent("nothing")
            set("m", Pinned("b"))
            add("sum", 2)
            remove("hands")
        }
        assertEquals(listOf("m", "sum", "hands"), states.states.map { it.key })
        assertTrue(states.states.all { it.version == states.revision })
        val transaction = Transaction().apply { add("sum", 1) }
        store.transact(transaction)
        store.transact(transaction)
        assertEquals(4, store.get("sum").value<Int>())
        transaction.close()
        assertRefused(ErrorCode.CLOSED) { store.transact(transaction) }
        val conflict = assertRefused(ErrorCode.VERSION_CONFLICT) { store.setIfVersion("sum", 9, 1) }
        assertEquals(4, conflict.current?.value<Int>())
        assertTrue(store.read(Selector.all).revision > 0)
    }

    @Test
    fun `locks are lost with their client, and guard what is written`() = inRoom { room ->
        val ada = room.join("ada")
        val bob = room.join("bob")
        val result = ada.withLock("turn") { lock ->
            val error = assertRefused(ErrorCode.LOCK_HELD) { bob.lock("turn") }
            assertEquals("\$lock/turn", error.current?.key)
            ada.set("k", 1) { this.lock = lock }
            ada.transact { checkLock(lock); add("k", 1) }
            assertEquals("turn", lock.name)
            "result"
        }
        assertEquals("result", result)
        assertEquals(2, ada.get("k").value<Int>())
        val lock = bob.lock("turn", timeToLive = 5.seconds, wait = 5.seconds)
        assertEquals(listOf("\$lock/turn"), ada.states(Selector.prefix("\$lock/")).first().let { listOf(it.key) })
        lock.close()
        assertRefused(ErrorCode.CLOSED) { bob.set("k", 1) { this.lock = lock } }
        assertNull(lock.awaitEnd())
        // The block is cancelled when the lock is lost.
        val lost = async {
            assertRefused(ErrorCode.CLOSED) {
                ada.withLock("turn", wait = 60.seconds) {
                    launch { ada.client.close() }.join()
                    kotlinx.coroutines.awaitCancellation()
                }
            }
        }
        lost.await()
        assertFailsWith<IllegalStateException> { bob.withLock("turn", wait = 60.seconds) { error("the block's own") } }
        assertRefused(ErrorCode.INVALID_ARGUMENT) { bob.lock("turn", timeToLive = 1.milliseconds) }
        bob.lock("turn").release()
    }

    @Test
    fun `tokens, roles and rules`() = inRoom({
        secret = "a secret"
        rules = "[[rule]]\nroles = [\"host\"]\nkeys = [\"*\"]\nallow = [\"read\", \"write\", \"create\"]\n"
    }) { room ->
        val secret = "a secret"
        assertRefused(ErrorCode.UNAUTHORIZED) { room.join("eve") { failFast = true } }
        val store = room.join("ada") { token = token(secret, "guest", 20) }
        assertTrue(store.client.tokenExpiring.first() > System.currentTimeMillis() - 1_000_000)
        assertRefused(ErrorCode.FORBIDDEN) { store.set("k", 1) }
        assertRefused(ErrorCode.UNAUTHORIZED) { store.client.renewToken(token("another", "host", 600)) }
        store.client.renewToken(token(secret, "host", 600))
        assertEquals("u-1", store.set("k", 1).author?.userId)
        room.server.setRules(null)
        assertRefused(ErrorCode.INVALID_CONFIG) { room.server.setRules("not rules") }
        assertRefused(ErrorCode.WRONG_MODE) { room.server.reloadTls() }
        val listener = object : UpdateListener {
            override fun onTokenExpiring(expiresAt: Long) {}
        }
        assertRefused(ErrorCode.TOKEN_EXPIRED) {
            room.open("late", listener) { token = token(secret, "host", -600); failFast = true }.join()
        }
    }

    @Test
    fun peers() = inRoom { room ->
        val ada = room.join("ada") { metadata = "\u0041"; role = "host"; userId = "u-ada" }
        val changes = async { ada.client.peerChanges.first { it is PeerChange.Updated } }
        val bob = room.join("bob")
        // Updated is told to those who knew the peer before.
        ada.client.peerChanges.first { it is PeerChange.Joined }
        while (!changes.isCompleted) {
            bob.client.updatePeer(metadata = "a\u0000b")
            bob.client.updatePeer(name = "Robert")
            kotlinx.coroutines.yield()
        }
        changes.await()
        val peers = ada.client.peers()
        assertEquals(listOf("ada", "bob"), peers.map { it.id })
        assertEquals(listOf("u-ada", "host", "A"), peers[0].run { listOf(userId, role, metadata) })
        assertEquals("bob", bob.client.peerId)
        assertRefused(ErrorCode.INVALID_PEER) { bob.client.updatePeer(name = "x".repeat(1000)) }
        ada.client.peerChanges.first { it.peer.name == "Robert" && it.peer.metadata == "a\u0000b" }
    }

    @Serializable
    data class Wrapped(val tree: JsonElement)

    @OptIn(ExperimentalSerializationApi::class)
    @Test
    fun `numbers keep their digits`() = inRoom { room ->
        val store = room.join("ada")
        val numbers = listOf("9007199254740993", "18446744073709551615", "1.0", "0.1234567890123456789", "123456789012345678901", "-0")
        for (number in numbers) {
            val tree = Json.parseToJsonElement("""{"a":[$number]}""")
            assertEquals("$tree", store.set("k", tree).json)
            assertEquals(tree, store.get("k").element)
            assertEquals("$tree", store.setJson("k", "$tree").json)
            assertEquals("[$number]", store.write("hands", Operation.append(JsonUnquotedLiteral(number), cap = 1)).json)
            // What is read keeps them at every depth.
            store.setJson("k", """{"tree":$number}""")
            assertEquals(number, store.get("k").value<Wrapped>()?.tree?.jsonPrimitive?.content)
        }
        suspend fun written(tree: JsonElement) = store.set("k", Wrapped(tree)).element.jsonObject.getValue("tree").toString()
        // A tree within a class is written by kotlinx-serialization: its numbers as Long, ULong or Double.
        assertEquals(
            listOf("9007199254740993", "18446744073709551615", "1.0", "0.12345678901234568", "1.2345678901234568E20", "0"),
            numbers.map { written(Json.parseToJsonElement(it)) },
        )
        assertEquals(numbers, numbers.map { written(JsonUnquotedLiteral(it)) })
    }

    @Test
    fun servers(@TempDir directory: File) = test {
        val server = Server.start { dataDirectory = directory.resolve("data").path; fsync = true; ioUring = true; grace = Duration.ZERO; linger = Duration.ZERO }
        assertTrue(server.url.startsWith("ws://127.0.0.1:") && server.url.endsWith(":${server.port}"))
        assertRefused(ErrorCode.ADDRESS_IN_USE) { Server.start { port = server.port } }
        assertRefused(ErrorCode.INVALID_ARGUMENT) { Server.start { address = "127.0.0.1\u0000" } }
        assertRefused(ErrorCode.INVALID_ARGUMENT) { Server.start { maxKeys = -1 } }
        assertRefused(ErrorCode.DATA_DIRECTORY_UNUSABLE) { Server.start { dataDirectory = "/proc/nothing" } }
        val store = Client.open(server.url, "room").join()
        assertEquals(ServerStats(1, 1, 1), server.stats())
        server.stop()
        assertRefused(ErrorCode.CLOSED) { server.stats() }
        assertRefused(ErrorCode.CLOSED) { server.stop() }
        // Its port is free.
        Server.start { port = server.port }.stop()
        store.client.close()
    }

    @Test
    fun `joining fails with its reason`() = test {
        val server = Server.start()
        val url = server.url
        server.stop()
        Client.open(url, "room") { failFast = true }.use { assertRefused(ErrorCode.CONNECTION_FAILED) { it.join() } }
        Client.open(url, "room") { reconnectMin = 1.milliseconds; reconnectMax = 5.milliseconds }.use { client ->
            val error = assertFailsWith<SessionStoreException> { client.join(2.seconds) }
            assertTrue(error.code in setOf(ErrorCode.CONNECTION_FAILED, ErrorCode.TIMEOUT), "$error")
            assertEquals(ConnectionState.CONNECTING, client.state)
        }
        var dropped = 0
        val listener = object : UpdateListener {
            override fun onDropped() {
                dropped++
            }
        }
        assertRefused(ErrorCode.INVALID_URL) { Client.open("http://nothing", "room", listener) }
        assertRefused(ErrorCode.INVALID_ROOM) { Client.open(url, "", listener) }
        assertRefused(ErrorCode.INVALID_ARGUMENT) { Client.open(url, "a\u0000b", listener) }
        assertRefused(ErrorCode.INVALID_ARGUMENT) { Client.open(url, "room", listener) { requestTimeout = Duration.INFINITE } }
        assertRefused(ErrorCode.INVALID_ARGUMENT) { Client.open("wss://127.0.0.1:1", "room", listener) { caFile = "/nothing" } }
        assertEquals(0, dropped, "who gets an exception is told nothing else")
    }
}
