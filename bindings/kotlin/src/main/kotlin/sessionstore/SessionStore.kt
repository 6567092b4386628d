package sessionstore

import sessionstore.internal.C
import sessionstore.internal.staticText

/** The library behind this package. */
public object SessionStore {
    /** The version of libsessionstore that is running, such as `"0.1.0"`. */
    public val version: String
        get() = staticText(C.sessionstore_version())
}
