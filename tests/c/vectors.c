/* Plays the test vectors with the C API; tests/vectors/README.md says what they mean. */
#include <jansson.h>

#include "harness.h"

enum { MOST_MEMBERS = 4, MOST_WATCHES = 4, MOST_LOCKS = 4, MOST_NOTES = 64, MOST_KEYS = 8 };

/* The files, and their members. What is taken out of an object is known; what is left at the end nobody knew. */

static json_t *load(const char *name) {
    char path[512];
    json_error_t error;
    json_t *file;
    snprintf(path, sizeof path, "%s/%s.json", VECTORS, name);
    file = json_load_file(path, JSON_ALLOW_NUL, &error);
    CHECK(file != NULL, "%s, line %d: %s", path, error.line, error.text);
    return file;
}

/* Where the test is, for what is said when it fails. */
static char at[4096];

static void say_where(const char *scenario, size_t nth, const json_t *step) {
    char *text = json_dumps(step, JSON_COMPACT | JSON_SORT_KEYS);
    snprintf(at, sizeof at, "%s, step %u, %s", scenario, (unsigned)nth, text);
    free(text);
}

/* A member, which is the caller's to give back with json_decref; NULL if there is none. */
static json_t *maybe(json_t *object, const char *name) {
    json_t *member = json_incref(json_object_get(object, name));
    json_object_del(object, name);
    return member;
}

static json_t *take(json_t *object, const char *name) {
    json_t *member = maybe(object, name);
    CHECK(member != NULL, "%s: there is no %s", at, name);
    return member;
}

/* A text, copied to `into`; whether it is there. */
static int maybe_text(json_t *object, const char *name, char into[2048]) {
    json_t *member = maybe(object, name);
    into[0] = 0;
    if (member == NULL) return 0;
    CHECK(json_is_string(member) && json_string_length(member) < 2048, "%s: %s is no text, or too long", at, name);
    strcpy(into, json_string_value(member));
    json_decref(member);
    return 1;
}

static void take_text(json_t *object, const char *name, char into[2048]) {
    CHECK(maybe_text(object, name, into), "%s: there is no %s", at, name);
}

static int maybe_integer(json_t *object, const char *name, int64_t *into) {
    json_t *member = maybe(object, name);
    if (member == NULL) return 0;
    CHECK(json_is_integer(member), "%s: %s is no integer", at, name);
    *into = json_integer_value(member);
    json_decref(member);
    return 1;
}

static int flag(json_t *object, const char *name) {
    json_t *member = maybe(object, name);
    int is_set = json_is_true(member);
    CHECK(member == NULL || json_is_boolean(member), "%s: %s is no boolean", at, name);
    json_decref(member);
    return is_set;
}

static void done(const json_t *object) {
    char *left = json_dumps(object, JSON_COMPACT | JSON_ENCODE_ANY);
    CHECK(json_object_size(object) == 0, "%s: not known: %s", at, left);
    free(left);
}

/* Errors. */

static void errors(void) {
    json_t *file = load("errors");
    size_t index;
    json_t *entry;
    int32_t known = 0, number;
    json_array_foreach(file, index, entry) {
        char name[2048];
        int64_t code = 0;
        snprintf(at, sizeof at, "error %u", (unsigned)index);
        take_text(entry, "name", name);
        CHECK(maybe_integer(entry, "number", &code), "%s has a number", name);
        /* Only an error that was met says whether it is worth trying again. */
        flag(entry, "retryable");
        CHECK(strcmp(sessionstore_code_name((int32_t)code), name) == 0, "%d is %s, not %s", (int)code,
              sessionstore_code_name((int32_t)code), name);
        CHECK(strlen(sessionstore_code_advice((int32_t)code)) > 10, "%s has advice", name);
        done(entry);
    }
    /* And no other has a name of its own. */
    for (number = 1; number < 2000; number++) {
        known += strcmp(sessionstore_code_name(number), sessionstore_code_name(-1)) != 0;
    }
    /* UNKNOWN is one of them. */
    CHECK(known + 1 == (int32_t)json_array_size(file), "the library knows %d codes, the file %u", (int)known + 1,
          (unsigned)json_array_size(file));
    json_decref(file);
}

/* Values. */

static const char *kind_name(int32_t kind) {
    switch (kind) {
        case SESSIONSTORE_KIND_NULL: return "null";
        case SESSIONSTORE_KIND_BOOLEAN: return "boolean";
        case SESSIONSTORE_KIND_INTEGER: return "integer";
        case SESSIONSTORE_KIND_NUMBER: return "number";
        case SESSIONSTORE_KIND_STRING: return "string";
        case SESSIONSTORE_KIND_ARRAY: return "array";
        case SESSIONSTORE_KIND_OBJECT: return "object";
        default: return "?";
    }
}

/* The members of a vector stay: several look at it. */
static void look_at(const json_t *vector, const sessionstore_event *event) {
    const json_t *stored = json_object_get(vector, "stored");
    const json_t *string = json_object_get(vector, "string"), *integer = json_object_get(vector, "integer");
    const json_t *number = json_object_get(vector, "number"), *boolean = json_object_get(vector, "boolean");
    const sessionstore_value *value = sessionstore_event_value(event);
    size_t len = 0;
    const char *json = sessionstore_event_json(event, &len), *text = NULL;
    int64_t whole = 0;
    double real = 0;
    int32_t truth = 0;
    if (stored == NULL) stored = json_object_get(vector, "json");
    CHECK(len == json_string_length(stored) && memcmp(json, json_string_value(stored), len) == 0, "%s came as %s", at,
          json);
    CHECK(strcmp(kind_name(sessionstore_value_kind(value)), json_string_value(json_object_get(vector, "kind"))) == 0,
          "%s is of the kind %s", at, kind_name(sessionstore_value_kind(value)));
    EXPECT(string != NULL ? SESSIONSTORE_OK : SESSIONSTORE_WRONG_TYPE,
           sessionstore_value_get_string(value, &text, &len, NULL));
    CHECK(string == NULL || (len == json_string_length(string) && memcmp(text, json_string_value(string), len) == 0),
          "%s: the string is %s", at, text);
    EXPECT(integer != NULL ? SESSIONSTORE_OK : SESSIONSTORE_WRONG_TYPE,
           sessionstore_value_get_integer(value, &whole, NULL));
    CHECK(integer == NULL || whole == strtoll(json_string_value(integer), NULL, 10), "%s: another integer", at);
    EXPECT(number != NULL ? SESSIONSTORE_OK : SESSIONSTORE_WRONG_TYPE,
           sessionstore_value_get_number(value, &real, NULL));
    CHECK(number == NULL || real == json_number_value(number), "%s: the number is %g", at, real);
    EXPECT(boolean != NULL ? SESSIONSTORE_OK : SESSIONSTORE_WRONG_TYPE,
           sessionstore_value_get_boolean(value, &truth, NULL));
    CHECK(boolean == NULL || truth == json_is_true(boolean), "%s: the boolean is %d", at, (int)truth);
}

static void values(void) {
    static const char *known[] = {"name", "json", "stored", "kind", "absent", "string", "integer", "number", "boolean"};
    json_t *file = load("values"), *vector, *list = json_object_get(file, "values");
    sessionstore_server *server = serve(NULL);
    static listening heard[2];
    sessionstore_subscription *subscriptions[2];
    member members[2];
    size_t index, nth, name;
    int events = 1;
    for (nth = 0; nth < 2; nth++) {
        member_join(&members[nth], sessionstore_server_url(server), "room", nth == 0 ? "ada" : "bob");
        subscriptions[nth] = listen_to(members[nth].store, &heard[nth], "value", NULL);
        WAIT_FOR(heard[nth].ends == 1, "the current value is told");
    }
    CHECK(json_array_size(list) > 0, "there are values");
    json_array_foreach(list, index, vector) {
        const json_t *json = json_object_get(vector, "json");
        json_t *rest = json_copy(vector);
        sessionstore_event *event = NULL;
        snprintf(at, sizeof at, "%s", json_string_value(json_object_get(vector, "name")));
        for (name = 0; name < sizeof known / sizeof known[0]; name++) json_object_del(rest, known[name]);
        done(rest);
        json_decref(rest);
        put(members[0].store, "value", "\"before\"");
        for (nth = 0; nth < 2; nth++) WAIT_FOR(heard[nth].count == events + 1, "%s: what was before is told", at);
        OK(sessionstore_store_set_wait(members[0].store, "value", TEXT, json_string_value(json), json_string_length(json),
                                       PATIENCE, &event, NULL));
        look_at(vector, event);
        sessionstore_event_free(event);
        events += 2;
        for (nth = 0; nth < 2; nth++) {
            sessionstore_key_list *keys = NULL;
            WAIT_FOR(heard[nth].count == events, "%s is told", at);
            look_at(vector, heard[nth].events[events - 1]);
            OK(sessionstore_store_get_wait(members[nth].store, "value", TEXT, PATIENCE, &event, NULL));
            look_at(vector, event);
            sessionstore_event_free(event);
            OK(sessionstore_store_cached(members[nth].store, "value", TEXT, &event, NULL));
            look_at(vector, event);
            sessionstore_event_free(event);
            OK(sessionstore_store_keys_wait(members[nth].store, "", 0, PATIENCE, &keys, NULL));
            CHECK((sessionstore_key_list_count(keys) == 0) == json_is_true(json_object_get(vector, "absent")),
                  "%s: whether the key is set", at);
            sessionstore_key_list_free(keys);
        }
    }
    list = json_object_get(file, "refused");
    CHECK(json_array_size(list) > 0, "some are refused");
    json_array_foreach(list, index, vector) {
        char text[2048], error[2048];
        int32_t code;
        take_text(vector, "name", text);
        snprintf(at, sizeof at, "%s", text);
        take_text(vector, "json", text);
        take_text(vector, "error", error);
        /* JSON is set as a text here, so none is skipped. */
        flag(vector, "text_only");
        done(vector);
        code = sessionstore_store_set_wait(members[0].store, "value", TEXT, text, TEXT, PATIENCE, NULL, NULL);
        CHECK(strcmp(sessionstore_code_name(code), error) == 0, "%s: %s instead of %s", at, sessionstore_code_name(code),
              error);
    }
    for (nth = 0; nth < 2; nth++) {
        OK(sessionstore_subscription_cancel_wait(subscriptions[nth], PATIENCE, NULL));
        CHECK(heard[nth].count == events, "what was refused is told to nobody");
        sessionstore_subscription_free(subscriptions[nth]);
        listening_over(&heard[nth]);
        member_leave(&members[nth]);
    }
    serve_no_more(server);
    json_object_del(file, "values");
    json_object_del(file, "refused");
    done(file);
    json_decref(file);
}

/* Scenarios. */

/* What a listener was told: a state, or a mark, or the code of a refusal. */
typedef struct note {
    sessionstore_event *event;
    int is_end;
    int is_drop;
    int32_t refused;
} note;

typedef struct watch {
    char name[2048];
    sessionstore_subscription *subscription;
    note notes[MOST_NOTES];
    int told;
    int heard;
} watch;

static note *add_note(void *ctx) {
    watch *own = (watch *)ctx;
    CHECK(own->told < MOST_NOTES, "%s: %s was told too much", at, own->name);
    return &own->notes[own->told++];
}

static void watch_changed(void *ctx, const sessionstore_event *event) {
    harness_lock();
    add_note(ctx)->event = sessionstore_event_retain(event);
    harness_unlock();
}

static void watch_end(void *ctx) {
    harness_lock();
    add_note(ctx)->is_end = 1;
    harness_unlock();
}

static void watch_refused(void *ctx, const sessionstore_error *error) {
    harness_lock();
    add_note(ctx)->refused = sessionstore_error_code(error);
    harness_unlock();
}

static void watch_drop(void *ctx) {
    harness_lock();
    add_note(ctx)->is_drop = 1;
    harness_unlock();
}

typedef struct actor {
    char id[2048];
    sessionstore_client *client;
    sessionstore_store *store;
    int left;
    watch watches[MOST_WATCHES];
    int watch_count;
    char lock_names[MOST_LOCKS][2048];
    sessionstore_lock *locks[MOST_LOCKS];
    int lock_count;
} actor;

/* How an action ended. What is NULL was not given. */
typedef struct ending {
    int32_t code;
    sessionstore_error *error;
    sessionstore_event *state;
    int gives_state;
    sessionstore_event_list *states;
    sessionstore_key_list *keys;
    sessionstore_peer_list *peers;
    sessionstore_usage usage;
    int gives_usage;
} ending;

static const char *cause_name(int32_t cause) {
    switch (cause) {
        case SESSIONSTORE_CAUSE_WRITTEN: return "written";
        case SESSIONSTORE_CAUSE_EXPIRED: return "expired";
        case SESSIONSTORE_CAUSE_PEER_LEFT: return "peer_left";
        case SESSIONSTORE_CAUSE_CLEARED: return "cleared";
        default: return "?";
    }
}

static void compare(json_t *expected, const sessionstore_event *event) {
    char text[2048];
    int64_t version = 0;
    json_t *member;
    CHECK(event != NULL, "%s: there is no state", at);
    take_text(expected, "key", text);
    CHECK(strcmp(text, sessionstore_event_key(event, NULL)) == 0, "%s: the key is %s", at,
          sessionstore_event_key(event, NULL));
    take_text(expected, "json", text);
    CHECK(strcmp(text, sessionstore_event_json(event, NULL)) == 0, "%s: the value is %s", at,
          sessionstore_event_json(event, NULL));
    if (maybe_integer(expected, "version", &version)) {
        CHECK((uint64_t)version == sessionstore_event_version(event), "%s: the version is %u", at,
              (unsigned)sessionstore_event_version(event));
    }
    member = maybe(expected, "expires");
    CHECK(member == NULL || json_is_true(member) == (sessionstore_event_expires_at(event) != 0), "%s: expires", at);
    json_decref(member);
    member = maybe(expected, "author");
    if (json_is_null(member)) {
        CHECK(sessionstore_event_author_peer_id(event, NULL)[0] == 0, "%s: nobody is the author", at);
    } else if (member != NULL) {
        CHECK(strcmp(json_string_value(member), sessionstore_event_author_peer_id(event, NULL)) == 0,
              "%s: the author is %s", at, sessionstore_event_author_peer_id(event, NULL));
    }
    json_decref(member);
    if (maybe_text(expected, "user_id", text)) {
        CHECK(strcmp(text, sessionstore_event_author_user_id(event, NULL)) == 0, "%s: the author's user id is %s", at,
              sessionstore_event_author_user_id(event, NULL));
    }
}

static void compare_state(json_t *expected, const sessionstore_event *event) {
    compare(expected, event);
    done(expected);
}

static void hears(watch *own, json_t *expected) {
    note told;
    WAIT_FOR(own->told > own->heard, "%s: something is told", at);
    harness_lock();
    told = own->notes[own->heard++];
    harness_unlock();
    if (json_is_string(expected)) {
        int is_it = strcmp(json_string_value(expected), "dropped") == 0 ? told.is_drop
                    : strcmp(json_string_value(expected), "snapshot_end") == 0 ? told.is_end
                                                                              : 0;
        CHECK(is_it, "%s: something else instead of %s", at, json_string_value(expected));
        return;
    }
    if (json_object_get(expected, "refused") != NULL) {
        char refused[2048];
        take_text(expected, "refused", refused);
        CHECK(strcmp(sessionstore_code_name(told.refused), refused) == 0, "%s: %s instead of %s", at,
              sessionstore_code_name(told.refused), refused);
    } else {
        char cause[2048];
        CHECK(told.event != NULL, "%s: no state was told", at);
        compare(expected, told.event);
        CHECK(flag(expected, "snapshot") == sessionstore_event_is_snapshot(told.event), "%s: snapshot", at);
        if (!maybe_text(expected, "cause", cause)) strcpy(cause, "written");
        CHECK(strcmp(cause, cause_name(sessionstore_event_cause(told.event))) == 0, "%s: the cause is %s", at,
              cause_name(sessionstore_event_cause(told.event)));
    }
    done(expected);
}

static const sessionstore_lock *lock_named(const actor *own, const char *name) {
    int index;
    for (index = own->lock_count - 1; index >= 0; index--) {
        if (strcmp(own->lock_names[index], name) == 0) return own->locks[index];
    }
    CHECK(0, "%s: the lock %s was never taken", at, name);
    return NULL;
}

/* Keys or prefixes of a selector; the texts live as long as `list`. */
static size_t texts(const json_t *list, const char *into[MOST_KEYS]) {
    size_t index;
    json_t *text;
    CHECK(json_array_size(list) <= MOST_KEYS, "%s: too many keys", at);
    json_array_foreach(list, index, text) into[index] = json_string_value(text);
    return json_array_size(list);
}

typedef struct selecting {
    sessionstore_selector selector;
    json_t *keys;
    json_t *prefixes;
    const char *key_texts[MOST_KEYS];
    const char *prefix_texts[MOST_KEYS];
} selecting;

static void select_keys(json_t *step, selecting *own) {
    const sessionstore_selector empty = SESSIONSTORE_SELECTOR_INIT;
    own->selector = empty;
    own->keys = maybe(step, "keys");
    own->prefixes = maybe(step, "prefixes");
    own->selector.keys = own->key_texts;
    own->selector.key_count = texts(own->keys, own->key_texts);
    own->selector.prefixes = own->prefix_texts;
    own->selector.prefix_count = texts(own->prefixes, own->prefix_texts);
    if (flag(step, "all")) own->selector.flags = SESSIONSTORE_SELECT_ALL;
}

static void select_end(selecting *own) {
    json_decref(own->keys);
    json_decref(own->prefixes);
}

typedef struct writing {
    int32_t operation;
    char key[2048];
    char json[2048];
    int has_json;
    sessionstore_write_options options;
} writing;

static void read_write(json_t *step, writing *own) {
    static const struct {
        const char *name;
        int32_t operation;
    } operations[] = {
        {"set", SESSIONSTORE_OPERATION_SET},         {"add", SESSIONSTORE_OPERATION_ADD},
        {"patch", SESSIONSTORE_OPERATION_PATCH},     {"set_add", SESSIONSTORE_OPERATION_SET_ADD},
        {"append", SESSIONSTORE_OPERATION_APPEND},   {"set_remove", SESSIONSTORE_OPERATION_SET_REMOVE},
        {"touch", SESSIONSTORE_OPERATION_TOUCH},
    };
    const sessionstore_write_options none = SESSIONSTORE_WRITE_OPTIONS_INIT;
    char operation[2048];
    size_t index;
    int64_t number = 0;
    take_text(step, "operation", operation);
    own->operation = 0;
    for (index = 0; index < sizeof operations / sizeof operations[0]; index++) {
        if (strcmp(operation, operations[index].name) == 0) own->operation = operations[index].operation;
    }
    CHECK(own->operation != 0, "%s: the operation %s is unknown", at, operation);
    take_text(step, "key", own->key);
    own->has_json = maybe_text(step, "json", own->json);
    own->options = none;
    if (maybe_integer(step, "if_version", &number)) {
        own->options.flags |= SESSIONSTORE_WRITE_IF_VERSION;
        own->options.if_version = (uint64_t)number;
    }
    if (maybe_integer(step, "ttl_ms", &number)) own->options.ttl_ms = (uint64_t)number;
    if (maybe_integer(step, "cap", &number)) own->options.cap = (uint64_t)number;
    if (flag(step, "bound")) own->options.flags |= SESSIONSTORE_WRITE_BOUND;
    if (flag(step, "unbound")) own->options.flags |= SESSIONSTORE_WRITE_UNBOUND;
    if (flag(step, "keep_expiry")) own->options.flags |= SESSIONSTORE_WRITE_KEEP_EXPIRY;
    if (flag(step, "never_expires")) own->options.flags |= SESSIONSTORE_WRITE_NEVER_EXPIRES;
}

/* Adds what `ctx` points to; frees nothing. */
static sessionstore_value *add_to(void *ctx, const sessionstore_event *current) {
    int64_t now = 0;
    sessionstore_value *sum = NULL;
    const sessionstore_value *value = sessionstore_event_value(current);
    if (sessionstore_value_kind(value) != SESSIONSTORE_KIND_NULL) {
        OK(sessionstore_value_get_integer(value, &now, NULL));
    }
    OK(sessionstore_value_from_integer(now + *(const int64_t *)ctx, &sum, NULL));
    return sum;
}

static void add_check(const actor *own, sessionstore_transaction *transaction, json_t *check) {
    char key[2048], text[2048];
    int64_t version = 0;
    if (maybe_text(check, "lock", text)) {
        OK(sessionstore_transaction_check_lock(transaction, lock_named(own, text), NULL));
    } else {
        take_text(check, "key", key);
        if (maybe_integer(check, "version", &version)) {
            OK(sessionstore_transaction_check_version(transaction, key, TEXT, (uint64_t)version, NULL));
        } else if (flag(check, "exists")) {
            OK(sessionstore_transaction_check_exists(transaction, key, TEXT, NULL));
        } else if (flag(check, "absent")) {
            OK(sessionstore_transaction_check_absent(transaction, key, TEXT, NULL));
        } else {
            take_text(check, "equals", text);
            OK(sessionstore_transaction_check_equals(transaction, key, TEXT, text, TEXT, NULL));
        }
    }
    done(check);
}

static void transact(const actor *own, json_t *step, ending *end) {
    json_t *checks = take(step, "checks"), *writes = take(step, "writes"), *entry;
    sessionstore_transaction *transaction = NULL;
    size_t index;
    OK(sessionstore_transaction_new(&transaction, NULL));
    json_array_foreach(checks, index, entry) add_check(own, transaction, entry);
    json_array_foreach(writes, index, entry) {
        writing write;
        read_write(entry, &write);
        done(entry);
        OK(sessionstore_transaction_write(transaction, write.key, TEXT, write.operation, write.has_json ? write.json : NULL,
                                          write.has_json ? TEXT : 0, &write.options, NULL));
    }
    end->code = sessionstore_store_transact_wait(own->store, transaction, PATIENCE, &end->states, &end->error);
    sessionstore_transaction_free(transaction);
    json_decref(checks);
    json_decref(writes);
}

static void listen(actor *own, json_t *step, ending *end) {
    sessionstore_key_change_listener listener = SESSIONSTORE_KEY_CHANGE_LISTENER_INIT;
    watch *watched = &own->watches[own->watch_count];
    selecting what;
    CHECK(own->watch_count < MOST_WATCHES, "%s: too many subscriptions", at);
    take_text(step, "as", watched->name);
    select_keys(step, &what);
    listener.ctx = watched;
    listener.on_drop = watch_drop;
    listener.on_key_changed = watch_changed;
    listener.on_snapshot_end = watch_end;
    listener.on_refused = watch_refused;
    end->code = sessionstore_store_listen_to(own->store, &what.selector, &listener, &watched->subscription, &end->error);
    if (end->code == SESSIONSTORE_OK) {
        own->watch_count++;
    } else {
        /* The struct was consumed all the same. */
        CHECK(watched->told == 1 && watched->notes[0].is_drop, "%s: a listener that is refused is dropped at once", at);
        memset(watched, 0, sizeof *watched);
    }
    select_end(&what);
}

static watch *watch_named(actor *own, const char *name) {
    int index;
    for (index = 0; index < own->watch_count; index++) {
        if (strcmp(own->watches[index].name, name) == 0) return &own->watches[index];
    }
    CHECK(0, "%s: there is no subscription %s", at, name);
    return NULL;
}

static void act(actor *own, const char *action, json_t *step, ending *end) {
    char key[2048], json[2048];
    int64_t number = 0;
    sessionstore_event **state = &end->state;
    const sessionstore_store *store = own->store;
    end->gives_state = 1;
    if (strcmp(action, "set") == 0) {
        take_text(step, "key", key);
        take_text(step, "json", json);
        end->code = sessionstore_store_set_wait(store, key, TEXT, json, TEXT, PATIENCE, state, &end->error);
    } else if (strcmp(action, "set_if_version") == 0) {
        take_text(step, "key", key);
        take_text(step, "json", json);
        CHECK(maybe_integer(step, "version", &number), "%s: there is no version", at);
        end->code = sessionstore_store_set_if_version_wait(store, key, TEXT, json, TEXT, (uint64_t)number, PATIENCE, state,
                                                           &end->error);
    } else if (strcmp(action, "remove") == 0) {
        take_text(step, "key", key);
        end->code = sessionstore_store_remove_wait(store, key, TEXT, PATIENCE, state, &end->error);
    } else if (strcmp(action, "get") == 0) {
        take_text(step, "key", key);
        end->code = sessionstore_store_get_wait(store, key, TEXT, PATIENCE, state, &end->error);
    } else if (strcmp(action, "cached") == 0) {
        take_text(step, "key", key);
        end->code = sessionstore_store_cached(store, key, TEXT, state, &end->error);
    } else if (strcmp(action, "add") == 0) {
        take_text(step, "key", key);
        CHECK(maybe_integer(step, "by", &number), "%s: there is no by", at);
        end->code = sessionstore_store_add_wait(store, key, TEXT, number, PATIENCE, state, &end->error);
    } else if (strcmp(action, "write") == 0) {
        writing write;
        read_write(step, &write);
        if (maybe_text(step, "lock", key)) write.options.lock = lock_named(own, key);
        end->code = sessionstore_store_write_wait(store, write.key, TEXT, write.operation, write.has_json ? write.json : NULL,
                                                  write.has_json ? TEXT : 0, &write.options, PATIENCE, state, &end->error);
    } else if (strcmp(action, "update") == 0) {
        sessionstore_updater updater = SESSIONSTORE_UPDATER_INIT;
        take_text(step, "key", key);
        CHECK(maybe_integer(step, "add", &number), "%s: there is no add", at);
        updater.ctx = &number;
        updater.on_update = add_to;
        end->code = sessionstore_store_update_wait(store, key, TEXT, &updater, PATIENCE, state, &end->error);
    } else {
        end->gives_state = 0;
        if (strcmp(action, "leave") == 0) {
            end->code = sessionstore_client_leave_wait(own->client, PATIENCE, &end->error);
            own->left = 1;
        } else if (strcmp(action, "listen") == 0) {
            listen(own, step, end);
        } else if (strcmp(action, "cancel") == 0) {
            take_text(step, "as", key);
            end->code = sessionstore_subscription_cancel_wait(watch_named(own, key)->subscription, PATIENCE, &end->error);
        } else if (strcmp(action, "transact") == 0) {
            transact(own, step, end);
        } else if (strcmp(action, "read") == 0) {
            selecting what;
            select_keys(step, &what);
            end->code = sessionstore_store_read_wait(store, &what.selector, PATIENCE, &end->states, &end->error);
            select_end(&what);
        } else if (strcmp(action, "keys") == 0) {
            take_text(step, "prefix", key);
            end->code = sessionstore_store_keys_wait(store, key, TEXT, PATIENCE, &end->keys, &end->error);
        } else if (strcmp(action, "usage") == 0) {
            const sessionstore_usage begun = SESSIONSTORE_USAGE_INIT;
            end->usage = begun;
            end->gives_usage = 1;
            end->code = sessionstore_store_usage_wait(store, PATIENCE, &end->usage, &end->error);
        } else if (strcmp(action, "lock") == 0) {
            CHECK(own->lock_count < MOST_LOCKS, "%s: too many locks", at);
            take_text(step, "lock", own->lock_names[own->lock_count]);
            end->code = sessionstore_store_lock_wait(store, own->lock_names[own->lock_count], TEXT, NULL, NULL, PATIENCE,
                                                     &own->locks[own->lock_count], &end->error);
            own->lock_count += end->code == SESSIONSTORE_OK;
        } else if (strcmp(action, "release") == 0) {
            take_text(step, "lock", key);
            end->code = sessionstore_lock_release_wait(lock_named(own, key), PATIENCE, &end->error);
        } else if (strcmp(action, "peers") == 0) {
            end->code = sessionstore_client_peers(own->client, &end->peers, &end->error);
        } else {
            CHECK(0, "%s: the action %s is unknown", at, action);
        }
    }
}

static void join(actor *own, const char *url, json_t *step, ending *end) {
    sessionstore_client_options options = options_for(url, "room", own->id);
    char role[2048], user_id[2048];
    maybe_text(step, "role", role);
    maybe_text(step, "user_id", user_id);
    options.peer_id = own->id;
    options.role = role;
    options.user_id = user_id;
    options.flags = SESSIONSTORE_CLIENT_FAIL_FAST;
    end->code = sessionstore_client_open(&options, NULL, &own->client, &end->error);
    if (end->code == SESSIONSTORE_OK) {
        end->code = sessionstore_client_join_wait(own->client, PATIENCE, &own->store, &end->error);
    }
}

static int by_text(const void *a, const void *b) { return strcmp(*(const char *const *)a, *(const char *const *)b); }

static void compare_texts(json_t *expected, const char **given, size_t count) {
    size_t index;
    CHECK(json_array_size(expected) == count, "%s: there are %u", at, (unsigned)count);
    for (index = 0; index < count; index++) {
        CHECK(strcmp(json_string_value(json_array_get(expected, index)), given[index]) == 0, "%s: the %uth is %s", at,
              (unsigned)index, given[index]);
    }
    json_decref(expected);
}

static void compare_usage(json_t *expected, const sessionstore_usage *usage) {
    const struct {
        const char *name;
        uint64_t told;
    } members[] = {{"revision", usage->revision},   {"keys", usage->keys},
                   {"max_keys", usage->max_keys},   {"bytes", usage->bytes},
                   {"max_bytes", usage->max_bytes}, {"max_value_bytes", usage->max_value_bytes}};
    size_t index;
    for (index = 0; index < sizeof members / sizeof members[0]; index++) {
        int64_t number = 0;
        if (maybe_integer(expected, members[index].name, &number)) {
            CHECK((uint64_t)number == members[index].told, "%s: %s is %u", at, members[index].name,
                  (unsigned)members[index].told);
        }
    }
    done(expected);
    json_decref(expected);
}

/* Whether an action ended as its step says. */
static void ended(json_t *step, ending *end) {
    char expected[2048];
    size_t index;
    if (maybe_text(step, "error", expected)) {
        int64_t check = -1, write = -1;
        json_t *current = maybe(step, "current");
        CHECK(strcmp(sessionstore_code_name(end->code), expected) == 0, "%s: ended with %s", at,
              sessionstore_code_name(end->code));
        CHECK(sessionstore_error_code(end->error) == end->code, "%s: the error object is of another code", at);
        if (current != NULL) compare_state(current, sessionstore_error_current(end->error));
        json_decref(current);
        maybe_integer(step, "check", &check);
        maybe_integer(step, "write", &write);
        CHECK(sessionstore_error_check(end->error) == check, "%s: check", at);
        CHECK(sessionstore_error_write(end->error) == write, "%s: write", at);
    } else {
        CHECK(end->code == SESSIONSTORE_OK, "%s: refused with %s: %s", at, sessionstore_code_name(end->code),
              sessionstore_error_message(end->error));
        if (end->gives_state) {
            json_t *state = take(step, "state");
            if (json_is_null(state)) {
                CHECK(end->state == NULL, "%s: there is a state", at);
            } else {
                compare_state(state, end->state);
            }
            json_decref(state);
        } else if (end->states != NULL) {
            json_t *states = take(step, "states");
            CHECK(json_array_size(states) == sessionstore_event_list_count(end->states), "%s: the count of states", at);
            for (index = 0; index < json_array_size(states); index++) {
                compare_state(json_array_get(states, index), sessionstore_event_list_get(end->states, index));
            }
            json_decref(states);
        } else if (end->keys != NULL) {
            const char *keys[MOST_KEYS];
            size_t count = sessionstore_key_list_count(end->keys);
            CHECK(count <= MOST_KEYS, "%s: too many keys", at);
            for (index = 0; index < count; index++) keys[index] = sessionstore_key_list_get(end->keys, index, NULL);
            compare_texts(take(step, "keys"), keys, count);
        } else if (end->peers != NULL) {
            const char *peers[MOST_MEMBERS];
            size_t count = sessionstore_peer_list_count(end->peers);
            CHECK(count <= MOST_MEMBERS, "%s: too many peers", at);
            for (index = 0; index < count; index++) {
                peers[index] = sessionstore_peer_id(sessionstore_peer_list_get(end->peers, index), NULL);
            }
            qsort(peers, count, sizeof peers[0], by_text);
            compare_texts(take(step, "peers"), peers, count);
        } else if (end->gives_usage) {
            compare_usage(take(step, "usage"), &end->usage);
        }
    }
    sessionstore_error_free(end->error);
    sessionstore_event_free(end->state);
    sessionstore_event_list_free(end->states);
    sessionstore_key_list_free(end->keys);
    sessionstore_peer_list_free(end->peers);
}

static sessionstore_server *serve_with(json_t *settings) {
    sessionstore_server_options options = SESSIONSTORE_SERVER_OPTIONS_INIT;
    char rules[2048];
    struct {
        const char *name;
        uint32_t *option;
    } limits[] = {{"max_value_bytes", &options.max_value_bytes},
                  {"max_keys", &options.max_keys},
                  {"max_store_bytes", &options.max_store_bytes},
                  {"max_listened_keys", &options.max_listened_keys},
                  {"max_peers", &options.max_peers}};
    size_t index;
    for (index = 0; index < sizeof limits / sizeof limits[0]; index++) {
        int64_t number = 0;
        if (maybe_integer(settings, limits[index].name, &number)) *limits[index].option = (uint32_t)number;
    }
    if (maybe_text(settings, "rules", rules)) options.rules = rules;
    done(settings);
    json_decref(settings);
    return serve(&options);
}

static void actor_end(actor *own) {
    int index, nth;
    if (!own->left && own->store != NULL) {
        /* All that went before was told before this. */
        sessionstore_key_list *keys = NULL;
        OK(sessionstore_store_keys_wait(own->store, "", 0, PATIENCE, &keys, NULL));
        sessionstore_key_list_free(keys);
    }
    harness_lock();
    for (index = 0; index < own->watch_count; index++) {
        watch *watched = &own->watches[index];
        CHECK(watched->told == watched->heard, "%s: %s was told more", at, watched->name);
    }
    harness_unlock();
    for (index = 0; index < own->lock_count; index++) sessionstore_lock_free(own->locks[index]);
    if (!own->left && own->store != NULL) OK(sessionstore_client_leave_wait(own->client, PATIENCE, NULL));
    for (index = 0; index < own->watch_count; index++) {
        watch *watched = &own->watches[index];
        sessionstore_subscription_free(watched->subscription);
        WAIT_FOR(watched->told > 0 && watched->notes[watched->told - 1].is_drop, "%s: a listener that ends is dropped", at);
        for (nth = 0; nth < watched->told; nth++) sessionstore_event_free(watched->notes[nth].event);
    }
    sessionstore_store_free(own->store);
    sessionstore_client_free(own->client);
}

static void play(json_t *scenario) {
    static actor actors[MOST_MEMBERS];
    char name[2048], why[2048];
    int count = 0, index;
    sessionstore_server *server;
    json_t *steps, *step;
    size_t nth;
    memset(actors, 0, sizeof actors);
    take_text(scenario, "name", name);
    snprintf(at, sizeof at, "%s", name);
    take_text(scenario, "why", why);
    server = serve_with(take(scenario, "server"));
    steps = take(scenario, "steps");
    CHECK(json_array_size(steps) > 0, "%s has steps", name);
    json_array_foreach(steps, nth, step) {
        char peer[2048], action[2048];
        actor *own = NULL;
        say_where(name, nth, step);
        take_text(step, "peer", peer);
        for (index = 0; index < count; index++) {
            if (strcmp(actors[index].id, peer) == 0) own = &actors[index];
        }
        if (own == NULL) {
            CHECK(count < MOST_MEMBERS, "%s: too many peers", at);
            own = &actors[count++];
            strcpy(own->id, peer);
        }
        if (maybe_text(step, "hears", action)) {
            json_t *events = take(step, "events"), *event;
            size_t which;
            json_array_foreach(events, which, event) hears(watch_named(own, action), event);
            json_decref(events);
        } else {
            ending end;
            memset(&end, 0, sizeof end);
            take_text(step, "do", action);
            if (strcmp(action, "join") == 0) {
                join(own, sessionstore_server_url(server), step, &end);
            } else {
                act(own, action, step, &end);
            }
            ended(step, &end);
        }
        done(step);
    }
    done(scenario);
    json_decref(steps);
    for (index = 0; index < count; index++) actor_end(&actors[index]);
    serve_no_more(server);
}

static void scenarios(void) {
    json_t *file = load("scenarios"), *scenario;
    size_t index;
    CHECK(json_array_size(file) > 0, "there are scenarios");
    json_array_foreach(file, index, scenario) play(scenario);
    json_decref(file);
}

int main(int argc, char **argv) {
    RUN(errors);
    RUN(values);
    RUN(scenarios);
    return harness_end();
}
