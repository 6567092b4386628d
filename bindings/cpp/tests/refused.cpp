// What the compiler is to refuse, each by its name; without one this compiles.
#include <sessionstore.hpp>

void use(sessionstore::client& client, sessionstore::store& store);

void use(sessionstore::client& client, sessionstore::store& store) {
    struct unknown {};
    static_cast<void>(client);
    static_cast<void>(store);
#if defined(OTHER_TYPE)
    static_cast<void>(store.set("k", unknown()));
#elif defined(CHARACTER)
    static_cast<void>(store.set("k", 'c'));
#elif defined(COPY)
    sessionstore::client other = client;
#elif defined(NOT_SENT)
    store.set("k", 1);
#elif defined(NOT_LOOKED_AT)
    store.set("k", 1).wait();
#elif defined(SENT_TWICE)
    auto action = store.set("k", 1);
    static_cast<void>(action.wait());
#elif defined(WAITED_CANCELLABLY)
    static_cast<void>(store.set("k", 1).cancelled_by(sessionstore::cancellation()).wait());
#endif
}
