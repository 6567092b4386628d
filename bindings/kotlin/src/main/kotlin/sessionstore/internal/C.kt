package sessionstore.internal

import com.sun.jna.IntegerType
import com.sun.jna.Native
import com.sun.jna.NativeLibrary
import com.sun.jna.Pointer
import com.sun.jna.ptr.LongByReference
import com.sun.jna.ptr.PointerByReference

/** `size_t`, which has 4 bytes on 32-bit Android. The constructor without arguments is for JNA. */
internal class SizeT(value: Long) : IntegerType(Native.SIZE_T_SIZE, value, true) {
    constructor() : this(0)

    override fun toByte(): Byte = toInt().toByte()

    override fun toShort(): Short = toInt().toShort()
}

private fun bind(functions: Class<*>) = Native.register(functions, NativeLibrary.getInstance("sessionstore"))

/** The functions of include/sessionstore.h under their own names, all but those of servers. */
@Suppress("FunctionName")
internal object C {
    init {
        bind(C::class.java)
    }

    @JvmStatic external fun sessionstore_error_code(error: Pointer?): Int
    @JvmStatic external fun sessionstore_error_message(error: Pointer?): Pointer
    @JvmStatic external fun sessionstore_error_is_retryable(error: Pointer?): Int
    @JvmStatic external fun sessionstore_error_current(error: Pointer?): Pointer?
    @JvmStatic external fun sessionstore_error_check(error: Pointer?): Int
    @JvmStatic external fun sessionstore_error_write(error: Pointer?): Int
    @JvmStatic external fun sessionstore_error_retry_after_ms(error: Pointer?): Long
    @JvmStatic external fun sessionstore_error_free(error: Pointer?)
    @JvmStatic external fun sessionstore_code_name(code: Int): Pointer
    @JvmStatic external fun sessionstore_code_advice(code: Int): Pointer
    @JvmStatic external fun sessionstore_version(): Pointer

    @JvmStatic external fun sessionstore_value_from_json(json: ByteArray, length: SizeT, out: PointerByReference, error: PointerByReference): Int

    @JvmStatic external fun sessionstore_event_key(event: Pointer, length: SizeTByReference): Pointer
    @JvmStatic external fun sessionstore_event_json(event: Pointer, length: SizeTByReference): Pointer
    @JvmStatic external fun sessionstore_event_version(event: Pointer): Long
    @JvmStatic external fun sessionstore_event_updated_at(event: Pointer): Long
    @JvmStatic external fun sessionstore_event_cause(event: Pointer): Int
    @JvmStatic external fun sessionstore_event_expires_at(event: Pointer): Long
    @JvmStatic external fun sessionstore_event_author_peer_id(event: Pointer, length: SizeTByReference): Pointer
    @JvmStatic external fun sessionstore_event_author_user_id(event: Pointer, length: SizeTByReference): Pointer
    @JvmStatic external fun sessionstore_event_author_name(event: Pointer, length: SizeTByReference): Pointer
    @JvmStatic external fun sessionstore_event_replaced(event: Pointer): Long
    @JvmStatic external fun sessionstore_event_is_snapshot(event: Pointer): Int
    @JvmStatic external fun sessionstore_event_free(event: Pointer?)

    @JvmStatic external fun sessionstore_event_list_count(list: Pointer): SizeT
    @JvmStatic external fun sessionstore_event_list_get(list: Pointer, index: SizeT): Pointer
    @JvmStatic external fun sessionstore_event_list_revision(list: Pointer): Long
    @JvmStatic external fun sessionstore_key_list_count(list: Pointer): SizeT
    @JvmStatic external fun sessionstore_key_list_get(list: Pointer, index: SizeT, length: SizeTByReference): Pointer

    @JvmStatic external fun sessionstore_peer_id(peer: Pointer, length: SizeTByReference): Pointer
    @JvmStatic external fun sessionstore_peer_user_id(peer: Pointer, length: SizeTByReference): Pointer
    @JvmStatic external fun sessionstore_peer_name(peer: Pointer, length: SizeTByReference): Pointer
    @JvmStatic external fun sessionstore_peer_role(peer: Pointer, length: SizeTByReference): Pointer
    @JvmStatic external fun sessionstore_peer_metadata(peer: Pointer, length: SizeTByReference): Pointer
    @JvmStatic external fun sessionstore_peer_joined_at(peer: Pointer): Long
    @JvmStatic external fun sessionstore_peer_list_count(list: Pointer): SizeT
    @JvmStatic external fun sessionstore_peer_list_get(list: Pointer, index: SizeT): Pointer
    @JvmStatic external fun sessionstore_peer_list_free(list: Pointer?)

    @JvmStatic external fun sessionstore_cancellation_new(out: PointerByReference, error: PointerByReference): Int
    @JvmStatic external fun sessionstore_cancellation_cancel(cancellation: Pointer, error: PointerByReference): Int
    @JvmStatic external fun sessionstore_cancellation_free(cancellation: Pointer?)

    @JvmStatic external fun sessionstore_client_open(options: ClientOptionsStruct, listener: UpdateListenerStruct, out: PointerByReference, error: PointerByReference): Int
    @JvmStatic external fun sessionstore_client_state(client: Pointer): Int
    @JvmStatic external fun sessionstore_client_peer_id(client: Pointer): Pointer
    @JvmStatic external fun sessionstore_client_peers(client: Pointer, out: PointerByReference, error: PointerByReference): Int
    @JvmStatic external fun sessionstore_client_update_peer(client: Pointer, name: ByteArray?, nameLength: SizeT, metadata: ByteArray?, metadataLength: SizeT, result: ResultStruct, error: PointerByReference): Int
    @JvmStatic external fun sessionstore_client_renew_token(client: Pointer, token: ByteArray, length: SizeT, result: ResultStruct, error: PointerByReference): Int
    @JvmStatic external fun sessionstore_client_leave(client: Pointer, result: ResultStruct, error: PointerByReference): Int
    @JvmStatic external fun sessionstore_client_poll(client: Pointer, most: SizeT, ran: SizeTByReference, error: PointerByReference): Int
    @JvmStatic external fun sessionstore_client_free(client: Pointer?)

    @JvmStatic external fun sessionstore_store_retain(store: Pointer): Pointer
    @JvmStatic external fun sessionstore_store_free(store: Pointer?)
    @JvmStatic external fun sessionstore_store_get(store: Pointer, key: ByteArray, keyLength: SizeT, result: ResultStruct, error: PointerByReference): Int
    @JvmStatic external fun sessionstore_store_cached(store: Pointer, key: ByteArray, keyLength: SizeT, out: PointerByReference, error: PointerByReference): Int
    @JvmStatic external fun sessionstore_store_set(store: Pointer, key: ByteArray, keyLength: SizeT, json: ByteArray, jsonLength: SizeT, result: ResultStruct, error: PointerByReference): Int
    @JvmStatic external fun sessionstore_store_remove(store: Pointer, key: ByteArray, keyLength: SizeT, result: ResultStruct, error: PointerByReference): Int
    @JvmStatic external fun sessionstore_store_set_if_version(store: Pointer, key: ByteArray, keyLength: SizeT, json: ByteArray, jsonLength: SizeT, version: Long, result: ResultStruct, error: PointerByReference): Int
    @JvmStatic external fun sessionstore_store_add(store: Pointer, key: ByteArray, keyLength: SizeT, amount: Long, result: ResultStruct, error: PointerByReference): Int
    @JvmStatic external fun sessionstore_store_write(store: Pointer, key: ByteArray, keyLength: SizeT, operation: Int, json: ByteArray?, jsonLength: SizeT, options: WriteOptionsStruct, result: ResultStruct, error: PointerByReference): Int
    @JvmStatic external fun sessionstore_store_update(store: Pointer, key: ByteArray, keyLength: SizeT, updater: UpdaterStruct, result: ResultStruct, error: PointerByReference): Int
    @JvmStatic external fun sessionstore_store_lock(store: Pointer, name: ByteArray, nameLength: SizeT, options: LockOptionsStruct, listener: LockListenerStruct, result: ResultStruct, error: PointerByReference): Int
    @JvmStatic external fun sessionstore_store_transact(store: Pointer, transaction: Pointer, result: ResultStruct, error: PointerByReference): Int
    @JvmStatic external fun sessionstore_store_listen_to(store: Pointer, selector: SelectorStruct, listener: KeyChangeListenerStruct, out: PointerByReference, error: PointerByReference): Int
    @JvmStatic external fun sessionstore_store_read(store: Pointer, selector: SelectorStruct, result: ResultStruct, error: PointerByReference): Int
    @JvmStatic external fun sessionstore_store_keys(store: Pointer, prefix: ByteArray, prefixLength: SizeT, result: ResultStruct, error: PointerByReference): Int
    @JvmStatic external fun sessionstore_store_usage(store: Pointer, result: ResultStruct, error: PointerByReference): Int

    @JvmStatic external fun sessionstore_subscription_cancel(subscription: Pointer, error: PointerByReference): Int
    @JvmStatic external fun sessionstore_subscription_free(subscription: Pointer?)

    @JvmStatic external fun sessionstore_lock_name(lock: Pointer, length: SizeTByReference): Pointer
    @JvmStatic external fun sessionstore_lock_token(lock: Pointer): Long
    @JvmStatic external fun sessionstore_lock_is_held(lock: Pointer): Int
    @JvmStatic external fun sessionstore_lock_release(lock: Pointer, result: ResultStruct, error: PointerByReference): Int
    @JvmStatic external fun sessionstore_lock_retain(lock: Pointer): Pointer
    @JvmStatic external fun sessionstore_lock_free(lock: Pointer?)

    @JvmStatic external fun sessionstore_transaction_new(out: PointerByReference, error: PointerByReference): Int
    @JvmStatic external fun sessionstore_transaction_check_version(transaction: Pointer, key: ByteArray, keyLength: SizeT, version: Long, error: PointerByReference): Int
    @JvmStatic external fun sessionstore_transaction_check_exists(transaction: Pointer, key: ByteArray, keyLength: SizeT, error: PointerByReference): Int
    @JvmStatic external fun sessionstore_transaction_check_absent(transaction: Pointer, key: ByteArray, keyLength: SizeT, error: PointerByReference): Int
    @JvmStatic external fun sessionstore_transaction_check_equals(transaction: Pointer, key: ByteArray, keyLength: SizeT, json: ByteArray, jsonLength: SizeT, error: PointerByReference): Int
    @JvmStatic external fun sessionstore_transaction_check_lock(transaction: Pointer, lock: Pointer, error: PointerByReference): Int
    @JvmStatic external fun sessionstore_transaction_write(transaction: Pointer, key: ByteArray, keyLength: SizeT, operation: Int, json: ByteArray?, jsonLength: SizeT, options: WriteOptionsStruct, error: PointerByReference): Int
    @JvmStatic external fun sessionstore_transaction_free(transaction: Pointer?)
}

/** The functions of servers, bound apart: the library as phones link it has none. */
@Suppress("FunctionName")
internal object CServer {
    init {
        bind(CServer::class.java)
    }

    @JvmStatic external fun sessionstore_server_start(options: ServerOptionsStruct, out: PointerByReference, error: PointerByReference): Int
    @JvmStatic external fun sessionstore_server_port(server: Pointer): Int
    @JvmStatic external fun sessionstore_server_url(server: Pointer): Pointer
    @JvmStatic external fun sessionstore_server_stats(server: Pointer, rooms: LongByReference, peers: LongByReference, connections: LongByReference, error: PointerByReference): Int
    @JvmStatic external fun sessionstore_server_set_rules(server: Pointer, rules: ByteArray?, length: SizeT, error: PointerByReference): Int
    @JvmStatic external fun sessionstore_server_reload_tls(server: Pointer, error: PointerByReference): Int
    @JvmStatic external fun sessionstore_server_stop(server: Pointer, error: PointerByReference): Int
    @JvmStatic external fun sessionstore_server_stop_wait(server: Pointer, timeout: Int, error: PointerByReference): Int
    @JvmStatic external fun sessionstore_server_free(server: Pointer?)
}
