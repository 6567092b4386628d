package sessionstore.internal

import com.sun.jna.Pointer
import sessionstore.closed
import java.lang.ref.PhantomReference
import java.lang.ref.ReferenceQueue
import java.util.concurrent.ConcurrentHashMap
import java.util.concurrent.atomic.AtomicInteger
import kotlin.concurrent.thread

/**
 * A handle of the library that is freed once, and never while a call uses it: one that is closed meanwhile is freed
 * when the last call has returned. [free] must be legal anywhere, as all `_free` functions are.
 */
internal class Handle(@PublishedApi internal val pointer: Pointer, private val free: (Pointer) -> Unit) {
    /** How many calls use it, and [CLOSED]. */
    private val state = AtomicInteger()

    /** Calls with the handle, or throws `CLOSED`. */
    inline fun <R> use(call: (Pointer) -> R): R {
        enter()
        try {
            return call(pointer)
        } finally {
            leave()
        }
    }

    /** The same, but null when the handle is closed. */
    inline fun <R> useIfOpen(call: (Pointer) -> R): R? {
        if (!tryEnter()) return null
        try {
            return call(pointer)
        } finally {
            leave()
        }
    }

    fun enter() {
        if (!tryEnter()) throw closed()
    }

    fun tryEnter(): Boolean {
        while (true) {
            val now = state.get()
            if (now and CLOSED != 0) return false
            if (state.compareAndSet(now, now + 1)) return true
        }
    }

    fun leave() {
        if (state.decrementAndGet() == CLOSED) free(pointer)
    }

    fun close() {
        while (true) {
            val now = state.get()
            if (now and CLOSED != 0) return
            if (state.compareAndSet(now, now or CLOSED)) {
                if (now == 0) free(pointer)
                return
            }
        }
    }

    private companion object {
        const val CLOSED = 1 shl 30
    }
}

/** Frees what was forgotten: runs an action, which must not refer to the owner, when nothing refers to the owner. */
internal fun interface Cleaning {
    fun register(owner: Any, action: Runnable)

    companion object : Cleaning {
        private val cleaning: Cleaning = try {
            JavaCleaning()
        } catch (_: LinkageError) {
            PhantomCleaning()
        }

        override fun register(owner: Any, action: Runnable) = cleaning.register(owner, action)
    }
}

/**
 * Waits for something and keeps the owner meanwhile, which is to be closed when it is forgotten, not when somebody waits
 * for it. On its own a coroutine that is suspended refers to nothing but what it goes on with.
 */
internal inline fun <R> keeping(owner: Any, wait: () -> R): R {
    val kept = Kept.add(owner)
    try {
        return wait()
    } finally {
        Kept.remove(kept)
    }
}

/** What is waited for. Optimizers leave out a variable or a field that nobody reads, but not what is in a map. */
internal object Kept {
    private val owners = ConcurrentHashMap<Any, Any>()

    /** Gives what the owner is removed with; it may be kept many times at once. */
    fun add(owner: Any): Any = Any().also { owners[it] = owner }

    fun remove(kept: Any) {
        owners.remove(kept)
    }
}

private class JavaCleaning : Cleaning {
    private val cleaner = java.lang.ref.Cleaner.create()

    override fun register(owner: Any, action: Runnable) {
        cleaner.register(owner, action)
    }
}

/** The same where there is no `java.lang.ref.Cleaner`: on Android before 13. */
internal class PhantomCleaning : Cleaning {
    private class Registration(owner: Any, queue: ReferenceQueue<Any>, val action: Runnable) :
        PhantomReference<Any>(owner, queue)

    private val queue = ReferenceQueue<Any>()
    private val registrations = ConcurrentHashMap.newKeySet<Registration>()

    init {
        thread(isDaemon = true, name = "sessionstore-cleaner") {
            while (true) {
                val registration = queue.remove() as Registration
                registrations.remove(registration)
                withoutException { registration.action.run() }
            }
        }
    }

    override fun register(owner: Any, action: Runnable) {
        registrations.add(Registration(owner, queue, action))
    }
}
