/* Poll mode: nothing is called but inside sessionstore_client_poll, on the thread that calls it. */
#include "harness.h"

static sessionstore_server *server;
static const char *url;

typedef struct polled {
    member peer;
    hook wake;
    int seen;
} polled;

static void polled_open(polled *own, const char *room, const char *name) {
    sessionstore_client_options options = options_for(url, room, name);
    sessionstore_wake_hook wake = waking(&own->wake);
    memset(own, 0, sizeof *own);
    options.wake_hook = &wake;
    member_open(&own->peer, &options);
    /* Works without polling. */
    OK(sessionstore_client_join_wait(own->peer.client, PATIENCE, &own->peer.store, NULL));
}

/* Waits to be woken, then polls; returns how many callbacks ran. */
static size_t polled_turn(polled *own) {
    size_t ran = 0;
    WAIT_FOR(own->wake.wakes > own->seen, "the wake hook is called when there is something to poll for");
    own->seen = PEEK(int, own->wake.wakes);
    OK(sessionstore_client_poll(own->peer.client, 0, &ran, NULL));
    return ran;
}

#define POLL_UNTIL(own, condition) \
    while (!(condition)) polled_turn(own)

/* All callbacks came on this thread, one at a time. */
static void check_on_this_thread(const polled *own) {
    CHECK(own->peer.scope.calls > 0, "there was no callback at all");
    CHECK(own->peer.scope.overlaps == 0, "callbacks overlapped");
    CHECK(own->peer.scope.other_threads == 0, "callbacks came on several threads");
    CHECK(pthread_equal(own->peer.scope.thread, pthread_self()), "a callback came on another thread than polls");
}

/* Frees the client on this thread; everything is over when that returns. */
static void polled_end(polled *own) {
    sessionstore_client_free(own->peer.client);
    CHECK(own->peer.updates.drops == 1, "client_free in poll mode runs on_drop before it returns");
    sessionstore_store_free(own->peer.store);
    updates_over(&own->peer.updates);
    hook_over(&own->wake);
}

static void nothing_is_called_without_poll(void) {
    polled ann;
    member bob;
    listening heard;
    outcome set;
    sessionstore_action_result result = outcome_of(&set);
    sessionstore_subscription *subscription;
    size_t ran = 7;
    memset(&heard, 0, sizeof heard);
    memset(&set, 0, sizeof set);
    member_join(&bob, url, "quiet", "Bob");
    polled_open(&ann, "quiet", "Ann");
    heard.scope = set.scope = &ann.peer.scope;
    subscription = listen_to(ann.peer.store, &heard, "key", NULL);
    put(bob.store, "key", "1");
    OK(sessionstore_store_set_integer(ann.peer.store, "key", TEXT, 2, &result, NULL));
    put(ann.peer.store, "key", "3");
    check_holds(ann.peer.store, "key", "3");
    OK(sessionstore_client_update_peer_wait(ann.peer.client, "Anna", TEXT, NULL, 0, PATIENCE, NULL));
    WAIT_FOR(ann.wake.wakes > 0, "the wake hook is called");
    CHECK(PEEK(int, ann.peer.scope.calls) == 0, "a callback came without a poll");

    POLL_UNTIL(&ann, set.drops == 1 && heard.ends == 1 && ann.peer.updates.stores == 1);
    POLL_UNTIL(&ann, ann.peer.updates.joined == 1);
    CHECK(strcmp(told(&heard, heard.count - 1), "3") == 0, "the newest is told");
    OK(outcome_over(&set));
    OK(sessionstore_client_poll(ann.peer.client, 0, &ran, NULL));
    CHECK(ran == 0, "a poll with nothing to do runs nothing");
    EXPECT(SESSIONSTORE_WRONG_MODE, sessionstore_client_poll(bob.client, 0, &ran, NULL));
    OK(sessionstore_client_poll(ann.peer.client, 0, NULL, NULL));
    sessionstore_subscription_free(subscription);
    polled_end(&ann);
    listening_over(&heard);
    check_on_this_thread(&ann);
    member_leave(&bob);
}

static void a_poll_runs_at_most_what_it_is_asked_to(void) {
    polled ann;
    listening heard;
    int index, rounds = 0;
    sessionstore_subscription *subscription;
    memset(&heard, 0, sizeof heard);
    polled_open(&ann, "few", "Ann");
    heard.scope = &ann.peer.scope;
    subscription = listen_to(ann.peer.store, &heard, "key", NULL);
    for (index = 0; index < 20; index++)
        OK(sessionstore_store_set_integer_wait(ann.peer.store, "key", TEXT, index, PATIENCE, NULL, NULL));
    /* Everything has been queued; what is left is announced anew each time. */
    while (heard.count < 20) {
        size_t ran = 0;
        WAIT_FOR(ann.wake.wakes > ann.seen, "the wake hook is called again when something is left");
        ann.seen = PEEK(int, ann.wake.wakes);
        OK(sessionstore_client_poll(ann.peer.client, 3, &ran, NULL));
        CHECK(ran <= 3, "a poll for 3 callbacks ran %d", (int)ran);
        rounds++;
    }
    CHECK(rounds >= 7, "20 callbacks, 3 at a time, take more than %d polls", rounds);
    sessionstore_subscription_free(subscription);
    polled_end(&ann);
    listening_over(&heard);
    check_on_this_thread(&ann);
}

static void *poll_elsewhere(void *argument) {
    EXPECT(SESSIONSTORE_BUSY, sessionstore_client_poll(((polled *)argument)->peer.client, 0, NULL, NULL));
    return NULL;
}

static void poll_inside(listening *own, const sessionstore_event *event) {
    polled *polling = (polled *)own->more;
    pthread_t other;
    size_t ran = 7;
    if (event == NULL) return;
    EXPECT(SESSIONSTORE_WOULD_DEADLOCK, sessionstore_client_poll(polling->peer.client, 0, &ran, NULL));
    CHECK(ran == 7, "outputs are written on success only");
    EXPECT(SESSIONSTORE_WOULD_DEADLOCK,
           sessionstore_store_set_wait(polling->peer.store, "key", TEXT, "1", TEXT, PATIENCE, NULL, NULL));
    CHECK(pthread_create(&other, NULL, poll_elsewhere, polling) == 0, "a thread can be made");
    pthread_join(other, NULL);
}

static void polls_do_not_nest_or_overlap(void) {
    polled ann;
    listening heard;
    sessionstore_subscription *subscription;
    memset(&heard, 0, sizeof heard);
    polled_open(&ann, "nested", "Ann");
    heard.scope = &ann.peer.scope;
    heard.during = poll_inside;
    heard.more = &ann;
    subscription = listen_to(ann.peer.store, &heard, "key", NULL);
    POLL_UNTIL(&ann, heard.ends == 1);
    CHECK(heard.count == 1, "the snapshot was told");
    sessionstore_subscription_free(subscription);
    polled_end(&ann);
    listening_over(&heard);
    check_on_this_thread(&ann);
}

static void cancel_wait_drops_on_the_calling_thread(void) {
    polled ann;
    listening heard;
    sessionstore_subscription *subscription;
    memset(&heard, 0, sizeof heard);
    polled_open(&ann, "cancel", "Ann");
    heard.scope = &ann.peer.scope;
    subscription = listen_to(ann.peer.store, &heard, "key", NULL);
    OK(sessionstore_subscription_cancel_wait(subscription, PATIENCE, NULL));
    CHECK(heard.drops == 1, "cancel_wait returns after on_drop");
    CHECK(heard.count == 0, "nobody polled, so nothing was told");
    OK(sessionstore_subscription_cancel_wait(subscription, PATIENCE, NULL));
    sessionstore_subscription_free(subscription);
    OK(sessionstore_client_poll(ann.peer.client, 0, NULL, NULL));
    listening_over(&heard);
    polled_end(&ann);
    check_on_this_thread(&ann);
}

static void client_free_runs_the_last_callbacks(void) {
    polled ann;
    listening heard;
    outcome pending[20];
    sessionstore_subscription *subscription;
    int index;
    memset(&heard, 0, sizeof heard);
    memset(pending, 0, sizeof pending);
    polled_open(&ann, "free", "Ann");
    heard.scope = &ann.peer.scope;
    subscription = listen_to(ann.peer.store, &heard, "key", NULL);
    for (index = 0; index < 20; index++) {
        sessionstore_action_result result = outcome_of(&pending[index]);
        pending[index].scope = &ann.peer.scope;
        OK(sessionstore_store_set_integer(ann.peer.store, "key", TEXT, index, &result, NULL));
    }
    sessionstore_client_free(ann.peer.client);
    CHECK(heard.drops == 1 && ann.peer.updates.drops == 1, "client_free in poll mode drops all before it returns");
    for (index = 0; index < 20; index++) {
        CHECK(pending[index].drops == 1, "client_free in poll mode ends action %d before it returns", index);
        outcome_over(&pending[index]);
    }
    sessionstore_subscription_free(subscription);
    sessionstore_store_free(ann.peer.store);
    listening_over(&heard);
    updates_over(&ann.peer.updates);
    hook_over(&ann.wake);
    check_on_this_thread(&ann);
}

/* Freed in a callback: of its own, of another client, and in the on_drop that cancel_wait runs. */

static void free_polled(listening *own, const sessionstore_event *event) {
    polled *polling = (polled *)own->more;
    (void)event;
    sessionstore_client_free(polling->peer.client);
    polling->peer.client = NULL;
}
static void free_polled_in_drop(listening *own) { free_polled(own, NULL); }

static void freed_over(polled *own, listening *heard, sessionstore_subscription *subscription) {
    sessionstore_subscription_free(subscription);
    sessionstore_store_free(own->peer.store);
    listening_over(heard);
    updates_over(&own->peer.updates);
    hook_over(&own->wake);
}

static void a_polled_client_is_freed_in_its_own_callback(void) {
    polled ann;
    listening heard;
    sessionstore_subscription *subscription;
    memset(&heard, 0, sizeof heard);
    polled_open(&ann, "free-own", "Ann");
    heard.scope = &ann.peer.scope;
    heard.during = free_polled;
    heard.more = &ann;
    subscription = listen_to(ann.peer.store, &heard, "key", "other");
    while (ann.peer.updates.drops == 0) polled_turn(&ann);
    CHECK(heard.count == 1 && heard.ends == 0, "nothing is told after the client was freed");
    freed_over(&ann, &heard, subscription);
    check_on_this_thread(&ann);
}

static void a_polled_client_is_freed_by_the_on_drop_that_cancel_wait_runs(void) {
    polled ann;
    listening heard;
    sessionstore_subscription *subscription;
    memset(&heard, 0, sizeof heard);
    polled_open(&ann, "free-drop", "Ann");
    heard.scope = &ann.peer.scope;
    heard.during_drop = free_polled_in_drop;
    heard.more = &ann;
    subscription = listen_to(ann.peer.store, &heard, "key", NULL);
    OK(sessionstore_subscription_cancel_wait(subscription, PATIENCE, NULL));
    CHECK(ann.peer.updates.drops == 1, "the freed client is over when cancel_wait returns");
    freed_over(&ann, &heard, subscription);
    check_on_this_thread(&ann);
}

/* The last that refers to anything of the client: cancel_wait must not look at what its callback freed. */
static sessionstore_subscription *cancelled;

static void free_all_in_drop(listening *own) {
    polled *polling = (polled *)own->more;
    sessionstore_subscription_free(cancelled);
    free_polled(own, NULL);
    sessionstore_store_free(polling->peer.store);
}

static void everything_is_freed_by_the_on_drop_that_cancel_wait_runs(void) {
    polled ann;
    listening heard;
    memset(&heard, 0, sizeof heard);
    polled_open(&ann, "free-all", "Ann");
    heard.scope = &ann.peer.scope;
    heard.during_drop = free_all_in_drop;
    heard.more = &ann;
    cancelled = listen_to(ann.peer.store, &heard, "key", NULL);
    OK(sessionstore_subscription_cancel_wait(cancelled, PATIENCE, NULL));
    CHECK(ann.peer.updates.drops == 1, "the freed client is over when cancel_wait returns");
    listening_over(&heard);
    updates_over(&ann.peer.updates);
    hook_over(&ann.wake);
    check_on_this_thread(&ann);
}

static void a_polled_client_is_freed_in_a_callback_of_another_client(void) {
    polled ann;
    member bob;
    listening heard, trigger;
    sessionstore_subscription *subscription, *other;
    memset(&heard, 0, sizeof heard);
    memset(&trigger, 0, sizeof trigger);
    member_join(&bob, url, "free-other", "Bob");
    polled_open(&ann, "free-other", "Ann");
    heard.scope = &ann.peer.scope;
    subscription = listen_to(ann.peer.store, &heard, "key", NULL);
    trigger.scope = &bob.scope;
    trigger.during = free_polled;
    trigger.more = &ann;
    other = listen_to(bob.store, &trigger, "key", NULL);
    WAIT_FOR(ann.peer.updates.drops == 1, "a client freed in another's callback comes to its end");
    freed_over(&ann, &heard, subscription);
    CHECK(ann.peer.scope.overlaps == 0, "callbacks of one client overlapped");
    sessionstore_subscription_free(other);
    listening_over(&trigger);
    member_leave(&bob);
    scope_check(&bob.scope);
}

/* Two threads: one polls, the other frees. Whoever comes last runs what is left. */

static void *poll_until_closed(void *argument) {
    polled *own = (polled *)argument;
    while (PEEK(int, own->peer.updates.drops) == 0) {
        size_t ran;
        harness_lock();
        /* The handle must not be used once it is freed. */
        if (own->peer.client == NULL) {
            harness_unlock();
            break;
        }
        harness_unlock();
        OK(sessionstore_client_poll(own->peer.client, 1, &ran, NULL));
    }
    return NULL;
}

static void leaving_ends_a_polled_client(void) {
    int round;
    for (round = 0; round < 20; round++) {
        polled ann;
        pthread_t other;
        listening heard;
        sessionstore_subscription *subscription;
        memset(&heard, 0, sizeof heard);
        polled_open(&ann, "leave", "Ann");
        heard.scope = NULL;
        ann.peer.updates.scope = NULL;
        subscription = listen_to(ann.peer.store, &heard, "key", NULL);
        CHECK(pthread_create(&other, NULL, poll_until_closed, &ann) == 0, "a thread can be made");
        OK(sessionstore_client_leave_wait(ann.peer.client, PATIENCE, NULL));
        WAIT_FOR(ann.peer.updates.drops == 1, "a client that left is polled to its end");
        pthread_join(other, NULL);
        sessionstore_client_free(ann.peer.client);
        sessionstore_subscription_free(subscription);
        sessionstore_store_free(ann.peer.store);
        listening_over(&heard);
        hook_over(&ann.wake);
    }
}

/* The client closes by itself (it leaves) while its handle is freed: still, everything is dropped. */
static void freeing_while_leaving_drops_everything(void) {
    int round;
    for (round = 0; round < 200; round++) {
        polled ann;
        outcome left;
        sessionstore_action_result result = outcome_of(&left);
        int index;
        memset(&left, 0, sizeof left);
        polled_open(&ann, "leave-free", "Ann");
        OK(sessionstore_client_leave(ann.peer.client, &result, NULL));
        /* A little later each time, so that the free meets every moment of the leave. */
        for (index = 0; index < round; index++) (void)sessionstore_client_state(ann.peer.client);
        sessionstore_client_free(ann.peer.client);
        CHECK(PEEK(int, ann.peer.updates.drops) == 1, "client_free in poll mode drops all before it returns");
        outcome_over(&left);
        sessionstore_store_free(ann.peer.store);
        updates_over(&ann.peer.updates);
        hook_over(&ann.wake);
    }
}

int main(int argc, char **argv) {
    server = serve(NULL);
    url = sessionstore_server_url(server);
    RUN(nothing_is_called_without_poll);
    RUN(a_poll_runs_at_most_what_it_is_asked_to);
    RUN(polls_do_not_nest_or_overlap);
    RUN(cancel_wait_drops_on_the_calling_thread);
    RUN(client_free_runs_the_last_callbacks);
    RUN(a_polled_client_is_freed_in_its_own_callback);
    RUN(a_polled_client_is_freed_by_the_on_drop_that_cancel_wait_runs);
    RUN(everything_is_freed_by_the_on_drop_that_cancel_wait_runs);
    RUN(a_polled_client_is_freed_in_a_callback_of_another_client);
    RUN(leaving_ends_a_polled_client);
    RUN(freeing_while_leaving_drops_everything);
    serve_no_more(server);
    return harness_end();
}
