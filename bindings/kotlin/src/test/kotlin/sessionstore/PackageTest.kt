package sessionstore

import org.junit.jupiter.api.Test
import java.io.File
import java.util.jar.JarFile
import kotlin.test.assertEquals
import kotlin.test.assertTrue

/** What users are given: the documentation, the programs, the rules, the library. */
class PackageTest {
    private val documentation = repository.resolve("docs/kotlin.md").readText()

    private val printed = Regex("It prints:\n\n```text\n(.*?)```", RegexOption.DOT_MATCHES_ALL).find(documentation)!!.groupValues[1]

    @Test
    fun `the program of the documentation prints what stands there`() {
        assertEquals(printed, finish(startJava("DocumentationKt")))
    }

    @Test
    fun `it also does when it was shrunk with the rules of the jar`() {
        val shrunk = repository.resolve("bindings/kotlin/target/shrunk.jar")
        val names = JarFile(shrunk).use { jar -> jar.entries().asSequence().map { it.name }.toSet() }
        assertTrue("sessionstore/Client.class" !in names, "nothing was renamed")
        assertEquals(printed, finish(startJava("DocumentationKt", classPath = shrunk.path)))
    }

    @Test
    fun `everyone hears everyone`() {
        Server.start().use { server ->
            val programs = listOf("ana", "ben", "cleo").map { startJava("sessionstore.EveryoneKt", server.url, "room", it, "3") }
            assertEquals(listOf("ana heard 3\n", "ben heard 3\n", "cleo heard 3\n"), programs.map(::finish))
        }
    }

    @Test
    fun `the script that starts everyone does`() {
        Server.start().use { server ->
            val script = repository.resolve("bindings/kotlin/everyone").path
            assertEquals("ana heard 1\n", run(script, server.url, "room", "ana", "1"))
        }
    }

    @Test
    fun `everyone fails with a sentence`() {
        val program = startJava("sessionstore.EveryoneKt", "ws://127.0.0.1:1", "room", "ana", "1")
        val output = outputOf(program)
        assertEquals(1, program.exitValue())
        assertTrue(output.startsWith("everyone: "), output)
    }

    @Test
    fun `libraries load where pages are 16 KB`() {
        val library = File(System.getProperty("jna.library.path"), "libsessionstore.so").path
        val segments = run("readelf", "-lW", library).lines().filter { it.trim().startsWith("LOAD") }
        assertTrue(segments.isNotEmpty())
        for (segment in segments) assertTrue(segment.trim().substringAfterLast("0x").toInt(16) >= 0x4000, segment)
    }
}
