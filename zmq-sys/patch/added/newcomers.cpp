/* Muster's addition to libzmq 4.3.5. */

#include "newcomers.hpp"
#include "clock.hpp"
#include "random.hpp"

#include <atomic>
#include <limits.h>
#include <mutex>

namespace
{
//  A handshake costs some 0.3 ms, and one address alone shall not take a tenth of a core.
const uint64_t address_interval_us = 4000;
//  All of them together shall not take a third.
const uint64_t total_interval_us = 1000;
//  Turns that are there at once: the sockets of a program that starts, or of a machine.
const uint64_t burst = 64;
//  Whoever would have to wait longer has too little time left for the rest of the handshake.
const int patience_ms_max = 2000;
//  Addresses share turns by chance, so the table does not grow with those who come.
const size_t tables = 1024;

std::atomic<int> keyless_max (INT_MAX);
std::atomic<int> keyed_max (INT_MAX);
std::atomic<uint64_t> refused (0);

std::mutex sync;
zmq::turns_t by_address[tables];
zmq::turns_t in_total;

//  FNV-1a of an address without port and brackets; which addresses meet differs in each process.
size_t table_of (const std::string &address_)
{
    static const uint32_t salt = zmq::generate_random ();
    uint64_t hash = 14695981039346656037ULL ^ salt;
    for (size_t i = 0; i < address_.size (); ++i)
        if (address_[i] != '[' && address_[i] != ']')
            hash = (hash ^ static_cast<unsigned char> (address_[i])) * 1099511628211ULL;
    return static_cast<size_t> ((hash >> 32) % tables);
}
}

bool zmq::newcomers_t::has_room (int descriptor_, bool shows_key_)
{
    if (descriptor_ < (shows_key_ ? keyed_max : keyless_max).load ())
        return true;
    ++refused;
    return false;
}

int zmq::newcomers_t::turn_ms (const std::string &address_,
                               const std::string &domain_,
                               int handshake_ms_)
{
    const size_t space = domain_.find (' ');
    const std::string spliced =
      space == std::string::npos ? std::string () : domain_.substr (space + 1);
    const std::string address =
      spliced.empty () ? address_ : spliced.substr (0, spliced.rfind (':'));
    int patience_ms = patience_ms_max;
    if (handshake_ms_ > 0)
        patience_ms = std::min (patience_ms, handshake_ms_ * 2 / 3);

    const std::lock_guard<std::mutex> lock (sync);
    turns_t &theirs = by_address[table_of (address)];
    const uint64_t now_us = clock_t::now_us ();
    const uint64_t wait_us = std::max (
      theirs.wait_us (now_us, burst * address_interval_us),
      in_total.wait_us (now_us, burst * total_interval_us));
    //  The timer must not be early. It counts whole ms from a time that is cut to them and was read
    //  up to half a million ticks ago: two ms at most.
    const uint64_t wait_ms = wait_us == 0 ? 0 : (wait_us + 999) / 1000 + 2;
    if (wait_ms > static_cast<uint64_t> (patience_ms))
        return -1;
    theirs.take (now_us, address_interval_us);
    in_total.take (now_us, total_interval_us);
    return static_cast<int> (wait_ms);
}

void muster_limit_descriptors (int keyless_, int keyed_)
{
    keyless_max.store (keyless_);
    keyed_max.store (keyed_);
}

uint64_t muster_newcomers_refused (void)
{
    return refused.load ();
}
