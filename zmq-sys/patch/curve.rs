//! A direction of a CURVE connection keeps its key, and nothing is copied to be encrypted.
//!
//! Each released message derives a key again that stays the same, and is put together in zeroed
//! memory that is then copied. What travels is the same byte for byte: `added/message_box.hpp`.

use super::Change;

pub const CHANGES: &[Change] = &[
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
