package sessionstore.internal

import com.sun.jna.Memory
import com.sun.jna.Native
import com.sun.jna.Pointer
import com.sun.jna.Structure
import com.sun.jna.Structure.FieldOrder
import com.sun.jna.ptr.ByReference

/** `size_t *`. */
internal class SizeTByReference : ByReference(Native.SIZE_T_SIZE) {
    val value: Long
        get() = if (Native.SIZE_T_SIZE == 8) pointer.getLong(0) else pointer.getInt(0).toLong() and 0xffff_ffffL
}

/**
 * A struct of include/sessionstore.h, which begins with its own size. The fields stand in the header's order;
 * a test compares every offset with what the C compiler says. JNA reads and writes the fields by reflection:
 * the rules for shrinkers keep them.
 */
internal abstract class SizedStruct : Structure() {
    @JvmField var struct_size: Int = 0

    @JvmField var flags: Int = 0

    /** To be called once the fields are there: the size is that of the subclass. */
    protected fun sized() {
        struct_size = size()
        // The library does not write into them, and callbacks may outlive the call.
        autoRead = false
    }
}

@FieldOrder(
    "struct_size", "flags", "address", "secret", "port", "threads", "grace_ms", "linger_ms", "max_value_bytes",
    "max_keys", "max_store_bytes", "max_listened_keys", "max_peers", "max_connections", "ping_interval_ms",
    "idle_timeout_ms", "rules", "tls_cert_file", "tls_key_file", "tls_client_ca_file", "allowed_origins", "data_dir",
    "max_connections_per_address", "max_rooms", "max_requests_per_second", "max_request_burst",
    "max_request_bytes_per_second", "max_message_bytes", "public_url", "webhook_url", "webhook_secret",
    "webhook_ca_file", "webhook_timeout_ms", "webhook_retry_ms", "api_secret",
)
internal class ServerOptionsStruct : SizedStruct() {
    @JvmField var address: Pointer? = null
    @JvmField var secret: Pointer? = null
    @JvmField var port: Int = 0
    @JvmField var threads: Int = 0
    @JvmField var grace_ms: Int = 0
    @JvmField var linger_ms: Int = 0
    @JvmField var max_value_bytes: Int = 0
    @JvmField var max_keys: Int = 0
    @JvmField var max_store_bytes: Int = 0
    @JvmField var max_listened_keys: Int = 0
    @JvmField var max_peers: Int = 0
    @JvmField var max_connections: Int = 0
    @JvmField var ping_interval_ms: Int = 0
    @JvmField var idle_timeout_ms: Int = 0
    @JvmField var rules: Pointer? = null
    @JvmField var tls_cert_file: Pointer? = null
    @JvmField var tls_key_file: Pointer? = null
    @JvmField var tls_client_ca_file: Pointer? = null
    @JvmField var allowed_origins: Pointer? = null
    @JvmField var data_dir: Pointer? = null
    @JvmField var max_connections_per_address: Int = 0
    @JvmField var max_rooms: Int = 0
    @JvmField var max_requests_per_second: Int = 0
    @JvmField var max_request_burst: Int = 0
    @JvmField var max_request_bytes_per_second: Int = 0
    @JvmField var max_message_bytes: Int = 0
    @JvmField var public_url: Pointer? = null
    @JvmField var webhook_url: Pointer? = null
    @JvmField var webhook_secret: Pointer? = null
    @JvmField var webhook_ca_file: Pointer? = null
    @JvmField var webhook_timeout_ms: Int = 0
    @JvmField var webhook_retry_ms: Int = 0
    @JvmField var api_secret: Pointer? = null

    init {
        sized()
    }
}

@FieldOrder(
    "struct_size", "flags", "url", "room", "token", "name", "role", "user_id", "metadata", "peer_id",
    "request_timeout_ms", "connect_timeout_ms", "reconnect_min_ms", "reconnect_max_ms", "heartbeat_ms", "max_pending",
    "wake_hook", "thread_hooks", "ca_file", "client_cert_file", "client_key_file",
)
internal class ClientOptionsStruct : SizedStruct() {
    @JvmField var url: Pointer? = null
    @JvmField var room: Pointer? = null
    @JvmField var token: Pointer? = null
    @JvmField var name: Pointer? = null
    @JvmField var role: Pointer? = null
    @JvmField var user_id: Pointer? = null
    @JvmField var metadata: Pointer? = null
    @JvmField var peer_id: Pointer? = null
    @JvmField var request_timeout_ms: Int = 0
    @JvmField var connect_timeout_ms: Int = 0
    @JvmField var reconnect_min_ms: Int = 0
    @JvmField var reconnect_max_ms: Int = 0
    @JvmField var heartbeat_ms: Int = 0
    @JvmField var max_pending: Int = 0
    @JvmField var wake_hook: Pointer? = null
    @JvmField var thread_hooks: Pointer? = null
    @JvmField var ca_file: Pointer? = null
    @JvmField var client_cert_file: Pointer? = null
    @JvmField var client_key_file: Pointer? = null

    init {
        sized()
    }
}

/** What all callback structs begin with. [ctx] is the number under which [Callbacks] holds the target. */
internal abstract class CallbackStruct : SizedStruct() {
    @JvmField var ctx: Pointer? = null

    @JvmField var on_drop: Pointer? = null

    internal fun holding(target: Target) {
        sized()
        ctx = Callbacks.hold(target)
        on_drop = Callbacks.onDrop
    }
}

@FieldOrder("struct_size", "flags", "ctx", "on_drop", "on_wake")
internal class WakeHookStruct : CallbackStruct() {
    @JvmField var on_wake: Pointer? = Callbacks.onWake
}

@FieldOrder("struct_size", "flags", "ctx", "on_drop", "on_start", "on_stop")
internal class ThreadHooksStruct : CallbackStruct() {
    @JvmField var on_start: Pointer? = Callbacks.onStart

    @JvmField var on_stop: Pointer? = Callbacks.onStop
}

@FieldOrder(
    "struct_size", "flags", "ctx", "on_drop", "on_store_available", "on_connection_state", "on_peer", "on_error",
    "on_token_expiring",
)
internal class UpdateListenerStruct : CallbackStruct() {
    @JvmField var on_store_available: Pointer? = Callbacks.onStoreAvailable

    @JvmField var on_connection_state: Pointer? = Callbacks.onConnectionState

    @JvmField var on_peer: Pointer? = Callbacks.onPeer

    @JvmField var on_error: Pointer? = Callbacks.onError

    @JvmField var on_token_expiring: Pointer? = Callbacks.onTokenExpiring
}

@FieldOrder("struct_size", "flags", "ctx", "on_drop", "on_key_changed", "on_snapshot_end", "on_refused")
internal class KeyChangeListenerStruct : CallbackStruct() {
    @JvmField var on_key_changed: Pointer? = Callbacks.onKeyChanged

    @JvmField var on_snapshot_end: Pointer? = Callbacks.onSnapshotEnd

    @JvmField var on_refused: Pointer? = Callbacks.onRefused
}

/** Each of the five structs that hear how one request ended: they are laid out alike. */
@FieldOrder("struct_size", "flags", "ctx", "on_drop", "on_result", "cancellation")
internal class ResultStruct : CallbackStruct() {
    @JvmField var on_result: Pointer? = Callbacks.onResult

    @JvmField var cancellation: Pointer? = null
}

@FieldOrder("struct_size", "flags", "ctx", "on_drop", "on_update")
internal class UpdaterStruct : CallbackStruct() {
    @JvmField var on_update: Pointer? = Callbacks.onUpdate
}

@FieldOrder("struct_size", "flags", "ctx", "on_drop", "on_lost")
internal class LockListenerStruct : CallbackStruct() {
    @JvmField var on_lost: Pointer? = Callbacks.onLost
}

@FieldOrder("struct_size", "flags", "if_version", "ttl_ms", "cap", "lock")
internal class WriteOptionsStruct : SizedStruct() {
    @JvmField var if_version: Long = 0
    @JvmField var ttl_ms: Long = 0
    @JvmField var cap: Long = 0
    @JvmField var lock: Pointer? = null

    init {
        sized()
    }
}

@FieldOrder("struct_size", "flags", "ttl_ms", "wait_ms")
internal class LockOptionsStruct : SizedStruct() {
    @JvmField var ttl_ms: Int = 0
    @JvmField var wait_ms: Int = 0

    init {
        sized()
    }
}

@FieldOrder("struct_size", "flags", "keys", "key_lens", "key_count", "prefixes", "prefix_lens", "prefix_count")
internal class SelectorStruct : SizedStruct() {
    @JvmField var keys: Pointer? = null
    @JvmField var key_lens: Pointer? = null
    @JvmField var key_count: SizeT = SizeT(0)
    @JvmField var prefixes: Pointer? = null
    @JvmField var prefix_lens: Pointer? = null
    @JvmField var prefix_count: SizeT = SizeT(0)

    /** What the pointers point to; the struct keeps it. */
    private val texts = ArrayList<Memory>()

    init {
        sized()
    }

    internal fun selectKeys(names: List<String>) {
        key_lens = lengths(names.map(::utf8).also { keys = pointers(it) })
        key_count = SizeT(names.size.toLong())
    }

    internal fun selectPrefixes(names: List<String>) {
        prefix_lens = lengths(names.map(::utf8).also { prefixes = pointers(it) })
        prefix_count = SizeT(names.size.toLong())
    }

    private fun pointers(names: List<ByteArray>): Memory? {
        if (names.isEmpty()) return null
        val array = Memory(names.size.toLong() * Native.POINTER_SIZE)
        names.forEachIndexed { index, name ->
            val text = Memory(name.size + 1L)
            text.write(0, name, 0, name.size)
            texts.add(text)
            array.setPointer(index.toLong() * Native.POINTER_SIZE, text)
        }
        return array.also(texts::add)
    }

    private fun lengths(names: List<ByteArray>): Memory? {
        if (names.isEmpty()) return null
        val array = Memory(names.size.toLong() * Native.SIZE_T_SIZE)
        names.forEachIndexed { index, name ->
            val offset = index.toLong() * Native.SIZE_T_SIZE
            if (Native.SIZE_T_SIZE == 8) array.setLong(offset, name.size.toLong()) else array.setInt(offset, name.size)
        }
        return array.also(texts::add)
    }
}

/** Given to callbacks, which read it. */
@FieldOrder(
    "struct_size", "flags", "revision", "keys", "max_keys", "bytes", "max_bytes", "max_value_bytes",
)
internal class UsageStruct(at: Pointer? = null) : Structure(at) {
    @JvmField var struct_size: Int = 0
    @JvmField var flags: Int = 0
    @JvmField var revision: Long = 0
    @JvmField var keys: Long = 0
    @JvmField var max_keys: Long = 0
    @JvmField var bytes: Long = 0
    @JvmField var max_bytes: Long = 0
    @JvmField var max_value_bytes: Long = 0
}
