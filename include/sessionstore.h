/*
 * SessionStore: the shared realtime key-value store for everyone in a room.
 *
 * A program links libsessionstore, joins a room, and shares its store: what one peer sets, everyone
 * who listens is told. The store lives as long as the session and is cleared when the last peer
 * leaves. The same library hosts rooms: `sessionstore_server_start`.
 *
 *
 * THE SHORT WAY
 *
 *   sessionstore_client_options options = SESSIONSTORE_CLIENT_OPTIONS_INIT;
 *   options.url = "ws://127.0.0.1:7350";
 *   options.room = "lobby";
 *   sessionstore_client *client = NULL;
 *   sessionstore_store *store = NULL;
 *   if (sessionstore_client_open(&options, NULL, &client, NULL) != SESSIONSTORE_OK) return 1;
 *   if (sessionstore_client_join_wait(client, 10000, &store, NULL) != SESSIONSTORE_OK) return 1;
 *
 *   const char *keys[] = {"spotlight"};
 *   sessionstore_key_change_listener listener = SESSIONSTORE_KEY_CHANGE_LISTENER_INIT;
 *   listener.on_key_changed = on_key_changed;
 *   sessionstore_store_listen(store, keys, NULL, 1, &listener, NULL, NULL);
 *   sessionstore_store_set_string(store, "spotlight", SESSIONSTORE_NUL_TERMINATED,
 *                                 "peer-1", SESSIONSTORE_NUL_TERMINATED, NULL, NULL);
 *   ...
 *   sessionstore_store_free(store);
 *   sessionstore_client_free(client);
 *
 *
 * WHAT HOLDS FOR EVERY FUNCTION
 *
 * Names. `sessionstore_<object>_<verb>`: the object comes first, then inputs, then outputs, then
 * `error_out`.
 *
 * Texts. UTF-8, a pointer and a length in bytes. The length may be SESSIONSTORE_NUL_TERMINATED for a
 * text that ends at its first NUL. NULL with length 0 is the empty text. Texts given to you have a NUL
 * after them, whatever their length. Texts in option structs end with NUL.
 *
 * Keys. 1 to 256 bytes without control characters; `INVALID_KEY` otherwise. Those that begin with `$lock/` show
 * locks and are written by the server only (`RESERVED_KEY`). A prefix is at most as long, and may be empty.
 *
 * Values. Any JSON, crossing as its text: `"hi"` with the quotes, `42`, `{"a":[1,2]}`. Helpers set and
 * read strings, numbers and booleans without quotes and escapes. `null` means that the key is absent.
 * `INVALID_JSON` is also what nests deeper than 100 levels, has a number beyond the range of a `double`, or an
 * escaped half of a surrogate pair.
 *
 * Ownership. You free what you were given through a `**..._out`, with its `_free`. `_free(NULL)` is
 * fine; `_free` never blocks and may be called anywhere, in callbacks too; handles may be freed in any
 * order. Inputs are copied. A handle given to a callback, or by a getter that returns a `const`
 * pointer, is borrowed: `_retain` keeps it.
 *
 * Errors. Functions that can fail return a code: SESSIONSTORE_OK (0), or a positive number, the same on
 * the wire and in every language; numbers are never used for something else later. 1-99: the caller's
 * mistake. 100-199: the connection, or the state of an object. 200-299: refused by the room, nothing
 * changed. 900 and above: ours. If `error_out` is not NULL it gets an error object with a sentence, or
 * NULL on success. Other outputs are written on success only; handle outputs are NULL after a failure.
 *
 * Threads. Every function may be called from any thread, also on the same handle at once (except that
 * nothing may use a handle while or after it is freed). Nothing global in your process changes: no
 * signal handlers, no exit handlers, no logging. All clients share one network thread and the threads
 * that run callbacks, see below. In a child process after fork() every call that returns a code returns
 * SESSIONSTORE_FORKED, and freeing a client, store, subscription, lock or server does nothing.
 *
 * Cancelling. The `cancellation` of a result struct takes its request back, as long as it was not sent, only
 * asks, or waits for a lock; see `sessionstore_cancellation`. `_wait` functions end by their time-out.
 *
 * Functions whose name ends in `_wait` block, up to `timeout_ms` milliseconds. All others return at
 * once.
 *
 *
 * CHANGING THE SAME KEYS
 *
 * Who reads a value, changes it and sets all of it undoes what somebody else did meanwhile. Instead:
 *   - one key each: `hand/<peer id>`, listened to by its prefix with `sessionstore_store_listen_to`;
 *   - `sessionstore_store_add` and `sessionstore_store_write` change a value on the server: add to a number,
 *     patch an object, put into an array or take out of it;
 *   - `sessionstore_store_update` computes a value anew until nobody was faster, and
 *     `sessionstore_store_set_if_version` does one such step;
 *   - `sessionstore_store_transact` checks and writes several keys together or not at all;
 *   - `sessionstore_store_lock` lets one at a time do something.
 * A key may go by itself after a time, or with the peer that wrote it: `sessionstore_write_options`.
 *
 *
 * CALLBACKS
 *
 * A callback is a struct: functions, and a `ctx` of yours that is passed to each of them. The struct is
 * copied. The call that takes it consumes it, also when that call fails: in each case `on_drop` is
 * called exactly once, after the last call of any other member, and after it nothing of this library
 * touches `ctx` again. (When the taking call fails, that happens before it returns. Only a struct whose
 * `struct_size` is impossible is not touched at all.)
 *
 * Callbacks of one client never overlap and come in order, on a dispatch thread, never on a network
 * thread, and with no lock of the library held. Inside one, every call that does not block is
 * legal, also cancelling or freeing the very subscription or client that is calling. A `_wait` inside a
 * callback of any client returns SESSIONSTORE_WOULD_DEADLOCK at once. `_cancel` asks a listener to stop;
 * `_cancel_wait` returns after its `on_drop`. A callback must not let a C++ exception out.
 *
 * The one callback that comes elsewhere is the updater of `sessionstore_store_update_wait`: it is called on
 * the thread that waits, beside the client's other callbacks. What is legal inside it is the same. An
 * `on_drop` that comes before its call returns, because that failed or is done with its updater, is part of
 * that call: a `_wait` inside it waits.
 *
 * Dispatch threads are shared by all clients: one, and as many more as there are cores when many clients
 * have something to tell. Callbacks that take long hold up no other client, because further threads are
 * added while they run, which end when they have had nothing to do for 10 seconds. So a client's
 * callbacks may come on different threads, each seeing what the one before has done. A client with
 * `thread_hooks` in its options has one thread of its own for all of its callbacks.
 *
 * A callback may take its time: the connection is served meanwhile. What waits for the callback of changes is
 * bounded: when thousands wait, older ones of a key give way to newer ones; `sessionstore_event_replaced` tells
 * how many did. The newest is never missed. Likewise of a peer: that the one you know left is told, and who is
 * there now, but not who came and went meanwhile. Results of requests wait however many they are, and so does
 * what is told of the connection.
 *
 * Poll mode, for UI threads and game loops: with a `wake_hook` in the client's options there is no
 * dispatch thread; callbacks run inside `sessionstore_client_poll`, on the thread you call it from. A
 * `_wait` then may return before the listeners were told of the change: that comes with the next poll.
 *
 *
 * STRUCTS
 *
 * Begin with the `_INIT` macro, which sets `struct_size` to the size your compiler knows; 0 and NULL
 * mean the default everywhere. Structs only ever grow at their end, so a program compiled against an
 * older header keeps working.
 */


#ifndef SESSIONSTORE_H
#define SESSIONSTORE_H

/* Generated from src/ffi by `make header`. Do not edit. */

#include <stddef.h>
#include <stdint.h>

/* The version of this header; `sessionstore_version` tells that of the library. */
#define SESSIONSTORE_VERSION "0.1.0"

/* The length of a text that ends at its first NUL byte. */
#define SESSIONSTORE_NUL_TERMINATED ((size_t)-1)

/* How to begin each struct: `sessionstore_client_options options = SESSIONSTORE_CLIENT_OPTIONS_INIT;` */

#define SESSIONSTORE_CLIENT_OPTIONS_INIT \
    {(uint32_t)sizeof(sessionstore_client_options), 0, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, \
     0, 0, 0, 0, 0, 0, NULL, NULL, NULL, NULL, NULL}
#define SESSIONSTORE_SERVER_OPTIONS_INIT \
    {(uint32_t)sizeof(sessionstore_server_options), 0, NULL, NULL, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, NULL, \
     NULL, NULL, NULL, NULL, NULL, 0, 0, 0, 0, 0, 0, NULL, NULL, NULL, NULL, 0, 0, NULL}
#define SESSIONSTORE_UPDATE_LISTENER_INIT \
    {(uint32_t)sizeof(sessionstore_update_listener), 0, NULL, NULL, NULL, NULL, NULL, NULL, NULL}
#define SESSIONSTORE_KEY_CHANGE_LISTENER_INIT \
    {(uint32_t)sizeof(sessionstore_key_change_listener), 0, NULL, NULL, NULL, NULL, NULL}
#define SESSIONSTORE_ACTION_RESULT_INIT \
    {(uint32_t)sizeof(sessionstore_action_result), 0, NULL, NULL, NULL, NULL}
#define SESSIONSTORE_WAKE_HOOK_INIT {(uint32_t)sizeof(sessionstore_wake_hook), 0, NULL, NULL, NULL}
#define SESSIONSTORE_THREAD_HOOKS_INIT \
    {(uint32_t)sizeof(sessionstore_thread_hooks), 0, NULL, NULL, NULL, NULL}
#define SESSIONSTORE_WRITE_OPTIONS_INIT {(uint32_t)sizeof(sessionstore_write_options), 0, 0, 0, 0, NULL}
#define SESSIONSTORE_UPDATER_INIT {(uint32_t)sizeof(sessionstore_updater), 0, NULL, NULL, NULL}
#define SESSIONSTORE_LOCK_OPTIONS_INIT {(uint32_t)sizeof(sessionstore_lock_options), 0, 0, 0}
#define SESSIONSTORE_LOCK_LISTENER_INIT {(uint32_t)sizeof(sessionstore_lock_listener), 0, NULL, NULL, NULL}
#define SESSIONSTORE_LOCK_RESULT_INIT {(uint32_t)sizeof(sessionstore_lock_result), 0, NULL, NULL, NULL, NULL}
#define SESSIONSTORE_EVENT_LIST_RESULT_INIT \
    {(uint32_t)sizeof(sessionstore_event_list_result), 0, NULL, NULL, NULL, NULL}
#define SESSIONSTORE_SELECTOR_INIT \
    {(uint32_t)sizeof(sessionstore_selector), 0, NULL, NULL, 0, NULL, NULL, 0}
#define SESSIONSTORE_KEY_LIST_RESULT_INIT {(uint32_t)sizeof(sessionstore_key_list_result), 0, NULL, NULL, NULL, NULL}
#define SESSIONSTORE_USAGE_INIT {(uint32_t)sizeof(sessionstore_usage), 0, 0, 0, 0, 0, 0, 0}
#define SESSIONSTORE_USAGE_RESULT_INIT {(uint32_t)sizeof(sessionstore_usage_result), 0, NULL, NULL, NULL, NULL}


// Success.
#define SESSIONSTORE_OK 0

// A pointer that must not be NULL was NULL.
#define SESSIONSTORE_NULL_ARGUMENT 1

// An argument has a value outside its range.
#define SESSIONSTORE_INVALID_ARGUMENT 2

// A text is not valid UTF-8.
#define SESSIONSTORE_INVALID_UTF8 3

// A value is not valid JSON.
#define SESSIONSTORE_INVALID_JSON 4

// A key breaks the rules for keys.
#define SESSIONSTORE_INVALID_KEY 5

// A room name breaks the rules for rooms.
#define SESSIONSTORE_INVALID_ROOM 6

// A peer's id, name, role, user id or metadata breaks its rules.
#define SESSIONSTORE_INVALID_PEER 7

// The server's address is not a usable URL.
#define SESSIONSTORE_INVALID_URL 8

// An options or callback struct has an impossible `struct_size`.
#define SESSIONSTORE_INVALID_STRUCT_SIZE 9

// An option or flag is set that this version does not know.
#define SESSIONSTORE_UNKNOWN_OPTION 10

// A value is of another type than the one asked for.
#define SESSIONSTORE_WRONG_TYPE 11

// Waiting here would wait for the calling thread itself.
#define SESSIONSTORE_WOULD_DEADLOCK 12

// The library is used in a forked child process.
#define SESSIONSTORE_FORKED 13

// A message names a method the server does not have.
#define SESSIONSTORE_UNKNOWN_METHOD 14

// A message is not a request of the protocol.
#define SESSIONSTORE_MALFORMED_MESSAGE 15

// The server's configuration cannot be used.
#define SESSIONSTORE_INVALID_CONFIG 16

// The call does not fit the mode of the client, such as polling one that is not in poll mode.
#define SESSIONSTORE_WRONG_MODE 17

// Two calls that exclude each other were made at once, such as two polls of one client.
#define SESSIONSTORE_BUSY 18

// A lock's name breaks the rules for locks.
#define SESSIONSTORE_INVALID_LOCK 19

// A request came before the peer joined, or after it left.
#define SESSIONSTORE_NOT_JOINED 100

// The object was closed.
#define SESSIONSTORE_CLOSED 101

// The time given to a call ran out.
#define SESSIONSTORE_TIMEOUT 102

// The connection broke before the answer came.
#define SESSIONSTORE_CONNECTION_LOST 103

// No connection to the server could be made.
#define SESSIONSTORE_CONNECTION_FAILED 104

// The host name of the server does not resolve.
#define SESSIONSTORE_HOST_NOT_FOUND 105

// What answered at the address is not a SessionStore server.
#define SESSIONSTORE_HANDSHAKE_FAILED 106

// The session this client was in has ended; it joined a new one.
#define SESSIONSTORE_SESSION_LOST 107

// Another connection came with the same peer id.
#define SESSIONSTORE_REPLACED 108

// The server is shutting down.
#define SESSIONSTORE_SHUTTING_DOWN 109

// The address to listen on is in use.
#define SESSIONSTORE_ADDRESS_IN_USE 110

// The address to listen on cannot be used.
#define SESSIONSTORE_ADDRESS_UNAVAILABLE 111

// Too many requests wait for their answer.
#define SESSIONSTORE_QUEUE_FULL 112

// The client sent nothing, not even an answer to a ping, for too long.
#define SESSIONSTORE_IDLE_TIMEOUT 113

// The client did not read what it was sent.
#define SESSIONSTORE_SLOW_READER 114

// A request was sent, and its answer is lost: it may have been applied or not. A request that ends with
// any other error was not applied.
#define SESSIONSTORE_OUTCOME_UNKNOWN 115

// A peer with this id is in the room, and it is not this client.
#define SESSIONSTORE_PEER_IN_USE 116

// TLS could not be agreed on: a certificate that is not trusted, or a side that does not speak it.
#define SESSIONSTORE_TLS_FAILED 117

// The directory for the data of a server cannot be used.
#define SESSIONSTORE_DATA_DIRECTORY_UNUSABLE 118

// What a server kept is not what it wrote.
#define SESSIONSTORE_DATA_DAMAGED 119

// A newer version of the server wrote what is kept.
#define SESSIONSTORE_DATA_NEWER 120

// The app took the request back.
#define SESSIONSTORE_CANCELLED 121

// The token is missing, malformed, or signed with another secret.
#define SESSIONSTORE_UNAUTHORIZED 200

// The token has expired.
#define SESSIONSTORE_TOKEN_EXPIRED 201

// A value is larger than the limit.
#define SESSIONSTORE_VALUE_TOO_LARGE 202

// The store has as many keys as it may have.
#define SESSIONSTORE_TOO_MANY_KEYS 203

// Keys and values together would be larger than the limit.
#define SESSIONSTORE_STORE_FULL 204

// The key has another version than the one expected.
#define SESSIONSTORE_VERSION_CONFLICT 205

// A message is larger than the server accepts.
#define SESSIONSTORE_MESSAGE_TOO_LARGE 206

// The peer listens to as many keys as it may.
#define SESSIONSTORE_TOO_MANY_LISTENED_KEYS 207

// The room has as many peers as it may have.
#define SESSIONSTORE_ROOM_FULL 208

// The server has as many connections as it may have.
#define SESSIONSTORE_SERVER_FULL 209

// The peer id is in use in a way that cannot be taken over.
#define SESSIONSTORE_PEER_MISMATCH 210

// The room's rules do not allow it.
#define SESSIONSTORE_FORBIDDEN 211

// A check of a transaction failed.
#define SESSIONSTORE_CHECK_FAILED 212

// Somebody holds the lock.
#define SESSIONSTORE_LOCK_HELD 213

// The lock is not held with this token.
#define SESSIONSTORE_LOCK_LOST 214

// A sum leaves the range of numbers.
#define SESSIONSTORE_NUMBER_OVERFLOW 215

// The key is one that only the server writes.
#define SESSIONSTORE_RESERVED_KEY 216

// The key is absent.
#define SESSIONSTORE_KEY_ABSENT 217

// The room has as many locks as it may have.
#define SESSIONSTORE_TOO_MANY_LOCKS 218

// A web page of this origin may not connect.
#define SESSIONSTORE_ORIGIN_NOT_ALLOWED 219

// The connection asks more than it may.
#define SESSIONSTORE_RATE_LIMITED 220

// Too many connections come from one address.
#define SESSIONSTORE_TOO_MANY_CONNECTIONS 221

// The server has as many rooms as it may have.
#define SESSIONSTORE_TOO_MANY_ROOMS 222

// The peer was removed from the room by whoever runs it.
#define SESSIONSTORE_KICKED 223

// The room was closed by whoever runs it.
#define SESSIONSTORE_ROOM_CLOSED 224

// The room has a session already.
#define SESSIONSTORE_ROOM_OPEN 225

// There is no such room, peer or lock.
#define SESSIONSTORE_NOT_FOUND 226

// A fault of the library or the server.
#define SESSIONSTORE_INTERNAL 900

// The library panicked; the object is not usable any more.
#define SESSIONSTORE_PANIC 901

// The system refused a resource: memory, a thread, a descriptor.
#define SESSIONSTORE_OUT_OF_RESOURCES 902

// The server answered with a code this version does not know.
#define SESSIONSTORE_UNKNOWN 999

// The key is absent, or the value is the JSON `null`, which means the same.
#define SESSIONSTORE_KIND_NULL 0

// `true` or `false`.
#define SESSIONSTORE_KIND_BOOLEAN 1

// A number without fraction and exponent that fits an `int64_t`.
#define SESSIONSTORE_KIND_INTEGER 2

// Any other number.
#define SESSIONSTORE_KIND_NUMBER 3

// A string.
#define SESSIONSTORE_KIND_STRING 4

// An array.
#define SESSIONSTORE_KIND_ARRAY 5

// An object.
#define SESSIONSTORE_KIND_OBJECT 6

// A peer wrote the key; if the value is `null`, a peer removed it. Also of a key that was never set.
#define SESSIONSTORE_CAUSE_WRITTEN 0

// The key's time to live ran out. The value is `null`, and there is no author.
#define SESSIONSTORE_CAUSE_EXPIRED 1

// The key was bound to a peer that is gone, who is the author. The value is `null`.
#define SESSIONSTORE_CAUSE_PEER_LEFT 2

// The session in which the key was set is over, and its store was cleared. The value is `null`.
#define SESSIONSTORE_CAUSE_CLEARED 3

// Stands for 0 in a field of the server's options in which 0 means the default, such as a grace period of 0.
#define SESSIONSTORE_ZERO UINT32_MAX

// A flag of the server's options, with `data_dir`: wait for the disk before anybody is told anything, so that
// nothing is lost when the machine loses power either. Without it the last changes may be lost then, and sessions
// begin anew with the rest.
#define SESSIONSTORE_SERVER_FSYNC 1

// A flag of the server's options: count what the server does, and answer `GET /metrics` at its port in Prometheus'
// text format, to whoever reaches it. There are no names of rooms, peers or keys in it. docs/operate.md has what
// each metric is.
#define SESSIONSTORE_SERVER_METRICS 2

// A flag of the server's options, with `api_secret`: serve a page at `/inspect/` on which people look into rooms, each
// with a token for the HTTP API. docs/inspector.md has what is on it.
#define SESSIONSTORE_SERVER_INSPECT 4

// A flag of the server's options: write to many sockets with one system call, by io_uring, where the system has it
// (Linux 6.1 or newer) and allows it; elsewhere it changes nothing. It takes less of the processor. Not for a program
// that is killed by its own sandbox for that call.
#define SESSIONSTORE_SERVER_IO_URING 8

// The first join is under way.
#define SESSIONSTORE_STATE_CONNECTING 1

// Joined.
#define SESSIONSTORE_STATE_CONNECTED 2

// The connection broke and is being made anew; requests wait.
#define SESSIONSTORE_STATE_RECONNECTING 3

// Over, for good: the client was freed or left, or the server refused it.
#define SESSIONSTORE_STATE_CLOSED 4

// The peer is in the room: it joined, or was there before this client.
#define SESSIONSTORE_PEER_JOINED 1

// The peer's name or metadata changed.
#define SESSIONSTORE_PEER_UPDATED 2

// The peer left, or its grace period ended.
#define SESSIONSTORE_PEER_LEFT 3

// Flag of a client's options: a failure of the very first join closes the client with the error,
// instead of trying on. For programs that rather end than wait.
#define SESSIONSTORE_CLIENT_FAIL_FAST 1

// Replaces the value; `null` removes the key. What is not said of the key's expiry and of its peer is
// forgotten: it stays until it is removed.
#define SESSIONSTORE_OPERATION_SET 1

// Adds a number, which may be negative, to the key's number; an absent key counts as 0. Two integers
// (`int64_t`) are added exactly, others as `double`.
#define SESSIONSTORE_OPERATION_ADD 2

// A JSON merge patch (RFC 7396): members of an object are set, members that are `null` are removed, at
// every depth. An absent key counts as an empty object.
#define SESSIONSTORE_OPERATION_PATCH 3

// Adds each value of a JSON array to the key's array unless it is in it. An absent key counts as an empty
// array, here and below.
#define SESSIONSTORE_OPERATION_SET_ADD 4

// Removes each value of a JSON array from the key's array; that one is not in it is fine.
#define SESSIONSTORE_OPERATION_SET_REMOVE 5

// Appends the values of a JSON array to the key's array, then drops the oldest, which are the first, until
// at most `cap` are left.
#define SESSIONSTORE_OPERATION_APPEND 6

// Leaves the value as it is and gives the key the expiry that the options say. `KEY_ABSENT` if there is
// none.
#define SESSIONSTORE_OPERATION_TOUCH 7

// Flag of a write's options: only if the key has the version `if_version` now.
#define SESSIONSTORE_WRITE_IF_VERSION 1

// Flag of a write's options: the key goes when this peer leaves, or its grace period ends.
#define SESSIONSTORE_WRITE_BOUND 2

// Flag of a write's options: the key goes with no peer.
#define SESSIONSTORE_WRITE_UNBOUND 4

// Flag of a write's options: the key goes by itself when it did before this write, or never.
#define SESSIONSTORE_WRITE_KEEP_EXPIRY 8

// Flag of a write's options: the key does not go by itself.
#define SESSIONSTORE_WRITE_NEVER_EXPIRES 16

// Flag of a selector: every key of the store.
#define SESSIONSTORE_SELECT_ALL 1

// Takes back the requests that it was given to, in the `cancellation` of their result structs: any number of
// them, of any clients. It may be used from any thread.
//
// ```c
// sessionstore_cancellation *screen = NULL;
// sessionstore_action_result result = SESSIONSTORE_ACTION_RESULT_INIT;
// sessionstore_cancellation_new(&screen, NULL);
// result.on_result = on_pinned;
// result.cancellation = screen;
// sessionstore_store_set_string(store, "pinned", SESSIONSTORE_NUL_TERMINATED,
//                               "hello", SESSIONSTORE_NUL_TERMINATED, &result, NULL);
// ...
// sessionstore_cancellation_cancel(screen, NULL); // The screen is left: what was not sent will not be.
// sessionstore_cancellation_free(screen);
// ```
typedef struct sessionstore_cancellation sessionstore_cancellation;

// A client: one peer in one room.
typedef struct sessionstore_client sessionstore_client;

// What went wrong: a code, a sentence, and for conflicts what the key holds now.
//
// Functions that can fail return the code and, if their `error_out` is not NULL, also give an error
// object, which you free with `sessionstore_error_free`. The object never changes and may be read
// from any thread.
typedef struct sessionstore_error sessionstore_error;

// One state of one key: what a listener, a get or a set is told. It never changes, is counted by
// reference, and may be used from any thread.
//
// Events given to callbacks are borrowed until the callback returns; `sessionstore_event_retain`
// keeps one.
typedef struct sessionstore_event sessionstore_event;

// The states of several keys at one revision of the store: what a transaction wrote, or a read found. It
// never changes, is counted by reference, and may be used from any thread.
typedef struct sessionstore_event_list sessionstore_event_list;

// Names of keys, in alphabetical order. It never changes, is counted by reference, and may be used from any
// thread.
typedef struct sessionstore_key_list sessionstore_key_list;

// A lock that this client holds, or held. It is counted by reference; freeing the last reference releases
// the lock. It may outlive its client, with which the lock ends.
//
// While the client is connected it renews the lock by itself. Who holds a lock is shown to everybody by the
// key `$lock/` and its name, which can be listened to as any other.
typedef struct sessionstore_lock sessionstore_lock;

// A peer as it was when it was told of. It never changes, is counted by reference, and may be used
// from any thread.
//
// Peers given to callbacks, and those in a list, are borrowed; `sessionstore_peer_retain` keeps one.
typedef struct sessionstore_peer sessionstore_peer;

// Everybody who was in the room when the list was made. Freed with `sessionstore_peer_list_free`.
typedef struct sessionstore_peer_list sessionstore_peer_list;

// A server that hosts rooms inside this process, on threads of its own.
typedef struct sessionstore_server sessionstore_server;

// The store of the room a client is in. It is counted by reference and may outlive its client, after
// which calls that ask the server answer `CLOSED`. `sessionstore_store_cached` asks nobody.
typedef struct sessionstore_store sessionstore_store;

// A listener that was registered with `sessionstore_store_listen` or `sessionstore_store_listen_to`.
typedef struct sessionstore_subscription sessionstore_subscription;

// Checks and writes that happen together or not at all.
//
// The checks look at the store as it was before. The writes are made in their order, and each sees what
// those before it did; all of them have one revision, and those who listen hear of each key once. The
// room's limits hold for the result as a whole.
//
// A transaction is only a description: it belongs to no store, is not used up by being sent, and may be
// added to and sent again.
typedef struct sessionstore_transaction sessionstore_transaction;

// A JSON value. It never changes, is counted by reference, and may be used from any thread.
//
// Numbers keep every digit: 9007199254740993 stays that.
typedef struct sessionstore_value sessionstore_value;

// Where to listen and what to allow. Begin with `SESSIONSTORE_SERVER_OPTIONS_INIT`; what stays 0 or
// NULL has its default. Texts end with NUL and are copied. An empty one counts as NULL, but for `secret`,
// `api_secret` and `rules`: those are refused with `INVALID_CONFIG`, so that a variable that is not set opens nothing.
typedef struct {
  // Set by `SESSIONSTORE_SERVER_OPTIONS_INIT`.
  uint32_t struct_size;
  // 0, or those of `SESSIONSTORE_SERVER_FSYNC`, `SESSIONSTORE_SERVER_METRICS`, `SESSIONSTORE_SERVER_INSPECT` and
  // `SESSIONSTORE_SERVER_IO_URING` that are wanted, added up.
  uint32_t flags;
  // The IP address to listen on, or `localhost`. Default `127.0.0.1`: this machine only.
  const char *address;
  // The secret that tokens are signed with (HS256). NULL: an open server, which lets everyone in.
  const char *secret;
  // The port, at most 65,535. Default 0: any free one; `sessionstore_server_port` tells which.
  uint32_t port;
  // Threads that serve rooms; a room lives on one of them. Default 1; `SESSIONSTORE_ZERO` for one per core.
  uint32_t threads;
  // How long a peer whose connection broke stays, in milliseconds. Default 30,000;
  // `SESSIONSTORE_ZERO` for not at all.
  uint32_t grace_ms;
  // How long a session without peers is kept, in milliseconds. Default 0.
  uint32_t linger_ms;
  // Largest value, in bytes of compact JSON. Default 1,024.
  uint32_t max_value_bytes;
  // Most keys in a store. Default 100.
  uint32_t max_keys;
  // Most bytes of keys and values together in a store. Default 65,536.
  uint32_t max_store_bytes;
  // Most keys one peer listens to. Default 200.
  uint32_t max_listened_keys;
  // Most peers in a room. Default 20,000.
  uint32_t max_peers;
  // Most connections in all. Default: the server's own, see `sstore serve --help`.
  uint32_t max_connections;
  // After how much silence a connection is pinged, in milliseconds. Default 15,000. It must be below
  // `idle_timeout_ms`.
  uint32_t ping_interval_ms;
  // After how much silence a connection is closed, in milliseconds. Default 45,000.
  uint32_t idle_timeout_ms;
  // Rules, as TOML text: which roles may read, write, create, remove and lock what; docs/rules.md has
  // how they are written. NULL: everybody may do everything. `sessionstore_server_set_rules` changes
  // them later.
  const char *rules;
  // The server's certificate: a file in PEM, the server's own first, then those between it and an authority
  // that clients trust. With it and `tls_key_file` the server speaks `wss://` only. The files are read
  // again by `sessionstore_server_reload_tls` and when they change. NULL: no TLS.
  const char *tls_cert_file;
  // The private key of that certificate: a file in PEM, not encrypted.
  const char *tls_key_file;
  // The authorities of clients' certificates: a file in PEM. With it every client must show a certificate
  // that one of them signed. NULL: nobody is asked for one.
  const char *tls_client_ca_file;
  // The web pages that may connect, as their origins with commas between them:
  // `https://example.org,https://app.example.org:8443`. NULL or empty: all. Programs that are no browsers
  // send no origin, and always may.
  const char *allowed_origins;
  // A directory in which rooms are kept: sessions then go on after the server was stopped, killed or restarted, and
  // nothing that anybody was told is lost. It is made if it is not there, on a disk of this machine, and belongs
  // to one server at a time. NULL: rooms live in memory.
  const char *data_dir;
  // Most connections from one IPv4 address, or one IPv6 network of 64 bits. Default 0: no limit of its own.
  uint32_t max_connections_per_address;
  // Most rooms at once. Default 50,000.
  uint32_t max_rooms;
  // Requests that one peer may make per second, on average; what is beyond is refused with
  // `RATE_LIMITED`. Default 0: no limit.
  uint32_t max_requests_per_second;
  // Requests that one peer may make at once. Default 0: those of five seconds.
  uint32_t max_request_burst;
  // Bytes that one peer may send per second, on average. Default 0: no limit.
  uint32_t max_request_bytes_per_second;
  // Largest message of a client, in bytes. Default 65,536.
  uint32_t max_message_bytes;
  // Where clients reach this server, when that is not where it listens: `https://rooms.example.org` behind a proxy,
  // say. It is handed out to the hosted original's web client, which asks for it. NULL or empty: the host that
  // the client's request was sent to.
  const char *public_url;
  // Where it is told that rooms open and close, by signed requests: `https://` or `http://`, without a user or
  // password; docs/webhooks.md has what is in them. NULL or empty: nowhere.
  const char *webhook_url;
  // What they are signed with: `whsec_` and the base64 of 24 to 64 random bytes. While it is changed it may be both,
  // the new one first, with white space between them. Needed with `webhook_url`.
  const char *webhook_secret;
  // A file with the authorities (PEM) of the receiver's certificate. NULL or empty: those that the system trusts.
  const char *webhook_ca_file;
  // How long the receiver may take to answer, in milliseconds. Default 10,000.
  uint32_t webhook_timeout_ms;
  // After about how many milliseconds a request that was not taken is sent again; then twice as long each time, up
  // to an hour, for a day. Default 1,000.
  uint32_t webhook_retry_ms;
  // The secret that the tokens of operators and back ends are signed with (HS256), another than `secret`. With it
  // the server has an HTTP API under `/v1`; docs/http-api.md has what it can do. NULL: no API.
  const char *api_secret;
} sessionstore_server_options;

// Poll mode: tells that there is something for `sessionstore_client_poll`.
typedef struct {
  // Set by `SESSIONSTORE_WAKE_HOOK_INIT`.
  uint32_t struct_size;
  // 0.
  uint32_t flags;
  // Yours; passed to every call.
  void *ctx;
  // The last call: nothing uses `ctx` after it. It comes on whichever thread lets go last.
  void (*on_drop)(void *ctx);
  // Called from any thread, also while another such call runs. It must return at once and call
  // nothing of this library: write to a pipe, post a message, signal a condition.
  void (*on_wake)(void *ctx);
} sessionstore_wake_hook;

// Gives a client a dispatch thread of its own, on which all its callbacks come, and is called there when
// it starts and just before it ends: for hosts that must make threads known, such as a JVM.
typedef struct {
  // Set by `SESSIONSTORE_THREAD_HOOKS_INIT`.
  uint32_t struct_size;
  // 0.
  uint32_t flags;
  // Yours; passed to every call.
  void *ctx;
  // The last call: nothing uses `ctx` after it. It comes on whichever thread lets go last.
  void (*on_drop)(void *ctx);
  // Before the first callback.
  void (*on_start)(void *ctx);
  // After the last callback.
  void (*on_stop)(void *ctx);
} sessionstore_thread_hooks;

// How and where to join. Begin with `SESSIONSTORE_CLIENT_OPTIONS_INIT`; what stays 0 or NULL has its
// default. Texts end with NUL and are copied.
typedef struct {
  // Set by `SESSIONSTORE_CLIENT_OPTIONS_INIT`.
  uint32_t struct_size;
  // `SESSIONSTORE_CLIENT_…` flags.
  uint32_t flags;
  // The server: `ws://host:port`, or `wss://` for TLS; or with a path. The certificate of a server must
  // always be for the host in the URL. Required.
  const char *url;
  // The room, 1 to 128 bytes. Required unless the token names it.
  const char *room;
  // A JWT for servers that ask for one.
  const char *token;
  // This peer's name, shown to others; at most 256 bytes.
  const char *name;
  // The role asked of an open server; at most 64 bytes. Default `guest`.
  const char *role;
  // The user id told to an open server; at most 128 bytes.
  const char *user_id;
  // This peer's metadata: any text of at most 2,048 bytes.
  const char *metadata;
  // This peer's id, at most 128 bytes, unique in the room. Default: a random UUID.
  const char *peer_id;
  // How long one asynchronous request may take, in milliseconds. Default 10,000.
  uint32_t request_timeout_ms;
  // How long one attempt to connect may take until the room is joined, in milliseconds; a long list of peers that is
  // arriving is waited for. Default 10,000.
  uint32_t connect_timeout_ms;
  // Pause before the first attempt to reconnect, in milliseconds, doubled for each that fails, or
  // whose connection does not last as long as the pause before it; the actual pause is drawn between half of it and
  // the whole. Default 250.
  uint32_t reconnect_min_ms;
  // The longest pause between two attempts, in milliseconds. Default 10,000. It must not be below
  // `reconnect_min_ms`.
  uint32_t reconnect_max_ms;
  // After how much silence the server is pinged, in milliseconds; after as much again without an
  // answer the connection counts as broken. Default 10,000.
  uint32_t heartbeat_ms;
  // Most requests that may wait for their answers; more are refused with `QUEUE_FULL`. Default
  // 1,024.
  uint32_t max_pending;
  // Poll mode if not NULL: the client has no dispatch thread, and callbacks run inside
  // `sessionstore_client_poll`. The struct is copied and consumed.
  const sessionstore_wake_hook *wake_hook;
  // If not NULL, the client has a dispatch thread of its own, and these are its hooks. Not together with
  // `wake_hook`: `INVALID_ARGUMENT`. The struct is copied and consumed.
  const sessionstore_thread_hooks *thread_hooks;
  // For `wss://`: the authorities to trust instead of the system's, a file in PEM. Like the other files it
  // is read when the client is opened. NULL: the system's.
  const char *ca_file;
  // The certificate to show to a server that asks for one, a file in PEM. NULL: none.
  const char *client_cert_file;
  // The private key of that certificate, a file in PEM, not encrypted.
  const char *client_key_file;
} sessionstore_client_options;

// Hears what concerns the client as a whole. Members that are NULL are not called.
//
// See the introduction for what all callback structs have in common: `ctx` is passed to each call,
// calls never overlap and come in order on a dispatch thread, and `on_drop` is called
// exactly once, after the last of them.
typedef struct {
  // Set by `SESSIONSTORE_UPDATE_LISTENER_INIT`.
  uint32_t struct_size;
  // 0.
  uint32_t flags;
  // Yours; passed to every call.
  void *ctx;
  // The last call: nothing uses `ctx` after it.
  void (*on_drop)(void *ctx);
  // The room was joined. Called once. The store is borrowed; `sessionstore_store_retain` keeps it.
  void (*on_store_available)(void *ctx, const sessionstore_store *store);
  // The connection's state is now one of `SESSIONSTORE_STATE_…`. The error says why, or is NULL;
  // it is borrowed.
  void (*on_connection_state)(void *ctx, int32_t state, const sessionstore_error *error);
  // Another peer joined, changed or left: `change` is one of `SESSIONSTORE_PEER_…`. Those who are
  // in the room already are told as joined. The peer is borrowed.
  void (*on_peer)(void *ctx, int32_t change, const sessionstore_peer *peer);
  // Something went wrong that no request is waiting for, such as `SESSION_LOST`. The error is
  // borrowed.
  void (*on_error)(void *ctx, const sessionstore_error *error);
  // The token expires at this server time, in milliseconds since 1970. Soon after, the client closes with
  // `TOKEN_EXPIRED`, unless `sessionstore_client_renew_token` hands in a fresh one. Told 30 s before, or
  // at once when less is left.
  void (*on_token_expiring)(void *ctx, uint64_t expires_at);
} sessionstore_update_listener;

// Hears how one request ended.
typedef struct {
  // Set by `SESSIONSTORE_ACTION_RESULT_INIT`.
  uint32_t struct_size;
  // 0.
  uint32_t flags;
  // Yours; passed to every call.
  void *ctx;
  // The last call: nothing uses `ctx` after it.
  void (*on_drop)(void *ctx);
  // The request ended; called exactly once if the call that took this succeeded, otherwise never.
  // `error` is NULL on success. `event` is the key's state after a set, remove or get that
  // succeeded, otherwise NULL. Both are borrowed.
  void (*on_result)(void *ctx, const sessionstore_error *error, const sessionstore_event *event);
  // What may take the request back, or NULL. It is borrowed for the call, and may be freed after it.
  const sessionstore_cancellation *cancellation;
} sessionstore_action_result;

// Hears of changes of some keys. Members that are NULL are not called.
typedef struct {
  // Set by `SESSIONSTORE_KEY_CHANGE_LISTENER_INIT`.
  uint32_t struct_size;
  // 0.
  uint32_t flags;
  // Yours; passed to every call.
  void *ctx;
  // The last call: nothing uses `ctx` after it.
  void (*on_drop)(void *ctx);
  // A key has this state. First comes the current value of each key (`null` when absent), then
  // `on_snapshot_end`, then each change, this peer's own included. The event is borrowed.
  void (*on_key_changed)(void *ctx, const sessionstore_event *event);
  // All current values were given.
  void (*on_snapshot_end)(void *ctx);
  // The server refused to listen to these keys; only `on_drop` follows. The error is borrowed.
  void (*on_refused)(void *ctx, const sessionstore_error *error);
} sessionstore_key_change_listener;

// On which condition a key is written, and how long it stays. Begin with
// `SESSIONSTORE_WRITE_OPTIONS_INIT`; what stays 0 or NULL is not said: after a set the key stays for good,
// after every other operation as long as it did before.
typedef struct {
  // Set by `SESSIONSTORE_WRITE_OPTIONS_INIT`.
  uint32_t struct_size;
  // Any of `SESSIONSTORE_WRITE_…`.
  uint32_t flags;
  // With `SESSIONSTORE_WRITE_IF_VERSION`: the version the key must have, 0 meaning that it must be
  // absent. Otherwise 0.
  uint64_t if_version;
  // After how many milliseconds the key goes by itself, at most a year (31,536,000,000). 0: not said.
  uint64_t ttl_ms;
  // With `SESSIONSTORE_OPERATION_APPEND`: the most values the array may have afterwards. 0: only the
  // room's limits bound it.
  uint64_t cap;
  // If not NULL, a lock whose grant must hold; otherwise `LOCK_LOST`. Borrowed until the call returns.
  const sessionstore_lock *lock;
} sessionstore_write_options;

// Computes the new value of a key from its state.
typedef struct {
  // Set by `SESSIONSTORE_UPDATER_INIT`.
  uint32_t struct_size;
  // 0.
  uint32_t flags;
  // Yours; passed to every call.
  void *ctx;
  // The last call: nothing uses `ctx` after it.
  void (*on_drop)(void *ctx);
  // The key has this state; returns the value it is to have, which becomes the library's, or NULL to
  // leave the key as it is. (A value of the kind null removes it.) The event is borrowed. Called again
  // whenever somebody else was faster, so it should do nothing but compute. Must not be NULL.
  sessionstore_value *(*on_update)(void *ctx, const sessionstore_event *current);
} sessionstore_updater;

// How a lock is taken. Begin with `SESSIONSTORE_LOCK_OPTIONS_INIT`; what stays 0 has its default.
typedef struct {
  // Set by `SESSIONSTORE_LOCK_OPTIONS_INIT`.
  uint32_t struct_size;
  // 0.
  uint32_t flags;
  // How long the lock outlives its last renewal, in milliseconds, 1,000 to 300,000: so long it stays
  // taken when its holder vanishes. Default 15,000.
  uint32_t ttl_ms;
  // How long to wait for it behind those who came before, in milliseconds, at most 300,000. Default 0:
  // `LOCK_HELD` at once.
  uint32_t wait_ms;
} sessionstore_lock_options;

// Hears of the loss of a lock. Members that are NULL are not called.
typedef struct {
  // Set by `SESSIONSTORE_LOCK_LISTENER_INIT`.
  uint32_t struct_size;
  // 0.
  uint32_t flags;
  // Yours; passed to every call.
  void *ctx;
  // The last call: nothing uses `ctx` after it. It comes when the lock was lost, released or refused.
  void (*on_drop)(void *ctx);
  // The lock is lost: `LOCK_LOST` when it could not be renewed in time or an operator took it away, `FORBIDDEN`
  // when the rules do not allow it any more, `SESSION_LOST`, or what the client ended with, such as `CLOSED`. Called once, and never after a
  // release. The error is borrowed.
  void (*on_lost)(void *ctx, const sessionstore_error *error);
} sessionstore_lock_listener;

// Hears how a request for a lock ended.
typedef struct {
  // Set by `SESSIONSTORE_LOCK_RESULT_INIT`.
  uint32_t struct_size;
  // 0.
  uint32_t flags;
  // Yours; passed to every call.
  void *ctx;
  // The last call: nothing uses `ctx` after it.
  void (*on_drop)(void *ctx);
  // The request ended; called exactly once if the call that took this succeeded, otherwise never.
  // `error` is NULL on success, `lock` otherwise. Both are borrowed: if nobody retains the lock with
  // `sessionstore_lock_retain`, it is released when this returns.
  void (*on_result)(void *ctx, const sessionstore_error *error, const sessionstore_lock *lock);
  // What may take the request back, or NULL. It is borrowed for the call, and may be freed after it.
  const sessionstore_cancellation *cancellation;
} sessionstore_lock_result;

// Hears how one request for several keys ended.
typedef struct {
  // Set by `SESSIONSTORE_EVENT_LIST_RESULT_INIT`.
  uint32_t struct_size;
  // 0.
  uint32_t flags;
  // Yours; passed to every call.
  void *ctx;
  // The last call: nothing uses `ctx` after it.
  void (*on_drop)(void *ctx);
  // The request ended; called exactly once if the call that took this succeeded, otherwise never.
  // `error` is NULL on success, `list` otherwise. Both are borrowed.
  void (*on_result)(void *ctx, const sessionstore_error *error, const sessionstore_event_list *list);
  // What may take the request back, or NULL. It is borrowed for the call, and may be freed after it.
  const sessionstore_cancellation *cancellation;
} sessionstore_event_list_result;

// Which keys are listened to, or read: single keys, every key that begins with one of some texts, or all.
// Begin with `SESSIONSTORE_SELECTOR_INIT`. Everything is copied.
//
// Keys that show locks (`$lock/…`) are meant only by a prefix that begins with `$`.
typedef struct {
  // Set by `SESSIONSTORE_SELECTOR_INIT`.
  uint32_t struct_size;
  // 0 or `SESSIONSTORE_SELECT_ALL`.
  uint32_t flags;
  // Single keys, absent ones included.
  const char *const *keys;
  // Their lengths in bytes, or NULL when all end with NUL.
  const size_t *key_lens;
  // How many they are.
  size_t key_count;
  // And every key that is set and begins with one of these.
  const char *const *prefixes;
  // Their lengths in bytes, or NULL when all end with NUL.
  const size_t *prefix_lens;
  // How many they are.
  size_t prefix_count;
} sessionstore_selector;

// Hears which keys are set.
typedef struct {
  // Set by `SESSIONSTORE_KEY_LIST_RESULT_INIT`.
  uint32_t struct_size;
  // 0.
  uint32_t flags;
  // Yours; passed to every call.
  void *ctx;
  // The last call: nothing uses `ctx` after it.
  void (*on_drop)(void *ctx);
  // The request ended; called exactly once if the call that took this succeeded, otherwise never.
  // `error` is NULL on success, `list` otherwise. Both are borrowed.
  void (*on_result)(void *ctx, const sessionstore_error *error, const sessionstore_key_list *list);
  // What may take the request back, or NULL. It is borrowed for the call, and may be freed after it.
  const sessionstore_cancellation *cancellation;
} sessionstore_key_list_result;

// How much of its limits a store uses. Begin with `SESSIONSTORE_USAGE_INIT`.
typedef struct {
  // Set by `SESSIONSTORE_USAGE_INIT`; the library sets it to how much of the struct it has filled.
  uint32_t struct_size;
  // 0.
  uint32_t flags;
  // The store's revision: how many times it has changed.
  uint64_t revision;
  // Keys that are set.
  uint64_t keys;
  // The most there may be.
  uint64_t max_keys;
  // Bytes of keys and values together.
  uint64_t bytes;
  // The most there may be.
  uint64_t max_bytes;
  // The most bytes of one value.
  uint64_t max_value_bytes;
} sessionstore_usage;

// Hears how much of its limits a store uses.
typedef struct {
  // Set by `SESSIONSTORE_USAGE_RESULT_INIT`.
  uint32_t struct_size;
  // 0.
  uint32_t flags;
  // Yours; passed to every call.
  void *ctx;
  // The last call: nothing uses `ctx` after it.
  void (*on_drop)(void *ctx);
  // The request ended; called exactly once if the call that took this succeeded, otherwise never.
  // `error` is NULL on success, `usage` otherwise. Both are borrowed; `usage` can be copied.
  void (*on_result)(void *ctx, const sessionstore_error *error, const sessionstore_usage *usage);
  // What may take the request back, or NULL. It is borrowed for the call, and may be freed after it.
  const sessionstore_cancellation *cancellation;
} sessionstore_usage_result;

#ifdef __cplusplus
extern "C" {
#endif // __cplusplus

// The code, one of `SESSIONSTORE_…`; 0 for NULL.
int32_t sessionstore_error_code(const sessionstore_error *error);

// The code's name, such as `"VALUE_TOO_LARGE"`; `"OK"` for NULL. Lives as long as the error.
const char *sessionstore_error_name(const sessionstore_error *error);

// A sentence for people: what happened and what to do. It holds no value, token or secret. Lives
// as long as the error; `""` for NULL.
const char *sessionstore_error_message(const sessionstore_error *error);

// 1 if the same call may succeed later without being changed, otherwise 0.
int32_t sessionstore_error_is_retryable(const sessionstore_error *error);

// For `SESSIONSTORE_VERSION_CONFLICT`, and for `SESSIONSTORE_CHECK_FAILED` of a key, what the key holds
// now; for `SESSIONSTORE_LOCK_HELD`, the key that shows who holds the lock; otherwise NULL. Borrowed from
// the error; `sessionstore_event_retain` keeps it.
const sessionstore_event *sessionstore_error_current(const sessionstore_error *error);

// Which check of a transaction failed, counted from 0 in the order in which they were added; -1 when it
// was none.
int32_t sessionstore_error_check(const sessionstore_error *error);

// Which write of a transaction was refused, counted from 0 in the order in which they were added; -1 when
// it was none.
int32_t sessionstore_error_write(const sessionstore_error *error);

// For `SESSIONSTORE_RATE_LIMITED`, and for a server that is full, how long to wait before trying again, in
// milliseconds; -1 when the error does not say, and for NULL.
int64_t sessionstore_error_retry_after_ms(const sessionstore_error *error);

// Frees an error. NULL is fine.
void sessionstore_error_free(sessionstore_error *error);

// The name of a code, such as `"VALUE_TOO_LARGE"`; `"UNKNOWN"` for a number that is none. Lives for
// ever.
const char *sessionstore_code_name(int32_t code);

// What a code means and what to do, as a sentence. Lives for ever.
const char *sessionstore_code_advice(int32_t code);

// The version of the library that is running, such as `"0.1.0"`. Lives for ever.
//
// Compare it with `SESSIONSTORE_VERSION`, the version of the header you compiled with: within one
// SONAME the library may be newer.
const char *sessionstore_version(void);

// Makes a value from JSON text, which is checked and compacted.
//
// Errors: `INVALID_JSON`, `INVALID_UTF8`, `NULL_ARGUMENT`.
int32_t sessionstore_value_from_json(const char *json,
                                     size_t json_len,
                                     sessionstore_value **value_out,
                                     sessionstore_error **error_out);

// Makes a value from a plain text; quotes and escapes are added.
//
// Errors: `INVALID_UTF8`, `NULL_ARGUMENT`.
int32_t sessionstore_value_from_string(const char *text,
                                       size_t text_len,
                                       sessionstore_value **value_out,
                                       sessionstore_error **error_out);

// Makes a value from an integer. Error: `NULL_ARGUMENT`.
int32_t sessionstore_value_from_integer(int64_t integer,
                                        sessionstore_value **value_out,
                                        sessionstore_error **error_out);

// Makes a value from a number. Errors: `INVALID_ARGUMENT` for NaN and the infinities, which JSON
// cannot say; `NULL_ARGUMENT`.
int32_t sessionstore_value_from_number(double number,
                                       sessionstore_value **value_out,
                                       sessionstore_error **error_out);

// Makes a boolean: `false` from 0, `true` from anything else. Error: `NULL_ARGUMENT`.
int32_t sessionstore_value_from_boolean(int32_t boolean,
                                        sessionstore_value **value_out,
                                        sessionstore_error **error_out);

// What kind of value it is: one of `SESSIONSTORE_KIND_…`. NULL counts as `null`.
int32_t sessionstore_value_kind(const sessionstore_value *value);

// The compact JSON text, with a NUL after it. Lives as long as the value; `"null"` for NULL.
//
// `len_out` may be NULL.
const char *sessionstore_value_json(const sessionstore_value *value, size_t *len_out);

// Reads a boolean: 0 or 1. `WRONG_TYPE` if the value is anything else; 1 is not `true`.
int32_t sessionstore_value_get_boolean(const sessionstore_value *value,
                                       int32_t *boolean_out,
                                       sessionstore_error **error_out);

// Reads an integer, exact over the whole range. `WRONG_TYPE` if the value is anything else, a
// number with a fraction, an exponent or a larger range included.
int32_t sessionstore_value_get_integer(const sessionstore_value *value,
                                       int64_t *integer_out,
                                       sessionstore_error **error_out);

// Reads any number as the nearest `double`. `WRONG_TYPE` if the value is anything else.
int32_t sessionstore_value_get_number(const sessionstore_value *value,
                                      double *number_out,
                                      sessionstore_error **error_out);

// Reads a string as plain text, its escapes undone, with a NUL after it. The text lives as long as
// the value. It can hold NUL bytes of its own: `len_out`, which may be NULL, has the whole length.
// `WRONG_TYPE` if the value is anything else.
int32_t sessionstore_value_get_string(const sessionstore_value *value,
                                      const char **text_out,
                                      size_t *len_out,
                                      sessionstore_error **error_out);

// Another reference to the same value, to be freed too. NULL for NULL.
sessionstore_value *sessionstore_value_retain(const sessionstore_value *value);

// Frees one reference to a value. NULL is fine.
void sessionstore_value_free(sessionstore_value *value);

// The key, with a NUL after it. Lives as long as the event. `len_out` may be NULL.
const char *sessionstore_event_key(const sessionstore_event *event, size_t *len_out);

// The value as compact JSON text, with a NUL after it; `"null"` when the key is absent. Lives as
// long as the event. `len_out` may be NULL.
const char *sessionstore_event_json(const sessionstore_event *event, size_t *len_out);

// The value, borrowed from the event; `sessionstore_value_retain` keeps it. Its kind is
// `SESSIONSTORE_KIND_NULL` when the key is absent.
const sessionstore_value *sessionstore_event_value(const sessionstore_event *event);

// The key's version: the revision of the store that this change made, a removal too. 0 for a key that was
// never set, or whose removal is no longer known.
uint64_t sessionstore_event_version(const sessionstore_event *event);

// When the change was made: server time in milliseconds since 1970-01-01 UTC; 0 when the version
// is 0.
uint64_t sessionstore_event_updated_at(const sessionstore_event *event);

// Why the key has this state: one of `SESSIONSTORE_CAUSE_…`. Tells a key that was removed (the value is
// `null`, the cause `SESSIONSTORE_CAUSE_WRITTEN`) from one that expired or went with its peer.
int32_t sessionstore_event_cause(const sessionstore_event *event);

// When the key goes by itself: server time in milliseconds since 1970-01-01 UTC; 0 for never.
uint64_t sessionstore_event_expires_at(const sessionstore_event *event);

// The id of the peer that made the change; `""` when the version is 0, or the key expired, and when an operator made it,
// who is no peer but has a user id. Known also after that peer has left. Lives as long as the event. `len_out` may be NULL.
const char *sessionstore_event_author_peer_id(const sessionstore_event *event,
                                              size_t *len_out);

// The user id of the peer or operator that made the change, from its token; `""` if it has none. Lives as long
// as the event. `len_out` may be NULL.
const char *sessionstore_event_author_user_id(const sessionstore_event *event,
                                              size_t *len_out);

// The name the author had when it made the change. Lives as long as the event. `len_out` may be
// NULL.
const char *sessionstore_event_author_name(const sessionstore_event *event, size_t *len_out);

// How many older states of this key this event stands for, which this listener missed because it,
// or its connection, did not keep up. Usually 0.
uint64_t sessionstore_event_replaced(const sessionstore_event *event);

// 1 for a current value from before the end-of-snapshot mark, 0 for a change.
int32_t sessionstore_event_is_snapshot(const sessionstore_event *event);

// Another reference to the same event, to be freed too. NULL for NULL.
sessionstore_event *sessionstore_event_retain(const sessionstore_event *event);

// Frees one reference to an event. NULL is fine.
void sessionstore_event_free(sessionstore_event *event);

// How many events are in the list; 0 for NULL.
size_t sessionstore_event_list_count(const sessionstore_event_list *list);

// One event of the list, borrowed from it; NULL beyond its end. `sessionstore_event_retain` keeps it.
const sessionstore_event *sessionstore_event_list_get(const sessionstore_event_list *list,
                                                      size_t index);

// The revision of the store at which the keys had these states; 0 for NULL.
uint64_t sessionstore_event_list_revision(const sessionstore_event_list *list);

// Another reference to the same list, to be freed too. NULL for NULL.
sessionstore_event_list *sessionstore_event_list_retain(const sessionstore_event_list *list);

// Frees one reference to a list; the last one also frees the list's events. NULL is fine.
void sessionstore_event_list_free(sessionstore_event_list *list);

// The peer's id, unique in the room, with a NUL after it. Lives as long as the peer object, as do
// the other texts here. `len_out` may be NULL.
const char *sessionstore_peer_id(const sessionstore_peer *peer, size_t *len_out);

// The user id from the peer's token; `""` if it has none.
const char *sessionstore_peer_user_id(const sessionstore_peer *peer, size_t *len_out);

// The peer's name; `""` if it gave none.
const char *sessionstore_peer_name(const sessionstore_peer *peer, size_t *len_out);

// The peer's role.
const char *sessionstore_peer_role(const sessionstore_peer *peer, size_t *len_out);

// The peer's metadata, any text; it can hold NUL bytes of its own.
const char *sessionstore_peer_metadata(const sessionstore_peer *peer, size_t *len_out);

// When the peer joined: server time in milliseconds since 1970-01-01 UTC.
uint64_t sessionstore_peer_joined_at(const sessionstore_peer *peer);

// Another reference to the same peer object, to be freed too. NULL for NULL.
sessionstore_peer *sessionstore_peer_retain(const sessionstore_peer *peer);

// Frees one reference to a peer object. NULL is fine. Nothing happens to the peer itself.
void sessionstore_peer_free(sessionstore_peer *peer);

// How many peers are in the list; 0 for NULL.
size_t sessionstore_peer_list_count(const sessionstore_peer_list *list);

// One peer of the list, borrowed from it; NULL beyond its end.
const sessionstore_peer *sessionstore_peer_list_get(const sessionstore_peer_list *list,
                                                    size_t index);

// Frees a list and its references to the peer objects. NULL is fine.
void sessionstore_peer_list_free(sessionstore_peer_list *list);

// Makes a cancellation. Free it with `sessionstore_cancellation_free`. Error: `NULL_ARGUMENT`.
int32_t sessionstore_cancellation_new(sessionstore_cancellation **cancellation_out,
                                      sessionstore_error **error_out);

// Takes back what can be taken back, for good, and returns at once. Each such request ends with `CANCELLED`, which
// its callback is told as any result: it has changed nothing and will not. That is
//   - a request that was not sent yet, as all are while there is no connection;
//   - one that only asks, such as `sessionstore_store_get`;
//   - `sessionstore_store_update` between two attempts;
//   - a wait for a lock, sent or not: should the lock be granted yet, it is given back.
//
// A change that was sent goes on, as `sessionstore_client_leave` and `sessionstore_lock_release` do, and its result
// comes as ever.
//
// Calls that are given it from now on return `CANCELLED`. Cancelling again does nothing. Legal in callbacks.
int32_t sessionstore_cancellation_cancel(const sessionstore_cancellation *cancellation,
                                         sessionstore_error **error_out);

// Whether it was cancelled: 1 or 0; 0 for NULL.
int32_t sessionstore_cancellation_is_cancelled(const sessionstore_cancellation *cancellation);

// Frees a cancellation. That cancels nothing: requests that it was given to go on. NULL is fine.
void sessionstore_cancellation_free(sessionstore_cancellation *cancellation);

// Starts a server. When this returns, clients can connect. `options` may be NULL: all defaults.
//
// Errors: `ADDRESS_IN_USE`, `ADDRESS_UNAVAILABLE`, `INVALID_CONFIG`, `INVALID_ARGUMENT`,
// `DATA_DIRECTORY_UNUSABLE`, `DATA_DAMAGED` and `DATA_NEWER` of `data_dir`, `TLS_FAILED` when webhooks need
// authorities and the system has none, `INVALID_UTF8`, `INVALID_STRUCT_SIZE`, `UNKNOWN_OPTION`, `NULL_ARGUMENT`, `OUT_OF_RESOURCES`.
int32_t sessionstore_server_start(const sessionstore_server_options *options,
                                  sessionstore_server **server_out,
                                  sessionstore_error **error_out);

// The port the server listens on; 0 for NULL.
uint32_t sessionstore_server_port(const sessionstore_server *server);

// The URL for clients on this machine, such as `"ws://127.0.0.1:7350"`, or with `wss` when the server has a
// certificate. Lives as long as the server;
// `""` for NULL.
const char *sessionstore_server_url(const sessionstore_server *server);

// Counts open rooms, peers (those in their grace period included) and connections. Each output may be
// NULL.
//
// Errors: `DATA_DIRECTORY_UNUSABLE` when the server has stopped by itself, because what happens in its rooms can
// no longer be kept in its `data_dir`. Nobody was told of what was not kept.
int32_t sessionstore_server_stats(const sessionstore_server *server,
                                  uint64_t *rooms_out,
                                  uint64_t *peers_out,
                                  uint64_t *connections_out,
                                  sessionstore_error **error_out);

// Puts other rules in force, in every room, without dropping a connection. `rules` is TOML text
// (docs/rules.md has how it is written); NULL with a length of 0: everybody may do everything.
//
// Whoever may no longer read a key stops hearing of it; a listener that names it is told `FORBIDDEN`
// (`on_refused`). Returns before all rooms have the new rules.
//
// Errors: `INVALID_CONFIG` with the line and the reason, after which the old rules stay in force;
// `INVALID_UTF8`, `NULL_ARGUMENT`.
//
// ```c
// const char *rules = "[[rule]]\nroles = [\"*\"]\nkeys = [\"*\"]\nallow = [\"read\"]\n";
// sessionstore_server_set_rules(server, rules, SESSIONSTORE_NUL_TERMINATED, NULL);
// ```
int32_t sessionstore_server_set_rules(const sessionstore_server *server,
                                      const char *rules,
                                      size_t rules_len,
                                      sessionstore_error **error_out);

// Reads the certificate's files again. Connections that come from now on get what is in them; those there
// are stay. The server also looks by itself whether the files changed, when a connection comes and at most
// once in two seconds.
//
// Errors: `INVALID_CONFIG` with the file and the reason, after which the old certificate stays in force;
// `WRONG_MODE` for a server without TLS.
//
// ```c
// sessionstore_error *error = NULL;
// if (sessionstore_server_reload_tls(server, &error) != SESSIONSTORE_OK) {
//     fprintf(stderr, "%s\n", sessionstore_error_message(error));
//     sessionstore_error_free(error);
// }
// ```
int32_t sessionstore_server_reload_tls(const sessionstore_server *server,
                                       sessionstore_error **error_out);

// Asks the server to stop, and returns at once: clients are told to come back later, and their rooms
// end.
int32_t sessionstore_server_stop(const sessionstore_server *server,
                                 sessionstore_error **error_out);

// Stops the server and waits until its threads have ended and its port is free.
//
// Errors: `WOULD_DEADLOCK` inside a callback; `TIMEOUT`, after which the server is still stopping.
int32_t sessionstore_server_stop_wait(const sessionstore_server *server,
                                      uint32_t timeout_ms,
                                      sessionstore_error **error_out);

// Frees a server, asking it to stop if it runs. It never blocks and is legal anywhere. NULL is fine.
void sessionstore_server_free(sessionstore_server *server);

// Opens a client and returns at once; it joins in the background and reconnects by itself.
//
// A client takes about 10 KiB of memory, with callbacks as in poll mode (measured on 64-bit Linux with
// 1,000 clients in one process that listen to one key each), and no thread unless it has
// `thread_hooks`: all clients share one network thread and the threads that run callbacks.
//
// `listener` may be NULL. It and the hooks of the options are consumed, also when the call fails:
// their `on_drop` is then called before it returns, on this thread.
//
// Errors: `NULL_ARGUMENT`, `INVALID_STRUCT_SIZE`, `UNKNOWN_OPTION`, `INVALID_UTF8`, `INVALID_URL`,
// `INVALID_ROOM`, `INVALID_PEER`, `INVALID_ARGUMENT` (also for a file that cannot be used), `UNAUTHORIZED` for what
// cannot be a token, `OUT_OF_RESOURCES`,
// `TLS_FAILED` when the URL asks for TLS and the system has no authorities to trust. That the server cannot
// be reached, or is not trusted, is no error here: the listener hears of it.
//
// ```c
// sessionstore_client_options options = SESSIONSTORE_CLIENT_OPTIONS_INIT;
// options.url = "ws://127.0.0.1:7350";
// options.room = "lobby";
// sessionstore_client *client = NULL;
// if (sessionstore_client_open(&options, NULL, &client, NULL) != SESSIONSTORE_OK) return 1;
// ```
int32_t sessionstore_client_open(const sessionstore_client_options *options,
                                 const sessionstore_update_listener *listener,
                                 sessionstore_client **client_out,
                                 sessionstore_error **error_out);

// Waits until the room is joined and gives its store, to be freed with `sessionstore_store_free`.
//
// Errors: `WOULD_DEADLOCK` inside a callback; `CLOSED`, or the reason for which the client closed,
// such as `UNAUTHORIZED`; when the time runs out, the last failure to connect (`HOST_NOT_FOUND`,
// `CONNECTION_FAILED`, …) or `TIMEOUT`. The client goes on trying.
int32_t sessionstore_client_join_wait(const sessionstore_client *client,
                                      uint32_t timeout_ms,
                                      sessionstore_store **store_out,
                                      sessionstore_error **error_out);

// Where the client stands: one of `SESSIONSTORE_STATE_…`; `SESSIONSTORE_STATE_CLOSED` for NULL and in
// a forked child.
int32_t sessionstore_client_state(const sessionstore_client *client);

// This peer's id. Lives as long as the client; `""` for NULL.
const char *sessionstore_client_peer_id(const sessionstore_client *client);

// Gives everybody in the room as this client knows it, itself included, in the order of their ids.
// Free the list with `sessionstore_peer_list_free`.
int32_t sessionstore_client_peers(const sessionstore_client *client,
                                  sessionstore_peer_list **list_out,
                                  sessionstore_error **error_out);

// Changes this peer's name, its metadata, or both; what is NULL with length 0 stays. `result` may be
// NULL.
//
// Errors: `INVALID_PEER`, `INVALID_UTF8`, `NULL_ARGUMENT`, `CLOSED`, `QUEUE_FULL`.
int32_t sessionstore_client_update_peer(const sessionstore_client *client,
                                        const char *name,
                                        size_t name_len,
                                        const char *metadata,
                                        size_t metadata_len,
                                        const sessionstore_action_result *result,
                                        sessionstore_error **error_out);

// The same, waiting for the result. Further errors: those of the request; `WOULD_DEADLOCK` inside a
// callback; `TIMEOUT`.
int32_t sessionstore_client_update_peer_wait(const sessionstore_client *client,
                                             const char *name,
                                             size_t name_len,
                                             const char *metadata,
                                             size_t metadata_len,
                                             uint32_t timeout_ms,
                                             sessionstore_error **error_out);

// Hands in a fresh token before the old one expires, without a break: for the same room and user, maybe
// with another role, which counts from then on. Once the server has taken it the client connects with it;
// while the connection is broken, as soon as the server refuses the old one, also where this has ended with
// `TIMEOUT` by then. `result` may be NULL.
//
// Errors of the call: `UNAUTHORIZED` for what cannot be a token, `INVALID_UTF8`, `NULL_ARGUMENT`, `CLOSED`,
// `QUEUE_FULL`. Errors of the request: `UNAUTHORIZED`, `TOKEN_EXPIRED`, after which the old token counts;
// `INVALID_ARGUMENT` when the server is open.
int32_t sessionstore_client_renew_token(const sessionstore_client *client,
                                        const char *token,
                                        size_t token_len,
                                        const sessionstore_action_result *result,
                                        sessionstore_error **error_out);

// The same, waiting for the result. Further errors: `WOULD_DEADLOCK` inside a callback; `TIMEOUT`.
int32_t sessionstore_client_renew_token_wait(const sessionstore_client *client,
                                             const char *token,
                                             size_t token_len,
                                             uint32_t timeout_ms,
                                             sessionstore_error **error_out);

// Leaves the room: everybody is told at once, instead of after the grace period, and the client
// closes. `result` may be NULL; it comes before the client's last callback. Without a connection, or
// when it breaks and the next cannot be made at once, that is all there is to do: the others are told
// after the grace period.
//
// Errors: `CLOSED`, `QUEUE_FULL`.
int32_t sessionstore_client_leave(const sessionstore_client *client,
                                  const sessionstore_action_result *result,
                                  sessionstore_error **error_out);

// The same, waiting until the server has taken the leave. Further errors: `WOULD_DEADLOCK` inside a
// callback; `TIMEOUT`.
int32_t sessionstore_client_leave_wait(const sessionstore_client *client,
                                       uint32_t timeout_ms,
                                       sessionstore_error **error_out);

// Poll mode: runs waiting callbacks on this thread, at most `most` of them (0: all that wait), and
// writes how many ran to `ran_out`, which may be NULL. If some are left, the wake hook is called
// again.
//
// Errors: `WRONG_MODE` without poll mode; `WOULD_DEADLOCK` inside a callback; `BUSY` while another
// thread polls this client.
int32_t sessionstore_client_poll(const sessionstore_client *client,
                                 size_t most,
                                 size_t *ran_out,
                                 sessionstore_error **error_out);

// Frees a client. It leaves the room in the background; requests that wait end with `CLOSED`, then
// every listener's `on_drop` is called and at last the update listener's. The store may be freed
// before or after. A program that ends right after this calls `sessionstore_client_leave_wait` first:
// otherwise the process may be gone before the leave is said, and the peer stays in the room for the
// grace period.
//
// It never blocks and is legal anywhere, inside this client's callbacks too. In poll mode the last
// callbacks run inside this call, or, when it is made inside a callback or while another thread
// polls, inside that poll. NULL is fine.
void sessionstore_client_free(sessionstore_client *client);

// Another reference to the same store, to be freed too. NULL for NULL.
sessionstore_store *sessionstore_store_retain(const sessionstore_store *store);

// Frees one reference to a store. It stops nothing. NULL is fine.
void sessionstore_store_free(sessionstore_store *store);

// Asks the server for a key's current state; an absent key has the value `null`. Otherwise as
// `sessionstore_store_set`.
int32_t sessionstore_store_get(const sessionstore_store *store,
                               const char *key,
                               size_t key_len,
                               const sessionstore_action_result *result,
                               sessionstore_error **error_out);

// The same, waiting for the result, which is what `event_out` is for: it must not be NULL. Free the
// event with `sessionstore_event_free`.
//
// Further errors: `WOULD_DEADLOCK` inside a callback.
int32_t sessionstore_store_get_wait(const sessionstore_store *store,
                                    const char *key,
                                    size_t key_len,
                                    uint32_t timeout_ms,
                                    sessionstore_event **event_out,
                                    sessionstore_error **error_out);

// Gives what this client knows of a key it listens to, without asking the server: no round trip, and
// no waiting for callbacks. `*event_out` is NULL when no listener has the key, or its first value is
// still under way.
//
// Errors: `INVALID_UTF8`, `NULL_ARGUMENT`.
int32_t sessionstore_store_cached(const sessionstore_store *store,
                                  const char *key,
                                  size_t key_len,
                                  sessionstore_event **event_out,
                                  sessionstore_error **error_out);

// Listens to `count` keys: the listener first gets the current value of each (`null` when absent),
// then `on_snapshot_end`, then every change.
//
// `key_lens` has the keys' lengths in bytes, or is NULL when all end with NUL. `listener` is consumed,
// also when the call fails. `subscription_out` may be NULL: the listener then stays for as long as the
// client does. Any number of listeners may have the same keys.
//
// Errors: `INVALID_KEY`, `INVALID_ARGUMENT` when there are no keys, `INVALID_UTF8`, `NULL_ARGUMENT`,
// `INVALID_STRUCT_SIZE`, `UNKNOWN_OPTION`, `CLOSED`. If the server refuses
// (`TOO_MANY_LISTENED_KEYS`, `FORBIDDEN`), or the names are too long for one message to it (`MESSAGE_TOO_LARGE`),
// the listener's `on_refused` hears of it.
//
// ```c
// const char *keys[] = {"spotlight", "pinned"};
// sessionstore_key_change_listener listener = SESSIONSTORE_KEY_CHANGE_LISTENER_INIT;
// listener.on_key_changed = on_key_changed;
// sessionstore_subscription *subscription = NULL;
// sessionstore_store_listen(store, keys, NULL, 2, &listener, &subscription, NULL);
// ```
int32_t sessionstore_store_listen(const sessionstore_store *store,
                                  const char *const *keys,
                                  const size_t *key_lens,
                                  size_t count,
                                  const sessionstore_key_change_listener *listener,
                                  sessionstore_subscription **subscription_out,
                                  sessionstore_error **error_out);

// Sets a key to a JSON value, given as text; `null` removes the key.
//
// `result` may be NULL; it is consumed, also when the call fails. On success it has the key's new
// state, and this client's listeners were told before it.
//
// Errors of the call: `INVALID_JSON`, `INVALID_UTF8`, `INVALID_KEY`, `NULL_ARGUMENT`, `CLOSED`,
// `QUEUE_FULL`. Errors of the request: `VALUE_TOO_LARGE`, or `MESSAGE_TOO_LARGE` for what is larger than
// anything the server takes; `TOO_MANY_KEYS`, `STORE_FULL`; `FORBIDDEN` by the rules, `RESERVED_KEY` for the keys
// that show locks; `TIMEOUT`, `SESSION_LOST`, `CLOSED`: all of these change nothing. `OUTCOME_UNKNOWN`, after
// which it may have been applied.
//
// ```c
// sessionstore_store_set(store, "pinned", SESSIONSTORE_NUL_TERMINATED,
//                        "{\"text\":\"Welcome!\"}", SESSIONSTORE_NUL_TERMINATED, NULL, NULL);
// ```
int32_t sessionstore_store_set(const sessionstore_store *store,
                               const char *key,
                               size_t key_len,
                               const char *json,
                               size_t json_len,
                               const sessionstore_action_result *result,
                               sessionstore_error **error_out);

// The same, waiting for the result. `event_out`, which may be NULL, is given the key's new state.
//
// Further errors: `WOULD_DEADLOCK` inside a callback, where nothing is sent.
int32_t sessionstore_store_set_wait(const sessionstore_store *store,
                                    const char *key,
                                    size_t key_len,
                                    const char *json,
                                    size_t json_len,
                                    uint32_t timeout_ms,
                                    sessionstore_event **event_out,
                                    sessionstore_error **error_out);

// Sets a key to a string, given as plain text. Otherwise as `sessionstore_store_set`.
int32_t sessionstore_store_set_string(const sessionstore_store *store,
                                      const char *key,
                                      size_t key_len,
                                      const char *text,
                                      size_t text_len,
                                      const sessionstore_action_result *result,
                                      sessionstore_error **error_out);

// The same, waiting for the result. `event_out`, which may be NULL, is given the key's new state.
//
// Further errors: `WOULD_DEADLOCK` inside a callback, where nothing is sent.
int32_t sessionstore_store_set_string_wait(const sessionstore_store *store,
                                           const char *key,
                                           size_t key_len,
                                           const char *text,
                                           size_t text_len,
                                           uint32_t timeout_ms,
                                           sessionstore_event **event_out,
                                           sessionstore_error **error_out);

// Sets a key to an integer, kept exactly. Otherwise as `sessionstore_store_set`.
int32_t sessionstore_store_set_integer(const sessionstore_store *store,
                                       const char *key,
                                       size_t key_len,
                                       int64_t integer,
                                       const sessionstore_action_result *result,
                                       sessionstore_error **error_out);

// The same, waiting for the result. `event_out`, which may be NULL, is given the key's new state.
//
// Further errors: `WOULD_DEADLOCK` inside a callback, where nothing is sent.
int32_t sessionstore_store_set_integer_wait(const sessionstore_store *store,
                                            const char *key,
                                            size_t key_len,
                                            int64_t integer,
                                            uint32_t timeout_ms,
                                            sessionstore_event **event_out,
                                            sessionstore_error **error_out);

// Sets a key to a number; `INVALID_ARGUMENT` for NaN and the infinities. Otherwise as
// `sessionstore_store_set`.
int32_t sessionstore_store_set_number(const sessionstore_store *store,
                                      const char *key,
                                      size_t key_len,
                                      double number,
                                      const sessionstore_action_result *result,
                                      sessionstore_error **error_out);

// The same, waiting for the result. `event_out`, which may be NULL, is given the key's new state.
//
// Further errors: `WOULD_DEADLOCK` inside a callback, where nothing is sent.
int32_t sessionstore_store_set_number_wait(const sessionstore_store *store,
                                           const char *key,
                                           size_t key_len,
                                           double number,
                                           uint32_t timeout_ms,
                                           sessionstore_event **event_out,
                                           sessionstore_error **error_out);

// Sets a key to `false` (0) or `true` (anything else). Otherwise as `sessionstore_store_set`.
int32_t sessionstore_store_set_boolean(const sessionstore_store *store,
                                       const char *key,
                                       size_t key_len,
                                       int32_t boolean,
                                       const sessionstore_action_result *result,
                                       sessionstore_error **error_out);

// The same, waiting for the result. `event_out`, which may be NULL, is given the key's new state.
//
// Further errors: `WOULD_DEADLOCK` inside a callback, where nothing is sent.
int32_t sessionstore_store_set_boolean_wait(const sessionstore_store *store,
                                            const char *key,
                                            size_t key_len,
                                            int32_t boolean,
                                            uint32_t timeout_ms,
                                            sessionstore_event **event_out,
                                            sessionstore_error **error_out);

// Removes a key; that it was absent already is fine. Otherwise as `sessionstore_store_set`.
int32_t sessionstore_store_remove(const sessionstore_store *store,
                                  const char *key,
                                  size_t key_len,
                                  const sessionstore_action_result *result,
                                  sessionstore_error **error_out);

// The same, waiting for the result. `event_out`, which may be NULL, is given the key's new state.
//
// Further errors: `WOULD_DEADLOCK` inside a callback, where nothing is sent.
int32_t sessionstore_store_remove_wait(const sessionstore_store *store,
                                       const char *key,
                                       size_t key_len,
                                       uint32_t timeout_ms,
                                       sessionstore_event **event_out,
                                       sessionstore_error **error_out);

// Sets a key to a JSON value only if it has this version now, 0 meaning that it is absent. Otherwise as
// `sessionstore_store_set`. A key that was removed is absent: what is expected of it is 0, not the version of
// the removal, which `sessionstore_event_version` is where the value is null.
//
// Further error of the request: `VERSION_CONFLICT`, whose `sessionstore_error_current` has what the key
// holds. `sessionstore_store_update` does this until it lands.
int32_t sessionstore_store_set_if_version(const sessionstore_store *store,
                                          const char *key,
                                          size_t key_len,
                                          const char *json,
                                          size_t json_len,
                                          uint64_t version,
                                          const sessionstore_action_result *result,
                                          sessionstore_error **error_out);

// The same, waiting for the result. `event_out`, which may be NULL, is given the key's new state.
//
// Further errors: `WOULD_DEADLOCK` inside a callback, where nothing is sent.
//
// ```c
// sessionstore_error *error = NULL;
// if (sessionstore_store_set_if_version_wait(store, "turn", SESSIONSTORE_NUL_TERMINATED, "\"o\"",
//                                            SESSIONSTORE_NUL_TERMINATED, sessionstore_event_version(seen),
//                                            10000, NULL, &error) == SESSIONSTORE_VERSION_CONFLICT)
//     printf("it is %s already\n", sessionstore_event_json(sessionstore_error_current(error), NULL));
// sessionstore_error_free(error);
// ```
int32_t sessionstore_store_set_if_version_wait(const sessionstore_store *store,
                                               const char *key,
                                               size_t key_len,
                                               const char *json,
                                               size_t json_len,
                                               uint64_t version,
                                               uint32_t timeout_ms,
                                               sessionstore_event **event_out,
                                               sessionstore_error **error_out);

// Adds an integer, which may be negative, to a key's number, exactly; an absent key counts as 0. However
// many peers add at once, none of it is lost. Otherwise as `sessionstore_store_set`; the state that the
// result has holds the sum.
//
// Further errors of the request: `WRONG_TYPE` when the key holds something else, `NUMBER_OVERFLOW`.
//
// ```c
// sessionstore_store_add(store, "votes/yes", SESSIONSTORE_NUL_TERMINATED, 1, NULL, NULL);
// ```
int32_t sessionstore_store_add(const sessionstore_store *store,
                               const char *key,
                               size_t key_len,
                               int64_t amount,
                               const sessionstore_action_result *result,
                               sessionstore_error **error_out);

// The same, waiting for the result. `event_out`, which may be NULL, is given the key's new state.
//
// Further errors: `WOULD_DEADLOCK` inside a callback, where nothing is sent.
int32_t sessionstore_store_add_wait(const sessionstore_store *store,
                                    const char *key,
                                    size_t key_len,
                                    int64_t amount,
                                    uint32_t timeout_ms,
                                    sessionstore_event **event_out,
                                    sessionstore_error **error_out);

// Does one of `SESSIONSTORE_OPERATION_…` to a key, on the server: nobody has to read a value, change it
// and write all of it back, and nobody's change is lost.
//
// `json` is the value that is set or added, the patch, or, for `SET_ADD`, `SET_REMOVE` and `APPEND`, an
// array of values; NULL with length 0 for `TOUCH`. `options` may be NULL, but not for `TOUCH`, which needs
// `ttl_ms` or one of the flags about the expiry. `result` may be NULL; it is consumed, also when the call
// fails. On success it has the key's state after it.
//
// Errors of the call: those of `sessionstore_store_set`; `WRONG_TYPE` when `json` should be an array;
// `INVALID_ARGUMENT` for an operation that does not exist, and for options that contradict each other or
// do not fit the operation; `INVALID_STRUCT_SIZE`, `UNKNOWN_OPTION`. Errors of the request: those of
// `sessionstore_store_set`; `WRONG_TYPE` when the key holds something that the operation is not for;
// `NUMBER_OVERFLOW`, `KEY_ABSENT`, `VERSION_CONFLICT`, `LOCK_LOST`; `INVALID_ARGUMENT` for a `ttl_ms` that
// is too long.
//
// ```c
// sessionstore_write_options options = SESSIONSTORE_WRITE_OPTIONS_INIT;
// options.cap = 3;
// sessionstore_store_write(store, "pinned", SESSIONSTORE_NUL_TERMINATED, SESSIONSTORE_OPERATION_APPEND,
//                          "[\"Welcome!\"]", SESSIONSTORE_NUL_TERMINATED, &options, NULL, NULL);
// ```
int32_t sessionstore_store_write(const sessionstore_store *store,
                                 const char *key,
                                 size_t key_len,
                                 int32_t operation,
                                 const char *json,
                                 size_t json_len,
                                 const sessionstore_write_options *options,
                                 const sessionstore_action_result *result,
                                 sessionstore_error **error_out);

// The same, waiting for the result. `event_out`, which may be NULL, is given the key's state after it.
//
// Further errors: `WOULD_DEADLOCK` inside a callback, where nothing is sent.
int32_t sessionstore_store_write_wait(const sessionstore_store *store,
                                      const char *key,
                                      size_t key_len,
                                      int32_t operation,
                                      const char *json,
                                      size_t json_len,
                                      const sessionstore_write_options *options,
                                      uint32_t timeout_ms,
                                      sessionstore_event **event_out,
                                      sessionstore_error **error_out);

// Reads a key, has its new value computed, and sets it if nobody changed it meanwhile; otherwise again, with
// what it holds by then. For what no operation of `sessionstore_store_write` does.
//
// The updater is called on a dispatch thread. It is consumed, also when the call fails, and so is `result`,
// which may be NULL; on success it has the key's state after the update. No further attempt is made after
// the client's `request_timeout_ms`.
//
// Errors of the call: `INVALID_KEY`, `INVALID_UTF8`, `NULL_ARGUMENT`, `INVALID_STRUCT_SIZE`,
// `UNKNOWN_OPTION`, `CLOSED`, `QUEUE_FULL`. Errors of the request: `VERSION_CONFLICT` when others were
// faster until the time ran out, and nothing was changed; those of `sessionstore_store_set`.
//
// ```c
// static sessionstore_value *doubled(void *ctx, const sessionstore_event *current) {
//     int64_t stakes = 1;
//     sessionstore_value *next = NULL;
//     (void)ctx;
//     sessionstore_value_get_integer(sessionstore_event_value(current), &stakes, NULL);
//     sessionstore_value_from_integer(stakes * 2, &next, NULL);
//     return next;
// }
//
// sessionstore_updater updater = SESSIONSTORE_UPDATER_INIT;
// updater.on_update = doubled;
// sessionstore_store_update(store, "stakes", SESSIONSTORE_NUL_TERMINATED, &updater, NULL, NULL);
// ```
int32_t sessionstore_store_update(const sessionstore_store *store,
                                  const char *key,
                                  size_t key_len,
                                  const sessionstore_updater *updater,
                                  const sessionstore_action_result *result,
                                  sessionstore_error **error_out);

// The same, waiting for the result: the updater is called on this thread, before this returns. It is a
// callback all the same: a `_wait` inside it returns `WOULD_DEADLOCK`. `timeout_ms` bounds all attempts
// together. `event_out`, which may be NULL, is given the key's state after the update.
//
// Further errors: `WOULD_DEADLOCK` inside a callback, where nothing is sent; `OUTCOME_UNKNOWN` when the
// last attempt has no answer by then, which may have been made.
int32_t sessionstore_store_update_wait(const sessionstore_store *store,
                                       const char *key,
                                       size_t key_len,
                                       const sessionstore_updater *updater,
                                       uint32_t timeout_ms,
                                       sessionstore_event **event_out,
                                       sessionstore_error **error_out);

// Takes a lock of the room, which is this client's until it is released, lost, or its last handle is
// freed.
//
// `options` and `listener` may be NULL, `result` may not. Listener and result are consumed, also when the
// call fails. When the lock is refused, the listener's `on_drop` comes before the result.
//
// Errors of the call: `INVALID_LOCK` unless the name has 1 to 200 bytes and no control characters;
// `INVALID_UTF8`, `NULL_ARGUMENT`, `INVALID_STRUCT_SIZE`, `UNKNOWN_OPTION`, `CLOSED`, `QUEUE_FULL`. Errors
// of the request: `LOCK_HELD`, after as much waiting as was asked for, whose `sessionstore_error_current`
// shows by whom; `INVALID_ARGUMENT` for times out of their range; `TOO_MANY_LOCKS`, `FORBIDDEN`; `TIMEOUT`,
// `SESSION_LOST` and `CLOSED`, after which the lock is given back, or ends with its time.
//
// ```c
// static void on_lock(void *ctx, const sessionstore_error *error, const sessionstore_lock *lock) {
//     if (error == NULL) ((struct app *)ctx)->presenter = sessionstore_lock_retain(lock);
// }
//
// sessionstore_lock_options options = SESSIONSTORE_LOCK_OPTIONS_INIT;
// sessionstore_lock_result result = SESSIONSTORE_LOCK_RESULT_INIT;
// options.wait_ms = 60000;
// result.ctx = &app;
// result.on_result = on_lock;
// sessionstore_store_lock(store, "presenter", SESSIONSTORE_NUL_TERMINATED, &options, NULL, &result, NULL);
// ```
int32_t sessionstore_store_lock(const sessionstore_store *store,
                                const char *name,
                                size_t name_len,
                                const sessionstore_lock_options *options,
                                const sessionstore_lock_listener *listener,
                                const sessionstore_lock_result *result,
                                sessionstore_error **error_out);

// The same, waiting for the lock, which is what `lock_out` is for: it must not be NULL. Free the lock with
// `sessionstore_lock_free`, which releases it. `timeout_ms` bounds the whole call and should be more than
// the `wait_ms` of the options. When the call fails, the listener's `on_drop` is called before it returns.
//
// Further errors: `WOULD_DEADLOCK` inside a callback, where nothing is sent.
int32_t sessionstore_store_lock_wait(const sessionstore_store *store,
                                     const char *name,
                                     size_t name_len,
                                     const sessionstore_lock_options *options,
                                     const sessionstore_lock_listener *listener,
                                     uint32_t timeout_ms,
                                     sessionstore_lock **lock_out,
                                     sessionstore_error **error_out);

// The lock's name, with a NUL after it. Lives as long as the lock object; `""` for NULL. `len_out` may be NULL.
const char *sessionstore_lock_name(const sessionstore_lock *lock,
                                   size_t *len_out);

// The fencing token of this grant: larger than that of every grant before it in the session. Who guards
// something outside the room can refuse tokens that are smaller than one it has seen. 0 for NULL.
uint64_t sessionstore_lock_token(const sessionstore_lock *lock);

// 1 while the lock is held as far as this client knows: it was neither released nor lost, and its time is
// not over, of which its listener hears a moment later; time goes on while the machine sleeps. 0 otherwise, for
// NULL, and in a forked child. What must not be written by one who has lost the lock without knowing yet is
// written with the lock in its options.
int32_t sessionstore_lock_is_held(const sessionstore_lock *lock);

// Gives the lock up: the next who waits gets it. From here on it is not held any more, and its listener's
// `on_drop` comes on a dispatch thread. `result` may be NULL; it is consumed, also when the call fails. The
// handle is still to be freed.
//
// Errors of the call, after which it is held as before: `CLOSED`, `QUEUE_FULL`, `NULL_ARGUMENT`,
// `INVALID_STRUCT_SIZE`, `UNKNOWN_OPTION`. Errors of the request: `LOCK_LOST` if it was not held any more;
// `TIMEOUT`, `OUTCOME_UNKNOWN`, after which it ends with its time at the latest.
int32_t sessionstore_lock_release(const sessionstore_lock *lock,
                                  const sessionstore_action_result *result,
                                  sessionstore_error **error_out);

// The same, waiting until it is free. Further errors: `WOULD_DEADLOCK` inside a callback, where nothing is
// sent.
int32_t sessionstore_lock_release_wait(const sessionstore_lock *lock,
                                       uint32_t timeout_ms,
                                       sessionstore_error **error_out);

// Another reference to the same lock, to be freed too. NULL for NULL.
sessionstore_lock *sessionstore_lock_retain(const sessionstore_lock *lock);

// Frees one reference to a lock; the last one releases the lock in the background if it is still held. It
// never blocks and is legal anywhere, in callbacks too. NULL is fine.
void sessionstore_lock_free(sessionstore_lock *lock);

// Makes an empty transaction. Free it with `sessionstore_transaction_free`. Error: `NULL_ARGUMENT`.
//
// ```c
// sessionstore_transaction *turn = NULL;
// sessionstore_transaction_new(&turn, NULL);
// sessionstore_transaction_check_equals(turn, "turn", SESSIONSTORE_NUL_TERMINATED,
//                                       "\"x\"", SESSIONSTORE_NUL_TERMINATED, NULL);
// sessionstore_transaction_write(turn, "board/4", SESSIONSTORE_NUL_TERMINATED, SESSIONSTORE_OPERATION_SET,
//                                "\"x\"", SESSIONSTORE_NUL_TERMINATED, NULL, NULL);
// sessionstore_transaction_write(turn, "turn", SESSIONSTORE_NUL_TERMINATED, SESSIONSTORE_OPERATION_SET,
//                                "\"o\"", SESSIONSTORE_NUL_TERMINATED, NULL, NULL);
// sessionstore_store_transact(store, turn, NULL, NULL);
// sessionstore_transaction_free(turn);
// ```
int32_t sessionstore_transaction_new(sessionstore_transaction **transaction_out,
                                     sessionstore_error **error_out);

// Adds a check: the key has this version; 0: it is absent. Errors, here and for the other checks:
// `INVALID_UTF8`, `NULL_ARGUMENT`. What breaks the rules for keys is refused when the transaction is sent.
int32_t sessionstore_transaction_check_version(sessionstore_transaction *transaction,
                                               const char *key,
                                               size_t key_len,
                                               uint64_t version,
                                               sessionstore_error **error_out);

// Adds a check: the key is set.
int32_t sessionstore_transaction_check_exists(sessionstore_transaction *transaction,
                                              const char *key,
                                              size_t key_len,
                                              sessionstore_error **error_out);

// Adds a check: the key is not set.
int32_t sessionstore_transaction_check_absent(sessionstore_transaction *transaction,
                                              const char *key,
                                              size_t key_len,
                                              sessionstore_error **error_out);

// Adds a check: the key holds this JSON value, whatever its spelling: the order of members and the escapes
// in strings make no difference; numbers are the same when they are written alike, so 1 and 1.0 differ.
// `null`: the key is absent. Further error: `INVALID_JSON`.
int32_t sessionstore_transaction_check_equals(sessionstore_transaction *transaction,
                                              const char *key,
                                              size_t key_len,
                                              const char *json,
                                              size_t json_len,
                                              sessionstore_error **error_out);

// Adds a check: the lock is held under this grant. The lock is not kept: it may be freed, after which the
// check fails, as it does when the lock is lost, with `LOCK_LOST`.
int32_t sessionstore_transaction_check_lock(sessionstore_transaction *transaction,
                                            const sessionstore_lock *lock,
                                            sessionstore_error **error_out);

// Adds a write, as `sessionstore_store_write` has it, which says what `operation`, `json` and `options` are.
// A lock in the options is refused with `INVALID_ARGUMENT`: in a transaction it is a check. Other errors:
// those of the call of `sessionstore_store_write`, but for its store.
int32_t sessionstore_transaction_write(sessionstore_transaction *transaction,
                                       const char *key,
                                       size_t key_len,
                                       int32_t operation,
                                       const char *json,
                                       size_t json_len,
                                       const sessionstore_write_options *options,
                                       sessionstore_error **error_out);

// Frees a transaction; one that was sent goes on. NULL is fine.
void sessionstore_transaction_free(sessionstore_transaction *transaction);

// Sends a transaction as it is now: all of its checks hold and all of its writes are made, in one revision,
// or nothing is changed.
//
// `result` may be NULL; it is consumed, also when the call fails. On success it has the state of each key
// that is written, in the order of their first writes, and this client's listeners were told before it.
//
// Errors of the call: `NULL_ARGUMENT`, `INVALID_STRUCT_SIZE`, `UNKNOWN_OPTION`, `CLOSED`, `QUEUE_FULL`.
// Errors of the request: `CHECK_FAILED`, or `LOCK_LOST`, whose `sessionstore_error_check` says which check,
// and `sessionstore_error_current` what the key holds; what a write of it is refused with, whose
// `sessionstore_error_write` says which; `INVALID_ARGUMENT` for more than 200 checks and writes;
// `MESSAGE_TOO_LARGE` when they do not fit one message, which has 64 KiB unless the server is told otherwise; `TIMEOUT`,
// `SESSION_LOST`, `CLOSED`; `OUTCOME_UNKNOWN`, after which it may have been made.
int32_t sessionstore_store_transact(const sessionstore_store *store,
                                    const sessionstore_transaction *transaction,
                                    const sessionstore_event_list_result *result,
                                    sessionstore_error **error_out);

// The same, waiting for the result. `list_out`, which may be NULL, is given the states; free them with
// `sessionstore_event_list_free`.
//
// Further errors: `WOULD_DEADLOCK` inside a callback, where nothing is sent.
int32_t sessionstore_store_transact_wait(const sessionstore_store *store,
                                         const sessionstore_transaction *transaction,
                                         uint32_t timeout_ms,
                                         sessionstore_event_list **list_out,
                                         sessionstore_error **error_out);

// Listens to all keys that a selector means: first come the current values of its single keys (`null` when
// absent) and of every key that is set and begins with one of its prefixes, then `on_snapshot_end`, then
// every change, of keys that come later too. Otherwise as `sessionstore_store_listen`.
//
// ```c
// const char *prefixes[] = {"hand/"};
// sessionstore_selector hands = SESSIONSTORE_SELECTOR_INIT;
// hands.prefixes = prefixes;
// hands.prefix_count = 1;
// sessionstore_store_listen_to(store, &hands, &listener, &subscription, NULL);
// ```
int32_t sessionstore_store_listen_to(const sessionstore_store *store,
                                     const sessionstore_selector *selector,
                                     const sessionstore_key_change_listener *listener,
                                     sessionstore_subscription **subscription_out,
                                     sessionstore_error **error_out);

// Asks the server for the states of several keys at one revision: the single keys of the selector in their
// order, absent ones with the value `null`, then those its prefixes mean in alphabetical order.
//
// `result` may be NULL; it is consumed, also when the call fails.
//
// Errors of the call: `INVALID_KEY`, `INVALID_ARGUMENT` when the selector means nothing, `INVALID_UTF8`,
// `NULL_ARGUMENT`, `INVALID_STRUCT_SIZE`, `UNKNOWN_OPTION`, `CLOSED`, `QUEUE_FULL`. Errors of the request:
// `FORBIDDEN`, `MESSAGE_TOO_LARGE` when the names do not fit one message, `TIMEOUT`, `CLOSED`.
int32_t sessionstore_store_read(const sessionstore_store *store,
                                const sessionstore_selector *selector,
                                const sessionstore_event_list_result *result,
                                sessionstore_error **error_out);

// The same, waiting for the result, which is what `list_out` is for: it must not be NULL. Free the list with
// `sessionstore_event_list_free`.
//
// Further errors: `WOULD_DEADLOCK` inside a callback.
int32_t sessionstore_store_read_wait(const sessionstore_store *store,
                                     const sessionstore_selector *selector,
                                     uint32_t timeout_ms,
                                     sessionstore_event_list **list_out,
                                     sessionstore_error **error_out);

// Asks the server for the names of the keys that are set and begin with a text, which may be empty, in
// alphabetical order. `result` may be NULL; it is consumed, also when the call fails.
//
// Errors of the call: `INVALID_KEY` for a prefix that no key can have, `INVALID_UTF8`, `NULL_ARGUMENT`,
// `INVALID_STRUCT_SIZE`, `UNKNOWN_OPTION`, `CLOSED`, `QUEUE_FULL`. Errors of the request: `TIMEOUT`,
// `CLOSED`.
int32_t sessionstore_store_keys(const sessionstore_store *store,
                                const char *prefix,
                                size_t prefix_len,
                                const sessionstore_key_list_result *result,
                                sessionstore_error **error_out);

// The same, waiting for the result, which is what `list_out` is for: it must not be NULL. Free the list with
// `sessionstore_key_list_free`.
//
// Further errors: `WOULD_DEADLOCK` inside a callback.
int32_t sessionstore_store_keys_wait(const sessionstore_store *store,
                                     const char *prefix,
                                     size_t prefix_len,
                                     uint32_t timeout_ms,
                                     sessionstore_key_list **list_out,
                                     sessionstore_error **error_out);

// How many keys are in the list; 0 for NULL.
size_t sessionstore_key_list_count(const sessionstore_key_list *list);

// One key of the list, with a NUL after it; NULL beyond its end. Lives as long as the list. `len_out` may be
// NULL.
const char *sessionstore_key_list_get(const sessionstore_key_list *list,
                                      size_t index,
                                      size_t *len_out);

// Another reference to the same list, to be freed too. NULL for NULL.
sessionstore_key_list *sessionstore_key_list_retain(const sessionstore_key_list *list);

// Frees one reference to a list. NULL is fine.
void sessionstore_key_list_free(sessionstore_key_list *list);

// Asks the server how much of its limits the store uses. `result` may be NULL; it is consumed, also when the
// call fails.
//
// Errors of the call: `NULL_ARGUMENT`, `INVALID_STRUCT_SIZE`, `UNKNOWN_OPTION`, `CLOSED`, `QUEUE_FULL`.
// Errors of the request: `TIMEOUT`, `CLOSED`.
int32_t sessionstore_store_usage(const sessionstore_store *store,
                                 const sessionstore_usage_result *result,
                                 sessionstore_error **error_out);

// The same, waiting for the result, which is written to `usage_out`: it must not be NULL, and is begun with
// `SESSIONSTORE_USAGE_INIT`. On failure it stays as it is.
//
// Further errors: `WOULD_DEADLOCK` inside a callback.
//
// ```c
// sessionstore_usage usage = SESSIONSTORE_USAGE_INIT;
// if (sessionstore_store_usage_wait(store, 10000, &usage, NULL) == SESSIONSTORE_OK)
//     printf("%llu of %llu keys\n", (unsigned long long)usage.keys, (unsigned long long)usage.max_keys);
// ```
int32_t sessionstore_store_usage_wait(const sessionstore_store *store,
                                      uint32_t timeout_ms,
                                      sessionstore_usage *usage_out,
                                      sessionstore_error **error_out);

// Asks the listener to stop, and returns at once. A callback that is running goes on; none begins
// after it; then `on_drop` is called on a dispatch thread. Cancelling again does nothing.
int32_t sessionstore_subscription_cancel(const sessionstore_subscription *subscription,
                                         sessionstore_error **error_out);

// Stops the listener and returns after its `on_drop`: nothing uses its `ctx` any more. In poll mode
// `on_drop` is called inside this call, unless a poll that is running does it.
//
// Errors: `WOULD_DEADLOCK` inside a callback, and `TIMEOUT` when a callback runs for longer; the
// listener is stopping nevertheless, as after `sessionstore_subscription_cancel`.
int32_t sessionstore_subscription_cancel_wait(const sessionstore_subscription *subscription,
                                              uint32_t timeout_ms,
                                              sessionstore_error **error_out);

// Frees the handle; if the listener was not cancelled, this asks it to stop, as
// `sessionstore_subscription_cancel` does. It never blocks and is legal anywhere, inside this very
// listener's callbacks too. NULL is fine.
void sessionstore_subscription_free(sessionstore_subscription *subscription);

#ifdef __cplusplus
}  // extern "C"
#endif  // __cplusplus

#endif  /* SESSIONSTORE_H */
