/* In the project's own tree the header is that of the tree, elsewhere the installed one. */
#if __has_include("../../../../include/sessionstore.h")
#include "../../../../include/sessionstore.h"
#else
#include <sessionstore.h>
#endif
