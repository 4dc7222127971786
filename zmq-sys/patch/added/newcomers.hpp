/* Muster's addition to libzmq 4.3.5. */

#ifndef MUSTER_NEWCOMERS_HPP_INCLUDED
#define MUSTER_NEWCOMERS_HPP_INCLUDED

#include <algorithm>
#include <stdint.h>
#include <string>

#include "newcomers.h"

namespace zmq
{
//  Bounds what those who have not shown a key yet take from those who have: connections, and the
//  work on CURVE handshakes. One for the process, since its threads share the machine.
class newcomers_t
{
  public:
    //  Whether a listener may keep the connection with this descriptor; counts if it may not.
    static bool has_room (int descriptor_, bool shows_key_);

    //  How many ms a peer has to wait until its HELLO is answered; -1: longer than it has.
    //  A domain with a space carries the address of a peer that came through the splice.
    static int
    turn_ms (const std::string &address_, const std::string &domain_, int handshake_ms_);
};

//  When turns come: one every so many µs, and some at once after a pause. This is the "virtual
//  scheduling" form of the generic cell rate algorithm (ITU-T I.371): one number is the state.
class turns_t
{
  public:
    turns_t () : _next_us (0) {}

    uint64_t wait_us (uint64_t now_us_, uint64_t burst_us_) const
    {
        const uint64_t from = now_us_ + burst_us_;
        return _next_us > from ? _next_us - from : 0;
    }

    void take (uint64_t now_us_, uint64_t interval_us_)
    {
        _next_us = std::max (_next_us, now_us_) + interval_us_;
    }

  private:
    //  When the turn after the last one taken would be without any burst.
    uint64_t _next_us;
};
}

#endif
