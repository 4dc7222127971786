//! What a peer may make the link hold: its unfinished message, and what it says of itself.
//!
//! libzmq bounds a frame (`ZMQ_MAXMSGSIZE`), but not a message whose end never comes, and neither
//! the id nor the properties that a peer announces and every message of its link keeps alive.

use super::Change;

pub const CHANGES: &[Change] = &[
    // A message is bounded as a whole, also while its end has not come.
    Change {
        file: "session_base.hpp",
        released: "    bool _pending;

    //  The protocol I/O engine",
        ours: "    bool _pending;

    //  What the unfinished message of the peer costs so far, in units of 64
    //  bytes. It lies in the padding before the pointer that follows, so
    //  files compiled without it agree on where everything else is.
    unsigned int _unfinished;

    //  The protocol I/O engine",
    },
    Change {
        file: "session_base.cpp",
        released: "    _pending (false),
    _engine (NULL),",
        ours: "    _pending (false),
    _unfinished (0),
    _engine (NULL),",
    },
    Change {
        file: "session_base.cpp",
        released: "        return 0;
    if (_pipe && _pipe->write (msg_)) {
        const int rc = msg_->init ();
        errno_assert (rc == 0);
        return 0;
    }",
        ours: "        return 0;

    //  A message may be as large as a frame may be, and an empty frame costs
    //  something, too. Who exceeds that loses the link, as with a frame.
    static_assert (sizeof (void *) == 8, \"there is padding for _unfinished\");
    const bool more = (msg_->flags () & msg_t::more) != 0;
    const uint64_t unfinished =
      static_cast<uint64_t> (_unfinished) + msg_->size () / 64 + 1;
    if (options.maxmsgsize >= 0
        && unfinished > static_cast<uint64_t> (options.maxmsgsize) / 64 + 1) {
        errno = EMSGSIZE;
        return -1;
    }
    if (_pipe && _pipe->write (msg_)) {
        _unfinished = !more                     ? 0
                      : unfinished > UINT32_MAX ? UINT32_MAX
                                                : static_cast<unsigned int> (unfinished);
        const int rc = msg_->init ();
        errno_assert (rc == 0);
        return 0;
    }",
    },
    Change {
        file: "session_base.cpp",
        released: "    _pipe->rollback ();
    _pipe->flush ();

    //  Remove any half-read message",
        ours: "    _pipe->rollback ();
    _pipe->flush ();
    _unfinished = 0;

    //  Remove any half-read message",
    },
    // An announced id has ZMTP's 255 bytes at most, and none that ROUTER may draw itself.
    Change {
        file: "mechanism.cpp",
        released: "        if (name == ZMTP_PROPERTY_IDENTITY && options.recv_routing_id)
            set_peer_routing_id (value, value_length);
        else if",
        ours: "        if (name == ZMTP_PROPERTY_IDENTITY && options.recv_routing_id) {
            if (value_length > 255 || (value_length > 0 && *value == 0)) {
                errno = EPROTO;
                return -1;
            }
            set_peer_routing_id (value, value_length);
        } else if",
    },
    Change {
        file: "mechanism.cpp",
        released: "    size_t bytes_left = length_;

    while (bytes_left > 1) {",
        ours: "    size_t bytes_left = length_;

    //  Every message of the link keeps these properties alive.
    if (length_ > 65536) {
        errno = EPROTO;
        return -1;
    }

    while (bytes_left > 1) {",
    },
    Change {
        file: "zmtp_engine.cpp",
        released: "    if (_options.recv_routing_id) {
        msg_->set_flags (msg_t::routing_id);",
        ours: "    if (_options.recv_routing_id) {
        //  Peers of ZMTP 1 and 2 announce their id in a message.
        if (msg_->size () > 255
            || (msg_->size () > 0
                && *static_cast<unsigned char *> (msg_->data ()) == 0)) {
            errno = EPROTO;
            return -1;
        }
        msg_->set_flags (msg_t::routing_id);",
    },
];
