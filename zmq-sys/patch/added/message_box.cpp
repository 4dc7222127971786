/* Muster's addition to libzmq 4.3.5. */

#include "message_box.hpp"

namespace
{
const size_t block_size = 64;

//  The key stream begins with the key of Poly1305.
const size_t auth_key_size = crypto_onetimeauth_KEYBYTES;
}

//  The first of the key stream of one message.
class zmq::message_box_t::key_stream_t
{
  public:
    key_stream_t (size_t text_size_, const uint8_t *nonce_, const uint8_t *key_) :
        _nonce (nonce_), _key (key_), _size (size_for (auth_key_size + text_size_))
    {
        crypto_stream_salsa20 (_bytes, _size, _nonce, _key);
    }

    ~key_stream_t () { sodium_memzero (_bytes, _size); }

    const uint8_t *auth_key () const { return _bytes; }

    void apply (uint8_t *text_, size_t size_) const
    {
        const size_t most = _size - auth_key_size;
        const size_t first = size_ < most ? size_ : most;
        for (size_t i = 0; i < first; ++i)
            text_[i] ^= _bytes[auth_key_size + i];
        if (size_ > first)
            crypto_stream_salsa20_xor_ic (text_ + first, text_ + first, size_ - first, _nonce,
                                          _size / block_size, _key);
    }

  private:
    //  libsodium computes eight blocks at once where the processor has AVX2, else four, and what
    //  is less than four one after the other.
    static size_t size_for (size_t wanted_)
    {
        return wanted_ <= block_size       ? block_size
               : wanted_ <= 4 * block_size ? 4 * block_size
                                           : 8 * block_size;
    }

    const uint8_t *const _nonce;
    const uint8_t *const _key;
    const size_t _size;
    uint8_t _bytes[8 * block_size];
};

const uint8_t *zmq::message_box_t::key (const uint8_t *connection_key_)
{
    if (!_has_key) {
        crypto_core_hsalsa20 (_key, _nonce_prefix, connection_key_, NULL);
        _has_key = true;
    }
    return _key;
}

void zmq::message_box_t::seal (uint8_t *mac_,
                               uint8_t *text_,
                               size_t size_,
                               const uint8_t *nonce_,
                               const uint8_t *connection_key_)
{
    const key_stream_t stream (size_, nonce_, key (connection_key_));
    stream.apply (text_, size_);
    crypto_onetimeauth (mac_, text_, size_, stream.auth_key ());
}

bool zmq::message_box_t::open (const uint8_t *mac_,
                               uint8_t *text_,
                               size_t size_,
                               const uint8_t *nonce_,
                               const uint8_t *connection_key_)
{
    const key_stream_t stream (size_, nonce_, key (connection_key_));
    if (crypto_onetimeauth_verify (mac_, text_, size_, stream.auth_key ()) != 0)
        return false;
    stream.apply (text_, size_);
    return true;
}
