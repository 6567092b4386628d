package sessionstore

import kotlinx.serialization.KSerializer
import kotlinx.serialization.serializer

/**
 * A key together with the type of its value, so that both are said in one place.
 *
 * ```
 * @Serializable
 * data class Pinned(val text: String, val by: String)
 *
 * val pinned = key<Pinned>("pinned")
 * store.set(pinned, Pinned("Welcome!", "Ana"))
 * store.watch(pinned).collect { println(it?.text) }
 * ```
 *
 * @property name the key
 * @property serializer how the value is written as JSON and read
 */
public class Key<T : Any>(public val name: String, public val serializer: KSerializer<T>) {
    /** Keys are the same when their names and types are. */
    override fun equals(other: Any?): Boolean =
        other is Key<*> && other.name == name && other.serializer.descriptor == serializer.descriptor

    /** That of the name. */
    override fun hashCode(): Int = name.hashCode()

    /** The name. */
    override fun toString(): String = name
}

/** A key whose values are of the type [T]. */
public inline fun <reified T : Any> key(name: String): Key<T> = Key(name, serializer<T>())

/**
 * Which keys are listened to, or read. Keys that show locks (`$lock/…`) are meant only by a prefix that begins with `$`.
 *
 * @property keys single keys, absent ones included
 * @property prefixes and every key that is set and begins with one of these
 * @property isAll and every key of the store
 */
public class Selector(
    public val keys: List<String> = emptyList(),
    public val prefixes: List<String> = emptyList(),
    public val isAll: Boolean = false,
) {
    /** The usual selectors. */
    public companion object {
        /** Every key of the store. */
        public val all: Selector = Selector(isAll = true)

        /** Single keys. */
        public fun keys(vararg keys: String): Selector = Selector(keys = keys.asList())

        /** Every key that begins with this text. */
        public fun prefix(prefix: String): Selector = Selector(prefixes = listOf(prefix))
    }
}
