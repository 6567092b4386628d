// The C++ header against real servers: what is owned, what is called, what is thrown, and that it ends exactly once.
#define DOCTEST_CONFIG_IMPLEMENT_WITH_MAIN
#include <doctest/doctest.h>

#include <atomic>
#include <cmath>
#include <condition_variable>
#include <deque>
#include <mutex>
// The header knows nlohmann's JSON also when it comes first.
#include <sessionstore.hpp>

#include <nlohmann/json.hpp>

#include "tokens.hpp"

#include <stdexcept>
#include <sys/wait.h>
#include <thread>
#include <unistd.h>

using namespace std::chrono_literals;
using sessionstore::errc;

namespace {

constexpr auto patience = 60s;

/* With io_uring where the system allows it. */
sessionstore::server serve(sessionstore::server_options options = {}) {
    options.io_uring = true;
    return sessionstore::server::start(options).value();
}

struct member {
    sessionstore::client client;
    sessionstore::store store;
};

member join(const sessionstore::server& server, const std::string& name, sessionstore::update_listener listener = {}) {
    sessionstore::client_options options;
    options.url = server.url();
    options.room = "room";
    options.name = options.peer_id = name;
    options.fail_fast = true;
    auto client = sessionstore::client::open(options, std::move(listener)).value();
    auto store = client.join_wait(patience).value();
    return {std::move(client), std::move(store)};
}

// A thing that several threads write down and one waits for.
template <class T>
class noted {
public:
    void add(T item) {
        const std::lock_guard<std::mutex> guard(mutex_);
        items_.push_back(std::move(item));
        changed_.notify_all();
    }
    // The nth of them, from 0.
    T wait(std::size_t nth = 0) {
        std::unique_lock<std::mutex> guard(mutex_);
        REQUIRE(changed_.wait_for(guard, patience, [&] { return items_.size() > nth; }));
        return items_[nth];
    }
    std::size_t count() {
        const std::lock_guard<std::mutex> guard(mutex_);
        return items_.size();
    }

private:
    std::mutex mutex_;
    std::condition_variable changed_;
    std::vector<T> items_;
};

// What callbacks refer to: it stays to the end, for the client of a test that is over has gone without waiting for them.
template <class T>
T& kept() {
    static std::deque<std::shared_ptr<void>> all;
    auto own = std::make_shared<T>();
    all.push_back(own);
    return *own;
}

// Counts how many of it there are: a callback that holds one shows when it is destroyed.
struct token {
    explicit token(std::atomic<int>& count) : count_(&count) { ++*count_; }
    token(const token& other) noexcept : count_(other.count_) { ++*count_; }
    token& operator=(const token&) = delete;
    ~token() { --*count_; }
    std::atomic<int>* count_;
};

void wait_for_none(const std::atomic<int>& count) {
    const auto until = std::chrono::steady_clock::now() + patience;
    while (count != 0 && std::chrono::steady_clock::now() < until) std::this_thread::yield();
    REQUIRE(count == 0);
}

struct point {
    int x, y;
};

// Handles are moved and not copied; what never changes is copied.
template <class T>
constexpr bool moves_only = std::is_nothrow_move_constructible_v<T> && std::is_nothrow_move_assignable_v<T> &&
                            !std::is_copy_constructible_v<T> && !std::is_copy_assignable_v<T> && !std::is_default_constructible_v<T>;
static_assert(moves_only<sessionstore::client> && moves_only<sessionstore::store> && moves_only<sessionstore::lock>);
static_assert(moves_only<sessionstore::subscription> && moves_only<sessionstore::server>);
static_assert(moves_only<sessionstore::action<sessionstore::state>>);
static_assert(!std::is_copy_constructible_v<sessionstore::transaction> && std::is_move_constructible_v<sessionstore::transaction>);
template <class T>
constexpr bool is_copied = std::is_nothrow_copy_constructible_v<T> && std::is_nothrow_move_constructible_v<T>;
// A cancellation is never one that was moved from, whose requests nothing would take back.
static_assert(std::is_copy_constructible_v<sessionstore::cancellation> && !std::is_nothrow_move_constructible_v<sessionstore::cancellation>);
static_assert(is_copied<sessionstore::state> && is_copied<sessionstore::value> && is_copied<sessionstore::peer>);
static_assert(std::is_copy_constructible_v<sessionstore::error> && is_copied<sessionstore::exception>);

}  // namespace

template <>
struct sessionstore::value_traits<point> {
    static result<value> to(const point& from) {
        return value::parse("[" + std::to_string(from.x) + "," + std::to_string(from.y) + "]");
    }
    static result<point> from(const value& from) {
        auto json = from.as<nlohmann::json>();
        if (!json) return json.error();
        if (!json->is_array() || json->size() != 2) return error(errc::wrong_type);
        return point{(*json)[0].get<int>(), (*json)[1].get<int>()};
    }
};

TEST_CASE("a value comes back as the type that it was set with") {
    const auto server = serve();
    const auto ada = join(server, "ada");
    const auto back = [&](const auto& to) { return ada.store.set("k", to).wait(patience).value(); };
    CHECK(back(true).as<bool>().value() == true);
    CHECK(back(true).json() == "true");
    CHECK(back(true).as<int>().code() == errc::wrong_type);
    CHECK(back(1).as<bool>().code() == errc::wrong_type);
    CHECK(back(std::int64_t{9007199254740993}).as<std::int64_t>().value() == 9007199254740993);
    CHECK(back(300).as<std::uint8_t>().code() == errc::wrong_type);
    CHECK(back(-1).as<unsigned>().code() == errc::wrong_type);
    CHECK(back(-1).as<std::uint64_t>().code() == errc::wrong_type);
    CHECK(back(0.5).as<double>().value() == 0.5);
    CHECK(back("text").as<std::string>().value() == "text");
    CHECK(back(std::string("a\0b", 3)).as<std::string>().value() == std::string("a\0b", 3));
    CHECK(back(std::string_view("view")).as<std::string>().value() == "view");
    CHECK_FALSE(back(nullptr).is_set());
    CHECK(back(std::optional<int>(7)).as<std::optional<int>>().value() == 7);
    CHECK(back(std::optional<int>()).as<std::optional<int>>().value() == std::nullopt);
    CHECK(back(sessionstore::json_text{" [ 1 ] "}).json() == "[1]");
    CHECK(back(point{3, 4}).as<point>().value().y == 4);
    const nlohmann::json object = {{"a", 9007199254740993}, {"b", nullptr}};
    CHECK(back(object).as<nlohmann::json>().value() == object);
    CHECK(ada.store.set("k", nlohmann::json("\xff")).wait().code() == errc::invalid_utf8);
    CHECK(ada.store.set("k", std::numeric_limits<std::uint64_t>::max()).wait().code() == errc::invalid_argument);
    CHECK(ada.store.set("k", "\xff").wait().code() == errc::invalid_utf8);
    CHECK(ada.store.set("k", sessionstore::json_text{"hello"}).wait().code() == errc::invalid_json);
    CHECK(ada.store.get("k").wait(patience).value().as<nlohmann::json>().value() == object);
    CHECK(sessionstore::value().json() == "null");
}

TEST_CASE("what JSON cannot say is refused and changes nothing") {
    const auto server = serve();
    const auto ada = join(server, "ada");
    ada.store.set("k", "before").wait(patience).value();
    const auto refused = [&](const auto& to) {
        const auto code = ada.store.set("k", to).wait(patience).code();
        CHECK(ada.store.get("k").wait(patience).value().template as<std::string>().value() == "before");
        return code;
    };
    CHECK(refused(std::nan("")) == errc::invalid_argument);
    CHECK(refused(std::numeric_limits<float>::infinity()) == errc::invalid_argument);
    CHECK(refused(std::numeric_limits<long double>::max()) == errc::invalid_argument);
    CHECK(refused(nlohmann::json(std::nan(""))) == errc::invalid_argument);
    CHECK(refused(nlohmann::json{{"a", {1, std::numeric_limits<double>::infinity()}}}) == errc::invalid_argument);
    CHECK(refused(nlohmann::json::binary({1, 2})) == errc::invalid_argument);
    CHECK(refused(nlohmann::json(nlohmann::json::value_t::discarded)) == errc::invalid_argument);
    CHECK(refused(nlohmann::json{{"\xff", 1}}) == errc::invalid_utf8);
    CHECK(refused(static_cast<const char*>(nullptr)) == errc::null_argument);
    // What can be said is not what can be read.
    const auto back = [&](const auto& to) { return ada.store.set("k", to).wait(patience).value(); };
    CHECK(back(1e300).as<float>().code() == errc::wrong_type);
    CHECK(back(-1e300).as<float>().code() == errc::wrong_type);
    CHECK(back(1e300).as<long double>().value() == static_cast<long double>(1e300));
    CHECK(back(0.25f).as<float>().value() == 0.25f);
    CHECK(back(std::numeric_limits<std::int64_t>::min()).as<std::int64_t>().value() == std::numeric_limits<std::int64_t>::min());
    CHECK(back(std::numeric_limits<std::int64_t>::max()).as<std::uint64_t>().value() == 9223372036854775807u);
    CHECK(back(1.0).as<int>().code() == errc::wrong_type);
    CHECK(back(nullptr).as<int>().code() == errc::wrong_type);
    CHECK(back(nullptr).as<bool>().code() == errc::wrong_type);
    CHECK(back(nullptr).as<std::string>().code() == errc::wrong_type);
    CHECK(back("null").as<std::nullptr_t>().code() == errc::wrong_type);
    const nlohmann::ordered_json ordered = {{"b", 1.0}, {"a", "\u00e9\U0001f388"}};
    CHECK(back(ordered).json() == "{\"b\":1.0,\"a\":\"\u00e9\U0001f388\"}");
    CHECK(back(ordered).as<nlohmann::ordered_json>().value().dump() == ordered.dump());
    char text[] = "in an array\0and not beyond";
    CHECK(back(static_cast<char*>(text)).as<std::string>().value() == "in an array");
}

TEST_CASE("what options cannot say is refused, by the option's name") {
    const auto server = serve();
    sessionstore::client_options good;
    good.url = server.url();
    good.room = "room";
    const auto opened = [&](auto change) {
        sessionstore::client_options options = good;
        change(options);
        const auto client = sessionstore::client::open(options);
        return client ? std::string("OK") : client.error().message();
    };
    CHECK(opened([](auto&) {}) == "OK");
    const std::string cut("lob\0by", 6);
    CHECK(opened([&](auto& options) { options.room = cut; }) == "room has a NUL within");
    CHECK(opened([&](auto& options) { options.token = cut; }) == "token has a NUL within");
    CHECK(opened([](auto& options) { options.heartbeat = 0ms; }) == "heartbeat is not above 0 ms");
    CHECK(opened([](auto& options) { options.request_timeout = -1ms; }) == "request_timeout is not above 0 ms");
    sessionstore::server_options hosting;
    hosting.secret = cut;
    CHECK(sessionstore::server::start(hosting).error().message() == "secret has a NUL within");
    hosting.secret.clear();
    hosting.linger = -1ms;
    CHECK(sessionstore::server::start(hosting).error().message() == "linger is below 0 ms");
    // The longest time is not none at all, which is what the library's largest number says.
    hosting.linger = 0ms;
    hosting.grace = sessionstore::milliseconds::max();
    const auto patient = sessionstore::server::start(hosting);
    CHECK(patient.code() == errc::ok);
    const auto ada = join(server, "ada");
    CHECK(ada.store.lock("turn", {0ms, std::nullopt}).wait().error().message() == "ttl is not above 0 ms");
    CHECK(ada.store.lock("turn", {std::nullopt, -1ms}).future().get().code() == errc::invalid_argument);
    CHECK(ada.store.lock("turn", {std::nullopt, 0ms}).wait(patience).code() == errc::ok);
    sessionstore::write_options never;
    never.ttl = 0ms;
    CHECK(ada.store.touch("k", never).send().code() == errc::invalid_argument);
    sessionstore::write_options none;
    none.cap = 0;
    const sessionstore::json_text one{"[1]"};
    CHECK(ada.store.write(sessionstore::operation::append, "k", one, none).wait().code() == errc::invalid_argument);
    sessionstore::transaction appends;
    appends.write(sessionstore::operation::append, "k", one, none);
    CHECK(ada.store.transact(appends).wait().code() == errc::invalid_argument);
    CHECK(ada.store.keys().wait(patience).value().empty());
}

TEST_CASE("a callable that can only be moved is kept, and destroyed once, wherever one is taken") {
    const auto server = serve();
    std::atomic<int> alive{0};
    auto& told = kept<noted<std::string>>();
    const auto held = [&] { return std::make_unique<token>(alive); };
    sessionstore::update_listener updates;
    updates.on_store_available = [&, own = held()](const sessionstore::store&) { told.add("store"); };
    {
        auto ada = join(server, "ada", std::move(updates));
        CHECK(told.wait(0) == "store");
        auto watching = ada.store.listen({"k"}, [&, own = held()](const auto& now) { told.add(std::string(now.json())); }).value();
        CHECK(told.wait(1) == "null");
        ada.store.get("k").then([&, own = held()](auto) { told.add("got"); }).value();
        CHECK(told.wait(2) == "got");
        ada.store.update("k", [own = held()](const auto&) { return sessionstore::value::of(1).value(); }).wait(patience).value();
        CHECK(told.wait(3) == "1");
        auto lock = ada.store.lock("turn", {}, [own = held()](const auto&) {}).wait(patience).value();
        CHECK(alive >= 3);
        // Assigned over, a subscription ends.
        watching = ada.store.listen({"other"}, [own = held()](const auto&) {}).value();
        ada.store.set("k", 2).wait(patience).value();
        ada.store.get("k").wait(patience).value();
        CHECK(told.count() == 4);
        // Actions that are never sent destroy what they took; calls that fail too.
        {
            const auto unsent = ada.store.update("k", [own = held()](const auto&) { return std::nullopt; });
            const auto also = ada.store.lock("other", {}, [own = held()](const auto&) {});
        }
        const std::string bad = "\xff";
        CHECK(ada.store.update(bad, [own = held()](const auto&) { return std::nullopt; }).then([own = held()](auto) {}).code() == errc::invalid_utf8);
        CHECK(ada.store.lock(bad, {}, [own = held()](const auto&) {}).then([own = held()](auto) {}).code() == errc::invalid_utf8);
        CHECK(ada.store.listen({bad}, [own = held()](const auto&) {}).code() == errc::invalid_utf8);
        sessionstore::client_options wrong;
        wrong.url = "nowhere";
        wrong.wake = [own = token(alive)] {};
        wrong.on_thread_stop = [own = token(alive)] {};
        sessionstore::update_listener unused;
        unused.on_error = [own = held()](const auto&) {};
        CHECK(sessionstore::client::open(wrong, std::move(unused)).code() == errc::invalid_url);
        wrong.wake = wrong.on_thread_stop = nullptr;
        lock.release().wait(patience).value();
    }
    wait_for_none(alive);
    // What may be empty is.
    CHECK_FALSE(sessionstore::callback<void()>());
    CHECK_FALSE(sessionstore::callback<void()>(nullptr));
    CHECK_FALSE(sessionstore::callback<void()>(std::function<void()>()));
    CHECK_FALSE(sessionstore::callback<void()>(static_cast<void (*)()>(nullptr)));
    CHECK(sessionstore::callback<int(int)>([](int n) { return n + 1; })(1) == 2);
}

TEST_CASE("a listener hears the current value, then each change, and goes with its subscription") {
    const auto server = serve();
    const auto ada = join(server, "ada"), bob = join(server, "bob");
    std::atomic<int> alive{0};
    auto& told = kept<noted<std::string>>();
    {
        sessionstore::key_change_listener listener;
        listener.on_key_changed = [&, held = token(alive)](const sessionstore::state& now) {
            told.add(std::string(now.json()) + (now.is_snapshot() ? "?" : "!") + std::string(now.author_peer_id()));
        };
        listener.on_snapshot_end = [&] { told.add("end"); };
        auto watching = ada.store.listen({"k"}, std::move(listener)).value();
        CHECK(told.wait(0) == "null?");
        CHECK(told.wait(1) == "end");
        bob.store.set("k", 1).wait(patience).value();
        CHECK(told.wait(2) == "1!bob");
        CHECK(ada.store.cached("k").value()->as<int>().value() == 1);
        CHECK_FALSE(ada.store.cached("other").value());
        CHECK(alive == 1);
        auto moved = std::move(watching);
        moved.cancel_wait(patience).value();
        CHECK(alive == 0);
    }
    bob.store.set("k", 2).wait(patience).value();
    ada.store.get("k").wait(patience).value();
    CHECK(told.count() == 3);
    // Everything, without a subscription.
    ada.store.listen_for_good(sessionstore::selector::everything(), [&, held = token(alive)](const auto& now) {
        told.add(std::string(now.key()));
    }).value();
    CHECK(told.wait(3) == "k");
    bob.store.set("later", true).wait(patience).value();
    CHECK(told.wait(4) == "later");
    // A call that fails destroys what it was given, too.
    CHECK(ada.store.listen({""}, [held = token(alive)](const auto&) {}).code() == errc::invalid_key);
    CHECK(alive == 1);
    ada.client.leave().wait(patience).value();
    wait_for_none(alive);
}

TEST_CASE("every way of sending an action tells its end once") {
    const auto server = serve();
    const auto ada = join(server, "ada");
    std::atomic<int> alive{0};
    auto& sums = kept<noted<std::int64_t>>();
    ada.store.add("n", 1).then([&, held = token(alive)](auto now) { sums.add(now.value().template as<int>().value()); }).value();
    CHECK(sums.wait(0) == 1);
    auto future = ada.store.add("n", 1).future();
    CHECK(future.get().value().as<int>().value() == 2);
    ada.store.add("n", 1).send().value();
    CHECK(ada.store.add("n", 1).wait(patience).value().as<int>().value() == 4);
    CHECK(ada.store.set("", 1).future().get().code() == errc::invalid_key);
    CHECK(ada.store.set("", 1).then([held = token(alive)](auto) { FAIL("never called"); }).code() == errc::invalid_key);
    wait_for_none(alive);
    // After the client has left, every request is refused, and told.
    ada.client.leave().wait(patience).value();
    CHECK(ada.store.add("n", 1).wait(patience).code() == errc::closed);
    CHECK(ada.store.add("n", 1).future().get().code() == errc::closed);
    CHECK(sums.count() == 1);
}

TEST_CASE("futures of every kind are made ready, also when their client goes") {
    const auto server = serve();
    const auto ada = join(server, "ada");
    std::optional<member> bob(join(server, "bob"));
    ada.store.set("k", 1).future().get().value();
    CHECK(ada.store.read({"k"}).future().get().value().states.at(0).as<int>().value() == 1);
    CHECK(ada.store.keys().future().get().value() == std::vector<std::string>{"k"});
    CHECK(ada.store.usage().future().get().value().keys == 1);
    ada.client.update_peer("Ada", std::nullopt).future().get().value();
    auto held = ada.store.lock("turn").future().get().value();
    auto waiting = bob->store.lock("turn", {std::nullopt, 5min}).future();
    CHECK(waiting.wait_for(0s) == std::future_status::timeout);
    bob.reset();
    CHECK(waiting.get().code() == errc::closed);
    held.release().future().get().value();
    ada.client.leave().future().get().value();
    CHECK(ada.store.usage().future().get().code() == errc::closed);
}

TEST_CASE("inside a callback waiting is refused, and everything may be destroyed") {
    const auto server = serve();
    auto ada = join(server, "ada");
    auto& codes = kept<noted<errc>>();
    std::optional<sessionstore::subscription> watching;
    std::mutex mutex;
    {
        const std::lock_guard<std::mutex> guard(mutex);
        watching = ada.store.listen({"k"}, [&](const auto&) {
            codes.add(ada.store.set("k", 1).wait().code());
            const std::lock_guard<std::mutex> inner(mutex);
            watching.reset();
        }).value();
    }
    CHECK(codes.wait(0) == errc::would_deadlock);
    ada.store.set("k", 1).wait(patience).value();
    CHECK(codes.count() == 1);
    // A subscription that is cancelled inside its own callback hears nothing more, and is destroyed once.
    std::atomic<int> alive{0};
    auto& cancelled = kept<noted<errc>>();
    watching = ada.store.listen({"k"}, [&, held = token(alive)](const auto& now) {
        if (now.is_snapshot()) return;
        cancelled.add(watching->cancel_wait(patience).code());
        cancelled.add(watching->cancel().code());
    }).value();
    ada.store.set("k", 2).wait(patience).value();
    CHECK(cancelled.wait(0) == errc::would_deadlock);
    CHECK(cancelled.wait(1) == errc::ok);
    wait_for_none(alive);
    ada.store.set("k", 3).wait(patience).value();
    CHECK(cancelled.count() == 2);
    CHECK(watching->cancel_wait(patience).code() == errc::ok);
    // A client that is destroyed inside its own callback.
    auto& done = kept<noted<int>>();
    auto bob = std::make_shared<std::optional<member>>(join(server, "bob"));
    (*bob)->store.get("k").then([bob, &done](auto) {
        bob->reset();
        done.add(1);
    }).value();
    CHECK(done.wait() == 1);
}

TEST_CASE("an exception of a callback ends there and is handed on") {
    const auto server = serve();
    const auto ada = join(server, "ada");
    auto& thrown = kept<noted<std::string>>();
    sessionstore::on_exception([&](std::exception_ptr what) {
        try {
            std::rethrow_exception(what);
        } catch (const std::exception& caught) {
            thrown.add(caught.what());
        }
    });
    auto watching = ada.store.listen({"k"}, [](const auto&) { throw std::runtime_error("of a listener"); }).value();
    CHECK(thrown.wait(0) == "of a listener");
    ada.store.get("k").then([](auto) { throw std::runtime_error("of a result"); }).value();
    CHECK(thrown.wait(1) == "of a result");
    const auto updated = ada.store.update("k", [](const auto&) -> std::optional<sessionstore::value> {
        throw std::runtime_error("of an updater");
    });
    static_cast<void>(updated);
    ada.store.update("k", [](const auto&) -> std::optional<sessionstore::value> {
        throw std::runtime_error("of an updater");
    }).wait(patience).value();
    CHECK(thrown.wait(2) == "of an updater");
    CHECK_FALSE(ada.store.get("k").wait(patience).value().is_set());
    sessionstore::on_exception([](std::exception_ptr) {});
}

TEST_CASE("exceptions of every callback end there") {
    auto& thrown = kept<noted<std::string>>();
    sessionstore::on_exception([&](std::exception_ptr what) {
        try {
            std::rethrow_exception(what);
        } catch (const char* where) {
            thrown.add(where);
        }
        throw 1;  // what the handler throws is lost
    });
    const auto heard = [&](const std::string& where) {
        const auto until = std::chrono::steady_clock::now() + patience;
        for (std::size_t nth = 0; std::chrono::steady_clock::now() < until; nth++) {
            if (thrown.wait(nth) == where) return true;
        }
        return false;
    };
    {
        auto server = std::make_unique<sessionstore::server>(serve());
        sessionstore::update_listener updates;
        updates.on_store_available = [](const sessionstore::store&) { throw "available"; };
        updates.on_connection_state = [](auto, const auto&) { throw "state"; };
        updates.on_peer = [](auto, const auto&) { throw "peer"; };
        updates.on_error = [](const auto& what) {
            if (what.code() == errc::session_lost) throw "error";
        };
        sessionstore::client_options options;
        options.url = server->url();
        options.room = "room";
        options.reconnect_min = options.reconnect_max = 10ms;
        options.on_thread_start = [] { throw "start"; };
        options.on_thread_stop = [] { throw "stop"; };
        {
            auto client = sessionstore::client::open(options, std::move(updates)).value();
            const auto store = client.join_wait(patience).value();
            CHECK(heard("start"));
            CHECK(heard("available"));
            CHECK(heard("state"));
            const auto bob = join(*server, "bob");
            CHECK(heard("peer"));
            sessionstore::key_change_listener listener;
            listener.on_snapshot_end = [] { throw "end"; };
            const auto watching = store.listen({"k"}, std::move(listener)).value();
            CHECK(heard("end"));
            server->set_rules("[[rule]]\nroles = [\"*\"]\nkeys = [\"open\"]\nallow = [\"read\"]\n").value();
            sessionstore::key_change_listener refused;
            refused.on_refused = [](const auto& why) {
                if (why.code() == errc::forbidden) throw "refused";
            };
            const auto refusing = store.listen({"k2"}, std::move(refused)).value();
            CHECK(heard("refused"));
            server->set_rules(std::nullopt).value();
            const auto lock = store.lock("turn", {}, [](const auto&) { throw "lost"; }).wait(patience).value();
            // Another server at the same place has another session.
            const auto port = server->port();
            server->stop_wait(patience).value();
            sessionstore::server_options there;
            there.port = port;
            *server = serve(there);
            CHECK(heard("error"));
            CHECK(heard("lost"));
        }
        CHECK(heard("stop"));
        options.on_thread_start = options.on_thread_stop = nullptr;
        options.url = server->url();
        options.wake = [] { throw "wake"; };
        const auto polled = sessionstore::client::open(options).value();
        CHECK(heard("wake"));
    }
    sessionstore::on_exception(nullptr);
}

TEST_CASE("errors say what holds now") {
    sessionstore::server_options limits;
    limits.max_value_bytes = 8;
    const auto server = serve(limits);
    const auto ada = join(server, "ada"), bob = join(server, "bob");
    const auto first = ada.store.set("k", 1).wait(patience).value();
    const auto conflict = bob.store.set_if_version("k", 2, 0).wait(patience);
    REQUIRE(conflict.code() == errc::version_conflict);
    CHECK(conflict.error().name() == "VERSION_CONFLICT");
    CHECK(conflict.error().current()->version() == first.version());
    CHECK_FALSE(conflict.error().is_retryable());
    CHECK(bob.store.set_if_version("k", 2, first.version()).wait(patience).value().as<int>().value() == 2);
    try {
        ada.store.set("k", "much too long").wait(patience).value();
        FAIL("it is too long");
    } catch (const sessionstore::exception& thrown) {
        CHECK(thrown.error().code() == errc::value_too_large);
        CHECK(std::string(thrown.what()).find("much") == std::string::npos);
    }
    sessionstore::server_options slow;
    slow.max_requests_per_second = slow.max_request_burst = 1;
    const auto throttled = serve(slow);
    const auto cy = join(throttled, "cy");
    std::vector<std::future<sessionstore::result<sessionstore::state>>> many;
    for (int nth = 0; nth < 20; nth++) many.push_back(cy.store.get("k").future());
    std::size_t limited = 0;
    for (auto& one : many) {
        const auto got = one.get();
        if (got) continue;
        CHECK(got.code() == errc::rate_limited);
        CHECK(got.error().is_retryable());
        CHECK(got.error().retry_after() > 0ms);
        limited++;
    }
    CHECK(limited > 0);
    CHECK_FALSE(conflict.error().retry_after());
    CHECK(name_of(errc::store_full) == "STORE_FULL");
    CHECK(advice_on(errc::store_full).size() > 10);
    sessionstore::client_options nowhere;
    nowhere.url = "nowhere";
    nowhere.room = "room";
    CHECK(sessionstore::client::open(nowhere).code() == errc::invalid_url);
    sessionstore::server_options wrong;
    wrong.rules = "no rules";
    CHECK(sessionstore::server::start(wrong).code() == errc::invalid_config);
}

TEST_CASE("transactions, writes, updates, reads") {
    const auto server = serve();
    const auto ada = join(server, "ada");
    sessionstore::transaction turn;
    turn.check_absent("board/4").set("board/4", "x").set("turn", "o").write(sessionstore::operation::add, "moves", 1);
    const auto made = ada.store.transact(turn).wait(patience).value();
    CHECK(made.states.size() == 3);
    CHECK(made.states[0].version() == made.revision);
    const auto again = ada.store.transact(turn).wait(patience);
    REQUIRE(again.code() == errc::check_failed);
    CHECK(again.error().failed_check() == 0);
    CHECK(again.error().current()->as<std::string>().value() == "x");
    sessionstore::transaction wrong;
    wrong.check_version("turn", made.revision).check_exists("turn").check_equals("turn", "o").remove("board/4").write(
        sessionstore::operation::add, "turn", 1);
    CHECK(ada.store.transact(wrong).future().get().error().failed_write() == 1);
    sessionstore::transaction broken;
    broken.set("k", sessionstore::json_text{"{"});
    CHECK(ada.store.transact(broken).wait(patience).code() == errc::invalid_json);
    sessionstore::write_options once;
    once.if_version = 0;
    once.ttl = 1h;
    once.bound = true;
    const auto written = ada.store.write(sessionstore::operation::set, "once", 1, once).wait(patience).value();
    CHECK(written.expires_at() > written.updated_at());
    sessionstore::write_options never;
    never.never_expires = true;
    CHECK_FALSE(ada.store.touch("once", never).wait(patience).value().expires_at());
    sessionstore::write_options two;
    two.cap = 2;
    CHECK(ada.store.write(sessionstore::operation::append, "list", sessionstore::json_text{"[1,2,3]"}, two).wait(patience).value().json() == "[2,3]");
    const auto raise = [](const sessionstore::state& now) { return sessionstore::value::of(now.as<int>().value_or(0) + 1).value(); };
    CHECK(ada.store.update("n", raise).wait(patience).value().json() == "1");
    CHECK(ada.store.update("n", raise).future().get().value().json() == "2");
    CHECK(ada.store.update("n", [](const auto&) { return std::nullopt; }).wait(patience).value().json() == "2");
    CHECK(ada.store.keys("board/").wait(patience).value() == std::vector<std::string>{"board/4"});
    sessionstore::selector some = sessionstore::selector::prefix("board/");
    some.keys.push_back("absent");
    const auto read = ada.store.read(some).wait(patience).value();
    CHECK(read.states.size() == 2);
    CHECK_FALSE(read.states[0].is_set());
    const auto usage = ada.store.usage().wait(patience).value();
    CHECK(usage.keys == 6);
    CHECK(usage.max_keys == 100);
    CHECK(ada.store.usage().future().get().value().revision == usage.revision);
    CHECK(ada.store.remove("n").wait(patience).value().cause() == sessionstore::cause::written);
}

TEST_CASE("locks") {
    const auto server = serve();
    auto ada = join(server, "ada");
    const auto bob = join(server, "bob");
    auto& lost = kept<noted<errc>>();
    std::atomic<int> alive{0};
    auto held = ada.store.lock("turn", {}, [&, held_token = token(alive)](const auto& why) { lost.add(why.code()); }).wait(patience).value();
    CHECK(held.is_held());
    CHECK(held.name() == "turn");
    const auto refused = bob.store.lock("turn").wait(patience);
    REQUIRE(refused.code() == errc::lock_held);
    CHECK(refused.error().current()->key() == "$lock/turn");
    sessionstore::write_options guarded;
    guarded.lock = &held;
    sessionstore::transaction misplaced;
    misplaced.write(sessionstore::operation::set, "k", 1, guarded);
    CHECK(ada.store.transact(misplaced).wait(patience).code() == errc::invalid_argument);
    ada.store.write(sessionstore::operation::set, "k", 1, guarded).wait(patience).value();
    sessionstore::transaction checked;
    checked.check_lock(held).set("k", 2);
    ada.store.transact(checked).wait(patience).value();
    auto shared = held.share();
    shared.release().wait(patience).value();
    CHECK_FALSE(held.is_held());
    CHECK(held.release().wait(patience).code() == errc::lock_lost);
    wait_for_none(alive);
    auto next = bob.store.lock("turn").future().get().value();
    CHECK(next.token() > held.token());
    auto waiting = ada.store.lock("turn", {std::nullopt, 5min}, [&](const auto& why) { lost.add(why.code()); }).future();
    bob.client.leave().wait(patience).value();
    auto granted = waiting.get().value();
    CHECK(granted.is_held());
    ada.client.leave().wait(patience).value();
    CHECK(lost.wait() == errc::closed);
}

// A peer that has joined and lost its connection, and how to give it one again.
struct cut_off {
    std::uint16_t port;
    member peer;

    sessionstore::server serve_again() const {
        sessionstore::server_options there;
        there.port = port;
        return serve(there);
    }
};

cut_off join_and_lose_connection() {
    const auto server = serve();
    auto& states = kept<noted<sessionstore::connection_state>>();
    sessionstore::update_listener updates;
    updates.on_connection_state = [&](sessionstore::connection_state now, const auto&) { states.add(now); };
    sessionstore::client_options options;
    options.url = server.url();
    options.room = "room";
    options.request_timeout = patience;
    options.reconnect_min = options.reconnect_max = 10ms;
    auto client = sessionstore::client::open(options, std::move(updates)).value();
    auto store = client.join_wait(patience).value();
    server.stop_wait(patience).value();
    for (std::size_t nth = 0; states.wait(nth) != sessionstore::connection_state::reconnecting; nth++) continue;
    return {server.port(), {std::move(client), std::move(store)}};
}

TEST_CASE("what was not sent is taken back, and all else is sent when there is a connection again") {
    const auto ada = join_and_lose_connection();
    const auto& store = ada.peer.store;
    std::atomic<int> alive{0};
    auto& told = kept<noted<errc>>();
    std::future<sessionstore::result<sessionstore::state>> second, other, plain;
    {
        const sessionstore::cancellation screen, another;
        const auto same = screen;
        store.set("first", 1).cancelled_by(screen).then([&, held = token(alive)](auto now) { told.add(now.code()); }).value();
        second = store.set("second", 1).cancelled_by(same).future();
        store.set("third", 1).cancelled_by(screen).send().value();
        other = store.set("other", 1).cancelled_by(another).future();
        plain = store.set("plain", 1).future();
        CHECK_FALSE(same.is_cancelled());
        screen.cancel().value();
        CHECK(same.is_cancelled());
        CHECK_FALSE(another.is_cancelled());
        CHECK(same.cancel().code() == errc::ok);
    }
    CHECK(told.wait() == errc::cancelled);
    CHECK(second.get().code() == errc::cancelled);
    wait_for_none(alive);
    // That the other cancellation was destroyed cancelled nothing.
    const auto server = ada.serve_again();
    CHECK(other.get().code() == errc::ok);
    CHECK(plain.get().code() == errc::ok);
    CHECK(store.keys().wait(patience).value() == std::vector<std::string>{"other", "plain"});
    CHECK(told.count() == 1);
}

TEST_CASE("who waits for a lock can stop, and does not keep it") {
    const auto server = serve();
    const auto ada = join(server, "ada"), bob = join(server, "bob"), cy = join(server, "cy");
    // Longer than this test: a lock that nobody gives back stays taken.
    const sessionstore::lock_options longest{5min, 5min};
    const auto held = ada.store.lock("turn", longest).wait(patience).value();
    const sessionstore::cancellation cancellation;
    auto waiting = bob.store.lock("turn", longest).cancelled_by(cancellation).future();
    // Answers come in order but for those of locks: when this is answered, the other waits.
    bob.store.get("k").wait(patience).value();
    cancellation.cancel().value();
    REQUIRE(waiting.wait_for(patience) == std::future_status::ready);
    CHECK(waiting.get().code() == errc::cancelled);
    held.release().wait(patience).value();
    CHECK(cy.store.lock("turn", longest).wait(patience).value().is_held());
}

TEST_CASE("a request of any kind that is given what was cancelled already is refused at once") {
    const auto server = serve();
    const auto ada = join(server, "ada");
    std::atomic<int> alive{0};
    const sessionstore::cancellation over;
    over.cancel().value();
    const auto refused = [&](auto make) {
        const auto untold = make().cancelled_by(over).then([held = token(alive)](auto) { FAIL("never called"); });
        CHECK(untold.code() == errc::cancelled);
        wait_for_none(alive);
        CHECK(make().cancelled_by(over).send().code() == errc::cancelled);
        auto future = make().cancelled_by(over).future();
        CHECK(future.wait_for(0s) == std::future_status::ready);
        CHECK(future.get().code() == errc::cancelled);
    };
    const auto held = ada.store.lock("held").wait(patience).value();
    refused([&] { return ada.store.set("k", 1); });
    refused([&] { return ada.store.update("k", [](const auto&) { return sessionstore::value::of(1).value(); }); });
    refused([&] { return ada.store.transact(std::move(sessionstore::transaction().set("k", 1))); });
    refused([&] { return ada.store.lock("turn"); });
    refused([&] { return ada.store.read({"k"}); });
    refused([&] { return ada.store.keys(); });
    refused([&] { return ada.store.usage(); });
    refused([&] { return held.release(); });
    refused([&] { return ada.client.update_peer("Ada", std::nullopt); });
    refused([&] { return ada.client.leave(); });
    // What cannot be made says so first.
    CHECK(ada.store.set("k", std::nan("")).cancelled_by(over).send().code() == errc::invalid_argument);
    CHECK(ada.store.keys().wait(patience).value().empty());
    CHECK(held.is_held());
    CHECK(ada.client.peers().value().at(0).name() == "ada");
}

TEST_CASE("a cancellation that cannot be made says why") {
    const auto server = serve();
    const auto ada = join(server, "ada");
    const pid_t child = fork();
    REQUIRE(child >= 0);
    if (child == 0) {
        // The library is not to be used in a forked child.
        const sessionstore::cancellation none;
        const bool says = none.cancel().code() == errc::forked && !none.is_cancelled() &&
                          ada.store.get("k").cancelled_by(none).send().code() == errc::forked;
        _exit(says ? 0 : 1);
    }
    int status = -1;
    REQUIRE(waitpid(child, &status, 0) == child);
    CHECK(WIFEXITED(status));
    CHECK(WEXITSTATUS(status) == 0);
}

TEST_CASE("updates, peers and tokens") {
    const auto server = serve();
    auto& told = kept<noted<std::string>>();
    sessionstore::update_listener updates;
    updates.on_store_available = [&](sessionstore::store joined) { told.add(joined.handle() != nullptr ? "store" : "none"); };
    updates.on_peer = [&](sessionstore::peer_change change, const sessionstore::peer& who) {
        told.add(std::to_string(static_cast<int>(change)) + std::string(who.id()) + std::string(who.metadata()));
    };
    auto& states = kept<noted<sessionstore::connection_state>>();
    updates.on_connection_state = [&](sessionstore::connection_state now, const auto&) { states.add(now); };
    const auto ada = join(server, "ada", std::move(updates));
    CHECK(told.wait(0) == "store");
    CHECK(states.wait(0) == sessionstore::connection_state::connecting);
    CHECK(ada.client.state() == sessionstore::connection_state::connected);
    const auto bob = join(server, "bob");
    CHECK(told.wait(1) == "1bob");
    bob.client.update_peer(std::nullopt, "hand up").wait(patience).value();
    CHECK(told.wait(2) == "2bobhand up");
    CHECK(ada.client.peers().value().size() == 2);
    CHECK(ada.client.peer_id() == "ada");
    CHECK(bob.client.renew_token("none").wait(patience).code() != errc::ok);
    bob.client.leave().wait(patience).value();
    CHECK(told.wait(3) == "3bobhand up");
    const auto stats = server.stats().value();
    CHECK(stats.rooms == 1);
    server.set_rules("[[rule]]\nroles = [\"*\"]\nkeys = [\"*\"]\nallow = [\"read\"]\n").value();
    CHECK(ada.store.set("k", 1).wait(patience).code() == errc::forbidden);
    // A text without rules is a mistake, also one that points nowhere, as that of a vector without elements may.
    CHECK(server.set_rules("").code() == errc::invalid_config);
    CHECK(server.set_rules(std::string_view()).code() == errc::invalid_config);
    CHECK(ada.store.set("k", 1).wait(patience).code() == errc::forbidden);
    server.set_rules(std::nullopt).value();
    ada.store.set("k", 1).wait(patience).value();
    CHECK(server.reload_tls().code() != errc::ok);
    CHECK(server.port() != 0);
    server.stop_wait(patience).value();
}

TEST_CASE("a token that expires is told of, and renewed") {
    sessionstore::server_options options;
    options.secret = "a secret of at least thirty-two bytes";
    const auto server = serve(options);
    const auto seconds_from_now = [](std::chrono::seconds time) {
        return std::chrono::duration_cast<std::chrono::seconds>((std::chrono::system_clock::now() + time).time_since_epoch()).count();
    };
    const auto expires_at = [&](std::int64_t time) {
        return tokens::token(options.secret, R"({"room_id":"room","user_id":"ada","role":"host","exp":)" + std::to_string(time) + "}");
    };
    const auto expires_in = [&](std::chrono::seconds time) { return expires_at(seconds_from_now(time)); };
    auto& expiring = kept<noted<sessionstore::time_point>>();
    sessionstore::update_listener updates;
    updates.on_token_expiring = [&](sessionstore::time_point at) { expiring.add(at); };
    sessionstore::client_options joining;
    joining.url = server.url();
    joining.fail_fast = true;
    // Less than 30 s before its end it is told at once.
    const auto ends = seconds_from_now(20s);
    joining.token = expires_at(ends);
    const auto client = sessionstore::client::open(joining, std::move(updates)).value();
    const auto store = client.join_wait(patience).value();
    const auto told = expiring.wait();
    // The token's own time and the few seconds that servers add for clocks that differ.
    CHECK(told >= sessionstore::time_point(std::chrono::seconds(ends)));
    CHECK(told < sessionstore::time_point(std::chrono::seconds(ends + 60)));
    CHECK(client.renew_token(expires_in(1h)).wait(patience).code() == errc::ok);
    CHECK(client.renew_token(expires_in(-1h)).wait(patience).code() == errc::token_expired);
    CHECK(client.renew_token(expires_in(1h) + "x").future().get().code() == errc::unauthorized);
    CHECK(client.peers().value().at(0).role() == "host");
    CHECK(store.set("k", 1).wait(patience).value().author_user_id() == "ada");
    sessionstore::client_options none = joining;
    none.token.clear();
    none.room = "room";
    CHECK(sessionstore::client::open(none).value().join_wait(patience).code() == errc::unauthorized);
}

TEST_CASE("poll mode and threads of one's own") {
    const auto server = serve();
    sessionstore::client_options options;
    options.url = server.url();
    options.room = "room";
    auto& woken = kept<noted<int>>();
    std::atomic<int> alive{0};
    options.wake = [&, held = token(alive)] { woken.add(1); };
    {
        const auto client = sessionstore::client::open(options).value();
        const auto store = client.join_wait(patience).value();
        std::thread::id on;
        store.get("k").then([&](auto) { on = std::this_thread::get_id(); }).value();
        std::size_t wakes = 0;
        while (on == std::thread::id()) {
            woken.wait(wakes++);
            client.poll().value();
        }
        CHECK(on == std::this_thread::get_id());
        options.wake = nullptr;
    }
    wait_for_none(alive);
    auto& hooks = kept<noted<std::string>>();
    options.on_thread_start = [&] { hooks.add("start"); };
    options.on_thread_stop = [&] { hooks.add("stop"); };
    {
        const auto client = sessionstore::client::open(options).value();
        client.join_wait(patience).value();
        CHECK(client.poll().code() == errc::wrong_mode);
    }
    CHECK(hooks.wait(0) == "start");
    CHECK(hooks.wait(1) == "stop");
}

#ifdef SESSIONSTORE_COROUTINES
namespace {
// The least of a coroutine: it runs until it is done, and nobody waits for it.
struct task {
    struct promise_type {
        task get_return_object() { return {}; }
        std::suspend_never initial_suspend() noexcept { return {}; }
        std::suspend_never final_suspend() noexcept { return {}; }
        void return_void() {}
        void unhandled_exception() { std::terminate(); }
    };
};

task count(const sessionstore::store& store, noted<std::string>& told) {
    const auto first = co_await store.add("n", 1);
    const auto refused = co_await store.set("", 1);
    const auto second = co_await store.add("n", 1);
    told.add(std::string(first.value().json()) + std::string(refused.error().name()) + std::string(second.value().json()));
}

// An action of each kind.
task use(const member& ada, noted<std::string>& told) {
    const auto set = co_await ada.store.set("k", 1);
    const auto keys = co_await ada.store.keys("k");
    const sessionstore::selector single{"k"};
    const auto read = co_await ada.store.read(single);
    const auto lock = co_await ada.store.lock("turn");
    sessionstore::transaction turn;
    turn.check_lock(*lock).set("k", 2);
    const auto made = co_await ada.store.transact(turn);
    const auto released = co_await lock->release();
    told.add(std::string(set->key() == keys->at(0) ? "k" : "?") + ' ' + std::string(read->states.at(0).author_peer_id()) + (released ? " true " : " false ") + std::string(made->states.at(0).json()));
}

task wait_in_line(const member& bob, noted<std::string>& told, std::unique_ptr<token>) {
    const auto refused = co_await bob.store.lock("turn", {std::nullopt, 5min});
    told.add(std::string(name_of(refused.code())));
}

task wait_to_be_cancelled(const member& bob, const sessionstore::cancellation& by, noted<std::string>& told) {
    const auto waited = co_await bob.store.lock("turn", {5min, 5min}).cancelled_by(by);
    const auto set = co_await bob.store.set("k", 1).cancelled_by(by);
    const auto plain = co_await bob.store.get("k");
    told.add(std::string(name_of(waited.code())) + ' ' + std::string(name_of(set.code())) + ' ' + std::string(plain->json()));
}

task destroy_inside(std::unique_ptr<member> cy, noted<std::string>& told) {
    const auto got = co_await cy->store.get("k");
    cy.reset();
    told.add(got ? "destroyed" : "failed");
}
}  // namespace

TEST_CASE("coroutines") {
    const auto server = serve();
    const auto ada = join(server, "ada");
    auto& told = kept<noted<std::string>>();
    count(ada.store, told);
    CHECK(told.wait() == "1INVALID_KEY2");
    use(ada, told);
    CHECK(told.wait(1) == "k ada true 2");
    // Who waits for what its client no longer gets goes on, and may destroy everything there.
    std::optional<member> bob(join(server, "bob"));
    auto held = ada.store.lock("turn").wait(patience).value();
    std::atomic<int> alive{0};
    wait_in_line(*bob, told, std::make_unique<token>(alive));
    bob.reset();
    CHECK(told.wait(2) == "CLOSED");
    wait_for_none(alive);
    destroy_inside(std::make_unique<member>(join(server, "cy")), told);
    CHECK(told.wait(3) == "destroyed");
}

TEST_CASE("a coroutine that awaits what is taken back goes on with the code") {
    const auto server = serve();
    const auto ada = join(server, "ada"), bob = join(server, "bob");
    auto& told = kept<noted<std::string>>();
    const auto held = ada.store.lock("turn").wait(patience).value();
    const sessionstore::cancellation cancellation;
    wait_to_be_cancelled(bob, cancellation, told);
    bob.store.get("k").wait(patience).value();
    CHECK(told.count() == 0);
    cancellation.cancel().value();
    CHECK(told.wait() == "CANCELLED CANCELLED null");
}
#endif
