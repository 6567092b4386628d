// Plays the test vectors with the C++ header; tests/vectors/README.md says what they mean.
#define DOCTEST_CONFIG_IMPLEMENT_WITH_MAIN
#include <doctest/doctest.h>

#include <algorithm>
#include <condition_variable>
#include <deque>
#include <fstream>
#include <map>
#include <mutex>
#include <nlohmann/json.hpp>
#include <sessionstore.hpp>

using nlohmann::json;
using namespace std::chrono_literals;
using sessionstore::errc;

namespace {

constexpr auto patience = 60s;

json load(const std::string& name) {
    std::ifstream file(std::string(VECTORS) + "/" + name + ".json");
    REQUIRE(file);
    return json::parse(file);
}

// The members of an object, taken out one by one: what is left at the end nobody knew.
class members {
public:
    members(std::string name, json object) : of(std::move(name)), left_(std::move(object)) {}
    std::string of;

    bool has(const char* name) const { return left_.contains(name); }
    template <class T>
    std::optional<T> maybe(const char* name) {
        if (!left_.contains(name)) return std::nullopt;
        T member = left_.at(name).get<T>();
        left_.erase(name);
        return member;
    }
    template <class T = std::string>
    T take(const char* name) {
        INFO(of);
        REQUIRE_MESSAGE(left_.contains(name), name);
        return *maybe<T>(name);
    }
    bool flag(const char* name) { return maybe<bool>(name).value_or(false); }
    void done() const {
        INFO(of);
        CHECK_MESSAGE(left_.empty(), "not known: ", left_.dump());
    }

private:
    json left_;
};

std::string kind_name(sessionstore::kind of) {
    using sessionstore::kind;
    static const std::map<sessionstore::kind, std::string> names = {
        {kind::null, "null"},     {kind::boolean, "boolean"}, {kind::integer, "integer"}, {kind::number, "number"},
        {kind::string, "string"}, {kind::array, "array"},     {kind::object, "object"}};
    return names.at(of);
}

std::string cause_name(sessionstore::cause of) {
    using sessionstore::cause;
    static const std::map<sessionstore::cause, std::string> names = {{cause::written, "written"},
                                                                    {cause::expired, "expired"},
                                                                    {cause::peer_left, "peer_left"},
                                                                    {cause::cleared, "cleared"}};
    return names.at(of);
}

// What a listener was told, in order; `text` is a mark, or the code of a refusal.
struct told {
    std::optional<sessionstore::state> state;
    std::string text;
};

struct watch {
    std::mutex mutex;
    std::condition_variable changed;
    std::deque<told> all;
    void add(told one) {
        const std::lock_guard<std::mutex> guard(mutex);
        all.push_back(std::move(one));
        changed.notify_all();
    }
    told next(const std::string& of) {
        INFO(of);
        std::unique_lock<std::mutex> guard(mutex);
        REQUIRE(changed.wait_for(guard, patience, [&] { return !all.empty(); }));
        told one = std::move(all.front());
        all.pop_front();
        return one;
    }
    bool is_empty() {
        const std::lock_guard<std::mutex> guard(mutex);
        return all.empty();
    }
};

// Says "dropped" when the listener that holds it is destroyed.
struct last_word {
    explicit last_word(std::shared_ptr<watch> hears) : to(std::move(hears)) {}
    last_word(const last_word&) = delete;
    last_word& operator=(const last_word&) = delete;
    ~last_word() { to->add({std::nullopt, "dropped"}); }
    std::shared_ptr<watch> to;
};

struct actor {
    sessionstore::client client;
    sessionstore::store store;
    bool left = false;
    std::map<std::string, std::pair<std::shared_ptr<watch>, sessionstore::subscription>> watches;
    std::map<std::string, sessionstore::lock> locks;
};

struct ending {
    std::optional<sessionstore::error> error;
    std::optional<std::optional<sessionstore::state>> state;
    std::optional<std::vector<sessionstore::state>> states;
    std::optional<std::vector<std::string>> keys, peers;
    std::optional<sessionstore::usage> usage;
};

void compare(members& expected, const sessionstore::state& state) {
    INFO(expected.of);
    CHECK(expected.take("key") == state.key());
    CHECK(expected.take("json") == state.json());
    if (const auto version = expected.maybe<std::uint64_t>("version")) CHECK(*version == state.version());
    if (const auto expires = expected.maybe<bool>("expires")) CHECK(*expires == state.expires_at().has_value());
    if (const auto author = expected.maybe<json>("author")) {
        CHECK((author->is_null() ? "" : author->get<std::string>()) == state.author_peer_id());
    }
    if (const auto user_id = expected.maybe<std::string>("user_id")) CHECK(*user_id == state.author_user_id());
}

void compare_state(const std::string& of, const json& expected, const sessionstore::state& state) {
    members own(of, expected);
    compare(own, state);
    own.done();
}

void hear(const std::string& of, const told& one, const json& expected) {
    INFO(of);
    if (expected.is_string()) {
        CHECK(one.text == expected.get<std::string>());
        return;
    }
    members own(of + ": " + expected.dump(), expected);
    if (const auto refused = own.maybe<std::string>("refused")) {
        CHECK(one.text == *refused);
    } else {
        REQUIRE_MESSAGE(one.state, one.text);
        compare(own, *one.state);
        CHECK(own.flag("snapshot") == one.state->is_snapshot());
        CHECK(own.maybe<std::string>("cause").value_or("written") == cause_name(one.state->cause()));
    }
    own.done();
}

sessionstore::selector selector(members& step) {
    sessionstore::selector own;
    own.keys = step.maybe<std::vector<std::string>>("keys").value_or(own.keys);
    own.prefixes = step.maybe<std::vector<std::string>>("prefixes").value_or(own.prefixes);
    own.all = step.flag("all");
    return own;
}

struct writing {
    sessionstore::operation operation;
    std::string key;
    sessionstore::json_text json;
    sessionstore::write_options options;
};

writing read_write(members& step) {
    using sessionstore::operation;
    static const std::map<std::string, operation> operations = {
        {"set", operation::set},         {"add", operation::add},
        {"patch", operation::patch},     {"set_add", operation::set_add},
        {"append", operation::append},   {"set_remove", operation::set_remove},
        {"touch", operation::touch}};
    writing own{operations.at(step.take("operation")), step.take("key"), {"null"}, {}};
    own.json.json = step.maybe<std::string>("json").value_or("null");
    own.options.if_version = step.maybe<std::uint64_t>("if_version");
    if (const auto ttl = step.maybe<std::int64_t>("ttl_ms")) own.options.ttl = sessionstore::milliseconds(*ttl);
    own.options.cap = step.maybe<std::uint64_t>("cap");
    if (step.flag("bound")) own.options.bound = true;
    if (step.flag("unbound")) own.options.bound = false;
    own.options.keep_expiry = step.flag("keep_expiry");
    own.options.never_expires = step.flag("never_expires");
    return own;
}

template <class T, class F>
void put(ending& end, sessionstore::result<T> outcome, F take) {
    if (outcome) take(*std::move(outcome));
    else end.error = outcome.error();
}

void put_state(ending& end, sessionstore::result<sessionstore::state> outcome) {
    put(end, std::move(outcome), [&](auto state) { end.state.emplace(std::move(state)); });
}

void put_nothing(ending& end, const sessionstore::result<void>& outcome) {
    if (!outcome) end.error = outcome.error();
}

void check_of(const actor& own, sessionstore::transaction& transaction, members& check) {
    if (const auto lock = check.maybe<std::string>("lock")) {
        transaction.check_lock(own.locks.at(*lock));
        return;
    }
    const std::string key = check.take("key");
    if (const auto version = check.maybe<std::uint64_t>("version")) transaction.check_version(key, *version);
    else if (check.flag("exists")) transaction.check_exists(key);
    else if (check.flag("absent")) transaction.check_absent(key);
    else transaction.check_equals(key, sessionstore::json_text{check.take("equals")});
}

void act(actor& own, const std::string& action, members& step, ending& end) {
    const auto& store = own.store;
    const auto text = [&](const char* name) { return sessionstore::json_text{step.take(name)}; };
    if (action == "leave") {
        put_nothing(end, own.client.leave().wait(patience));
        own.left = true;
    } else if (action == "listen") {
        auto watched = std::make_shared<watch>();
        auto word = std::make_shared<last_word>(watched);
        sessionstore::key_change_listener listener;
        listener.on_key_changed = [watched, word](const sessionstore::state& now) { watched->add({now, ""}); };
        listener.on_snapshot_end = [watched, word] { watched->add({std::nullopt, "snapshot_end"}); };
        listener.on_refused = [watched, word](const sessionstore::error& why) {
            watched->add({std::nullopt, std::string(why.name())});
        };
        word.reset();
        const std::string name = step.take("as");
        put(end, store.listen(selector(step), std::move(listener)), [&](auto subscription) {
            own.watches.emplace(name, std::make_pair(watched, std::move(subscription)));
        });
    } else if (action == "cancel") {
        put_nothing(end, own.watches.at(step.take("as")).second.cancel_wait(patience));
    } else if (action == "set") {
        const auto key = step.take("key");
        put_state(end, store.set(key, text("json")).wait(patience));
    } else if (action == "set_if_version") {
        const auto key = step.take("key");
        const auto version = step.take<std::uint64_t>("version");
        put_state(end, store.set_if_version(key, text("json"), version).wait(patience));
    } else if (action == "remove") {
        put_state(end, store.remove(step.take("key")).wait(patience));
    } else if (action == "get") {
        put_state(end, store.get(step.take("key")).wait(patience));
    } else if (action == "cached") {
        put(end, store.cached(step.take("key")), [&](auto state) { end.state.emplace(std::move(state)); });
    } else if (action == "add") {
        const auto by = step.take<std::int64_t>("by");
        put_state(end, store.add(step.take("key"), by).wait(patience));
    } else if (action == "write") {
        auto write = read_write(step);
        if (const auto lock = step.maybe<std::string>("lock")) write.options.lock = &own.locks.at(*lock);
        put_state(end, store.write(write.operation, write.key, write.json, write.options).wait(patience));
    } else if (action == "update") {
        const auto more = step.take<std::int64_t>("add");
        const auto compute = [more](const sessionstore::state& now) {
            return sessionstore::value::of(now.as<std::int64_t>().value_or(0) + more).value();
        };
        put_state(end, store.update(step.take("key"), compute).wait(patience));
    } else if (action == "transact") {
        sessionstore::transaction transaction;
        for (const json& each : step.take<json>("checks")) {
            members check(step.of + ": " + each.dump(), each);
            check_of(own, transaction, check);
            check.done();
        }
        for (const json& each : step.take<json>("writes")) {
            members members_of(step.of + ": " + each.dump(), each);
            const auto write = read_write(members_of);
            members_of.done();
            transaction.write(write.operation, write.key, write.json, write.options);
        }
        put(end, store.transact(transaction).wait(patience), [&](auto made) { end.states = made.states; });
    } else if (action == "read") {
        put(end, store.read(selector(step)).wait(patience), [&](auto read) { end.states = read.states; });
    } else if (action == "keys") {
        put(end, store.keys(step.take("prefix")).wait(patience), [&](auto keys) { end.keys = keys; });
    } else if (action == "usage") {
        put(end, store.usage().wait(patience), [&](auto usage) { end.usage = usage; });
    } else if (action == "lock") {
        const auto name = step.take("lock");
        put(end, store.lock(name).wait(patience), [&](auto held) {
            own.locks.erase(name);
            own.locks.emplace(name, std::move(held));
        });
    } else if (action == "release") {
        put_nothing(end, own.locks.at(step.take("lock")).release().wait(patience));
    } else if (action == "peers") {
        put(end, own.client.peers(), [&](auto peers) {
            end.peers.emplace();
            for (const auto& peer : peers) end.peers->emplace_back(peer.id());
            std::sort(end.peers->begin(), end.peers->end());
        });
    } else {
        FAIL(step.of, ": the action is unknown");
    }
}

void ended(members& step, const ending& end) {
    INFO(step.of);
    if (const auto expected = step.maybe<std::string>("error")) {
        REQUIRE(end.error);
        CHECK(*expected == end.error->name());
        if (const auto current = step.maybe<json>("current")) {
            REQUIRE(end.error->current());
            compare_state(step.of, *current, *end.error->current());
        }
        CHECK(step.maybe<std::size_t>("check") == end.error->failed_check());
        CHECK(step.maybe<std::size_t>("write") == end.error->failed_write());
        return;
    }
    REQUIRE_MESSAGE(!end.error, end.error->message());
    if (end.state) {
        const auto expected = step.take<json>("state");
        CHECK(expected.is_null() == !*end.state);
        if (*end.state) compare_state(step.of, expected, **end.state);
    }
    if (end.states) {
        const auto expected = step.take<json>("states");
        REQUIRE(expected.size() == end.states->size());
        for (std::size_t nth = 0; nth < expected.size(); nth++) compare_state(step.of, expected[nth], (*end.states)[nth]);
    }
    if (end.keys) CHECK(step.take<std::vector<std::string>>("keys") == *end.keys);
    if (end.peers) CHECK(step.take<std::vector<std::string>>("peers") == *end.peers);
    if (end.usage) {
        members usage(step.of, step.take<json>("usage"));
        const std::map<const char*, std::uint64_t> told = {
            {"revision", end.usage->revision},   {"keys", end.usage->keys},
            {"max_keys", end.usage->max_keys},   {"bytes", end.usage->bytes},
            {"max_bytes", end.usage->max_bytes}, {"max_value_bytes", end.usage->max_value_bytes}};
        for (const auto& [name, number] : told) {
            if (const auto expected = usage.maybe<std::uint64_t>(name)) CHECK(*expected == number);
        }
        usage.done();
    }
}

sessionstore::result<actor> join(std::string_view url, const std::string& peer, members& step) {
    sessionstore::client_options options;
    options.url = url;
    options.room = "room";
    options.peer_id = options.name = peer;
    options.role = step.maybe<std::string>("role").value_or("");
    options.user_id = step.maybe<std::string>("user_id").value_or("");
    options.fail_fast = true;
    auto client = sessionstore::client::open(options);
    if (!client) return client.error();
    auto store = client->join_wait(patience);
    if (!store) return store.error();
    return actor{*std::move(client), *std::move(store), false, {}, {}};
}

void play(members scenario) {
    const std::string name = scenario.take("name");
    scenario.take("why");
    members settings(name, scenario.take<json>("server"));
    sessionstore::server_options options;
    const std::map<const char*, std::uint32_t*> limits = {{"max_value_bytes", &options.max_value_bytes},
                                                          {"max_keys", &options.max_keys},
                                                          {"max_store_bytes", &options.max_store_bytes},
                                                          {"max_listened_keys", &options.max_listened_keys},
                                                          {"max_peers", &options.max_peers}};
    for (const auto& [limit, option] : limits) *option = settings.maybe<std::uint32_t>(limit).value_or(0);
    options.rules = settings.maybe<std::string>("rules").value_or("");
    settings.done();
    const auto server = sessionstore::server::start(options).value();
    std::map<std::string, actor> actors;
    for (const json& each : scenario.take<json>("steps")) {
        members step(name + ": " + each.dump(), each);
        const std::string peer = step.take("peer");
        if (const auto watched = step.maybe<std::string>("hears")) {
            for (const json& event : step.take<json>("events")) {
                hear(step.of, actors.at(peer).watches.at(*watched).first->next(step.of), event);
            }
        } else {
            ending end;
            const std::string action = step.take("do");
            if (action == "join") {
                put(end, join(server.url(), peer, step), [&](actor joined) { actors.emplace(peer, std::move(joined)); });
            } else {
                act(actors.at(peer), action, step, end);
            }
            ended(step, end);
        }
        step.done();
    }
    scenario.done();
    for (auto& [peer, own] : actors) {
        if (!own.left) own.store.keys().wait(patience).value();
        for (auto& entry : own.watches) {
            CHECK_MESSAGE(entry.second.first->is_empty(), name, ": ", entry.first, " was told more");
        }
    }
}

}  // namespace

TEST_CASE("errors") {
    std::map<int, std::string> known;
    for (const json& each : load("errors")) {
        members entry(each.dump(), each);
        INFO(entry.of);
        const auto number = entry.take<int>("number");
        const auto code = static_cast<errc>(number);
        known[number] = entry.take("name");
        CHECK(name_of(code) == known[number]);
        CHECK(advice_on(code).size() > 10);
        const bool retryable = entry.take<bool>("retryable");
        entry.done();
        // As a result, and as what it throws.
        const sessionstore::result<int> failed = sessionstore::error(code);
        CHECK(failed.code() == code);
        CHECK(failed.error().message() == advice_on(code));
        CHECK(failed.error().is_retryable() == retryable);
        try {
            static_cast<void>(failed.value());
            FAIL("it throws");
        } catch (const sessionstore::exception& thrown) {
            CHECK(thrown.error().name() == known[number]);
            CHECK(thrown.what() == advice_on(code));
        }
    }
    CHECK(known.size() > 60);
    // No other number has a name of its own.
    for (int number = 1; number < 2000; number++) {
        if (known.count(number) == 0) CHECK(name_of(static_cast<errc>(number)) == name_of(errc::unknown));
    }
}

TEST_CASE("values") {
    members file("values", load("values"));
    const auto server = sessionstore::server::start().value();
    members nobody("", json::object());
    auto ada = join(server.url(), "ada", nobody).value(), bob = join(server.url(), "bob", nobody).value();
    std::map<actor*, std::shared_ptr<watch>> watches;
    std::vector<sessionstore::subscription> subscriptions;
    for (actor* own : {&ada, &bob}) {
        auto watched = watches[own] = std::make_shared<watch>();
        subscriptions.push_back(own->store.listen({"value"}, [watched](const auto& now) { watched->add({now, ""}); }).value());
        CHECK_FALSE(watched->next("the current value").state->is_set());
    }
    for (const json& each : file.take<json>("values")) {
        members vector(each.at("name").get<std::string>(), each);
        vector.take("name");
        INFO(vector.of);
        const auto text = vector.take("json");
        const auto stored = vector.maybe<std::string>("stored").value_or(text), kind = vector.take("kind");
        const auto string = vector.maybe<std::string>("string"), integer = vector.maybe<std::string>("integer");
        const auto number = vector.maybe<double>("number");
        const auto boolean = vector.maybe<bool>("boolean");
        const bool absent = vector.flag("absent");
        vector.done();
        const auto same = [&](const auto& got, const auto& expected) {
            if (expected) CHECK(got.value() == *expected);
            else CHECK(got.code() == errc::wrong_type);
        };
        const auto look = [&](const sessionstore::state& state) {
            CHECK(state.json() == stored);
            CHECK(kind_name(state.value().kind()) == kind);
            same(state.as<std::string>(), string);
            same(state.as<std::int64_t>(), integer ? std::optional<std::int64_t>(std::stoll(*integer)) : std::nullopt);
            same(state.as<double>(), number);
            same(state.as<bool>(), boolean);
        };
        ada.store.set("value", "before").wait(patience).value();
        look(ada.store.set("value", sessionstore::json_text{text}).wait(patience).value());
        for (actor* own : {&ada, &bob}) {
            CHECK(watches[own]->next(vector.of).state->as<std::string>().value() == "before");
            look(*watches[own]->next(vector.of).state);
            look(own->store.get("value").wait(patience).value());
            look(*own->store.cached("value").value());
            CHECK(own->store.keys().wait(patience).value().empty() == absent);
        }
    }
    for (const json& each : file.take<json>("refused")) {
        members vector(each.dump(), each);
        INFO(vector.of);
        vector.take("name");
        vector.flag("text_only");  // JSON is set as a text here, so none is skipped
        const sessionstore::json_text text{vector.take("json")};
        ada.store.set("value", "before").wait(patience).value();
        CHECK(name_of(ada.store.set("value", text).wait(patience).code()) == vector.take("error"));
        CHECK(ada.store.get("value").wait(patience).value().as<std::string>().value() == "before");
        vector.done();
    }
    file.done();
}

TEST_CASE("scenarios") {
    const json scenarios = load("scenarios");
    REQUIRE(!scenarios.empty());
    for (const json& scenario : scenarios) play(members("a scenario", scenario));
}
