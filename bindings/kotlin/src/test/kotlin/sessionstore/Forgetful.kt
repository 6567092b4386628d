package sessionstore

import kotlinx.coroutines.runBlocking

/** Closes nothing. */
fun main() {
    val server = Server.start()
    val client = Client.open(server.url, "room")
    runBlocking {
        val store = client.join()
        store.listen(Selector.all) {}
        store.set("k", 1)
    }
    println("the last line of main")
}
