package sessionstore

import kotlinx.coroutines.CoroutineScope
import kotlinx.coroutines.Dispatchers
import kotlinx.coroutines.runBlocking
import kotlinx.coroutines.withTimeout
import java.io.File
import java.util.concurrent.CompletableFuture
import java.util.concurrent.TimeUnit
import kotlin.test.assertFailsWith
import kotlin.test.assertTrue
import kotlin.time.Duration.Companion.seconds

/** How long an event may take to come before a test fails; nothing takes this long. */
val SAFETY = 60.seconds

val repository: File = File(System.getProperty("sessionstore.repository")).canonicalFile

fun test(block: suspend CoroutineScope.() -> Unit) = runBlocking(Dispatchers.Default) { withTimeout(SAFETY) { block() } }

/** A server of its own, and clients that are closed with it. */
class Room(val server: Server) : AutoCloseable {
    private val clients = ArrayList<Client>()

    fun open(name: String, listener: UpdateListener? = null, configure: ClientOptions.() -> Unit = {}): Client {
        val client = Client.open(server.url, "room", listener) {
            peerId = name
            this.name = name
            configure()
        }
        synchronized(clients) { clients.add(client) }
        return client
    }

    suspend fun join(name: String, configure: ClientOptions.() -> Unit = {}): Store = open(name, null, configure).join()

    override fun close() {
        clients.forEach(Client::close)
        server.close()
    }
}

fun inRoom(configure: ServerOptions.() -> Unit = {}, block: suspend CoroutineScope.(Room) -> Unit) =
    test { Room(Server.start(configure)).use { block(it) } }

suspend fun assertRefused(code: ErrorCode, call: suspend () -> Unit): SessionStoreException {
    val error = assertFailsWith<SessionStoreException> { call() }
    kotlin.test.assertEquals(code, error.code, error.message)
    return error
}

/** Runs a program and gives what it printed; it must end well, and in time. */
fun run(vararg command: String): String = finish(start(*command))

fun start(vararg command: String): Process = ProcessBuilder(*command).redirectErrorStream(true).start()

fun finish(process: Process): String {
    val output = outputOf(process)
    assertTrue(process.exitValue() == 0, "it ended with ${process.exitValue()}: $output")
    return output
}

/** What it prints until it ends; one that does not is killed. */
fun outputOf(process: Process): String {
    val ended = CompletableFuture.supplyAsync { process.waitFor(SAFETY.inWholeSeconds, TimeUnit.SECONDS).also { if (!it) process.destroyForcibly() } }
    val output = process.inputStream.bufferedReader().readText()
    assertTrue(ended.get(), "it did not end: $output")
    return output
}

/** A program of the tests in a process of its own. */
fun startJava(main: String, vararg arguments: String, classPath: String = System.getProperty("java.class.path")): Process {
    val java = File(System.getProperty("java.home"), "bin/java").path
    val library = "-Djna.library.path=" + System.getProperty("jna.library.path")
    return start(java, library, "-cp", classPath, main, *arguments)
}
