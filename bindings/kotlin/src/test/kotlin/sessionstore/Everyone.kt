package sessionstore

import kotlinx.coroutines.TimeoutCancellationException
import kotlinx.coroutines.flow.first
import kotlinx.coroutines.runBlocking
import kotlinx.coroutines.withTimeout
import kotlinx.serialization.Serializable
import kotlin.system.exitProcess
import kotlin.time.Duration.Companion.seconds

@Serializable
private data class Here(val from: String, val n: Long, val on: Boolean)

/**
 * A peer of this language in a room with peers of the others: says that it is here, waits until it has heard everybody,
 * says so, and waits until everybody has said so.
 */
fun main(arguments: Array<String>) {
    try {
        val (url, room, name, count) = arguments
        runBlocking { withTimeout(60.seconds) { everyone(url, room, name, count.toInt()) } }
        println("$name heard $count")
    } catch (exception: Exception) {
        val why = if (exception is TimeoutCancellationException) "not everybody was heard within 60 s" else exception.message
        System.err.println("everyone: $why")
        exitProcess(1)
    }
}

private suspend fun everyone(url: String, room: String, me: String, count: Int) {
    Client.open(url, room) { peerId = me; name = me; failFast = true }.use { client ->
        val store = client.join()
        store.set("here/$me", Here(me, 9007199254740993, true))
        val heard = HashSet<String>()
        store.states(Selector.prefix("here/")).first { state ->
            if (!state.isAbsent) {
                val here = checkNotNull(state.value<Here>())
                val members = (state.element as kotlinx.serialization.json.JsonObject).keys
                check(members == setOf("from", "n", "on") && here == Here(state.key.removePrefix("here/"), 9007199254740993, true)) {
                    "${state.key} holds something else than it should"
                }
                check(state.author?.name == here.from) { "${state.key} is of ${state.author?.name}" }
                heard.add(here.from)
            }
            heard.size == count
        }
        store.set("heard/$me", count)
        val done = HashSet<String>()
        store.states(Selector.prefix("heard/")).first { state ->
            if (!state.isAbsent) {
                check(state.value<Int>() == count) { "${state.key} is not $count" }
                done.add(state.key)
            }
            done.size == count
        }
        client.leave()
    }
}
