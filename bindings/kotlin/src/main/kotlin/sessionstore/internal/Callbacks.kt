package sessionstore.internal

import com.sun.jna.Callback
import com.sun.jna.CallbackReference
import com.sun.jna.CallbackThreadInitializer
import com.sun.jna.Native
import com.sun.jna.Pointer
import java.util.concurrent.ConcurrentHashMap
import java.util.concurrent.atomic.AtomicInteger

/** What a callback struct's `ctx` stands for. Held, and so not collected, until the library has dropped the struct. */
internal interface Target {
    fun dropped() {}
}

/**
 * A target with a listener of the caller's. When the call that takes it fails, the library drops it before that call
 * returns; the caller is told by the exception, and its listener nothing.
 */
internal abstract class TakenTarget : Target {
    @Volatile
    private var taking: Thread? = null

    inline fun take(call: () -> Unit) {
        begin(Thread.currentThread())
        try {
            call()
        } finally {
            begin(null)
        }
    }

    fun begin(thread: Thread?) {
        taking = thread
    }

    final override fun dropped() {
        if (taking !== Thread.currentThread()) ended()
    }

    /** The last call. */
    abstract fun ended()
}

internal interface WakeTarget : Target {
    fun wake()
}

internal interface ThreadTarget : Target {
    fun start()

    fun stop()
}

internal interface UpdateTarget : Target {
    fun storeAvailable(store: Pointer)

    fun connectionState(state: Int, error: Pointer?)

    fun peer(change: Int, peer: Pointer)

    fun error(error: Pointer)

    fun tokenExpiring(expiresAt: Long)
}

internal interface KeyChangeTarget : Target {
    fun keyChanged(event: Pointer)

    fun snapshotEnd()

    fun refused(error: Pointer)
}

internal interface ResultTarget : Target {
    fun result(error: Pointer?, result: Pointer?)
}

internal interface UpdaterTarget : Target {
    fun update(current: Pointer): Pointer?
}

internal interface LockTarget : Target {
    fun lost(error: Pointer)
}

/** Runs code of the caller's: its exceptions go where those of any thread go, and not into the library. */
internal inline fun withoutException(code: () -> Unit) {
    try {
        code()
    } catch (exception: Throwable) {
        report(exception)
    }
}

internal fun report(exception: Throwable) {
    val thread = Thread.currentThread()
    try {
        thread.uncaughtExceptionHandler.uncaughtException(thread, exception)
    } catch (_: Throwable) {
        // There is nobody left to tell.
    }
}

private interface OnContext : Callback {
    fun invoke(ctx: Pointer)
}

private interface OnObject : Callback {
    fun invoke(ctx: Pointer, thing: Pointer)
}

private interface OnNumber : Callback {
    fun invoke(ctx: Pointer, number: Long)
}

private interface OnNumbered : Callback {
    fun invoke(ctx: Pointer, number: Int, thing: Pointer?)
}

private interface OnResult : Callback {
    fun invoke(ctx: Pointer, error: Pointer?, result: Pointer?)
}

private interface OnUpdate : Callback {
    fun invoke(ctx: Pointer, current: Pointer): Pointer?
}

/**
 * The functions that the library calls: one for each member of its callback structs, made once and never collected.
 * Which target is meant is said by `ctx`: a number, not an address, so that nothing the collector moves or frees is ever
 * in the library's hands.
 */
internal object Callbacks {
    private val targets = ConcurrentHashMap<Long, Target>()
    private val numbers = AtomicInteger()

    /** JNA keeps only weak references to callbacks. */
    private val kept = ArrayList<Callback>()

    /** The library's threads are attached to the JVM at their first callback, as daemons, until they end. */
    private val attached = CallbackThreadInitializer(true, false, "sessionstore-callbacks")

    val onDrop = function(object : OnContext {
        override fun invoke(ctx: Pointer) = withoutException { targets.remove(Pointer.nativeValue(ctx))?.dropped() }
    })
    val onWake = function(object : OnContext {
        override fun invoke(ctx: Pointer) = tell<WakeTarget>(ctx) { it.wake() }
    })
    val onStart = function(object : OnContext {
        override fun invoke(ctx: Pointer) = tell<ThreadTarget>(ctx) { it.start() }
    })
    val onStop = function(object : OnContext {
        override fun invoke(ctx: Pointer) = tell<ThreadTarget>(ctx) { it.stop() }
    })
    val onStoreAvailable = function(object : OnObject {
        override fun invoke(ctx: Pointer, thing: Pointer) = tell<UpdateTarget>(ctx) { it.storeAvailable(thing) }
    })
    val onConnectionState = function(object : OnNumbered {
        override fun invoke(ctx: Pointer, number: Int, thing: Pointer?) =
            tell<UpdateTarget>(ctx) { it.connectionState(number, thing) }
    })
    val onPeer = function(object : OnNumbered {
        override fun invoke(ctx: Pointer, number: Int, thing: Pointer?) =
            tell<UpdateTarget>(ctx) { it.peer(number, thing!!) }
    })
    val onError = function(object : OnObject {
        override fun invoke(ctx: Pointer, thing: Pointer) = tell<UpdateTarget>(ctx) { it.error(thing) }
    })
    val onTokenExpiring = function(object : OnNumber {
        override fun invoke(ctx: Pointer, number: Long) = tell<UpdateTarget>(ctx) { it.tokenExpiring(number) }
    })
    val onKeyChanged = function(object : OnObject {
        override fun invoke(ctx: Pointer, thing: Pointer) = tell<KeyChangeTarget>(ctx) { it.keyChanged(thing) }
    })
    val onSnapshotEnd = function(object : OnContext {
        override fun invoke(ctx: Pointer) = tell<KeyChangeTarget>(ctx) { it.snapshotEnd() }
    })
    val onRefused = function(object : OnObject {
        override fun invoke(ctx: Pointer, thing: Pointer) = tell<KeyChangeTarget>(ctx) { it.refused(thing) }
    })
    val onResult = function(object : OnResult {
        override fun invoke(ctx: Pointer, error: Pointer?, result: Pointer?) =
            tell<ResultTarget>(ctx) { it.result(error, result) }
    })
    val onUpdate = function(object : OnUpdate {
        override fun invoke(ctx: Pointer, current: Pointer): Pointer? {
            var next: Pointer? = null
            tell<UpdaterTarget>(ctx) { next = it.update(current) }
            return next
        }
    })
    val onLost = function(object : OnObject {
        override fun invoke(ctx: Pointer, thing: Pointer) = tell<LockTarget>(ctx) { it.lost(thing) }
    })

    /** How many structs the library has and has not dropped yet. */
    val held: Int
        get() = targets.size

    /** Keeps the target until `on_drop`, and gives the `ctx` that stands for it. */
    fun hold(target: Target): Pointer {
        while (true) {
            // Positive and 32 bits, so that it is the same on machines with shorter addresses.
            val number = (numbers.incrementAndGet() and Int.MAX_VALUE).toLong()
            if (number != 0L && targets.putIfAbsent(number, target) == null) return Pointer(number)
        }
    }

    private fun function(callback: Callback): Pointer {
        kept.add(callback)
        Native.setCallbackThreadInitializer(callback, attached)
        return CallbackReference.getFunctionPointer(callback)
    }

    private inline fun <reified T : Target> tell(ctx: Pointer, what: (T) -> Unit) = withoutException {
        what(targets.getValue(Pointer.nativeValue(ctx)) as T)
    }
}
