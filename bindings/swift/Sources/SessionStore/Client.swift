import CSessionStore
import Foundation

/// How and where to join. What is nil has its default.
public struct ClientOptions: Sendable {
    /// On which threads a client's callbacks come: listeners, updates and updaters. Tasks that wait go on where they belong,
    /// wherever that is.
    public enum Dispatch: Sendable {
        /// On threads that all clients share.
        case shared
        /// On a thread of the client's own, where the closures are called before the first callback and after the last.
        case ownThread(onStart: @Sendable () -> Void, onStop: @Sendable () -> Void)
        /// Inside ``Client/poll(most:)``, on the thread it is called from. `onWake` is called from any thread when there is
        /// something to poll for; it must return at once and call nothing of this library. Tasks that wait for this client go
        /// on with the next poll.
        case polled(onWake: @Sendable () -> Void)
    }

    /// The server: `ws://host:port`, or `wss://` for TLS; or with a path. The certificate of a server must always be for the host
    /// in the URL.
    public var url: String
    /// The room, 1 to 128 bytes. Required unless the token names it.
    public var room: String?
    /// A JWT for servers that ask for one.
    public var token: String?
    /// This peer's name, shown to others; at most 256 bytes.
    public var name: String?
    /// The role asked of an open server; at most 64 bytes. Default `guest`.
    public var role: String?
    /// The user id told to an open server; at most 128 bytes.
    public var userID: String?
    /// This peer's metadata: any text of at most 2,048 bytes, without NUL.
    public var metadata: String?
    /// This peer's id, at most 128 bytes, unique in the room. Default: a random UUID.
    public var peerID: String?
    /// A failure of the very first join closes the client with the error, instead of trying on. For programs that rather end
    /// than wait.
    public var failFast = false
    /// How long one request may take. Default 10 s.
    public var requestTimeout: Duration?
    /// How long one attempt to connect may take until the room is joined; a long list of peers that is arriving is waited for.
    /// Default 10 s.
    public var connectTimeout: Duration?
    /// Pause before the first attempt to reconnect, doubled for each that fails; the actual pause is drawn between half of it and
    /// the whole. Default 250 ms.
    public var reconnectMin: Duration?
    /// The longest pause between two attempts. Default 10 s.
    public var reconnectMax: Duration?
    /// After how much silence the server is pinged; after as much again without an answer the connection counts as broken.
    /// Default 10 s.
    public var heartbeat: Duration?
    /// Most requests that may wait for their answers; more are refused with ``SessionStoreError/Code/queueFull``. Default 1,024.
    public var maxPending: Int?
    /// On which threads callbacks come.
    public var dispatch = Dispatch.shared
    /// For `wss://`: the authorities to trust instead of the system's, a file in PEM. Like the other files it is read when the
    /// client is opened.
    public var caFile: String?
    /// The certificate to show to a server that asks for one, a file in PEM.
    public var clientCertificateFile: String?
    /// The private key of that certificate, a file in PEM, not encrypted.
    public var clientKeyFile: String?

    /// What most clients say; everything else has its default.
    public init(url: String, room: String? = nil, name: String? = nil, token: String? = nil) {
        self.url = url
        self.room = room
        self.name = name
        self.token = token
    }

    fileprivate func use<R>(_ body: (UnsafePointer<sessionstore_client_options>) throws -> R) throws -> R {
        let texts = Texts()
        var options = sessionstore_client_options.sized()
        options.flags = failFast ? UInt32(SESSIONSTORE_CLIENT_FAIL_FAST) : 0
        options.url = try texts.terminated(url, "url")
        options.room = try texts.terminated(room, "room")
        options.token = try texts.terminated(token, "token")
        options.name = try texts.terminated(name, "name")
        options.role = try texts.terminated(role, "role")
        options.user_id = try texts.terminated(userID, "userID")
        options.metadata = try texts.terminated(metadata, "metadata")
        options.peer_id = try texts.terminated(peerID, "peerID")
        options.request_timeout_ms = try more(requestTimeout, "requestTimeout")
        options.connect_timeout_ms = try more(connectTimeout, "connectTimeout")
        options.reconnect_min_ms = try more(reconnectMin, "reconnectMin")
        options.reconnect_max_ms = try more(reconnectMax, "reconnectMax")
        options.heartbeat_ms = try more(heartbeat, "heartbeat")
        options.max_pending = try more(maxPending, "maxPending")
        options.ca_file = try texts.terminated(caFile, "caFile")
        options.client_cert_file = try texts.terminated(clientCertificateFile, "clientCertificateFile")
        options.client_key_file = try texts.terminated(clientKeyFile, "clientKeyFile")
        return try withExtendedLifetime(texts) {
            switch dispatch {
            case .shared:
                return try body(&options)
            case .ownThread(let onStart, let onStop):
                var hooks = sessionstore_thread_hooks.holding(Hooks(onStart, onStop))
                hooks.on_start = { context($0, as: Hooks.self).first() }
                hooks.on_stop = { context($0, as: Hooks.self).second() }
                return try withUnsafePointer(to: hooks) {
                    options.thread_hooks = $0
                    return try body(&options)
                }
            case .polled(let onWake):
                var hook = sessionstore_wake_hook.holding(Hooks(onWake, {}))
                hook.on_wake = { context($0, as: Hooks.self).first() }
                return try withUnsafePointer(to: hook) {
                    options.wake_hook = $0
                    return try body(&options)
                }
            }
        }
    }
}

/// The context of hooks.
private final class Hooks: Sendable {
    let first: @Sendable () -> Void
    let second: @Sendable () -> Void

    init(_ first: @escaping @Sendable () -> Void, _ second: @escaping @Sendable () -> Void) {
        self.first = first
        self.second = second
    }
}

/// What concerns a client as a whole.
public enum Update: Sendable {
    /// The room was joined. Told once.
    case storeAvailable(Store)
    /// The connection's state, and why it is so.
    case connectionState(ConnectionState, SessionStoreError?)
    /// Another peer joined, changed or left. Those who are in the room already are told as joined.
    case peer(PeerChange, Peer)
    /// Something went wrong that no request is waiting for, such as ``SessionStoreError/Code/sessionLost``.
    case error(SessionStoreError)
    /// The token expires at this time, by the server's clock. Soon after, the client closes with
    /// ``SessionStoreError/Code/tokenExpired``, unless ``Client/renewToken(_:)`` hands in a fresh one. Told 30 s before, or at once
    /// when less is left.
    case tokenExpiring(Date)
}

/// Where a client stands.
public enum ConnectionState: Int32, Sendable, CaseIterable {
    /// The first join is under way.
    case connecting = 1
    /// Joined.
    case connected = 2
    /// The connection broke and is being made anew; requests wait.
    case reconnecting = 3
    /// Over, for good: the client was lost or left, or the server refused it.
    case closed = 4
}

/// What became of a peer.
public enum PeerChange: Int32, Sendable, CaseIterable {
    /// It is in the room: it joined, or was there before this client.
    case joined = 1
    /// Its name or metadata changed.
    case updated = 2
    /// It left, or its grace period ended.
    case left = 3
}

/// A client: one peer in one room. It joins in the background and reconnects by itself.
///
/// ```swift
/// let client = try Client(ClientOptions(url: "ws://127.0.0.1:7350", room: "lobby", name: "Ada"))
/// let store = try await client.join()
/// try await store.set("spotlight", to: "peer-1")
/// try await client.leave()
/// ```
///
/// Keep it for as long as you are in the room: when it is gone, it leaves in the background, which never blocks, and its store
/// answers ``SessionStoreError/Code/closed``. A program that ends calls ``leave()`` first: otherwise the process may be gone before
/// the leave is said, and the peer stays in the room for the grace period.
public final class Client: Sendable {
    private let handle: Handle
    private let joining: Joining

    /// Opens a client and returns at once.
    ///
    /// - Parameters:
    ///   - options: How and where to join.
    ///   - onUpdate: Called with what concerns the client as a whole, on the threads that the options say, in order and never
    ///     twice at once, until the client is closed. It should not hold the client.
    ///
    /// Throws ``SessionStoreError/Code/invalidURL``, ``SessionStoreError/Code/invalidRoom``,
    /// ``SessionStoreError/Code/invalidPeer``, ``SessionStoreError/Code/invalidArgument`` (also for a file that cannot be used),
    /// ``SessionStoreError/Code/tlsFailed`` when the URL asks for TLS and the system has no authorities to trust. That the server
    /// cannot be reached, or is not trusted, is no error here: ``join(timeout:)`` and `onUpdate` tell it.
    public init(_ options: ClientOptions, onUpdate: @escaping @Sendable (Update) -> Void = { _ in }) throws {
        let joining = Joining()
        self.joining = joining
        handle = try options.use { options in
            var listener = UpdateListener(joining, onUpdate).callbacks
            // A client is given whenever the call succeeds.
            return try make(sessionstore_client_free) { sessionstore_client_open(options, &listener, $0, $1) }!
        }
    }

    /// Opens a client whose updates are read from a sequence.
    ///
    /// ```swift
    /// let updates = Updates()
    /// let client = try Client(options, updates: updates)
    /// for try await update in updates { print(update) }
    /// ```
    public convenience init(_ options: ClientOptions, updates: Updates) throws {
        let mailbox = updates.mailbox
        let ending = Ending { mailbox.end(nil) }
        try self.init(options) { update in
            withExtendedLifetime(ending) { mailbox.put(update) }
        }
    }

    /// Waits until the room is joined, and gives its store. It may be called again, and by several tasks.
    ///
    /// Throws the reason for which the client closed, such as ``SessionStoreError/Code/unauthorized``; when the time runs out, the
    /// last failure to connect (``SessionStoreError/Code/hostNotFound``, ``SessionStoreError/Code/connectionFailed``, …) or
    /// ``SessionStoreError/Code/timeout``, and the client goes on trying; `CancellationError` when the task is cancelled.
    public func join(timeout: Duration = .seconds(10)) async throws -> Store {
        let joining = joining
        if let reason = joining.closedBecause { throw reason }
        return try await withThrowingTaskGroup(of: Store.self) { group in
            defer { group.cancelAll() }
            group.addTask { try await joining.outcome.wait() }
            group.addTask {
                try await Task.sleep(for: timeout)
                throw joining.lastFailure
            }
            return try await group.next()!
        }
    }

    /// Where the client stands.
    public var state: ConnectionState {
        handle.use { ConnectionState(rawValue: sessionstore_client_state($0)) } ?? .closed
    }

    /// This peer's id.
    public var peerID: String { handle.use { String(cString: sessionstore_client_peer_id($0)) } }

    /// Everybody in the room as this client knows it, itself included, in the order of their ids.
    public func peers() throws -> [Peer] {
        try handle.use { client in
            var list: OpaquePointer?
            try call { sessionstore_client_peers(client, &list, $0) }
            defer { sessionstore_peer_list_free(list) }
            return (0..<sessionstore_peer_list_count(list)).map {
                Peer(borrowing: sessionstore_peer_list_get(list, $0))
            }
        }
    }

    /// Changes this peer's name, its metadata, or both; what is nil stays.
    public func updatePeer(name: String? = nil, metadata: String? = nil) async throws {
        _ = try await actionRequest { result, error in
            handle.use { client in
                withTexts(name, metadata) { sessionstore_client_update_peer(client, $0, $1, $2, $3, result, error) }
            }
        }
    }

    /// Hands in a fresh token before the old one expires, without a break: for the same room and user, maybe with another role,
    /// which counts from then on. Once the server has taken it the client connects with it; while the connection is broken, as
    /// soon as the server refuses the old one, also where this has ended with ``SessionStoreError/Code/timeout`` by then.
    ///
    /// Throws ``SessionStoreError/Code/unauthorized`` and ``SessionStoreError/Code/tokenExpired``, after which the old token
    /// counts; ``SessionStoreError/Code/invalidArgument`` when the server is open.
    public func renewToken(_ token: String) async throws {
        _ = try await actionRequest { result, error in
            handle.use { client in withText(token) { sessionstore_client_renew_token(client, $0, $1, result, error) } }
        }
    }

    /// Leaves the room: everybody is told at once, instead of after the grace period, and the client closes. Without a
    /// connection, or when it breaks and the next cannot be made at once, it closes all the same, and the others are told
    /// after the grace period. A task that is cancelled while it waits for this takes nothing back.
    public func leave() async throws {
        _ = try await actionRequest { result, error in handle.use { sessionstore_client_leave($0, result, error) } }
    }

    /// With ``ClientOptions/Dispatch/polled(onWake:)``: runs waiting callbacks on this thread, at most `most` of them, all that wait
    /// if it is nil, and returns how many ran. If some are left, `onWake` is called again.
    ///
    /// Throws ``SessionStoreError/Code/wrongMode`` for other clients, ``SessionStoreError/Code/wouldDeadlock`` inside a callback,
    /// ``SessionStoreError/Code/busy`` while another thread polls this client.
    @discardableResult
    public func poll(most: Int? = nil) throws -> Int {
        guard most != 0 else { return 0 }
        var ran = 0
        try handle.use { client in try call { sessionstore_client_poll(client, most ?? 0, &ran, $0) } }
        return ran
    }
}

/// The updates of one client, to be read from a sequence: ``Client/init(_:updates:)``. It ends when the client is closed.
///
/// What is not read yet is bounded: when it is too much, older states of the connection and of a peer give way to newer ones, and
/// of the errors the last 16 are kept.
public struct Updates: AsyncSequence, Sendable {
    public typealias Element = Update
    let mailbox = Mailbox<Update>(compact: newestUpdates)

    /// Nothing was told yet.
    public init() {}

    public func makeAsyncIterator() -> AsyncIterator { AsyncIterator(mailbox: mailbox) }

    public struct AsyncIterator: AsyncIteratorProtocol, Sendable {
        fileprivate let mailbox: Mailbox<Update>

        /// Throws `CancellationError` when the waiting task is cancelled.
        public func next() async throws -> Update? { try await mailbox.next() }
    }
}

/// What is left of updates when too many wait. A peer that came and went meanwhile is not told.
@Sendable
private func newestUpdates(_ updates: ArraySlice<Update>) -> [Update] {
    var kept: [Update?] = []
    var newest: [String: Int] = [:]
    var errors: [Int] = []
    for update in updates {
        var update: Update? = update
        switch update! {
        case .peer(let change, let peer):
            let id = "peer/" + peer.id
            if let place = newest[id], case .peer(let older, _)? = kept[place] {
                kept[place] = nil
                switch (older, change) {
                case (.joined, .left): update = nil
                case (.joined, _): update = .peer(.joined, peer)
                case (.left, .joined): update = .peer(.updated, peer)
                default: break
                }
            }
            newest[id] = kept.count
        case .connectionState:
            if let place = newest.updateValue(kept.count, forKey: "state") { kept[place] = nil }
        case .tokenExpiring:
            if let place = newest.updateValue(kept.count, forKey: "token") { kept[place] = nil }
        case .error:
            errors.append(kept.count)
            if errors.count > 16 { kept[errors.removeFirst()] = nil }
        case .storeAvailable:
            break
        }
        kept.append(update)
    }
    return kept.compactMap { $0 }
}

/// Does something when nobody holds it any more.
private final class Ending: Sendable {
    private let body: @Sendable () -> Void

    init(_ body: @escaping @Sendable () -> Void) {
        self.body = body
    }

    deinit { body() }
}

/// How joining ends, and why it has not ended yet.
///
/// `@unchecked Sendable`: everything that changes is behind the lock.
private final class Joining: @unchecked Sendable {
    let outcome = Outcome<Store>()
    private let lock = NSLock()
    private var failure: SessionStoreError?
    private var closed: SessionStoreError?

    /// Set when it is over.
    var closedBecause: SessionStoreError? { lock.withLock { closed } }

    /// What a wait is told whose time runs out.
    var lastFailure: SessionStoreError {
        lock.withLock { failure } ?? SessionStoreError(.timeout)
    }

    func hear(_ update: Update) {
        switch update {
        case .storeAvailable(let store): outcome.finish(.success(store))
        case .connectionState(.closed, let error):
            let reason = error ?? SessionStoreError(.closed)
            lock.withLock { closed = reason }
            outcome.finish(.failure(reason))
        case .connectionState(_, let error?): lock.withLock { failure = error }
        default: break
        }
    }
}

/// The context of an update listener.
private final class UpdateListener {
    private let joining: Joining
    private let onUpdate: @Sendable (Update) -> Void

    init(_ joining: Joining, _ onUpdate: @escaping @Sendable (Update) -> Void) {
        self.joining = joining
        self.onUpdate = onUpdate
    }

    deinit { joining.outcome.finish(.failure(SessionStoreError(.closed))) }

    private func tell(_ update: Update) {
        joining.hear(update)
        onUpdate(update)
    }

    var callbacks: sessionstore_update_listener {
        var callbacks = sessionstore_update_listener.holding(self)
        callbacks.on_store_available = {
            context($0, as: UpdateListener.self).tell(.storeAvailable(Store(borrowing: $1!)))
        }
        callbacks.on_connection_state = {
            let state = ConnectionState(rawValue: $1) ?? .closed
            context($0, as: UpdateListener.self).tell(
                .connectionState(state, $2.map(SessionStoreError.init(borrowing:))))
        }
        callbacks.on_peer = {
            guard let change = PeerChange(rawValue: $1) else { return }
            context($0, as: UpdateListener.self).tell(.peer(change, Peer(borrowing: $2!)))
        }
        callbacks.on_error = {
            context($0, as: UpdateListener.self).tell(.error(SessionStoreError(borrowing: $1!)))
        }
        callbacks.on_token_expiring = {
            context($0, as: UpdateListener.self).tell(
                .tokenExpiring(Date(timeIntervalSince1970: Double($1) / 1_000)))
        }
        return callbacks
    }
}
