package sessionstore

import com.google.gson.JsonElement
import com.google.gson.JsonParser
import kotlinx.coroutines.CompletableDeferred
import kotlinx.coroutines.channels.Channel
import org.junit.jupiter.api.Test
import sessionstore.compat.HMSActionResultListener
import sessionstore.compat.HMSException
import sessionstore.compat.HMSKeyChangeListener
import sessionstore.compat.HMSSessionMetadataListener
import sessionstore.compat.HMSUpdateListener
import sessionstore.compat.HmsSessionStore
import kotlin.test.assertEquals
import kotlin.test.assertNull
import kotlin.test.assertTrue

/** The original's names. */
class CompatTest {
    /** How a call ended; ending twice fails. */
    private class Ended : HMSActionResultListener, HMSSessionMetadataListener {
        private val ended = CompletableDeferred<Pair<HMSException?, JsonElement?>>()

        override fun onSuccess() = end(null, null)

        override fun onSuccess(sessionMetadata: JsonElement?) = end(null, sessionMetadata)

        override fun onError(error: HMSException) = end(error, null)

        private fun end(error: HMSException?, value: JsonElement?) = check(ended.complete(error to value)) { "it ended twice" }

        suspend fun well(): JsonElement? = ended.await().also { assertNull(it.first, "${it.first}") }.second

        suspend fun badly(): HMSException = checkNotNull(ended.await().first) { "it ended well" }
    }

    private class Poll(val question: String, val open: Boolean, val votes: Long, val winner: String?)

    @Test
    fun `the calls of the original`() = test {
        Server.start().use { server ->
            val available = CompletableDeferred<HmsSessionStore>()
            val client = HmsSessionStore.join(server.url, "room", object : HMSUpdateListener {
                override fun onSessionStoreAvailable(sessionStore: HmsSessionStore) {
                    available.complete(sessionStore)
                }
            }) { name = "Ana" }
            val store = available.await()
            val told = Channel<Pair<String, JsonElement?>>(Channel.UNLIMITED)
            val listener = HMSKeyChangeListener { key, value -> told.trySend(key to value) }
            Ended().also { store.addKeyChangeListener(listOf("spotlight", "poll"), listener, it) }.well()
            assertEquals(listOf("spotlight" to null, "poll" to null), List(2) { told.receive() })
            val values = mapOf<Any, String>(
                "peer-1" to "\"peer-1\"", true to "true", 1 to "1", 9007199254740993 to "9007199254740993",
                listOf(1, null) to "[1,null]", "<b>&</b>" to "\"<b>&</b>\"",
                Poll("tea?", true, Long.MAX_VALUE, null) to
                    "{\"question\":\"tea?\",\"open\":true,\"votes\":9223372036854775807,\"winner\":null}",
            )
            for ((value, json) in values) {
                Ended().also { store.set(value, "spotlight", it) }.well()
                val (key, heard) = told.receive()
                assertEquals("spotlight", key)
                assertEquals(JsonParser.parseString(json), heard)
                val got = Ended().also { store.get("spotlight", it) }.well()
                assertEquals(json, com.google.gson.GsonBuilder().serializeNulls().disableHtmlEscaping().create().toJson(got))
            }
            assertEquals(9007199254740993, JsonParser.parseString("9007199254740993").asLong)
            Ended().also { store.set(null, "spotlight", it) }.well()
            assertEquals("spotlight" to null, told.receive())
            assertNull(Ended().also { store.get(hmsSessionMetadataListener = it) }.well())
            // Refusals have their codes.
            val error = Ended().also { store.set("x".repeat(2000), "spotlight", it) }.badly()
            assertEquals(listOf(202, "VALUE_TOO_LARGE", "set", false), error.run { listOf(code, name, action, isTerminal) })
            assertTrue(error.description.isNotEmpty() && error.message.isNotEmpty())
            assertEquals("INVALID_ARGUMENT", Ended().also { store.set(Double.NaN, "spotlight", it) }.badly().name)
            assertEquals("INVALID_KEY", Ended().also { store.addKeyChangeListener(listOf(""), listener, it) }.badly().name)
            // Added again for another key, and removed for all.
            Ended().also { store.addKeyChangeListener(listOf("other"), listener, it) }.well()
            assertEquals("other" to null, told.receive())
            val removed = Ended()
            store.removeKeyChangeListener(listener, removed).join()
            removed.well()
            for (key in listOf("spotlight", "other")) Ended().also { store.set(1, key, it) }.well()
            assertNull(told.tryReceive().getOrNull())
            // A store that is gone refuses, each time, and never stays silent.
            val last = Ended().also { store.addKeyChangeListener(listOf("k"), listener, it) }
            last.well()
            client.leave()
            assertEquals("CLOSED", Ended().also { store.set(1, "k", it) }.badly().name)
            assertEquals("CLOSED", Ended().also { store.get("k", it) }.badly().name)
            assertEquals("CLOSED", Ended().also { store.addKeyChangeListener(listOf("k"), listener, it) }.badly().name)
            Ended().also { store.removeKeyChangeListener(listener, it) }.well()
            client.close()
        }
    }

    @Test
    fun `what ends the client is told`() = test {
        val refused = CompletableDeferred<HMSException>()
        Server.start { secret = "a secret" }.use { server ->
            HmsSessionStore.join(server.url, "room", object : HMSUpdateListener {
                override fun onSessionStoreAvailable(sessionStore: HmsSessionStore) = error("it was joined")

                override fun onError(error: HMSException) {
                    refused.complete(error)
                }
            }).use {
                val error = refused.await()
                assertEquals("UNAUTHORIZED", error.name)
                assertTrue(error.isTerminal)
            }
        }
    }
}
