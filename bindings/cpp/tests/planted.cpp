// What the sanitizer is for: `planted fault` reads a text after its state is gone, `planted leak` loses a subscription.
#include <sessionstore.hpp>

#include <cstdio>
#include <cstring>
#include <memory>

int main(int argc, char** argv) {
    const auto server = sessionstore::server::start().value();
    sessionstore::client_options options;
    options.url = server.url();
    options.room = "room";
    const auto client = sessionstore::client::open(options).value();
    const auto store = client.join_wait().value();
    if (argc == 2 && std::strcmp(argv[1], "fault") == 0) {
        const std::string_view text = store.set("k", "a text that is not kept anywhere else").wait().value().json();
        store.set("k", "another").wait().value();
        std::printf("%zu\n", std::strlen(text.data()));
    }
    if (argc == 2 && std::strcmp(argv[1], "leak") == 0) {
        const auto* lost = new sessionstore::value(sessionstore::value::of("lost").value());
        std::printf("%zu\n", lost->json().size());
        lost = nullptr;
    }
    return 0;
}
