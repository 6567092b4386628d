package sessionstore

import kotlinx.serialization.KSerializer
import kotlinx.serialization.json.Json
import kotlinx.serialization.json.JsonElement
import kotlinx.serialization.serializer
import sessionstore.internal.decodeStrictly

/**
 * One state of one key: what a listener, a get or a set is told. It never changes, and may be used from any thread.
 *
 * @property key the key
 * @property json the value as compact JSON text; `"null"` when the key is absent
 * @property version the revision of the store that this change made; 0 for a key that was never set, or whose removal
 *   is no longer known
 * @property updatedAt when the change was made: server time in milliseconds since 1970; 0 when the version is 0
 * @property cause why the key has this state
 * @property expiresAt when the key goes by itself: server time in milliseconds since 1970; null for never
 * @property author who made the change, as it was then; null when the version is 0, or the key expired
 * @property replaced how many older states of this key this one stands for, which its listener missed because it, or
 *   the connection, did not keep up; usually 0
 * @property isSnapshot true for a current value from before the end of the snapshot, false for a change
 */
public class State internal constructor(
    public val key: String,
    public val json: String,
    public val version: Long,
    public val updatedAt: Long,
    public val cause: Cause,
    public val expiresAt: Long?,
    public val author: Author?,
    public val replaced: Long,
    public val isSnapshot: Boolean,
) {
    /** Whether the key is absent, which is the same as holding the JSON `null`. */
    public val isAbsent: Boolean
        get() = json == "null"

    /** The value as a tree, whose numbers keep every digit; `JsonNull` when the key is absent. */
    public val element: JsonElement
        get() = Json.parseToJsonElement(json)

    /**
     * The value; null when the key is absent. Nothing is converted: `1` is no Boolean, `"1"` is no number, and
     * [ErrorCode.WRONG_TYPE] is thrown for what is not a [T].
     */
    public inline fun <reified T : Any> value(): T? = value(serializer<T>())

    /** The same, with a serializer. */
    public fun <T : Any> value(serializer: KSerializer<T>): T? =
        if (isAbsent) null else decodeStrictly(serializer, key, json)

    /** Without the value, so that it may stand in a log. */
    override fun toString(): String = "State(key=$key, version=$version, ${if (isAbsent) "absent" else "set"}, cause=$cause)"

    internal fun replacing(older: State) =
        State(key, json, version, updatedAt, cause, expiresAt, author, replaced + older.replaced + 1, isSnapshot)
}

/** Why a key has a state. */
public enum class Cause {
    /** A peer wrote the key; if it is absent, a peer removed it. Also of a key that was never set. */
    WRITTEN,

    /** The key's time to live ran out. It is absent, and there is no author. */
    EXPIRED,

    /** The key was bound to a peer that is gone, who is the author. It is absent. */
    PEER_LEFT,

    /** The session in which the key was set is over, and its store was cleared. It is absent. */
    CLEARED,

    /** A cause that this version does not know. */
    OTHER,
    ;

    internal companion object {
        fun of(number: Int): Cause = entries.getOrElse(number) { OTHER }
    }
}

/**
 * Who made a change, as they were when they made it: known also after they have left.
 *
 * @property peerId the id of the peer; empty for an operator, who writes by the server's HTTP API and is no peer
 * @property userId the user id from its token; empty if it had none
 * @property name its name
 */
public data class Author(public val peerId: String, public val userId: String, public val name: String)

/**
 * The states of several keys at one revision of the store.
 *
 * @property revision the revision at which the keys had these states
 * @property states the states
 */
public class States internal constructor(public val revision: Long, public val states: List<State>)

/** What a listener is told. */
public sealed interface Change {
    /**
     * A key has this state: its current value, or a change.
     *
     * @property state the state
     */
    public class Value internal constructor(public val state: State) : Change {
        /** That of the state. */
        override fun toString(): String = state.toString()
    }

    /** All current values were given; what follows are changes. */
    public data object SnapshotEnd : Change
}

/**
 * How much of its limits a store uses.
 *
 * @property revision the store's revision: how many times it has changed
 * @property keys keys that are set
 * @property maxKeys the most there may be
 * @property bytes bytes of keys and values together
 * @property maxBytes the most there may be
 * @property maxValueBytes the most bytes of one value
 */
public data class Usage(
    public val revision: Long,
    public val keys: Long,
    public val maxKeys: Long,
    public val bytes: Long,
    public val maxBytes: Long,
    public val maxValueBytes: Long,
)
