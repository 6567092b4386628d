#if !SESSIONSTORE_CLIENT_ONLY
import CSessionStore
import Foundation

/// Where a server listens and what it allows. What is nil has its default.
public struct ServerOptions: Sendable {
    /// The address to listen on. Default `127.0.0.1`: this machine only.
    public var address: String?
    /// The port. Default any free one; ``Server/port`` tells which.
    public var port: UInt16?
    /// The secret that tokens are signed with (HS256). Nil: an open server, which lets everyone in.
    public var secret: String?
    /// Threads that serve rooms; a room lives on one of them. Default 1; 0 for one per core.
    public var threads: Int?
    /// How long a peer whose connection broke stays. Default 30 s.
    public var grace: Duration?
    /// How long a session without peers is kept. Default not at all.
    public var linger: Duration?
    /// Largest value, in bytes of compact JSON. Default 1,024.
    public var maxValueBytes: Int?
    /// Most keys in a store. Default 100.
    public var maxKeys: Int?
    /// Most bytes of keys and values together in a store. Default 65,536.
    public var maxStoreBytes: Int?
    /// Most keys one peer listens to. Default 200.
    public var maxListenedKeys: Int?
    /// Most peers in a room. Default 20,000.
    public var maxPeers: Int?
    /// Most connections in all. Default: the server's own, see `sstore serve --help`.
    public var maxConnections: Int?
    /// Most connections from one IPv4 address, or one IPv6 network of 64 bits. Default: no limit of its own.
    public var maxConnectionsPerAddress: Int?
    /// Most rooms at once. Default 50,000.
    public var maxRooms: Int?
    /// Requests that one peer may make per second, on average; what is beyond is refused with
    /// ``SessionStoreError/Code/rateLimited``. Default no limit.
    public var maxRequestsPerSecond: Int?
    /// Requests that one peer may make at once. Default those of five seconds.
    public var maxRequestBurst: Int?
    /// Bytes that one peer may send per second, on average. Default no limit.
    public var maxRequestBytesPerSecond: Int?
    /// Largest message of a client, in bytes. Default 65,536.
    public var maxMessageBytes: Int?
    /// Where clients reach this server, when that is not where it listens: `https://rooms.example.org` behind a proxy,
    /// say. It is handed out to the hosted original's web client. Default: the host that its request was sent to.
    public var publicURL: String?
    /// Where it is told that rooms open and close, by signed requests; docs/webhooks.md has what is in them. Default: nowhere.
    public var webhookURL: String?
    /// What webhooks are signed with: `whsec_` and the base64 of 24 to 64 random bytes. Needed with `webhookURL`.
    public var webhookSecret: String?
    /// The authorities of the receiver's certificate: a file in PEM. Nil: those that the system trusts.
    public var webhookCAFile: String?
    /// How long the receiver of a webhook may take to answer. Default 10 s.
    public var webhookTimeout: Duration?
    /// After about what time a webhook that was not taken is sent again; then twice as long each time, up to an hour, for a day.
    /// Default 1 s.
    public var webhookRetry: Duration?
    /// The secret that the tokens of operators and back ends are signed with, another than `secret`. With it the server has an
    /// HTTP API under `/v1`; docs/http-api.md. Nil: none.
    public var apiSecret: String?
    /// With `apiSecret`: whether a page at `/inspect/` lets people look into rooms; docs/inspector.md.
    public var inspect = false
    /// After how much silence a connection is pinged. Default 15 s. It must be below ``idleTimeout``.
    public var pingInterval: Duration?
    /// After how much silence a connection is closed. Default 45 s.
    public var idleTimeout: Duration?
    /// Rules, as TOML text: which roles may read, write, create, remove and lock what; docs/rules.md has how they are written. Nil:
    /// everybody may do everything. ``Server/setRules(_:)`` changes them later.
    public var rules: String?
    /// The server's certificate: a file in PEM, the server's own first, then those between it and an authority that clients trust.
    /// With it and `tlsKeyFile` the server speaks `wss://` only. The files are read again by ``Server/reloadTLS()`` and when they
    /// change.
    public var tlsCertificateFile: String?
    /// The private key of that certificate: a file in PEM, not encrypted.
    public var tlsKeyFile: String?
    /// The authorities of clients' certificates: a file in PEM. With it every client must show a certificate that one of them signed.
    public var tlsClientCAFile: String?
    /// The web pages that may connect, as their origins, such as `https://example.org`. Empty: all. Programs that are no browsers
    /// send no origin, and always may.
    public var allowedOrigins: [String] = []
    /// A directory in which rooms are kept: sessions then go on after the server was stopped, killed or restarted, and nothing that
    /// anybody was told is lost. It is made if it is not there, on a disk of this machine, and belongs to one server at a time. Nil:
    /// rooms live in memory.
    public var dataDirectory: String?
    /// With `dataDirectory`: wait for the disk before anybody is told anything, so that nothing is lost when the machine loses power
    /// either.
    public var fsync = false
    /// Whether the server counts what it does and answers `GET /metrics` at its port, in Prometheus' text format.
    public var metrics = false
    /// Whether many sockets are written to by one system call, by io_uring, where the system has it (Linux 6.1 or newer)
    /// and allows it. It takes less of the processor. Not for a program that is killed by its own sandbox for that call.
    public var ioUring = false

    /// Every option has its default.
    public init() {}

    fileprivate func use<R>(_ body: (UnsafePointer<sessionstore_server_options>) throws -> R) throws -> R {
        let texts = Texts()
        var options = sessionstore_server_options.sized()
        options.flags = fsync ? UInt32(SESSIONSTORE_SERVER_FSYNC) : 0
        options.flags |= metrics ? UInt32(SESSIONSTORE_SERVER_METRICS) : 0
        options.flags |= ioUring ? UInt32(SESSIONSTORE_SERVER_IO_URING) : 0
        options.flags |= inspect ? UInt32(SESSIONSTORE_SERVER_INSPECT) : 0
        options.address = try texts.terminated(address, "address")
        options.secret = try texts.terminated(secret, "secret")
        options.port = UInt32(port ?? 0)
        options.threads = try orZero(threads, "threads")
        options.grace_ms = try orZero(grace, "grace")
        options.linger_ms = try orZero(linger, "linger")
        options.max_value_bytes = try orZero(maxValueBytes, "maxValueBytes")
        options.max_keys = try orZero(maxKeys, "maxKeys")
        options.max_store_bytes = try orZero(maxStoreBytes, "maxStoreBytes")
        options.max_listened_keys = try orZero(maxListenedKeys, "maxListenedKeys")
        options.max_peers = try orZero(maxPeers, "maxPeers")
        options.max_connections = try orZero(maxConnections, "maxConnections")
        options.ping_interval_ms = try orZero(pingInterval, "pingInterval")
        options.idle_timeout_ms = try orZero(idleTimeout, "idleTimeout")
        options.rules = try texts.terminated(rules, "rules")
        options.tls_cert_file = try texts.terminated(tlsCertificateFile, "tlsCertificateFile")
        options.tls_key_file = try texts.terminated(tlsKeyFile, "tlsKeyFile")
        options.tls_client_ca_file = try texts.terminated(tlsClientCAFile, "tlsClientCAFile")
        options.allowed_origins = try texts.terminated(allowedOrigins.joined(separator: ","), "allowedOrigins")
        options.data_dir = try texts.terminated(dataDirectory, "dataDirectory")
        options.max_connections_per_address = try plain(maxConnectionsPerAddress, "maxConnectionsPerAddress")
        options.max_rooms = try orZero(maxRooms, "maxRooms")
        options.max_requests_per_second = try plain(maxRequestsPerSecond, "maxRequestsPerSecond")
        options.max_request_burst = try plain(maxRequestBurst, "maxRequestBurst")
        options.max_request_bytes_per_second = try plain(maxRequestBytesPerSecond, "maxRequestBytesPerSecond")
        options.max_message_bytes = try orZero(maxMessageBytes, "maxMessageBytes")
        options.public_url = try texts.terminated(publicURL, "publicURL")
        options.webhook_url = try texts.terminated(webhookURL, "webhookURL")
        options.webhook_secret = try texts.terminated(webhookSecret, "webhookSecret")
        options.webhook_ca_file = try texts.terminated(webhookCAFile, "webhookCAFile")
        options.webhook_timeout_ms = try orZero(webhookTimeout, "webhookTimeout")
        options.webhook_retry_ms = try orZero(webhookRetry, "webhookRetry")
        options.api_secret = try texts.terminated(apiSecret, "apiSecret")
        return try withExtendedLifetime(texts) { try body(&options) }
    }
}

/// A server that hosts rooms inside this process, on threads of its own. It is asked to stop when this is gone, which never
/// blocks.
///
/// ```swift
/// let server = try Server()
/// let client = try Client(ClientOptions(url: server.url, room: "lobby"))
/// ```
public final class Server: Sendable {
    private let handle: Handle

    /// How much a server has to do.
    public struct Statistics: Sendable, Hashable {
        /// Open rooms.
        public let rooms: UInt64
        /// Peers, those in their grace period included.
        public let peers: UInt64
        /// Connections of clients.
        public let connections: UInt64
    }

    /// Starts a server. When this returns, clients can connect.
    ///
    /// Throws ``SessionStoreError/Code/addressInUse``, ``SessionStoreError/Code/addressUnavailable``,
    /// ``SessionStoreError/Code/invalidConfig``, ``SessionStoreError/Code/invalidArgument``, and of the data directory
    /// ``SessionStoreError/Code/dataDirectoryUnusable``, ``SessionStoreError/Code/dataDamaged`` and
    /// ``SessionStoreError/Code/dataNewer``.
    public init(_ options: ServerOptions = ServerOptions()) throws {
        // A server is given whenever the call succeeds.
        handle = try options.use { options in
            try make(sessionstore_server_free) { sessionstore_server_start(options, $0, $1) }!
        }
    }

    /// The port the server listens on.
    public var port: UInt16 { UInt16(handle.use(sessionstore_server_port)) }

    /// The URL for clients on this machine, such as `ws://127.0.0.1:7350`, or with `wss` when the server has a certificate.
    public var url: String { handle.use { String(cString: sessionstore_server_url($0)) } }

    /// Counts rooms, peers and connections.
    ///
    /// Throws ``SessionStoreError/Code/dataDirectoryUnusable`` when the server has stopped by itself, because what happens in its
    /// rooms can no longer be kept. Nobody was told of what was not kept.
    public func statistics() throws -> Statistics {
        var rooms: UInt64 = 0
        var peers: UInt64 = 0
        var connections: UInt64 = 0
        try handle.use { server in try call { sessionstore_server_stats(server, &rooms, &peers, &connections, $0) } }
        return Statistics(rooms: rooms, peers: peers, connections: connections)
    }

    /// Puts other rules in force, in every room, without dropping a connection; nil: everybody may do everything.
    ///
    /// Whoever may no longer read a key stops hearing of it; a sequence that names it throws
    /// ``SessionStoreError/Code/forbidden``. Returns before all rooms have the new rules.
    ///
    /// Throws ``SessionStoreError/Code/invalidConfig`` with the line and the reason, after which the old rules stay in force.
    public func setRules(_ rules: String?) throws {
        try handle.use { server in
            try withTexts(rules, nil) { rules, length, _, _ in
                try call { sessionstore_server_set_rules(server, rules, length, $0) }
            }
        }
    }

    /// Reads the certificate's files again. Connections that come from now on get what is in them; those there are stay. The
    /// server also looks by itself whether the files changed, when a connection comes and at most once in two seconds.
    ///
    /// Throws ``SessionStoreError/Code/invalidConfig`` with the file and the reason, after which the old certificate stays in force;
    /// ``SessionStoreError/Code/wrongMode`` for a server without TLS.
    public func reloadTLS() throws {
        try handle.use { server in try call { sessionstore_server_reload_tls(server, $0) } }
    }

    /// Asks the server to stop, and returns at once: clients are told to come back later, and their rooms end.
    public func stop() throws {
        try handle.use { server in try call { sessionstore_server_stop(server, $0) } }
    }

    /// Stops the server and waits until its threads have ended and its port is free.
    ///
    /// Throws ``SessionStoreError/Code/timeout``, and `CancellationError` when the task is cancelled; after both the server is still
    /// stopping.
    public func stopped(timeout: Duration = .seconds(10)) async throws {
        let milliseconds = try plain(timeout, "timeout")
        let handle = handle
        let outcome = Outcome<Void>()
        // There is nothing that tells the end, so a thread that may block waits for it.
        DispatchQueue.global().async {
            outcome.finish(
                Result {
                    try handle.use { server in
                        try call { sessionstore_server_stop_wait(server, milliseconds, $0) }
                    }
                })
        }
        try await outcome.wait()
    }
}
#endif
