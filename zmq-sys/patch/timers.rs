//! A timer is cancelled without a look at the timers of all the other connections.
//!
//! Every handshake has one that its end cancels. With 10,000 connections the search for it was
//! a third of what libzmq's thread did.

use super::Change;

pub const CHANGES: &[Change] = &[
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
];
