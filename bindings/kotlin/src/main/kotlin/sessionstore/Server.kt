package sessionstore

import com.sun.jna.ptr.LongByReference
import com.sun.jna.ptr.PointerByReference
import kotlinx.coroutines.Dispatchers
import kotlinx.coroutines.currentCoroutineContext
import kotlinx.coroutines.ensureActive
import kotlinx.coroutines.withContext
import sessionstore.internal.CServer
import sessionstore.internal.Cleaning
import sessionstore.internal.Handle
import sessionstore.internal.ServerOptionsStruct
import sessionstore.internal.length
import sessionstore.internal.optionMilliseconds
import sessionstore.internal.optionNumber
import sessionstore.internal.optionText
import sessionstore.internal.staticText
import sessionstore.internal.utf8

/**
 * A server that hosts rooms inside this process, on threads of its own. Not in the library as phones link it.
 *
 * ```
 * Server.start { port = 7350 }.use { server -> println(server.url) }
 * ```
 *
 * Keep it while you need it: one that nothing refers to any more is stopped when it is collected.
 */
public class Server private constructor(private val handle: Handle) : AutoCloseable {
    init {
        val handle = handle
        Cleaning.register(this) { handle.close() }
    }

    /** The port the server listens on. */
    public val port: Int = handle.use(CServer::sessionstore_server_port)

    /** The URL for clients on this machine, such as `ws://127.0.0.1:7350`. */
    public val url: String = handle.use { staticText(CServer.sessionstore_server_url(it)) }

    /**
     * How much is going on.
     *
     * @throws SessionStoreException [ErrorCode.DATA_DIRECTORY_UNUSABLE] when the server has stopped by itself, because
     *   what happens in its rooms can no longer be kept
     */
    public fun stats(): ServerStats = handle.use { server ->
        val rooms = LongByReference()
        val peers = LongByReference()
        val connections = LongByReference()
        checked { CServer.sessionstore_server_stats(server, rooms, peers, connections, it) }
        ServerStats(rooms.value, peers.value, connections.value)
    }

    /**
     * Puts other rules in force, in every room, without dropping a connection. Returns before all rooms have them.
     *
     * @param rules TOML text (docs/rules.md has how it is written); null: everybody may do everything
     * @throws SessionStoreException [ErrorCode.INVALID_CONFIG] with the line and the reason, after which the old rules
     *   stay in force
     */
    public fun setRules(rules: String?) {
        val text = rules?.let(::utf8)
        handle.use { server -> checked { CServer.sessionstore_server_set_rules(server, text, text.length, it) } }
    }

    /**
     * Reads the certificate's files again; the server also does so by itself when they change.
     *
     * @throws SessionStoreException [ErrorCode.INVALID_CONFIG] with the file and the reason, after which the old
     *   certificate stays in force; [ErrorCode.WRONG_MODE] for a server without TLS
     */
    public fun reloadTls() {
        handle.use { server -> checked { CServer.sessionstore_server_reload_tls(server, it) } }
    }

    /**
     * Stops the server and waits until its threads have ended and its port is free. A coroutine that is cancelled
     * meanwhile stops waiting; the server stops nevertheless.
     */
    public suspend fun stop() {
        handle.use { server -> checked { CServer.sessionstore_server_stop(server, it) } }
        withContext(Dispatchers.IO) {
            while (!hasStopped()) currentCoroutineContext().ensureActive()
        }
        close()
    }

    /** Waits a little: a thread that waits in the library cannot be interrupted. */
    private fun hasStopped(): Boolean = try {
        handle.use { server -> checked { CServer.sessionstore_server_stop_wait(server, PATIENCE_MS, it) } }
        true
    } catch (exception: SessionStoreException) {
        when (exception.code) {
            ErrorCode.TIMEOUT -> false
            ErrorCode.CLOSED -> true
            else -> throw exception
        }
    }

    /**
     * Asks the server to stop, and returns at once: clients are told to come back later, and their rooms end. Never
     * blocks, and may be called anywhere.
     */
    override fun close(): Unit = handle.close()

    /** Starts servers. */
    public companion object {
        /** How long a coroutine that was cancelled may go on waiting, in milliseconds. */
        private const val PATIENCE_MS = 100

        /**
         * Starts a server. When this returns, clients can connect.
         *
         * @param configure what is not to be as it is by default
         * @throws SessionStoreException [ErrorCode.ADDRESS_IN_USE], [ErrorCode.ADDRESS_UNAVAILABLE],
         *   [ErrorCode.INVALID_CONFIG], [ErrorCode.INVALID_ARGUMENT], [ErrorCode.OUT_OF_RESOURCES], and
         *   [ErrorCode.DATA_DIRECTORY_UNUSABLE], [ErrorCode.DATA_DAMAGED] and [ErrorCode.DATA_NEWER] of the data
         *   directory
         */
        public fun start(configure: ServerOptions.() -> Unit = {}): Server {
            val struct = struct(ServerOptions().apply(configure))
            val out = PointerByReference()
            checked { CServer.sessionstore_server_start(struct, out, it) }
            return Server(Handle(out.value, CServer::sessionstore_server_free))
        }

        private fun struct(options: ServerOptions) = ServerOptionsStruct().apply {
            val wanted = listOf(options.fsync to 1, options.metrics to 2, options.inspect to 4, options.ioUring to 8)
            flags = wanted.sumOf { (isWanted, flag) -> if (isWanted) flag else 0 }
            address = optionText(options.address)
            secret = optionText(options.secret)
            port = options.port
            threads = optionNumber(options.threads)
            grace_ms = optionMilliseconds(options.grace)
            // Its default is 0.
            linger_ms = options.linger?.takeUnless { it == kotlin.time.Duration.ZERO }.let(::optionMilliseconds)
            max_value_bytes = optionNumber(options.maxValueBytes)
            max_keys = optionNumber(options.maxKeys)
            max_store_bytes = optionNumber(options.maxStoreBytes)
            max_listened_keys = optionNumber(options.maxListenedKeys)
            max_peers = optionNumber(options.maxPeers)
            max_connections = optionNumber(options.maxConnections)
            ping_interval_ms = optionMilliseconds(options.pingInterval)
            idle_timeout_ms = optionMilliseconds(options.idleTimeout)
            rules = optionText(options.rules)
            tls_cert_file = optionText(options.tlsCertificateFile)
            tls_key_file = optionText(options.tlsKeyFile)
            tls_client_ca_file = optionText(options.tlsClientCaFile)
            allowed_origins = optionText(options.allowedOrigins)
            data_dir = optionText(options.dataDirectory)
            max_connections_per_address = optionNumber(options.maxConnectionsPerAddress)
            max_rooms = optionNumber(options.maxRooms)
            max_requests_per_second = optionNumber(options.maxRequestsPerSecond)
            max_request_burst = optionNumber(options.maxRequestBurst)
            max_request_bytes_per_second = optionNumber(options.maxRequestBytesPerSecond)
            max_message_bytes = optionNumber(options.maxMessageBytes)
            public_url = optionText(options.publicUrl)
            webhook_url = optionText(options.webhookUrl)
            webhook_secret = optionText(options.webhookSecret)
            webhook_ca_file = optionText(options.webhookCaFile)
            webhook_timeout_ms = optionMilliseconds(options.webhookTimeout)
            webhook_retry_ms = optionMilliseconds(options.webhookRetry)
            api_secret = optionText(options.apiSecret)
        }
    }
}

/**
 * How much is going on in a server.
 *
 * @property rooms open rooms
 * @property peers peers, those in their grace period included
 * @property connections connections
 */
public data class ServerStats(public val rooms: Long, public val peers: Long, public val connections: Long)
