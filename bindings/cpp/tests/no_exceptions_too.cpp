// The other file of no_exceptions.cpp: the header defines nothing twice, and is whole without nlohmann's JSON.
#include <sessionstore.hpp>

#ifdef NLOHMANN_JSON_VERSION_MAJOR
#error "the header is to include no JSON library"
#endif

sessionstore::result<std::string> elsewhere(const sessionstore::store& store);

sessionstore::result<std::string> elsewhere(const sessionstore::store& store) {
    const auto got = store.get("k").wait();
    if (!got) return got.error();
    return got->as<std::string>();
}
