package sessionstore

import kotlinx.coroutines.channels.Channel
import kotlinx.coroutines.withTimeout
import kotlinx.serialization.Serializable
import kotlinx.serialization.json.Json
import kotlinx.serialization.json.JsonArray
import kotlinx.serialization.json.JsonElement
import kotlinx.serialization.json.JsonNull
import kotlinx.serialization.json.JsonObject
import kotlinx.serialization.json.JsonPrimitive
import kotlinx.serialization.json.boolean
import kotlinx.serialization.json.booleanOrNull
import kotlinx.serialization.json.int
import kotlinx.serialization.json.jsonArray
import kotlinx.serialization.json.jsonObject
import kotlinx.serialization.json.jsonPrimitive
import kotlinx.serialization.json.long
import org.junit.jupiter.api.DynamicTest
import org.junit.jupiter.api.Test
import org.junit.jupiter.api.TestFactory
import sessionstore.internal.C
import sessionstore.internal.staticText
import kotlin.test.assertEquals
import kotlin.test.assertFailsWith
import kotlin.test.assertNotNull
import kotlin.test.assertNull
import kotlin.test.assertTrue
import kotlin.test.fail
import kotlin.time.Duration.Companion.milliseconds

/** Plays tests/vectors, as tests/vectors/README.md says. */
class VectorsTest {
    private fun read(name: String) = repository.resolve("tests/vectors/$name").readText()

    @Serializable
    private data class Code(val number: Int, val name: String, val retryable: Boolean)

    @Test
    fun `errors are those of the table`() {
        val expected = Json.decodeFromString<List<Code>>(read("errors.json"))
        assertTrue(expected.isNotEmpty())
        assertEquals(expected, ErrorCode.all.map { Code(it.number, it.name, it.isRetryable) })
        for (code in ErrorCode.all) {
            // Each stands under its own name, and the library knows it under the same.
            assertEquals(code, ErrorCode.Companion::class.java.getMethod("get${code.name}").invoke(ErrorCode))
            assertEquals(code.name, staticText(C.sessionstore_code_name(code.number)))
            assertTrue(code.advice.isNotEmpty())
        }
        assertEquals("UNKNOWN", ErrorCode.of(12345).name)
    }

    @Serializable
    private data class Values(val values: List<Stored>, val refused: List<Refused>)

    @Serializable
    private data class Stored(
        val name: String,
        val json: String,
        val stored: String? = null,
        val kind: String,
        val absent: Boolean = false,
        val string: String? = null,
        val integer: String? = null,
        val number: Double? = null,
        val boolean: Boolean? = null,
    )

    @Serializable
    private data class Refused(val name: String, val json: String, val error: String, val text_only: Boolean)

    private inline fun <reified T : Any> same(vector: Stored, state: State, expected: T?) {
        when {
            expected != null -> assertEquals(expected, state.value<T>(), vector.name)
            vector.absent -> assertNull(state.value<T>(), vector.name)
            else -> assertEquals(
                ErrorCode.WRONG_TYPE,
                assertFailsWith<SessionStoreException>(vector.name) { state.value<T>() }.code,
                vector.name,
            )
        }
    }

    private fun kind(element: JsonElement) = when (element) {
        is JsonArray -> "array"
        is JsonObject -> "object"
        JsonNull -> "null"
        is JsonPrimitive -> when {
            element.isString -> "string"
            element.booleanOrNull != null -> "boolean"
            element.content.toLongOrNull() != null -> "integer"
            else -> "number"
        }
    }

    private fun lookAt(vector: Stored, state: State) {
        assertEquals(vector.stored ?: vector.json, state.json, vector.name)
        assertEquals(vector.kind, kind(state.element), vector.name)
        assertEquals(vector.absent, state.isAbsent, vector.name)
        same(vector, state, vector.string)
        same(vector, state, vector.integer?.toLong())
        same(vector, state, vector.number)
        same(vector, state, vector.boolean)
    }

    @Test
    fun values() = inRoom { room ->
        val vectors = Json.decodeFromString<Values>(read("values.json"))
        assertTrue(vectors.values.isNotEmpty() && vectors.refused.isNotEmpty())
        val peers = listOf("ada", "bob").map { name ->
            val store = room.join(name)
            val heard = Channel<State>(Channel.UNLIMITED)
            store.listen(Selector.keys("value")) { heard.trySend(it) }
            assertTrue(heard.receive().isAbsent)
            store to heard
        }
        val ada = peers[0].first
        for (vector in vectors.values) {
            ada.set("value", "before")
            lookAt(vector, ada.setJson("value", vector.json))
            for ((store, heard) in peers) {
                assertEquals("before", heard.receive().value<String>(), vector.name)
                lookAt(vector, heard.receive())
                lookAt(vector, store.get("value"))
                lookAt(vector, assertNotNull(store.cached("value"), vector.name))
                assertEquals(vector.absent, store.keys().isEmpty(), vector.name)
            }
            // Through the types of the language and back; that a key stays absent is told to nobody.
            val typed = when {
                vector.absent -> continue
                vector.string != null -> Operation.set(vector.string)
                vector.integer != null -> Operation.set(vector.integer.toLong())
                vector.boolean != null -> Operation.set(vector.boolean)
                else -> Operation.set(Json.parseToJsonElement(vector.json))
            }
            val again = ada.write("value", typed)
            assertEquals(Json.parseToJsonElement(vector.json), again.element, vector.name)
            for ((_, heard) in peers) assertEquals(again.json, heard.receive().json, vector.name)
        }
        for (vector in vectors.refused) {
            val error = assertFailsWith<SessionStoreException>(vector.name) { ada.setJson("other", vector.json) }
            assertEquals(vector.error, error.code.name, vector.name)
            assertTrue(ada.get("other").isAbsent, vector.name)
        }
    }

    @TestFactory
    fun scenarios(): List<DynamicTest> {
        val scenarios = Json.parseToJsonElement(read("scenarios.json")).jsonArray.map { Members("a scenario", it) }
        assertTrue(scenarios.isNotEmpty())
        return scenarios.map { scenario ->
            val name = scenario.text("name")
            DynamicTest.dynamicTest(name) { play(name, scenario) }
        }
    }

    private fun play(name: String, scenario: Members) {
        scenario.text("why")
        val server = Members("$name: server", scenario.take("server"))
        val steps = scenario.take("steps").jsonArray
        scenario.done()
        inRoom({ configure(server) }) { room ->
            val peers = HashMap<String, Player>()
            for ((index, step) in steps.withIndex()) {
                val members = Members("$name: step $index", step)
                val peer = members.text("peer")
                val hears = members.maybeText("hears")
                if (hears != null) {
                    val watch = peers.getValue(peer).watches.getValue(hears)
                    for (event in members.take("events").jsonArray) watch.expect("${members.of}: $event", event)
                } else {
                    members.act(room, peer, peers)
                }
                members.done()
            }
            // What was to be told has been told when an answer comes, and it was all.
            for (player in peers.values) {
                // A refusal is an answer, too.
                if (!player.hasLeft) runCatching { player.store.get("spotlight") }.onFailure { assertTrue(it is SessionStoreException) }
                for ((watch, told) in player.watches) assertNull(told.told.tryReceive().getOrNull(), "$name: $watch is told too much")
            }
        }
    }

    private fun ServerOptions.configure(server: Members) {
        maxValueBytes = server.maybeLong("max_value_bytes")?.toInt()
        maxKeys = server.maybeLong("max_keys")?.toInt()
        maxStoreBytes = server.maybeLong("max_store_bytes")?.toInt()
        maxListenedKeys = server.maybeLong("max_listened_keys")?.toInt()
        maxPeers = server.maybeLong("max_peers")?.toInt()
        rules = server.maybeText("rules")
        server.done()
    }

    /** What a listener is told, as the vectors write it. */
    private sealed interface Told {
        data class Value(val state: State) : Told

        data class Refused(val error: SessionStoreException) : Told

        data object SnapshotEnd : Told

        data object Dropped : Told
    }

    private class Watch : KeyChangeListener {
        val told = Channel<Told>(Channel.UNLIMITED)
        lateinit var subscription: Subscription

        override fun onKeyChanged(state: State) {
            told.trySend(Told.Value(state))
        }

        override fun onSnapshotEnd() {
            told.trySend(Told.SnapshotEnd)
        }

        override fun onRefused(error: SessionStoreException) {
            told.trySend(Told.Refused(error))
        }

        override fun onDropped() {
            told.trySend(Told.Dropped)
        }

        suspend fun expect(of: String, expected: JsonElement) {
            val heard = withTimeout(SAFETY) { told.receive() }
            when {
                expected == JsonPrimitive("snapshot_end") -> assertEquals(Told.SnapshotEnd, heard, of)
                expected == JsonPrimitive("dropped") -> assertEquals(Told.Dropped, heard, of)
                heard is Told.Refused -> assertEquals(expected, JsonObject(mapOf("refused" to JsonPrimitive(heard.error.code.name))), of)
                heard is Told.Value -> {
                    val members = Members(of, expected)
                    members.compare(heard.state)
                    assertEquals(members.flag("snapshot"), heard.state.isSnapshot, of)
                    assertEquals(members.maybeText("cause") ?: "written", heard.state.cause.name.lowercase(), of)
                    members.done()
                }
                else -> fail("$of: $heard was told")
            }
        }
    }

    private class Player(val store: Store) {
        val watches = HashMap<String, Watch>()
        val locks = HashMap<String, Lock>()
        var hasLeft = false
    }

    private suspend fun Members.act(room: Room, peer: String, peers: MutableMap<String, Player>) {
        val action = text("do")
        if (action == "join") {
            return outcome {
                val (role, user) = maybeText("role") to maybeText("user_id")
                peers[peer] = Player(room.join(peer) { this.role = role; userId = user; failFast = true })
                null
            }
        }
        val player = peers.getValue(peer)
        val store = player.store
        when (action) {
            "leave" -> outcome { store.client.leave(); player.hasLeft = true; null }
            "listen" -> {
                val (name, selector) = text("as") to selector()
                val watch = Watch()
                outcome { watch.subscription = store.listen(selector, watch); player.watches[name] = watch; null }
            }
            "cancel" -> text("as").let { outcome { player.watches.getValue(it).subscription.cancel(); null } }
            "set" -> (text("key") to text("json")).let { (key, json) -> outcome { store.setJson(key, json) } }
            "set_if_version" -> {
                val (key, json, version) = Triple(text("key"), text("json"), long("version"))
                outcome { store.setJsonIfVersion(key, json, version) }
            }
            "remove" -> text("key").let { outcome { store.remove(it) } }
            "get" -> text("key").let { outcome { store.get(it) } }
            "cached" -> text("key").let { outcome { store.cached(it) ?: JsonNull } }
            "add" -> (text("key") to long("by")).let { (key, by) -> outcome { store.add(key, by) } }
            "write" -> {
                val (key, operation, options) = write(player)
                outcome { store.write(key, operation, options) }
            }
            "update" -> (text("key") to long("add")).let { (key, amount) ->
                outcome { store.update(key<Long>(key)) { (it ?: 0) + amount } }
            }
            "transact" -> {
                val transaction = Transaction()
                for (check in take("checks").jsonArray) Members("$of: $check", check).check(transaction, player)
                for (write in take("writes").jsonArray) {
                    val members = Members("$of: $write", write)
                    val (key, operation, options) = members.write(player)
                    members.done()
                    transaction.write(key, operation, options)
                }
                outcome { store.transact(transaction) }
            }
            "read" -> selector().let { outcome { store.read(it) } }
            "keys" -> text("prefix").let { outcome { store.keys(it) } }
            "usage" -> outcome { store.usage() }
            "lock" -> text("lock").let { outcome { player.locks[it] = store.lock(it); null } }
            "release" -> text("lock").let { outcome { player.locks.getValue(it).release(); null } }
            "peers" -> outcome { store.client.peers() }
            else -> fail("$of: the action $action is unknown")
        }
    }

    /** The members of an object, taken out one by one: what is left at the end nobody knew. */
    private class Members(val of: String, element: JsonElement) {
        private val left = LinkedHashMap(element.jsonObject)

        fun take(name: String) = maybe(name) ?: fail("$of: there is no $name")

        fun maybe(name: String): JsonElement? = left.remove(name)

        fun text(name: String) = take(name).jsonPrimitive.also { assertTrue(it.isString, "$of: $name") }.content

        fun maybeText(name: String) = if (name in left) text(name) else null

        fun long(name: String) = take(name).jsonPrimitive.long

        fun maybeLong(name: String) = maybe(name)?.jsonPrimitive?.long

        fun flag(name: String) = maybe(name)?.jsonPrimitive?.boolean ?: false

        private fun texts(name: String) = maybe(name)?.jsonArray.orEmpty().map { it.jsonPrimitive.content }

        fun selector() = Selector(texts("keys"), texts("prefixes"), flag("all"))

        fun done() = assertTrue(left.isEmpty(), "$of: not known: $left")

        fun write(player: Player): Triple<String, Operation, WriteOptions.() -> Unit> {
            val operation = when (val name = text("operation")) {
                "set" -> Operation.setJson(text("json"))
                "add" -> Operation.addJson(text("json"))
                "patch" -> Operation.patchJson(text("json"))
                "set_add" -> Operation.setAddJson(text("json"))
                "set_remove" -> Operation.setRemoveJson(text("json"))
                "append" -> Operation.appendJson(text("json"), maybeLong("cap"))
                "touch" -> Operation.touch()
                else -> fail("$of: the operation $name is unknown")
            }
            val version = maybeLong("if_version")
            val expiry = maybeLong("ttl_ms")?.milliseconds
            val (bound, unbound) = flag("bound") to flag("unbound")
            val (keeps, never) = flag("keep_expiry") to flag("never_expires")
            val held = maybeText("lock")?.let(player.locks::getValue)
            return Triple(text("key"), operation) {
                ifVersion = version
                expiresAfter = expiry
                isBound = if (bound) true else if (unbound) false else null
                keepsExpiry = keeps
                neverExpires = never
                lock = held
            }
        }

        fun check(transaction: Transaction, player: Player) {
            val lock = maybeText("lock")
            if (lock != null) {
                transaction.checkLock(player.locks.getValue(lock))
                return done()
            }
            val key = text("key")
            val version = maybeLong("version")
            val equals = maybeText("equals")
            when {
                version != null -> transaction.checkVersion(key, version)
                equals != null -> transaction.checkEqualsJson(key, equals)
                flag("exists") -> transaction.checkExists(key)
                flag("absent") -> transaction.checkAbsent(key)
                else -> fail("$of: nothing is checked")
            }
            done()
        }

        /** Whether a state is as it should be; there may be further members. */
        fun compare(state: State) {
            assertEquals(text("key"), state.key, of)
            assertEquals(text("json"), state.json, of)
            maybeLong("version")?.let { assertEquals(it, state.version, of) }
            maybe("expires")?.let { assertEquals(it.jsonPrimitive.boolean, state.expiresAt != null, of) }
            maybe("author")?.let { assertEquals(it, state.author?.let { author -> JsonPrimitive(author.peerId) } ?: JsonNull, of) }
            maybeText("user_id")?.let { assertEquals(it, state.author?.userId, of) }
        }

        private fun compareAll(states: List<JsonElement>, found: List<State>) {
            assertEquals(states.size, found.size, of)
            states.zip(found).forEach { (expected, state) -> Members("$of: $expected", expected).run { compare(state); done() } }
        }

        /** Does something, and compares how it ends with the members that say so. */
        suspend fun outcome(act: suspend () -> Any?) {
            val expected = maybeText("error")
            val result = try {
                act()
            } catch (error: SessionStoreException) {
                assertEquals(expected, error.code.name, "$of: ${error.message}")
                maybe("current")?.let { compareAll(listOf(it), listOfNotNull(error.current)) }
                maybe("check")?.let { assertEquals(it.jsonPrimitive.int, error.check, of) }
                maybe("write")?.let { assertEquals(it.jsonPrimitive.int, error.write, of) }
                return
            }
            assertNull(expected, "$of: it succeeded")
            maybe("state")?.let {
                if (it is JsonNull) assertEquals<Any?>(JsonNull, result, of) else compareAll(listOf(it), listOf(result as State))
            }
            maybe("states")?.let { compareAll(it.jsonArray, (result as States).states) }
            maybe("keys")?.let { keys -> assertEquals(keys.jsonArray.map { it.jsonPrimitive.content }, result, of) }
            maybe("peers")?.let { peers ->
                assertEquals(peers.jsonArray.map { it.jsonPrimitive.content }, (result as List<*>).map { (it as Peer).id }, of)
            }
            maybe("usage")?.let {
                val usage = Members("$of: usage", it)
                val found = result as Usage
                usage.maybeLong("revision")?.let { assertEquals(it, found.revision, of) }
                usage.maybeLong("keys")?.let { assertEquals(it, found.keys, of) }
                usage.maybeLong("max_keys")?.let { assertEquals(it, found.maxKeys, of) }
                usage.maybeLong("bytes")?.let { assertEquals(it, found.bytes, of) }
                usage.maybeLong("max_bytes")?.let { assertEquals(it, found.maxBytes, of) }
                usage.maybeLong("max_value_bytes")?.let { assertEquals(it, found.maxValueBytes, of) }
                usage.done()
            }
        }
    }
}
