package sessionstore

import com.sun.jna.Structure
import org.junit.jupiter.api.Test
import org.junit.jupiter.api.io.TempDir
import sessionstore.internal.C
import sessionstore.internal.CServer
import sessionstore.internal.ClientOptionsStruct
import sessionstore.internal.KeyChangeListenerStruct
import sessionstore.internal.LockListenerStruct
import sessionstore.internal.LockOptionsStruct
import sessionstore.internal.ResultStruct
import sessionstore.internal.SelectorStruct
import sessionstore.internal.ServerOptionsStruct
import sessionstore.internal.SizeT
import sessionstore.internal.ThreadHooksStruct
import sessionstore.internal.UpdateListenerStruct
import sessionstore.internal.UpdaterStruct
import sessionstore.internal.UsageStruct
import sessionstore.internal.WakeHookStruct
import sessionstore.internal.WriteOptionsStruct
import java.io.File
import java.lang.reflect.Method
import java.lang.reflect.Modifier
import kotlin.test.assertEquals
import kotlin.test.assertTrue

/** The wrapper says what include/sessionstore.h says. */
class HeaderTest {
    private val header = repository.resolve("include/sessionstore.h").readText()

    /** Everything that is declared, without comments. */
    private val declarations = header.replace(Regex("/\\*.*?\\*/", RegexOption.DOT_MATCHES_ALL), "")
        .lines().filterNot { it.trimStart().startsWith("//") || it.startsWith("#") || it.startsWith("    {") }.joinToString("\n")

    private class Function(val returns: String, val parameters: List<String>)

    /** Each function with the types of its parameters. */
    private val functions: Map<String, Function> =
        Regex("""(?m)^(\w[\w *]*?)\b(sessionstore_\w+)\(([^)]*)\);""").findAll(declarations).associate { match ->
            val (returns, name, parameters) = match.destructured
            name to Function(returns.trim(), if (parameters == "void") emptyList() else parameters.split(",").map { it.trim() })
        }

    /** What the wrapper does without, and why. Everything whose name ends in `_wait` is here, too. */
    private val exceptions = mapOf(
        "sessionstore_error_name" to "ErrorCode has the name, compared with that of the library by VectorsTest",
        "sessionstore_code_name" to "as sessionstore_error_name",
        "sessionstore_event_value" to "State reads the JSON text with kotlinx-serialization, as strictly as the getters",
        "sessionstore_event_retain" to "events are copied",
        "sessionstore_event_list_retain" to "events are copied",
        "sessionstore_event_list_free" to "lists are only borrowed",
        "sessionstore_key_list_retain" to "keys are copied",
        "sessionstore_key_list_free" to "lists are only borrowed",
        "sessionstore_peer_retain" to "peers are copied",
        "sessionstore_peer_free" to "peers are only borrowed",
        "sessionstore_cancellation_is_cancelled" to "the coroutine knows",
        "sessionstore_value_from_string" to "kotlinx-serialization makes the JSON text",
        "sessionstore_value_from_integer" to "kotlinx-serialization makes the JSON text",
        "sessionstore_value_from_number" to "kotlinx-serialization makes the JSON text",
        "sessionstore_value_from_boolean" to "kotlinx-serialization makes the JSON text",
        "sessionstore_value_kind" to "State.element has the kind",
        "sessionstore_value_json" to "State.json has the text",
        "sessionstore_value_get_boolean" to "State.value, as strictly",
        "sessionstore_value_get_integer" to "State.value, as strictly",
        "sessionstore_value_get_number" to "State.value, as strictly",
        "sessionstore_value_get_string" to "State.value, as strictly",
        "sessionstore_value_retain" to "values are made for updaters only, and become the library's",
        "sessionstore_value_free" to "values are made for updaters only, and become the library's",
        "sessionstore_store_listen" to "sessionstore_store_listen_to with single keys",
        "sessionstore_store_set_string" to "sessionstore_store_set with the JSON text",
        "sessionstore_store_set_integer" to "sessionstore_store_set with the JSON text",
        "sessionstore_store_set_number" to "sessionstore_store_set with the JSON text",
        "sessionstore_store_set_boolean" to "sessionstore_store_set with the JSON text",
    )

    /** Suspend functions wait without a thread; what stops a server has no other form. */
    private fun waits(name: String) = name.endsWith("_wait") && name != "sessionstore_server_stop_wait"

    private val bound: Map<String, Method> = (C::class.java.declaredMethods + CServer::class.java.declaredMethods)
        .filter { Modifier.isNative(it.modifiers) }.associateBy { it.name }

    @Test
    fun `every function is used, or there is a reason`() {
        assertTrue(functions.size > 100, "the header was not read: ${functions.size}")
        val sources = repository.resolve("bindings/kotlin/src/main").walk().filter { it.extension == "kt" && it.name != "C.kt" }
        val used = sources.flatMap { file ->
            Regex("""\bC(?:Server)?(?:\.|::)(sessionstore_\w+)""").findAll(file.readText()).map { it.groupValues[1] }
        }.toSet()
        val needed = functions.keys.filterNot { waits(it) || it in exceptions }.toSet()
        assertEquals(needed, used)
        // What the tests alone call is bound, too.
        assertEquals(needed + "sessionstore_code_name", bound.keys)
        assertEquals(emptySet(), exceptions.keys - functions.keys, "exceptions that are none")
    }

    /** What stands for a type of C in a function of JNA. */
    private fun stands(type: String): Set<Class<*>>? = when {
        '*' in type -> null
        type.startsWith("size_t") -> setOf(SizeT::class.java)
        type.startsWith("int64_t") || type.startsWith("uint64_t") -> setOf(Long::class.javaPrimitiveType!!)
        type.startsWith("int32_t") || type.startsWith("uint32_t") -> setOf(Int::class.javaPrimitiveType!!)
        type == "void" -> setOf(Void.TYPE)
        else -> throw AssertionError("the type $type is unknown")
    }

    private fun same(of: String, type: String, found: Class<*>) {
        val expected = stands(type)
        if (expected != null) assertTrue(found in expected, "$of: $found for $type")
        else assertTrue(!found.isPrimitive && found != SizeT::class.java, "$of: $found for $type")
    }

    @Test
    fun `every function is bound with its types`() {
        for ((name, method) in bound) {
            val function = functions.getValue(name)
            val parameters = method.parameterTypes.toList()
            assertEquals(function.parameters.size, parameters.size, name)
            function.parameters.zip(parameters).forEach { (type, found) -> same(name, type, found) }
            same(name, function.returns, method.returnType)
        }
    }

    private val results = setOf("action_result", "lock_result", "event_list_result", "key_list_result", "usage_result")

    private val structs: Map<String, Class<out Structure>> = mapOf(
        "server_options" to ServerOptionsStruct::class.java,
        "client_options" to ClientOptionsStruct::class.java,
        "wake_hook" to WakeHookStruct::class.java,
        "thread_hooks" to ThreadHooksStruct::class.java,
        "update_listener" to UpdateListenerStruct::class.java,
        "key_change_listener" to KeyChangeListenerStruct::class.java,
        "write_options" to WriteOptionsStruct::class.java,
        "updater" to UpdaterStruct::class.java,
        "lock_options" to LockOptionsStruct::class.java,
        "lock_listener" to LockListenerStruct::class.java,
        "selector" to SelectorStruct::class.java,
        "usage" to UsageStruct::class.java,
    ) + results.associateWith { ResultStruct::class.java }

    @Test
    fun `structs are laid out as the C compiler does`(@TempDir directory: File) {
        val declared = Regex("""typedef struct \{([^}]*)\} sessionstore_(\w+);""").findAll(declarations).associate { match ->
            val fields = match.groupValues[1].split(";").filter { it.isNotBlank() }.map { field ->
                (Regex("""\(\*(\w+)\)\(""").find(field) ?: Regex("""(\w+)\s*$""").find(field))!!.groupValues[1]
            }
            match.groupValues[2] to fields
        }
        assertEquals(declared.keys, structs.keys)
        val source = directory.resolve("layout.c")
        source.writeText(buildString {
            appendLine("#include <stdio.h>\n#include \"sessionstore.h\"\nint main(void) {")
            for ((name, fields) in declared) {
                appendLine("printf(\"$name %zu\", sizeof(sessionstore_$name));")
                for (field in fields) appendLine("printf(\" $field %zu\", offsetof(sessionstore_$name, $field));")
                appendLine("puts(\"\");")
            }
            appendLine("return 0; }")
        })
        val program = directory.resolve("layout").path
        run("cc", "-I", repository.resolve("include").path, "-o", program, source.path)
        val expected = run(program).trim().lines().associate { it.substringBefore(' ') to it.substringAfter(' ') }
        val offset = Structure::class.java.getDeclaredMethod("fieldOffset", String::class.java).apply { isAccessible = true }
        val found = structs.mapValues { (_, type) ->
            val struct = type.getDeclaredConstructor().newInstance()
            val fields = type.getAnnotation(Structure.FieldOrder::class.java).value
            "${struct.size()}" + fields.joinToString("") { " $it ${offset.invoke(struct, it)}" }
        }
        assertEquals(expected, found)
        for ((name, type) in structs - "usage" - results) {
            val struct = type.getDeclaredConstructor().newInstance()
            if (struct !is sessionstore.internal.CallbackStruct) {
                assertEquals(struct.size(), type.getField("struct_size").getInt(struct), name)
            }
        }
    }

    @Test
    fun `numbers are those of the header`() {
        val numbers = Regex("""(?m)^#define SESSIONSTORE_(\w+) (\d+)$""").findAll(header)
            .associate { it.groupValues[1] to it.groupValues[2].toInt() }
        val groups = listOf("KIND", "CAUSE", "STATE", "PEER", "SERVER", "CLIENT", "OPERATION", "WRITE", "SELECT").associateWith { group ->
            numbers.filterKeys { it.startsWith("${group}_") }.mapKeys { it.key.removePrefix("${group}_") }
        }
        fun group(name: String) = groups.getValue(name).filterKeys { "PEER_$it" !in codes && "SERVER_$it" !in codes }
        assertEquals(group("CAUSE"), Cause.entries.filter { it != Cause.OTHER }.associate { it.name to it.ordinal })
        assertEquals(Cause.OTHER, Cause.of(4))
        assertEquals(group("STATE"), ConnectionState.entries.associate { it.name to it.ordinal + 1 })
        assertEquals(group("STATE"), group("STATE").filterValues { ConnectionState.of(it).ordinal + 1 == it })
        val operations = mapOf(
            "SET" to Operation.setJson("1"), "ADD" to Operation.add(1), "PATCH" to Operation.patchJson("{}"),
            "SET_ADD" to Operation.setAddJson("[]"), "SET_REMOVE" to Operation.setRemoveJson("[]"),
            "APPEND" to Operation.appendJson("[]"), "TOUCH" to Operation.touch(),
        )
        assertEquals(group("OPERATION"), operations.mapValues { it.value.number })
        val writes = mapOf<String, WriteOptions.() -> Unit>(
            "IF_VERSION" to { ifVersion = 0 }, "BOUND" to { isBound = true }, "UNBOUND" to { isBound = false },
            "KEEP_EXPIRY" to { keepsExpiry = true }, "NEVER_EXPIRES" to { neverExpires = true },
        )
        assertEquals(group("WRITE"), writes.mapValues { written(Operation.touch(), it.value) { _, struct -> struct.flags } })
        assertEquals(mapOf("JOINED" to 1, "UPDATED" to 2, "LEFT" to 3), group("PEER"), "as ClientCore has them")
        assertEquals(mapOf("FAIL_FAST" to 1), group("CLIENT"), "as Client has it")
        assertEquals(mapOf("FSYNC" to 1, "METRICS" to 2, "INSPECT" to 4, "IO_URING" to 8), group("SERVER"), "as Server has it")
        assertEquals(mapOf("ALL" to 1), group("SELECT"), "as Store has it")
        val rest = numbers.keys - groups.flatMap { (name, group) -> group.keys.map { "${name}_$it" } }.toSet() + codes
        assertEquals(codes + "OK", rest, "every other number is a code")
        assertTrue(header.contains("#define SESSIONSTORE_ZERO UINT32_MAX"))
        assertEquals(Regex("SESSIONSTORE_VERSION \"(.*)\"").find(header)!!.groupValues[1], SessionStore.version)
    }

    private val codes = ErrorCode.all.map { it.name }.toSet()
}
