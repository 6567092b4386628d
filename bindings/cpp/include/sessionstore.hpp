/*
 * SessionStore for C++: the shared realtime key-value store for everyone in a room.
 *
 * A header over the C library, for C++17 and later, with or without exceptions and RTTI. <sessionstore.h> is the manual
 * of what happens; this says how it looks in C++.
 *
 *     #include <sessionstore.hpp>
 *
 *     sessionstore::client_options options;
 *     options.url = "ws://127.0.0.1:7350";
 *     options.room = "lobby";
 *     auto client = sessionstore::client::open(options).value();
 *     auto store = client.join_wait().value();
 *     auto watching = store.listen({"spotlight"}, [](const sessionstore::state& now) {
 *         std::cout << now.key() << " is " << now.json() << '\n';
 *     }).value();
 *     store.set("spotlight", "peer-1").wait().value();
 *
 *
 * WHAT HOLDS EVERYWHERE
 *
 * Errors. What can fail gives a `result<T>`: a value or an `error`. Either look (`if (auto got = ...) use(*got); else
 * use(got.error());`), or take `.value()`, which throws `sessionstore::exception` if it is an error, and where
 * exceptions are off ends the program. Nothing else throws, but for std::bad_alloc and what your own types throw when they
 * are copied. A result that nobody looks at makes the compiler warn.
 *
 * Requests. What asks the server gives an `action<T>`, which is sent by how you want to hear of its end, once:
 *
 *     auto now = store.set("key", 1).wait();                    // a result<state>, waiting for it
 *     auto sent = store.set("key", 1).then([](sessionstore::result<sessionstore::state> now) { ... });
 *     auto later = store.set("key", 1).future();                // a std::future<result<state>>
 *     auto sent = store.set("key", 1).send();                   // not at all
 *     auto now = co_await store.set("key", 1);                  // a result<state>, from C++20 on
 *
 * What `then` and `send` give says only whether it was sent. An action that is dropped without any of them sends nothing;
 * the compiler warns. With `cancelled_by` a `cancellation` may take it back, in all of these ways but `wait`:
 *
 *     sessionstore::cancellation screen;
 *     auto later = store.set("key", 1).cancelled_by(screen).future();
 *     screen.cancel().value();                                  // unless it was sent, it is `errc::cancelled`
 *
 * Callbacks. Lambdas and other callables, also such that can only be moved, kept until the library needs them no more
 * and destroyed then, exactly once, also when the call that takes them fails. They come on the library's dispatch
 * threads, one at a time for each client; see "CALLBACKS" in <sessionstore.h>. Any call is allowed inside one, also
 * destroying the handle it belongs to, but those that wait, which give `errc::would_deadlock`. Since no handle's
 * destructor waits, a callback may still come, or be running, when the handle is gone: what it refers to must live as
 * long as the callable itself, best by belonging to it (a `std::shared_ptr`, or moved into it), or until
 * `subscription::cancel_wait` has returned. An exception that a callback lets out ends there: it never reaches the
 * library, and is handed to what `on_exception` was given.
 *
 * Handles. `client`, `store`, `subscription`, `lock`, `server`, `transaction` are moved, not copied (a store and a lock
 * have `share`); their destructors never wait. `state`, `value`, `peer` and `error` are values that can be copied
 * cheaply and kept; copies of a `cancellation` are the same one. A handle that was moved from may only be assigned to or
 * destroyed.
 *
 * Values. Any JSON. What `value_traits` knows is turned into JSON and back: booleans, integers, floating point, strings,
 * nullptr, `std::optional` of those, `json_text` for JSON that you have as text, `nlohmann::json` where you use it (this
 * header includes none of it), and what you add by specializing it. What JSON cannot say is refused, never changed.
 */
#ifndef SESSIONSTORE_HPP
#define SESSIONSTORE_HPP

#include <sessionstore.h>

#include <algorithm>
#include <chrono>
#include <cmath>
#include <cstddef>
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <functional>
#include <future>
#include <initializer_list>
#include <limits>
#include <memory>
#include <mutex>
#include <optional>
#include <string>
#include <string_view>
#include <type_traits>
#include <utility>
#include <variant>
#include <vector>

#if defined(__cpp_exceptions) || defined(_CPPUNWIND)
#define SESSIONSTORE_EXCEPTIONS 1
#include <exception>
#endif
#if defined(__cpp_impl_coroutine) && __has_include(<coroutine>)
#define SESSIONSTORE_COROUTINES 1
#include <coroutine>
#endif

/** The whole of the library. */
namespace sessionstore {

using std::chrono::milliseconds;

/** A time of the server's clock. */
using time_point = std::chrono::time_point<std::chrono::system_clock, milliseconds>;

/** How long the calls that wait do so where nothing else is said: 10 s, as requests have by default. */
inline constexpr milliseconds default_wait{10000};

/** What went wrong; the numbers are those of C and of the wire. */
enum class errc : std::int32_t {
    /** Success. */
    ok = SESSIONSTORE_OK,
    /** A pointer that must not be NULL was NULL. */
    null_argument = SESSIONSTORE_NULL_ARGUMENT,
    /** An argument has a value outside its range. */
    invalid_argument = SESSIONSTORE_INVALID_ARGUMENT,
    /** A text is not valid UTF-8. */
    invalid_utf8 = SESSIONSTORE_INVALID_UTF8,
    /** A value is not valid JSON. */
    invalid_json = SESSIONSTORE_INVALID_JSON,
    /** A key breaks the rules for keys. */
    invalid_key = SESSIONSTORE_INVALID_KEY,
    /** A room name breaks the rules for rooms. */
    invalid_room = SESSIONSTORE_INVALID_ROOM,
    /** A peer's id, name, role, user id or metadata breaks its rules. */
    invalid_peer = SESSIONSTORE_INVALID_PEER,
    /** The server's address is not a usable URL. */
    invalid_url = SESSIONSTORE_INVALID_URL,
    /** An options or callback struct has an impossible `struct_size`. */
    invalid_struct_size = SESSIONSTORE_INVALID_STRUCT_SIZE,
    /** An option or flag is set that this version does not know. */
    unknown_option = SESSIONSTORE_UNKNOWN_OPTION,
    /** A value is of another type than the one asked for. */
    wrong_type = SESSIONSTORE_WRONG_TYPE,
    /** Waiting here would wait for the calling thread itself. */
    would_deadlock = SESSIONSTORE_WOULD_DEADLOCK,
    /** The library is used in a forked child process. */
    forked = SESSIONSTORE_FORKED,
    /** A message names a method the server does not have. */
    unknown_method = SESSIONSTORE_UNKNOWN_METHOD,
    /** A message is not a request of the protocol. */
    malformed_message = SESSIONSTORE_MALFORMED_MESSAGE,
    /** The server's configuration cannot be used. */
    invalid_config = SESSIONSTORE_INVALID_CONFIG,
    /** The call does not fit the mode of the client, such as polling one that is not in poll mode. */
    wrong_mode = SESSIONSTORE_WRONG_MODE,
    /** Two calls that exclude each other were made at once, such as two polls of one client. */
    busy = SESSIONSTORE_BUSY,
    /** A lock's name breaks the rules for locks. */
    invalid_lock = SESSIONSTORE_INVALID_LOCK,
    /** A request came before the peer joined, or after it left. */
    not_joined = SESSIONSTORE_NOT_JOINED,
    /** The object was closed. */
    closed = SESSIONSTORE_CLOSED,
    /** The time given to a call ran out. */
    timeout = SESSIONSTORE_TIMEOUT,
    /** The connection broke before the answer came. */
    connection_lost = SESSIONSTORE_CONNECTION_LOST,
    /** No connection to the server could be made. */
    connection_failed = SESSIONSTORE_CONNECTION_FAILED,
    /** The host name of the server does not resolve. */
    host_not_found = SESSIONSTORE_HOST_NOT_FOUND,
    /** What answered at the address is not a SessionStore server. */
    handshake_failed = SESSIONSTORE_HANDSHAKE_FAILED,
    /** The session this client was in has ended; it joined a new one. */
    session_lost = SESSIONSTORE_SESSION_LOST,
    /** Another connection came with the same peer id. */
    replaced = SESSIONSTORE_REPLACED,
    /** The server is shutting down. */
    shutting_down = SESSIONSTORE_SHUTTING_DOWN,
    /** The address to listen on is in use. */
    address_in_use = SESSIONSTORE_ADDRESS_IN_USE,
    /** The address to listen on cannot be used. */
    address_unavailable = SESSIONSTORE_ADDRESS_UNAVAILABLE,
    /** Too many requests wait for their answer. */
    queue_full = SESSIONSTORE_QUEUE_FULL,
    /** The client sent nothing, not even an answer to a ping, for too long. */
    idle_timeout = SESSIONSTORE_IDLE_TIMEOUT,
    /** The client did not read what it was sent. */
    slow_reader = SESSIONSTORE_SLOW_READER,
    /** A request was sent, and its answer is lost: it may have been applied or not. A request that ends with any
     * other error was not applied. */
    outcome_unknown = SESSIONSTORE_OUTCOME_UNKNOWN,
    /** A peer with this id is in the room, and it is not this client. */
    peer_in_use = SESSIONSTORE_PEER_IN_USE,
    /** TLS could not be agreed on: a certificate that is not trusted, or a side that does not speak it. */
    tls_failed = SESSIONSTORE_TLS_FAILED,
    /** The directory for the data of a server cannot be used. */
    data_directory_unusable = SESSIONSTORE_DATA_DIRECTORY_UNUSABLE,
    /** What a server kept is not what it wrote. */
    data_damaged = SESSIONSTORE_DATA_DAMAGED,
    /** A newer version of the server wrote what is kept. */
    data_newer = SESSIONSTORE_DATA_NEWER,
    /** The request was taken back before it changed anything. */
    cancelled = SESSIONSTORE_CANCELLED,
    /** The token is missing, malformed, or signed with another secret. */
    unauthorized = SESSIONSTORE_UNAUTHORIZED,
    /** The token has expired. */
    token_expired = SESSIONSTORE_TOKEN_EXPIRED,
    /** A value is larger than the limit. */
    value_too_large = SESSIONSTORE_VALUE_TOO_LARGE,
    /** The store has as many keys as it may have. */
    too_many_keys = SESSIONSTORE_TOO_MANY_KEYS,
    /** Keys and values together would be larger than the limit. */
    store_full = SESSIONSTORE_STORE_FULL,
    /** The key has another version than the one expected. */
    version_conflict = SESSIONSTORE_VERSION_CONFLICT,
    /** A message is larger than the server accepts. */
    message_too_large = SESSIONSTORE_MESSAGE_TOO_LARGE,
    /** The peer listens to as many keys as it may. */
    too_many_listened_keys = SESSIONSTORE_TOO_MANY_LISTENED_KEYS,
    /** The room has as many peers as it may have. */
    room_full = SESSIONSTORE_ROOM_FULL,
    /** The server has as many connections as it may have. */
    server_full = SESSIONSTORE_SERVER_FULL,
    /** The peer id is in use in a way that cannot be taken over. */
    peer_mismatch = SESSIONSTORE_PEER_MISMATCH,
    /** The room's rules do not allow it. */
    forbidden = SESSIONSTORE_FORBIDDEN,
    /** A check of a transaction failed. */
    check_failed = SESSIONSTORE_CHECK_FAILED,
    /** Somebody holds the lock. */
    lock_held = SESSIONSTORE_LOCK_HELD,
    /** The lock is not held with this token. */
    lock_lost = SESSIONSTORE_LOCK_LOST,
    /** A sum leaves the range of numbers. */
    number_overflow = SESSIONSTORE_NUMBER_OVERFLOW,
    /** The key is one that only the server writes. */
    reserved_key = SESSIONSTORE_RESERVED_KEY,
    /** The key is absent. */
    key_absent = SESSIONSTORE_KEY_ABSENT,
    /** The room has as many locks as it may have. */
    too_many_locks = SESSIONSTORE_TOO_MANY_LOCKS,
    /** A web page of this origin may not connect. */
    origin_not_allowed = SESSIONSTORE_ORIGIN_NOT_ALLOWED,
    /** The connection asks more than it may. */
    rate_limited = SESSIONSTORE_RATE_LIMITED,
    /** Too many connections come from one address. */
    too_many_connections = SESSIONSTORE_TOO_MANY_CONNECTIONS,
    /** The server has as many rooms as it may have. */
    too_many_rooms = SESSIONSTORE_TOO_MANY_ROOMS,
    /** The peer was removed from the room by whoever runs it. */
    kicked = SESSIONSTORE_KICKED,
    /** The room was closed by whoever runs it. */
    room_closed = SESSIONSTORE_ROOM_CLOSED,
    /** The room has a session already. */
    room_open = SESSIONSTORE_ROOM_OPEN,
    /** There is no such room, peer or lock. */
    not_found = SESSIONSTORE_NOT_FOUND,
    /** A fault of the library or the server. */
    internal = SESSIONSTORE_INTERNAL,
    /** The library panicked; the object is not usable any more. */
    panic = SESSIONSTORE_PANIC,
    /** The system refused a resource: memory, a thread, a descriptor. */
    out_of_resources = SESSIONSTORE_OUT_OF_RESOURCES,
    /** The server answered with a code this version does not know. */
    unknown = SESSIONSTORE_UNKNOWN,
};

/** The code's name in capitals, such as "VALUE_TOO_LARGE". */
inline std::string_view name_of(errc code) noexcept { return sessionstore_code_name(static_cast<std::int32_t>(code)); }

/** Whether the same call may succeed later without being changed. */
constexpr bool is_retryable(errc code) noexcept {
    switch (code) {
        case errc::busy:
        case errc::timeout:
        case errc::connection_lost:
        case errc::connection_failed:
        case errc::host_not_found:
        case errc::handshake_failed:
        case errc::shutting_down:
        case errc::address_in_use:
        case errc::queue_full:
        case errc::idle_timeout:
        case errc::slow_reader:
        case errc::peer_in_use:
        case errc::tls_failed:
        case errc::data_directory_unusable:
        case errc::room_full:
        case errc::server_full:
        case errc::lock_held:
        case errc::too_many_locks:
        case errc::rate_limited:
        case errc::too_many_connections:
        case errc::too_many_rooms:
        case errc::out_of_resources:
            return true;
        default:
            return false;
    }
}

/** One sentence that says what the code means and what to do. */
inline std::string_view advice_on(errc code) noexcept {
    return sessionstore_code_advice(static_cast<std::int32_t>(code));
}

/** The version of the library that is linked. */
inline std::string_view version() noexcept { return sessionstore_version(); }

/** What kind of JSON a value is. A number with a fraction or an exponent, or too large for 64 bits, is no integer. */
enum class kind : std::int32_t {
    /** null: absent */
    null = SESSIONSTORE_KIND_NULL,
    /** true or false */
    boolean = SESSIONSTORE_KIND_BOOLEAN,
    /** a whole number of 64 bits */
    integer = SESSIONSTORE_KIND_INTEGER,
    /** any other number */
    number = SESSIONSTORE_KIND_NUMBER,
    /** a text */
    string = SESSIONSTORE_KIND_STRING,
    /** an array */
    array = SESSIONSTORE_KIND_ARRAY,
    /** an object */
    object = SESSIONSTORE_KIND_OBJECT,
};

/** Why a key has the state it has. */
enum class cause : std::int32_t {
    /** somebody wrote or removed it, or nobody ever did */
    written = SESSIONSTORE_CAUSE_WRITTEN,
    /** its time was over */
    expired = SESSIONSTORE_CAUSE_EXPIRED,
    /** the peer it was bound to left */
    peer_left = SESSIONSTORE_CAUSE_PEER_LEFT,
    /** the session ended */
    cleared = SESSIONSTORE_CAUSE_CLEARED,
};

/** How a client is connected. */
enum class connection_state : std::int32_t {
    /** not joined yet */
    connecting = SESSIONSTORE_STATE_CONNECTING,
    /** joined */
    connected = SESSIONSTORE_STATE_CONNECTED,
    /** the connection is lost, and the client tries to come back */
    reconnecting = SESSIONSTORE_STATE_RECONNECTING,
    /** for good */
    closed = SESSIONSTORE_STATE_CLOSED,
};

/** What became of a peer. */
enum class peer_change : std::int32_t {
    /** came */
    joined = SESSIONSTORE_PEER_JOINED,
    /** has another name or other metadata */
    updated = SESSIONSTORE_PEER_UPDATED,
    /** went */
    left = SESSIONSTORE_PEER_LEFT,
};

/** What a write does to its key, on the server: nobody has to read, change and set all of it. */
enum class operation : std::int32_t {
    /** set it; null removes it */
    set = SESSIONSTORE_OPERATION_SET,
    /** add an integer to an integer; absent counts as 0 */
    add = SESSIONSTORE_OPERATION_ADD,
    /** merge an object into an object, as RFC 7396 says */
    patch = SESSIONSTORE_OPERATION_PATCH,
    /** put what is not there yet into an array */
    set_add = SESSIONSTORE_OPERATION_SET_ADD,
    /** take values out of an array */
    set_remove = SESSIONSTORE_OPERATION_SET_REMOVE,
    /** put values at the end of an array */
    append = SESSIONSTORE_OPERATION_APPEND,
    /** leave the value, and give it another expiry */
    touch = SESSIONSTORE_OPERATION_TOUCH,
};

template <class T>
class result;
template <class T>
class action;
template <class T>
class async_action;
class state;
class store;
class transaction;

/** How JSON is made of a T, and a T of JSON. Specialize it for your own types:
 *
 *     template <>
 *     struct sessionstore::value_traits<point> {
 *         static sessionstore::result<sessionstore::value> to(const point& from);
 *         static sessionstore::result<point> from(const sessionstore::value& value);
 *     };
 */
template <class T, class = void>
struct value_traits {
    static_assert(!std::is_same_v<T, T>, "specialize sessionstore::value_traits for this type");
};

/** A callable that is kept and called later, also one that can only be moved; may be empty. */
template <class Signature>
class callback;

/** A callable that is kept and called later; see above. */
template <class R, class... Arguments>
class callback<R(Arguments...)> {
public:
    /** An empty one. */
    callback() noexcept = default;
    /** An empty one. */
    callback(std::nullptr_t) noexcept {}
    /** Keeps a callable: whatever can be called with these arguments. */
    template <class F, class Callable = std::decay_t<F>,
              class = std::enable_if_t<!std::is_same_v<Callable, callback> &&
                                       std::is_invocable_r_v<R, Callable&, Arguments...>>>
    callback(F&& call) {
        /* A null pointer to a function, or an empty std::function, is none. */
        if constexpr (std::is_constructible_v<bool, Callable&> && std::is_assignable_v<Callable&, std::nullptr_t>) {
            if (!static_cast<bool>(call)) return;
        }
        held_ = std::make_unique<holder<Callable>>(std::forward<F>(call));
    }
    /** Whether there is something to call. */
    explicit operator bool() const noexcept { return held_ != nullptr; }
    /** Calls it; it must not be empty. */
    R operator()(Arguments... arguments) { return held_->call(std::forward<Arguments>(arguments)...); }

private:
    struct base {
        base() = default;
        base(const base&) = delete;
        base& operator=(const base&) = delete;
        virtual ~base() = default;
        virtual R call(Arguments... arguments) = 0;
    };
    template <class Callable>
    struct holder final : base {
        template <class F>
        explicit holder(F&& own) : callable(std::forward<F>(own)) {}
        R call(Arguments... arguments) override { return callable(std::forward<Arguments>(arguments)...); }
        Callable callable;
    };
    std::unique_ptr<base> held_;
};

namespace detail {

template <class T, void (*Free)(T*)>
struct deleter {
    void operator()(T* handle) const noexcept { Free(handle); }
};

/* A handle of the C library that is freed once. */
template <class T, void (*Free)(T*)>
using owned = std::unique_ptr<T, deleter<T, Free>>;

/* A handle of the C library that is never changed, and so may be shared. */
template <class T, T* (*Retain)(const T*), void (*Free)(T*)>
class shared {
public:
    shared() noexcept = default;
    explicit shared(T* own) noexcept : handle_(own) {}
    static shared of(const T* borrowed) noexcept { return shared(Retain(borrowed)); }
    shared(const shared& other) noexcept : handle_(Retain(other.handle_)) {}
    shared(shared&& other) noexcept : handle_(std::exchange(other.handle_, nullptr)) {}
    shared& operator=(shared other) noexcept {
        std::swap(handle_, other.handle_);
        return *this;
    }
    ~shared() { Free(handle_); }
    const T* get() const noexcept { return handle_; }

private:
    T* handle_ = nullptr;
};

inline std::string_view view(const char* text, std::size_t length) noexcept {
    return text == nullptr ? std::string_view() : std::string_view(text, length);
}

inline std::uint32_t timeout(milliseconds time) noexcept {
    const auto count = time.count();
    if (count <= 0) return 0;
    constexpr auto most = std::numeric_limits<std::uint32_t>::max();
    return count > static_cast<std::int64_t>(most) ? most : static_cast<std::uint32_t>(count);
}

inline time_point time_of(std::uint64_t since_1970) noexcept {
    return time_point(milliseconds(static_cast<std::int64_t>(since_1970)));
}

}  // namespace detail

#ifdef SESSIONSTORE_EXCEPTIONS
/** What hears of exceptions. */
using exception_handler = std::function<void(std::exception_ptr)>;

namespace detail {
struct exception_place {
    std::mutex mutex;
    std::shared_ptr<exception_handler> handler;
};
/* Never destroyed, for callbacks may come while the program ends. */
inline exception_place& exceptions() {
    static auto* const place = new exception_place;
    return *place;
}
}  // namespace detail

/** Is given the exceptions that callbacks let out, on the thread of the callback, so at once on several threads where there
 * are several clients; what it throws itself is lost. May be set at any time, from any thread; by default, and after
 * nullptr, a sentence is written to stderr. */
inline void on_exception(exception_handler handler) {
    auto own = handler ? std::make_shared<exception_handler>(std::move(handler)) : nullptr;
    auto& place = detail::exceptions();
    const std::lock_guard<std::mutex> guard(place.mutex);
    /* The former one is destroyed after the guard: it may be anything. */
    std::swap(place.handler, own);
}
#endif

namespace detail {
/* Runs a callback; what it throws ends here. */
template <class F>
void guarded(F&& run) noexcept {
#ifdef SESSIONSTORE_EXCEPTIONS
    try {
        run();
    } catch (...) {
        try {
            auto& place = exceptions();
            std::unique_lock<std::mutex> guard(place.mutex);
            const auto handler = place.handler;
            guard.unlock();
            if (handler) (*handler)(std::current_exception());
            else std::fputs("sessionstore: a callback of this program let an exception out, which ended there\n", stderr);
        } catch (...) {
            /* A handler of exceptions that throws has nobody left to tell. */
        }
    }
#else
    run();
#endif
}
}  // namespace detail

/** A JSON value. */
class value {
public:
    /** null */
    value() noexcept = default;

    /** Any JSON text. Errors: `invalid_json`, `invalid_utf8`. */
    static result<value> parse(std::string_view text);

    /** What `value_traits` makes of it. */
    template <class T>
    static result<value> of(const T& from);

    /** What kind of JSON it is. */
    sessionstore::kind kind() const noexcept {
        return static_cast<sessionstore::kind>(sessionstore_value_kind(handle_.get()));
    }
    /** Whether it is null, which is an absent key. */
    bool is_null() const noexcept { return kind() == sessionstore::kind::null; }

    /** Compact JSON; lives as long as the value. */
    std::string_view json() const noexcept {
        if (handle_.get() == nullptr) return "null";
        std::size_t length = 0;
        const char* text = sessionstore_value_json(handle_.get(), &length);
        return detail::view(text, length);
    }

    /** As a T. Errors: `wrong_type`, and what `value_traits<T>` says. */
    template <class T>
    result<T> as() const;

    /** The handle of the C library, borrowed; NULL for null that was made here. */
    const sessionstore_value* handle() const noexcept { return handle_.get(); }
    /** Takes over a handle of the C library. */
    static value adopt(sessionstore_value* own) noexcept { return value(own); }
    /** Another reference to a handle of the C library. */
    static value retain(const sessionstore_value* borrowed) noexcept {
        return value(sessionstore_value_retain(borrowed));
    }
    /** Gives the handle away. */
    sessionstore_value* release() const noexcept {
        if (handle_.get() != nullptr) return sessionstore_value_retain(handle_.get());
        sessionstore_value* null = nullptr;
        sessionstore_value_from_json("null", 4, &null, nullptr);
        return null;
    }

private:
    explicit value(sessionstore_value* own) noexcept : handle_(own) {}
    detail::shared<sessionstore_value, sessionstore_value_retain, sessionstore_value_free> handle_;
};

/** The state of a key: what a listener is told, and what a request gives. */
class state {
public:
    /** The key; the texts live as long as this. */
    std::string_view key() const noexcept { return text(sessionstore_event_key); }
    /** The value as compact JSON; "null" when the key is absent. */
    std::string_view json() const noexcept { return text(sessionstore_event_json); }
    /** The value; null when the key is absent. */
    sessionstore::value value() const noexcept {
        return sessionstore::value::retain(sessionstore_event_value(handle_.get()));
    }
    /** Whether the key is there. */
    bool is_set() const noexcept {
        return sessionstore_value_kind(sessionstore_event_value(handle_.get())) != SESSIONSTORE_KIND_NULL;
    }
    /** The value as a T. Errors: `wrong_type`, and what `value_traits<T>` says. */
    template <class T>
    result<T> as() const;

    /** The revision of the store that wrote it; 0 for a key that was never set. */
    std::uint64_t version() const noexcept { return sessionstore_event_version(handle_.get()); }
    /** When it was written, by the server's clock. */
    time_point updated_at() const noexcept { return detail::time_of(sessionstore_event_updated_at(handle_.get())); }
    /** Why it is so. */
    sessionstore::cause cause() const noexcept {
        return static_cast<sessionstore::cause>(sessionstore_event_cause(handle_.get()));
    }
    /** When the key goes by itself. */
    std::optional<time_point> expires_at() const noexcept {
        const std::uint64_t time = sessionstore_event_expires_at(handle_.get());
        return time == 0 ? std::nullopt : std::optional<time_point>(detail::time_of(time));
    }
    /** Who wrote it, as it was then; empty for nobody, and for an operator, who is no peer but has a user id. */
    std::string_view author_peer_id() const noexcept { return text(sessionstore_event_author_peer_id); }
    /** The user id of who wrote it. */
    std::string_view author_user_id() const noexcept { return text(sessionstore_event_author_user_id); }
    /** The name of who wrote it, as it was then. */
    std::string_view author_name() const noexcept { return text(sessionstore_event_author_name); }
    /** How many older states of the key this one stands for, which the listener missed because it was slow. */
    std::uint64_t replaced() const noexcept { return sessionstore_event_replaced(handle_.get()); }
    /** Whether a listener was told it as a current value, before `on_snapshot_end`. */
    bool is_snapshot() const noexcept { return sessionstore_event_is_snapshot(handle_.get()) != 0; }

    /** The handle of the C library, borrowed. */
    const sessionstore_event* handle() const noexcept { return handle_.get(); }
    /** Takes over a handle of the C library. */
    static state adopt(sessionstore_event* own) noexcept { return state(own); }
    /** Another reference to a handle of the C library. */
    static state retain(const sessionstore_event* borrowed) noexcept {
        return state(sessionstore_event_retain(borrowed));
    }

private:
    explicit state(sessionstore_event* own) noexcept : handle_(own) {}
    template <class F>
    std::string_view text(F get) const noexcept {
        std::size_t length = 0;
        const char* found = get(handle_.get(), &length);
        return detail::view(found, length);
    }
    detail::shared<sessionstore_event, sessionstore_event_retain, sessionstore_event_free> handle_;
};

/** What went wrong: a code, a sentence for people without any value or secret in it, and what else is known. */
class error {
public:
    /** An error without more than what its code says. */
    explicit error(errc code) : error(code, std::string(advice_on(code))) {}
    /** An error with a sentence of its own, in which there is no value and no secret. */
    error(errc code, std::string message)
        : code_(code), message_(std::move(message)), retryable_(sessionstore::is_retryable(code)) {}

    /** What went wrong, for programs. */
    errc code() const noexcept { return code_; }
    /** The code's name in capitals. */
    std::string_view name() const noexcept { return name_of(code_); }
    /** A sentence for people: what happened and what to do. */
    const std::string& message() const noexcept { return message_; }
    /** Whether the same call may succeed later without being changed. */
    bool is_retryable() const noexcept { return retryable_; }
    /** How long to wait before that, where the server said so. */
    std::optional<milliseconds> retry_after() const noexcept { return retry_after_; }
    /** For `version_conflict` and `check_failed`, what the key holds now; for `lock_held`, the key that shows who holds
     * the lock. */
    const std::optional<state>& current() const noexcept { return current_; }
    /** Which check of a transaction failed, from 0. */
    std::optional<std::size_t> failed_check() const noexcept { return check_; }
    /** Which write of a transaction was refused, from 0. */
    std::optional<std::size_t> failed_write() const noexcept { return write_; }

    /** Copies what an error of the C library says; its owner frees it. */
    static error copy(const sessionstore_error* borrowed) {
        error own(static_cast<errc>(sessionstore_error_code(borrowed)), sessionstore_error_message(borrowed));
        own.retryable_ = sessionstore_error_is_retryable(borrowed) != 0;
        const std::int64_t time = sessionstore_error_retry_after_ms(borrowed);
        if (time >= 0) own.retry_after_ = milliseconds(time);
        if (const sessionstore_event* current = sessionstore_error_current(borrowed)) {
            own.current_ = state::retain(current);
        }
        const std::int32_t check = sessionstore_error_check(borrowed), write = sessionstore_error_write(borrowed);
        if (check >= 0) own.check_ = static_cast<std::size_t>(check);
        if (write >= 0) own.write_ = static_cast<std::size_t>(write);
        return own;
    }

private:
    errc code_;
    std::string message_;
    bool retryable_;
    std::optional<milliseconds> retry_after_;
    std::optional<state> current_;
    std::optional<std::size_t> check_;
    std::optional<std::size_t> write_;
};

#ifdef SESSIONSTORE_EXCEPTIONS
/** What `result::value` throws. */
class exception : public std::exception {
public:
    /** Throws this error. */
    explicit exception(sessionstore::error what) : error_(std::make_shared<sessionstore::error>(std::move(what))) {}
    /** The error's sentence. */
    const char* what() const noexcept override { return error_->message().c_str(); }
    /** The error; lives as long as the exception. */
    const sessionstore::error& error() const noexcept { return *error_; }

private:
    /** Copying an exception must not throw. */
    std::shared_ptr<sessionstore::error> error_;
};
#endif

namespace detail {
[[noreturn]] inline void fail(const error& what) {
#ifdef SESSIONSTORE_EXCEPTIONS
    throw exception(what);
#else
    std::fprintf(stderr, "sessionstore: %.*s: %s\n", static_cast<int>(what.name().size()), what.name().data(),
                 what.message().c_str());
    std::abort();
#endif
}
}  // namespace detail

/** A value, or why there is none. */
template <class T>
class [[nodiscard]] result {
public:
    /** There is a value. */
    result(T value) : held_(std::in_place_index<0>, std::move(value)) {}
    /** There is none, for this reason. */
    result(sessionstore::error why) : held_(std::in_place_index<1>, std::move(why)) {}

    /** Whether it succeeded. */
    bool has_value() const noexcept { return held_.index() == 0; }
    /** Whether it succeeded. */
    explicit operator bool() const noexcept { return has_value(); }

    /** The value; throws `exception` when there is none, and where exceptions are off says why and aborts. */
    T& value() & {
        check();
        return *std::get_if<0>(&held_);
    }
    /** The same. */
    const T& value() const& {
        check();
        return *std::get_if<0>(&held_);
    }
    /** The same, moved out. */
    T value() && {
        check();
        return std::move(*std::get_if<0>(&held_));
    }
    /** The value, or else another. */
    template <class U>
    T value_or(U&& other) && {
        return has_value() ? std::move(*std::get_if<0>(&held_)) : static_cast<T>(std::forward<U>(other));
    }

    /** The value, which must be there. */
    T& operator*() & noexcept { return *std::get_if<0>(&held_); }
    /** The same. */
    const T& operator*() const& noexcept { return *std::get_if<0>(&held_); }
    /** The same, to be moved. */
    T&& operator*() && noexcept { return std::move(*std::get_if<0>(&held_)); }
    /** The same. */
    T* operator->() noexcept { return std::get_if<0>(&held_); }
    /** The same. */
    const T* operator->() const noexcept { return std::get_if<0>(&held_); }

    /** Why there is no value, which must be so. */
    const sessionstore::error& error() const noexcept { return *std::get_if<1>(&held_); }
    /** The code: `ok` if there is a value. */
    errc code() const noexcept { return has_value() ? errc::ok : error().code(); }

private:
    void check() const {
        if (!has_value()) detail::fail(error());
    }
    std::variant<T, sessionstore::error> held_;
};

/** Success, or why not. */
template <>
class [[nodiscard]] result<void> {
public:
    /** Success. */
    result() noexcept = default;
    /** There is none, for this reason. */
    result(sessionstore::error why) : error_(std::move(why)) {}
    /** Whether it succeeded. */
    bool has_value() const noexcept { return !error_; }
    /** Whether it succeeded. */
    explicit operator bool() const noexcept { return has_value(); }
    /** Throws, or aborts, as that of other results. */
    void value() const {
        if (error_) detail::fail(*error_);
    }
    /** Why it failed, which it must have. */
    const sessionstore::error& error() const noexcept { return *error_; }
    /** The code: `ok` for success. */
    errc code() const noexcept { return error_ ? error_->code() : errc::ok; }

private:
    std::optional<sessionstore::error> error_;
};

namespace detail {

/* An error object of a call, and what it makes of the call's code. */
class failure {
public:
    failure() noexcept = default;
    failure(const failure&) = delete;
    failure& operator=(const failure&) = delete;
    ~failure() { sessionstore_error_free(object_); }
    sessionstore_error** out() noexcept { return &object_; }
    error take(std::int32_t code) const {
        return object_ != nullptr ? error::copy(object_) : error(static_cast<errc>(code));
    }
    result<void> done(std::int32_t code) const {
        return code == SESSIONSTORE_OK ? result<void>() : result<void>(take(code));
    }

private:
    sessionstore_error* object_ = nullptr;
};

}  // namespace detail

/** JSON that you have as text. */
struct json_text {
    /** Any JSON; it is checked when it is used. */
    std::string json;
};

inline result<value> value::parse(std::string_view text) {
    sessionstore_value* own = nullptr;
    detail::failure failed;
    const std::int32_t code = sessionstore_value_from_json(text.data(), text.size(), &own, failed.out());
    if (code != SESSIONSTORE_OK) return failed.take(code);
    return value(own);
}

template <class T>
result<value> value::of(const T& from) {
    return value_traits<T>::to(from);
}

template <class T>
result<T> value::as() const {
    return value_traits<T>::from(*this);
}

template <class T>
result<T> state::as() const {
    return value().template as<T>();
}

template <>
struct value_traits<value> {
    static result<value> to(const value& from) { return from; }
    static result<value> from(const value& from) { return from; }
};

template <>
struct value_traits<json_text> {
    static result<value> to(const json_text& from) { return value::parse(from.json); }
    static result<json_text> from(const value& from) { return json_text{std::string(from.json())}; }
};

template <>
struct value_traits<std::nullptr_t> {
    static result<value> to(std::nullptr_t) { return value(); }
    static result<std::nullptr_t> from(const value& from) {
        if (!from.is_null()) return error(errc::wrong_type);
        return nullptr;
    }
};

template <>
struct value_traits<bool> {
    static result<value> to(bool from) {
        sessionstore_value* own = nullptr;
        detail::failure failed;
        const std::int32_t code = sessionstore_value_from_boolean(from ? 1 : 0, &own, failed.out());
        if (code != SESSIONSTORE_OK) return failed.take(code);
        return value::adopt(own);
    }
    static result<bool> from(const value& from) {
        if (from.kind() != kind::boolean) return error(errc::wrong_type);
        std::int32_t boolean = 0;
        detail::failure failed;
        const std::int32_t code = sessionstore_value_get_boolean(from.handle(), &boolean, failed.out());
        if (code != SESSIONSTORE_OK) return failed.take(code);
        return boolean != 0;
    }
};

namespace detail {
/* A character is no number: it would be stored as its code. */
template <class T>
inline constexpr bool is_character = std::is_same_v<T, char> || std::is_same_v<T, wchar_t> ||
#ifdef __cpp_char8_t
                                     std::is_same_v<T, char8_t> ||
#endif
                                     std::is_same_v<T, char16_t> || std::is_same_v<T, char32_t>;
}  // namespace detail

/** Integers of any size, but for characters; what does not fit is refused, never another number: `invalid_argument` where it
 * is set, `wrong_type` where it is read. */
template <class T>
struct value_traits<T, std::enable_if_t<std::is_integral_v<T> && !std::is_same_v<T, bool> && !detail::is_character<T>>> {
    static result<value> to(T from) {
        const auto sent = static_cast<std::int64_t>(from);
        bool is_negative = false;
        if constexpr (std::is_signed_v<T>) is_negative = from < 0;
        if (static_cast<T>(sent) != from || (sent < 0) != is_negative) {
            return error(errc::invalid_argument, "an integer is larger than 64 bits with a sign can hold");
        }
        sessionstore_value* own = nullptr;
        detail::failure failed;
        const std::int32_t code = sessionstore_value_from_integer(sent, &own, failed.out());
        if (code != SESSIONSTORE_OK) return failed.take(code);
        return value::adopt(own);
    }
    static result<T> from(const value& from) {
        if (from.kind() != kind::integer) return error(errc::wrong_type);
        std::int64_t integer = 0;
        detail::failure failed;
        const std::int32_t code = sessionstore_value_get_integer(from.handle(), &integer, failed.out());
        if (code != SESSIONSTORE_OK) return failed.take(code);
        const T fits = static_cast<T>(integer);
        if (static_cast<std::int64_t>(fits) != integer || (std::is_unsigned_v<T> && integer < 0)) {
            return error(errc::wrong_type, "the integer does not fit into the type asked for");
        }
        return fits;
    }
};

/** Numbers, as the nearest there is. Errors: `invalid_argument` for NaN and the infinities, which JSON cannot say. */
template <class T>
struct value_traits<T, std::enable_if_t<std::is_floating_point_v<T>>> {
    static result<value> to(T from) {
        sessionstore_value* own = nullptr;
        detail::failure failed;
        const std::int32_t code = sessionstore_value_from_number(static_cast<double>(from), &own, failed.out());
        if (code != SESSIONSTORE_OK) return failed.take(code);
        return value::adopt(own);
    }
    static result<T> from(const value& from) {
        if (from.kind() != kind::number && from.kind() != kind::integer) return error(errc::wrong_type);
        double number = 0;
        detail::failure failed;
        const std::int32_t code = sessionstore_value_get_number(from.handle(), &number, failed.out());
        if (code != SESSIONSTORE_OK) return failed.take(code);
        if (std::abs(number) > static_cast<long double>(std::numeric_limits<T>::max())) {
            return error(errc::wrong_type, "the number does not fit into the type asked for");
        }
        return static_cast<T>(number);
    }
};

template <>
struct value_traits<std::string_view> {
    static result<value> to(std::string_view from) {
        sessionstore_value* own = nullptr;
        detail::failure failed;
        const std::int32_t code = sessionstore_value_from_string(from.data(), from.size(), &own, failed.out());
        if (code != SESSIONSTORE_OK) return failed.take(code);
        return value::adopt(own);
    }
};

template <>
struct value_traits<std::string> {
    static result<value> to(const std::string& from) { return value_traits<std::string_view>::to(from); }
    static result<std::string> from(const value& from) {
        if (from.kind() != kind::string) return error(errc::wrong_type);
        const char* text = nullptr;
        std::size_t length = 0;
        detail::failure failed;
        const std::int32_t code = sessionstore_value_get_string(from.handle(), &text, &length, failed.out());
        if (code != SESSIONSTORE_OK) return failed.take(code);
        return std::string(text, length);
    }
};

/** Texts between quotes in a program. */
template <std::size_t N>
struct value_traits<char[N]> {
    static result<value> to(const char (&from)[N]) { return value_traits<std::string_view>::to(from); }
};

template <>
struct value_traits<const char*> {
    static result<value> to(const char* from) {
        if (from == nullptr) return error(errc::null_argument);
        return value_traits<std::string_view>::to(from);
    }
};

template <>
struct value_traits<char*> : value_traits<const char*> {};

/** Nothing stands for null, which is an absent key. */
template <class T>
struct value_traits<std::optional<T>> {
    static result<value> to(const std::optional<T>& from) { return from ? value_traits<T>::to(*from) : value(); }
    static result<std::optional<T>> from(const value& from) {
        if (from.is_null()) return std::optional<T>();
        auto inner = value_traits<T>::from(from);
        if (!inner) return inner.error();
        return std::optional<T>(*std::move(inner));
    }
};

namespace detail {
/* Whether a type is one of nlohmann's, known by its members, so that the order of includes makes no difference. */
template <class T, class = void>
inline constexpr bool is_nlohmann = false;
template <class T>
inline constexpr bool is_nlohmann<
    T, std::void_t<typename T::error_handler_t, typename T::json_pointer, typename T::initializer_list_t>> = true;
}  // namespace detail

/** `nlohmann::json`, and every other `nlohmann::basic_json`. Errors: `invalid_argument` for what nlohmann would write as null
 * or as something else, namely NaN, the infinities and binary data; `invalid_utf8`. */
template <class T>
struct value_traits<T, std::enable_if_t<detail::is_nlohmann<T>>> {
    static result<value> to(const T& from) {
        if (!is_said(from)) return error(errc::invalid_argument, "a number that is none, or binary data, is no JSON");
        using handler = typename T::error_handler_t;
        const auto text = from.dump(-1, ' ', false, handler::replace);
        /* What is not UTF-8 is refused, not changed; asked so because without exceptions dump() would abort. */
        if (text != from.dump(-1, ' ', false, handler::ignore)) return error(errc::invalid_utf8);
        return value::parse(text);
    }
    static result<T> from(const value& from) {
        T parsed = T::parse(from.json(), nullptr, false);
        if (parsed.is_discarded()) return error(errc::wrong_type, "a number does not fit into the type asked for");
        return parsed;
    }

private:
    static bool is_said(const T& from) {
        if (from.is_number_float()) return std::isfinite(from.template get<typename T::number_float_t>());
        if (from.is_binary() || from.is_discarded()) return false;
        if (!from.is_structured()) return true;
        for (const T& inner : from) {
            if (!is_said(inner)) return false;
        }
        return true;
    }
};

/** Several states at one revision. */
struct snapshot {
    /** The revision of the store at which they hold. */
    std::uint64_t revision = 0;
    /** The states, in the order asked for. */
    std::vector<state> states;
};

/** How much of its limits a store uses. */
struct usage {
    /** The store's revision: how many times it has changed. */
    std::uint64_t revision = 0;
    /** Keys that are set. */
    std::uint64_t keys = 0;
    /** The most there may be. */
    std::uint64_t max_keys = 0;
    /** Bytes of keys and values together. */
    std::uint64_t bytes = 0;
    /** The most there may be. */
    std::uint64_t max_bytes = 0;
    /** The most bytes of one value. */
    std::uint64_t max_value_bytes = 0;
};

/** One participant. */
class peer {
public:
    /** Its id, unique in the room; the texts live as long as this. */
    std::string_view id() const noexcept { return text(sessionstore_peer_id); }
    /** How it is shown to others. */
    std::string_view name() const noexcept { return text(sessionstore_peer_name); }
    /** Its role, which rules go by. */
    std::string_view role() const noexcept { return text(sessionstore_peer_role); }
    /** The id of its user, of whom there may be several peers. */
    std::string_view user_id() const noexcept { return text(sessionstore_peer_user_id); }
    /** Its metadata, any text. */
    std::string_view metadata() const noexcept { return text(sessionstore_peer_metadata); }
    /** When it joined, by the server's clock. */
    time_point joined_at() const noexcept { return detail::time_of(sessionstore_peer_joined_at(handle_.get())); }

    /** Another reference to a handle of the C library. */
    static peer retain(const sessionstore_peer* borrowed) noexcept { return peer(sessionstore_peer_retain(borrowed)); }

private:
    explicit peer(sessionstore_peer* own) noexcept : handle_(own) {}
    template <class F>
    std::string_view text(F get) const noexcept {
        std::size_t length = 0;
        const char* found = get(handle_.get(), &length);
        return detail::view(found, length);
    }
    detail::shared<sessionstore_peer, sessionstore_peer_retain, sessionstore_peer_free> handle_;
};

/** A lock of the room that this peer holds until it is released, lost, or its last handle is destroyed. */
class lock {
public:
    /** The name it was taken by; lives as long as the lock. */
    std::string_view name() const noexcept {
        std::size_t length = 0;
        const char* text = sessionstore_lock_name(handle_.get(), &length);
        return detail::view(text, length);
    }
    /** The fencing token of this grant: larger than that of every grant before it in the session. */
    std::uint64_t token() const noexcept { return sessionstore_lock_token(handle_.get()); }
    /** As far as this client knows. */
    bool is_held() const noexcept { return sessionstore_lock_is_held(handle_.get()) != 0; }
    /** Gives the lock up. Errors: `lock_lost`. */
    action<void> release() const;
    /** Another handle of the same lock. */
    lock share() const noexcept { return lock(sessionstore_lock_retain(handle_.get())); }

    /** The handle of the C library, borrowed. */
    const sessionstore_lock* handle() const noexcept { return handle_.get(); }
    /** Takes over a handle of the C library. */
    static lock adopt(sessionstore_lock* own) noexcept { return lock(own); }

private:
    explicit lock(sessionstore_lock* own) noexcept : handle_(own) {}
    detail::owned<sessionstore_lock, sessionstore_lock_free> handle_;
};

namespace detail {

/* How the C library tells the end of a request that gives a T: by which struct, and what of it becomes the T. */
template <class T>
struct delivery;

template <>
struct delivery<state> {
    using c_result = sessionstore_action_result;
    using c_told = sessionstore_event;
    static c_result begin() noexcept { return SESSIONSTORE_ACTION_RESULT_INIT; }
    static state copy(const c_told* told) { return state::retain(told); }
};

template <>
struct delivery<void> {
    using c_result = sessionstore_action_result;
    using c_told = sessionstore_event;
    static c_result begin() noexcept { return SESSIONSTORE_ACTION_RESULT_INIT; }
};

template <>
struct delivery<snapshot> {
    using c_result = sessionstore_event_list_result;
    using c_told = sessionstore_event_list;
    static c_result begin() noexcept { return SESSIONSTORE_EVENT_LIST_RESULT_INIT; }
    static snapshot copy(const c_told* told) {
        snapshot own;
        own.revision = sessionstore_event_list_revision(told);
        const std::size_t count = sessionstore_event_list_count(told);
        own.states.reserve(count);
        for (std::size_t nth = 0; nth < count; nth++) {
            own.states.push_back(state::retain(sessionstore_event_list_get(told, nth)));
        }
        return own;
    }
};

template <>
struct delivery<std::vector<std::string>> {
    using c_result = sessionstore_key_list_result;
    using c_told = sessionstore_key_list;
    static c_result begin() noexcept { return SESSIONSTORE_KEY_LIST_RESULT_INIT; }
    static std::vector<std::string> copy(const c_told* told) {
        std::vector<std::string> own;
        const std::size_t count = sessionstore_key_list_count(told);
        own.reserve(count);
        for (std::size_t nth = 0; nth < count; nth++) {
            std::size_t length = 0;
            const char* key = sessionstore_key_list_get(told, nth, &length);
            own.emplace_back(key, length);
        }
        return own;
    }
};

template <>
struct delivery<usage> {
    using c_result = sessionstore_usage_result;
    using c_told = sessionstore_usage;
    static c_result begin() noexcept { return SESSIONSTORE_USAGE_RESULT_INIT; }
    static usage copy(const c_told* told) noexcept {
        usage own;
        own.revision = told->revision;
        own.keys = told->keys;
        own.max_keys = told->max_keys;
        own.bytes = told->bytes;
        own.max_bytes = told->max_bytes;
        own.max_value_bytes = told->max_value_bytes;
        return own;
    }
};

template <>
struct delivery<lock> {
    using c_result = sessionstore_lock_result;
    using c_told = sessionstore_lock;
    static c_result begin() noexcept { return SESSIONSTORE_LOCK_RESULT_INIT; }
    static lock copy(const c_told* told) noexcept { return lock::adopt(sessionstore_lock_retain(told)); }
};

/* A callable that the library keeps: made here, destroyed by `drop`. */
template <class F>
void drop(void* ctx) {
    guarded([&] { delete static_cast<F*>(ctx); });
}

template <class T, class F>
void tell(void* ctx, const sessionstore_error* error_told, const typename delivery<T>::c_told* told) {
    guarded([&] {
        F& call = *static_cast<F*>(ctx);
        if (error_told != nullptr) {
            call(result<T>(error::copy(error_told)));
        } else if constexpr (std::is_void_v<T>) {
            call(result<void>());
        } else {
            call(result<T>(delivery<T>::copy(told)));
        }
    });
}

/* A request that was not sent yet: how it is begun with a struct that hears of its end, and how it is waited for. */
template <class T>
struct request {
    callback<std::int32_t(const typename delivery<T>::c_result*, sessionstore_error**)> begin;
    callback<result<T>(std::uint32_t)> wait;
};

}  // namespace detail

/** Takes back the requests that it was given to with `action::cancelled_by`: any number of them, of any clients. Copies
 * are the same one; destroying them cancels nothing. It may be used from any thread. */
class cancellation {
public:
    /** A new one. If it cannot be made, `cancel` and the requests that it is given to say why. */
    cancellation() {
        sessionstore_cancellation* own = nullptr;
        detail::failure failed;
        const std::int32_t code = sessionstore_cancellation_new(&own, failed.out());
        handle_.reset(own, sessionstore_cancellation_free);
        if (code != SESSIONSTORE_OK) error_ = failed.take(code);
    }
    /** The same one. There is no other move: one that was moved from would cancel nothing. */
    cancellation(const cancellation&) = default;
    /** The same. */
    cancellation& operator=(const cancellation&) = default;

    /** Takes back what can be taken back, for good, and returns at once. Each such request ends with `errc::cancelled`,
     * told as any result: it has changed nothing and will not. That is one that was not sent yet, as all are while there
     * is no connection; one that only asks; an update between two attempts; a wait for a lock. A change that was sent
     * goes on, as `client::leave` and `lock::release` do, and its result comes as ever. Requests that are given it from
     * now on are refused. Cancelling again does nothing. Allowed in callbacks. */
    result<void> cancel() const {
        if (error_) return *error_;
        detail::failure failed;
        return failed.done(sessionstore_cancellation_cancel(handle_.get(), failed.out()));
    }
    /** Whether it was cancelled. */
    bool is_cancelled() const noexcept { return sessionstore_cancellation_is_cancelled(handle_.get()) != 0; }

private:
    template <class>
    friend class action;
    /** Shared with its copies and with the actions that it was given to. */
    std::shared_ptr<sessionstore_cancellation> handle_;
    std::optional<error> error_;
};

/** A request that is sent by how you want to hear of its end, but for waiting for it: what an `action` becomes by
 * `action::cancelled_by`. */
template <class T>
class [[nodiscard]] async_action {
public:
    /** Moved, not copied. */
    async_action(async_action&&) noexcept = default;
    /** What this was before is destroyed. */
    async_action& operator=(async_action&&) noexcept = default;

    /** Sends it; `told` is called with a `result<T>` when it has ended, unless this call fails: then never. */
    template <class F>
    result<void> then(F&& told) && {
        using callable = std::decay_t<F>;
        if (error_) return *error_;
        auto box = std::make_unique<callable>(std::forward<F>(told));
        auto c_result = detail::delivery<T>::begin();
        c_result.ctx = box.get();
        c_result.on_drop = detail::drop<callable>;
        c_result.on_result = detail::tell<T, callable>;
        detail::failure failed;
        const std::int32_t code = begin(c_result, failed);
        /* The library's since the call, whatever came of it; ours only if memory ran out before. */
        static_cast<void>(box.release());
        return failed.done(code);
    }

    /** Sends it, and does not hear of its end. */
    result<void> send() && {
        if (error_) return *error_;
        detail::failure failed;
        return failed.done(begin(detail::delivery<T>::begin(), failed));
    }

    /** Sends it. The future is always made ready: also when the client goes. It is made so by a dispatch thread: waiting for
     * it inside a callback, or in poll mode on the thread that polls, waits for ever. */
    std::future<result<T>> future() && {
        auto promise = std::make_shared<std::promise<result<T>>>();
        auto own = promise->get_future();
        result<void> sent = std::move(*this).then([promise](result<T> outcome) { promise->set_value(std::move(outcome)); });
        if (!sent) promise->set_value(sent.error());
        return own;
    }

#ifdef SESSIONSTORE_COROUTINES
    /** Sends it and goes on when it has ended, on a dispatch thread of the library, where nothing may wait. */
    auto operator co_await() && {
        struct awaiter {
            async_action own;
            std::optional<result<T>> outcome;
            bool await_ready() const noexcept { return false; }
#ifdef __clang__
            /* Before version 17 it would keep the variables of this in the coroutine, which may be gone. */
            [[gnu::noinline]]
#endif
            bool await_suspend(std::coroutine_handle<> waiting) {
                /* Once it is sent, the coroutine, and this in it, may be gone at any moment. */
                async_action sending = std::move(own);
                auto& place = outcome;
                result<void> sent = std::move(sending).then([waiting, &place](result<T> ended) {
                    place.emplace(std::move(ended));
                    waiting.resume();
                });
                if (sent) return true;
                place.emplace(sent.error());
                return false;
            }
            result<T> await_resume() { return *std::move(outcome); }
        };
        return awaiter{std::move(*this), std::nullopt};
    }
#endif

private:
    friend class action<T>;
    explicit async_action(detail::request<T> request) noexcept : request_(std::move(request)) {}
    explicit async_action(error why) : error_(std::move(why)) {}

    std::int32_t begin(typename detail::delivery<T>::c_result told, detail::failure& failed) {
        told.cancellation = cancellation_.get();
        return request_.begin(&told, failed.out());
    }

    detail::request<T> request_;
    std::optional<error> error_;
    /** What takes it back, if anything: kept until it is sent, after which the library needs it no more. */
    std::shared_ptr<sessionstore_cancellation> cancellation_;
};

/** A request that is sent by how you want to hear of its end; see "Requests" above. */
template <class T>
class [[nodiscard]] action : public async_action<T> {
public:
    /** Sends it and waits. Not inside a callback: `would_deadlock`. */
    result<T> wait(milliseconds time = default_wait) && {
        if (this->error_) return *this->error_;
        return this->request_.wait(detail::timeout(time));
    }

    /** The same request, which `by` takes back when it is cancelled, as `cancellation::cancel` says; if it was before,
     * nothing is sent: `errc::cancelled`. A `wait` cannot be taken back, so there is none: wait for its `future`. */
    async_action<T> cancelled_by(const cancellation& by) && {
        this->cancellation_ = by.handle_;
        if (by.error_ && !this->error_) this->error_ = by.error_;
        return std::move(*this);
    }

    /** A request that can be made. */
    explicit action(detail::request<T> request) noexcept : async_action<T>(std::move(request)) {}
    /** A request that cannot be made: every way of sending it says why. */
    explicit action(error why) : async_action<T>(std::move(why)) {}
};

namespace detail {

/* A request whose `_wait` gives no object. */
template <class Begin, class Wait>
action<void> plain(Begin begin, Wait wait) {
    request<void> own;
    own.begin = std::move(begin);
    own.wait = [wait = std::move(wait)](std::uint32_t time) -> result<void> {
        failure failed;
        return failed.done(wait(time, failed.out()));
    };
    return action<void>(std::move(own));
}

/* A request whose `_wait` gives a handle, which `Free` frees after it was copied from. */
template <class T, auto Free, class Begin, class Wait>
action<T> giving(Begin begin, Wait wait) {
    request<T> own;
    own.begin = std::move(begin);
    own.wait = [wait = std::move(wait)](std::uint32_t time) -> result<T> {
        typename delivery<T>::c_told* told = nullptr;
        failure failed;
        const std::int32_t code = wait(time, &told, failed.out());
        if (code != SESSIONSTORE_OK) return failed.take(code);
        const owned<typename delivery<T>::c_told, Free> freed(told);
        return delivery<T>::copy(told);
    };
    return action<T>(std::move(own));
}

}  // namespace detail

inline action<void> lock::release() const {
    /* Kept alive by the request. */
    auto own = std::make_shared<lock>(share());
    return detail::plain(
        [own](const sessionstore_action_result* told, sessionstore_error** out) {
            return sessionstore_lock_release(own->handle(), told, out);
        },
        [own](std::uint32_t time, sessionstore_error** out) {
            return sessionstore_lock_release_wait(own->handle(), time, out);
        });
}

/** On which condition a key is written, and how long it stays. What is not said: after a set it stays for good, after any
 * other operation as long as before. */
struct write_options {
    /** Only if the key has this version; 0: if it is absent. Otherwise `version_conflict`. */
    std::optional<std::uint64_t> if_version;
    /** After how long the key goes by itself, 1 ms to a year. */
    std::optional<milliseconds> ttl;
    /** The key goes when it would have gone before this write. */
    bool keep_expiry = false;
    /** The key does not go by itself. */
    bool never_expires = false;
    /** Whether the key goes with the peer that writes it. */
    std::optional<bool> bound;
    /** With `operation::append`: the most values the array may have afterwards. */
    std::optional<std::uint64_t> cap;
    /** A lock that must be held, otherwise `lock_lost`; borrowed until the call that takes these options returns. In a
     * transaction it is a check instead. */
    const sessionstore::lock* lock = nullptr;
};

/** How a lock is taken. */
struct lock_options {
    /** How long it outlives its last renewal, 1 s to 5 min. Default: 15 s. */
    std::optional<milliseconds> ttl;
    /** How long to wait behind those who came before, at most 5 min. Default: `lock_held` at once. */
    std::optional<milliseconds> wait;
};

/** Which keys: single ones, those that begin with a text, or all. */
struct selector {
    /** Single keys, absent ones too. */
    std::vector<std::string> keys;
    /** Every key that begins with one of these. */
    std::vector<std::string> prefixes;
    /** All keys. */
    bool all = false;

    /** No keys yet. */
    selector() = default;
    /** Single keys. */
    selector(std::initializer_list<std::string> single) : keys(single) {}
    /** Single keys. */
    explicit selector(std::vector<std::string> single) : keys(std::move(single)) {}
    /** All keys that begin with a text. */
    static selector prefix(std::string text) {
        selector own;
        own.prefixes.push_back(std::move(text));
        return own;
    }
    /** All keys. */
    static selector everything() {
        selector own;
        own.all = true;
        return own;
    }
};

/** Hears of changes of keys; what is empty is not called. A callable that takes a `const state&` is one. */
struct key_change_listener {
    /** A key has this state: first the current value of each key, then each change, this peer's own included. */
    callback<void(const state&)> on_key_changed;
    /** All current values were given. */
    callback<void()> on_snapshot_end;
    /** The server refused to listen to these keys; this is the last call. */
    callback<void(const error&)> on_refused;

    /** One that hears nothing yet. */
    key_change_listener() = default;
    /** One that hears of changes only. */
    template <class F, class = std::enable_if_t<std::is_invocable_v<F&, const state&>>>
    key_change_listener(F&& changed) : on_key_changed(std::forward<F>(changed)) {}
};

/** A listener that listens until this is destroyed, which asks it to stop and waits for nothing. */
class [[nodiscard]] subscription {
public:
    /** Asks the listener to stop, and returns at once. A call that is running goes on; none begins after it. */
    result<void> cancel() const {
        detail::failure failed;
        return failed.done(sessionstore_subscription_cancel(handle_.get(), failed.out()));
    }
    /** Stops it and returns when the listener was destroyed. Errors: `would_deadlock` inside a callback, `timeout`; it is
     * stopping nevertheless. */
    result<void> cancel_wait(milliseconds time = default_wait) const {
        detail::failure failed;
        return failed.done(sessionstore_subscription_cancel_wait(handle_.get(), detail::timeout(time), failed.out()));
    }

private:
    friend class store;
    explicit subscription(sessionstore_subscription* own) noexcept : handle_(own) {}
    detail::owned<sessionstore_subscription, sessionstore_subscription_free> handle_;
};

namespace detail {

/* Reads options into the structs of the C library, where 0 and NULL stand for the default, and remembers the first that
 * cannot be said there: what was asked for is never quietly something else. */
class option_reader {
public:
    /* Lives as long as the text. */
    const char* text(const char* name, const std::string& from) {
        if (from.find('\0') != std::string::npos) refuse(name, " has a NUL within");
        return from.empty() ? nullptr : from.c_str();
    }
    /* `zero` is what says 0 ms, where that has a meaning. */
    std::uint32_t time(const char* name, std::optional<milliseconds> from, std::optional<std::uint32_t> zero = {}) {
        if (!from) return 0;
        if (from->count() == 0 && zero) return *zero;
        if (from->count() <= 0) refuse(name, zero ? " is below 0 ms" : " is not above 0 ms");
        /* The largest number means something else there; nobody sees the difference after 49 days. */
        return std::min(timeout(*from), std::numeric_limits<std::uint32_t>::max() - 1);
    }
    const std::optional<error>& wrong() const noexcept { return wrong_; }

private:
    void refuse(const char* name, const char* why) {
        if (!wrong_) wrong_ = error(errc::invalid_argument, std::string(name) + why);
    }
    std::optional<error> wrong_;
};

/* Write options as the C library has them, with what they point to. */
class c_write_options {
public:
    explicit c_write_options(const write_options& from) {
        if (from.if_version) {
            options_.flags |= std::uint32_t{SESSIONSTORE_WRITE_IF_VERSION};
            options_.if_version = *from.if_version;
        }
        /* 0 stands for nothing said there: a time, or a cap, of 0 is not the same. */
        if (from.ttl && from.ttl->count() <= 0) wrong_ = error(errc::invalid_argument, "ttl is not above 0 ms");
        if (from.cap && *from.cap == 0) wrong_ = error(errc::invalid_argument, "cap is 0, for which there is `remove`");
        if (from.ttl) options_.ttl_ms = static_cast<std::uint64_t>(from.ttl->count());
        if (from.keep_expiry) options_.flags |= std::uint32_t{SESSIONSTORE_WRITE_KEEP_EXPIRY};
        if (from.never_expires) options_.flags |= std::uint32_t{SESSIONSTORE_WRITE_NEVER_EXPIRES};
        if (from.bound == true) options_.flags |= std::uint32_t{SESSIONSTORE_WRITE_BOUND};
        if (from.bound == false) options_.flags |= std::uint32_t{SESSIONSTORE_WRITE_UNBOUND};
        if (from.cap) options_.cap = *from.cap;
        if (from.lock == nullptr) return;
        lock_ = std::make_shared<lock>(from.lock->share());
        options_.lock = lock_->handle();
    }
    const sessionstore_write_options* get() const noexcept { return &options_; }
    /* What cannot be said, if anything. */
    const std::optional<error>& wrong() const noexcept { return wrong_; }

private:
    sessionstore_write_options options_ = SESSIONSTORE_WRITE_OPTIONS_INIT;
    std::optional<error> wrong_;
    std::shared_ptr<lock> lock_;
};

/* A selector as the C library has it; points into the one it is made of. */
class c_selector {
public:
    explicit c_selector(const selector& from) {
        fill(from.keys, keys_, key_lengths_);
        fill(from.prefixes, prefixes_, prefix_lengths_);
        selector_.keys = keys_.data();
        selector_.key_lens = key_lengths_.data();
        selector_.key_count = keys_.size();
        selector_.prefixes = prefixes_.data();
        selector_.prefix_lens = prefix_lengths_.data();
        selector_.prefix_count = prefixes_.size();
        if (from.all) selector_.flags = std::uint32_t{SESSIONSTORE_SELECT_ALL};
    }
    c_selector(const c_selector&) = delete;
    c_selector& operator=(const c_selector&) = delete;
    const sessionstore_selector* get() const noexcept { return &selector_; }

private:
    static void fill(const std::vector<std::string>& from, std::vector<const char*>& texts,
                     std::vector<std::size_t>& lengths) {
        for (const std::string& text : from) {
            texts.push_back(text.data());
            lengths.push_back(text.size());
        }
    }
    sessionstore_selector selector_ = SESSIONSTORE_SELECTOR_INIT;
    std::vector<const char*> keys_, prefixes_;
    std::vector<std::size_t> key_lengths_, prefix_lengths_;
};

inline sessionstore_key_change_listener c_listener(key_change_listener from) {
    sessionstore_key_change_listener own = SESSIONSTORE_KEY_CHANGE_LISTENER_INIT;
    own.ctx = new key_change_listener(std::move(from));
    own.on_drop = drop<key_change_listener>;
    own.on_key_changed = [](void* ctx, const sessionstore_event* event) {
        auto& call = static_cast<key_change_listener*>(ctx)->on_key_changed;
        if (call) guarded([&] { call(state::retain(event)); });
    };
    own.on_snapshot_end = [](void* ctx) {
        auto& call = static_cast<key_change_listener*>(ctx)->on_snapshot_end;
        if (call) guarded([&] { call(); });
    };
    own.on_refused = [](void* ctx, const sessionstore_error* refused) {
        auto& call = static_cast<key_change_listener*>(ctx)->on_refused;
        if (call) guarded([&] { call(error::copy(refused)); });
    };
    return own;
}

}  // namespace detail

/** Checks and writes that are made together, in one revision, or not at all.
 *
 *     sessionstore::transaction turn;
 *     turn.check_equals("turn", "x").set("board/4", "x").set("turn", "o");
 *     store.transact(turn).wait();
 *
 * What cannot be added is refused when the transaction is sent. */
class transaction {
public:
    /** An empty one. */
    transaction() {
        sessionstore_transaction* own = nullptr;
        add([&](sessionstore_error** out) { return sessionstore_transaction_new(&own, out); });
        handle_.reset(own, sessionstore_transaction_free);
    }
    /** Moved, not copied. */
    transaction(transaction&&) noexcept = default;
    /** What this was before is destroyed. */
    transaction& operator=(transaction&&) noexcept = default;

    /** The key has this version; 0: it is absent. */
    transaction& check_version(std::string_view key, std::uint64_t version) {
        return add([&](sessionstore_error** out) {
            return sessionstore_transaction_check_version(handle_.get(), key.data(), key.size(), version, out);
        });
    }
    /** The key is set. */
    transaction& check_exists(std::string_view key) {
        return add([&](sessionstore_error** out) {
            return sessionstore_transaction_check_exists(handle_.get(), key.data(), key.size(), out);
        });
    }
    /** The key is not set. */
    transaction& check_absent(std::string_view key) {
        return add([&](sessionstore_error** out) {
            return sessionstore_transaction_check_absent(handle_.get(), key.data(), key.size(), out);
        });
    }
    /** The key holds this, whatever its spelling. */
    template <class T>
    transaction& check_equals(std::string_view key, const T& expected) {
        return with(expected, [&](std::string_view text, sessionstore_error** out) {
            return sessionstore_transaction_check_equals(handle_.get(), key.data(), key.size(), text.data(), text.size(),
                                                         out);
        });
    }
    /** The lock is held under this grant. */
    transaction& check_lock(const lock& held) {
        return add([&](sessionstore_error** out) {
            return sessionstore_transaction_check_lock(handle_.get(), held.handle(), out);
        });
    }
    /** Sets a key; null removes it. */
    template <class T>
    transaction& set(std::string_view key, const T& to, const write_options& options = {}) {
        return write(operation::set, key, to, options);
    }
    /** Removes a key. */
    transaction& remove(std::string_view key) { return write(operation::set, key, nullptr); }
    /** Does something to a key, as `store::write`. */
    template <class T>
    transaction& write(operation what, std::string_view key, const T& with_value, const write_options& options = {}) {
        const detail::c_write_options c_options(options);
        if (c_options.wrong() && !error_) error_ = c_options.wrong();
        return with(with_value, [&](std::string_view text, sessionstore_error** out) {
            /* A touch has no value. */
            const bool bare = what == operation::touch;
            return sessionstore_transaction_write(handle_.get(), key.data(), key.size(), static_cast<std::int32_t>(what),
                                                  bare ? nullptr : text.data(), bare ? 0 : text.size(), c_options.get(),
                                                  out);
        });
    }
    /** Gives a key another expiry, as `store::touch`. */
    transaction& touch(std::string_view key, const write_options& options) {
        return write(operation::touch, key, nullptr, options);
    }

private:
    friend class store;
    template <class F>
    transaction& add(F call) {
        detail::failure failed;
        const std::int32_t code = error_ ? SESSIONSTORE_OK : call(failed.out());
        if (code != SESSIONSTORE_OK) error_ = failed.take(code);
        return *this;
    }
    template <class T, class F>
    transaction& with(const T& from, F call) {
        const result<value> made = value::of(from);
        if (!made && !error_) error_ = made.error();
        if (!made) return *this;
        return add([&](sessionstore_error** out) { return call(made->json(), out); });
    }
    /** Shared with the actions that send it; only this adds to it. */
    std::shared_ptr<sessionstore_transaction> handle_;
    std::optional<error> error_;
};

/** The store of the room a client is in. It may outlive its client, and then answers `closed`. */
class store {
public:
    /** Moved, not copied. */
    store(store&&) noexcept = default;
    /** What this was before is destroyed. */
    store& operator=(store&&) noexcept = default;
    /** Another handle of the same store. */
    store share() const noexcept { return *this; }

    /** Sets a key; null removes it. Errors of the request: `value_too_large`, `too_many_keys`, `store_full`, `forbidden`,
     * `invalid_key`, `timeout`, `outcome_unknown`, ...: see sessionstore_store_set. */
    template <class T>
    action<state> set(std::string_view key, const T& to) const {
        return with(to, [&](const std::string& text) {
            return on_key(
                key, [text](auto* own, auto* name, auto length, auto... rest) {
                    return sessionstore_store_set(own, name, length, text.data(), text.size(), rest...);
                },
                [text](auto* own, auto* name, auto length, auto... rest) {
                    return sessionstore_store_set_wait(own, name, length, text.data(), text.size(), rest...);
                });
        });
    }

    /** Sets a key if it has this version, 0 meaning that it is absent; otherwise `version_conflict`, whose `current` is
     * what it holds. */
    template <class T>
    action<state> set_if_version(std::string_view key, const T& to, std::uint64_t version) const {
        return with(to, [&](const std::string& text) {
            return on_key(
                key, [text, version](auto* own, auto* name, auto length, auto... rest) {
                    return sessionstore_store_set_if_version(own, name, length, text.data(), text.size(), version, rest...);
                },
                [text, version](auto* own, auto* name, auto length, auto... rest) {
                    return sessionstore_store_set_if_version_wait(own, name, length, text.data(), text.size(), version,
                                                                  rest...);
                });
        });
    }

    /** Removes a key. Errors as for `set`. */
    action<state> remove(std::string_view key) const {
        return on_key(key, sessionstore_store_remove, sessionstore_store_remove_wait);
    }

    /** Asks the server for the state of a key. */
    action<state> get(std::string_view key) const {
        return on_key(key, sessionstore_store_get, sessionstore_store_get_wait);
    }

    /** What this client knows of a key it listens to, without asking; nothing if it listens to no such key. */
    result<std::optional<state>> cached(std::string_view key) const {
        sessionstore_event* event = nullptr;
        detail::failure failed;
        const std::int32_t code = sessionstore_store_cached(handle_.get(), key.data(), key.size(), &event, failed.out());
        if (code != SESSIONSTORE_OK) return failed.take(code);
        return event == nullptr ? std::optional<state>() : std::optional<state>(state::adopt(event));
    }

    /** Adds to an integer, on the server; absent counts as 0. Errors: `wrong_type`, `number_overflow`. */
    action<state> add(std::string_view key, std::int64_t amount) const {
        return on_key(
            key, [amount](auto* own, auto* name, auto length, auto... rest) {
                return sessionstore_store_add(own, name, length, amount, rest...);
            },
            [amount](auto* own, auto* name, auto length, auto... rest) {
                return sessionstore_store_add_wait(own, name, length, amount, rest...);
            });
    }

    /** Does something to a key, on the server, under conditions. The arrays of `set_add`, `set_remove` and `append` are
     * JSON arrays: `json_text{"[1,2]"}`. */
    template <class T>
    action<state> write(operation what, std::string_view key, const T& with_value,
                        const write_options& options = {}) const {
        return with(with_value, [&](const std::string& text) {
            /* A touch has no value. */
            const bool bare = what == operation::touch;
            const auto number = static_cast<std::int32_t>(what);
            const detail::c_write_options c_options(options);
            if (c_options.wrong()) return action<state>(*c_options.wrong());
            return on_key(
                key, [=](auto* own, auto* name, auto length, auto... rest) {
                    return sessionstore_store_write(own, name, length, number, bare ? nullptr : text.data(),
                                                    bare ? 0 : text.size(), c_options.get(), rest...);
                },
                [=](auto* own, auto* name, auto length, auto... rest) {
                    return sessionstore_store_write_wait(own, name, length, number, bare ? nullptr : text.data(),
                                                         bare ? 0 : text.size(), c_options.get(), rest...);
                });
        });
    }
    /** Gives a key another expiry, or binds it, and leaves its value. Errors: `key_absent`. */
    action<state> touch(std::string_view key, const write_options& options) const {
        return write(operation::touch, key, nullptr, options);
    }

    /** Computes a value anew until nobody was faster. `compute` is given the state and returns the new `value`, or nothing
     * to leave the key as it is; it should do nothing else, for it may be called again. If it lets an exception out, the
     * key is left as it is. */
    template <class F>
    action<state> update(std::string_view key, F compute) const {
        /* Shared by both ways of sending it, of which one is used. */
        using shared = std::shared_ptr<F>;
        auto make = [kept = std::make_shared<F>(std::move(compute))] {
            sessionstore_updater updater = SESSIONSTORE_UPDATER_INIT;
            updater.ctx = new shared(kept);
            updater.on_drop = detail::drop<shared>;
            updater.on_update = [](void* ctx, const sessionstore_event* current) -> sessionstore_value* {
                std::optional<value> computed;
                detail::guarded([&] { computed = (**static_cast<shared*>(ctx))(state::retain(current)); });
                return computed ? computed->release() : nullptr;
            };
            return updater;
        };
        return on_key(
            key, [make](auto* own, auto* name, auto length, auto... rest) {
                const sessionstore_updater updater = make();
                return sessionstore_store_update(own, name, length, &updater, rest...);
            },
            [make](auto* own, auto* name, auto length, auto... rest) {
                const sessionstore_updater updater = make();
                return sessionstore_store_update_wait(own, name, length, &updater, rest...);
            });
    }

    /** Takes a lock. `on_lost` is called, at most once, if it is lost. Errors: `lock_held`, whose `current` shows by whom. */
    action<sessionstore::lock> lock(std::string_view name, const lock_options& options = {},
                                    callback<void(const error&)> on_lost = nullptr) const {
        sessionstore_lock_options c_options = SESSIONSTORE_LOCK_OPTIONS_INIT;
        detail::option_reader read;
        c_options.ttl_ms = read.time("ttl", options.ttl);
        c_options.wait_ms = read.time("wait", options.wait, 0);
        if (read.wrong()) return action<sessionstore::lock>(*read.wrong());
        using shared = std::shared_ptr<callback<void(const error&)>>;
        auto make = [kept = std::make_shared<callback<void(const error&)>>(std::move(on_lost))] {
            sessionstore_lock_listener listener = SESSIONSTORE_LOCK_LISTENER_INIT;
            listener.ctx = new shared(kept);
            listener.on_drop = detail::drop<shared>;
            listener.on_lost = [](void* ctx, const sessionstore_error* why) {
                auto& call = **static_cast<shared*>(ctx);
                if (call) detail::guarded([&] { call(error::copy(why)); });
            };
            return listener;
        };
        return detail::giving<sessionstore::lock, sessionstore_lock_free>(
            [own = handle_, name = std::string(name), c_options, make](const sessionstore_lock_result* told,
                                                                       sessionstore_error** out) {
                const sessionstore_lock_listener listener = make();
                return sessionstore_store_lock(own.get(), name.data(), name.size(), &c_options, &listener, told, out);
            },
            [own = handle_, name = std::string(name), c_options, make](std::uint32_t time, sessionstore_lock** held,
                                                                       sessionstore_error** out) {
                const sessionstore_lock_listener listener = make();
                return sessionstore_store_lock_wait(own.get(), name.data(), name.size(), &c_options, &listener, time, held,
                                                    out);
            });
    }

    /** Makes a transaction as it is when it is sent; the states are those of the keys it writes. Errors: `check_failed`, or
     * `lock_lost`, and what a write is refused with: `failed_check`, `failed_write` and `current` say more. */
    action<snapshot> transact(const transaction& what) const {
        if (what.error_) return action<snapshot>(*what.error_);
        return detail::giving<snapshot, sessionstore_event_list_free>(
            [own = handle_, sent = what.handle_](const sessionstore_event_list_result* told, sessionstore_error** out) {
                return sessionstore_store_transact(own.get(), sent.get(), told, out);
            },
            [own = handle_, sent = what.handle_](std::uint32_t time, sessionstore_event_list** list,
                                                 sessionstore_error** out) {
                return sessionstore_store_transact_wait(own.get(), sent.get(), time, list, out);
            });
    }

    /** Asks for several keys at one revision. */
    action<snapshot> read(selector what) const {
        return detail::giving<snapshot, sessionstore_event_list_free>(
            [own = handle_, what](const sessionstore_event_list_result* told, sessionstore_error** out) {
                return sessionstore_store_read(own.get(), detail::c_selector(what).get(), told, out);
            },
            [own = handle_, what](std::uint32_t time, sessionstore_event_list** list, sessionstore_error** out) {
                return sessionstore_store_read_wait(own.get(), detail::c_selector(what).get(), time, list, out);
            });
    }

    /** Asks for the names of the keys that are set and begin with a text, in alphabetical order. */
    action<std::vector<std::string>> keys(std::string_view prefix = "") const {
        return detail::giving<std::vector<std::string>, sessionstore_key_list_free>(
            [own = handle_, prefix = std::string(prefix)](const sessionstore_key_list_result* told,
                                                          sessionstore_error** out) {
                return sessionstore_store_keys(own.get(), prefix.data(), prefix.size(), told, out);
            },
            [own = handle_, prefix = std::string(prefix)](std::uint32_t time, sessionstore_key_list** list,
                                                          sessionstore_error** out) {
                return sessionstore_store_keys_wait(own.get(), prefix.data(), prefix.size(), time, list, out);
            });
    }

    /** Asks how much of its limits the store uses. */
    action<sessionstore::usage> usage() const {
        detail::request<sessionstore::usage> own;
        own.begin = [own = handle_](const sessionstore_usage_result* told, sessionstore_error** out) {
            return sessionstore_store_usage(own.get(), told, out);
        };
        own.wait = [own = handle_](std::uint32_t time) -> result<sessionstore::usage> {
            sessionstore_usage told = SESSIONSTORE_USAGE_INIT;
            detail::failure failed;
            const std::int32_t code = sessionstore_store_usage_wait(own.get(), time, &told, failed.out());
            if (code != SESSIONSTORE_OK) return failed.take(code);
            return detail::delivery<sessionstore::usage>::copy(&told);
        };
        return action<sessionstore::usage>(std::move(own));
    }

    /** Listens until the subscription is destroyed: first the current values, then `on_snapshot_end`, then every change. */
    result<subscription> listen(const selector& what, key_change_listener listener) const {
        sessionstore_subscription* own = nullptr;
        const result<void> listens = listen_to(what, std::move(listener), &own);
        if (!listens) return listens.error();
        return subscription(own);
    }

    /** The same for as long as the client is there. */
    result<void> listen_for_good(const selector& what, key_change_listener listener) const {
        return listen_to(what, std::move(listener), nullptr);
    }

    /** The handle of the C library, borrowed. */
    const sessionstore_store* handle() const noexcept { return handle_.get(); }
    /** Takes over a handle of the C library. */
    static store adopt(sessionstore_store* own) { return store(own); }

private:
    explicit store(sessionstore_store* own) : handle_(own, sessionstore_store_free) {}
    store(const store&) = default;

    template <class T, class F>
    action<state> with(const T& from, F make) const {
        const result<value> made = value::of(from);
        if (!made) return action<state>(made.error());
        return make(std::string(made->json()));
    }

    /** A request for one key: the functions of the C library that begin it and that wait for it. */
    template <class Begin, class Wait>
    action<state> on_key(std::string_view key, Begin begin, Wait wait) const {
        return detail::giving<state, sessionstore_event_free>(
            [begin, own = handle_, key = std::string(key)](const sessionstore_action_result* told,
                                                           sessionstore_error** out) {
                return begin(own.get(), key.data(), key.size(), told, out);
            },
            [wait, own = handle_, key = std::string(key)](std::uint32_t time, sessionstore_event** event,
                                                          sessionstore_error** out) {
                return wait(own.get(), key.data(), key.size(), time, event, out);
            });
    }

    result<void> listen_to(const selector& what, key_change_listener listener, sessionstore_subscription** out) const {
        const bool is_single = !what.all && what.prefixes.empty();
        const detail::c_selector c_selector(what);
        const sessionstore_key_change_listener c_listener = detail::c_listener(std::move(listener));
        const sessionstore_selector* own = c_selector.get();
        detail::failure failed;
        return failed.done(is_single ? sessionstore_store_listen(handle_.get(), own->keys, own->key_lens, own->key_count,
                                                                 &c_listener, out, failed.out())
                                     : sessionstore_store_listen_to(handle_.get(), own, &c_listener, out, failed.out()));
    }

    /** Shared with the actions that are made from it. */
    std::shared_ptr<sessionstore_store> handle_;
};

/** How and where to join; what is empty has its default. */
struct client_options {
    /** `ws://host:port`, or `wss://`. Required. */
    std::string url;
    /** 1 to 128 bytes. Required unless the token names it. */
    std::string room;
    /** A JWT for servers that ask for one. */
    std::string token;
    /** How this peer is shown to others; at most 256 bytes. */
    std::string name;
    /** The role asked of an open server; at most 64 bytes. Default `guest`. */
    std::string role;
    /** The user id told to an open server; at most 128 bytes. */
    std::string user_id;
    /** This peer's metadata: any text of at most 2,048 bytes. */
    std::string metadata;
    /** This peer's id, at most 128 bytes, unique in the room. Default: a random UUID. */
    std::string peer_id;
    /** Rather end than wait for a server that is not there, until the first join. */
    bool fail_fast = false;
    /** How long one asynchronous request may take. Default 10,000 ms. */
    std::optional<milliseconds> request_timeout;
    /** How long one attempt to connect may take until the room is joined; a long list of peers that is arriving is waited
     * for. Default 10,000 ms. */
    std::optional<milliseconds> connect_timeout;
    /** Pause before the first attempt to reconnect, doubled for each that fails; the actual pause is drawn between half
     * of it and the whole. Default 250 ms. */
    std::optional<milliseconds> reconnect_min;
    /** The longest pause between two attempts. Default 10,000 ms. */
    std::optional<milliseconds> reconnect_max;
    /** After how much silence the server is pinged; after as much again without an answer the connection counts as
     * broken. Default 10,000 ms. */
    std::optional<milliseconds> heartbeat;
    /** Most requests that may wait for their answers; more are refused with `queue_full`. Default 1,024. */
    std::uint32_t max_pending = 0;
    /** Poll mode: callbacks run inside `client::poll`. Called from any thread when there is something to poll; it must
     * return at once and call nothing of this library. */
    std::function<void()> wake;
    /** With one of these the client has a dispatch thread of its own, and they are called on it first and last. */
    std::function<void()> on_thread_start;
    /** See `on_thread_start`. */
    std::function<void()> on_thread_stop;
    /** For `wss://`: the authorities to trust, a file in PEM. Empty: the system's. */
    std::string ca_file;
    /** The certificate to show to a server that asks for one, a file in PEM. Empty: none. */
    std::string client_cert_file;
    /** The private key of that certificate, a file in PEM, not encrypted. */
    std::string client_key_file;
};

/** Hears what concerns the client as a whole; what is empty is not called. */
struct update_listener {
    /** The room was joined. Called once. */
    callback<void(store)> on_store_available;
    /** The error says why, where there is a reason. */
    callback<void(connection_state, const std::optional<error>&)> on_connection_state;
    /** Another peer joined, changed or left; those who are there already are told as joined. */
    callback<void(peer_change, const peer&)> on_peer;
    /** Something went wrong that no request is waiting for, such as `session_lost`. */
    callback<void(const error&)> on_error;
    /** Soon after this time the client closes with `token_expired`, unless `client::renew_token` hands in a fresh token. Told
     * 30 s before, or at once when less is left. */
    callback<void(time_point)> on_token_expiring;
};

/** A peer in a room. Destroying it leaves in the background. */
class client {
public:
    /** Moved, not copied. */
    client(client&&) noexcept = default;
    /** What this was before is destroyed. */
    client& operator=(client&&) noexcept = default;

    /** Returns at once and joins in the background. Errors: `invalid_url`, `invalid_room`, `invalid_peer`,
     * `invalid_utf8`, `out_of_resources`, ...: see sessionstore_client_open. */
    static result<client> open(const client_options& options, update_listener listener = {}) {
        sessionstore_client_options own = SESSIONSTORE_CLIENT_OPTIONS_INIT;
        detail::option_reader read;
        if (options.fail_fast) own.flags |= std::uint32_t{SESSIONSTORE_CLIENT_FAIL_FAST};
        own.url = read.text("url", options.url);
        own.room = read.text("room", options.room);
        own.token = read.text("token", options.token);
        own.name = read.text("name", options.name);
        own.role = read.text("role", options.role);
        own.user_id = read.text("user_id", options.user_id);
        own.metadata = read.text("metadata", options.metadata);
        own.peer_id = read.text("peer_id", options.peer_id);
        own.request_timeout_ms = read.time("request_timeout", options.request_timeout);
        own.connect_timeout_ms = read.time("connect_timeout", options.connect_timeout);
        own.reconnect_min_ms = read.time("reconnect_min", options.reconnect_min);
        own.reconnect_max_ms = read.time("reconnect_max", options.reconnect_max);
        own.heartbeat_ms = read.time("heartbeat", options.heartbeat);
        own.max_pending = options.max_pending;
        own.ca_file = read.text("ca_file", options.ca_file);
        own.client_cert_file = read.text("client_cert_file", options.client_cert_file);
        own.client_key_file = read.text("client_key_file", options.client_key_file);
        if (read.wrong()) return *read.wrong();
        /* All that may throw comes before the call, which consumes all of them. */
        using hook = std::function<void()>;
        std::unique_ptr<hook> wake_box;
        sessionstore_wake_hook wake = SESSIONSTORE_WAKE_HOOK_INIT;
        if (options.wake) {
            wake_box = std::make_unique<hook>(options.wake);
            wake.ctx = wake_box.get();
            wake.on_drop = detail::drop<hook>;
            wake.on_wake = [](void* ctx) { detail::guarded(*static_cast<hook*>(ctx)); };
            own.wake_hook = &wake;
        }
        using hooks = std::pair<hook, hook>;
        std::unique_ptr<hooks> threads_box;
        sessionstore_thread_hooks threads = SESSIONSTORE_THREAD_HOOKS_INIT;
        if (options.on_thread_start || options.on_thread_stop) {
            threads_box = std::make_unique<hooks>(options.on_thread_start, options.on_thread_stop);
            threads.ctx = threads_box.get();
            threads.on_drop = detail::drop<hooks>;
            threads.on_start = [](void* ctx) {
                auto& call = static_cast<hooks*>(ctx)->first;
                if (call) detail::guarded(call);
            };
            threads.on_stop = [](void* ctx) {
                auto& call = static_cast<hooks*>(ctx)->second;
                if (call) detail::guarded(call);
            };
            own.thread_hooks = &threads;
        }
        const sessionstore_update_listener updates = c_listener(std::move(listener));
        static_cast<void>(wake_box.release());
        static_cast<void>(threads_box.release());
        sessionstore_client* opened = nullptr;
        detail::failure failed;
        const std::int32_t code = sessionstore_client_open(&own, &updates, &opened, failed.out());
        if (code != SESSIONSTORE_OK) return failed.take(code);
        return client(opened);
    }

    /** Waits until the room is joined. */
    result<store> join_wait(milliseconds time = default_wait) const {
        sessionstore_store* joined = nullptr;
        detail::failure failed;
        const std::int32_t code =
            sessionstore_client_join_wait(handle_.get(), detail::timeout(time), &joined, failed.out());
        if (code != SESSIONSTORE_OK) return failed.take(code);
        return store::adopt(joined);
    }

    /** The state of the connection. */
    connection_state state() const noexcept {
        return static_cast<connection_state>(sessionstore_client_state(handle_.get()));
    }
    /** This peer's id; lives as long as the client. */
    std::string_view peer_id() const noexcept { return sessionstore_client_peer_id(handle_.get()); }

    /** Who is in the room, this peer included, as far as this client knows. */
    result<std::vector<peer>> peers() const {
        sessionstore_peer_list* list = nullptr;
        detail::failure failed;
        const std::int32_t code = sessionstore_client_peers(handle_.get(), &list, failed.out());
        if (code != SESSIONSTORE_OK) return failed.take(code);
        const detail::owned<sessionstore_peer_list, sessionstore_peer_list_free> freed(list);
        std::vector<peer> found;
        for (std::size_t nth = 0; nth < sessionstore_peer_list_count(list); nth++) {
            found.push_back(peer::retain(sessionstore_peer_list_get(list, nth)));
        }
        return found;
    }

    /** Shows this peer under another name, or with other metadata; what is not given stays. */
    action<void> update_peer(std::optional<std::string> name, std::optional<std::string> metadata) const {
        auto text = [](const std::optional<std::string>& from) { return from ? from->data() : nullptr; };
        auto size = [](const std::optional<std::string>& from) { return from ? from->size() : 0; };
        return detail::plain(
            [=, own = handle_](const sessionstore_action_result* told, sessionstore_error** out) {
                return sessionstore_client_update_peer(own.get(), text(name), size(name), text(metadata), size(metadata),
                                                       told, out);
            },
            [=, own = handle_](std::uint32_t time, sessionstore_error** out) {
                return sessionstore_client_update_peer_wait(own.get(), text(name), size(name), text(metadata),
                                                            size(metadata), time, out);
            });
    }

    /** A fresh token, before the old one expires. */
    action<void> renew_token(std::string token) const {
        return detail::plain(
            [token, own = handle_](const sessionstore_action_result* told, sessionstore_error** out) {
                return sessionstore_client_renew_token(own.get(), token.data(), token.size(), told, out);
            },
            [token, own = handle_](std::uint32_t time, sessionstore_error** out) {
                return sessionstore_client_renew_token_wait(own.get(), token.data(), token.size(), time, out);
            });
    }

    /**
     * Leaves the room; waiting for it, everybody knows. Without a connection, or when it breaks and the next cannot be
     * made at once, the client closes all the same, and the others are told after the grace period.
     */
    action<void> leave() const {
        return detail::plain(
            [own = handle_](const sessionstore_action_result* told, sessionstore_error** out) {
                return sessionstore_client_leave(own.get(), told, out);
            },
            [own = handle_](std::uint32_t time, sessionstore_error** out) {
                return sessionstore_client_leave_wait(own.get(), time, out);
            });
    }

    /** In poll mode: runs callbacks, at most so many (0: all that wait), and says how many. */
    result<std::size_t> poll(std::size_t most = 0) const {
        std::size_t ran = 0;
        detail::failure failed;
        const std::int32_t code = sessionstore_client_poll(handle_.get(), most, &ran, failed.out());
        if (code != SESSIONSTORE_OK) return failed.take(code);
        return ran;
    }

    /** The handle of the C library, borrowed. */
    const sessionstore_client* handle() const noexcept { return handle_.get(); }

private:
    explicit client(sessionstore_client* own) : handle_(own, sessionstore_client_free) {}

    static sessionstore_update_listener c_listener(update_listener from) {
        sessionstore_update_listener own = SESSIONSTORE_UPDATE_LISTENER_INIT;
        own.ctx = new update_listener(std::move(from));
        own.on_drop = detail::drop<update_listener>;
        own.on_store_available = [](void* ctx, const sessionstore_store* joined) {
            auto& call = static_cast<update_listener*>(ctx)->on_store_available;
            if (call) detail::guarded([&] { call(store::adopt(sessionstore_store_retain(joined))); });
        };
        own.on_connection_state = [](void* ctx, std::int32_t now, const sessionstore_error* why) {
            auto& call = static_cast<update_listener*>(ctx)->on_connection_state;
            if (!call) return;
            detail::guarded([&] {
                call(static_cast<connection_state>(now),
                     why == nullptr ? std::optional<error>() : std::optional<error>(error::copy(why)));
            });
        };
        own.on_peer = [](void* ctx, std::int32_t change, const sessionstore_peer* who) {
            auto& call = static_cast<update_listener*>(ctx)->on_peer;
            if (call) detail::guarded([&] { call(static_cast<peer_change>(change), peer::retain(who)); });
        };
        own.on_error = [](void* ctx, const sessionstore_error* what) {
            auto& call = static_cast<update_listener*>(ctx)->on_error;
            if (call) detail::guarded([&] { call(error::copy(what)); });
        };
        own.on_token_expiring = [](void* ctx, std::uint64_t expires_at) {
            auto& call = static_cast<update_listener*>(ctx)->on_token_expiring;
            if (call) detail::guarded([&] { call(detail::time_of(expires_at)); });
        };
        return own;
    }

    /** Shared with the actions that are made from it, which are short-lived. */
    std::shared_ptr<sessionstore_client> handle_;
};

/** How a server hosts rooms; what is empty or 0 has its default, as sessionstore_server_options says. */
struct server_options {
    /** The IP address to listen on, or `localhost`. Default `127.0.0.1`: this machine only. */
    std::string address;
    /** The port, at most 65,535. Default 0: any free one; `server::port` tells which. */
    std::uint32_t port = 0;
    /** What tokens are signed with; empty: an open server. */
    std::string secret;
    /** Threads that serve rooms; a room lives on one of them. Default 1; `SESSIONSTORE_ZERO` for one per core. */
    std::uint32_t threads = 0;
    /** How long a peer whose connection broke stays; 0 ms: it goes at once. Default 30,000 ms. */
    std::optional<milliseconds> grace;
    /** How long a session without peers is kept. Default 0 ms. */
    std::optional<milliseconds> linger;
    /** Largest value, in bytes of compact JSON. Default 1,024. */
    std::uint32_t max_value_bytes = 0;
    /** Most keys in a store. Default 100. */
    std::uint32_t max_keys = 0;
    /** Most bytes of keys and values together in a store. Default 65,536. */
    std::uint32_t max_store_bytes = 0;
    /** Most keys one peer listens to. Default 200. */
    std::uint32_t max_listened_keys = 0;
    /** Most peers in a room. Default 20,000. */
    std::uint32_t max_peers = 0;
    /** Most connections in all. Default: the server's own, see `sstore serve --help`. */
    std::uint32_t max_connections = 0;
    /** After how much silence a connection is pinged. Default 15,000 ms. It must be below `idle_timeout`. */
    std::optional<milliseconds> ping_interval;
    /** After how much silence a connection is closed. Default 45,000 ms. */
    std::optional<milliseconds> idle_timeout;
    /** TOML text; docs/rules.md has how it is written. */
    std::string rules;
    /** The server's certificate: a file in PEM, the server's own first, then those between it and an authority that
     * clients trust. With it and `tls_key_file` the server speaks `wss://` only. The files are read again by
     * `server::reload_tls` and when they change. Empty: no TLS. */
    std::string tls_cert_file;
    /** The private key of that certificate: a file in PEM, not encrypted. */
    std::string tls_key_file;
    /** The authorities of clients' certificates: a file in PEM. With it every client must show a certificate that one
     * of them signed. Empty: nobody is asked for one. */
    std::string tls_client_ca_file;
    /** The web pages that may connect, as their origins with commas between them:
     * `https://example.org,https://app.example.org:8443`. Empty: all. Programs that are no browsers send no origin,
     * and always may. */
    std::string allowed_origins;
    /** A directory in which rooms are kept: sessions then go on after the server was stopped, killed or restarted, and
     * nothing that anybody was told is lost. It is made if it is not there, on a disk of this machine, and belongs to
     * one server at a time. Empty: rooms live in memory. */
    std::string data_dir;
    /** With `data_dir`: nothing is lost either when the machine loses power. */
    bool fsync = false;
    /** Most connections from one IPv4 address, or one IPv6 network of 64 bits. Default 0: no limit of its own. */
    std::uint32_t max_connections_per_address = 0;
    /** Most rooms at once. Default 50,000. */
    std::uint32_t max_rooms = 0;
    /** Requests that one peer may make per second, on average; what is beyond is refused with `rate_limited`. Default
     * 0: no limit. */
    std::uint32_t max_requests_per_second = 0;
    /** Requests that one peer may make at once. Default 0: those of five seconds. */
    std::uint32_t max_request_burst = 0;
    /** Bytes that one peer may send per second, on average. Default 0: no limit. */
    std::uint32_t max_request_bytes_per_second = 0;
    /** Largest message of a client, in bytes. Default 65,536. */
    std::uint32_t max_message_bytes = 0;
    /** Where clients reach this server, when that is not where it listens, such as `"https://rooms.example.org"`; it is
     * handed out to the hosted original's web client. Empty: the host that its request was sent to. */
    std::string public_url;
    /** Whether the server counts what it does and answers `GET /metrics` at its port, in Prometheus' text format. */
    bool metrics = false;
    /** Whether many sockets are written to by one system call, by io_uring, where the system has it (Linux 6.1 or newer)
        and allows it. It takes less of the processor. Not for a program that is killed by its own sandbox for that call. */
    bool io_uring = false;
    /** Where it is told that rooms open and close, by signed requests; docs/webhooks.md has what is in them. Empty:
     * nowhere. */
    std::string webhook_url;
    /** What they are signed with: `whsec_` and the base64 of 24 to 64 random bytes. */
    std::string webhook_secret;
    /** A file with the authorities (PEM) of the receiver's certificate. Empty: those that the system trusts. */
    std::string webhook_ca_file;
    /** How long the receiver may take to answer. Default 10,000 ms. */
    std::optional<milliseconds> webhook_timeout;
    /** After about what time a request that was not taken is sent again; then twice as long each time, up to an hour,
     * for a day. Default 1,000 ms. */
    std::optional<milliseconds> webhook_retry;
    /** The secret that the tokens of operators and back ends are signed with, another than `secret`. With it the server
     * has an HTTP API under `/v1`; docs/http-api.md. Empty: no API. */
    std::string api_secret;
    /** With `api_secret`: whether a page at `/inspect/` lets people look into rooms; docs/inspector.md. */
    bool inspect = false;
};

/** How much there is on a server. */
struct server_stats {
    /** Rooms that there are. */
    std::uint64_t rooms = 0;
    /** Peers in them. */
    std::uint64_t peers = 0;
    /** Connections of clients. */
    std::uint64_t connections = 0;
};

/** Hosts rooms inside this program. Destroying it stops it in the background. */
class server {
public:
    /** Starts one. Errors: `invalid_config`, `address_in_use`, `address_unavailable`, ...: see
     * sessionstore_server_start. */
    static result<server> start(const server_options& options = {}) {
        sessionstore_server_options own = SESSIONSTORE_SERVER_OPTIONS_INIT;
        detail::option_reader read;
        if (options.fsync) own.flags |= std::uint32_t{SESSIONSTORE_SERVER_FSYNC};
        if (options.metrics) own.flags |= std::uint32_t{SESSIONSTORE_SERVER_METRICS};
        if (options.io_uring) own.flags |= std::uint32_t{SESSIONSTORE_SERVER_IO_URING};
        if (options.inspect) own.flags |= std::uint32_t{SESSIONSTORE_SERVER_INSPECT};
        own.address = read.text("address", options.address);
        own.secret = read.text("secret", options.secret);
        own.port = options.port;
        own.threads = options.threads;
        own.grace_ms = read.time("grace", options.grace, SESSIONSTORE_ZERO);
        own.linger_ms = read.time("linger", options.linger, 0);
        own.max_value_bytes = options.max_value_bytes;
        own.max_keys = options.max_keys;
        own.max_store_bytes = options.max_store_bytes;
        own.max_listened_keys = options.max_listened_keys;
        own.max_peers = options.max_peers;
        own.max_connections = options.max_connections;
        own.ping_interval_ms = read.time("ping_interval", options.ping_interval);
        own.idle_timeout_ms = read.time("idle_timeout", options.idle_timeout);
        own.rules = read.text("rules", options.rules);
        own.tls_cert_file = read.text("tls_cert_file", options.tls_cert_file);
        own.tls_key_file = read.text("tls_key_file", options.tls_key_file);
        own.tls_client_ca_file = read.text("tls_client_ca_file", options.tls_client_ca_file);
        own.allowed_origins = read.text("allowed_origins", options.allowed_origins);
        own.data_dir = read.text("data_dir", options.data_dir);
        own.max_connections_per_address = options.max_connections_per_address;
        own.max_rooms = options.max_rooms;
        own.max_requests_per_second = options.max_requests_per_second;
        own.max_request_burst = options.max_request_burst;
        own.max_request_bytes_per_second = options.max_request_bytes_per_second;
        own.max_message_bytes = options.max_message_bytes;
        own.public_url = read.text("public_url", options.public_url);
        own.webhook_url = read.text("webhook_url", options.webhook_url);
        own.webhook_secret = read.text("webhook_secret", options.webhook_secret);
        own.webhook_ca_file = read.text("webhook_ca_file", options.webhook_ca_file);
        own.webhook_timeout_ms = read.time("webhook_timeout", options.webhook_timeout);
        own.webhook_retry_ms = read.time("webhook_retry", options.webhook_retry);
        own.api_secret = read.text("api_secret", options.api_secret);
        if (read.wrong()) return *read.wrong();
        sessionstore_server* started = nullptr;
        detail::failure failed;
        const std::int32_t code = sessionstore_server_start(&own, &started, failed.out());
        if (code != SESSIONSTORE_OK) return failed.take(code);
        return server(started);
    }

    /** What clients take as their URL. */
    std::string_view url() const noexcept { return sessionstore_server_url(handle_.get()); }
    /** The port it listens on. */
    std::uint16_t port() const noexcept { return static_cast<std::uint16_t>(sessionstore_server_port(handle_.get())); }

    /** Also tells why a server has stopped by itself. */
    result<server_stats> stats() const {
        server_stats own;
        detail::failure failed;
        const std::int32_t code =
            sessionstore_server_stats(handle_.get(), &own.rooms, &own.peers, &own.connections, failed.out());
        if (code != SESSIONSTORE_OK) return failed.take(code);
        return own;
    }
    /** Puts other rules in force without dropping a connection; none: everybody may do everything. */
    result<void> set_rules(std::optional<std::string_view> rules) const {
        detail::failure failed;
        /* NULL stands for none, so an empty text must not be it. */
        const char* const text = !rules ? nullptr : rules->empty() ? "" : rules->data();
        return failed.done(
            sessionstore_server_set_rules(handle_.get(), text, rules ? rules->size() : 0, failed.out()));
    }
    /** Reads the certificate files again. */
    result<void> reload_tls() const {
        detail::failure failed;
        return failed.done(sessionstore_server_reload_tls(handle_.get(), failed.out()));
    }
    /** Begins to stop, and returns at once. */
    result<void> stop() const {
        detail::failure failed;
        return failed.done(sessionstore_server_stop(handle_.get(), failed.out()));
    }
    /** Stops, and returns when all connections are closed. Errors: `would_deadlock` inside a callback, `timeout`. */
    result<void> stop_wait(milliseconds time = default_wait) const {
        detail::failure failed;
        return failed.done(sessionstore_server_stop_wait(handle_.get(), detail::timeout(time), failed.out()));
    }

private:
    explicit server(sessionstore_server* own) noexcept : handle_(own) {}
    detail::owned<sessionstore_server, sessionstore_server_free> handle_;
};

}  // namespace sessionstore

#endif
