package sessionstore

import kotlinx.serialization.KSerializer
import kotlinx.serialization.serializer
import sessionstore.internal.WriteOptionsStruct
import sessionstore.internal.encode
import sessionstore.internal.encodeAll
import sessionstore.internal.invalidArgument
import sessionstore.internal.milliseconds
import sessionstore.internal.utf8

/**
 * What is done to a key, on the server: nobody has to read a value, change it and write all of it back, and nobody's
 * change is lost.
 *
 * ```
 * store.write("hands", Operation.setAdd("ana"))
 * store.write("pinned", Operation.append("Welcome!", cap = 3))
 * ```
 */
public class Operation private constructor(
    internal val number: Int,
    internal val json: String?,
    internal val cap: Long = 0,
) {
    /** The operations there are. Those that end with `Json` take JSON text. */
    public companion object {
        /** Replaces the value. */
        public inline fun <reified T : Any> set(value: T): Operation = set(value, serializer<T>())

        /** Replaces the value. */
        public fun <T : Any> set(value: T, serializer: KSerializer<T>): Operation = setJson(encode(serializer, value))

        /** Replaces the value; the text `null` removes the key. */
        public fun setJson(json: String): Operation = Operation(1, json)

        /** Removes the key; that it was absent already is fine. */
        public fun remove(): Operation = setJson("null")

        /** Adds an integer, which may be negative, to the key's number, exactly; an absent key counts as 0. */
        public fun add(amount: Long): Operation = Operation(2, amount.toString())

        /** Adds a number to the key's number; an absent key counts as 0. */
        public fun add(amount: Double): Operation = addJson(encode(serializer<Double>(), amount))

        /** Adds a number, given as it is to be read. */
        public fun addJson(json: String): Operation = Operation(2, json)

        /**
         * A JSON merge patch (RFC 7396): members of an object are set, members that are `null` are removed, at every
         * depth. An absent key counts as an empty object.
         */
        public inline fun <reified T : Any> patch(patch: T): Operation = patch(patch, serializer<T>())

        /** A JSON merge patch. */
        public fun <T : Any> patch(patch: T, serializer: KSerializer<T>): Operation = patchJson(encode(serializer, patch))

        /** A JSON merge patch. */
        public fun patchJson(json: String): Operation = Operation(3, json)

        /** Adds each value to the key's array unless it is in it. An absent key counts as an empty array. */
        public inline fun <reified T : Any> setAdd(vararg values: T): Operation = setAdd(values.asList(), serializer<T>())

        /** Adds each value to the key's array unless it is in it. */
        public fun <T : Any> setAdd(values: List<T>, serializer: KSerializer<T>): Operation =
            setAddJson(encodeAll(serializer, values))

        /** Adds each value of a JSON array to the key's array unless it is in it. */
        public fun setAddJson(json: String): Operation = Operation(4, json)

        /** Removes each value from the key's array; that one is not in it is fine. */
        public inline fun <reified T : Any> setRemove(vararg values: T): Operation =
            setRemove(values.asList(), serializer<T>())

        /** Removes each value from the key's array. */
        public fun <T : Any> setRemove(values: List<T>, serializer: KSerializer<T>): Operation =
            setRemoveJson(encodeAll(serializer, values))

        /** Removes each value of a JSON array from the key's array. */
        public fun setRemoveJson(json: String): Operation = Operation(5, json)

        /**
         * Appends values to the key's array, then drops the oldest, which are the first, until at most [cap] are left.
         * Without [cap] only the room's limits bound it.
         */
        public inline fun <reified T : Any> append(vararg values: T, cap: Long? = null): Operation =
            append(values.asList(), serializer<T>(), cap)

        /** Appends values to the key's array. */
        public fun <T : Any> append(values: List<T>, serializer: KSerializer<T>, cap: Long? = null): Operation =
            appendJson(encodeAll(serializer, values), cap)

        /** Appends the values of a JSON array to the key's array. */
        public fun appendJson(json: String, cap: Long? = null): Operation {
            if (cap != null && cap < 1) throw invalidArgument("The cap $cap is less than 1.")
            return Operation(6, json, cap ?: 0)
        }

        /** Leaves the value as it is and gives the key the expiry that the options say; [ErrorCode.KEY_ABSENT] if none. */
        public fun touch(): Operation = Operation(7, null)
    }
}

/** Calls with the texts and the struct of a write, whose lock is not freed meanwhile. */
internal inline fun <R> written(
    operation: Operation,
    configure: WriteOptions.() -> Unit,
    call: (json: ByteArray?, options: WriteOptionsStruct) -> R,
): R {
    val options = WriteOptions().apply(configure)
    val json = operation.json?.let(::utf8)
    val struct = WriteOptionsStruct()
    struct.cap = operation.cap
    options.ifVersion?.let {
        struct.flags = struct.flags or 1
        struct.if_version = it
    }
    when (options.isBound) {
        true -> struct.flags = struct.flags or 2
        false -> struct.flags = struct.flags or 4
        null -> {}
    }
    if (options.keepsExpiry) struct.flags = struct.flags or 8
    if (options.neverExpires) struct.flags = struct.flags or 16
    options.expiresAfter?.let {
        struct.ttl_ms = milliseconds(it, Long.MAX_VALUE)
        if (struct.ttl_ms == 0L) throw invalidArgument("A key cannot expire after no time; remove it.")
    }
    val lock = options.lock ?: return call(json, struct)
    return lock.handle.use {
        struct.lock = it
        call(json, struct)
    }
}
