/* Muster's addition to libzmq 4.3.5. */

#ifndef MUSTER_MESSAGE_BOX_HPP_INCLUDED
#define MUSTER_MESSAGE_BOX_HPP_INCLUDED

#include <sodium.h>
#include <stddef.h>
#include <stdint.h>

namespace zmq
{
//  Seals the messages of one direction of a CURVE connection, or opens them: NaCl's crypto_box,
//  byte for byte, put together from libsodium's own parts (Bernstein, "Cryptography in NaCl",
//  section 9 and 10).
//
//  crypto_box derives the key of XSalsa20 from the connection's for each message, although of the
//  nonce only the last 8 bytes change and the key depends on the first 16. It also asks for the
//  key stream in two pieces, of one block each for a short message, when eight blocks side by side
//  take the processor little longer than one. Both take longer than everything else about a short
//  message.
class message_box_t
{
  public:
    enum
    {
        mac_size = crypto_onetimeauth_BYTES,
        nonce_size = crypto_stream_salsa20_NONCEBYTES
    };

    //  The first 16 bytes of all nonces of this direction.
    explicit message_box_t (const char *nonce_prefix_) :
        _nonce_prefix (reinterpret_cast<const uint8_t *> (nonce_prefix_)),
        _has_key (false)
    {
    }

    ~message_box_t () { sodium_memzero (_key, sizeof _key); }

    //  Encrypts text_ where it is and writes the authenticator of mac_size bytes. connection_key_
    //  is what crypto_box_beforenm has made, the same each time.
    void seal (uint8_t *mac_,
               uint8_t *text_,
               size_t size_,
               const uint8_t *nonce_,
               const uint8_t *connection_key_);

    //  Decrypts text_ where it is, if the authenticator is right; otherwise leaves it as it came.
    bool open (const uint8_t *mac_,
               uint8_t *text_,
               size_t size_,
               const uint8_t *nonce_,
               const uint8_t *connection_key_);

  private:
    class key_stream_t;

    const uint8_t *key (const uint8_t *connection_key_);

    const uint8_t *const _nonce_prefix;
    uint8_t _key[crypto_stream_salsa20_KEYBYTES];
    bool _has_key;

    message_box_t (const message_box_t &);
    const message_box_t &operator= (const message_box_t &);
};
}

#endif
