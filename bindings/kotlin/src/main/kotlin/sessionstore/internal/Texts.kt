package sessionstore.internal

import com.sun.jna.Memory
import com.sun.jna.Pointer
import sessionstore.Author
import sessionstore.Cause
import sessionstore.ErrorCode
import sessionstore.Peer
import sessionstore.SessionStoreException
import sessionstore.State
import kotlin.time.Duration
import kotlin.time.Duration.Companion.milliseconds

/** A text's bytes. Half of a surrogate pair is refused, not replaced. */
internal fun utf8(text: String): ByteArray = try {
    text.encodeToByteArray(throwOnInvalidSequence = true)
} catch (_: CharacterCodingException) {
    throw SessionStoreException.ofCode(ErrorCode.INVALID_UTF8)
}

internal val ByteArray?.length: SizeT
    get() = SizeT(this?.size?.toLong() ?: 0)

/** A text of an options struct, which ends at its first NUL. */
internal fun optionText(text: String?): Memory? {
    if (text == null) return null
    if ('\u0000' in text) throw invalidArgument("A text of the options holds a NUL character.")
    val bytes = utf8(text)
    return Memory(bytes.size + 1L).apply {
        write(0, bytes, 0, bytes.size)
        setByte(bytes.size.toLong(), 0)
    }
}

/** A duration of an options struct, in which 0 stands for the default and `SESSIONSTORE_ZERO` for 0. */
internal fun optionMilliseconds(duration: Duration?): Int = when (duration) {
    null -> 0
    Duration.ZERO -> ZERO
    else -> milliseconds(duration, 0xffff_fffeL).toInt()
}

/** Whole milliseconds, rounded up so that what is not nothing does not become nothing. */
internal fun milliseconds(duration: Duration, most: Long): Long {
    val isOne = !duration.isNegative() && duration.isFinite()
    val whole = duration.inWholeMilliseconds
    val rounded = if (isOne && duration > whole.milliseconds) whole + 1 else whole
    if (!isOne || rounded > most) throw invalidArgument("The duration $duration is outside its range.")
    return rounded
}

/** A number of an options struct, in which 0 stands for the default and `SESSIONSTORE_ZERO` for 0. */
internal fun optionNumber(number: Int?): Int = when {
    number == null -> 0
    number == 0 -> ZERO
    number < 0 -> throw invalidArgument("The option $number is negative.")
    else -> number
}

internal fun invalidArgument(message: String) = SessionStoreException(ErrorCode.INVALID_ARGUMENT, message)

private const val ZERO = -1

/** A text that ends with NUL. */
internal fun staticText(text: Pointer): String = text.getString(0, "UTF-8")

/** Where getters write the length of a text: they call nobody back, so one for each thread will do. */
private val lengths = ThreadLocal.withInitial(::SizeTByReference)

/** A text with its length, which may hold NUL characters. */
internal inline fun text(get: (SizeTByReference) -> Pointer): String {
    val length = lengthOut()
    return get(length).getByteArray(0, length.value.toInt()).decodeToString()
}

internal fun lengthOut(): SizeTByReference = lengths.get()

/** How C shows that nobody made a change. An operator has no peer, but a user id. */
private val NOBODY = Author("", "", "")

/** Copies a borrowed event. */
internal fun stateOf(event: Pointer): State {
    val author = Author(
        peerId = text { C.sessionstore_event_author_peer_id(event, it) },
        userId = text { C.sessionstore_event_author_user_id(event, it) },
        name = text { C.sessionstore_event_author_name(event, it) },
    )
    return State(
        key = text { C.sessionstore_event_key(event, it) },
        json = text { C.sessionstore_event_json(event, it) },
        version = C.sessionstore_event_version(event),
        updatedAt = C.sessionstore_event_updated_at(event),
        cause = Cause.of(C.sessionstore_event_cause(event)),
        expiresAt = C.sessionstore_event_expires_at(event).takeIf { it != 0L },
        author = author.takeUnless { it == NOBODY },
        replaced = C.sessionstore_event_replaced(event),
        isSnapshot = C.sessionstore_event_is_snapshot(event) != 0,
    )
}

/** Copies the events of a borrowed list. */
internal fun statesOf(list: Pointer): List<State> =
    List(C.sessionstore_event_list_count(list).toInt()) { stateOf(C.sessionstore_event_list_get(list, SizeT(it.toLong()))) }

/** Copies a borrowed peer. */
internal fun peerOf(peer: Pointer) = Peer(
    id = text { C.sessionstore_peer_id(peer, it) },
    userId = text { C.sessionstore_peer_user_id(peer, it) },
    name = text { C.sessionstore_peer_name(peer, it) },
    role = text { C.sessionstore_peer_role(peer, it) },
    metadata = text { C.sessionstore_peer_metadata(peer, it) },
    joinedAt = C.sessionstore_peer_joined_at(peer),
)
