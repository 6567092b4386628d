package sessionstore

import kotlinx.coroutines.CoroutineDispatcher
import kotlin.time.Duration

/** How to join; what stays null has its default. */
public class ClientOptions internal constructor() {
    /** A JWT for servers that ask for one. */
    public var token: String? = null

    /** This peer's name, shown to others; at most 256 bytes. */
    public var name: String? = null

    /** The role asked of an open server; at most 64 bytes. Default `guest`. */
    public var role: String? = null

    /** The user id told to an open server; at most 128 bytes. */
    public var userId: String? = null

    /** This peer's metadata: any text of at most 2,048 bytes. */
    public var metadata: String? = null

    /** This peer's id, at most 128 bytes, unique in the room. Default: a random UUID. */
    public var peerId: String? = null

    /** How long one request may take. Default 10 s. */
    public var requestTimeout: Duration? = null

    /**
     * How long one attempt to connect may take until the room is joined; a long list of peers that is arriving is waited
     * for. Default 10 s.
     */
    public var connectTimeout: Duration? = null

    /**
     * The pause before the first attempt to reconnect, doubled for each that fails; the actual pause is drawn between
     * half of it and the whole. Default 250 ms.
     */
    public var reconnectMin: Duration? = null

    /** The longest pause between two attempts. Default 10 s. */
    public var reconnectMax: Duration? = null

    /**
     * After how much silence the server is pinged; after as much again without an answer the connection counts as
     * broken. Default 10 s.
     */
    public var heartbeat: Duration? = null

    /** Most requests that may wait for their answers; more are refused with [ErrorCode.QUEUE_FULL]. Default 1,024. */
    public var maxPending: Int? = null

    /**
     * A failure of the very first join closes the client with the error, instead of trying on. For programs that rather
     * end than wait.
     */
    public var failFast: Boolean = false

    /**
     * For `wss://`: the authorities to trust instead of the system's, a file in PEM. Like the other files it is read
     * when the client is opened. Default: the system's.
     */
    public var caFile: String? = null

    /** The certificate to show to a server that asks for one, a file in PEM. Default: none. */
    public var clientCertificateFile: String? = null

    /** The private key of that certificate, a file in PEM, not encrypted. */
    public var clientKeyFile: String? = null

    /** On which thread listeners are called. Default: [CallbackThread.Shared]. */
    public var callbacks: CallbackThread = CallbackThread.Shared
}

/**
 * On which thread the listeners of a client are called. They never overlap and come in order with each of these. Suspend
 * functions and flows go on wherever their coroutine belongs, whichever it is.
 */
public sealed interface CallbackThread {
    /** On the threads that all clients of the process share, daemons of the JVM. */
    public data object Shared : CallbackThread

    /**
     * On a thread of the client's own, a daemon of the JVM too.
     *
     * @property onStart called there before the first listener
     * @property onStop called there after the last
     */
    public class Own(
        public val onStart: () -> Unit = {},
        public val onStop: () -> Unit = {},
    ) : CallbackThread

    /**
     * On a dispatcher, such as `Dispatchers.Main`: a client bound to the user interface. The client has no thread; if
     * the dispatcher stands still, so do its listeners, and what suspend functions and flows wait for.
     *
     * @property dispatcher the dispatcher
     */
    public class On(public val dispatcher: CoroutineDispatcher) : CallbackThread

    /**
     * Inside [Client.poll], on the thread that calls it: for game loops and event loops that are no dispatchers.
     *
     * @property onWake tells that there is something for [Client.poll]. Called from any thread; it must return at once
     *   and call nothing of this library
     */
    public class Poll(public val onWake: () -> Unit) : CallbackThread
}

/** Where to listen and what to allow; what stays null has its default. */
public class ServerOptions internal constructor() {
    /** The address to listen on. Default `127.0.0.1`: this machine only. */
    public var address: String? = null

    /** The secret that tokens are signed with (HS256). Default: an open server, which lets everyone in. */
    public var secret: String? = null

    /** The port. Default 0: any free one; [Server.port] tells which. */
    public var port: Int = 0

    /** Threads that serve rooms; a room lives on one of them. Default 1; 0 for one per core. */
    public var threads: Int? = null

    /** How long a peer whose connection broke stays. Default 30 s; `Duration.ZERO` for not at all. */
    public var grace: Duration? = null

    /** How long a session without peers is kept. Default: not at all. */
    public var linger: Duration? = null

    /** Largest value, in bytes of compact JSON. Default 1,024. */
    public var maxValueBytes: Int? = null

    /** Most keys in a store. Default 100. */
    public var maxKeys: Int? = null

    /** Most bytes of keys and values together in a store. Default 65,536. */
    public var maxStoreBytes: Int? = null

    /** Most keys one peer listens to. Default 200. */
    public var maxListenedKeys: Int? = null

    /** Most peers in a room. Default 20,000. */
    public var maxPeers: Int? = null

    /** Most connections in all. Default: the server's own. */
    public var maxConnections: Int? = null

    /** After how much silence a connection is pinged. Default 15 s. It must be below [idleTimeout]. */
    public var pingInterval: Duration? = null

    /** After how much silence a connection is closed. Default 45 s. */
    public var idleTimeout: Duration? = null

    /** Rules, as TOML text: which roles may do what; docs/rules.md has how. Default: everybody may do everything. */
    public var rules: String? = null

    /** The server's certificate, a file in PEM; with it and [tlsKeyFile] it speaks `wss://` only. Default: no TLS. */
    public var tlsCertificateFile: String? = null

    /** The private key of that certificate: a file in PEM, not encrypted. */
    public var tlsKeyFile: String? = null

    /** The authorities of clients' certificates: a file in PEM. With it every client must show a certificate. */
    public var tlsClientCaFile: String? = null

    /** The web pages that may connect, as their origins with commas between them. Default: all. */
    public var allowedOrigins: String? = null

    /** A directory in which rooms are kept across a restart. Default: rooms live in memory. */
    public var dataDirectory: String? = null

    /** With [dataDirectory]: wait for the disk before anybody is told anything. */
    public var fsync: Boolean = false

    /** Most connections from one IPv4 address, or one IPv6 network of 64 bits. Default: no limit of its own. */
    public var maxConnectionsPerAddress: Int? = null

    /** Most rooms at once. Default 50,000. */
    public var maxRooms: Int? = null

    /** Requests that one peer may make per second, on average. Default: no limit. */
    public var maxRequestsPerSecond: Int? = null

    /** Requests that one peer may make at once. Default: those of five seconds. */
    public var maxRequestBurst: Int? = null

    /** Bytes that one peer may send per second, on average. Default: no limit. */
    public var maxRequestBytesPerSecond: Int? = null

    /** Largest message of a client, in bytes. Default 65,536. */
    public var maxMessageBytes: Int? = null

    /**
     * Where clients reach this server, when that is not where it listens: `https://rooms.example.org` behind a proxy, say.
     * It is handed out to the hosted original's web client. Default: the host that its request was sent to.
     */
    public var publicUrl: String? = null

    /** Whether the server counts what it does and answers `GET /metrics` at its port, in Prometheus' text format. */
    public var metrics: Boolean = false

    /**
     * Whether many sockets are written to by one system call, by io_uring, where the system has it (Linux 6.1 or newer)
     * and allows it. It takes less of the processor. Not for a program that is killed by its own sandbox for that call.
     */
    public var ioUring: Boolean = false

    /** Where it is told that rooms open and close; docs/webhooks.md has what is in it. Default: nowhere. */
    public var webhookUrl: String? = null

    /** What webhooks are signed with: `whsec_` and the base64 of 24 to 64 random bytes. Needed with [webhookUrl]. */
    public var webhookSecret: String? = null

    /** The authorities (a file in PEM) of the receiver's certificate. Default: those that the system trusts. */
    public var webhookCaFile: String? = null

    /** How long the receiver of a webhook may take to answer. Default 10 s. */
    public var webhookTimeout: Duration? = null

    /**
     * After about what time a webhook that was not taken is sent again; then twice as long each time, up to an hour, for a
     * day. Default 1 s.
     */
    public var webhookRetry: Duration? = null

    /**
     * The secret that the tokens of operators and back ends are signed with, another than [secret]. With it the server has an
     * HTTP API under `/v1`; docs/http-api.md. Default: none.
     */
    public var apiSecret: String? = null

    /** With [apiSecret]: whether a page at `/inspect/` lets people look into rooms; docs/inspector.md. */
    public var inspect: Boolean = false
}

/** On which condition a key is written, and how long it stays. What is not said stays as it is, but a set forgets it. */
public class WriteOptions internal constructor() {
    /** Only if the key has this version now, 0 meaning that it is absent; otherwise [ErrorCode.VERSION_CONFLICT]. */
    public var ifVersion: Long? = null

    /** After how much time the key goes by itself: 1 ms to a year. */
    public var expiresAfter: Duration? = null

    /** The key goes by itself when it did before this write, or never. */
    public var keepsExpiry: Boolean = false

    /** The key does not go by itself. */
    public var neverExpires: Boolean = false

    /** True: the key goes when this peer leaves, or its grace period ends. False: with no peer. Null: not said. */
    public var isBound: Boolean? = null

    /** Only while this lock is held; otherwise [ErrorCode.LOCK_LOST]. */
    public var lock: Lock? = null
}
