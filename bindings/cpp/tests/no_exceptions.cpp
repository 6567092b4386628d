// Compiled without exceptions and RTTI: all is told by results. Also the second of two files of one program that include
// the header.
#include <condition_variable>
#include <cstdio>
#include <mutex>
#include <nlohmann/json.hpp>
#include <sessionstore.hpp>

#ifdef SESSIONSTORE_EXCEPTIONS
#error "this is to be compiled with -fno-exceptions"
#endif

using namespace std::chrono_literals;
using sessionstore::errc;

// In no_exceptions_too.cpp.
sessionstore::result<std::string> elsewhere(const sessionstore::store& store);

namespace {

int failed = 0;

void check(bool holds, const char* what) {
    if (holds) return;
    std::fprintf(stderr, "it does not hold: %s\n", what);
    failed = 1;
}
#define CHECK(...) check((__VA_ARGS__), #__VA_ARGS__)

// A number that one thread sets and another waits for.
class noted {
public:
    void set(int to) {
        const std::lock_guard<std::mutex> guard(mutex_);
        now_ = to;
        changed_.notify_all();
    }
    bool wait(int for_it) {
        std::unique_lock<std::mutex> guard(mutex_);
        return changed_.wait_for(guard, 60s, [&] { return now_ == for_it; });
    }

private:
    std::mutex mutex_;
    std::condition_variable changed_;
    int now_ = 0;
};

#ifdef SESSIONSTORE_COROUTINES
struct task {
    struct promise_type {
        task get_return_object() { return {}; }
        std::suspend_never initial_suspend() noexcept { return {}; }
        std::suspend_never final_suspend() noexcept { return {}; }
        void return_void() {}
        void unhandled_exception() {}
    };
};

task add_twice(const sessionstore::store& store, noted& told) {
    const auto first = co_await store.add("n", 1);
    const auto second = co_await store.add("n", 1);
    if (first && second) told.set(second->as<int>().value_or(-1));
}
#endif

}  // namespace

int main() {
    const auto server = sessionstore::server::start();
    if (!server) return 1;
    sessionstore::client_options options;
    options.url = server->url();
    options.room = "room";
    const auto client = sessionstore::client::open(options);
    if (!client) return 1;
    const auto store = client->join_wait(60s);
    if (!store) return 1;

    const auto set = store->set("k", "v").wait(60s);
    CHECK(set && set->json() == "\"v\"");
    CHECK(store->set("k", sessionstore::json_text{"{"}).future().get().code() == errc::invalid_json);
    CHECK(store->set("k", nlohmann::json("\xff")).wait(60s).code() == errc::invalid_utf8);
    CHECK(store->get("k").future().get()->as<nlohmann::json>().value_or(nullptr) == "v");
    CHECK(store->get("k").future().get()->as<int>().code() == errc::wrong_type);
    noted heard, told;
    {
        const auto listening = store->listen({"n"}, [&](const sessionstore::state& now) {
            heard.set(now.is_set() ? now.as<int>().value_or(-1) : -2);
        });
        CHECK(listening.has_value());
        CHECK(heard.wait(-2));
        CHECK(store->add("n", 5).then([&](auto sum) { told.set(sum->template as<int>().value_or(-1)); }).has_value());
        CHECK(told.wait(5));
        CHECK(heard.wait(5));
        CHECK(listening->cancel_wait(60s).has_value());
    }
#ifdef SESSIONSTORE_COROUTINES
    add_twice(*store, told);
    CHECK(told.wait(7));
#endif
    const sessionstore::cancellation screen;
    CHECK(screen.cancel().has_value());
    CHECK(store->set("k", 1).cancelled_by(screen).future().get().code() == errc::cancelled);
    const auto there = elsewhere(*store);
    CHECK(there && *there == "v");
    CHECK(client->leave().wait(60s).has_value());
    if (failed == 0) std::puts("all of it holds");
    return failed;
}
