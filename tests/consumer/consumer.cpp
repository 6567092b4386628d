// The same as consumer.c with the C++ header.
#include <atomic>
#include <iostream>
#include <string_view>

#include <sessionstore.hpp>

int main() try {
  using namespace std::chrono_literals;
  if (std::string_view(sessionstore_version()) != SESSIONSTORE_VERSION) {
    std::cerr << "header and library are of different versions\n";
    return 1;
  }
  auto server = sessionstore::server::start().value();
  sessionstore::client_options options;
  options.url = server.url();
  options.room = "lobby";
  auto client = sessionstore::client::open(options).value();
  auto store = client.join_wait(30s).value();
  std::atomic<int> heard{0};
  auto subscription = store.listen({"spotlight"}, [&](const sessionstore::state& now) {
    if (now.json() == "\"peer-1\"") ++heard;
  }).value();
  store.set("spotlight", "peer-1").wait(30s).value();
  // After this nothing writes `heard`; and a set that succeeded was told to the listener before.
  subscription.cancel_wait(30s).value();
  client.leave().wait(30s).value();
  server.stop_wait(30s).value();
  if (heard != 1) {
    std::cerr << "the listener heard " << heard << " times\n";
    return 1;
  }
  std::cout << "SessionStore " << sessionstore_version() << " is at home here, in C++\n";
  return 0;
} catch (const sessionstore::exception& failed) {
  std::cerr << failed.error().name() << ": " << failed.what() << '\n';
  return 1;
}
