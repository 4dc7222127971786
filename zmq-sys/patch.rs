//! Muster's changes to the released sources of libzmq 4.3.5.
//!
//! libzmq bounds a frame, but neither a message that never ends nor the id that a peer announces,
//! its local listener ends the process at the limit of open files, and strangers who begin CURVE
//! handshakes take its thread from those who are in. Each change replaces text that must be there
//! exactly once: against another release the build fails here, in words, and does not leave a
//! change out.

use std::fs;
use std::path::Path;

/// Files of ours beside the changed ones.
pub const ADDED: &[(&str, &str)] = &[
    ("newcomers.h", include_str!("patches/newcomers.h")),
    ("newcomers.hpp", include_str!("patches/newcomers.hpp")),
    ("newcomers.cpp", include_str!("patches/newcomers.cpp")),
    ("message_box.hpp", include_str!("patches/message_box.hpp")),
    ("message_box.cpp", include_str!("patches/message_box.cpp")),
    (
        "spare_descriptor.hpp",
        include_str!("patches/spare_descriptor.hpp"),
    ),
];

/// What is compiled in addition.
pub const COMPILED: &[&str] = &["message_box", "newcomers"];

/// What is compiled anew. Every other file sees `session_base.hpp` and `stream_engine_base.hpp` as
/// they were released, which lay out a session and an engine in the same way.
pub const RECOMPILED: &[&str] = &[
    "curve_client",
    "curve_mechanism_base",
    "curve_server",
    "ipc_listener",
    "mechanism",
    "poller_base",
    "raw_engine",
    "session_base",
    "socket_base",
    "stream_engine_base",
    "tcp_listener",
    "ws_engine",
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
        ours: "#include \"tcp_listener.hpp\"\n#include \"newcomers.hpp\"\n\
               #include \"spare_descriptor.hpp\"\n",
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
    // --- A TCP listener hangs up on newcomers when there are as many connections as there may be ---
    Change {
        file: "tcp_listener.cpp",
        released: "    make_socket_noninheritable (sock);

    if (!options.tcp_accept_filters.empty ()) {",
        ours: "    if (!newcomers_t::has_room (sock, options.mechanism != ZMQ_NULL)) {
        ::close (sock);
        errno = EMFILE;
        return retired_fd;
    }
    make_socket_noninheritable (sock);

    if (!options.tcp_accept_filters.empty ()) {",
    },
    // --- CURVE handshakes wait for their turn, and cost nothing until a HELLO has been opened ---
    Change {
        file: "stream_engine_base.hpp",
        released: "    bool _has_heartbeat_timer;

",
        ours: "    bool _has_heartbeat_timer;

    //  Whether the peer's handshake may go on. It lies in the padding before
    //  the string that follows, so files compiled without it agree on where
    //  everything else is.
    enum turn_t : unsigned char
    {
        turn_not_asked,
        turn_has_timer,
        turn_never_comes,
        turn_taken
    };
    turn_t _turn;
    enum
    {
        turn_timer_id = 0x90
    };
",
    },
    Change {
        file: "stream_engine_base.cpp",
        released: "#include \"stream_engine_base.hpp\"\n",
        ours: "#include \"stream_engine_base.hpp\"\n#include \"newcomers.hpp\"\n",
    },
    Change {
        file: "stream_engine_base.cpp",
        released: "    _has_heartbeat_timer (false),
",
        ours: "    _has_heartbeat_timer (false),
    _turn (turn_not_asked),
",
    },
    Change {
        file: "stream_engine_base.cpp",
        released: "    zmq_assert (_mechanism != NULL);
    const int rc = _mechanism->process_handshake_command (msg_);
",
        ours: "    zmq_assert (_mechanism != NULL);

    //  The answer to a HELLO takes as long as hundreds of messages. It has to
    //  wait for its turn, and when none comes in time the handshake timer ends
    //  the connection: a stranger who hears nothing does not come back sooner.
    if (_turn == turn_not_asked && _options.as_server
        && _options.mechanism == ZMQ_CURVE) {
        const int wait_ms = newcomers_t::turn_ms (
          _peer_address, _options.zap_domain, _options.handshake_ivl);
        if (wait_ms > 0)
            add_timer (wait_ms, turn_timer_id);
        _turn = wait_ms > 0    ? turn_has_timer
                : wait_ms == 0 ? turn_taken
                               : turn_never_comes;
    }
    if (_turn == turn_has_timer || _turn == turn_never_comes) {
        errno = EAGAIN;
        return -1;
    }
    const int rc = _mechanism->process_handshake_command (msg_);
",
    },
    Change {
        file: "stream_engine_base.cpp",
        released: "    if (_has_ttl_timer) {
        cancel_timer (heartbeat_ttl_timer_id);
        _has_ttl_timer = false;
    }

    if (_has_timeout_timer) {
        cancel_timer (heartbeat_timeout_timer_id);
        _has_timeout_timer = false;
    }

    if (_has_heartbeat_timer) {",
        ours: "    if (_turn == turn_has_timer) {
        cancel_timer (turn_timer_id);
        _turn = turn_never_comes;
    }

    if (_has_ttl_timer) {
        cancel_timer (heartbeat_ttl_timer_id);
        _has_ttl_timer = false;
    }

    if (_has_timeout_timer) {
        cancel_timer (heartbeat_timeout_timer_id);
        _has_timeout_timer = false;
    }

    if (_has_heartbeat_timer) {",
    },
    Change {
        file: "stream_engine_base.cpp",
        released: "    } else if (id_ == heartbeat_ivl_timer_id) {",
        ours: "    } else if (id_ == turn_timer_id) {
        _turn = turn_taken;
        restart_input ();
    } else if (id_ == heartbeat_ivl_timer_id) {",
    },
    Change {
        file: "curve_server.cpp",
        released: "    int rc;
    //  Fetch our secret key from socket options
    memcpy (_secret_key, options_.curve_secret_key, crypto_box_SECRETKEYBYTES);

    //  Generate short-term key pair
    memset (_cn_secret, 0, crypto_box_SECRETKEYBYTES);
    memset (_cn_public, 0, crypto_box_PUBLICKEYBYTES);
    rc = crypto_box_keypair (_cn_public, _cn_secret);
    zmq_assert (rc == 0);
",
        ours: "    //  Fetch our secret key from socket options
    memcpy (_secret_key, options_.curve_secret_key, crypto_box_SECRETKEYBYTES);

    memset (_cn_secret, 0, crypto_box_SECRETKEYBYTES);
    memset (_cn_public, 0, crypto_box_PUBLICKEYBYTES);
",
    },
    Change {
        file: "curve_server.cpp",
        released: "    state = sending_welcome;
    return rc;
",
        ours: "    //  Generate short-term key pair
    rc = crypto_box_keypair (_cn_public, _cn_secret);
    zmq_assert (rc == 0);

    state = sending_welcome;
    return rc;
",
    },
    // --- The end of a handshake does not look at the timers of all the others ---
    Change {
        file: "poller_base.hpp",
        released: "#include <map>\n",
        ours: "#include <map>\n#include <unordered_map>\n",
    },
    Change {
        file: "poller_base.hpp",
        released: "    timers_t _timers;
",
        ours: "    timers_t _timers;

    //  Where an object's timers are among them. Only the poller's own thread
    //  has to do with timers, so this lies beside it and not in it, and files
    //  compiled without it agree on where everything is.
    typedef std::unordered_multimap<i_poll_events *, timers_t::iterator>
      timer_index_t;
    static timer_index_t &timer_index ();
",
    },
    Change {
        file: "poller_base.cpp",
        released: "void zmq::poller_base_t::add_timer (int timeout_, i_poll_events *sink_, int id_)
",
        ours: "zmq::poller_base_t::timer_index_t &zmq::poller_base_t::timer_index ()
{
    static thread_local timer_index_t index;
    return index;
}

void zmq::poller_base_t::add_timer (int timeout_, i_poll_events *sink_, int id_)
",
    },
    Change {
        file: "poller_base.cpp",
        released: "    _timers.insert (timers_t::value_type (expiration, info));
",
        ours: "    const timers_t::iterator it =
      _timers.insert (timers_t::value_type (expiration, info));
    timer_index ().insert (timer_index_t::value_type (sink_, it));
",
    },
    Change {
        file: "poller_base.cpp",
        released: "    //  Complexity of this operation is O(n). We assume it is rarely used.
    for (timers_t::iterator it = _timers.begin (), end = _timers.end ();
         it != end; ++it)
        if (it->second.sink == sink_ && it->second.id == id_) {
            _timers.erase (it);
            return;
        }
",
        ours: "    //  An object has a few timers; of two with one id the first to come is
    //  cancelled.
    timer_index_t &index = timer_index ();
    timer_index_t::iterator found = index.end ();
    const std::pair<timer_index_t::iterator, timer_index_t::iterator> own =
      index.equal_range (sink_);
    for (timer_index_t::iterator at = own.first; at != own.second; ++at)
        if (at->second->second.id == id_
            && (found == index.end ()
                || at->second->first < found->second->first))
            found = at;
    if (found != index.end ()) {
        _timers.erase (found->second);
        index.erase (found);
        return;
    }
",
    },
    Change {
        file: "poller_base.cpp",
        released: "        timer_temp = it->second;
        _timers.erase (it);
",
        ours: "        timer_temp = it->second;
        timer_index_t &index = timer_index ();
        timer_index_t::iterator at =
          index.equal_range (timer_temp.sink).first;
        while (at->second != it)
            ++at;
        index.erase (at);
        _timers.erase (it);
",
    },
    // --- A monitor that nobody reads any more does not stop the thread that reports to it ---
    Change {
        file: "socket_base.cpp",
        released: "                memcpy (data + sizeof (event), &value, sizeof (value));
                zmq_msg_send (&msg, _monitor_socket, ZMQ_SNDMORE);
",
        ours: "                memcpy (data + sizeof (event), &value, sizeof (value));
                //  Its queue has no limit, so only for want of a reader can
                //  this fail; the released call then waits for one for ever.
                if (zmq_msg_send (&msg, _monitor_socket,
                                  ZMQ_SNDMORE | ZMQ_DONTWAIT)
                    == -1) {
                    zmq_msg_close (&msg);
                    break;
                }
",
    },
    Change {
        file: "socket_base.cpp",
        released: "                memcpy (zmq_msg_data (&msg), endpoint_uri.c_str (),
                        endpoint_uri.size ());
                zmq_msg_send (&msg, _monitor_socket, 0);
",
        ours: "                memcpy (zmq_msg_data (&msg), endpoint_uri.c_str (),
                        endpoint_uri.size ());
                if (zmq_msg_send (&msg, _monitor_socket, ZMQ_DONTWAIT) == -1)
                    zmq_msg_close (&msg);
",
    },
    // --- A direction of a CURVE connection keeps its key, and nothing is copied to be encrypted ---
    Change {
        file: "curve_mechanism_base.hpp",
        released: "#include \"options.hpp\"\n",
        ours: "#include \"message_box.hpp\"\n#include \"options.hpp\"\n",
    },
    Change {
        file: "curve_mechanism_base.hpp",
        released: "    const char *_encode_nonce_prefix;
    const char *_decode_nonce_prefix;
",
        ours: "    message_box_t _encode_box;
    message_box_t _decode_box;
",
    },
    Change {
        file: "curve_mechanism_base.cpp",
        released: "    _encode_nonce_prefix (encode_nonce_prefix_),
    _decode_nonce_prefix (decode_nonce_prefix_),
",
        ours: "    _encode_box (encode_nonce_prefix_),
    _decode_box (decode_nonce_prefix_),
",
    },
    Change {
        file: "curve_mechanism_base.cpp",
        released: "    uint8_t message_nonce[crypto_box_NONCEBYTES];
    memcpy (message_nonce, _encode_nonce_prefix, nonce_prefix_len);
    put_uint64 (message_nonce + nonce_prefix_len, get_and_inc_nonce ());
",
        ours: "",
    },
    Change {
        file: "curve_mechanism_base.cpp",
        released: "#ifdef ZMQ_HAVE_CRYPTO_BOX_EASY_FNS
    const size_t mlen = flags_len + sub_cancel_len + msg_->size ();
    std::vector<uint8_t> message_plaintext (mlen);
#else
    const size_t mlen =
      crypto_box_ZEROBYTES + flags_len + sub_cancel_len + msg_->size ();
    std::vector<uint8_t> message_plaintext_with_zerobytes (mlen);
    uint8_t *const message_plaintext =
      &message_plaintext_with_zerobytes[crypto_box_ZEROBYTES];

    std::fill (message_plaintext_with_zerobytes.begin (),
               message_plaintext_with_zerobytes.begin () + crypto_box_ZEROBYTES,
               0);
#endif
",
        ours: "    const size_t mlen = flags_len + sub_cancel_len + msg_->size ();
    msg_t msg_box;
    const int rc =
      msg_box.init_size (message_header_len + message_box_t::mac_size + mlen);
    zmq_assert (rc == 0);
    uint8_t *const message = static_cast<uint8_t *> (msg_box.data ());
    uint8_t *const message_nonce = message + message_command_len;
    uint8_t *const message_mac = message + message_header_len;
    uint8_t *const message_plaintext = message_mac + message_box_t::mac_size;
",
    },
    Change {
        file: "curve_mechanism_base.cpp",
        released: "#ifdef ZMQ_HAVE_CRYPTO_BOX_EASY_FNS
    msg_t msg_box;
    int rc =
      msg_box.init_size (message_header_len + mlen + crypto_box_MACBYTES);
    zmq_assert (rc == 0);

    rc = crypto_box_easy_afternm (
      static_cast<uint8_t *> (msg_box.data ()) + message_header_len,
      &message_plaintext[0], mlen, message_nonce, _cn_precom);
    zmq_assert (rc == 0);

    msg_->move (msg_box);

    uint8_t *const message = static_cast<uint8_t *> (msg_->data ());
#else
    std::vector<uint8_t> message_box (mlen);

    int rc =
      crypto_box_afternm (&message_box[0], &message_plaintext_with_zerobytes[0],
                          mlen, message_nonce, _cn_precom);
    zmq_assert (rc == 0);

    rc = msg_->close ();
    zmq_assert (rc == 0);

    rc = msg_->init_size (16 + mlen - crypto_box_BOXZEROBYTES);
    zmq_assert (rc == 0);

    uint8_t *const message = static_cast<uint8_t *> (msg_->data ());

    memcpy (message + message_header_len, &message_box[crypto_box_BOXZEROBYTES],
            mlen - crypto_box_BOXZEROBYTES);
#endif

    memcpy (message, message_command, message_command_len);
    memcpy (message + message_command_len, message_nonce + nonce_prefix_len,
            sizeof (nonce_t));
",
        ours: "    memcpy (message, message_command, message_command_len);
    put_uint64 (message_nonce, get_and_inc_nonce ());
    _encode_box.seal (message_mac, message_plaintext, mlen, message_nonce,
                      _cn_precom);
    msg_->move (msg_box);
",
    },
    Change {
        file: "curve_mechanism_base.cpp",
        released: "    uint8_t *const message = static_cast<uint8_t *> (msg_->data ());

    uint8_t message_nonce[crypto_box_NONCEBYTES];
    memcpy (message_nonce, _decode_nonce_prefix, nonce_prefix_len);
    memcpy (message_nonce + nonce_prefix_len, message + message_command_len,
            sizeof (nonce_t));

#ifdef ZMQ_HAVE_CRYPTO_BOX_EASY_FNS
    const size_t clen = msg_->size () - message_header_len;

    uint8_t *const message_plaintext = message + message_header_len;

    rc = crypto_box_open_easy_afternm (message_plaintext,
                                       message + message_header_len, clen,
                                       message_nonce, _cn_precom);
#else
    const size_t clen =
      crypto_box_BOXZEROBYTES + msg_->size () - message_header_len;

    std::vector<uint8_t> message_plaintext_with_zerobytes (clen);
    std::vector<uint8_t> message_box (clen);

    std::fill (message_box.begin (),
               message_box.begin () + crypto_box_BOXZEROBYTES, 0);
    memcpy (&message_box[crypto_box_BOXZEROBYTES], message + message_header_len,
            msg_->size () - message_header_len);

    rc = crypto_box_open_afternm (&message_plaintext_with_zerobytes[0],
                                  &message_box[0], clen, message_nonce,
                                  _cn_precom);

    const uint8_t *const message_plaintext =
      &message_plaintext_with_zerobytes[crypto_box_ZEROBYTES];
#endif

    if (rc == 0) {
        const uint8_t flags = message_plaintext[0];

#ifdef ZMQ_HAVE_CRYPTO_BOX_EASY_FNS
        const size_t plaintext_size = clen - flags_len - crypto_box_MACBYTES;

        if (plaintext_size > 0) {
            memmove (msg_->data (), &message_plaintext[flags_len],
                     plaintext_size);
        }

        msg_->shrink (plaintext_size);
#else
        rc = msg_->close ();
        zmq_assert (rc == 0);

        rc = msg_->init_size (clen - flags_len - crypto_box_ZEROBYTES);
        zmq_assert (rc == 0);

        // this is copying the data to insecure memory, so there is no point in
        // using secure_allocator_t for message_plaintext
        if (msg_->size () > 0) {
            memcpy (msg_->data (), &message_plaintext[flags_len],
                    msg_->size ());
        }
#endif

        msg_->set_flags (flags & flag_mask);
    } else {
",
        ours: "    uint8_t *const message = static_cast<uint8_t *> (msg_->data ());
    const uint8_t *const message_nonce = message + message_command_len;
    const uint8_t *const message_mac = message + message_header_len;
    uint8_t *const message_plaintext =
      message + message_header_len + message_box_t::mac_size;
    const size_t mlen =
      msg_->size () - message_header_len - message_box_t::mac_size;

    if (_decode_box.open (message_mac, message_plaintext, mlen, message_nonce,
                          _cn_precom)) {
        const uint8_t flags = message_plaintext[0];
        const size_t plaintext_size = mlen - flags_len;
        if (plaintext_size > 0)
            memmove (message, &message_plaintext[flags_len], plaintext_size);
        msg_->shrink (plaintext_size);
        msg_->set_flags (flags & flag_mask);
    } else {
        rc = -1;
",
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
