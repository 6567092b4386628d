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

#define SIZED(object) ((object).struct_size == sizeof(object) && (object).flags == 0)

int main(void) {
    const int sized = SIZED(client_options) && SIZED(server_options) && SIZED(update_listener) &&
                      SIZED(key_change_listener) && SIZED(action_result) && SIZED(wake_hook) && SIZED(thread_hooks);
    const char *text = SESSIONSTORE_VERSION;
    const size_t length = SESSIONSTORE_NUL_TERMINATED;
    return sized && text[0] != '\0' && length == (size_t)-1 && SESSIONSTORE_OK == 0 ? 0 : 1;
}
