// One of many languages in a room: `everyone URL ROOM NAME COUNT`. tests/everyone.rs says what it does and starts it.
#include <condition_variable>
#include <cstdio>
#include <cstdlib>
#include <mutex>
#include <nlohmann/json.hpp>
#include <sessionstore.hpp>
#include <set>
#include <stdexcept>

using nlohmann::json;
using namespace std::chrono_literals;

namespace {

// All of it together is to take no longer than this.
const auto until = std::chrono::steady_clock::now() + 60s;

sessionstore::milliseconds left() {
    return std::chrono::duration_cast<sessionstore::milliseconds>(until - std::chrono::steady_clock::now());
}

// Who has set a key with a prefix, each as it should.
class hearing {
public:
    void add(const sessionstore::state& now, std::string_view name, const json& expected) {
        const std::lock_guard<std::mutex> guard(mutex_);
        // As texts, for 2^53 + 1 is equal to the nearest double as a number.
        const bool right = now.as<json>().value().dump() == expected.dump() && now.author_name() == name;
        if (!right) wrong_ = std::string(now.key());
        names_.insert(std::string(now.key()));
        changed_.notify_all();
    }
    void wait(std::size_t count) {
        std::unique_lock<std::mutex> guard(mutex_);
        const bool all = changed_.wait_until(guard, until, [&] { return names_.size() >= count || !wrong_.empty(); });
        if (!wrong_.empty()) throw std::runtime_error(wrong_ + " shows something else, or of somebody else");
        if (!all) throw std::runtime_error("not all were heard");
    }

private:
    std::mutex mutex_;
    std::condition_variable changed_;
    std::set<std::string> names_;
    std::string wrong_;
};

json shown(std::string_view name) { return {{"from", std::string(name)}, {"n", 9007199254740993}, {"on", true}}; }

}  // namespace

int main(int argc, char** argv) try {
    // What is not heard as it should be, such as a value that is none of JSON, is no reason to wait.
    sessionstore::on_exception([](std::exception_ptr what) {
        try {
            std::rethrow_exception(what);
        } catch (const std::exception& failed) {
            std::fprintf(stderr, "%s\n", failed.what());
        }
        std::_Exit(1);
    });
    if (argc != 5) throw std::runtime_error("usage: everyone URL ROOM NAME COUNT");
    const std::string name = argv[3];
    const std::int64_t count = std::stoll(argv[4]);
    hearing here, heard;
    sessionstore::client_options options;
    options.url = argv[1];
    options.room = argv[2];
    options.name = options.peer_id = name;
    const auto client = sessionstore::client::open(options).value();
    const auto store = client.join_wait(left()).value();
    const auto listen_here = store.listen(sessionstore::selector::prefix("here/"), [&](const sessionstore::state& now) {
        const auto from = now.key().substr(std::string_view("here/").size());
        here.add(now, from, shown(from));
    }).value();
    const auto listen_heard = store.listen(sessionstore::selector::prefix("heard/"), [&](const sessionstore::state& now) {
        heard.add(now, now.key().substr(std::string_view("heard/").size()), count);
    }).value();
    store.set("here/" + name, shown(name)).wait(left()).value();
    here.wait(static_cast<std::size_t>(count));
    store.set("heard/" + name, count).wait(left()).value();
    heard.wait(static_cast<std::size_t>(count));
    client.leave().wait(left()).value();
    std::printf("%s heard %lld\n", name.c_str(), static_cast<long long>(count));
    return 0;
} catch (const std::exception& failed) {
    std::fprintf(stderr, "%s: %s\n", argc > 3 ? argv[3] : "everyone", failed.what());
    return 1;
}
