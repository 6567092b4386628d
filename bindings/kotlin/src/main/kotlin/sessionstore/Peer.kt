package sessionstore

/**
 * A peer as it was when it was told of.
 *
 * @property id its id, unique in the room
 * @property userId the user id from its token; empty if it has none
 * @property name its name; empty if it gave none
 * @property role its role
 * @property metadata its metadata: any text
 * @property joinedAt when it joined: server time in milliseconds since 1970
 */
public class Peer internal constructor(
    public val id: String,
    public val userId: String,
    public val name: String,
    public val role: String,
    public val metadata: String,
    public val joinedAt: Long,
) {
    /** Without the metadata, so that it may stand in a log. */
    override fun toString(): String = "Peer(id=$id, name=$name, role=$role)"
}

/** Another peer joined, changed or left. */
public sealed interface PeerChange {
    /** The peer as it is now, or was. */
    public val peer: Peer

    /** The peer is in the room: it joined, or was there before this client. */
    public class Joined internal constructor(override val peer: Peer) : PeerChange {
        /** What happened, and to whom. */
        override fun toString(): String = "Joined($peer)"
    }

    /** The peer's name or metadata changed. */
    public class Updated internal constructor(override val peer: Peer) : PeerChange {
        /** What happened, and to whom. */
        override fun toString(): String = "Updated($peer)"
    }

    /** The peer left, or its grace period ended. */
    public class Left internal constructor(override val peer: Peer) : PeerChange {
        /** What happened, and to whom. */
        override fun toString(): String = "Left($peer)"
    }
}
