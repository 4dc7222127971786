//! Muster's changes to the released sources of libzmq 4.3.5.
//!
//! libzmq bounds a frame, but neither a message that never ends nor the id that a peer announces,
//! and its local listener ends the process at the limit of open files. Each change replaces text
//! that must be there exactly once: against another release the build fails here, in words, and
//! does not leave a change out.

use std::fs;
use std::path::Path;

/// A file of ours that the changed ones include.
pub const ADDED: &[(&str, &str)] = &[(
    "spare_descriptor.hpp",
    include_str!("patches/spare_descriptor.hpp"),
)];

/// What is compiled anew. Every other file sees only `session_base.hpp` as it was released, which
/// lays out a session in the same way.
pub const RECOMPILED: &[&str] = &[
    "ipc_listener",
    "mechanism",
    "session_base",
    "tcp_listener",
    "zmtp_engine",
];

/// One replacement in one file.
pub struct Change {
    pub file: &'static str,
    pub released: &'static str,
    pub ours: &'static str,
}

pub const CHANGES: &[Change] = &[
    // --- A message is bounded as a whole, also while its end has not come ---
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
    // --- An announced id has ZMTP's 255 bytes at most, and none that ROUTER may draw itself ---
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
    // --- A listener survives the limit of open files, and does not spin at it ---
    Change {
        file: "ipc_listener.cpp",
        released: "#include \"ipc_listener.hpp\"\n",
        ours: "#include \"ipc_listener.hpp\"\n#include \"spare_descriptor.hpp\"\n",
    },
    Change {
        file: "ipc_listener.cpp",
        released: "    zmq_assert (_s != retired_fd);
#if defined ZMQ_HAVE_SOCK_CLOEXEC",
        ours: "    zmq_assert (_s != retired_fd);
    spare_descriptor_t::keep ();
#if defined ZMQ_HAVE_SOCK_CLOEXEC",
    },
    Change {
        file: "ipc_listener.cpp",
        released: "                      || errno == ECONNABORTED || errno == EPROTO
                      || errno == ENFILE);
#endif",
        ours: "                      || errno == ECONNABORTED || errno == EPROTO
                      || errno == ENOBUFS || errno == ENOMEM || errno == EMFILE
                      || errno == ENFILE);
        spare_descriptor_t::refuse_when_out (_s, errno);
#endif",
    },
    Change {
        file: "tcp_listener.cpp",
        released: "#include \"tcp_listener.hpp\"\n",
        ours: "#include \"tcp_listener.hpp\"\n#include \"spare_descriptor.hpp\"\n",
    },
    Change {
        file: "tcp_listener.cpp",
        released: "    zmq_assert (_s != retired_fd);

    struct sockaddr_storage ss;",
        ours: "    zmq_assert (_s != retired_fd);
    spare_descriptor_t::keep ();

    struct sockaddr_storage ss;",
    },
    Change {
        file: "tcp_listener.cpp",
        released: "#else
        errno_assert (errno == EAGAIN || errno == EWOULDBLOCK || errno == EINTR
                      || errno == ECONNABORTED || errno == EPROTO
                      || errno == ENOBUFS || errno == ENOMEM || errno == EMFILE
                      || errno == ENFILE);
#endif",
        ours: "#else
        errno_assert (errno == EAGAIN || errno == EWOULDBLOCK || errno == EINTR
                      || errno == ECONNABORTED || errno == EPROTO
                      || errno == ENOBUFS || errno == ENOMEM || errno == EMFILE
                      || errno == ENFILE);
        spare_descriptor_t::refuse_when_out (_s, errno);
#endif",
    },
];

/// Makes the changes in a folder of released sources.
///
/// # Errors
/// The file that is not as it was released, in words.
pub fn apply(folder: &Path) -> Result<(), String> {
    for change in CHANGES {
        let path = folder.join(change.file);
        let said = |reason: &dyn std::fmt::Display| format!("{}: {reason}", path.display());
        let text = fs::read_to_string(&path).map_err(|error| said(&error))?;
        match text.matches(change.released).count() {
            1 => {
                let text = text.replacen(change.released, change.ours, 1);
                fs::write(&path, text).map_err(|error| said(&error))?;
            }
            count => {
                return Err(said(&format!(
                    "this is not the source that Muster's change was made for ({count} places \
                     where one is expected); look at zmq-sys/patch.rs again for this release:\n{}",
                    change.released
                )));
            }
        }
    }
    for (name, text) in ADDED {
        fs::write(folder.join(name), text).map_err(|error| format!("{name}: {error}"))?;
    }
    Ok(())
}
