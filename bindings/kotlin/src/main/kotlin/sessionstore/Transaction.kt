package sessionstore

import com.sun.jna.Pointer
import com.sun.jna.ptr.PointerByReference
import kotlinx.serialization.KSerializer
import kotlinx.serialization.serializer
import sessionstore.internal.C
import sessionstore.internal.Cleaning
import sessionstore.internal.Handle
import sessionstore.internal.encode
import sessionstore.internal.length
import sessionstore.internal.utf8

/**
 * Checks and writes that happen together or not at all.
 *
 * The checks look at the store as it was before. The writes are made in their order, and each sees what those before it
 * did; all of them have one revision, and those who listen hear of each key once. At most 200 checks and writes.
 *
 * A transaction is only a description: it belongs to no store, is not used up by being sent, and may be added to and
 * sent again. What breaks the rules for keys is refused when it is sent. [close] frees it, at once; one that is forgotten
 * is freed when it is collected. Its methods may be called from any thread.
 *
 * ```
 * store.transact {
 *     checkEquals("turn", "x")
 *     checkAbsent("board/4")
 *     set("board/4", "x")
 *     set("turn", "o")
 * }
 * ```
 */
public class Transaction : AutoCloseable {
    internal val handle: Handle

    init {
        val out = PointerByReference()
        checked { C.sessionstore_transaction_new(out, it) }
        handle = Handle(out.value, C::sessionstore_transaction_free)
        val handle = handle
        Cleaning.register(this) { handle.close() }
    }

    private inline fun add(call: (Pointer, PointerByReference) -> Int) {
        handle.use { transaction -> checked { call(transaction, it) } }
    }

    /** Adds a check: the key has this version; 0: it is absent. */
    public fun checkVersion(key: String, version: Long) {
        val name = utf8(key)
        add { it, error -> C.sessionstore_transaction_check_version(it, name, name.length, version, error) }
    }

    /** Adds a check: the key is set. */
    public fun checkExists(key: String) {
        val name = utf8(key)
        add { it, error -> C.sessionstore_transaction_check_exists(it, name, name.length, error) }
    }

    /** Adds a check: the key is not set. */
    public fun checkAbsent(key: String) {
        val name = utf8(key)
        add { it, error -> C.sessionstore_transaction_check_absent(it, name, name.length, error) }
    }

    /** Adds a check: the key holds this value. */
    public inline fun <reified T : Any> checkEquals(key: String, value: T): Unit = checkEquals(key, value, serializer<T>())

    /** Adds a check: the key holds this value. */
    public fun <T : Any> checkEquals(key: String, value: T, serializer: KSerializer<T>): Unit =
        checkEqualsJson(key, encode(serializer, value))

    /** Adds a check: the key holds this value. */
    public fun <T : Any> checkEquals(key: Key<T>, value: T): Unit = checkEquals(key.name, value, key.serializer)

    /**
     * Adds a check: the key holds this JSON value, whatever its spelling: the order of members and the escapes in
     * strings make no difference; numbers are the same when they are written alike, so 1 and 1.0 differ. `null`: the key
     * is absent.
     */
    public fun checkEqualsJson(key: String, json: String) {
        val name = utf8(key)
        val text = utf8(json)
        add { it, error -> C.sessionstore_transaction_check_equals(it, name, name.length, text, text.length, error) }
    }

    /**
     * Adds a check: the lock is held under this grant. The lock is not kept: it may be closed, after which the check
     * fails, as it does when the lock is lost, with [ErrorCode.LOCK_LOST].
     */
    public fun checkLock(lock: Lock) {
        lock.handle.use { held -> add { it, error -> C.sessionstore_transaction_check_lock(it, held, error) } }
    }

    /** Adds a write. A lock in the options is refused with [ErrorCode.INVALID_ARGUMENT]: here it is a check. */
    public fun write(key: String, operation: Operation, options: WriteOptions.() -> Unit = {}) {
        val name = utf8(key)
        written(operation, options) { json, struct ->
            add { it, error ->
                C.sessionstore_transaction_write(
                    it, name, name.length, operation.number, json, json.length, struct, error,
                )
            }
        }
    }

    /** Adds a write that replaces the value. */
    public inline fun <reified T : Any> set(key: String, value: T, noinline options: WriteOptions.() -> Unit = {}): Unit =
        write(key, Operation.set(value), options)

    /** Adds a write that replaces the value. */
    public fun <T : Any> set(key: Key<T>, value: T, options: WriteOptions.() -> Unit = {}): Unit =
        write(key.name, Operation.set(value, key.serializer), options)

    /** Adds a write that adds an integer to the key's number. */
    public fun add(key: String, amount: Long, options: WriteOptions.() -> Unit = {}): Unit =
        write(key, Operation.add(amount), options)

    /** Adds a write that removes the key. */
    public fun remove(key: String): Unit = write(key, Operation.remove())

    /** Frees the transaction; one that was sent goes on. */
    override fun close(): Unit = handle.close()
}
