/* The header alone, twice, with nothing before it. */
#include "sessionstore.h"
#include "sessionstore.h"

/* Every initializer fits its struct. */
static const sessionstore_client_options client_options = SESSIONSTORE_CLIENT_OPTIONS_INIT;
static const sessionstore_server_options server_options = SESSIONSTORE_SERVER_OPTIONS_INIT;
static const sessionstore_update_listener update_listener = SESSIONSTORE_UPDATE_LISTENER_INIT;
static const sessionstore_key_change_listener key_change_listener = SESSIONSTORE_KEY_CHANGE_LISTENER_INIT;
static const sessionstore_action_result action_result = SESSIONSTORE_ACTION_RESULT_INIT;
static const sessionstore_wake_hook wake_hook = SESSIONSTORE_WAKE_HOOK_INIT;
static const sessionstore_thread_hooks thread_hooks = SESSIONSTORE_THREAD_HOOKS_INIT;
static const sessionstore_write_options write_options = SESSIONSTORE_WRITE_OPTIONS_INIT;
static const sessionstore_updater updater = SESSIONSTORE_UPDATER_INIT;
static const sessionstore_lock_options lock_options = SESSIONSTORE_LOCK_OPTIONS_INIT;
static const sessionstore_lock_listener lock_listener = SESSIONSTORE_LOCK_LISTENER_INIT;
static const sessionstore_lock_result lock_result = SESSIONSTORE_LOCK_RESULT_INIT;
static const sessionstore_event_list_result event_list_result = SESSIONSTORE_EVENT_LIST_RESULT_INIT;
static const sessionstore_selector selector = SESSIONSTORE_SELECTOR_INIT;
static const sessionstore_key_list_result key_list_result = SESSIONSTORE_KEY_LIST_RESULT_INIT;
static const sessionstore_usage usage = SESSIONSTORE_USAGE_INIT;
static const sessionstore_usage_result usage_result = SESSIONSTORE_USAGE_RESULT_INIT;

#define SIZED(object) ((object).struct_size == sizeof(object) && (object).flags == 0)

int main(void) {
    const int sized = SIZED(client_options) && SIZED(server_options) && SIZED(update_listener) &&
                      SIZED(key_change_listener) && SIZED(action_result) && SIZED(wake_hook) && SIZED(thread_hooks) &&
                      SIZED(write_options) && SIZED(updater) && SIZED(lock_options) && SIZED(lock_listener) &&
                      SIZED(lock_result) && SIZED(event_list_result) && SIZED(selector) && SIZED(key_list_result) &&
                      SIZED(usage) && SIZED(usage_result);
    const char *text = SESSIONSTORE_VERSION;
    const size_t length = SESSIONSTORE_NUL_TERMINATED;
    return sized && text[0] != '\0' && length == (size_t)-1 && SESSIONSTORE_OK == 0 ? 0 : 1;
}
