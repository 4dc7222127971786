//! CURVE handshakes wait for their turn, and cost nothing until a HELLO has been opened.
//!
//! The answer to a HELLO is three operations on curve25519, and a key pair was made before the first
//! byte came: ten thousand strangers who begin handshakes take libzmq's thread from those who are
//! in. `added/newcomers.cpp` says who waits, and for how long.

use super::Change;

pub const CHANGES: &[Change] = &[
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
];
